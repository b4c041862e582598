"""Benchmarks between two cores: bare cache lines, which are the machine's limit, and rings.

    line_one, line_two   core A ──▶ core B ──▶ core A    a word in one line that both write; a line for each direction
    line_walk            the same, the next line of WALK each time, as a ring goes through its slots
    ring_round_trip      a 64-byte record through two rings of WALK slots        (limit: line_walk)
    ring_one_way         half of it
    ring_stream          core A ──records──▶ core B      published by 16, taken by GATHER (limit: bare lines)
    ring_stream_slots    the same, each record seen in its slot as soon as it is there, given back in batches

A line that stays in both first-level caches goes back and forth in two thirds of the time of one that has been out of them since;
a ring of more than some dozen slots is of the second kind. A reader at the writer's heels costs both: it takes
the lines that are about to be written. Who takes GATHER at a time streams two to three times as fast.

Lines and rings are measured in turn, round by round, so that a change of the machine's mood meets both. Loops run in a forked child
pinned to another core; each is bounded by a number of empty polls. A memory's first lap is not counted: the child starts in it,
and both sides meet a page fault at every page.
"""

import mmap
import os
import traceback
from collections.abc import Callable

import numpy as np

from hftd.bench.core import fill, private_ring
from hftd.bench.registry import BenchError, Lab, Samples, Skip, benchmark, room_for
from hftd.core.atomics import load_acquire_at, pause, store_release_at, tsc
from hftd.core.jit import hot
from hftd.core.memory import address, load64, record_at, records, store64
from hftd.msg.records import market_event_dtype
from hftd.shm import ring
from hftd.shm.segment import Segment

PATIENCE = 4_000_000_000
"""Empty polls in a row, some seconds: the other core may be somebody else's for a while."""
WALK = 1024
"""Slots of the rings of a round trip, and lines of the bare walk."""
STREAM = 1 << 16
"""Capacity of the streamed ring: that of ring.md, where nothing else is configured; and lines of a pass of the bare stream."""
GATHER = 256
"""Records that the consumer of a stream lets gather before it takes them."""

ROUNDS = 5


def two_cores(child: Callable[[], bool], parent: Callable[[], None]) -> None:
    """Run `child` in a forked process on another core than `parent`. Raises BenchError where either failed."""
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        raise Skip("needs two cores")
    pid = os.fork()
    if pid == 0:
        code = 2
        try:
            os.sched_setaffinity(0, {allowed[-1]})
            code = 0 if child() else 1
        except Exception:
            traceback.print_exc()
        finally:
            os._exit(code)
    try:
        os.sched_setaffinity(0, {allowed[-2]})
        parent()
    finally:
        os.sched_setaffinity(0, allowed)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code:
        raise BenchError(f"the process on the other core failed ({code})")


@hot
def _ping(mine, theirs, samples, n, step, mask):
    """Round trips over bare lines: write `mine`, wait for `theirs`, the next of mask + 1 lines each time.

    step 2: both are one line, answered with the next number.
    """
    for i in range(n):
        begun = tsc()
        line = (i & mask) * 64
        store_release_at(mine + line, i * step + 1)
        wanted = i * step + step
        turns = 0
        while load_acquire_at(theirs + line) != wanted:
            turns += 1
            if turns > PATIENCE:
                return i
        store64(samples + 8 * i, tsc() - begun)
    return n


@hot
def _pong(theirs, mine, n, step, mask):
    for i in range(n):
        line = (i & mask) * 64
        turns = 0
        while load_acquire_at(theirs + line) != i * step + 1:
            turns += 1
            if turns > PATIENCE:
                return False
        store_release_at(mine + line, i * step + step)
    return True


def _line_trips(n: int, step: int, apart: int, lines: int = 1) -> np.ndarray:
    memory = mmap.mmap(-1, apart + 64 * lines + 4096)
    n += WALK                                     # the first lap
    at, samples, mask = address(memory), room_for(n), lines - 1
    _ping(at, at, samples.ctypes.data, 0, step, mask)
    _pong(at, at, 0, step, mask)
    done: list[int] = []
    two_cores(
        lambda: bool(_pong(at, at + apart, n, step, mask)),
        lambda: done.append(int(_ping(at, at + apart, samples.ctypes.data, n, step, mask))),
    )
    if done != [n]:
        raise BenchError("cache lines: a round trip was lost")
    return samples[WALK:]


@hot
def _round_trips(p, c, samples, n):
    for i in range(n):
        begun = tsc()
        if not ring.room(p, 1):
            return i
        slot = ring.claim(p, market_event_dtype)
        fill(slot, i)
        ring.commit(p, slot)
        turns, (there, at, number) = 0, ring.poll(c)
        while not there:
            turns += 1
            if turns > PATIENCE:
                return i
            there, at, number = ring.poll(c)
        got = record_at(at, market_event_dtype)
        ring.step_over(c, number)
        wrong = got.px != 3 * (i * 3 + 1)
        store64(samples + 8 * i, tsc() - begun)
        ring.done(c)
        ring.publish_new(p)
        if wrong:
            return i
    return n


