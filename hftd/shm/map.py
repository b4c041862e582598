"""The one list of which segments a configuration has, what is in them, and who stands where on each ring.

    segment            producer        gating consumers                     observers
    ring.md            feed            strategies (one place each)          recorder
    ring.intent.K      strategy K      risk                                 recorder
    ring.order         risk            gateway                              recorder
    ring.report        gateway         strategies, risk                     recorder
    ring.deny          risk            strategies                           recorder
    ring.log.AGENT     each agent      -                                    recorder
    control            run state, clock, marks, error logs (shm/control.py)
    market, books      feed's tables   risk        risk's     orders        gateway's     strategy.K    strategy K's
    recorder           the recorder's counters and taps

Supervisor, agents and tools open memory through here and nowhere else.
"""

from collections.abc import Callable

import numpy as np

from hftd.control.config import Config, from_json, strategy_name, to_json
from hftd.feed import memory as feed_memory
from hftd.gateway import memory as gateway_memory
from hftd.msg.enums import Role
from hftd.recorder import memory as recorder_memory
from hftd.risk import memory as risk_memory
from hftd.shm import control, ring, segment
from hftd.shm.segment import Part, Segment
from hftd.strategy import memory as strategy_memory

PLACE_RECORDER, PLACE_RISK, PLACE_GATEWAY = 16, 17, 18
"""Consumer indexes on the rings; strategy k has place k."""


def place_of_strategy(index: int) -> int:
    """Return strategy `index`'s consumer index on every ring it reads."""
    return index


def agents(config: Config) -> list[tuple[Role, int, str]]:
    """Return (role, index, name) of every agent of a configuration, in starting order, supervisor left out."""
    enabled = [(i, row) for i, row in enumerate(config.strategy) if row.enabled]
    return [
        (Role.RECORDER, 0, "recorder"),
        (Role.FEED, 0, "feed"),
        (Role.RISK, 0, "risk"),
        *((Role.STRATEGY, i, f"strategy.{strategy_name(row)}") for i, row in enabled),
        (Role.GATEWAY, 0, "gateway"),
    ]


def mark_of(role: Role, index: int = 0) -> int:
    """Return the index of an agent's mark, error log and log ring."""
    return int(role) + index


def segments(config: Config) -> dict[str, list[Part]]:
    """Return every segment's parts by name."""
    rings = config.rings
    made: dict[str, list[Part]] = {"control": control.parts()}
    made["market"] = feed_memory.market_parts(config)
    made["books"] = feed_memory.book_parts(config)
    made["risk"] = risk_memory.parts(config)
    made["recorder"] = recorder_memory.parts(config)
    made["orders"] = gateway_memory.parts(config)
    made["ring.md"] = ring.parts(rings.md)
    for index, row in enumerate(config.strategy):
        if row.enabled:
            made[f"strategy.{index}"] = strategy_memory.parts(config, index)
            made[f"ring.intent.{index}"] = ring.parts(rings.intent)
    made["ring.order"] = ring.parts(rings.order)
    made["ring.report"] = ring.parts(rings.report)
    made["ring.deny"] = ring.parts(rings.report)
    for role, index, _ in agents(config):
        made[f"ring.log.{mark_of(role, index)}"] = ring.parts(rings.log)
    return made


class Memory:
    """All segments of one instance, opened. `memory["ring.md"]` is a Segment."""

    def __init__(self, instance: str, opened: dict[str, Segment]):
        self.instance = instance
        self._opened = opened

    def __getitem__(self, name: str) -> Segment:
        return self._opened[name]

    def __contains__(self, name: str) -> bool:
        return name in self._opened

    def names(self) -> list[str]:
        """Return the names of the segments."""
        return list(self._opened)

    @property
    def bytes(self) -> int:
        """Bytes of shared memory in all."""
        return sum(item.size for item in self._opened.values())

    def unlink(self) -> None:
        """Remove every name; the memory lives on while it is mapped."""
        for item in self._opened.values():
            segment.unlink(item.name)


def create(config: Config, epoch: int, progress: Callable[[str], None] | None = None,
           homes: dict[str, tuple[int, bool]] | None = None, large: bool = False) -> Memory:  # fmt: skip
    """Create every segment of a configuration. Whatever exists under these names must have been reclaimed before.

    homes: segment -> NUMA node of its pages, and whether it must be that one. large: ask for 2 MiB pages.
    """
    opened: dict[str, Segment] = {}
    try:
        for name, parts in segments(config).items():
            if progress:
                progress(name)
            node, must = (homes or {}).get(name, (-1, False))
            full = segment.full_name(config.daemon.name, name)
            opened[name] = segment.create(full, parts, epoch, node=node, must=must, large=large)
    except BaseException:
        for item in opened.values():
            segment.unlink(item.name)
        raise
    memory = Memory(config.daemon.name, opened)
    text = to_json(config).encode()
    if len(text) > control.CONFIG_BYTES:
        memory.unlink()
        raise segment.SegmentError(f"{config.path}: the configuration takes {len(text)} bytes, {control.CONFIG_BYTES} at most")
    memory["control"]["config"][: len(text)] = np.frombuffer(text, dtype=np.uint8)
    return memory


def attach(instance: str, read_only: bool = True, stale_ok: bool = False) -> tuple[Config, Memory]:
    """Attach to a running instance; its configuration comes from its own memory. Raises SegmentError where there is none (yet).

    stale_ok: also where its supervisor is gone, to look at what a crash left.
    """
    first = segment.attach(segment.full_name(instance, "control"), control.parts(), read_only, stale_ok)
    try:
        config = from_json(bytes(first["config"]).rstrip(b"\0").decode())
    except ValueError:                                # `create` writes it when every segment is there
        raise segment.SegmentError(f"instance {instance!r} is being started; try again in a moment") from None
    opened = {"control": first}
    for name, parts in segments(config).items():
        if name != "control":
            opened[name] = segment.attach(segment.full_name(instance, name), parts, read_only, stale_ok)
    return config, Memory(instance, opened)
