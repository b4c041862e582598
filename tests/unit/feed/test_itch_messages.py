"""What each message does to books, instruments, quotes and counters; and what hostile ones must not do."""

import random

import pytest

from hftd.feed.memory import SHARES_AT
from hftd.msg.enums import BookState, TradingState
from hftd.msg.records import INSTRUMENT_ANNOUNCED, INSTRUMENT_SHORT_RESTRICTED, INSTRUMENT_TEST
from hftd.venues.nasdaq.itch50 import LENGTH
from tests.support import itch_messages as itch
from tests.support.feed_books import Feed


@pytest.fixture
def feed():
    made = Feed()
    made.apply(itch.directory(5, "AAPL"))
    return made


def test_an_order_lives_through_execution_cancel_replace_and_delete(feed):
    feed.apply(itch.add(5, 1, "B", 300, 1_000_000), itch.add(5, 2, "B", 100, 1_000_000, mpid="NITE"))
    feed.apply(itch.add(5, 3, "S", 50, 1_000_200))
    assert feed.sides(0) == ([[1_000_000, [[1, 300], [2, 100]]]], [[1_000_200, [[3, 50]]]])
    feed.apply(itch.executed(5, 1, 100), itch.cancel(5, 1, 50))
    assert feed.sides(0)[0] == [[1_000_000, [[1, 150], [2, 100]]]] and feed.quote(0) == (1_000_000, 250, 1_000_200, 50)
    feed.apply(itch.replace(5, 1, 4, 500, 1_000_000))
    assert feed.sides(0)[0] == [[1_000_000, [[2, 100], [4, 500]]]]
    feed.apply(itch.executed_at(5, 2, 100, 999_900), itch.delete(5, 4), itch.delete(5, 3))
    assert feed.sides(0) == ([], []) and feed.quote(0) == (0, 0, 0, 0)

    assert feed.counter("orders_live") == feed.counter("levels_live") == 0
    assert feed.counter("volume") == 200 and feed.counter("trades") == 2


@pytest.mark.parametrize("px", [0, 2_000_000_001])
def test_an_execution_at_a_price_that_cannot_be_takes_the_shares_and_prints_nothing(feed, px):
    feed.apply(itch.add(5, 1, "S", 900, 1_000_000), itch.executed(5, 1, 100), itch.executed_at(5, 1, 100, px))
    quote = feed.build.tables["quotes"].rows[0]
    assert (quote["last_px"], quote["last_qty"], quote["volume"]) == (1_000_000, 100, 100)
    assert feed.sides(0)[1] == [[1_000_000, [[1, 700]]]] and feed.counter("bad_fields") == 1 and feed.counter("volume") == 100


def test_volume_follows_the_printable_rule(feed):
    feed.apply(itch.add(5, 1, "S", 900, 1_000_000))
    feed.apply(itch.executed(5, 1, 100), itch.executed_at(5, 1, 100, 999_000))
    feed.apply(itch.executed_at(5, 1, 100, 999_000, printable=False))
    feed.apply(itch.trade(5, 30, 999_500), itch.cross(5, 1000, 999_600), itch.cross(5, 0, 0), itch.broken(5, 7))

    assert feed.counter("volume") == 100 + 100 + 30 + 1000 and feed.counter("hidden_volume") == 1030
    assert feed.counter("trades") == 2 and feed.counter("hidden_trades") == 3 and feed.counter("non_printable") == 1
    assert feed.counter("broken") == 1
    quote = feed.build.tables["quotes"].rows[0]
    assert (quote["last_px"], quote["last_qty"], quote["volume"]) == (999_600, 1000, 1230)
    assert feed.sides(0)[1] == [[1_000_000, [[1, 600]]]]


def test_instruments_that_are_not_followed_never_enter_the_store():
    feed = Feed(symbols=("AAPL", "MSFT"))
    feed.apply(itch.directory(5, "AAPL"), itch.directory(6, "ZZZZ"), itch.directory(7, "MSFT"))
    feed.apply(itch.add(6, 1, "B", 100, 1_000_000, symbol="ZZZZ"), itch.executed(6, 1, 100), itch.delete(6, 9), itch.trade(6, 1, 1))
    feed.apply(itch.add(7, 2, "S", 100, 1_000_000, symbol="MSFT"), itch.add(8, 3, "S", 100, 1_000_000, symbol="QQQ"))

    assert feed.counter("orders_live") == 1 and feed.counter("skipped") == 6 and feed.counter("unknown_refs") == 0
    assert feed.instrument("AAPL") == 0 and feed.sides(1)[1] == [[1_000_000, [[2, 100]]]]


