"""The events that packets cause: kinds, order, totals, end-of-packet flags, stamps."""

import numpy as np
import pytest

from hftd.feed.build import Build, private_tables
from hftd.msg.enums import BookState, EventKind, TradingState
from hftd.venues.nasdaq.itchfeed import apply_run
from tests.support import itch_messages as itch
from tests.support.live_feed import Live, state_of

LEVEL, TRADE, HIDDEN, STATUS, STATE, BROKEN, IMBALANCE, DIRECTORY, SYSTEM = (
    int(kind) for kind in (EventKind.LEVEL, EventKind.TRADE, EventKind.HIDDEN_TRADE, EventKind.STATUS, EventKind.BOOK_STATE,
                           EventKind.BROKEN, EventKind.IMBALANCE, EventKind.DIRECTORY, EventKind.SYSTEM)
)  # fmt: skip


@pytest.fixture
def live():
    made = Live()
    made.after(itch.directory(5, "AAPL", lot=40), itch.directory(6, "MSFT"))
    yield made
    made.close()


def test_announcement_then_state(live):
    kinds = [(int(e["kind"]), int(e["instrument"]), int(e["qty"]), int(e["ref"])) for e in live.events()]
    assert kinds == [(STATE, 0, BookState.LIVE, 0), (DIRECTORY, 0, 5, 40), (STATE, 1, BookState.LIVE, 0), (DIRECTORY, 1, 6, 100)]


def test_level_events_carry_the_levels_new_total(live):
    assert live.after(itch.add(5, 1, "B", 100, 1_000_000)) == [(LEVEL, 0, 0, 1_000_000, 100, 1, 1, True)]
    assert live.after(itch.add(5, 2, "B", 50, 1_000_000)) == [(LEVEL, 0, 0, 1_000_000, 150, 2, 2, True)]
    assert live.after(itch.cancel(5, 1, 30)) == [(LEVEL, 0, 0, 1_000_000, 120, 2, 1, True)]
    assert live.after(itch.delete(5, 1)) == [(LEVEL, 0, 0, 1_000_000, 50, 1, 1, True)]
    assert live.after(itch.add(5, 3, "S", 10, 1_000_100)) == [(LEVEL, 0, 1, 1_000_100, 10, 1, 3, True)]
    assert live.after(itch.executed(5, 3, 10, match=77)) == [
        (TRADE, 0, 1, 1_000_100, 10, 0, 3, False), (LEVEL, 0, 1, 1_000_100, 0, 0, 3, True),
    ]  # fmt: skip
    assert live.after(itch.executed_at(5, 2, 10, 999_000)) == [
        (TRADE, 0, 0, 999_000, 10, 0, 2, False), (LEVEL, 0, 0, 1_000_000, 40, 1, 2, True),
    ]  # fmt: skip
    assert live.after(itch.executed_at(5, 2, 10, 999_000, printable=False)) == [(LEVEL, 0, 0, 1_000_000, 30, 1, 2, True)]


def test_a_replacement_tells_both_levels_or_the_one(live):
    live.after(itch.add(5, 1, "S", 100, 1_000_000))
    assert live.after(itch.replace(5, 1, 2, 70, 1_000_100)) == [
        (LEVEL, 0, 1, 1_000_000, 0, 0, 1, False), (LEVEL, 0, 1, 1_000_100, 70, 1, 2, True),
    ]  # fmt: skip
    assert live.after(itch.replace(5, 2, 3, 80, 1_000_100)) == [(LEVEL, 0, 1, 1_000_100, 80, 1, 3, True)]
    assert live.after(itch.replace(5, 3, 4, 0, 1_000_200)) == [(LEVEL, 0, 1, 1_000_100, 0, 0, 3, True)]


