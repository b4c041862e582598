"""The first order after a silence, with the path kept warm and without.

    process F, one core    feed's loop in slices ◀─ a datagram of its own, after the silence
       │ ring.md
    process T, another     strategy, risk and gateway fused, in slices ──▶ send() on a TCP socket

The daemon's agents, loops and hosts' habits: after each slice a little Python runs, which is what makes a quiet path cold. F lets
an order go out, takes the market back, counts the silence from there, and then hands itself the packet that is timed (on two cores
a third process would push one of the two away). Each order carries the stamps of its hops, as in the daemon; what is shown is
packet received to send() called; the packets' own stamps must show the silence. With and without alternate order by order.
"""

import contextlib
import mmap
import os
import signal
import tempfile
import time
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hftd.bench.registry import BenchError, Lab, Samples, Skip, benchmark
from hftd.bench.rig import map_memory, tcp_pair
from hftd.control import config as configuration
from hftd.control.fused import fused_kernel
from hftd.control.host import place
from hftd.control.rehearsal import SYMBOL, Rehearsal, RehearsedFeed
from hftd.control.warm import compile_all, kernels
from hftd.core import clock as clocks
from hftd.core.agent import SPIN_TURNS
from hftd.core.keepwarm import KeepWarm
from hftd.core.layout import layout
from hftd.core.libc import die_with_parent
from hftd.feed.memory import LINE_A
from hftd.gateway.memory import LINK_UP
from hftd.gateway.setup import GatewayAgent
from hftd.msg.enums import Role, RunState
from hftd.msg.records import market_event_dtype
from hftd.risk.setup import RiskAgent
from hftd.shm import pauses
from hftd.strategy.harness import private_memory
from hftd.strategy.setup import StrategyAgent
from hftd.venues.nasdaq.soup_link import plug
from hftd.venues.nasdaq.tape import WHOLE, MarketTape, PaperVenue

SILENCES = ((0.001, "1 ms", 200, 20), (0.1, "100 ms", 40, 4), (10.0, "10 s", 4, 0))
"""Seconds, words, orders of each kind in a full run and in a quick one."""

TICK = ("worse", "better", "worse", "better")
"""The packets of a tick: an order that nobody times, the market taken back, and behind the silence the one that is timed."""

OPENING = 2
"""Packets before the first tick: the market's opening, and its first better bid."""

FEED_TURNS = 2_000
SETTLE_S, OPENED_S, PATIENCE_S = 0.02, 0.5, 30.0

desk_dtype = layout("warm_desk", 64, [
    ("ready", ("i8", (2,))),                      # the feed is set up, and the other process
    ("asked", "i8"),                              # packets asked for
    ("given", "i8"),                              # packets handed over
    ("silence", "i8"),                            # ticks before the last of those asked for
    ("keep", "i8"),                               # 1: keep warm
    ("stop", "i8"),
    ("pad0", "i8"),
])  # fmt: skip