def test_an_instrument_is_learnt_from_any_message_that_names_it():
    feed = Feed()
    feed.apply(itch.add(77, 1, "B", 100, 1_000_000, symbol="LATE"), itch.delete(78, 5))

    assert feed.instrument("LATE") == 0 and feed.sides(0)[0] == [[1_000_000, [[1, 100]]]]
    assert feed.counter("skipped") == 1


def test_a_full_instrument_table_is_counted():
    feed = Feed(instruments=2)
    feed.apply(*(itch.directory(locate, f"S{locate}") for locate in range(1, 5)))

    assert feed.counter("instruments_full") == 2 and int(feed.build.agent["used"]) == 2


def test_an_instrument_that_changes_its_locate_leaves_the_old_one(feed):
    feed.apply(itch.directory(9, "AAPL"), itch.add(5, 1, "B", 100, 1_000_000, symbol="AAPL"), itch.add(9, 2, "B", 100, 1_000_000))

    assert feed.sides(0)[0] == [[1_000_000, [[2, 100]]]]


def test_directory_state_and_restrictions_reach_the_tables(feed):
    rows, quotes = feed.build.tables["instruments"].rows, feed.build.tables["quotes"].rows
    assert rows["flags"][0] == INSTRUMENT_ANNOUNCED and rows["locate"][0] == 5 and rows["lot"][0] == 100
    feed.apply(itch.directory(6, "ZVZZT", lot=10, test=True))
    assert rows["flags"][1] == INSTRUMENT_ANNOUNCED | INSTRUMENT_TEST and rows["lot"][1] == 10
    codes = {"T": TradingState.TRADING, "H": TradingState.HALTED, "P": TradingState.PAUSED, "Q": TradingState.QUOTE_ONLY}
    for code, state in codes.items():
        feed.apply(itch.action(5, code))
        assert quotes["trading"][0] == state
    feed.apply(itch.action(5, "T"), itch.operational(5, "X", "H"))
    assert quotes["trading"][0] == TradingState.TRADING
    feed.apply(itch.operational(5, "Q", "H"))
    assert quotes["trading"][0] == TradingState.HALTED
    feed.apply(itch.operational(5, "Q", "T"), itch.reg_sho(5, "1"))
    assert quotes["trading"][0] == TradingState.TRADING and rows["flags"][0] & INSTRUMENT_SHORT_RESTRICTED
    feed.apply(itch.reg_sho(5, "0"))
    assert not rows["flags"][0] & INSTRUMENT_SHORT_RESTRICTED


def test_every_type_is_counted_and_the_quiet_ones_move_nothing(feed):
    feed.apply(itch.add(5, 1, "B", 100, 1_000_000))
    before, quote = feed.sides(0), feed.quote(0)
    feed.apply(*itch.others(5), itch.system("Q"), itch.imbalance(5, 100, 50, "S", 1_000_000), itch.trade(5, 1, 1))

    assert feed.sides(0) == before and feed.quote(0) == quote
    assert feed.counter("notices") == 5 and feed.counter("breakers") == 2 and feed.counter("imbalances") == 1
    assert feed.counter("skipped") == 0
    types = feed.build.tables["types"].rows["count"]
    assert all(types[ord(kind)] == 1 for kind in "RALVWKJNOSIP")


def test_unknown_types_and_wrong_lengths_are_counted_and_skipped(feed):
    feed.apply(itch.add(5, 1, "B", 100, 1_000_000))
    before = feed.sides(0)
    feed.apply(b"z", b"Z" * 40, b"\x00" * 19, itch.delete(5, 1) + b"x", itch.delete(5, 1)[:-1], itch.add(5, 2, "B", 1, 1)[:11])

    assert feed.counter("unknown_types") == 3 and feed.counter("bad_lengths") == 3
    assert feed.sides(0) == before


