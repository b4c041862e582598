"""Compiling: every kernel a configuration needs, once, into the sealed cache, before anything forks or trades."""

import os
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numba import types
from numba.core import event
from numba.core.registry import cpu_target

from hftd.cli.progress import steps
from hftd.control.config import Config
from hftd.control.host import Placement, place
from hftd.core.cache import NotCached
from hftd.core.idle import idle_dtype
from hftd.core.jit import INTERPRETED
from hftd.core.libc import die_with_parent
from hftd.shm.control import mark_dtype


@dataclass(frozen=True)
class Kernel:
    """One kernel to have compiled: its name for people, the dispatcher's maker, and the signature it is called with."""

    name: str
    make: Callable[[], Any]
    signature: tuple

    @property
    def long(self) -> bool:
        """Whether it is a loop, which takes long to compile: those go first, so that no core waits for the last of them."""
        return self.name.split(" ")[0] in ("feed", "risk", "gateway", "strategy", "fused", "exchange") and "," not in self.name

    @property
    def needs(self) -> tuple[str, ...]:
        """Accesses to shared words that its machine code must hold (core/certify.py)."""
        return needs_of(self.name)


HEARTBEAT = ("store heartbeat", "store cycles")
PRODUCES = ("release seq", "release tail", "acquire head", "fence full")
"""On a ring's producing side: a slot's number and the tail let go in order, consumers' heads looked at, newcomers seen (Dekker)."""

CONSUMES = ("acquire at", "release at")
"""On its other side: the slot's number or the tail is waited for, the head let go in order."""

NEEDS: dict[str, tuple[str, ...]] = {
    "log": PRODUCES,
    "feed": (*HEARTBEAT, *PRODUCES, "release version"),
    "recorder": (*HEARTBEAT, "acquire seq", "release at"),
    "risk": (*HEARTBEAT, *PRODUCES, *CONSUMES, "acquire kill", "acquire session_up", "acquire version"),
    "gateway": (*HEARTBEAT, *PRODUCES, *CONSUMES, "acquire kill", "acquire heartbeat"),
    "strategy": (*HEARTBEAT, *PRODUCES, *CONSUMES, "acquire kill"),
}
"""The accesses to shared words without which a loop cannot do its part; `fused` needs those of its three."""


def needs_of(name: str) -> tuple[str, ...]:
    """Return what a kernel's machine code must hold, by the kernel's name."""
    kind = name.split(" ")[0]
    if kind == "fused":
        return tuple(dict.fromkeys((*NEEDS["strategy"], *NEEDS["risk"], *NEEDS["gateway"])))
    return NEEDS.get("strategy" if name.startswith("strategy ") else name, ())


def record(dtype: np.dtype) -> types.Record:
    """Return the Numba type of a record."""
    return numba.from_dtype(dtype)


def duty_signature(agent_dtype: np.dtype) -> tuple:
    """Return the signature every duty cycle has: handle, mark, idle state, turns."""
    return (record(agent_dtype), record(mark_dtype), record(idle_dtype), types.int64)


def kernels(config: Config, placement: Placement | None = None) -> list[Kernel]:
    """Return the kernels that this configuration's processes will run."""
    from hftd.control.fused import fused_kernel
    from hftd.core.agent import push_log
    from hftd.core.clock import _read, clock_dtype
    from hftd.feed import build as feed_build
    from hftd.feed import loop as feed_loop
    from hftd.feed import setup as feed_setup
    from hftd.feed.state import feed_agent_dtype
    from hftd.gateway import loop as gateway_loop
    from hftd.recorder import loop as recorder_loop
    from hftd.risk import loop as risk_loop
    from hftd.risk.handle import risk_agent_dtype
    from hftd.shm.pauses import note_wait
    from hftd.shm.ring import producer_dtype
    from hftd.strategy import levels
    from hftd.strategy.program import load_all
    from hftd.strategy.records import strategy_agent_dtype
    from hftd.venues.nasdaq.glimpse import collect, spin_dtype

    placement = placement or place(config)
    wanted = [
        Kernel("clock", lambda: _read, ()),
        Kernel("log", lambda: push_log, (record(producer_dtype), types.int64)),
        Kernel("pauses", lambda: note_wait, (types.int64,) * 6),
        Kernel("feed", feed_loop.kernel, duty_signature(feed_agent_dtype)),
        *([Kernel("feed, snapshots", lambda: collect, (record(spin_dtype),))] if config.feed.glimpse else []),
        Kernel("recorder", recorder_loop.kernel, duty_signature(recorder_loop.recorder_agent_dtype)),
    ]
    programs = load_all(config)
    gateway = record(gateway_loop.gateway_agent_dtype)
    feed = record(feed_agent_dtype)
    wanted.append(Kernel("feed, new books", lambda: feed_build.clear_all, (feed,)))
    wanted.append(Kernel("feed, a void book", lambda: feed_setup.clear_event, (feed, types.int64)))
    wanted.append(Kernel("feed, ticks", lambda: feed_setup.ticks_of, (record(clock_dtype), types.int64)))
    if programs:
        wanted.append(Kernel("strategy, cold", lambda: levels.make_room, (record(levels.arena_dtype), types.int64, types.int64)))
    wanted.append(Kernel("gateway, cold", lambda: gateway_loop.serve_request, (gateway, types.int64, types.int64, types.int64)))
    agent = record(strategy_agent_dtype)
    mark, idle = record(mark_dtype), record(idle_dtype)
    if placement.fused:
        signature = (
            agent,
            mark,
            record(risk_agent_dtype),
            mark,
            record(gateway_loop.gateway_agent_dtype),
            mark,
            idle,
            types.int64,
        )
        for program in programs.values():
            wanted.append(Kernel(f"fused {program.name}", lambda program=program: fused_kernel(program), signature))
        return wanted
    wanted.append(Kernel("risk", risk_loop.kernel, duty_signature(risk_agent_dtype)))
    wanted.append(Kernel("gateway", gateway_loop.kernel, duty_signature(gateway_loop.gateway_agent_dtype)))
    for program in programs.values():
        wanted.append(Kernel(f"strategy {program.name}", program.kernel, duty_signature(strategy_agent_dtype)))
    return wanted


