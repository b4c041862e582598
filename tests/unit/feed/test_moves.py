"""Slots compared and moved at once, compiled, equal the obvious loops."""

import random
import struct

import numpy as np
import pytest

from hftd.core.jit import hot
from hftd.feed.memory import LANES
from hftd.feed.moves import count_above, move_slots


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
