"""What this host is, whether hftd can run on it, and how roles share its cores."""

import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

from hftd.control.config import Config, ConfigError, role_placement
from hftd.control.placing import POLICY_KEY, words
from hftd.core import placement
from hftd.core.clock import tsc_is_invariant
from hftd.core.placement import Item
from hftd.errors import HftdError

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
    def spare(self) -> bool:
        """Whether a core is left that no role spins on."""
        return not self.spin or bool(self.rest - {core for name, core in self.cores.items() if name != "recorder"})

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
    own = _own_cores(config, [*names, "recorder"], allowed)
    hot = [name for name in names if name not in own]
    taken = {core for name, core in own.items() if name in names}
    isolated = sorted(isolated_cores() & set(allowed) - taken)
    cores = [core for core in config.daemon.cores or (isolated if len(isolated) >= len(hot) else allowed) if core not in taken]
    if wanted == "auto":
        have = len(cores) + len(taken)
        if len(cores) > len(hot) or (isolated and len(cores) >= len(hot)):
            wanted, why = "dedicated", f"auto: {have} cores for {len(names)} hot roles"
        else:
            wanted, why = "shared", f"auto: {len(names)} hot roles and only {have} cores; roles park when idle"
    else:
        why = f"daemon.layout = {wanted!r}"
    if wanted == "dedicated":
        if len(cores) < len(hot):
            spins = f"dedicated spins {len(names)} roles, one core each"
            raise ConfigError(f"{where}: {spins}, and there are {len(cores) + len(taken)} cores; use shared or fused")
        given = {**dict(zip(hot, cores)), **own}
        pinned = {name: given[name] for name in [*names, "recorder"] if name in given}
        if len({pinned[name] for name in names}) < len(names):
            raise ConfigError(f"{config.path}: placement.role: two roles that spin share a core ({pinned}); give each its own")
        return _checked(config, Placement(wanted, why, pinned, True, _rest(allowed, pinned, names)), names)
    if wanted == "fused":
        if not config.daemon.allow_fused:
            raise ConfigError(f"{where}: fused is refused by daemon.allow_fused = false: risk would not be independent")
        if len(strategies) != 1:
            raise ConfigError(f"{where}: fused takes exactly one strategy, were {len(strategies)}; use shared or dedicated")
        first, second = own.get("feed"), own.get("gateway")
        pool = [core for core in cores if core not in (first, second)]
        if len(pool) + (first is not None) + (second is not None) < 2 or first == second is not None:
            raise ConfigError(f"{where}: fused spins two processes, and there is {len(cores)} core; use shared")
        first = pool.pop(0) if first is None else first
        second = pool.pop(0) if second is None else second
        pinned = {"feed": first, **dict.fromkeys(names[1:], second), **({"recorder": own["recorder"]} if "recorder" in own else {})}
        return _checked(config, Placement(wanted, f"{why}: risk shares a process with strategy and gateway and is NOT independent",
                                          pinned, True, _rest(allowed, pinned, names)), names)  # fmt: skip
    return Placement("shared", why, own, False, frozenset(allowed))


def _own_cores(config: Config, names: list[str], allowed: list[int]) -> dict[str, int]:
    """The cores that roles ask for by name."""
    found = {name: core for name in names if (core := role_placement(config, name).core) >= 0}
    for name, core in found.items():
        if core not in allowed:
            where = f"{config.path}: placement.role.{name}.core"
            raise ConfigError(f"{where}: {core} is not one of {allowed}, which this process may use")
    return found


def _rest(allowed: list[int], pinned: dict[str, int], hot: list[str]) -> frozenset[int]:
    return frozenset(allowed) - {pinned[name] for name in hot} or frozenset(allowed)


def _checked(config: Config, chosen: Placement, names: list[str]) -> Placement:
    """Refuse a real-time class that would do harm, before anything is compiled or forked."""
    asked = [name for name in names if role_placement(config, name).policy != "other"]
    refused = placement.real_time_refused(chosen.spin, chosen.spare) if asked else 0
    if refused and config.placement.strict:
        raise ConfigError(f"{config.path}: {POLICY_KEY}: refused to {', '.join(asked)}: {words(Item.POLICY, refused)}")
    return chosen