def compile_all(wanted: Iterable[Kernel], title: str = "compiling") -> dict[str, float]:
    """Compile what the cache lacks, on every core, then load all of it here, with progress; return the seconds each took.

    The compiling is done by forked workers that share nothing but the cache; what went wrong in one goes wrong again here, where
    it can be said.
    """
    wanted = list(wanted)
    took: dict[str, float] = {}
    missing = []
    for kernel in wanted:
        begun = time.monotonic()
        if not _load(kernel):
            missing.append(kernel)
        took[kernel.name] = time.monotonic() - begun
    with steps(title, len(wanted) + len(missing)) as step:
        if len(missing) > 1 and not INTERPRETED:
            for kernel, seconds in _in_workers(missing, step):
                took[kernel] += seconds
        else:
            for kernel in missing:
                step(kernel.name)
        for kernel in wanted:
            begun = time.monotonic()
            kernel.make().compile(kernel.signature)
            step(f"load {kernel.name}" if kernel in missing else kernel.name)
            took[kernel.name] += time.monotonic() - begun
    return took


def _load(kernel: Kernel) -> bool:
    """Load a kernel from the cache; False where it is not there."""
    made = kernel.make()
    dispatcher = getattr(made, "dispatcher", made)
    if INTERPRETED:
        return True
    dispatcher._cache.must_hit = True
    try:
        dispatcher.compile(tuple(kernel.signature))
    except NotCached:
        return False
    finally:
        dispatcher._cache.must_hit = False
    return True


def _in_workers(missing: list[Kernel], step: Callable[[str], None]) -> Iterable[tuple[str, float]]:
    """Yield (name, seconds) as workers finish; the next waiting kernel goes to the first free worker, loops before the rest."""
    cpu_target.typing_context.refresh()               # here, once: each worker would have to
    cpu_target.target_context.refresh()
    waiting = missing[::-1]
    waiting.sort(key=lambda kernel: kernel.long)
    running: dict[int, tuple[Kernel, float]] = {}
    while waiting or running:
        while waiting and len(running) < max(len(os.sched_getaffinity(0)), 1):
            kernel = waiting.pop()
            step(kernel.name)
            parent = os.getpid()
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    die_with_parent(signal.SIGKILL, parent)
                    kernel.make().compile(kernel.signature)
                    code = 0
                except BaseException:
                    os._exit(code)
                finally:
                    os._exit(code)
            running[pid] = (kernel, time.monotonic())
        for pid in list(running):  # each by its own pid: the caller has children of its own
            if os.waitpid(pid, os.WNOHANG)[0]:
                kernel, begun = running.pop(pid)
                yield kernel.name, time.monotonic() - begun
        time.sleep(0.01)


def watch_for_compiling(mark: np.void) -> None:
    """Count in an agent's mark every kernel that is compiled after this call: a child never compiles."""

    class Counting(event.Listener):
        def on_start(self, found):
            mark["compiled"] += 1

        def on_end(self, found):
            pass

    event.register("numba:compile", Counting())


def exchange_kernel() -> Kernel:
    """Return the simulated exchange's loop: a program of its own, whose code `hftd warm` compiles too."""
    from hftd.sim.loop import cycle
    from hftd.sim.memory import exchange_dtype

    return Kernel("exchange", lambda: cycle, (record(exchange_dtype), types.int64))


def warm(config: Config, exchange: bool = False) -> dict[str, float]:
    """Have every kernel of a configuration compiled, in this process and in the cache; with `exchange`, the simulator's too."""
    return compile_all([*([exchange_kernel()] if exchange else []), *kernels(config)])