def test_contradictions_taint_the_book_and_are_survived(feed):
    feed.apply(itch.add(5, 1, "B", 100, 1_000_000), itch.directory(6, "MSFT"), itch.add(6, 2, "S", 100, 900_000, symbol="MSFT"))
    feed.apply(itch.delete(5, 99), itch.executed(5, 2, 10), itch.replace(5, 98, 97, 100, 1_000_000), itch.cancel(5, 96, 1))
    feed.apply(itch.add(5, 1, "S", 100, 2_000_000))
    assert feed.counter("unknown_refs") == 4 and feed.counter("duplicate_refs") == 1
    assert feed.sides(0) == ([[1_000_000, [[1, 100]]]], []) and feed.sides(1)[1] == [[900_000, [[2, 100]]]]
    assert int(feed.build.tables["books"].rows["taints"][0]) == 5
    feed.apply(itch.executed(5, 1, 101))
    assert feed.counter("overfills") == 1 and feed.sides(0) == ([], [])


def test_impossible_fields_change_nothing(feed):
    feed.apply(itch.add(5, 1, "B", 100, 1_000_000))
    feed.apply(itch.add(5, 2, "B", 0, 1_000_000), itch.add(5, 3, "Z", 100, 1_000_000), itch.add(5, 4, "B", 100, 0))
    feed.apply(itch.add(5, 5, "B", 100, 2_000_000_001), itch.executed(5, 1, 0), itch.cancel(5, 1, 0))

    assert feed.counter("bad_fields") == 6 and feed.sides(0) == ([[1_000_000, [[1, 100]]]], [])
    feed.apply(itch.add(5, 6, "S", 2**32 - 1, 2_000_000_000))
    assert feed.sides(0)[1] == [[2_000_000_000, [[6, 2**32 - 1]]]]


def test_references_of_all_64_bits_are_told_apart(feed):
    refs = [1, 1 << 63, (1 << 64) - 1, (1 << 63) + 1, 0]
    feed.apply(*(itch.add(5, ref, "B", 100, 1_000_000) for ref in refs))
    assert feed.sides(0)[0] == [[1_000_000, [[ref, 100] for ref in refs]]]
    feed.apply(*(itch.delete(5, ref) for ref in refs[1:]))
    assert feed.sides(0)[0] == [[1_000_000, [[1, 100]]]]


def test_a_crossed_and_a_locked_book_are_counted(feed):
    feed.apply(itch.add(5, 1, "B", 100, 1_000_000), itch.add(5, 2, "S", 100, 1_000_000), itch.add(5, 3, "S", 100, 999_900))
    feed.apply(itch.add(5, 4, "S", 100, 1_000_100))

    assert feed.counter("locked") == 1 and feed.counter("crossed") == 1
    assert feed.quote(0) == (1_000_000, 100, 999_900, 100)


def test_a_full_order_store_makes_the_book_stale_and_goes_on(feed):
    room = feed.build.orders.count - 1
    feed.apply(*(itch.add(5, ref, "B", 100, 1_000_000 + 100 * (ref % 50)) for ref in range(1, room + 11)))
    assert feed.counter("orders_full") == 10 and feed.counter("orders_live") == room
    assert feed.build.tables["quotes"].rows["state"][0] == BookState.STALE
    feed.apply(*(itch.delete(5, ref) for ref in range(1, room + 1)))
    assert feed.sides(0) == ([], []) and feed.counter("orders_live") == 0 and feed.counter("levels_live") == 0


def test_a_full_level_store_makes_the_book_stale_and_goes_on():
    feed = Feed(levels=64)
    feed.apply(itch.directory(5, "AAPL"), *(itch.add(5, ref, "S", 100, 1_000_000 + 100 * ref) for ref in range(1, 80)))
    assert feed.counter("levels_full") == 16 and feed.counter("levels_live") == feed.counter("orders_live") == 63
    feed.apply(itch.add(5, 100, "S", 100, 1_000_100))
    assert len(feed.sides(0)[1]) == 63 and len(feed.sides(0)[1][0][1]) == 2


