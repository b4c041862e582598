"""Benchmarks of the foundations on one core: cycle, clock, histogram, seqlock, pool, and a ring whose both ends are here.

    ring      push one 64-byte record, every field written, and take it         (one producer, one consumer, each record published)
    ring_8    the same with one word of payload
"""

import mmap

from hftd.bench.registry import BenchError, Lab, Samples, benchmark, measure, room_for
from hftd.core.atomics import tsc
from hftd.core.budgets import COMPONENTS
from hftd.core.jit import hot, leaf
from hftd.core.layout import layout
from hftd.core.memory import record_at, records, span, store64
from hftd.msg.records import market_event_dtype, quote_dtype
from hftd.shm import histogram, pool, ring, seqlock
from hftd.shm.segment import Segment, size_of

ring_pair_dtype = layout("bench_ring_pair", 128, [("p", ring.producer_dtype), ("c", ring.consumer_dtype)])
pool_row_dtype = layout("bench_pool_row", 64, [("next", "i8"), ("pad", ("i8", (7,)))])
quote_pair_dtype = layout("bench_quotes", 256, [("cell", quote_dtype), ("copy", quote_dtype)])
number_dtype = layout("bench_number", 64, [("sum", "i8"), ("at", "i8"), ("pad", ("i8", (6,)))])


def private_ring(capacity: int) -> Segment:
    """Return a ring in memory that forked children share and nobody else sees."""
    parts = ring.parts(capacity)
    return Segment("bench", parts, mmap.mmap(-1, size_of(parts)))


# ---------------------------------------------------------------- one core


@hot
def _chain(samples, n, per):
    """Take `n` samples of `per` steps, each two operations that wait for one another. samples: address of n int64."""
    x = 1
    for i in range(n):
        begun = tsc()
        for k in range(per):
            x = (x ^ k) + begun
        store64(samples + 8 * i, tsc() - begun)
    return x


@benchmark("cycle", about="machine limit: one addition that waits for the one before, a cycle of the core as it runs now")
def cycle(lab: Lab):
    """What a host's clock is worth at the moment: less where it is throttled or a neighbour has half of the core."""
    n = lab.count(2_000, 100)
    samples = room_for(n)
    _chain(samples.ctypes.data, n, 1000)
    return Samples(samples, 2000)


@leaf
def _read_clock(state, k):
    state.sum += tsc() & 1


@benchmark("clock", about="read the time stamp counter")
def clock(lab: Lab):
    """One hundred readings per sample."""
    state = records(number_dtype, 1)[0]
    return Samples(measure("clock", _read_clock, state, lab.count(20_000, 500), 100), 100)


@leaf
def _record(state, k):
    histogram.record_value(record_at(state.at, histogram.histogram_dtype), state.at, 200 + (k * 7919 & 4095))


@benchmark("histogram", about="record a value")
def histogram_record(lab: Lab):
    """Values spread over four thousand buckets."""
    made, state = records(histogram.histogram_dtype, 1), records(number_dtype, 1)[0]
    state["at"] = made.ctypes.data
    n = lab.count(20_000, 500)
    ticks = measure("histogram", _record, state, n, 64)
    wanted = (n + max(n // 10, 1)) * 64
    if int(made["count"][0]) != wanted or int(made["buckets"].sum()) != wanted:
        raise BenchError(f"histogram: counted {int(made['count'][0])} of {wanted} values")
    return Samples(ticks, 64)


@leaf
def _read_cell(state, k):
    seqlock.try_read(state.cell, state.copy, 128)


@benchmark("seqlock", about="read a 128-byte quote cell")
def seqlock_read(lab: Lab):
    """Uncontended: the reader's cost."""
    state = records(quote_pair_dtype, 1)[0]
    state["cell"]["version"], state["cell"]["bid_px"] = 2, 1234500
    ticks = measure("seqlock", _read_cell, state, lab.count(20_000, 500), 64)
    if int(state["copy"]["bid_px"]) != 1234500:
        raise BenchError("seqlock: the copy is not the cell")
    return Samples(ticks, 64)


@leaf
def _take_give(state, k):
    rows = span(state.rows)
    first = pool.take_row(state, rows, pool_row_dtype)
    pool.give_row(state, rows, first, pool_row_dtype)


@benchmark("pool", COMPONENTS["pool"], about="take a row from the pool and give it back")
def pool_take_give(lab: Lab):
    """A pool of 64 Ki rows."""
    rows, made = records(pool_row_dtype, 1 << 16), records(pool.pool_dtype, 1)
    pool.open_pool(made[0], rows.ctypes.data, len(rows))
    ticks = measure("pool", _take_give, made[0], lab.count(20_000, 500), 64)
    if int(made["used"][0]) or int(made["fresh"][0]) != 2 or int(made["refused"][0]):
        raise BenchError("pool: rows were lost")
    return Samples(ticks, 64)


@leaf
def fill(slot, k):
    """Write every field of a market event, in their order."""
    slot.ts_recv = k
    slot.ts_event = k
    slot.px = k * 3
    slot.qty = k
    slot.ref = k
    slot.orders = k & 0xFFFF
    slot.instrument = 1
    slot.kind = 2
    slot.flags = 3
    slot.t_feed = 4
    slot.wire_seq = k & 0xFFFFFFFF


@leaf
def _take_back(state, k):
    there, at, number = ring.poll(state.c)
    if there:
        got = record_at(at, market_event_dtype)
        ring.step_over(state.c, number)
        if got.px != k * 3:
            state.c.lost += 1
        ring.done(state.c)


@leaf
def _push_take(state, k):
    if ring.room(state.p, 1):
        slot = ring.claim(state.p, market_event_dtype)
        fill(slot, k)
        ring.commit(state.p, slot)
        ring.publish_new(state.p)
    _take_back(state, k)


@leaf
def _push_take_8(state, k):
    if ring.room(state.p, 1):
        slot = ring.claim(state.p, market_event_dtype)
        slot.px = k * 3
        ring.commit(state.p, slot)
        ring.publish_new(state.p)
    _take_back(state, k)


def _one_core(lab: Lab, name: str, body) -> Samples:
    memory, made = private_ring(1024), records(ring_pair_dtype, 1)
    state = made[0]
    ring.open_producer(state["p"], memory)
    ring.open_consumer(state["c"], memory, 0)
    n = lab.count(20_000, 500)
    ticks = measure(name, body, state, n, 64)
    wanted = (n + max(n // 10, 1)) * 64
    if int(state["c"]["next"]) != wanted or int(state["c"]["lost"]):
        raise BenchError(f"{name}: {int(state['c']['next'])} of {wanted} records, {int(state['c']['lost'])} wrong")
    return Samples(ticks, 64)


@benchmark("ring", COMPONENTS["ring"], about="push a 64-byte record and take it, one core")
def ring_same_core(lab: Lab):
    """Each record published and given back by itself."""
    return _one_core(lab, "ring", _push_take)


@benchmark("ring_8", COMPONENTS["ring"], about="push 8 bytes of payload and take them, one core")
def ring_eight_bytes(lab: Lab):
    """What a bare ring of words is compared with."""
    return _one_core(lab, "ring_8", _push_take_8)
