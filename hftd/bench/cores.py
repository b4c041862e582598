"""Benchmarks between two cores: bare cache lines, which are the machine's limit, and rings.

    line_one, line_two   core A ──▶ core B ──▶ core A    a word in one line that both write; a line for each direction
    ring_round_trip      the same with a 64-byte record through two rings      (limit: the better of the bare lines)
    ring_one_way         half of it
    ring_stream          core A ──records──▶ core B      batches of 16, the tail polled           (limit: bare lines, no ring)
    ring_stream_slots    the same, each record seen in its slot, given back in batches

Lines and rings are measured in turn, round by round, so that a change of the machine's mood meets both. Loops run in a forked child
pinned to another core; each is bounded by a number of empty polls.
"""

import mmap
import os
import traceback
from collections.abc import Callable

import numpy as np

from hftd.bench.core import fill, private_ring
from hftd.bench.registry import BenchError, Lab, Samples, Skip, benchmark
from hftd.core.atomics import load_acquire_at, pause, store_release_at, tsc
from hftd.core.jit import hot
from hftd.core.memory import address, load64, records, store64
from hftd.msg.records import market_event_dtype
from hftd.shm import ring
from hftd.shm.segment import Segment

PATIENCE = 4_000_000_000
"""Empty polls in a row, some seconds: the other core may be somebody else's for a while."""
LINES = 4096
"""Lines of a pass of the bare stream."""

STREAM = 1 << 16
"""Capacity of the streamed ring: that of ring.md, where nothing else is configured."""

ROUNDS = 5


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


@hot
def _round_trips(p, c, samples, n):
    for i in range(n):
        begun = tsc()
        if not ring.room(p, 1):
            return i
        slot = ring.claim(p, market_event_dtype)
        fill(slot, i)
        ring.commit(p, slot)
        turns = 0
        while not ring.ready(c):
            turns += 1
            if turns > PATIENCE:
                return i
        got = ring.take(c, market_event_dtype)
        wrong = got.px != 3 * (i * 3 + 1)
        store64(samples + 8 * i, tsc() - begun)
        ring.done(c)
        ring.publish(p)
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
        px = got.px
        if not ring.room(p, 1):
            return False
        slot = ring.claim(p, market_event_dtype)
        fill(slot, px + 1)
        ring.commit(p, slot)
        ring.publish(p)
        ring.done(c)
    return True


def _ends(memory: Segment) -> tuple[np.ndarray, np.ndarray]:
    p, c = records(ring.producer_dtype, 1), records(ring.consumer_dtype, 1)
    ring.open_producer(p[0], memory)
    ring.open_consumer(c[0], memory, 0)
    return p, c


def _ring_trips(n: int) -> np.ndarray:
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
    return samples


def _trips(lab: Lab) -> dict[str, np.ndarray]:
    """Round trips of one line, two lines and two rings, in turn."""
    n = lab.count(20_000, 600)
    made: dict[str, list[np.ndarray]] = {"one": [], "two": [], "ring": []}
    for _ in range(ROUNDS):
        made["one"].append(_line_trips(n, 2, 0))
        made["two"].append(_line_trips(n, 1, 128))
        made["ring"].append(_ring_trips(n))
    medians = {name: np.array([np.median(part) for part in parts]) for name, parts in made.items()}
    ratios = {f"of_{name}": medians["ring"] / medians[name] for name in ("one", "two")}
    return {**{name: np.concatenate(parts) for name, parts in made.items()}, **ratios}


def _all_trips(lab: Lab) -> dict[str, np.ndarray]:
    return lab.once("trips", lambda: _trips(lab))


def round_trips(lab: Lab) -> np.ndarray:
    """Return the ticks of a record's round trips over two rings, of this run."""
    return _all_trips(lab)["ring"]


@benchmark("line", about="machine limit: round trip of bare cache lines between two cores")
def line_ping_pong(lab: Lab):
    """One line written by both sides in turn, and one line for each side."""
    found = _all_trips(lab)
    return [Samples(found["one"], name="line_one"), Samples(found["two"], name="line_two")]


def _line_limit(lab: Lab) -> float:
    found = _all_trips(lab)
    return min(float(np.median(found[name])) for name in ("one", "two")) * lab.ns_per_tick


@benchmark("ring_round_trip", about="64-byte record to another core and back, two rings (limit: bare line)")
def ring_round_trip(lab: Lab):
    """One record under way at a time."""
    found = _all_trips(lab)
    one, two = (np.median(found[name]) for name in ("of_one", "of_two"))
    ratio = f"{two:.2f} of a bare line for each way, {one:.2f} of one line for both, medians of {ROUNDS} rounds"
    return Samples(found["ring"], limit=_line_limit(lab), note=ratio)


@benchmark("ring_one_way", about="64-byte record to another core (limit: bare line, half a round trip)")
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
                if record.px == at * 3 and record.ref == at:
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


@hot
def _sip(c, samples, n, per):
    """As _drink, but each record is seen in its slot; given back every 16 records, and where there is nothing."""
    right, at = 0, 0
    begun = tsc()
    for i in range(n):
        got, empty = 0, 0
        while got < per:
            if not ring.ready(c):
                if empty == 0:
                    ring.done(c)
                empty += 1
                if empty > PATIENCE:
                    return right
                continue
            empty = 0
            record = ring.take(c, market_event_dtype)
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


def _stream(lab: Lab, name: str, drink) -> Samples:
    n, per = lab.count(2_000, 60), 1024
    memory = private_ring(STREAM)
    p, c = _ends(memory)
    samples = np.zeros(n, np.int64)
    _pour(p[0], 0, 16)
    drink(c[0], samples.ctypes.data, 0, per)
    done: list[int] = []
    two_cores(
        lambda: bool(_pour(p[0], n * per, 16)),
        lambda: done.append(int(drink(c[0], samples.ctypes.data, n, per))),
    )
    if done != [n * per]:
        raise BenchError(f"{name}: {done[0]} of {n * per} records were right")
    return Samples(samples[1:], per, limit=lab.once("stream_limit", lambda: _stream_limit(lab)))


@benchmark("ring_stream", about="64-byte records to another core, in batches of 16 (limit: bare lines, no ring)")
def ring_stream(lab: Lab):
    """Throughput: the consumer's time per record, 1024 records a sample."""
    return _stream(lab, "ring_stream", _drink)


@benchmark("ring_stream_slots", about="the same, each record seen in its own slot")
def ring_stream_slots(lab: Lab):
    """As the strategies take market events."""
    return _stream(lab, "ring_stream_slots", _sip)
