"""The memory of a daemon, role by role: which segments there are, what lies where in them, who writes and who reads.

The map of a configuration comes from the one list of segments (shm/map.py), so it cannot differ from what a start would make. Of a
running daemon there is also what the kernel knows: resident, shared and private memory of each process, locked and large pages.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hftd.control.config import Config, strategy_name
from hftd.control.placing import shown
from hftd.core.layout import describe
from hftd.core.memory import Block
from hftd.core.placement import Item
from hftd.shm import map as shared
from hftd.shm.placed import HELD_ROWS
from hftd.shm.segment import HEADER, Part, Segment, _offsets, segment_dtype, size_of

EVERYBODY = "everybody"


@dataclass(frozen=True)
class Place:
    """One part of a segment. offset: bytes from the segment's start."""

    name: str
    offset: int
    dtype: np.dtype
    count: int

    @property
    def bytes(self) -> int:
        """Bytes it takes."""
        return self.dtype.itemsize * self.count

    def as_dict(self, layouts: bool = False) -> dict[str, Any]:
        """The part for JSON; with `layouts`, every field with its offset."""
        made: dict[str, Any] = {"part": self.name, "offset": self.offset, "bytes": self.bytes, "record": self.dtype.itemsize,
                                "count": self.count}  # fmt: skip
        if layouts and self.dtype.names:
            assert self.dtype.fields is not None
            fields = ((name, *self.dtype.fields[name][:2]) for name in self.dtype.names)
            made["fields"] = [{"name": name, "offset": offset, "bytes": kind.itemsize} for name, kind, offset in fields]
        return made


@dataclass(frozen=True)
class Room:
    """One segment: its size, its parts, who writes into it and who reads it."""

    name: str
    size: int
    writers: tuple[str, ...]
    readers: tuple[str, ...]
    places: tuple[Place, ...]

    def as_dict(self, layouts: bool = False) -> dict[str, Any]:
        """The segment for JSON."""
        return {"segment": self.name, "bytes": self.size, "writers": list(self.writers), "readers": list(self.readers),
                "parts": [place.as_dict(layouts) for place in self.places]}  # fmt: skip


def rooms(config: Config) -> list[Room]:
    """Return every segment of a configuration."""
    made = []
    for name, parts in shared.segments(config).items():
        writers, readers = users(config, name)
        made.append(Room(name, size_of(parts), writers, readers, _places(parts)))
    return made


def _places(parts: list[Part]) -> tuple[Place, ...]:
    header = Place("header", 0, segment_dtype, 1)
    starts, _ = _offsets(parts)
    assert not starts or starts[0] >= HEADER
    return (header, *(Place(part.name, start, part.dtype, part.count) for part, start in zip(parts, starts)))


