"""Single-producer broadcast ring of 64-byte records in shared memory.

    control (ring_dtype)                                         slots
    byte 0      128             256             …                +--------+--------+--------+
         | tail | consumer[0].. | consumer[1].. | … 20 consumers | slot 0 | slot 1 | …      |  capacity a power of two
                  head, state                                    +--------+--------+--------+
                                                                  payload 56 | seq 8

The producer owns `tail` and every slot; consumer i owns its `head`. Owners stand two lines apart. Sequences are free-running:
record n (from 0) lies in slot n & mask and carries seq n + 1 once it is there. The stores to a slot follow one another, seq last,
with none to another line in between: each change of line on the way costs a transfer more while another core holds the slot's
line (measured: 24 ns a change where a bare line takes 30).

Two ways to see a record, the consumer's choice, the producer does the same for both:
    `poll`       looks at the slot's own seq: one line per hop, the shortest latency (event by event)
    `available`  polls `tail`, which the producer stores once per batch (`publish`): the highest throughput
A *gating* consumer holds the producer back: `room` refuses, the caller decides what that means. An *observer* does not: it copies
(`observe`), then looks at `reach`, up to where the producer may be writing, and counts what it lost. The producer moves `reach` an
eighth of the ring at a time, before it writes there. Invariants: 0 <= tail - slowest gating head <= capacity; tail <= reach.

Joining a running ring: the consumer first stands in its place as GATING, then fences, then reads the tail and starts there; the
producer fences, then reads the places, and never lets its cached limit pass `tail + capacity`. So either the producer saw the
newcomer, or the newcomer starts at a record that the producer's old limit spares (Dekker's argument; each side needs its fence).
A newcomer that was seen may be detached before it has joined; it stores its state once, so that it finds that out.

A handle (`producer_dtype`, `consumer_dtype`) is the private side of one end: addresses, own cursor, cached view of the
other's. After Agrona's, the Disruptor's and rigtorp's rings. Turned down: one ring per consumer (copies), a mutex (a dead
holder stops everybody), a separate record array for cursors (reference counts cost more than the push), a mark in the slot while
it is written (a transfer more for each record).
"""

import os

from hftd.core.apart import apart
from hftd.core.atomics import (
    cold_fence,
    fence_acquire,
    fence_full,
    fence_release,
    load_acquire,
    load_acquire_at,
    load_relaxed,
    store_relaxed,
    store_release,
    store_release_at,
)
from hftd.core.jit import hot, leaf
from hftd.core.layout import PAIR, layout, offset_of
from hftd.core.memory import copy_bytes, record_at, span_dtype
from hftd.msg.records import SEQ_OFFSET, SLOT, log_dtype
from hftd.shm.segment import Part, Segment

CONSUMERS = 20
STEPS = 3
"""`reach` goes capacity >> STEPS further than what was asked for."""

FREE, GATING, OBSERVER, DETACHED = 0, 1, 2, 3

ring_consumer_dtype = layout("ring_consumer", PAIR, [
    ("head", "i8"),                               # next record to read; its consumer stores it
    ("state", "i8"),                              # FREE, GATING, OBSERVER, DETACHED (by the producer: too slow)
    ("pid", "i8"),
    ("lost", "i8"),                               # records this consumer was lapped by
    ("pad", ("i8", (12,))),
])  # fmt: skip

ring_dtype = layout("ring", PAIR * (1 + CONSUMERS), [
    ("tail", "i8"),                               # records published; the producer stores it
    ("capacity", "i8"),
    ("full", "i8"),                               # times the producer found no room
    ("reach", "i8"),                              # records before this one may be being written; the producer stores it
    ("pad", ("i8", (12,))),
    ("consumers", (ring_consumer_dtype, (CONSUMERS,)), PAIR),
])  # fmt: skip

producer_dtype = layout("producer", 64, [
    ("slots", span_dtype),
    ("mask", "i8"),                               # capacity - 1
    ("tail", "i8"),                               # next record to write
    ("limit", "i8"),                              # tail may come to this before the heads must be looked at again
    ("control", "i8"),                            # address of the ring_dtype record
    ("pad", ("i8", (2,))),
])  # fmt: skip

consumer_dtype = layout("consumer", 64, [
    ("slots", span_dtype),
    ("mask", "i8"),
    ("next", "i8"),                               # next record to read
    ("seen", "i8"),                               # cached tail
    ("control", "i8"),
    ("head_at", "i8"),                            # address of our head
    ("lost", "i8"),                               # observer: records overwritten before we read them
])  # fmt: skip


# ---------------------------------------------------------------- producer


@leaf
def room(p, count):
    """Tell whether `count` records can be written. Looks at the consumers only when the cached limit says no.

    What is committed and not yet published counts as unread: a batch, `publish` left out, is at most `capacity` records.
    """
    return p.limit - p.tail >= count or _look(p, count)


