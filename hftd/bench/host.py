"""The machine a figure was measured on: without it a figure says nothing."""

import os
import platform
import resource
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np

from hftd.core.clock import tsc_is_invariant
from hftd.core.jit import CHECKED


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _cpu() -> str:
    for line in _read("/proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit() -> str:
    """The checkout's commit, with a + where files differ from it; empty outside a checkout."""
    root = Path(__file__).resolve().parents[2]
    try:
        ask = ["git", "-C", str(root), "describe", "--always", "--dirty=+", "--abbrev=10"]
        return subprocess.run(ask, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def describe() -> dict[str, Any]:
    """Return what tells this machine and its state."""
    return {
        "cpu": _cpu(),
        "cores": sorted(os.sched_getaffinity(0)),
        "cores_of_machine": os.cpu_count(),
        "isolated": _read("/sys/devices/system/cpu/isolated"),
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor") or "none (virtual machine?)",
        "huge_pages": _read("/sys/kernel/mm/transparent_hugepage/enabled").partition("[")[2].partition("]")[0],
        "tsc_invariant": tsc_is_invariant(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "commit": _commit(),
        "checked_build": CHECKED,
        "load_before": load(),
    }


STEAL_MAX, SWITCHES_MAX = 0.01, 20.0
"""Of the cores' time that the hypervisor may take, and involuntary switches a second, before a host is too busy to measure."""


class Watch:
    """What happened to the machine during a run: begin by making one, `look` between benchmarks, `end` for the facts."""

    def __init__(self) -> None:
        self.cores = os.cpu_count() or 1
        self.runnable: list[int] = []
        self.started, self.stat, self.switched, self.throttled = time.monotonic(), _ticks(), _switches(), _throttles()
        self.look()

    def look(self) -> None:
        """Count the processes that want to run, this one included."""
        field = _read("/proc/loadavg").split()
        if len(field) > 3:
            self.runnable.append(int(field[3].partition("/")[0]))

    def end(self) -> dict[str, Any]:
        """Return the facts, `busy` among them: a list of reasons not to believe the figures."""
        self.look()
        seconds = max(time.monotonic() - self.started, 1e-3)
        total, stolen = (now - then for now, then in zip(_ticks(), self.stat))
        steal, switches = stolen / max(total, 1), (_switches() - self.switched) / seconds
        throttled = _throttles() - self.throttled
        runnable = float(np.median(self.runnable)) if self.runnable else 0.0
        busy = []
        if runnable > self.cores:
            busy.append(f"{runnable:g} processes want {self.cores} cores")
        if steal > STEAL_MAX:
            busy.append(f"the hypervisor took {steal:.1%} of the time")
        if switches > SWITCHES_MAX:
            busy.append(f"{switches:.0f} involuntary switches a second")
        if throttled:
            busy.append(f"the processor was throttled {throttled} times")
        return {"runnable": runnable, "runnable_max": max(self.runnable, default=0), "steal": round(steal, 5),
                "involuntary_switches_per_s": round(switches, 1), "throttled": throttled, "busy": busy}  # fmt: skip


def _ticks() -> tuple[int, int]:
    """Time of all cores so far, and what of it was stolen, in the kernel's ticks."""
    first = _read("/proc/stat").partition("\n")[0].split()
    numbers = [int(word) for word in first[1:9]]
    return sum(numbers), numbers[7] if len(numbers) > 7 else 0


def _switches() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw + resource.getrusage(resource.RUSAGE_CHILDREN).ru_nivcsw


def _throttles() -> int:
    files = Path("/sys/devices/system/cpu").glob("cpu[0-9]*/thermal_throttle/*_throttle_count")
    return sum(int(_read(str(file)) or 0) for file in files)


def load() -> list[float]:
    """Return the load averages."""
    return [round(value, 2) for value in os.getloadavg()]


def line(host: dict[str, Any]) -> str:
    """Return the host as one line."""
    after = host.get("load_after")
    busy = f"load {host['load_before'][0]}" + (f" before, {after[0]} after" if after else "")
    isolated = host["isolated"] or "none"
    if "steal" in host:
        busy += f", steal {host['steal']:.2%}, {host['involuntary_switches_per_s']:g} involuntary switches/s, " + (
            f"throttled {host['throttled']} times" if host["throttled"] else "not throttled"
        )
    if "clock_overhead_ns" in host:
        busy += f", clock overhead {host['clock_overhead_ns']:g} ns (subtracted from each sample)"
    return (
        f"{host['cpu']}, {len(host['cores'])} of {host['cores_of_machine']} cores (isolated: {isolated}), "
        f"governor {host['governor']}, "
        f"{busy}, THP {host['huge_pages'] or '?'}, TSC {'invariant' if host['tsc_invariant'] else 'NOT invariant'}, "
        f"kernel {host['kernel']}, commit {host['commit'] or '?'}{', CHECKED BUILD' if host['checked_build'] else ''}"
    )