class Stand:
    """Two processes over one memory, and the parent that asks for ticks."""

    def __init__(self, directory: str):
        data = {
            "daemon": {"name": "warm", "run_dir": directory, "state_dir": directory, "layout": "fused"},
            "universe": {"symbols": [SYMBOL], "max": 1},
            "feed": {"request": [], "orders_max": 4096, "levels_max": 4096},
            "strategy": [{"file": str(Path(__file__).with_name("trigger.py")), "params": {"qty": WHOLE}}],
            "risk": {"position_max": 1 << 39, "gross_notional_max": 1e13, "loss_max": 1e13, "feed_stale_ms": 3_600_000,
                     "order_notional_max": 1e9},
            "gateway": {"risk_dead_ms": 60_000},
        }  # fmt: skip
        self.config = configuration.build(data, "bench warm")
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) < 2:
            raise Skip("needs two cores")
        self.cores = cores[:2]
        compile_all(kernels(self.config, replace(place(self.config), layout="fused")), "bench warm")
        self.memory = private_memory(self.config)
        self.control = self.memory["control"]
        clocks.calibrate(self.control["clock"][0])
        self.desk = np.frombuffer(mmap.mmap(-1, mmap.PAGESIZE), desk_dtype, 1)
        self.venue = tcp_pair()
        self.pids = [self._child(self.cores[0], self._feed), self._child(self.cores[1], self._three)]
        self._until(lambda: int(self.desk["ready"][0].sum()) == 2, "its processes")
        self._until(lambda: int(self.control["run"][0]["instruments"]) > 0, "the market's opening")
        time.sleep(OPENED_S)

    # ------------------------------------------------------------ the processes

    def _child(self, core: int, body) -> int:
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                die_with_parent(signal.SIGKILL, parent)
                os.sched_setaffinity(0, {core})
                body()
                code = 0
            except Exception:
                traceback.print_exc()                 # a process that ends before it should says why
            finally:
                os._exit(code)
        return pid

    def _feed(self) -> None:
        desk = self.desk[0]
        rehearsal = Rehearsal(self.config, Role.FEED, clock=self.control["clock"][0])
        rehearsal.play(0.01)
        agent, tape = RehearsedFeed(self.config, self.memory), MarketTape(SYMBOL)
        agent.prepare(True)
        warm = KeepWarm(rehearsal.step, [agent.mark], self.config.daemon.keep_warm_ms)
        kernel, line = agent.kernel(), agent.lines[LINE_A]
        map_memory(self.memory)
        desk["ready"][0] = 1
        while desk["ready"][1] == 0:                  # who trades stands on the ring before the first event
            time.sleep(0.001)
        line.send(tape.opening())
        line.send(tape.better())
        heard, better = agent.build.counters, False
        while not desk["stop"]:
            kernel(agent.handle, agent.mark, agent.waiting, FEED_TURNS)
            now = time.monotonic_ns()
            agent.cold(now)
            if desk["keep"]:
                warm.turn(now)
            left = int(desk["asked"]) - int(desk["given"])
            if int(heard["packets_a"]) < OPENING + int(desk["given"]):
                continue                              # the kernel has not handed over the packet before
            if left > 1 or (left == 1 and clocks.now_ticks() - int(agent.handle["ts_recv"]) > int(desk["silence"])):
                line.send(tape.better() if better else tape.worse())
                better = not better
                desk["given"] += 1

    def _three(self) -> None:
        desk, control = self.desk[0], self.control
        rehearsal = Rehearsal(self.config, Role.GATEWAY, 0, True, control["clock"][0])
        rehearsal.play(0.02)
        agents: list[Any] = [StrategyAgent(self.config, self.memory, 0, rehearsal.program), RiskAgent(self.config, self.memory),
                  GatewayAgent(self.config, self.memory)]  # fmt: skip
        for agent in agents:
            agent.prepare(True)
        strategy, risk, gateway = agents
        here, there = self.venue
        plug(gateway.handle["link"], here.fileno(), clocks.now_ticks())
        gateway.handle["link"]["dead_ticks"] = gateway.handle["link"]["heartbeat_ticks"] = pauses.NEVER
        gateway.session["state"] = LINK_UP
        control["run"][0]["state"], control["run"][0]["session_up"] = int(RunState.READY), 1
        venue, kernel = PaperVenue(), fused_kernel(rehearsal.program)
        warm = KeepWarm(rehearsal.step, [agent.mark for agent in agents], self.config.daemon.keep_warm_ms)
        handles = [part for agent in agents for part in (agent.handle, agent.mark)]
        map_memory(self.memory)
        desk["ready"][1] = 1
        while not desk["stop"]:
            kernel(*handles, gateway.waiting, SPIN_TURNS // 3)
            now = time.monotonic_ns()
            strategy.cold(now)
            risk.cold(now)
            with contextlib.suppress(BlockingIOError):
                there.send(venue.answer(there.recv(65536)))
            if desk["keep"]:
                warm.turn(now)

    # ------------------------------------------------------------ the parent

    def _until(self, done, what: str, patience_s: float = 60.0) -> None:
        deadline = time.monotonic() + patience_s
        while not done():
            if time.monotonic() > deadline:
                raise BenchError(f"warm: waited {patience_s:g} s for {what}")
            for pid in self.pids if hasattr(self, "pids") else ():
                if os.waitpid(pid, os.WNOHANG)[0]:
                    self.pids.remove(pid)
                    raise BenchError("warm: a process ended before it should")
            time.sleep(0.001)

    def tick(self, silence_s: float, keep: bool) -> tuple[int, int, int]:
        """Let a better bid come after a silence; return ticks: of the silence, from packet to published, from packet to send()."""
        desk = self.desk[0]
        desk["silence"], desk["keep"] = int(silence_s * int(self.control["clock"][0]["hz"])), int(keep)
        desk["asked"] += len(TICK)
        time.sleep(silence_s + SETTLE_S)              # asleep until it is over: who looks takes one of the two cores
        self._until(lambda: int(desk["given"]) == int(desk["asked"]), "its packets", PATIENCE_S)
        rows = np.asarray(self.memory["orders"]["orders"]).view(np.ndarray)
        events = np.asarray(self.memory["ring.md"]["slots"]).view(np.ndarray).view(market_event_dtype)

        def mine() -> np.ndarray:
            """The order of the newest packet, once it has its stamps: none of a packet that makes the market worse."""
            return rows[(rows["ts_recv"] == events["ts_recv"].max()) & (rows["ts_sent"] > 0)]

        self._until(lambda: len(mine()) == 1, "its order", PATIENCE_S)
        time.sleep(SETTLE_S)                          # and the venue's answers to it
        row = mine()[0]
        quiet, fed = self._fed(events, int(row["ts_recv"]))
        if quiet < int(desk["silence"]):
            raise BenchError(f"warm: a silence of {silence_s:g} s was one of {quiet} ticks")
        return quiet, fed, int(row["ts_sent"]) - int(row["ts_recv"])

    def _fed(self, events: np.ndarray, ts_recv: int) -> tuple[int, int]:
        """Ticks since the packet before, and until the packet was published."""
        mine, before = events[events["ts_recv"] == ts_recv], events[events["ts_recv"] < ts_recv]
        if not len(mine):
            raise BenchError("warm: an order without its packet")
        return ts_recv - int(before["ts_recv"].max()), int(mine["t_feed"].max())

    def close(self) -> None:
        """End both processes."""
        self.desk["stop"] = 1
        for pid in self.pids:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
        for end in self.venue:
            end.close()


@benchmark("warm", about="first tick to trade after a silence, two processes")
def warm(lab: Lab) -> list[Samples]:
    """Rows in pairs: the path left to itself, and kept warm."""
    made = []
    with tempfile.TemporaryDirectory(prefix="hftd-bench-") as directory:
        stand = Stand(directory)
        try:
            for _ in range(20):
                stand.tick(0.0, False)
            for seconds, words, full, quick in SILENCES:
                found: dict[bool, list[tuple[int, int, int]]] = {False: [], True: []}
                for _ in range(lab.count(full, quick)):
                    for keep in (False, True):
                        found[keep].append(stand.tick(seconds, keep))
                for keep in (False, True):
                    if found[keep]:
                        _, fed, whole = np.array(found[keep], np.int64).T
                        stages = [np.median(part) * lab.ns_per_tick for part in (fed, whole - fed)]
                        note = f"p50 of the feed {stages[0]:.0f}, of the rest {stages[1]:.0f}"
                        name = f"after {words}, {'kept warm' if keep else 'left alone'}"
                        made.append(Samples(whole, name=f"warm: {name}", note=note))
        finally:
            stand.close()
    return made

