"""What the venue says beside the books, as a strategy gets it: notices, status, session; from real messages through the feed."""

from pathlib import Path

import numpy as np
import pytest

from hftd.msg.enums import BookState, DenyReason, EventKind, TradingState
from hftd.msg.status import RESUMED
from tests.support import itch_messages as itch
from tests.support.strategy_desk import BUY, PX, Desk

WATCHER = Path(__file__).with_name("watcher.py")
K = EventKind


@pytest.fixture
def desk():
    return Desk(WATCHER)


def seen(desk, *names):
    return tuple(int(desk.state()[name]) for name in names)


def of(desk, index=0):
    row = desk.agent.states[index]
    return {name: int(row[name]) for name in row.dtype.names if int(row[name]) and name != "lot"}


def test_every_notice_is_told_once_with_its_fields(desk):
    desk.event(K.COLLAR, 100, 90, ref=110, orders=3)
    assert seen(desk, "notices", "kind", "instrument", "px", "qty", "ref", "orders") == (1, K.COLLAR, 0, 100, 90, 110, 3)
    assert of(desk) == {"collar_low": 90, "collar_high": 110}
    desk.event(K.IMBALANCE_PRICES, 98, 99, instrument=1)
    assert seen(desk, "notices") == (1,)
    desk.event(K.IMBALANCE, 97, 500, instrument=1, ref=-40, orders=ord("S"))
    assert seen(desk, "notices", "kind", "instrument") == (2, K.IMBALANCE, 1)
    assert of(desk, 1) == {"imbalance_qty": -40, "far_px": 98, "reference_px": 99}
    desk.event(K.LISTING_LIMITS, 5, 6, ref=1)
    desk.event(K.LISTING, 7, 8, ref=9, orders=10)
    desk.event(K.IPO, 70, 8, ref=ord("A"))
    desk.event(K.RETAIL, 0, 3, ref=1)
    desk.event(K.PARTICIPANT, 0, 1, ref=77)
    desk.event(K.BROKEN, ref=5)
    assert seen(desk, "notices", "kind", "ref") == (7, K.BROKEN, 5)
    assert of(desk) == {"collar_low": 90, "collar_high": 110, "listing_max": 6, "ipo_px": 70, "retail": 3}
    desk.event(K.HIDDEN_TRADE, PX, 100, orders=ord("O"))
    assert seen(desk, "cross", "notices", "trades") == (ord("O"), 7, 1)
    desk.event(K.HIDDEN_TRADE, PX, 100, orders=0)
    assert seen(desk, "cross", "trades") == (0, 2)


def test_what_concerns_all_reaches_a_strategy_that_follows_another_instrument():
    desk = Desk(WATCHER, follow=["BBB"])
    desk.event(K.SYSTEM, 0, ord("Q"))
    desk.event(K.BREAKER_LEVELS, 7, 5, ref=3)
    assert seen(desk, "notices", "instrument", "phase", "level_3") == (2, -1, ord("Q"), 3)
    desk.event(K.RETAIL, 0, 3, ref=1)
    assert seen(desk, "of_one") == (0,), "instrument 0 is not followed"
    desk.event(K.RETAIL, 0, 3, ref=1, instrument=1)
    assert seen(desk, "of_one") == (1,)


def test_a_breaker_holds_until_the_instrument_resumes(desk):
    desk.event(K.SYSTEM, 0, ord("W"), ref=2)
    assert seen(desk, "breaker") == (2,) and of(desk)["breaker"] == of(desk, 1)["breaker"] == 2
    desk.event(K.STATUS, 0, int(TradingState.HALTED), instrument=1, ref=1)
    assert of(desk, 1)["breaker"] == 2
    desk.event(K.STATUS, 0, int(TradingState.TRADING), instrument=1, ref=1 | RESUMED)
    assert "breaker" not in of(desk, 1) and of(desk)["breaker"] == 2


def test_a_late_start_copies_status_and_session():
    """From the feed's rows, as it does the books."""
    desk = Desk(WATCHER)
    market, books = desk.memory["market"], desk.memory["books"]
    market["statuses"][0]["collar_high"], market["session"][0]["breaker"] = 110, 2
    books["books"][0]["events"] = 1
    desk.agent.copy_books()
    assert int(desk.agent.statuses["collar_high"][0]) == 110 and int(desk.agent.handle["session"]["breaker"]) == 2


def test_replayed_messages_make_the_feeds_own_rows():
    """The strategy's rows, from events, equal the feed's, from messages: every type, twice over."""
    from tests.support.live_feed import Live

    live = Live(rows=2)
    try:
        said = [itch.directory(5, "AAA"), itch.directory(6, "BBB"), itch.system("Q"), itch.breaker_levels(7, 5, 3),
                itch.breach("1"), itch.action(6, "H", "MWC1"),
                itch.imbalance(5, 100, 40, "S", 97, far=98, reference=99, kind="C", variation="L"),
                itch.cross(6, 4000, 1_000_000, kind="H"), itch.ipo(0, 34_200, "A", 17, symbol="BBB"), itch.retail(5, "A"),
                itch.listing(6, "Y", 1, 2, 3, 4, 5, 6), itch.reg_sho(5, "1"), itch.participant(5, "NITE", "Y", "N", "A"),
                itch.collar(5, 100, 90, 110, 1), itch.operational(6, "Q", "H"), itch.action(6, "T")]  # fmt: skip
        live.messages = said
        live.publish(1, len(said))
        live.until(lambda: live.expected() == len(said) + 1)
        desk = Desk(WATCHER)
        desk.play(live.events())
        for index in range(2):
            ours = desk.agent.statuses[index : index + 1].copy()
            theirs = np.array(live.memory["market"]["statuses"][index : index + 1])
            theirs["version"] = 0
            assert ours.tobytes() == theirs.tobytes(), [(n, ours[n], theirs[n]) for n in ours.dtype.names if ours[n] != theirs[n]]
        mine, feeds = desk.agent.handle["session"], np.array(live.memory["market"]["session"][:1])
        assert all(int(mine[name]) == int(feeds[name][0]) for name in feeds.dtype.names if name != "version")
    finally:
        live.close()


def test_nothing_is_sent_on_a_book_that_is_not_live_and_others_go_on():
    """The strategy's own host refuses, unless the file says trade_any_state; the other instrument trades."""
    desk = Desk()
    desk.quote(instrument=0)
    desk.quote(instrument=1)
    desk.event(K.BOOK_STATE, 0, int(BookState.STALE), state=int(BookState.STALE))
    assert desk.submit(instrument=0, side=BUY, px=PX, state=int(BookState.STALE)) == -DenyReason.BOOK_NOT_LIVE
    assert desk.submit(instrument=1, side=BUY, px=PX, state=int(BookState.STALE)) > 0