def users(config: Config, segment: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return who writes a segment, and who reads it; the command line reads them all. Raises KeyError for an unknown one."""
    strategies = tuple(f"strategy.{strategy_name(row)}" for row in config.strategy if row.enabled)
    names = {index: f"strategy.{strategy_name(row)}" for index, row in enumerate(config.strategy)}
    fixed: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
        "control": (("supervisor", "each its own rows"), (EVERYBODY,)),
        "market": (("feed",), (*strategies, "risk", "recorder")),
        "books": (("feed",), strategies),
        "risk": (("risk",), ("recorder",)),
        "orders": (("gateway",), ("recorder",)),
        "recorder": (("recorder",), ()),
        "ring.md": (("feed",), (*strategies, "recorder")),
        "ring.order": (("risk",), ("gateway", "recorder")),
        "ring.report": (("gateway",), (*strategies, "risk", "recorder")),
        "ring.deny": (("risk",), (*strategies, "recorder")),
    }
    if segment in fixed:
        return fixed[segment]
    kind, _, number = segment.rpartition(".")
    if kind == "strategy":
        return (names[int(number)],), ("recorder",)
    if kind == "ring.intent":
        return (names[int(number)],), ("risk", "recorder")
    if kind == "ring.log":
        agents = {shared.mark_of(role, index): name for role, index, name in shared.agents(config)}
        return (agents[int(number)],), ("recorder",)
    raise KeyError(segment)


def layouts(found: list[Room]) -> list[str]:
    """Return the table of fields of every record, each once, under the first part that holds it."""
    seen: dict[str, str] = {}
    for room in found:
        for place in room.places:
            if place.dtype.names:
                seen.setdefault(str(place.dtype), describe(place.dtype, f"{room.name} / {place.name}"))
    return list(seen.values())


def by_role(config: Config, found: list[Room]) -> list[dict[str, Any]]:
    """Return what each role maps: the segments it writes and those it reads, with their bytes."""
    names = ["supervisor", *(name for _, _, name in shared.agents(config))]
    made = []
    for name in names:
        writes = [room for room in found if name in room.writers]
        reads = [room for room in found if name in room.readers or EVERYBODY in room.readers]
        made.append({
            "role": name,
            "writes": [room.name for room in writes],
            "reads": [room.name for room in reads],
            "write_bytes": sum(room.size for room in writes),
            "read_bytes": sum(room.size for room in reads),
        })  # fmt: skip
    return made


def private(config: Config, control: Segment) -> dict[str, list[dict[str, Any]]]:
    """Return the named blocks of private memory of each role that runs: name, bytes, count, large, pages, node."""
    made: dict[str, list[dict[str, Any]]] = {}
    for role, index, name in shared.agents(config):
        at = shared.mark_of(role, index)
        made[name] = held(control, at)
    return made


def held(control: Segment, mark: int) -> list[dict[str, Any]]:
    """Return the blocks one owner wrote down; mark 0: the segments of shared memory, as their maker sees them."""
    rows = control["held"][mark * HELD_ROWS : (mark + 1) * HELD_ROWS]
    return [
        {"name": row["name"].decode(), "bytes": int(row["bytes"]), "count": int(row["count"]), "large": int(row["large"]),
         "pages": shown(Item.PAGES, int(row["pages"])), "node": int(row["node"])}
        for row in rows if row["bytes"]
    ]  # fmt: skip


def at_start(config: Config, control: Segment) -> list[str]:
    """Return what a start says of memory: shared in all, then each role's private stores of a MiB and more, with their capacity."""
    segments = held(control, 0)
    large = sum(one["large"] for one in segments)
    said = [f"shared {mib(sum(one['bytes'] for one in segments))}, {mib(large)} on 2 MiB pages"]
    for role, blocks in private(config, control).items():
        stores = [f"{one['name']} {one['count']:,} ({mib(one['bytes'])}{', 2 MiB pages' if one['large'] else ''})"
                  for one in blocks if one["bytes"] >= 1 << 20]  # fmt: skip
        if stores:
            said.append(f"{role} {mib(sum(one['bytes'] for one in blocks))}: {', '.join(stores)}")
    return said


def mib(count: int) -> str:
    """Return bytes in MiB."""
    return f"{count / (1 << 20):,.1f} MiB"


def role_map(config: Config, blocks: dict[str, list[Block]]) -> str:
    """Return what each role writes, reads and holds, as hftd/README.md shows it. blocks: private ones by role."""
    found = {room.name: room for room in rooms(config)}
    lines = []
    for row in by_role(config, list(found.values())):
        own = blocks.get(row["role"], [])
        size = sum(one.bytes for one in own)
        lines.append(f"{row['role']}  ({mib(row['write_bytes'])} shared that it writes, {mib(size)} private)")
        for name in row["writes"]:
            parts = ", ".join(f"{place.name} {place.count:,} x {place.dtype.itemsize}" for place in found[name].places[1:])
            lines.append(f"  writes   {name:<14} {found[name].size:>11,}  {parts}")
        for one in own:
            count = f"{one.count:,} records" if one.count else ""
            lines.append(f"  private  {one.name:<26} {one.bytes:>11,}  {count}".rstrip())
        if row["reads"]:
            lines.append(f"  reads    {', '.join(row['reads'])}")
        lines.append("")
    return "\n".join(lines).rstrip()


# ---------------------------------------------------------------- a running daemon


KEYS = {
    "Rss": "rss", "Pss": "pss", "Private_Clean": "uss", "Private_Dirty": "uss", "Private_Hugetlb": "uss", "Anonymous": "anonymous",
    "AnonHugePages": "huge", "ShmemPmdMapped": "huge", "FilePmdMapped": "huge", "Shared_Hugetlb": "hugetlb", "Locked": "locked",
    "Swap": "swap",
}  # fmt: skip


def totals(pid: int, root: Path = Path("/")) -> dict[str, int] | None:
    """Return bytes of a process by kind (rss, pss, uss, huge, hugetlb, locked, swap); None where they cannot be read."""
    try:
        text = (root / f"proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return None
    return _sums(text.splitlines())


def _sums(lines: list[str]) -> dict[str, int]:
    made = dict.fromkeys(KEYS.values(), 0)
    for line in lines:
        name, _, value = line.partition(":")
        words = value.split()
        if name in KEYS and words and words[0].isdigit():
            made[KEYS[name]] += int(words[0]) * 1024
    return made


def mapped(pid: int, instance: str, root: Path = Path("/")) -> dict[str, dict[str, int]]:
    """Return what a process has of each segment of an instance: bytes by kind, and `mapped`. Empty where it cannot be read."""
    try:
        lines = (root / f"proc/{pid}/smaps").read_text().splitlines()
    except OSError:
        return {}
    found: dict[str, dict[str, int]] = {}
    name, size = "", 0
    block: list[str] = []

    def keep() -> None:
        if name:
            old = found.setdefault(name, {**dict.fromkeys(KEYS.values(), 0), "mapped": 0})
            for key, value in {**_sums(block), "mapped": size}.items():
                old[key] += value

    for line in lines:
        words = line.split()
        if words and "-" in words[0] and not words[0].endswith(":"):
            keep()
            low, _, high = words[0].partition("-")
            path = words[5] if len(words) > 5 else ""
            _, mark, rest = path.rpartition("/")[2].partition(f"hftd.{instance}.")
            name, block, size = rest if mark else "", [], int(high, 16) - int(low, 16)
        else:
            block.append(line)
    keep()
    return found


def nodes(pid: int, root: Path = Path("/")) -> dict[int, int]:
    """Return the bytes of a process on each NUMA node; empty where that cannot be read."""
    try:
        lines = (root / f"proc/{pid}/numa_maps").read_text().splitlines()
    except OSError:
        return {}
    found: dict[int, int] = {}
    for line in lines:
        words = dict(word.partition("=")[::2] for word in line.split()[2:])
        size = int(words.get("kernelpagesize_kB", "4")) * 1024
        for name, value in words.items():
            if name[:1] == "N" and name[1:].isdigit():
                found[int(name[1:])] = found.get(int(name[1:]), 0) + int(value) * size
    return found


def pages(facts: dict[str, int] | None) -> str:
    """Say what kind of pages hold a segment, and whether they are locked."""
    if not facts:
        return "-"
    if facts["hugetlb"]:
        made = "2 MiB, reserved"
    elif facts["huge"]:
        made = f"2 MiB, {100 * facts['huge'] // max(facts['mapped'], 1)} %"
    else:
        made = "4 KiB"
    return made + (", locked" if facts["locked"] else "")
