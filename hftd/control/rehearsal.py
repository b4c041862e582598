"""The rehearsal: before a role is ready, its own compiled loop plays a tape over private memory, up to the last send.

    FEED       packets ─▶ a socket pair ─▶ feed's loop ─▶ private ring
    STRATEGY   events, and answers to what it sends ─▶ the strategy's loop
    RISK, GATEWAY, fused
               orders of a desk ─▶ risk's loop ─▶ gateway's loop ─▶ send() into a socket pair ─▶ a paper venue ─▶ back

The loop is the very machine code that will trade, in the process that will trade; instruction caches, branch predictors and the
system calls' paths are warm afterwards, and each turn was timed against its budget. Every path goes: new, replaced, cancelled,
rejected, filled whole and in part, denied. The memory is private (nothing real can show it); the real pages are mapped besides
(control/placing.py). Nothing can leave: the gateway of a rehearsal has a socket of its own, one end of an AF_UNIX pair whose other
end is read here; the real one does not exist yet, or stays untouched.

`step()` goes on with the tape by one call of the loop, at any time later: that keeps the path warm (`core/agent.py`).
"""

import dataclasses
import mmap
import resource
import socket
import tempfile
import time
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import suppress
from typing import Any

import numpy as np

from hftd.control.config import Config, Strategy, run_dir
from hftd.control.fused import fused_kernel
from hftd.core import clock as clocks
from hftd.core.agent import Agent, push_log
from hftd.core.budgets import STAGES
from hftd.core.idle import SPIN, set_idle
from hftd.core.memory import records
from hftd.core.meter import Meter
from hftd.feed.memory import LINE_A
from hftd.feed.setup import FeedAgent
from hftd.gateway.loop import REQUEST_STAMPING
from hftd.gateway.memory import LINK_UP
from hftd.gateway.setup import GatewayAgent
from hftd.msg.enums import BookState, EventKind, ExecType, IntentKind, Role, RunState, Tif, TradingState
from hftd.msg.records import (
    FLAG_END_OF_PACKET,
    FLAG_SELL,
    INSTRUMENT_ANNOUNCED,
    REPORT_REMOVED,
    intent_dtype,
    market_event_dtype,
    report_dtype,
)
from hftd.risk.setup import RiskAgent
from hftd.shm import control as shared_control
from hftd.shm import map as shared
from hftd.shm import pauses, ring
from hftd.shm.histogram import percentiles
from hftd.shm.segment import Segment, size_of
from hftd.strategy.setup import StrategyAgent
from hftd.venues.nasdaq.moldfeed import SCM_TIMESTAMPNS
from hftd.venues.nasdaq.soup_link import plug
from hftd.venues.nasdaq.tape import PART, PX, REJECT, REST, TICK, WHOLE, MarketTape, PaperVenue

SYMBOL = "TAPE"
DESK = 1
"""The rehearsal's own orders come from a second strategy, so that the user's keeps its rings to itself."""

WARM, ROUNDS_MAX, SECONDS_MAX = 6, 100, 0.025
"""Rounds before anything is measured; rounds at most; and for how long (on a slow host fewer rounds are played)."""

PACE_S = 0.03
"""Between two events of the tape, by their stamps: strategies that wait between two orders get through their waits."""

TIMES_MAX = 1 << 12
"""Times kept; a rehearsal takes fewer."""

STAMPINGS = 256
NEW, REPLACE, CANCEL, CANCEL_ALL = (int(IntentKind[name]) for name in ("NEW", "REPLACE", "CANCEL", "CANCEL_ALL"))


