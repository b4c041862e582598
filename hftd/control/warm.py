"""Compiling: every kernel a configuration needs, once, into the sealed cache, before anything forks or trades."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numba import types

from hftd.cli.progress import steps
from hftd.control.config import Config
from hftd.control.host import Placement, place
from hftd.core.duty import duty_cycle  # noqa: F401
from hftd.core.idle import idle_dtype
from hftd.shm.control import mark_dtype


@dataclass(frozen=True)
class Kernel:
    """One kernel to have compiled: its name for people, the dispatcher's maker, and the signature it is called with."""

    name: str
    make: Callable[[], Any]
    signature: tuple


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
    from hftd.core.clock import _read
    from hftd.feed import loop as feed_loop
    from hftd.feed.state import feed_agent_dtype
    from hftd.gateway import loop as gateway_loop
    from hftd.recorder import loop as recorder_loop
    from hftd.risk import loop as risk_loop
    from hftd.risk.handle import risk_agent_dtype
    from hftd.shm.ring import producer_dtype
    from hftd.strategy.program import load_all
    from hftd.strategy.records import strategy_agent_dtype

    placement = placement or place(config)
    wanted = [
        Kernel("clock", lambda: _read, ()),
        Kernel("log", lambda: push_log, (record(producer_dtype), types.int64)),
        Kernel("feed", feed_loop.kernel, duty_signature(feed_agent_dtype)),
        Kernel("recorder", recorder_loop.kernel, duty_signature(recorder_loop.recorder_agent_dtype)),
    ]
    programs = load_all(config)
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
    """Compile (or load) each kernel, with progress; return the seconds each took."""
    wanted = list(wanted)
    took = {}
    with steps(title, len(wanted)) as step:
        for kernel in wanted:
            step(kernel.name)
            begun = time.monotonic()
            kernel.make().compile(kernel.signature)
            took[kernel.name] = time.monotonic() - begun
    return took


def warm(config: Config) -> dict[str, float]:
    """Have every kernel of a configuration compiled, in this process and in the cache."""
    return compile_all(kernels(config))
