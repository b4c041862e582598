"""The machine a figure was measured on: without it a figure says nothing."""

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

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


def load() -> list[float]:
    """Return the load averages."""
    return [round(value, 2) for value in os.getloadavg()]


def line(host: dict[str, Any]) -> str:
    """Return the host as one line."""
    after = host.get("load_after")
    busy = f"load {host['load_before'][0]}" + (f" before, {after[0]} after" if after else "")
    isolated = host["isolated"] or "none"
    return (
        f"{host['cpu']}, {len(host['cores'])} of {host['cores_of_machine']} cores (isolated: {isolated}), "
        f"governor {host['governor']}, "
        f"{busy}, THP {host['huge_pages'] or '?'}, TSC {'invariant' if host['tsc_invariant'] else 'NOT invariant'}, "
        f"kernel {host['kernel']}, commit {host['commit'] or '?'}{', CHECKED BUILD' if host['checked_build'] else ''}"
    )