def test_more_shares_than_a_level_counts_are_refused_and_no_total_is_wrong():
    """A level has 47 bits for its shares: 32,768 orders of the largest size that a message can name."""
    feed = Feed()
    feed.apply(itch.directory(5, "AAPL"), itch.add(5, 1, "S", 100, 1_000_000))
    held = feed.build.tables["levels"].rows["held"]
    level = int(feed.build.tables["books"].rows["sides"][0, 1]["best"])
    held[level] += ((1 << 47) - 300) << SHARES_AT
    feed.apply(itch.add(5, 2, "S", 199, 1_000_000))
    assert feed.counter("levels_full") == 0 and int(held[level]) >> SHARES_AT == (1 << 47) - 1
    feed.apply(itch.add(5, 3, "S", 1, 1_000_000))
    assert feed.counter("levels_full") == 1 and feed.counter("orders_live") == 2
    assert int(held[level]) == ((1 << 47) - 1) << SHARES_AT
    assert feed.build.tables["quotes"].rows["state"][0] == BookState.STALE
    held[level] -= ((1 << 47) - 300) << SHARES_AT
    assert feed.sides(0)[1] == [[1_000_000, [[1, 100], [2, 199]]]]


@pytest.mark.parametrize("order", ["rising", "falling", "random"])
def test_thousands_of_levels_grow_without_loss(order):
    feed = Feed(levels=8192, orders=8192)
    refs = list(range(1, 5001))
    if order == "falling":
        refs.reverse()
    elif order == "random":
        random.Random(3).shuffle(refs)
    feed.apply(itch.directory(5, "AAPL"))
    assert feed.apply_framed(b"".join(itch.framed(itch.add(5, ref, "S", ref, 1_000_000 + 100 * ref)) for ref in refs)) == 5000
    bids, asks = feed.sides(0)
    assert bids == [] and asks == [[1_000_000 + 100 * ref, [[ref, ref]]] for ref in range(1, 5001)]
    random.Random(4).shuffle(refs)
    feed.apply_framed(b"".join(itch.framed(itch.delete(5, ref)) for ref in refs[:4999]))
    assert feed.sides(0)[1] == [[1_000_000 + 100 * refs[4999], [[refs[4999], refs[4999]]]]]


def test_blocks_that_sides_outgrow_are_used_again():
    feed = Feed(instruments=8, levels=512, orders=4096)
    feed.apply(*(itch.directory(locate, f"S{locate}") for locate in range(1, 9)))
    ref = 0
    for _ in range(20):
        for locate in range(1, 9):
            first = ref + 1
            for level in range(200):
                ref += 1
                feed.apply(itch.add(locate, ref, "B", 100, 1_000_000 + 100 * level, symbol=f"S{locate}"))
            feed.apply(*(itch.delete(locate, gone) for gone in range(first, ref + 1)))
    assert feed.counter("slots_full") == feed.counter("levels_full") == 0


@pytest.mark.parametrize("seed", range(4))
def test_random_bytes_never_break_a_book(seed):
    rng = random.Random(seed)
    feed = Feed()
    feed.apply(itch.directory(5, "AAPL"), itch.directory(6, "MSFT"))
    sound = [itch.add(5, 1, "B", 100, 1_000_000), itch.executed(5, 1, 10), itch.executed_at(5, 1, 1, 5), itch.cancel(5, 1, 1),
             itch.replace(5, 1, 2, 100, 1_000_000), itch.delete(5, 2), itch.trade(5, 1, 1), itch.cross(5, 1, 1), itch.broken(5, 1),
             itch.action(5, "T"), itch.operational(5, "Q", "H"), itch.reg_sho(5, "1"), itch.imbalance(5, 1, 1, "B", 1),
             itch.directory(5, "AAPL"), itch.system("O"), *itch.others(5)]  # fmt: skip
    for _ in range(1500):
        message = bytearray(rng.choice(sound))
        for _ in range(rng.choice((0, 1, 2, 8))):
            message[rng.randrange(len(message))] = rng.choice((0, 1, 5, 6, 66, 83, 255, rng.randrange(256)))
        if rng.random() < 0.1:
            message = message[: rng.randrange(1, len(message) + 1)] + rng.randbytes(rng.randrange(3))
        feed.apply(bytes(message))
    for instrument in range(int(feed.build.agent["used"])):
        feed.sides(instrument)
        feed.quote(instrument)
    assert feed.counter("messages") == 1502 and LENGTH[ord("A")] == 36
