"""Benchmarks of the foundations: clock, histogram, seqlock, pool, ring on one core and between two, and what the machine allows.

    ring            one core:   push one 64-byte record, take it            (private memory, one producer, one consumer)
    ring_stream     two cores:  core A ──records──▶ core B                  (limit: bare lines, no cursor, no gate)
    ring_round_trip two cores:  core A ──▶ core B ──▶ core A                (limit: the better of one and two bare lines)

Two-core loops run in a forked child pinned to another core; each is bounded by a number of empty polls.
"""

import mmap
import os
import traceback
from collections.abc import Callable

import numpy as np

from hftd.bench.registry import BenchError, Lab, Samples, Skip, benchmark, measure
from hftd.core.atomics import load_acquire_at, pause, store_release_at, tsc
from hftd.core.budgets import COMPONENTS
from hftd.core.jit import hot, leaf
from hftd.core.layout import layout
from hftd.core.memory import address, load64, record_at, records, span, store64
from hftd.msg.records import market_event_dtype, quote_dtype
from hftd.shm import histogram, pool, ring, seqlock
from hftd.shm.segment import Segment, size_of

PATIENCE = 200_000_000
LINES = 4096
"""Lines of a pass of the bare stream: 256 KiB, as a ring of that capacity."""

ring_pair_dtype = layout("bench_ring_pair", 128, [("p", ring.producer_dtype), ("c", ring.consumer_dtype)])
pool_row_dtype = layout("bench_pool_row", 64, [("next", "i8"), ("pad", ("i8", (7,)))])
quote_pair_dtype = layout("bench_quotes", 256, [("cell", quote_dtype), ("copy", quote_dtype)])
number_dtype = layout("bench_number", 64, [("sum", "i8"), ("at", "i8"), ("pad", ("i8", (6,)))])


def private_ring(capacity: int) -> Segment:
    """Return a ring in memory that forked children share and nobody else sees."""
    parts = ring.parts(capacity)
    return Segment("bench", parts, mmap.mmap(-1, size_of(parts)))


# ---------------------------------------------------------------- one core


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
    if int(made["used"][0]) or int(made["peak"][0]) != 1 or int(made["refused"][0]):
        raise BenchError("pool: rows were lost")
    return Samples(ticks, 64)


@leaf
def _push_take(state, k):
    if ring.room(state.p, 1):
        slot = ring.claim(state.p, market_event_dtype)
        slot.ts_recv = k
        slot.ts_event = k
        slot.px = k * 3
        slot.qty = k
        slot.ref = k
        ring.commit(state.p, slot)
        ring.publish(state.p)
    if ring.ready(state.c):
        got = ring.take(state.c, market_event_dtype)
        if got.px != k * 3:
            state.c.lost += 1
        ring.done(state.c)


