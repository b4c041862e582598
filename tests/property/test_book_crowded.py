"""More live orders than the cache holds: the engine then looks ahead in each run, which must change nothing but the time."""

import random

import pytest

from hftd.feed.build import CROWDED, MANY
from hftd.feed.memory import LANES
from tests.naive.book import NaiveBooks
from tests.support import itch_messages as itch
from tests.support.feed_books import Feed
from tests.support.interpreted import is_child

FULL = ("orders_full", "levels_full", "slots_full")
SYMBOLS = {locate: f"S{locate}" for locate in range(1, 9)}


@pytest.mark.skipif(is_child(), reason="tens of thousands of messages")
@pytest.mark.parametrize("many", [0, MANY])
@pytest.mark.parametrize("run", [2, 13, 100_000])
def test_a_crowded_store_makes_the_books_of_the_naive_twin(run, many):
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
    feed.build.agent["many"] = many
    for first in range(0, len(messages), run):
        feed.apply_framed(itch.framed(*messages[first : first + run]))
    for message in messages[:-1]:
        naive.apply(message)
    assert feed.counter("orders_peak") > CROWDED and feed.counter("messages") == len(messages)
    for locate, name in SYMBOLS.items():
        assert feed.sides(feed.instrument(name)) == tuple(naive.sides(locate))
    assert feed.counter("unknown_refs") == naive.errors["unknown_refs"] > 0


@pytest.mark.parametrize("run", [3, 13, 400])
def test_sides_that_grow_and_shrink_around_their_top_are_the_naive_twins_while_looking_ahead(run):
    """Their levels come and go through LANES and LANES + 1, before there is a block and after; stores run full now and then."""
    rng = random.Random(run)
    ahead, plain, naive = Feed(3, 112, 256), Feed(3, 112, 256), NaiveBooks()
    ahead.build.agent["crowded"] = ahead.build.agent["many"] = 0
    symbols = {locate: f"S{locate}" for locate in range(1, 4)}
    for feed in (ahead, plain):
        feed.build.agent["engine"]["slots"]["count"] = 16 + 4 * 32    # four blocks of SIDE_ROOM, or fewer
        feed.apply(*(itch.directory(locate, name) for locate, name in symbols.items()))
    live, ref, depths, wanted, wide = [], 0, set(), 400, 40
    for _ in range(min((600 if is_child() else 24_000) // run, 1_500)):
        if rng.random() < run / 400:
            wanted, wide = rng.choice((3, 30, 120, 400)), rng.choice((5, 12, 40))
        messages = []
        for _ in range(run):
            ref += 1
            locate, px = rng.randrange(1, 4), 1_000_000 + 100 * rng.randrange(wide)
            known = live.pop(rng.randrange(len(live))) if live and rng.random() < (0.8 if len(live) > wanted else 0.2) else None
            if known is None:
                messages.append(itch.add(locate, ref, rng.choice("BS"), 100, px, symbols[locate]))
            elif rng.random() < 0.6:
                messages.append(itch.delete(*known))
                continue
            else:
                locate = known[0]
                messages.append(itch.replace(*known, ref, 200, px))
            live.append((locate, ref))
        for message in messages:
            refused = [plain.counter(name) for name in FULL]
            plain.apply(message)
            if refused == [plain.counter(name) for name in FULL]:
                naive.apply(message)
            elif message[:1] == b"U":                 # the new half found no room, the old one is gone
                naive.remove(int.from_bytes(message[11:19], "big"))
        ahead.apply_framed(itch.framed(*messages))
        for index, locate in enumerate(symbols):
            sides = plain.sides(index)
            assert ahead.sides(index) == sides == tuple(naive.sides(locate)), f"run {run}, up to {ref}"
            depths.update(len(side) for side in sides)
    assert [ahead.counter(name) for name in FULL] == [plain.counter(name) for name in FULL]
    assert is_child() or (depths >= set(range(1, LANES + 3)) and all(plain.counter(name) for name in FULL))


def test_looks_at_nothing_leave_no_address_of_another_side_behind():
    """Behind the end of a run nothing is looked at, and the looks after it go on with what they knew: a side, and the top of it.

    A level that was a bid is an ask by then; its side has few levels, so what is next to the bids' top is before all slots.
    """
    shares, nothing = 0xFFFF7, [b"z" * 120] * 35      # in the slots, such a level's shares would be the row of a level
    feed = Feed(instruments=1, levels=16, orders=64)
    feed.build.agent["crowded"] = feed.build.agent["many"] = 0
    feed.apply(itch.directory(1, "S1"))
    feed.apply(*(itch.add(1, ref, "B", shares, 1_000_000 + 100 * ref, "S1") for ref in range(1, 16)))
    asks = [itch.add(1, ref, "S", shares, 2_000_000, "S1") for ref in (16, 17)]
    for run in ([*nothing, *nothing[:9], itch.delete(1, 1), *asks], nothing, nothing):
        feed.apply_framed(itch.framed(*run))
        assert int(feed.build.own["looks"].rows["level"].max()) < 16
    assert [len(side) for side in feed.sides(0)] == [14, 1]