def private_config(config: Config, index: int, directory: str) -> Config:
    """Return the configuration of a rehearsal: the strategy `index` and the desk, one instrument, small tables, wide limits."""
    replace = dataclasses.replace
    row = replace(config.strategy[index] if config.strategy else Strategy(file="none.py"), symbols=[], orders_max=64, enabled=True)
    return replace(
        config,
        daemon=replace(config.daemon, name="rehearsal", run_dir=directory, state_dir=directory, log_dir=directory, tail_us=0),
        universe=replace(config.universe, symbols=[SYMBOL], max=1),
        feed=replace(config.feed, request=[], glimpse="", session="", orders_max=1024, levels_max=1024, queue_packets=64),
        strategy=(row, replace(row, name="desk", params={})),
        risk=replace(config.risk, order_qty_max=100_000, order_notional_max=1e9, position_max=1 << 39, gross_notional_max=1e13,
                     loss_max=1e13, open_orders_max=1 << 20, collar_bps=10_000, message_rate_max=10_000_000,
                     feed_stale_ms=3_600_000, self_cross=False, instrument={}),
        gateway=replace(config.gateway, orders_max=256, risk_dead_ms=60_000),
        rings=replace(config.rings, md=1024, intent=64, order=64, report=256, log=64),
    )  # fmt: skip


class RehearsedFeed(FeedAgent):
    """A feed whose lines are socket pairs."""

    def _line(self, line: int, text: str, key: str, path: str) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        ours.setblocking(False)
        if self.config.feed.stamps == "kernel":
            ours.setsockopt(socket.SOL_SOCKET, SCM_TIMESTAMPNS, 1)
            self.handle["lines"][line]["stamped"] = 1
        self.lines = {**getattr(self, "lines", {}), line: theirs}
        self._keep(line, ours)

    def close(self) -> None:
        """Close both ends."""
        super().close()
        for one in getattr(self, "lines", {}).values():
            one.close()


