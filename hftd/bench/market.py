"""Benchmarks of market data: framing and decoding alone, then with books, from a recorded file or from messages of a seed.

    parse    file in memory ──▶ every field of every message, swapped          per message, 256 messages a sample
    book     file in memory ──▶ order store, price levels, quotes, counters    the same, and the books are right at the end
"""

import os
import tempfile
from pathlib import Path

import numpy as np

from hftd.bench.flow import Flow, make_flow
from hftd.bench.registry import BenchError, Lab, Samples, benchmark, room_for
from hftd.core.atomics import tsc
from hftd.core.jit import hot
from hftd.core.memory import load16, load64, store64, swap16
from hftd.feed.replay import Replay, decode_run
from hftd.venues.nasdaq.itchfeed import apply_run

PER = 256


@hot
def _marks(at, end, per, marks):
    """Store the address of every `per`-th message, and the end; return how many whole groups there are."""
    groups, count = 0, 0
    while at < end:
        if count % per == 0:
            store64(marks + 8 * groups, at)
            groups += 1
        at += 2 + swap16(load16(at))
        count += 1
    groups = count // per
    if count % per == 0:
        store64(marks + 8 * groups, end)
    return groups


@hot
def _decode(marks, groups, samples):
    total = 0
    for i in range(groups):
        begun = tsc()
        total += decode_run(load64(marks + 8 * i), load64(marks + 8 * i + 8))
        store64(samples + 8 * i, tsc() - begun)
    return total


@hot
def _apply(agent, marks, groups, samples, per):
    seq = 1
    for i in range(groups):
        begun = tsc()
        seq += apply_run(agent, load64(marks + 8 * i), load64(marks + 8 * i + 8), seq)
        store64(samples + 8 * i, tsc() - begun)
    return seq - 1


class _File:
    """The messages in memory, cut into groups."""

    def __init__(self, lab: Lab):
        self.flow: Flow | None = None
        if lab.data is not None:
            self.replay = Replay(lab.data)
        else:
            self.flow = make_flow(lab.count(300_000, 30_000), lab.seed)
            handle, name = tempfile.mkstemp(suffix=".itch")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(self.flow.data)
                self.replay = Replay(name)
            finally:
                Path(name).unlink()
        self.marks = np.zeros(self.replay.messages // PER + 2, np.int64)
        self.groups = int(_marks(self.replay.at, self.replay.end, PER, self.marks.ctypes.data))
        self.source = lab.data.name if lab.data is not None else f"{self.replay.messages} messages from seed {lab.seed}"
        if self.groups < 10:
            raise BenchError(f"{self.source}: {self.replay.messages} messages are too few to time")

    def whole(self) -> np.ndarray:
        """Apply the file to empty books and check them. Returns the samples."""
        replay, samples = self.replay, room_for(self.groups)
        replay.clear()
        count = int(_apply(replay.build.agent, self.marks.ctypes.data, self.groups, samples.ctypes.data, PER))
        tail = replay.end - int(self.marks[self.groups])
        if tail:
            count += int(apply_run(replay.build.agent, int(self.marks[self.groups]), replay.end, count + 1))
        if count != replay.messages:
            raise BenchError(f"book: {count} of {replay.messages} messages were applied")
        return samples

    def check(self) -> int:
        """Compare the books with the generator's own; return their checksum."""
        if self.flow is not None:
            agent, quotes = self.replay.build.agent, self.replay.build.tables["quotes"].rows
            names = [int(row["symbol"]) for row in self.replay.build.tables["instruments"].rows[: int(agent["used"])]]
            for symbol, best in zip(self.flow.symbols, self.flow.best):
                at = names.index(int.from_bytes(symbol.encode().ljust(8), "little"))
                seen = tuple(int(quotes[at][field]) for field in ("bid_px", "bid_qty", "ask_px", "ask_qty"))
                if seen != best:
                    raise BenchError(f"book: {symbol} ends at {seen}, should be {best}")
        return self.replay.checksum()


def _file(lab: Lab) -> _File:
    return lab.once("file", lambda: _File(lab))


@benchmark("parse", budget=50, about="decode every field of an ITCH message")
def parse(lab: Lab):
    """Passes over the whole file; each pass must give the same sum."""
    file = _file(lab)
    expected = file.replay.decode()[1]
    passes = [room_for(file.groups) for _ in range(lab.count(8, 2))]
    sums = {int(_decode(file.marks.ctypes.data, file.groups, samples.ctypes.data)) for samples in passes}
    last = int(file.marks[file.groups])
    rest = int(decode_run(last, file.replay.end))
    if len(sums) != 1 or (sums.pop() + rest - expected) & (1 << 64) - 1:
        raise BenchError("parse: the fields do not add up to the same sum each time")
    return Samples(np.concatenate(passes), PER, note=file.source)


@benchmark("book", budget=100, about="decode an ITCH message and update the books")
def book(lab: Lab):
    """Passes from empty books; after each the books must be what they should be."""
    file = _file(lab)
    file.whole()
    checksum = file.check()
    passes = []
    for _ in range(lab.count(8, 2)):
        passes.append(file.whole())
        if file.check() != checksum:
            raise BenchError("book: two passes end in different books")
    most = int(file.replay.build.counters["orders_peak"])
    return Samples(np.concatenate(passes), PER, note=f"{file.source}, at most {most:,} orders live")