@hot
def _echo(c, p, n):
    for _ in range(n):
        turns, (there, at, number) = 0, ring.poll(c)
        while not there:
            turns += 1
            if turns > PATIENCE:
                return False
            there, at, number = ring.poll(c)
        got = record_at(at, market_event_dtype)
        ring.step_over(c, number)
        px = got.px
        if not ring.room(p, 1):
            return False
        slot = ring.claim(p, market_event_dtype)
        fill(slot, px + 1)
        ring.commit(p, slot)
        ring.publish_new(p)
        ring.done(c)
    return True


def _ends(memory: Segment) -> tuple[np.ndarray, np.ndarray]:
    p, c = records(ring.producer_dtype, 1), records(ring.consumer_dtype, 1)
    ring.open_producer(p[0], memory)
    ring.open_consumer(c[0], memory, 0)
    return p, c


def _ring_trips(n: int) -> np.ndarray:
    there, back = private_ring(WALK), private_ring(WALK)
    (p1, c1), (p2, c2) = _ends(there), _ends(back)
    n += WALK                                     # the first lap
    samples = room_for(n)
    _round_trips(p1[0], c2[0], samples.ctypes.data, 0)
    _echo(c1[0], p2[0], 0)
    done: list[int] = []
    two_cores(
        lambda: bool(_echo(c1[0], p2[0], n)),
        lambda: done.append(int(_round_trips(p1[0], c2[0], samples.ctypes.data, n))),
    )
    if done != [n]:
        raise BenchError(f"ring_round_trip: {done[0]} of {n} records came back as they should")
    return samples[WALK:]


