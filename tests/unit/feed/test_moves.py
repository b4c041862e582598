"""Slots compared and moved at once, compiled, equal the obvious loops; and nothing beside them is touched."""

import random

import numpy as np
import pytest

from hftd.core.jit import hot
from hftd.feed.memory import LANES
from hftd.feed.moves import close_slot, count_above, open_slot, put_slot, take_slot
from tests.support import itch_messages as itch
from tests.support.feed_books import Feed


@hot
def count(address, word):
    return count_above(address, word)


@hot
def put(address, lane, word):
    put_slot(address, lane, word)


@hot
def take(address, lane, word):
    take_slot(address, lane, word)


@hot
def open_(address, lane):
    open_slot(address, lane)


@hot
def close(address, lane):
    close_slot(address, lane)


@pytest.mark.parametrize("seed", range(20))
def test_as_many_words_are_above_as_a_loop_finds(seed):
    rng = random.Random(seed)
    some = [rng.choice((rng.randrange(-9, 9), rng.getrandbits(63), -rng.getrandbits(63))) for _ in range(LANES)]
    words = np.array(some, np.int64)
    for word in (*words.tolist(), 0, -(1 << 63), (1 << 63) - 1):
        assert count(words.ctypes.data, word) == sum(value > word for value in words.tolist())


ROUND = 4
"""Words on either side that nobody may touch."""


def words_after(change, lane, *more):
    """Let `change` work on LANES words among others; return those before, these after, with one beyond, and check the others."""
    raw = np.arange(100, 100 + ROUND + LANES + ROUND, dtype=np.int64)
    before = raw.tolist()
    change(raw.ctypes.data + 8 * ROUND, lane, *more)
    after = raw.tolist()
    assert after[:ROUND] == before[:ROUND] and after[ROUND + LANES + 1 :] == before[ROUND + LANES + 1 :]
    return before[ROUND : ROUND + LANES], after[ROUND : ROUND + LANES + 1], before[ROUND + LANES]


@pytest.mark.parametrize("lane", range(LANES))
def test_a_word_put_in_pushes_what_is_below_down(lane):
    before, after, beyond = words_after(put, lane, -7)
    assert after == [*before[1 : lane + 1], -7, *before[lane + 1 :], beyond]


@pytest.mark.parametrize("lane", range(LANES))
def test_a_word_taken_out_pulls_what_is_below_up(lane):
    before, after, beyond = words_after(take, lane, -7)
    assert after == [-7, *before[:lane], *before[lane + 1 :], beyond]


@pytest.mark.parametrize("lane", range(LANES + 1))
def test_a_place_is_opened_by_moving_what_is_above_up(lane):
    before, after, _ = words_after(open_, lane)
    assert after[:lane] == before[:lane] and after[lane + 1 :] == before[lane:]


@pytest.mark.parametrize("lane", range(LANES))
def test_a_place_is_closed_by_moving_what_is_above_down(lane):
    before, after, beyond = words_after(close, lane)
    assert after[: LANES - 1] == [*before[:lane], *before[lane + 1 :]] and after[LANES] == beyond


def test_what_is_left_in_free_blocks_names_no_level_that_is_none():
    """Looking ahead reads slots that may be stale by then: every word that can stand there must hold the row of a level."""
    feed = Feed(levels=161, orders=1024)
    for locate in range(1, 7):
        feed.apply(itch.directory(locate, f"S{locate}"))
    for place in range(LANES + 17):                   # all sides have a block before the first outgrows it
        for locate in range(1, 7):
            feed.apply(itch.add(locate, 100 * place + locate, "B", 100, 1_000_000 + 100 * place, f"S{locate}"))
    slots, blocks = feed.build.tables["slots"].rows, feed.build.own["blocks"].rows
    free = int(blocks["free"][0])
    assert free > 161, "six blocks wait, and the link of the last, at least, is no row of a level"
    assert int(slots["level"].max()) < 161
    for place in range(LANES + 1):
        feed.apply(itch.add(1, 9000 + place, "S", 100, 9_000_000 + 100 * place, "S1"))
    assert 0 < int(blocks["free"][0]) < free, "one was taken again"
    bids, asks = feed.sides(0)
    assert (len(bids), len(asks)) == (LANES + 17, LANES + 1)