@hot
def _look(p, count):
    """Look at the consumers' heads for a new limit, and tell observers. A call: twenty consumers in every loop are much code."""
    apart()
    fence_full()
    ring = record_at(p.control, ring_dtype)
    slowest = load_relaxed(ring, "tail")
    for i in range(CONSUMERS):
        consumer = ring.consumers[i]
        if load_acquire(consumer, "state") == GATING:
            head = load_acquire(consumer, "head")
            if head < slowest:
                slowest = head
    limit = min(slowest + p.mask + 1, p.tail + count + ((p.mask + 1) >> STEPS))
    p.limit = limit
    if limit > load_relaxed(ring, "reach"):       # a newcomer at a head long gone takes the limit back, not what was written
        store_relaxed(ring, "reach", limit)
    fence_release()
    if limit - p.tail >= count:
        return True
    store_relaxed(ring, "full", ring.full + 1)
    return False


@leaf
def claim(p, dtype):
    """Return the next slot as a record of `dtype`, to be filled in the order of its fields and given to `commit`. `room` first."""
    return record_at(p.slots.base + (p.tail & p.mask) * SLOT, dtype)


@leaf
def commit(p, slot):
    """Make a claimed slot visible to consumers that poll slots."""
    tail = p.tail + 1
    store_release(slot, "seq", tail)              # before our own word: nothing comes between the stores to the slot
    p.tail = tail


@leaf
def publish(p):
    """Make everything committed visible to consumers that poll the tail. Once per batch.

    The shared tail is our own word: reading it costs no transfer, and a store that says nothing new would take the line from those
    who poll it.
    """
    ring, tail = record_at(p.control, ring_dtype), p.tail
    if load_relaxed(ring, "tail") != tail:
        store_release(ring, "tail", tail)


@leaf
def publish_new(p):
    """Do as `publish` does, where something was committed since the last time: there is nothing to look at."""
    store_release(record_at(p.control, ring_dtype), "tail", p.tail)


@leaf
def push(p, source):
    """Append the 64-byte record at address `source` (its seq is ignored) and publish. False when the ring is full."""
    if not room(p, 1):
        return False
    slot = claim(p, log_dtype)
    copy_bytes(p.slots.base + (p.tail & p.mask) * SLOT, source, SEQ_OFFSET)
    commit(p, slot)
    publish_new(p)
    return True


@leaf
def detach_slowest(p):
    """Detach the gating consumer that is furthest behind; return its index, or -1. The md policy for a slow strategy."""
    ring = record_at(p.control, ring_dtype)
    found, slowest = -1, p.tail + 1
    for i in range(CONSUMERS):
        consumer = ring.consumers[i]
        if load_acquire(consumer, "state") == GATING:
            head = load_acquire(consumer, "head")
            if head < slowest:
                found, slowest = i, head
    if found >= 0:
        store_release(ring.consumers[found], "state", DETACHED)
    return found


# ---------------------------------------------------------------- consumer


@leaf
def poll(c):
    """Tell whether the next record is there, by its slot's own seq; its address, and its number, for who goes on with `step_over`.

    The seq is compared as a difference: were it compared with next + 1, the compiler, knowing them equal from there on, would go on
    with the one it has just loaded, and the address of the next slot would wait for the line of this one.
    """
    at, number = c.slots.base + (c.next & c.mask) * SLOT, c.next
    return load_acquire_at(at + SEQ_OFFSET) - number == 1, at, number


@leaf
def ready(c):
    """Tell whether the next record is there, as `poll` does."""
    there, _, _ = poll(c)
    return there


@leaf
def step_over(c, number):
    """Step over the record that `poll` found, by its number; `done` gives it back."""
    c.next = number + 1


@leaf
def available(c):
    """Return how many published records wait, by the ring's tail; the tail is read only when the cached one is used up.

    0, never less, where `ready` took us past what is published.
    """
    if c.seen <= c.next:
        c.seen = load_acquire_at(c.control)
    return max(c.seen - c.next, 0)


@leaf
def take(c, dtype):
    """Return the next record, in place, and step over it, after `available` or `ready`; `done` gives it back."""
    slot = record_at(c.slots.base + (c.next & c.mask) * SLOT, dtype)
    c.next += 1
    return slot


@leaf
def done(c):
    """Give back every record taken so far. Gating consumers call it once per batch."""
    store_release_at(c.head_at, c.next)


@leaf
def detached(c):
    """Tell whether the producer gave up on us: what follows was lost, re-join from a snapshot.

    A record that was taken before may have been overwritten while it was read: ask after the last look at a batch, and before
    anything that was decided on it is published.
    """
    return load_acquire(record_at(c.head_at, ring_consumer_dtype), "state") == DETACHED


