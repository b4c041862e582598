"""Broken trades: whatever printed is taken out of volume and last price again, once, and the last price that stands is found."""

import random

import pytest

from hftd.msg.enums import EventKind
from tests.support import itch_messages as itch
from tests.support.feed_books import Feed
from tests.support.strategy_desk import PX, Desk


@pytest.fixture
def feed():
    made = Feed(orders=4096)
    made.apply(itch.directory(5, "AAPL"), itch.directory(6, "MSFT"))
    made.apply(itch.add(5, 1, "S", 900, 1_000_000), itch.add(6, 2, "S", 900, 2_000_000, "MSFT"))
    return made


def last(feed, index=0):
    quote = feed.build.tables["quotes"].rows[index]
    return int(quote["last_px"]), int(quote["last_qty"]), int(quote["volume"])


def test_each_kind_of_print_is_taken_back(feed):
    feed.apply(itch.executed(5, 1, 100, match=11), itch.executed_at(5, 1, 50, 999_000, match=12))
    feed.apply(itch.trade(5, 30, 998_000, match=13), itch.cross(5, 1000, 997_000, match=14))
    assert last(feed) == (997_000, 1000, 1180) and feed.counter("hidden_volume") == 1030
    for match, left in ((14, (998_000, 30, 180)), (13, (999_000, 50, 150)), (12, (1_000_000, 100, 100)), (11, (0, 0, 0))):
        feed.apply(itch.broken(5, match))
        assert last(feed) == left
    assert feed.counter("volume") == feed.counter("hidden_volume") == 0 and feed.counter("broken_volume") == 1180
    assert feed.sides(0)[1] == [[1_000_000, [[1, 750]]]], "a broken trade gives no order back"


def test_one_in_the_middle_leaves_the_last_price(feed):
    feed.apply(itch.executed(5, 1, 100, match=11), itch.trade(5, 30, 998_000, match=13), itch.executed(5, 1, 10, match=15))
    feed.apply(itch.broken(5, 13))
    assert last(feed) == (1_000_000, 10, 110)
    feed.apply(itch.broken(5, 15))
    assert last(feed) == (1_000_000, 100, 100), "over the one that is broken already"


def test_unknown_repeated_and_foreign_ones_change_nothing(feed):
    feed.apply(itch.executed(5, 1, 100, match=11), itch.executed_at(5, 1, 50, 999_000, printable=False, match=12))
    feed.apply(itch.broken(5, 99), itch.broken(5, 12), itch.broken(6, 11), itch.broken(5, 0), itch.broken(5, 2**64 - 1))
    assert last(feed) == (1_000_000, 100, 100) and feed.counter("broken_unknown") == 5
    feed.apply(itch.broken(5, 11), itch.broken(5, 11))
    assert last(feed) == (0, 0, 0) and feed.counter("broken_unknown") == 6 and feed.counter("broken") == 7


def test_one_that_is_too_old_is_counted():
    feed = Feed(orders=4096)
    feed.apply(itch.directory(5, "AAPL"))
    for match in range(1, (1 << 12) + 2):
        feed.apply(itch.trade(5, 1, 1_000_000 + match, match=match))
    feed.apply(itch.broken(5, 1))
    assert feed.counter("broken_unknown") == 1 and feed.counter("volume") == (1 << 12) + 1


@pytest.mark.parametrize("seed", range(4))
def test_volume_and_last_price_are_those_of_the_prints_that_stand(seed):
    """Against a list of all prints, from which the broken ones are struck."""
    chance, feed, prints = random.Random(seed), Feed(orders=4096), []
    feed.apply(itch.directory(5, "AAPL"), itch.directory(6, "MSFT"), itch.add(5, 1, "B", 1 << 20, 1_000_000))
    feed.apply(itch.add(6, 2, "B", 1 << 20, 500_000, "MSFT"))
    for match in range(1, 200):
        which = chance.randrange(2)
        px, qty = chance.randrange(1, 100) * 100, chance.randrange(1, 50)
        locate = 5 + which
        displayed = itch.executed_at(locate, 1 + which, qty, px, match=match)
        feed.apply(chance.choice((displayed, itch.trade(locate, qty, px, match=match), itch.cross(locate, qty, px, match=match))))
        prints.append([which, match, px, qty])
        if chance.random() < 0.4:
            broken = chance.choice(prints[-6:])
            feed.apply(itch.broken(5 + broken[0], broken[1]))
            broken[3] = 0
        for index in range(2):
            standing = [one for one in prints if one[0] == index and one[3]]
            assert last(feed, index)[2] == sum(one[3] for one in standing)
            assert last(feed, index)[:2] == (tuple(standing[-1][2:]) if standing else (0, 0))


def test_a_strategy_takes_it_back_too():
    desk = Desk()
    desk.event(EventKind.TRADE, PX, 100)
    desk.event(EventKind.TRADE, PX + 100, 40)
    book = desk.agent.books[0:1]
    assert (int(book["volume"][0]), int(book["last_px"][0])) == (140, PX + 100)
    desk.event(EventKind.BROKEN, PX + 100, 40, ref=9, orders=PX)
    assert (int(book["volume"][0]), int(book["last_px"][0])) == (100, PX)
    desk.event(EventKind.BROKEN, 0, 0, ref=9, orders=PX)
    assert (int(book["volume"][0]), int(book["last_px"][0])) == (100, PX)