@benchmark("ring", COMPONENTS["ring"], about="push a 64-byte record and take it, one core")
def ring_same_core(lab: Lab):
    """Each record published and given back by itself."""
    memory, made = private_ring(1024), records(ring_pair_dtype, 1)
    state = made[0]
    ring.open_producer(state["p"], memory)
    ring.open_consumer(state["c"], memory, 0)
    n = lab.count(20_000, 500)
    ticks = measure("ring", _push_take, state, n, 64)
    wanted = (n + max(n // 10, 1)) * 64
    if int(state["c"]["next"]) != wanted or int(state["c"]["lost"]):
        raise BenchError(f"ring: {int(state['c']['next'])} of {wanted} records, {int(state['c']['lost'])} wrong")
    return Samples(ticks, 64)


# ---------------------------------------------------------------- two cores


def two_cores(child: Callable[[], bool], parent: Callable[[], None]) -> None:
    """Run `child` in a forked process on another core than `parent`. Raises BenchError where either failed."""
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        raise Skip("needs two cores")
    pid = os.fork()
    if pid == 0:
        try:
            os.sched_setaffinity(0, {allowed[-1]})
            os._exit(0 if child() else 1)
        except BaseException:
            traceback.print_exc()
            os._exit(2)
    try:
        os.sched_setaffinity(0, {allowed[-2]})
        parent()
    finally:
        os.sched_setaffinity(0, allowed)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code:
        raise BenchError(f"the process on the other core failed ({code})")


@hot
def _ping(mine, theirs, samples, n, step):
    """Round trips over bare lines: write `mine`, wait for `theirs`. step 2: both are one line, answered with the next number."""
    for i in range(n):
        begun = tsc()
        store_release_at(mine, i * step + 1)
        wanted = i * step + step
        turns = 0
        while load_acquire_at(theirs) != wanted:
            turns += 1
            if turns > PATIENCE:
                return i
        store64(samples + 8 * i, tsc() - begun)
    return n


@hot
def _pong(theirs, mine, n, step):
    for i in range(n):
        turns = 0
        while load_acquire_at(theirs) != i * step + 1:
            turns += 1
            if turns > PATIENCE:
                return False
        store_release_at(mine, i * step + step)
    return True


def _lines(lab: Lab) -> dict[int, np.ndarray]:
    n = lab.count(100_000, 3_000)
    return {2: _line_trips(n, 2, 0), 1: _line_trips(n, 1, 128)}


def _line_trips(n: int, step: int, apart: int) -> np.ndarray:
    memory = mmap.mmap(-1, 4096)
    at, samples = address(memory), np.zeros(n, np.int64)
    _ping(at, at, samples.ctypes.data, 0, step)
    _pong(at, at, 0, step)
    done: list[int] = []
    two_cores(
        lambda: bool(_pong(at, at + apart, n, step)),
        lambda: done.append(int(_ping(at, at + apart, samples.ctypes.data, n, step))),
    )
    if done != [n]:
        raise BenchError("cache lines: a round trip was lost")
    return samples


@benchmark("line", about="machine limit: round trip of bare cache lines between two cores")
def line_ping_pong(lab: Lab):
    """One line written by both sides in turn, and one line for each side."""
    found = lab.once("lines", lambda: _lines(lab))
    return [Samples(found[2], name="line_one"), Samples(found[1], name="line_two")]


def _line_limit(lab: Lab) -> float:
    found = lab.once("lines", lambda: _lines(lab))
    return min(float(np.median(ticks)) for ticks in found.values()) * lab.ns_per_tick


@hot
def _round_trips(p, c, samples, n):
    for i in range(n):
        begun = tsc()
        if not ring.room(p, 1):
            return i
        slot = ring.claim(p, market_event_dtype)
        slot.px = i
        slot.qty = i
        slot.ref = i
        ring.commit(p, slot)
        ring.publish(p)
        turns = 0
        while not ring.ready(c):
            turns += 1
            if turns > PATIENCE:
                return i
        got = ring.take(c, market_event_dtype)
        wrong = got.px != i + 1
        ring.done(c)
        store64(samples + 8 * i, tsc() - begun)
        if wrong:
            return i
    return n


@hot
def _echo(c, p, n):
    for _ in range(n):
        turns = 0
        while not ring.ready(c):
            turns += 1
            if turns > PATIENCE:
                return False
        got = ring.take(c, market_event_dtype)
        px, qty = got.px, got.qty
        if not ring.room(p, 1):
            return False
        slot = ring.claim(p, market_event_dtype)
        slot.px = px + 1
        slot.qty = qty
        ring.commit(p, slot)
        ring.publish(p)
        ring.done(c)
    return True


def _ends(memory: Segment) -> tuple[np.ndarray, np.ndarray]:
    p, c = records(ring.producer_dtype, 1), records(ring.consumer_dtype, 1)
    ring.open_producer(p[0], memory)
    ring.open_consumer(c[0], memory, 0)
    return p, c


@benchmark("ring_round_trip", about="64-byte record to another core and back, two rings (limit: bare line)")
def ring_round_trip(lab: Lab):
    """One record under way at a time."""
    n = lab.count(100_000, 3_000)
    there, back = private_ring(1024), private_ring(1024)
    (p1, c1), (p2, c2) = _ends(there), _ends(back)
    samples = np.zeros(n, np.int64)
    _round_trips(p1[0], c2[0], samples.ctypes.data, 0)
    _echo(c1[0], p2[0], 0)
    done: list[int] = []
    two_cores(
        lambda: bool(_echo(c1[0], p2[0], n)),
        lambda: done.append(int(_round_trips(p1[0], c2[0], samples.ctypes.data, n))),
    )
    if done != [n]:
        raise BenchError(f"ring_round_trip: {done[0]} of {n} records came back as they should")
    return Samples(samples, limit=_line_limit(lab))


@hot
def _pour(p, n, batch):
    done, empty = 0, 0
    while done < n:
        if not ring.room(p, batch):
            empty += 1
            if empty > PATIENCE:
                return False
            pause()
            continue
        empty = 0
        for _ in range(batch):
            slot = ring.claim(p, market_event_dtype)
            slot.ts_recv = done
            slot.ts_event = done
            slot.px = done
            slot.qty = done
            slot.ref = done
            ring.commit(p, slot)
            done += 1
        ring.publish(p)
    return True


@hot
def _drink(c, samples, n, per):
    """Take n * per records; a sample is the time of `per`. Returns how many were right."""
    right, at = 0, 0
    begun = tsc()
    for i in range(n):
        got, empty = 0, 0
        while got < per:
            there = min(ring.available(c), per - got)
            if there == 0:
                empty += 1
                if empty > PATIENCE:
                    return right
                continue
            empty = 0
            for _ in range(there):
                record = ring.take(c, market_event_dtype)
                if record.px == at and record.ref == at:
                    right += 1
                at += 1
            ring.done(c)
            got += there
        now = tsc()
        store64(samples + 8 * i, now - begun)
        begun = now
    return right


@hot
def _fill_lines(base, word, passes):
    """Write passes of LINES bare lines; each pass starts when the reader has told so in `word`."""
    for k in range(passes):
        turns = 0
        while load_acquire_at(word) != k + 1:
            turns += 1
            if turns > PATIENCE:
                return False
        for i in range(LINES):
            at = base + 64 * i
            for j in range(7):
                store64(at + 8 * j, k)
            store_release_at(at + 56, k + 1)
    return True


@hot
def _drain_lines(base, word, samples, passes):
    """Read the same lines as they come; a sample is a pass. Returns how many lines were right."""
    right = 0
    for k in range(passes):
        begun = tsc()
        store_release_at(word, k + 1)
        for i in range(LINES):
            at = base + 64 * i
            turns = 0
            while load_acquire_at(at + 56) != k + 1:
                turns += 1
                if turns > PATIENCE:
                    return right
            if load64(at) == k and load64(at + 48) == k:
                right += 1
        store64(samples + 8 * k, tsc() - begun)
    return right


def _stream_limit(lab: Lab) -> float:
    passes = lab.count(300, 30)
    memory = mmap.mmap(-1, LINES * 64 + 4096)
    base, word, samples = address(memory), address(memory) + LINES * 64 + 128, np.zeros(passes, np.int64)
    _fill_lines(base, word, 0)
    _drain_lines(base, word, samples.ctypes.data, 0)
    done: list[int] = []
    two_cores(
        lambda: bool(_fill_lines(base, word, passes)),
        lambda: done.append(int(_drain_lines(base, word, samples.ctypes.data, passes))),
    )
    if done != [passes * LINES]:
        raise BenchError("bare lines: content was wrong")
    return float(np.median(samples)) * lab.ns_per_tick / LINES


@benchmark("ring_stream", about="64-byte records to another core, in batches of 16 (limit: bare lines, no gate)")
def ring_stream(lab: Lab):
    """Throughput: the consumer's time per record, 1024 records a sample."""
    n, per = lab.count(2_000, 60), 1024
    memory = private_ring(LINES)
    p, c = _ends(memory)
    samples = np.zeros(n, np.int64)
    _pour(p[0], 0, 16)
    _drink(c[0], samples.ctypes.data, 0, per)
    done: list[int] = []
    two_cores(
        lambda: bool(_pour(p[0], n * per, 16)),
        lambda: done.append(int(_drink(c[0], samples.ctypes.data, n, per))),
    )
    if done != [n * per]:
        raise BenchError(f"ring_stream: {done[0]} of {n * per} records were right")
    return Samples(samples[1:], per, limit=_stream_limit(lab))