def test_the_end_flag_is_on_the_last_event_of_each_instrument(live):
    events = live.after(
        itch.add(5, 1, "B", 100, 1_000_000), itch.add(6, 2, "B", 100, 500_000, symbol="MSFT"), itch.executed(5, 1, 10),
        itch.others(6)[0], itch.others(5)[0],
    )  # fmt: skip
    assert [(kind, instrument, end) for kind, instrument, *_, end in events] == [
        (LEVEL, 0, False), (LEVEL, 1, False), (TRADE, 0, False), (LEVEL, 0, False),
        (EventKind.PARTICIPANT, 1, True), (EventKind.PARTICIPANT, 0, True),
    ]  # fmt: skip


def test_a_refused_last_message_still_ends_the_packet(live):
    refused = (itch.delete(5, 99), itch.add(5, 1, "B", 100, 1_000_000), itch.add(5, 9, "Z", 100, 1_000_000), itch.executed(5, 1, 0))
    for bad in refused:
        events = live.after(itch.add(5, live.said + 1000, "B", 100, 1_000_000), itch.add(5, 1, "B", 1, 1_000_000), bad)
        assert [end for *_, end in events].count(True) == 1 and events[-1][-1], (bad, events)
        assert events[-1][0] == STATE and events[-1][4] == BookState.STALE


EVERY = [
    itch.add(5, 7, "B", 100, 990_000), itch.add(5, 7, "B", 100, 990_000, mpid="ABCD"), itch.executed(5, 1, 1),
    itch.executed_at(5, 1, 1, 990_000), itch.cancel(5, 1, 1), itch.delete(5, 1), itch.replace(5, 1, 8, 1, 990_000),
    itch.trade(5, 1, 990_000), itch.cross(5, 1, 990_000), itch.broken(5, 1), itch.action(5, "T"), itch.operational(5, "Q", "T"),
    itch.reg_sho(5, "0"), itch.imbalance(5, 1, 1, "B", 990_000), itch.directory(5, "AAPL"), itch.collar(5, 2, 1, 3),
    itch.ipo(5, 1, "A", 1), itch.retail(5, "A"), itch.listing(5, "Y", 1, 2, 3, 4, 5, 6), itch.participant(5, "ABCD", "Y", "N", "A"),
]  # fmt: skip
"""One of every type that tells something of an instrument."""


def test_a_last_message_of_a_wrong_length_still_ends_the_packet(live):
    """Cut short or too long, of whatever type: it is refused and says so, or a strategy would wait for the end of the packet."""
    live.after(itch.add(5, 1, "B", 1000, 990_000))
    for good in EVERY:
        for bad in (good + b" ", good[:-1], good[:3]):
            refused = live.counter("bad_lengths")
            events = live.after(itch.add(5, 1000 + live.said, "B", 100, 980_000), bad)
            assert live.counter("bad_lengths") == refused + 1
            assert [(kind, end) for kind, *_, end in events] == [(LEVEL, False), (STATE, True)], bad
            assert events[-1][4] == BookState.LIVE and live.events()[-1]["wire_seq"] == live.said
    nobodys = (b"A\0\7", b"Z\0\5", b"A")
    events = live.after(itch.add(5, 2, "B", 100, 980_000), itch.add(6, 3, "B", 100, 980_000, symbol="MSFT"), *nobodys)
    assert [(kind, instrument, end) for kind, instrument, *_, end in events] == [(LEVEL, 0, True), (LEVEL, 1, True)]


def test_a_message_found_by_its_symbol_ends_the_packet_where_it_is_the_last(live):
    """An IPO release comes without a locate."""
    ipo = itch.ipo(0, 34_500, "A", 170_000)
    assert live.after(ipo) == [(EventKind.IPO, 0, 0, 170_000, 34_500 * 10**9, 0, ord("A"), True)]
    assert [event.end for event in live.after(ipo, itch.add(5, 1, "B", 100, 990_000))] == [False, True]
    assert live.after(itch.add(5, 2, "B", 100, 990_000), itch.add(6, 3, "B", 100, 990_000, "MSFT"), ipo)[-1].end


