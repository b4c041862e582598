"""A ring in shared memory with handles, driven a step at a time from tests, compiled or interpreted."""

import itertools
import os

import numpy as np

from hftd.core.jit import hot
from hftd.core.memory import records
from hftd.msg.records import log_dtype, market_event_dtype
from hftd.shm import ring, segment

_names = itertools.count()


@hot
def _room(p, count):
    return ring.room(p, count)


@hot
def _commit(p, value):
    slot = ring.claim(p, market_event_dtype)
    slot.px = value
    slot.qty = -value
    slot.ref = value * 3
    ring.commit(p, slot)


@hot
def _publish(p):
    ring.publish(p)


@hot
def _push(p, source):
    return ring.push(p, source)


@hot
def _take_one(c, slot_poll):
    """Take one record; returns its px, or -1 where none is there, or -2 where its fields disagree."""
    there = ring.ready(c) if slot_poll else ring.available(c) != 0
    if not there:
        return -1
    record = ring.take(c, market_event_dtype)
    px = record.px
    if record.qty != -px or record.ref != 3 * px:
        px = -2
    ring.done(c)
    return px


@hot
def _waiting(c):
    return ring.available(c), ring.ready(c)


@hot
def _observe(c, target):
    return ring.observe(c, target)


@hot
def _detach(p):
    return ring.detach_slowest(p)


@hot
def _detached(c):
    return ring.detached(c)


class Stepwise:
    """A segment whose `control` calls `between` before each word that is loaded from it or stored to it: others may act there."""

    def __init__(self, made, between):
        self._made, self._between = made, between
        self.parts, self.address = made.parts, made.address

    def __getitem__(self, name):
        return [_Words(self._made[name][0], self._between)] if name == "control" else self._made[name]


class _Words:
    """A record, a word of it at a time."""

    def __init__(self, record, between):
        self._record, self._between = record, between

    def __getitem__(self, name):
        if name == "consumers":
            return [_Words(one, self._between) for one in self._record[name]]
        self._between()
        return self._record[name]

    def __setitem__(self, name, value):
        self._between()
        self._record[name] = value


class Ring:
    """One ring, its producer, and any consumers; `close` leaves nothing behind."""

    def __init__(self, capacity: int):
        name = segment.full_name(f"test{os.getpid()}", f"ring{next(_names)}")
        self.segment = segment.create(name, ring.parts(capacity), 1)
        self.capacity = capacity
        self.consumers: dict[int, object] = {}
        self._hold: list = []
        self.producer = self._record(ring.producer_dtype)
        self.copy = records(market_event_dtype, 1)
        ring.open_producer(self.producer, self.segment)

    def _record(self, dtype):
        array = records(dtype, 1)
        self._hold.append(array)
        return array[0]

    def close(self) -> None:
        """Remove the segment."""
        segment.unlink(self.segment.name)

    def producer_again(self) -> None:
        """The producer dies and a new one takes up its work."""
        self.producer = self._record(ring.producer_dtype)
        ring.open_producer(self.producer, self.segment)

    def join(self, place: int, gating: bool = True, from_start: bool = False) -> None:
        """Open consumer `place` (again)."""
        self.consumers[place] = self._record(ring.consumer_dtype)
        ring.open_consumer(self.consumers[place], self.segment, place, gating, from_start)

    def join_while(self, place: int, between, from_start: bool = False) -> None:
        """Open gating consumer `place`, with `between()` before each load and store on the way."""
        self.consumers[place] = self._record(ring.consumer_dtype)
        ring.open_consumer(self.consumers[place], Stepwise(self.segment, between), place, from_start=from_start)

    def watch(self, place: int) -> None:
        """Open an observer without a place, under this number."""
        self.consumers[place] = self._record(ring.consumer_dtype)
        ring.open_watcher(self.consumers[place], self.segment)

    def room(self, count: int = 1) -> bool:
        """Ask for room."""
        return bool(_room(self.producer, count))

    def commit(self, value: int) -> None:
        """Write one record; there must be room."""
        assert self.room(), "the ring is full"
        _commit(self.producer, value)

    def publish(self) -> None:
        """Move the tail."""
        _publish(self.producer)

    def push(self, value: int) -> bool:
        """Write and publish one log record that carries `value` in field a."""
        source = records(log_dtype, 1)
        source[0]["a"], source[0]["b"] = value, value + 1
        return bool(_push(self.producer, source.ctypes.data))

    def take(self, place: int, slot_poll: bool = True) -> list[int]:
        """Take everything that is there."""
        got = []
        while (value := int(_take_one(self.consumers[place], slot_poll))) != -1:
            got.append(value)
        return got

    def take_one(self, place: int, slot_poll: bool = True) -> int:
        """Take one record, -1 where there is none."""
        return int(_take_one(self.consumers[place], slot_poll))

    def waiting(self, place: int) -> tuple[int, bool]:
        """(available, ready)."""
        count, there = _waiting(self.consumers[place])
        return int(count), bool(there)

    def observe(self, place: int) -> tuple[int, int | None]:
        """As NaiveRing.observe; checks that the copy is whole."""
        outcome = int(_observe(self.consumers[place], self.copy.ctypes.data))
        if outcome != 1:
            return outcome, None
        px = int(self.copy["px"][0])
        assert int(self.copy["qty"][0]) == -px and int(self.copy["ref"][0]) == 3 * px
        return 1, px

    def detach(self) -> int:
        """Detach the slowest."""
        return int(_detach(self.producer))

    def detached(self, place: int) -> bool:
        """Whether a consumer was given up."""
        return bool(_detached(self.consumers[place]))

    @property
    def slots(self) -> bytes:
        """Every slot's bytes."""
        return np.asarray(self.segment["slots"]).tobytes()

    @property
    def control(self):
        """The control record."""
        return self.segment["control"][0]