@leaf
def observe(c, target):
    """Copy the next record to address `target`. 1 done, 0 none there, -1 lapped (the loss is counted in c.lost)."""
    at = c.slots.base + (c.next & c.mask) * SLOT
    ring = record_at(c.control, ring_dtype)
    if load_acquire(record_at(at, log_dtype), "seq") - c.next == 1:
        copy_bytes(target, at, SLOT)
        fence_acquire()
        if load_acquire(ring, "reach") - c.next <= c.mask + 1:
            c.next += 1
            return 1
    reach = load_acquire(ring, "reach")
    if reach - c.next <= c.mask + 1:
        return 0
    resume = max(load_acquire(ring, "tail") - (c.mask + 1) // 2, reach - c.mask - 1)
    c.lost += resume - c.next
    c.next = resume
    return -1


# ---------------------------------------------------------------- cold


def parts(capacity: int) -> list[Part]:
    """Return the parts of a ring's segment. `capacity` is a power of two."""
    if capacity < 2 or capacity & (capacity - 1):
        raise ValueError(f"ring capacity must be a power of two, was {capacity}")
    return [Part("control", ring_dtype, 1), Part("slots", log_dtype, capacity)]


def written_up_to(segment: Segment) -> int:
    """Return how many records were written, those committed and not yet published included."""
    tail, seqs = int(segment["control"][0]["tail"]), segment["slots"]["seq"]
    while int(seqs[tail % len(seqs)]) == tail + 1:
        tail += 1
    return tail


def open_producer(handle, segment: Segment) -> None:
    """Fill a producer_dtype record for the (only) producer of `segment`; takes up where a dead one left off."""
    control, capacity, tail = segment["control"][0], segment.parts["slots"].count, written_up_to(segment)
    control["capacity"], control["tail"] = capacity, tail
    handle["slots"]["base"], handle["slots"]["count"] = segment.address("slots"), capacity
    handle["mask"], handle["tail"], handle["limit"] = capacity - 1, tail, tail
    handle["control"] = segment.address("control")


def open_consumer(handle, segment: Segment, index: int, gating: bool = True, from_start: bool = False) -> None:
    """Fill a consumer_dtype record for consumer `index` (0..CONSUMERS-1), at the tail, or with `from_start` at its old head.

    A gating consumer finds everything since its old head only if its place never stopped gating (it died and comes back, or
    `reserve` held it); otherwise the producer may have passed it, and it starts at the tail like a newcomer.
    """
    _in_range(index)
    control = segment["control"][0]
    capacity = segment.parts["slots"].count
    mine = control["consumers"][index]
    mine["pid"], mine["lost"] = os.getpid(), 0
    if not from_start or (gating and int(mine["state"]) != GATING):
        _stand(control, mine, GATING if gating else OBSERVER)
    elif not gating:
        mine["state"] = OBSERVER
    start = int(mine["head"])                         # from here on the state is the producer's: it may have detached us already
    handle["slots"]["base"], handle["slots"]["count"] = segment.address("slots"), capacity
    handle["mask"], handle["next"], handle["seen"], handle["lost"] = capacity - 1, start, start, 0
    handle["control"] = segment.address("control")
    handle["head_at"] = segment.address("control") + offset_of(ring_dtype, "consumers") + index * PAIR


def reserve(segment: Segment, index: int) -> None:
    """Hold the place of a gating consumer that comes later (`open_consumer(…, from_start=True)`): nothing it missed is lost."""
    _in_range(index)
    control = segment["control"][0]
    _stand(control, control["consumers"][index], GATING)


def release(segment: Segment, index: int) -> None:
    """Free a place: the producer no longer waits for it. For a consumer that leaves, and by the supervisor for a dead one."""
    _in_range(index)
    mine = segment["control"][0]["consumers"][index]
    mine["state"], mine["pid"] = FREE, 0


def _stand(control, mine, state: int) -> None:
    """Take a place at the tail of a ring that may be running; the order of the stores is the head of this file's argument."""
    mine["head"] = int(control["tail"])
    mine["state"] = state
    cold_fence()
    mine["head"] = int(control["tail"])


def _in_range(index: int) -> None:
    if not 0 <= index < CONSUMERS:
        raise ValueError(f"ring consumer must be 0..{CONSUMERS - 1}, was {index}")


def open_watcher(handle, segment: Segment) -> None:
    """Fill a consumer_dtype record for an observer that takes no place among the consumers (CLI, notebook): never call `done`."""
    control = segment["control"][0]
    capacity = segment.parts["slots"].count
    start = max(int(control["tail"]) - capacity // 2, 0)
    handle["slots"]["base"], handle["slots"]["count"] = segment.address("slots"), capacity
    handle["mask"], handle["next"], handle["seen"], handle["lost"] = capacity - 1, start, start, 0
    handle["control"], handle["head_at"] = segment.address("control"), 0