def test_a_locate_that_changes_hands_ends_the_packet_of_who_had_it(live):
    events = live.after(
        itch.add(5, 1, "B", 100, 990_000), itch.directory(5, "NVDA"), itch.add(5, 2, "B", 100, 990_000, symbol="NVDA"),
    )  # fmt: skip
    ends = [instrument for _, instrument, *_, end in events if end]
    assert sorted(ends) == [0, 2] and [instrument for _, instrument, *_ in events] == [0, 0, 2, 2, 2]


def test_prints_status_and_the_rest(live):
    assert live.after(itch.trade(5, 30, 999_500, match=9)) == [(HIDDEN, 0, 0, 999_500, 30, 0, 9, True)]
    assert live.after(itch.cross(5, 3000, 999_600, match=10)) == [(HIDDEN, 0, 0, 999_600, 3000, ord("O"), 10, True)]
    assert live.after(itch.broken(5, 10)) == [(BROKEN, 0, 0, 999_600, 3000, 999_500, 10, True)]
    assert live.after(itch.broken(5, 10)) == [(BROKEN, 0, 0, 0, 0, 999_500, 10, True)]
    assert live.after(itch.imbalance(5, 100, 40, "S", 999_000, far=998_000, reference=999_500, kind="C", variation="L")) == [
        (EventKind.IMBALANCE_PRICES, 0, 0, 998_000, 999_500, 0, 0, False),
        (IMBALANCE, 0, 1, 999_000, 100, ord("S") | ord("C") << 8 | ord("L") << 16, -40, True),
    ]  # fmt: skip
    assert live.after(itch.system("Q")) == [(SYSTEM, 0, 0, 0, ord("Q"), 0, 0, False)]
    reason = int.from_bytes(b"LUDP", "little")
    assert live.after(itch.action(5, "P", "LUDP")) == [(STATUS, 0, 0, 0, TradingState.PAUSED, 0, reason, True)]
    assert live.after(itch.reg_sho(5, "1")) == [(STATUS, 0, 0, 0, TradingState.PAUSED, 0, reason | 1 << 32, True)]
    assert live.after(itch.operational(5, "Q", "H")) == [(STATUS, 0, 0, 0, TradingState.HALTED, 0, reason | 3 << 32, True)]


def test_stamps_numbers_and_states(live):
    live.after(itch.add(5, 1, "B", 100, 1_000_000, ts=34_200_000_000_123))
    event = live.events()[-1]
    assert event["ts_event"] == 34_200_000_000_123 and event["wire_seq"] == 3 and state_of(event) == BookState.LIVE
    assert 0 < event["t_feed"] < 1 << 31 and event["ts_recv"] > 0
    assert np.all(np.diff(live.events()["seq"]) == 1) and live.counter("packets_a") == 2
    assert int(live.memory["market"]["histograms"]["count"][0]) == 2


def test_a_book_is_read_from_outside_while_the_feed_runs(live):
    from hftd.feed.setup import read_book

    live.after(itch.add(5, 1, "B", 100, 1_000_000), itch.add(5, 2, "B", 50, 999_900), itch.add(5, 3, "S", 10, 1_000_100))
    assert read_book(live.config, live.memory, 0, 10) == ([[1_000_000, 100, 1], [999_900, 50, 1]], [[1_000_100, 10, 1]])
    assert read_book(live.config, live.memory, 0, 1) == ([[1_000_000, 100, 1]], [[1_000_100, 10, 1]])
    assert read_book(live.config, live.memory, 1, 10) == ([], [])


def test_the_most_orders_and_levels_are_those_of_the_day():
    """A restarted feed over the same memory counted anew."""
    tables = private_tables(1, 1024)
    tables["counters"].rows[0]["orders_peak"], tables["counters"].rows[0]["levels_peak"] = 70, 7
    build = Build(tables, 1024, [])
    apply_run(build.agent, 0, 0, 1)
    assert (int(build.counters["orders_peak"]), int(build.counters["levels_peak"])) == (70, 7)