def _trips(lab: Lab) -> dict[str, np.ndarray]:
    """Round trips of one line, two lines, lines in turn, and two rings, round by round."""
    n = lab.count(20_000, 600)
    made: dict[str, list[np.ndarray]] = {"one": [], "two": [], "walk": [], "ring": []}
    for _ in range(ROUNDS):
        made["one"].append(_line_trips(n, 2, 0))
        made["two"].append(_line_trips(n, 1, 128))
        made["walk"].append(_line_trips(n, 1, 64 * WALK, WALK))
        made["ring"].append(_ring_trips(n))
    means = {name: np.array([np.sort(part)[: n * 9 // 10].mean() for part in parts]) for name, parts in made.items()}
    ratios = {f"of_{name}": means["ring"] / means[name] for name in ("one", "two", "walk")}
    return {**{name: np.concatenate(parts) for name, parts in made.items()}, **ratios}


def _all_trips(lab: Lab) -> dict[str, np.ndarray]:
    return lab.once("trips", lambda: _trips(lab))


def round_trips(lab: Lab) -> np.ndarray:
    """Return the ticks of a record's round trips over two rings, of this run."""
    return _all_trips(lab)["ring"]


@benchmark("line", about="machine limit: round trip of bare cache lines between two cores")
def line_ping_pong(lab: Lab):
    """One line written by both sides in turn, one line for each side, and the next of WALK lines for each side."""
    found = _all_trips(lab)
    return [Samples(found[name], name=f"line_{name}") for name in ("one", "two", "walk")]


def _line_limit(lab: Lab) -> float:
    return lab.median_ns(_all_trips(lab)["walk"])


@benchmark("ring_round_trip", about="64-byte record to another core and back, two rings (limit: bare lines in turn)")
def ring_round_trip(lab: Lab):
    """One record under way at a time. Ratios are of means without the slowest tenth: finer than the clock's step."""
    found = _all_trips(lab)
    one, two, walk = (np.median(found[f"of_{name}"]) for name in ("one", "two", "walk"))
    ratio = (f"{walk:.2f} of bare lines in turn, {two:.2f} of the same line each way, {one:.2f} of one for both: means without the "
             f"slowest tenth, {ROUNDS} rounds")  # fmt: skip
    return Samples(found["ring"], limit=_line_limit(lab), note=ratio)


@benchmark("ring_one_way", about="64-byte record to another core (limit: bare lines in turn, half a round trip)")
def ring_one_way(lab: Lab):
    """Half of the round trip: no clock but one core's own."""
    return Samples(_all_trips(lab)["ring"], 2, limit=_line_limit(lab) / 2)


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
            fill(slot, done)
            ring.commit(p, slot)
            done += 1
        ring.publish_new(p)
    return True


@hot
def _take_gathered(c, samples, n, per):
    """Take n * per records, GATHER at a time by the ring's tail; a sample is the time of `per`. Returns how many were right."""
    right, at = 0, 0
    begun = tsc()
    for i in range(n):
        got, empty = 0, 0
        while got < per:
            wanted = min(GATHER, per - got)
            if ring.available(c) < wanted:
                empty += 1
                if empty > PATIENCE:
                    return right
                pause()
                c.seen = c.next                       # look at the tail again
                continue
            empty = 0
            for _ in range(wanted):
                record = ring.take(c, market_event_dtype)
                if record.px == at * 3 and record.ref == at:
                    right += 1
                at += 1
            ring.done(c)
            got += wanted
        now = tsc()
        store64(samples + 8 * i, now - begun)
        begun = now
    return right


@hot
def _take_each(c, samples, n, per):
    """The same, but each record is seen in its slot; given back every 16 records, and where there is nothing."""
    right, at = 0, 0
    begun = tsc()
    for i in range(n):
        got, empty = 0, 0
        while got < per:
            there, slot_at, number = ring.poll(c)
            if not there:
                if empty == 0:
                    ring.done(c)
                empty += 1
                if empty > PATIENCE:
                    return right
                pause()
                continue
            empty = 0
            record = record_at(slot_at, market_event_dtype)
            ring.step_over(c, number)
            if record.px == at * 3 and record.ref == at:
                right += 1
            at += 1
            got += 1
            if at & 15 == 0:
                ring.done(c)
        now = tsc()
        store64(samples + 8 * i, now - begun)
        begun = now
    ring.done(c)
    return right


@hot
def _fill_lines(base, word, passes):
    """Write passes of STREAM bare lines; each pass starts when the reader has told so in `word`."""
    for k in range(passes):
        turns = 0
        while load_acquire_at(word) != k + 1:
            turns += 1
            if turns > PATIENCE:
                return False
        for i in range(STREAM):
            at = base + 64 * i
            for j in range(7):
                store64(at + 8 * j, k)
            store_release_at(at + 56, k + 1)
    return True


@hot
def _drain_lines(base, word, samples, passes, gather):
    """Read the same lines, `gather` at a time once the last is there; a sample is a pass. Returns how many were right."""
    right = 0
    for k in range(passes):
        begun = tsc()
        store_release_at(word, k + 1)
        for first in range(0, STREAM, gather):
            last = base + 64 * (first + gather - 1) + 56
            turns = 0
            while load_acquire_at(last) != k + 1:
                turns += 1
                if turns > PATIENCE:
                    return right
                pause()
            for i in range(first, first + gather):
                at = base + 64 * i
                if load64(at + 56) == k + 1 and load64(at) == k and load64(at + 48) == k:
                    right += 1
        store64(samples + 8 * k, tsc() - begun)
    return right


def _bare_stream(lab: Lab, gather: int) -> np.ndarray:
    """Ticks of passes of STREAM bare lines."""
    passes = 1 + lab.count(12, 2)                 # the first lap
    memory = mmap.mmap(-1, STREAM * 64 + 4096)
    base, word, samples = address(memory), address(memory) + STREAM * 64 + 128, room_for(passes)
    _fill_lines(base, word, 0)
    _drain_lines(base, word, samples.ctypes.data, 0, gather)
    done: list[int] = []
    two_cores(
        lambda: bool(_fill_lines(base, word, passes)),
        lambda: done.append(int(_drain_lines(base, word, samples.ctypes.data, passes, gather))),
    )
    if done != [passes * STREAM]:
        raise BenchError("bare lines: content was wrong")
    return samples[1:]


PER = 1024
"""Records of a sample of a stream."""


def _stream(lab: Lab, take) -> np.ndarray:
    """Ticks of a consumer's samples of PER records."""
    lap = STREAM // PER
    n = lap + lab.count(1_000, 40)
    memory = private_ring(STREAM)
    p, c = _ends(memory)
    samples = room_for(n)
    _pour(p[0], 0, 16)
    take(c[0], samples.ctypes.data, 0, PER)
    done: list[int] = []
    two_cores(
        lambda: bool(_pour(p[0], n * PER, 16)),
        lambda: done.append(int(take(c[0], samples.ctypes.data, n, PER))),
    )
    if done != [n * PER]:
        raise BenchError(f"stream: {done[0]} of {n * PER} records were right")
    return samples[lap:]


def _streams(lab: Lab) -> dict[str, np.ndarray]:
    """Bare lines, read one by one and gathered, and both ways to take a ring's records, in turn."""
    made: dict[str, list[np.ndarray]] = {"bare": [], "bare_gathered": [], "tail": [], "slots": []}
    for _ in range(ROUNDS):
        made["bare"].append(_bare_stream(lab, 1))
        made["bare_gathered"].append(_bare_stream(lab, GATHER))
        made["tail"].append(_stream(lab, _take_gathered))
        made["slots"].append(_stream(lab, _take_each))
    return {name: np.concatenate(parts) for name, parts in made.items()}


def _stream_row(lab: Lab, name: str) -> Samples:
    found = lab.once("streams", lambda: _streams(lab))
    bare, gathered = (lab.median_ns(found[kind]) / STREAM for kind in ("bare", "bare_gathered"))
    note = f"bare lines: {bare:.1f} one by one, {gathered:.1f} by {GATHER}"
    return Samples(found[name], PER, limit=min(bare, gathered), note=note)


@benchmark("ring_stream", about=f"64-byte records to another core, taken when {GATHER} wait (limit: bare lines, no ring)")
def ring_stream(lab: Lab):
    """Throughput: the consumer's time per record, PER records a sample."""
    return _stream_row(lab, "tail")


@benchmark("ring_stream_slots", about="the same, each record seen in its own slot as soon as it is there")
def ring_stream_slots(lab: Lab):
    """As the strategies take market events."""
    return _stream_row(lab, "slots")
