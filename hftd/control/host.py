"""What this host is, whether hftd can run on it, and how roles share its cores."""

import ctypes
import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

from hftd.control.config import Config, ConfigError
from hftd.core.clock import tsc_is_invariant
from hftd.errors import HftdError

MCL_CURRENT, MCL_FUTURE = 1, 2
ISOLATED = Path("/sys/devices/system/cpu/isolated")


class HostError(HftdError):
    """This host cannot run hftd, and why."""


def check_host() -> None:
    """Raise HostError where hftd cannot run: not Linux, not x86-64, no invariant time stamp counter, no /dev/shm."""
    if sys.platform != "linux":
        raise HostError(f"hftd runs on Linux; this is {sys.platform}: use a Linux host or virtual machine")
    if platform.machine() not in ("x86_64", "AMD64"):
        raise HostError(f"hftd needs an x86-64 processor; this is {platform.machine()}")
    if not tsc_is_invariant():
        raise HostError("this processor's time stamp counter is not invariant (constant_tsc, nonstop_tsc): stamps would lie")
    if not os.access("/dev/shm", os.W_OK):
        raise HostError("/dev/shm is missing or not writable: mount a tmpfs there")


def isolated_cores() -> set[int]:
    """Return the cores the kernel's scheduler leaves alone (isolcpus)."""
    try:
        text = ISOLATED.read_text().strip()
    except OSError:
        return set()
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        low, _, high = part.partition("-")
        found.update(range(int(low), int(high or low) + 1))
    return found


def lock_memory() -> None:
    """Keep every page of this process in memory, those to come included. Raises HostError where that is not allowed."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mlockall(MCL_CURRENT | MCL_FUTURE):
        reason = os.strerror(ctypes.get_errno())
        raise HostError(f"daemon.lock_memory: {reason}: raise the limit (LimitMEMLOCK=infinity, ulimit -l) or grant CAP_IPC_LOCK")


@dataclass(frozen=True)
class Placement:
    """How roles run: the layout chosen, why, and the core of each agent (None: not pinned)."""

    layout: str
    why: str
    cores: dict[str, int]
    spin: bool
    rest: frozenset[int] = frozenset()
    """Cores for whoever has none of his own (supervisor, recorder): those that no role spins on, or all where none is left."""

    @property
    def fused(self) -> bool:
        """Whether strategy, risk and gateway share a process."""
        return self.layout == "fused"


def place(config: Config) -> Placement:
    """Choose the layout and cores of a configuration. Raises ConfigError where what was asked for cannot be had."""
    wanted = config.daemon.layout
    where = f"{config.path}: daemon.layout"
    strategies = [row for row in config.strategy if row.enabled]
    names = ["feed", *(f"strategy.{row.name or Path(row.file).stem}" for row in strategies), "risk", "gateway"]
    allowed = sorted(os.sched_getaffinity(0))
    for core in config.daemon.cores:
        if core not in allowed:
            raise ConfigError(f"{config.path}: daemon.cores: core {core} is not one of {allowed}, which this process may use")
    isolated = sorted(isolated_cores() & set(allowed))
    cores = config.daemon.cores or (isolated if len(isolated) >= len(names) else allowed)
    if wanted == "auto":
        if len(cores) > len(names) or (isolated and len(cores) >= len(names)):
            wanted, why = "dedicated", f"auto: {len(cores)} cores for {len(names)} hot roles"
        else:
            wanted, why = "shared", f"auto: {len(names)} hot roles and only {len(cores)} cores; roles park when idle"
    else:
        why = f"daemon.layout = {wanted!r}"
    if wanted == "dedicated":
        if len(cores) < len(names):
            spins = f"dedicated spins {len(names)} roles, one core each"
            raise ConfigError(f"{where}: {spins}, and there are {len(cores)} cores; use shared or fused")
        pinned = dict(zip(names, cores))
        return Placement(wanted, why, pinned, True, _rest(allowed, pinned))
    if wanted == "fused":
        if not config.daemon.allow_fused:
            raise ConfigError(f"{where}: fused is refused by daemon.allow_fused = false: risk would not be independent")
        if len(strategies) != 1:
            raise ConfigError(f"{where}: fused takes exactly one strategy, were {len(strategies)}; use shared or dedicated")
        if len(cores) < 2:
            raise ConfigError(f"{where}: fused spins two processes, and there is {len(cores)} core; use shared")
        pinned = {"feed": cores[0], **dict.fromkeys(names[1:], cores[1])}
        return Placement(wanted, f"{why}: risk shares a process with strategy and gateway and is NOT independent", pinned, True,
                         _rest(allowed, pinned))  # fmt: skip
    return Placement("shared", why, {}, False, frozenset(allowed))


def _rest(allowed: list[int], pinned: dict[str, int]) -> frozenset[int]:
    return frozenset(allowed) - set(pinned.values()) or frozenset(allowed)
