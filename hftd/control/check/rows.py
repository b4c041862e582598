"""What a look at the host yields, and what it is held against: rows, the plan of a configuration, and words for both."""

import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from hftd.control.config import Config, role_placement
from hftd.control.host import place

PASS, WARN, FAIL, INFO = "PASS", "WARN", "FAIL", "INFO"
MIB = 1 << 20


@dataclass(frozen=True)
class Row:
    """One thing that was looked at. figures: for programs."""

    area: str
    what: str
    state: str
    found: str
    wanted: str = ""
    remedy: str = ""
    figures: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The row for JSON."""
        return asdict(self)


def graded(ok: Any, area: str, what: str, found: str, wanted: str, remedy: str = "", bad: str = WARN,
           figures: dict | None = None) -> Row:  # fmt: skip
    """Return a row that passes where `ok`, and else says what mends it."""
    return Row(area, what, PASS if ok else bad, found, wanted, "" if ok else remedy, figures or {})


@dataclass(frozen=True)
class Plan:
    """What the configuration wants of the host."""

    layout: str
    why: str
    spin: bool
    hot: dict[int, list[str]]  # core -> roles that spin on it
    allowed: tuple[int, ...]  # cores this process may use
    roles: int = 0  # hot roles there are
    shared_bytes: int = 0  # shared memory the instance needs; 0: not known
    name: str = ""
    real_time: tuple[str, ...] = ()  # roles that spin and ask for SCHED_FIFO or RR
    reserved: tuple[tuple[str, int], ...] = ()  # roles that ask for reserved 2 MiB pages, and how many they take
    awake: bool = False  # placement.cpu_dma_latency is asked for

    @property
    def spare(self) -> bool:
        """Whether the hot cores can be set apart: others are left for everything else, core 0 among them."""
        return 0 not in self.hot and bool(set(self.allowed) - set(self.hot))

    @property
    def cores(self) -> tuple[int, ...]:
        """The cores a measurement is about."""
        return tuple(sorted(self.hot)) or self.allowed


def plan_of(config: Config) -> Plan:
    """Return what a configuration wants. Raises ConfigError where its layout cannot be had."""
    from hftd.control import largepages
    from hftd.shm.map import agents, segments
    from hftd.shm.segment import size_of

    strict = replace(config, placement=replace(config.placement, strict=False))  # what place would refuse is a row here
    chosen = place(strict)
    names = [name for role, _, name in agents(config)]
    wishes = {name: role_placement(config, name) for name in names}
    hot: dict[int, list[str]] = {}
    for role, core in chosen.cores.items():
        if role != "recorder":
            hot.setdefault(core, []).append(role)
    return Plan(
        chosen.layout,
        chosen.why,
        chosen.spin,
        hot if chosen.spin else {},
        tuple(sorted(os.sched_getaffinity(0))),
        3 + sum(row.enabled for row in config.strategy),
        sum(size_of(parts) for parts in segments(config).values()),
        config.daemon.name,
        tuple(name for name in names if chosen.spin and name != "recorder" and wishes[name].policy != "other"),
        tuple(largepages.wanted(config, chosen).items()),
        config.placement.cpu_dma_latency,
    )


def cores_of(text: str) -> set[int]:
    """Return the cores of a list as the kernel writes it: `0-3,8`. What is no list is empty."""
    found: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        low, _, high = part.partition("-")
        if not low.isdigit() or not (high or low).isdigit():
            return set()
        found.update(range(int(low), int(high or low) + 1))
    return found


def cores_of_mask(text: str) -> set[int]:
    """Return the cores of a hexadecimal mask: `ff,00000003`."""
    try:
        mask = int(text.strip().replace(",", "") or "0", 16)
    except ValueError:
        return set()
    return {core for core in range(mask.bit_length()) if mask >> core & 1}


def text_of(cores: Iterable[int]) -> str:
    """Return cores as a list that the kernel reads: `0-3,8`."""
    wanted = sorted(set(cores))
    runs: list[list[int]] = []
    for core in wanted:
        if runs and core == runs[-1][1] + 1:
            runs[-1][1] = core
        else:
            runs.append([core, core])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)


def size_text(count: float) -> str:
    """Return bytes in KiB or MiB."""
    return f"{count / MIB:,.0f} MiB" if count >= MIB else f"{count / 1024:,.0f} KiB"


NO_SPARE = "a core for everything else, and hot roles off core 0, which keeps the kernel's own work: daemon.cores"


def boot(arguments: str) -> str:
    """Return the command that adds arguments to the kernel's command line."""
    return f"""sed -i 's/^GRUB_CMDLINE_LINUX="/&{arguments} /' /etc/default/grub && update-grub && reboot"""


def chosen(text: str) -> str:
    """The word in brackets of `always [madvise] never`."""
    return text.partition("[")[2].partition("]")[0] or text
