"""`hftd check`: what keeps this host from being fast, each thing with the command that mends it. Reads only, needs no root.

    processor, memory, clock, network, machine    what kernel, firmware and card were told: /proc, /sys, ethtool's questions
    counters                                      what went wrong already: switches and faults of the running daemon, drops
    measured                                      what a core really does (noise.py): gaps, timers, core to core

A row is PASS, WARN (costs latency), FAIL (something that was asked for cannot be had, or what hftd relies on is not so) or INFO
(nothing to judge, or not readable here). What is wanted depends on the layout: isolation matters to cores that a role spins on.

Every reader takes its files from `root`, so that a test can show it any machine. Turned down: calling `ethtool`, `tuned`, `lscpu`:
they are not everywhere, and they read the same files.
"""

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from hftd.control.check.clock import ClockState, clock
from hftd.control.check.counters import counters, sample
from hftd.control.check.files import Host
from hftd.control.check.machine import machine
from hftd.control.check.measured import judge_spin, measured
from hftd.control.check.memory import memory
from hftd.control.check.network import network
from hftd.control.check.processor import processor
from hftd.control.check.rows import (
    FAIL,
    INFO,
    NO_SPARE,
    PASS,
    WARN,
    Plan,
    Row,
    cores_of,
    cores_of_mask,
    graded,
    plan_of,
    text_of,
)
from hftd.control.config import Config, ConfigError

__all__ = [
    "FAIL", "INFO", "NO_SPARE", "PASS", "WARN", "ClockState", "Host", "Plan", "Row", "check", "clock", "cores_of", "cores_of_mask",
    "counters", "failed", "graded", "judge_spin", "machine", "measured", "memory", "network", "plan_of", "processor", "sample",
    "text_of",
]  # fmt: skip


def check(
    config: Config,
    seconds: float = 1.0,
    root: Path = Path("/"),
    plan: Plan | None = None,
    measure: bool = True,
    progress: Callable[[str], None] | None = None,
) -> list[Row]:
    """Look at everything and return the rows. seconds: of each core's spin test; plan: instead of the configuration's."""
    host, refused = Host(root), []
    if plan is None:
        try:
            plan = plan_of(config)
        except ConfigError as error:
            refused = [Row("processor", "layout", FAIL, str(error), "a layout this host can have", "daemon.layout, daemon.cores")]
            plan = Plan(config.daemon.layout, "refused", False, {}, tuple(sorted(os.sched_getaffinity(0))))
    before = sample(host)
    found = processor(host, plan)
    rows = [
        *refused,
        *(found[1:] if refused else found),
        *memory(host, plan, config),
        *clock(host),
        *network(host, plan, config),
        *machine(host),
    ]
    made = measured(host, plan, seconds, progress) if measure else []
    if before["roles"] and measure and progress:
        progress("counters")
    while before["roles"] and measure and time.monotonic() - before["at"] < seconds:
        time.sleep(0.02)                          # a rate needs time; the cores of a running daemon are not measured
    ports = {int(line.rpartition(":")[2]) for line in (config.feed.line_a, config.feed.line_b) if line}
    return [*rows, *counters(before, sample(host), ports, plan.spin), *made]


def failed(rows: Iterable[Row]) -> bool:
    """Tell whether anything is wrong that must not be."""
    return any(row.state == FAIL for row in rows)
