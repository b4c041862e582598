"""The two strategies that are shipped: what they promise in their first lines, on synthetic and on genuine flow."""

import numpy as np
import pytest

from hftd.core.jit import INTERPRETED
from hftd.msg.enums import BookState, EventKind, IntentKind
from hftd.strategy.harness import Tape, recorded
from hftd.strategy.program import CHECKOUT, check_file
from hftd.strategy.synthetic import market_events
from tests.support.data import shared_data
from tests.support.strategy_desk import BUY, PX, SELL, Desk

MAKER, TAKER = CHECKOUT / "market_maker.py", CHECKOUT / "imbalance_taker.py"
EVENTS = 3000 if INTERPRETED else 60_000


def sent(desk):
    """(kind, side, px, qty) of the last event's intents."""
    return [(one["kind"], one["side"], one["px"], one["qty"]) for one in desk.last()]


@pytest.mark.skipif(INTERPRETED, reason="looks at machine code")
@pytest.mark.parametrize("file", [MAKER, TAKER])
def test_examples_are_fit_for_the_hot_path(file):
    """No allocation, no Python, no reference counts."""
    assert check_file(file) == []


@pytest.mark.parametrize("file", [MAKER, TAKER])
def test_examples_trade_and_keep_their_limits(file):
    """A steady number of orders and fills; the position never passes its limit; books agree with the paper venue's."""
    tape = Tape(file, instruments=3)
    events = market_events(EVENTS, instruments=3, apart_ns=500_000)
    limit = tape.program.values["position_max"]
    for part in np.array_split(events, 20):
        tape.play(part)
        held = [tape.position(i) for i in range(3)]
        assert all(abs(row["bought_qty"] - row["sold_qty"]) <= limit for row in held)
    assert int(tape.tape["fills"]) > EVENTS // 1500
    assert int(tape.tape["reason"]) == 0
    for theirs, ours in (("orders", "orders"), ("fills", "fills"), *((name, name) for name in
                         ("bought_qty", "sold_qty", "bought_cash", "sold_cash"))):  # fmt: skip
        assert int(tape.tape[theirs]) == sum(row[ours] for row in held)
    assert tape.counters()["bad_reports"] == tape.counters()["foreign_reports"] == tape.counters()["refused"] == 0


@pytest.mark.skipif(INTERPRETED, reason="hundreds of thousands of events")
@pytest.mark.parametrize("name", [
    "itch50-aapl-20200130/aapl_20200130.itch.gz", "lobster-aapl-goog-20120621/aapl_goog_20120621.itch.gz",
])  # fmt: skip
@pytest.mark.parametrize("file", [MAKER, TAKER])
def test_examples_trade_on_genuine_flow(file, name):
    """Nasdaq's own messages through the feed's own code."""
    events, symbols = recorded(shared_data(name))
    tape = Tape(file, symbols=symbols)
    assert tape.play(events) == len(events)
    assert tape.counters()["intents"] > len(events) // 100
    assert tape.counters()["fills"] > 100
    assert int(tape.tape["fills"]) == sum(tape.position(i)["fills"] for i in range(len(symbols)))


def test_market_maker_quotes_both_sides_and_moves_only_what_moved():
    """At the best prices; the bid moves up, the ask stays."""
    desk = Desk(MAKER, symbols=("AAA",))
    desk.quote()
    assert sent(desk) == [(IntentKind.NEW, BUY, PX, 100), (IntentKind.NEW, SELL, PX + 200, 100)]
    bid, ask = (one["cl_ord_id"] for one in desk.last())
    desk.level(BUY, PX + 100, 50)
    assert sent(desk) == []                                           # nothing while answers are on their way
    desk.report(1, bid, px=PX, qty=100, leaves_qty=100, venue_id=900)
    desk.report(1, ask, SELL, px=PX + 200, qty=100, leaves_qty=100, venue_id=901)
    desk.level(BUY, PX + 100, 60)
    assert sent(desk) == [(IntentKind.REPLACE, BUY, PX + 100, 100)]


def test_market_maker_does_not_chase_itself():
    """When the best bid is only ours, it quotes around the next one."""
    desk = Desk(MAKER, symbols=("AAA",))
    desk.quote()
    bid = desk.last()[0]["cl_ord_id"]
    ask = desk.last()[1]["cl_ord_id"]
    desk.report(1, bid, px=PX, qty=100, leaves_qty=100, venue_id=900)
    desk.report(1, ask, SELL, px=PX + 200, qty=100, leaves_qty=100, venue_id=901)
    desk.level(BUY, PX - 300, 500)
    desk.level(BUY, PX, 200, ref=900)
    desk.level(BUY, PX, 100)                                          # the others left: what stands there is ours
    assert sent(desk) == [(IntentKind.REPLACE, BUY, PX - 300, 100)]


def test_market_maker_leans_against_its_position_and_stops_at_its_limit():
    """Long by one quote: both prices a tick lower. At the limit: no more bids."""
    desk = Desk(MAKER, symbols=("AAA",), params={"position_max": 200})
    desk.quote(ask=PX + 600)
    bid, ask = (one["cl_ord_id"] for one in desk.last())
    desk.report(1, ask, SELL, px=PX + 600, qty=100, leaves_qty=100, venue_id=901)
    desk.report(1, bid, px=PX, qty=100, leaves_qty=100, venue_id=900)
    desk.report(2, bid, px=PX, qty=100, leaves_qty=0)
    desk.level(SELL, PX + 600, 120)
    assert sent(desk) == [(IntentKind.NEW, BUY, PX - 100, 100), (IntentKind.REPLACE, SELL, PX + 500, 100)]
    bid = desk.last()[0]["cl_ord_id"]
    desk.report(1, bid, px=PX - 100, qty=100, leaves_qty=100, venue_id=902)
    desk.report(2, bid, px=PX - 100, qty=100, leaves_qty=0)
    desk.level(SELL, PX + 600, 130)
    assert all(side == SELL for _, side, _, _ in sent(desk))


def test_market_maker_pulls_its_quotes_when_the_book_cannot_be_trusted():
    """One cancel for each quote, as soon as it is told."""
    desk = Desk(MAKER, symbols=("AAA",))
    desk.quote()
    desk.event(EventKind.BOOK_STATE, qty=int(BookState.STALE), state=int(BookState.STALE))
    assert sorted(kind for kind, *_ in sent(desk)) == [IntentKind.CANCEL, IntentKind.CANCEL]


def test_taker_takes_the_heavy_side_and_gives_back_in_time():
    """900 shares against 100: buy at the ask with IOC; after hold_ms, sell at the bid."""
    desk = Desk(TAKER, symbols=("AAA",))
    desk.clock = 1_000_000_000
    desk.level(BUY, PX, 900, end=False)
    desk.level(SELL, PX + 100, 100)
    assert sent(desk) == [(IntentKind.NEW, BUY, PX + 100, 100)]
    assert desk.last()[0]["tif"] == 1
    made = desk.last()[0]["cl_ord_id"]
    desk.report(1, made, px=PX + 100, qty=100, leaves_qty=100, venue_id=900)
    desk.report(2, made, px=PX + 100, qty=100, leaves_qty=0)
    desk.clock += 30_000_000
    desk.level(BUY, PX, 800)
    assert sent(desk) == []
    desk.idle(desk.clock + 300_000_000)                               # no event at all: the timer sees to it
    assert sent(desk) == [(IntentKind.NEW, SELL, PX, 100)]
