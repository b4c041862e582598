"""Slots compared and moved at once, compiled, equal the obvious loops."""

import random
import struct

import numpy as np
import pytest

from hftd.core.jit import hot
from hftd.feed.memory import LANES
from hftd.feed.moves import count_above, move_slots
from tests.support import itch_messages as itch
from tests.support.feed_books import Feed


@hot
def count(address, word):
    return count_above(address, word)


@hot
def move(target, source):
    move_slots(target, source)


@pytest.mark.parametrize("seed", range(20))
def test_as_many_words_are_above_as_a_loop_finds(seed):
    rng = random.Random(seed)
    some = [rng.choice((rng.randrange(-9, 9), rng.getrandbits(63), -rng.getrandbits(63))) for _ in range(LANES)]
    words = np.array(some, np.int64)
    for word in (*words.tolist(), 0, -(1 << 63), (1 << 63) - 1):
        assert count(words.ctypes.data, word) == sum(value > word for value in words.tolist())


@pytest.mark.parametrize("by", [-8, 8, 0, 80])
def test_ranges_that_overlap_are_read_before_they_are_written(by):
    raw = np.arange(64, dtype=np.int64)
    before = raw.tobytes()
    start = 16 * 8
    move(raw.ctypes.data + start + by, raw.ctypes.data + start)
    wanted = bytearray(before)
    wanted[start + by : start + by + 8 * LANES] = before[start : start + 8 * LANES]
    assert struct.unpack("64q", raw.tobytes()) == struct.unpack("64q", bytes(wanted))


def test_what_is_left_in_free_blocks_names_no_level_that_is_none():
    """Looking ahead reads slots that may be stale by then: every word that can stand there must hold the row of a level."""
    feed = Feed(levels=128, orders=1024)
    for locate in range(1, 7):
        feed.apply(itch.directory(locate, f"S{locate}"))
    for place in range(20):                           # all sides have a block before the first outgrows it
        for locate in range(1, 7):
            feed.apply(itch.add(locate, 100 * place + locate, "B", 100, 1_000_000 + 100 * place, f"S{locate}"))
    slots, blocks = feed.build.tables["slots"].rows, feed.build.own["blocks"].rows
    free = int(blocks["free"][0])
    assert free > 128 + 32, "six blocks wait, and the link of the last, at least, is no row of a level"
    assert int(slots["level"].max()) < 128
    for locate in range(1, 7):
        feed.apply(itch.add(locate, 9000 + locate, "S", 100, 2_000_000, f"S{locate}"))
    assert int(blocks["free"][0]) == 0, "and all were taken again"
    assert all(len(bids) == 20 and len(asks) == 1 for bids, asks in map(feed.sides, range(6)))