class Rehearsal:
    """One role (or the three of a fused process) at rehearsal. Use `play`, then `step` as long as it is wanted, then `close`."""

    def __init__(self, config: Config, role: Role, index: int = 0, fused: bool = False, clock=None):
        self.role, self.fused = role, fused
        self._directory = tempfile.TemporaryDirectory(prefix="rehearsal-", dir=run_dir(config))
        self.config = private_config(config, index, self._directory.name)
        wanted = shared.segments(self.config)
        self.memory = shared.Memory(
            "rehearsal", {name: Segment(name, parts, mmap.mmap(-1, size_of(parts))) for name, parts in wanted.items()}
        )
        control = self.memory["control"]
        if clock is None:
            clocks.calibrate(control["clock"][0], 0.005)
        else:
            control["clock"][0] = clocks.snapshot(clock)
        self.ns = 1e9 / int(control["clock"][0]["hz"])
        control["run"][0]["state"] = int(RunState.READY)
        self.agents: dict[Role, Any] = {}
        self.times: deque[int] = deque(maxlen=TIMES_MAX)  # an exercise goes on all day
        self.steps = self.sunk = self.rounds = 0
        self.market_time = clocks.now_ticks()
        self.pace = int(PACE_S * int(control["clock"][0]["hz"]))
        self.venue, self.sequence = PaperVenue(), 0
        try:
            self._open(role)
        except BaseException:
            self.close()
            raise
        self._directory.cleanup()                 # all is open: a child that is killed must not leave it behind
        control["run"][0]["session_up"] = 1       # a gateway that opens takes it down
        self._tape = self._endless()

    # ------------------------------------------------------------ setting the stage

    def _open(self, role: Role) -> None:
        if role == Role.FEED:
            self._join(RehearsedFeed(self.config, self.memory))
            self.market = MarketTape(SYMBOL)
            return
        self._announce()
        if role == Role.STRATEGY or self.fused:
            self._join(StrategyAgent(self.config, self.memory, 0))
            self.events = records(ring.producer_dtype, 1)[0]
            ring.open_producer(self.events, self.memory["ring.md"])
            self._event(EventKind.STATUS, qty=int(TradingState.TRADING))
        if role == Role.STRATEGY:
            self.reports = records(ring.producer_dtype, 1)[0]
            ring.open_producer(self.reports, self.memory["ring.report"])
            self.answered = 0
            return
        self._join(RiskAgent(self.config, self.memory))
        self._join(GatewayAgent(self.config, self.memory))
        self.orders = records(ring.producer_dtype, 1)[0]
        ring.open_producer(self.orders, self.memory[f"ring.intent.{DESK}"])
        gateway, risk = self.agents[Role.GATEWAY], self.agents[Role.RISK]
        self.sink, self.far = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        for end in (self.sink, self.far):
            end.setblocking(False)
        plug(gateway.handle["link"], self.sink.fileno(), clocks.now_ticks())
        link = gateway.handle["link"]
        link["dead_ticks"] = link["heartbeat_ticks"] = gateway.handle["risk_dead_ticks"] = pauses.NEVER
        gateway.session["state"] = LINK_UP
        risk.strategies[DESK]["state"] = risk.strategies[0]["state"]
        risk.arm()

    def _join(self, agent: Agent) -> None:
        agent.prepare(True)
        set_idle(agent.waiting, SPIN)
        at = int(agent.role) + agent.index
        Meter(agent.waiting, self.memory["control"], at, self.memory["control"]["clock"][0], 0)
        self.agents[agent.role] = agent

    def _announce(self) -> None:
        """Play the feed: one instrument, announced and trading, with a book."""
        row, cell = self.memory["market"]["instruments"][0], self.memory["market"]["quotes"][0]
        row["symbol"] = int.from_bytes(SYMBOL.ljust(8).encode(), "little")
        row["tick"], row["lot"], row["scale"], row["locate"], row["flags"] = TICK, 100, 10_000, 1, INSTRUMENT_ANNOUNCED
        cell["bid_px"], cell["ask_px"], cell["last_px"] = PX, PX + TICK, PX
        cell["bid_qty"] = cell["ask_qty"] = 500
        cell["state"], cell["trading"] = int(BookState.LIVE), int(TradingState.TRADING)

    # ------------------------------------------------------------ one step

    def step(self) -> None:
        """Go on with the tape by one call of the loop."""
        next(self._tape)

    def _turn(self, role: Role, turns: int = 2) -> None:
        """Run the loop: one turn that does what waits, one that finds nothing (and shows how long the first took)."""
        self.steps += 1
        if self.fused:
            three = [self.agents[one] for one in (Role.STRATEGY, Role.RISK, Role.GATEWAY)]
            self.kernel(*(part for one in three for part in (one.handle, one.mark)), three[-1].waiting, turns)
            return
        agent = self.agents[role]
        agent.kernel()(agent.handle, agent.mark, agent.waiting, turns)

    @property
    def kernel(self):
        """The loop of the fused process."""
        if not hasattr(self, "_fused"):
            self._fused = fused_kernel(self.program)
        return self._fused

    @property
    def program(self):
        """The strategy's program, for the real agent to run the very same code; None where none is rehearsed."""
        agent = self.agents.get(Role.STRATEGY)
        return agent.program if agent is not None else None

    def _worked(self, role: Role) -> tuple[int, int] | None:
        """Return begin and end of the last turn that found work, in ticks."""
        role = Role.GATEWAY if self.fused else role
        control = self.memory["control"]
        at = int(role) + self.agents[role].index
        meter = control["meters"][at]
        noted = int(meter["shorts"])
        for which in pauses.rows_of(noted, noted - 3, False)[::-1]:
            row = control["pauses"][at * pauses.ROWS + int(which)]
            if int(row["work"]) > 0:
                return int(row["begin"]), int(row["end"])
        return None

    def _time(self, role: Role) -> None:
        worked = self._worked(role)
        if worked and role == self.role:
            self.times.append(worked[1] - worked[0])

    # ------------------------------------------------------------ the tapes

    def _endless(self) -> Iterator[None]:
        """Play round after round; each yield is one call of a loop."""
        rounds = {Role.FEED: self._feed_round, Role.STRATEGY: self._strategy_round}.get(self.role, self._order_round)
        if self.role == Role.FEED:
            yield from self._packets([self.market.opening()])
        while True:
            self.rounds += 1
            yield from rounds()

    def _feed_round(self) -> Iterator[None]:
        yield from self._packets(self.market.round())

    def _packets(self, packets: list[bytes]) -> Iterator[None]:
        lines = self.agents[Role.FEED].lines
        for packet in packets:
            for line in sorted(lines, reverse=len(packets) & 1 == 0):
                lines[line].send(packet)
            self._turn(Role.FEED)
            yield
        if len(packets) > 1:
            lines[LINE_A].send(packets[0][:15])   # not a packet: refused, and nothing moves
            self._turn(Role.FEED)
            yield

    def _event(self, kind: EventKind, px: int = 0, qty: int = 0, sell: bool = False, end: bool = True, ref: int = 0) -> None:
        made = np.zeros(1, market_event_dtype)
        self.market_time += self.pace
        made["ts_recv"], made["px"], made["qty"], made["ref"], made["kind"] = self.market_time, px, qty, ref, int(kind)
        made["ts_event"], made["orders"], made["t_feed"] = 34_200_000_000_000 + self.steps * 1000, 1, 1
        made["flags"] = (FLAG_SELL if sell else 0) | (FLAG_END_OF_PACKET if end else 0)
        push_log(self.events, made.ctypes.data)

    def _strategy_round(self) -> Iterator[None]:
        for number in range(6):
            for sell, px in ((False, PX - TICK * (number & 1)), (True, PX + TICK + TICK * (number & 1))):
                heavy = (number // 2 + sell) & 1  # first one side outweighs the other, then the other way round
                self._event(EventKind.LEVEL, px, 900 if heavy else 100, sell, ref=self.steps)
                yield from self._decide()
        self._event(EventKind.TRADE, PX, 100, ref=self.steps)
        yield from self._decide()
        for sell, px in ((False, PX), (False, PX - TICK), (True, PX + TICK), (True, PX + 2 * TICK)):
            self._event(EventKind.LEVEL, px, 0, sell, end=sell)
        yield from self._decide(timed=False)

    def _decide(self, timed: bool = True) -> Iterator[None]:
        """Let the strategy act on what came, and answer what it sent: in turn accepted and filled, rejected, denied."""
        self._turn(Role.STRATEGY)
        if timed:
            self._time(Role.STRATEGY)
        yield
        segment = self.memory["ring.intent.0"]
        slots = np.asarray(segment["slots"]).view(np.ndarray).view(intent_dtype)
        tail = int(segment["control"][0]["tail"])
        for at in range(self.answered, tail):
            self._answer(slots[at % len(slots)], at)
        self.answered = tail
        self._turn(Role.STRATEGY)
        yield

    def _answer(self, intent, number: int) -> None:
        if int(intent["kind"]) in (CANCEL, CANCEL_ALL):
            self._report(ExecType.CANCELED, intent, qty=int(intent["qty"]))
        elif int(intent["kind"]) == REPLACE or number % 5 == 4:
            self._report(ExecType.REPLACE_REJECTED if int(intent["kind"]) == REPLACE else ExecType.REJECTED, intent)
        elif number % 5 == 3:
            self._report(ExecType.DENIED, intent)
        else:
            qty, part = int(intent["qty"]), max(int(intent["qty"]) // 2, 1)
            self._report(ExecType.NEW, intent, leaves=qty, venue=number + 1)
            self._report(ExecType.FILL, intent, qty=part, leaves=qty - part, venue=2 * number + 1)
            if qty > part:
                self._report(ExecType.CANCELED if number % 5 else ExecType.FILL, intent, qty=qty - part, venue=2 * number + 2)

    def _report(self, kind: ExecType, intent, qty: int = 0, leaves: int = 0, venue: int = 0) -> None:
        made = np.zeros(1, report_dtype)
        made["ts_recv"], made["cl_ord_id"], made["px"] = clocks.now_ticks(), intent["cl_ord_id"], intent["px"]
        made["qty"], made["leaves_qty"], made["venue_id"] = qty or intent["qty"], leaves, venue
        made["orig_seq"] = intent["orig_seq"]
        made["exec_type"], made["flags"] = int(kind), int(intent["side"]) | REPORT_REMOVED
        push_log(self.reports, made.ctypes.data)

    def _order_round(self) -> Iterator[None]:
        """New and filled in part, replaced, cancelled; filled whole; rejected; denied; left to rest and swept."""
        side = self.steps & 1
        first = yield from self._order(NEW, PART, side)
        second = yield from self._order(REPLACE, PART, side, orig=first)
        yield from self._order(CANCEL, 0, side, cl_ord_id=second)
        yield from self._order(NEW, WHOLE, side)
        yield from self._order(NEW, WHOLE, 1 - side)
        yield from self._order(NEW, REJECT, side)
        yield from self._order(NEW, 1_000_000, side)
        yield from self._order(NEW, REST, side, tif=int(Tif.IOC))
        yield from self._order(CANCEL_ALL, 0, side)
        if self.fused:
            for sell, px in ((False, PX), (True, PX + TICK)):
                self._event(EventKind.LEVEL, px, 100 + 400 * ((self.steps + sell) & 1), sell, ref=self.steps)
                self._turn(Role.GATEWAY)
                yield
            yield from self._venue()

    def _order(self, kind: int, qty: int, side: int, orig: int = 0, cl_ord_id: int = 0, tif: int = 0) -> Generator[None, None, int]:
        if not cl_ord_id:
            self.sequence += 1
            cl_ord_id = (DESK << 56) | (1 << 32) | self.sequence  # as msg/ids.py; a leaf called from here would be compiled
        made = np.zeros(1, intent_dtype)
        made["cl_ord_id"], made["px"], made["qty"], made["kind"] = cl_ord_id, PX + side * TICK, qty, kind
        made["side"], made["tif"], made["strategy"], made["orig_seq"] = side, tif, DESK, orig & 0xFFFFFFFF
        self.agents[Role.RISK].handle["feed_seen"] = made["ts_recv"] = clocks.now_ticks()
        made["t_feed"] = made["t_strategy"] = 1
        push_log(self.orders, made.ctypes.data)
        self._turn(Role.RISK)
        if kind == NEW and qty < 1_000_000 and self.role == Role.RISK:
            self._time(Role.RISK)
        yield
        if not self.fused:
            self._turn(Role.GATEWAY)
        if kind == NEW and qty < 1_000_000 and self.role == Role.GATEWAY:
            self._time_sending()
        yield
        yield from self._venue()
        return cl_ord_id

    def _time_sending(self) -> None:
        """From the beginning of the turn that found the order to the call of send(): the call itself is the kernel's."""
        worked = self._worked(Role.GATEWAY)
        gateway = self.agents[Role.GATEWAY]
        sent = int(np.asarray(gateway.segment["orders"]["ts_sent"]).max())
        if worked and worked[0] < sent <= worked[1]:
            self.times.append(sent - worked[0])

    def _venue(self) -> Iterator[None]:
        data = b""
        with suppress(BlockingIOError):
            data = self.far.recv(65536)
        self.sunk += len(data)
        said = self.venue.answer(data)
        if said:
            self.far.send(said)
        self.agents[Role.GATEWAY].handle["link"]["polled_at"] = 0
        self._turn(Role.GATEWAY)
        yield
        if not self.fused:
            self._turn(Role.RISK)
            yield

    # ------------------------------------------------------------ the whole

    def play(self, seconds: float = SECONDS_MAX) -> dict[str, int]:
        """Play the tape until everything is warm, then go on and measure. Returns the fields of a rehearsal_dtype record."""
        begun = time.perf_counter()
        rounds, first, faults = 0, 0, 0
        while rounds < ROUNDS_MAX and (rounds < 2 * WARM or time.perf_counter() - begun < seconds):
            self._stamps(1 <= rounds < WARM)
            self._round()
            rounds += 1
            if rounds == WARM:
                first = self._first()
                self._forget()
                faults = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
        faults = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - faults
        self._stamps(True)
        made = {"rounds": rounds, "steps": self.steps, "first_ns": round(first * self.ns), "faults": faults,
                "sunk_bytes": self.sunk, **self._measured()}  # fmt: skip
        if Role.GATEWAY in self.agents:
            gateway = self.agents[Role.GATEWAY]
            made["orders"] = int(gateway.counters["enters_sent"]) + int(gateway.counters["replaces_sent"])
            if made["orders"]:
                made["stamping_ns"] = round(gateway._ask(REQUEST_STAMPING, STAMPINGS) * self.ns / STAMPINGS)
        return made

    def _round(self) -> None:
        """Play on until the next round has begun."""
        before = self.rounds
        while self.rounds == before:
            self.step()

    def _stamps(self, on: bool) -> None:
        """Feed: let the kernel's stamps count, where they are configured. What is timed begins with the call's return: between the
        stamp and the call lies only that we are slow to send."""
        if self.role == Role.FEED:
            for line in self.agents[Role.FEED].lines:
                self.agents[Role.FEED].handle["lines"][line]["stamped"] = int(on and self.config.feed.stamps == "kernel")

    def _packet_times(self):
        return self.memory["market"]["histograms"][0]

    def _first(self) -> int:
        if self.role == Role.FEED:
            return int(self._packet_times()["largest"])
        return self.times[0] if self.times else 0

    def _forget(self) -> None:
        self.times.clear()
        if self.role == Role.FEED:
            histogram = np.asarray(self.memory["market"]["histograms"]).view(np.ndarray)
            histogram[0] = np.zeros(1, histogram.dtype)[0]

    def _measured(self) -> dict[str, int]:
        if self.role == Role.FEED:
            histogram = self._packet_times()
            p50, p99 = percentiles(histogram, (50.0, 99.0))
            count, most = int(histogram["count"]), int(histogram["largest"])
        else:
            times = np.array(self.times or [0])
            p50, p99 = (int(value) for value in np.percentile(times, [50, 99], method="lower"))
            count, most = len(self.times), int(times.max())
        budget = budget_of(self.role, self.fused)
        return {"measured": count, "p50_ns": round(p50 * self.ns), "p99_ns": round(p99 * self.ns), "max_ns": round(most * self.ns),
                "budget_ns": round(budget)}  # fmt: skip

    def close(self) -> None:
        """Give everything back."""
        for agent in self.agents.values():
            agent.close()
        for name in ("sink", "far"):
            if hasattr(self, name):
                getattr(self, name).close()
        self._directory.cleanup()


def budget_of(role: Role, fused: bool) -> float:
    """Return what the median may be, in ns. In a fused process an order passes risk and gateway in one turn."""
    if fused:
        return STAGES["risk"].p50 + STAGES["gateway"].p50
    return STAGES[{Role.FEED: "feed", Role.STRATEGY: "strategy", Role.RISK: "risk"}.get(role, "gateway")].p50


def judge(row, found: dict[str, int], ready_budget: str, took_ns: int) -> int:
    """Write a rehearsal's result into its rehearsal_dtype row; return the verdict."""
    for name, value in found.items():
        row[name] = value
    row["took_ns"] = took_ns
    if ready_budget == "off" or not found["measured"]:
        verdict = shared_control.REHEARSED_UNJUDGED
    else:
        met = found["p50_ns"] <= found["budget_ns"]
        verdict = shared_control.REHEARSED_MET if met else shared_control.REHEARSED_MISSED
    row["verdict"] = verdict
    return verdict
