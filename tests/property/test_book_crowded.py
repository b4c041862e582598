"""More live orders than the cache holds: the engine then looks ahead in each run, which must change nothing but the time."""

import random

import pytest

from hftd.feed.build import CROWDED
from tests.naive.book import NaiveBooks
from tests.support import itch_messages as itch
from tests.support.feed_books import Feed
from tests.support.interpreted import is_child

SYMBOLS = {locate: f"S{locate}" for locate in range(1, 9)}


@pytest.mark.skipif(is_child(), reason="tens of thousands of messages")
@pytest.mark.parametrize("run", [2, 13, 100_000])
def test_a_crowded_store_makes_the_books_of_the_naive_twin(run):
    rng = random.Random(run)
    live, messages, ref = [], [itch.directory(locate, name) for locate, name in SYMBOLS.items()], 0
    for step in range(CROWDED + 30_000):
        known = rng.choice(live) if live and step > CROWDED + 2_000 and rng.random() < 0.6 else None
        if known is None:
            ref += rng.randrange(1, 4)
            locate = rng.randrange(1, 9)
            px = 1_000_000 + 100 * rng.randrange(60)
            messages.append(itch.add(locate, ref, rng.choice("BS"), 300, px, symbol=SYMBOLS[locate]))
            live.append((locate, ref))
        elif rng.random() < 0.4:
            messages.append(itch.delete(*known))
        elif rng.random() < 0.5:
            messages.append(itch.executed(*known, 100))
        else:
            ref += 1
            messages.append(itch.replace(*known, ref, 200, 1_000_000 + 100 * rng.randrange(60)))
            live.append((known[0], ref))
    messages.append(b"")

    feed, naive = Feed(instruments=8, levels=4096, orders=1 << 17), NaiveBooks()
    for first in range(0, len(messages), run):
        feed.apply_framed(itch.framed(*messages[first : first + run]))
    for message in messages[:-1]:
        naive.apply(message)
    assert feed.counter("orders_peak") > CROWDED and feed.counter("messages") == len(messages)
    for locate, name in SYMBOLS.items():
        assert feed.sides(feed.instrument(name)) == tuple(naive.sides(locate))
    assert feed.counter("unknown_refs") == naive.errors["unknown_refs"] > 0


def test_looks_at_nothing_leave_no_address_of_another_side_behind():
    """Behind the end of a run nothing is looked at, and the looks after it go on with what they knew: a side, and the top of it.

    A level that was a bid is an ask by then; its side has few levels, so what is next to the bids' top is before all slots.
    """
    shares, nothing = 0xFFFF7, [b"z" * 120] * 35      # in the slots, such a level's shares would be the row of a level
    feed = Feed(instruments=1, levels=16, orders=64)
    feed.build.agent["crowded"] = 0
    feed.apply(itch.directory(1, "S1"))
    feed.apply(*(itch.add(1, ref, "B", shares, 1_000_000 + 100 * ref, "S1") for ref in range(1, 16)))
    asks = [itch.add(1, ref, "S", shares, 2_000_000, "S1") for ref in (16, 17)]
    for run in ([*nothing, *nothing[:9], itch.delete(1, 1), *asks], nothing, nothing):
        feed.apply_framed(itch.framed(*run))
        assert int(feed.build.own["looks"].rows["level"].max()) < 16
    assert [len(side) for side in feed.sides(0)] == [14, 1]
