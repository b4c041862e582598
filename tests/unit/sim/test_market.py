"""A synthetic market says nothing that cannot be: the naive twin believes every message, and the engine's books equal its own."""

from collections import Counter

import numpy as np

from hftd.core.memory import address, block
from hftd.sim.day import Market
from hftd.venues.nasdaq import itch50
from tests.naive.book import NaiveBooks
from tests.support.feed_books import Feed
from tests.support.interpreted import is_child

COUNT = 2_000 if is_child() else 40_000
SYMBOLS, LIVE = 5, 40


def said(seed: int, count: int = COUNT) -> tuple[Market, bytes]:
    """Return a market and its first `count` messages after the opening, framed."""
    market = Market(SYMBOLS, LIVE, seed, count)
    buffer = block(64 * count)
    at = address(buffer)
    end = market.run(at, at + len(buffer), count)
    return market, bytes(buffer[: end - at])


def test_a_seed_says_the_same_again_and_another_something_else():
    assert said(3)[1] == said(3)[1] != said(4)[1]


def test_the_naive_twin_believes_every_message_and_the_engine_agrees():
    market, raw = said(11)
    naive, feed = NaiveBooks(), Feed(instruments=SYMBOLS, levels=4096, orders=4096)
    feed.apply_framed(market.opening())
    refs: set[int] = set()
    for message in itch50.unframed(raw):
        assert len(message) == itch50.LENGTH[message[0]]
        naive.apply(message)
        if chr(message[0]) in "AFU":
            ref = int.from_bytes(message[19:27] if message[:1] == b"U" else message[11:19], "big")
            assert ref > max(refs, default=0)
            refs = {ref}
            bids, asks = naive.sides(int.from_bytes(message[1:3], "big"))
            assert not bids or not asks or bids[0][0] < asks[0][0], "never crossed, never locked"
    feed.apply_framed(raw)
    assert not any(naive.errors.values())
    for index in range(SYMBOLS):
        assert feed.sides(index) == tuple(naive.sides(index + 1))
    counters = feed.build.counters
    wrong = ("unknown_refs", "duplicate_refs", "overfills", "bad_fields", "crossed", "locked")
    assert not any(int(counters[name]) for name in wrong)
    assert int(counters["orders_live"]) == len(naive.orders) == int(np.sum(market.listings["count"]))


def test_the_mix_is_that_of_a_real_day_and_the_books_keep_their_size():
    market, raw = said(5)
    kinds = Counter(chr(message[0]) for message in itch50.unframed(raw))
    total = sum(kinds.values())
    assert total == COUNT
    for names, low, high in (("AF", 0.36, 0.55), ("D", 0.32, 0.48), ("U", 0.06, 0.14), ("EC", 0.03, 0.07), ("X", 0.003, 0.02)):
        assert low <= sum(kinds[name] for name in names) / total <= high, (names, kinds)
    assert LIVE * SYMBOLS * 0.4 <= int(np.sum(market.listings["count"])) <= LIVE * SYMBOLS * 3


def test_packets_hold_the_same_messages_numbered_without_a_gap():
    market = Market(SYMBOLS, LIVE, 3, COUNT)
    buffer = block(96 * COUNT)
    at = address(buffer)
    end, held, found, expected = market.packets(at, at + len(buffer), COUNT), 0, bytearray(), 1
    while at + held < end:
        size = int.from_bytes(buffer[held : held + 8], "little")
        packet = buffer[held + 8 : held + 8 + size]
        assert size <= 1400 and packet[:10] == b"SYNTHETIC " and int.from_bytes(packet[10:18], "big") == expected
        expected += int.from_bytes(packet[18:20], "big")
        found += packet[20:]
        held += (8 + size + 7) & -8
    assert bytes(found) == said(3)[1] and expected == COUNT + 1
