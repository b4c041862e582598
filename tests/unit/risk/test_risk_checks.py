"""Each check, alone, through the whole loop: an intent in, an order or a denial with its reason out."""

import pytest

from hftd.msg.enums import BookState, DenyReason, ExecType, Role, RunState, TradingState
from hftd.msg.ids import make_id
from hftd.msg.records import (
    INSTRUMENT_ROUND_LOTS,
    INSTRUMENT_SHORT_RESTRICTED,
    INSTRUMENT_TEST,
    INTENT_ANY_STATE,
    INTENT_SHORT,
)
from hftd.risk import kill
from tests.support.risk_desk import BUY, CANCEL, CANCEL_ALL, NEW, PX, REPLACE, SELL, Desk


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path)


def test_a_plain_order_passes_whole_and_sealed(desk):
    """Every field of the intent reaches the order; the checksum is the one the gateway computes."""
    from hftd.msg.check import order_check

    cl_ord_id = desk.intent(side=SELL, px=PX + 500, qty=77, instrument=1, tif=1, flags=3, t_feed=11, t_strategy=22)
    desk.step()
    (order,) = desk.orders()

    fields = ("cl_ord_id", "px", "qty", "instrument", "kind", "side", "tif", "flags", "strategy", "t_feed", "t_strategy", "seq")
    assert [int(order[name]) for name in fields] == [cl_ord_id, PX + 500, 77, 1, NEW, SELL, 1, 3, 0, 11, 22, 1]

    class View:
        def __getattr__(self, name):
            return int(order[name])

    assert int(order["check"]) == getattr(order_check, "py_func", order_check)(View(), 1)
    assert desk.count("approved") == 1


@pytest.mark.parametrize(("words", "reason"), [
    ({"kill": 1}, DenyReason.KILLED),
    ({"state": int(RunState.STARTING)}, DenyReason.NOT_READY),
    ({"state": int(RunState.STOPPING)}, DenyReason.STOPPING),
    ({"state": int(RunState.STOPPED)}, DenyReason.STOPPING),
    ({"session_up": 0}, DenyReason.SESSION_DOWN),
    ({"kill": 1, "state": int(RunState.STOPPING), "session_up": 0}, DenyReason.KILLED),
])  # fmt: skip
def test_run_state_denies_orders_and_replaces_and_passes_cancels(desk, words, reason):
    """The kill switch, a stop and a lost session stop everything that takes risk, and nothing that gives it back."""
    first = desk.intent()
    desk.step()
    for name, value in words.items():
        desk.run[name] = value

    assert desk.reason() == reason
    assert desk.reason(kind=REPLACE, orig=first) == reason
    assert desk.reason(kind=CANCEL, cl_ord_id=first) == DenyReason.OK
    assert desk.reason(kind=CANCEL_ALL) == DenyReason.OK


@pytest.mark.parametrize("fields", [{"kind": 0}, {"kind": 5}, {"side": 2}, {"tif": 2}, {"strategy": 1}, {"px": 0}, {"px": -100},
                                    {"px": 1 << 40}, {"px": (1 << 63) - 1}, {"cl_ord_id": make_id(1, 1, 9)}])  # fmt: skip
def test_illegal_fields_are_refused(desk, fields):
    """No code outside its enum, no price that is none, no other strategy's name or id."""
    assert desk.reason(**fields) == DenyReason.BAD_FIELD


def test_ids_only_grow(desk):
    """The same id, or a lower one, is a duplicate; the next is not; a new epoch begins anew."""
    assert desk.reason(cl_ord_id=make_id(0, 7, 5)) == DenyReason.OK
    assert desk.reason(cl_ord_id=make_id(0, 7, 5)) == DenyReason.DUPLICATE_ID
    assert desk.reason(cl_ord_id=make_id(0, 7, 4)) == DenyReason.DUPLICATE_ID
    assert desk.reason(cl_ord_id=make_id(0, 7, 6)) == DenyReason.OK
    assert desk.reason(cl_ord_id=make_id(0, 8, 1)) == DenyReason.OK
    assert desk.reason(cl_ord_id=make_id(0, 0xFFFFFF, 1)) == DenyReason.DUPLICATE_ID
    assert desk.reason(cl_ord_id=make_id(0, 0x800007, 1)) == DenyReason.OK
    assert desk.reason(cl_ord_id=make_id(0, 0x000003, 1)) == DenyReason.OK


@pytest.mark.parametrize("cl_ord_id", [0, -(1 << 63)])
def test_an_id_that_is_none_is_refused(desk, cl_ord_id):
    """0 marks a free row: an order under it would be held by a row that a restart takes for free, again and again."""
    assert desk.reason(cl_ord_id=cl_ord_id) == DenyReason.BAD_FIELD
    assert set(desk.open_sums().values()) == {0}


def test_the_instrument_must_be_announced(desk):
    """An index outside the table, or a row that the venue has not announced, is unknown; announced, it trades."""
    assert desk.reason(instrument=4) == DenyReason.UNKNOWN_INSTRUMENT
    assert desk.reason(instrument=65535) == DenyReason.UNKNOWN_INSTRUMENT
    assert desk.reason(instrument=3) == DenyReason.UNKNOWN_INSTRUMENT

    row = desk.memory["market"]["instruments"][3]
    row["symbol"], row["tick"], row["flags"] = int.from_bytes(b"DDD     ", "little"), 100, 1
    desk.quote(3)
    desk.agent.cold(0)
    assert desk.reason(instrument=3) == DenyReason.OK


def test_quantity(desk):
    """1 to risk.order_qty_max."""
    assert desk.reason(qty=0) == DenyReason.ORDER_QTY
    assert desk.reason(qty=1001) == DenyReason.ORDER_QTY
    assert desk.reason(qty=0xFFFFFFFF) == DenyReason.ORDER_QTY
    assert desk.reason(qty=1000) == DenyReason.OK


def test_notional_to_the_last_unit(tmp_path):
    """px * qty may equal the limit and not pass it."""
    desk = Desk(tmp_path, risk={"order_notional_max": 10_000.0})
    assert desk.reason(qty=100, px=PX) == DenyReason.OK
    assert desk.reason(qty=100, px=PX + 100) == DenyReason.ORDER_NOTIONAL


def test_price_tick(desk):
    """A multiple of the instrument's tick."""
    assert desk.reason(px=PX + 50) == DenyReason.PRICE_TICK


@pytest.mark.parametrize("side", [BUY, SELL])
@pytest.mark.parametrize(("px", "reason"), [
    (105_0100, DenyReason.OK), (105_0200, DenyReason.PRICE_COLLAR), (95_0000, DenyReason.OK), (94_9900, DenyReason.PRICE_COLLAR),
])  # fmt: skip
def test_collar_about_the_book(desk, px, side, reason):
    """500 bps: the ask of 100.01 allows up to 105.0105, the bid of 99.99 down to 94.9905; on either side of the order."""
    assert desk.reason(px=px, side=side) == reason


def test_collar_falls_back_to_the_last_print(desk):
    """An empty book: the last print. A stub book: the last print. Nothing at all: no reference price. One side: that side."""
    desk.quote(bid=0, ask=0, last=PX)
    assert desk.reason(px=105_0000) == DenyReason.OK
    assert desk.reason(px=105_0100) == DenyReason.PRICE_COLLAR
    desk.quote(bid=100, ask=199_999_0000, last=PX)
    assert desk.reason(px=105_0100) == DenyReason.PRICE_COLLAR
    assert desk.reason(px=105_0000) == DenyReason.OK
    desk.quote(bid=100, ask=199_999_0000, last=0)
    assert desk.reason() == DenyReason.NO_REFERENCE_PRICE
    desk.quote(bid=0, ask=0, last=0)
    assert desk.reason() == DenyReason.NO_REFERENCE_PRICE
    desk.quote(bid=PX, ask=0, last=0)
    assert desk.reason(px=PX) == DenyReason.OK


@pytest.mark.parametrize(("bid", "ask", "side", "px"), [(0, 199_999_0000, BUY, 199_999_0000), (100, 0, SELL, 100)])
def test_one_stub_quote_alone_is_no_reference(desk, bid, ask, side, px):
    """All that is left of a side is a stub, and the other side is empty: the last print holds, or shares go for pennies."""
    desk.quote(bid=bid, ask=ask, last=PX)
    assert desk.reason(side=side, px=px, qty=1) == DenyReason.PRICE_COLLAR
    assert desk.reason(side=side, px=PX, qty=1) == DenyReason.OK
    desk.quote(bid=bid and PX - 9_0000, ask=ask and PX + 9_0000, last=PX)
    assert desk.reason(side=side, px=PX + (9_0000 if ask else -9_0000), qty=1) == DenyReason.OK, "a side that moved is none"


def test_a_torn_quote_is_no_reference(desk):
    """A cell that its writer left half written (it died there) is not used, and counted."""
    cell = desk.memory["market"]["quotes"][0]
    cell["version"] = int(cell["version"]) + 1
    assert desk.reason() == DenyReason.NO_REFERENCE_PRICE
    assert desk.count("quotes_torn") == 1


def test_trading_state_and_book_state(desk):
    """Halted, paused and quote-only instruments are not traded; a book that is not LIVE only where the strategy says so."""
    for state in (TradingState.UNKNOWN, TradingState.HALTED, TradingState.PAUSED, TradingState.QUOTE_ONLY):
        desk.quote(trading=int(state))
        assert desk.reason(flags=INTENT_ANY_STATE) == DenyReason.NOT_TRADING
    for state in (BookState.RECOVERING, BookState.STALE, BookState.EMPTY):
        desk.quote(state=int(state))
        assert desk.reason() == DenyReason.BOOK_NOT_LIVE
        assert desk.reason(flags=INTENT_ANY_STATE) == DenyReason.OK


def test_test_symbols_are_never_traded(desk):
    """The venue's test symbols."""
    desk.memory["market"]["instruments"][0]["flags"] = 1 | INSTRUMENT_TEST
    assert desk.reason() == DenyReason.NOT_TRADING


def test_short_sale_restriction(desk):
    """Under the price test, a sale that is marked short, or sells more than is held, must be above the bid."""
    desk.memory["market"]["instruments"][0]["flags"] = 1 | INSTRUMENT_SHORT_RESTRICTED
    assert desk.reason(side=SELL, px=PX - 100) == DenyReason.SHORT_RESTRICTED
    assert desk.reason(side=SELL, px=PX) == DenyReason.OK
    desk.report(ExecType.FILL, make_id(0, 1, 1 << 20), px=PX, qty=300, side=BUY, venue_id=1)
    assert desk.reason(side=SELL, px=PX - 100, qty=200) == DenyReason.OK
    assert desk.reason(side=SELL, px=PX - 100, qty=1) == DenyReason.SHORT_RESTRICTED
    assert desk.reason(side=SELL, px=PX - 100, qty=1, flags=INTENT_SHORT) == DenyReason.SHORT_RESTRICTED
    assert desk.reason(side=BUY, px=PX - 300) == DenyReason.OK


def marked(desk, **intent) -> bool:
    """Send an order that passes, and tell whether it went out marked short."""
    assert desk.reason(**intent) == DenyReason.OK
    return bool(int(desk.passed[0]["flags"]) & INTENT_SHORT)


def test_a_sale_is_marked_short_when_the_account_could_end_short(desk):
    """Whatever the strategy says: risk knows what is held and what else is for sale."""
    desk.report(ExecType.FILL, make_id(0, 1, 1 << 20), px=PX, qty=300, side=BUY, venue_id=1)
    assert not marked(desk, side=SELL, px=PX + 100, qty=200)
    assert not marked(desk, side=SELL, px=PX + 100, qty=100, place=1)
    assert marked(desk, side=SELL, px=PX + 100, qty=1)
    assert not marked(desk, side=BUY, px=PX - 100, qty=500)
    assert marked(desk, side=SELL, px=PX + 100, qty=1, instrument=1)
    assert marked(desk, side=SELL, px=PX + 100, qty=1, flags=INTENT_SHORT)


def test_a_long_sale_does_not_grow_into_a_short_one(desk):
    """A replacement has the mark of the order it replaces: moving it is fine, growing beyond what is held is not."""
    desk.report(ExecType.FILL, make_id(0, 1, 1 << 20), px=PX, qty=300, side=BUY, venue_id=1)
    long = desk.intent(side=SELL, px=PX + 200, qty=200)
    desk.step()
    short = desk.intent(side=SELL, px=PX + 200, qty=200)
    desk.step()
    assert [int(order["flags"]) & INTENT_SHORT for order in desk.orders()] == [0, INTENT_SHORT]
    for order in (long, short):
        desk.report(ExecType.NEW, order, px=PX + 200, qty=200, leaves=200, side=SELL, venue_id=order)
    assert not marked(desk, kind=REPLACE, side=SELL, px=PX + 300, qty=200, orig=long)
    assert marked(desk, kind=REPLACE, side=SELL, px=PX + 300, qty=250, orig=short)
    long = make_id(0, 1, desk.sequence - 1)
    assert desk.reason(kind=REPLACE, side=SELL, px=PX + 300, qty=201, orig=long) == DenyReason.SHORT_UNMARKED


def test_an_adopted_sale_is_taken_for_a_long_one(desk):
    """Its row may have been a short sale's before. Risk does not know its mark: it may move, not grow into a short sale."""
    desk.report(ExecType.FILL, make_id(0, 1, 1 << 20), px=PX, qty=300, side=BUY, venue_id=1)
    short = desk.intent(side=SELL, px=PX + 200, qty=400)
    desk.step()
    assert int(desk.orders()[0]["flags"]) & INTENT_SHORT
    desk.report(ExecType.REJECTED, short, px=PX + 200, qty=400, side=SELL)
    adopted = make_id(0, 1, 900)
    desk.report(ExecType.NEW, adopted, px=PX + 200, qty=100, leaves=100, side=SELL, venue_id=5)
    desk.step()
    assert desk.count("adopted") == 1
    assert desk.reason(kind=REPLACE, side=SELL, px=PX + 300, qty=400, orig=adopted) == DenyReason.SHORT_UNMARKED
    assert not marked(desk, kind=REPLACE, side=SELL, px=PX + 300, qty=100, orig=adopted)


def test_the_auction_collar_of_a_pause(desk):
    """Inside it the pause denies, outside it the collar; without one, nothing does."""
    desk.quote(collar_low=PX - 200, collar_high=PX + 200, trading=int(TradingState.PAUSED))
    assert desk.reason(px=PX + 300) == desk.reason(px=PX - 300) == DenyReason.LULD_COLLAR
    assert desk.reason(px=PX + 200) == desk.reason(px=PX - 200) == DenyReason.NOT_TRADING
    desk.quote(collar_low=PX - 200, collar_high=PX + 200)
    assert desk.reason(px=PX + 300) == DenyReason.LULD_COLLAR and desk.reason(px=PX + 300, instrument=1) == DenyReason.OK
    desk.quote(collar_low=0, collar_high=0)
    assert desk.reason(px=PX + 300) == DenyReason.OK


def test_a_market_wide_breaker_stops_what_takes_risk(desk):
    """Reducing orders and cancels pass as long as the instrument itself is not halted."""
    desk.report(ExecType.FILL, make_id(0, 1, 1 << 20), px=PX, qty=300, side=BUY, venue_id=1)
    resting = desk.intent(px=PX - 300)
    desk.step()
    desk.orders()
    for instrument in range(3):
        desk.quote(instrument, breaker=1)
    assert desk.reason(px=PX) == desk.reason(px=PX, instrument=1) == DenyReason.MARKET_BREAKER
    assert desk.reason(side=SELL, px=PX, qty=301) == DenyReason.MARKET_BREAKER
    assert desk.reason(side=SELL, px=PX, qty=300) == DenyReason.OK
    assert desk.reason(kind=CANCEL, cl_ord_id=resting) == DenyReason.OK
    desk.quote(0, breaker=0)
    assert desk.reason(px=PX - 200) == DenyReason.OK and desk.reason(px=PX, instrument=1) == DenyReason.MARKET_BREAKER


@pytest.mark.parametrize("choice", ["resume", "kill"])
def test_a_breaker_pulls_the_kill_switch_where_asked(tmp_path, choice):
    """risk.on_breaker = "kill": a person lifts it."""
    from hftd.risk.kill import read_latch

    desk = Desk(tmp_path, risk={"on_breaker": choice})
    desk.memory["market"]["session"][0]["breaker"] = 2
    desk.agent.cold(1 << 60)
    assert bool(int(desk.run["kill"])) == (choice == "kill")
    latched = read_latch(desk.config)
    assert (latched and latched["by"]) == ("breaker" if choice == "kill" else None)


def test_a_breaker_that_a_new_feed_tells_again_is_no_new_one(tmp_path):
    """The switch that a person lifted after it stays lifted; the next breaker pulls it, and so does one of the next day."""
    desk = Desk(tmp_path, risk={"on_breaker": "kill"})
    feed, session = desk.memory["control"]["marks"][int(Role.FEED)], desk.memory["market"]["session"][0]
    steps = ((1, 1, True), (0, 0, False), (0, 1, False), (1, 1, False), (1, 2, True), (1, 0, False), (1, 1, True))
    for ready, level, pulled in steps:
        feed["ready"], session["breaker"] = ready, level
        desk.agent.next_look_ns = 0
        desk.agent.cold(1)
        assert bool(int(desk.run["kill"])) == pulled, (ready, level)
        if pulled:
            kill.clear(desk.config, desk.memory, "anna")


def test_a_breaker_that_a_new_risk_process_finds_is_no_new_one(tmp_path):
    """It was acted upon, a person lifted the switch, risk dies: the switch stays off. One that fell meanwhile pulls it."""
    desk = Desk(tmp_path, risk={"on_breaker": "kill"})
    desk.memory["control"]["marks"][int(Role.FEED)]["ready"] = 1
    session = desk.memory["market"]["session"][0]
    for level, anew, pulled in ((1, False, True), (1, True, False), (2, True, True)):
        session["breaker"] = level
        if anew:
            desk.start()
        desk.agent.next_look_ns = 0
        desk.agent.cold(1)
        assert bool(int(desk.run["kill"])) == pulled, level
        kill.clear(desk.config, desk.memory, "anna")


def test_round_lots_only(desk):
    """Where the venue takes no other quantities."""
    facts = desk.memory["market"]["instruments"][0]
    assert desk.reason(qty=50) == DenyReason.OK
    facts["flags"] = 1 | INSTRUMENT_ROUND_LOTS
    assert desk.reason(qty=50) == desk.reason(qty=150) == DenyReason.ROUND_LOT
    assert desk.reason(qty=200) == DenyReason.OK and desk.reason(qty=50, instrument=1) == DenyReason.OK


def test_self_cross_between_strategies(desk):
    """One strategy may not take another's resting order; once that is gone, or elsewhere, it may."""
    bid = desk.intent(px=PX, place=0)
    desk.step()
    desk.orders()
    assert desk.reason(side=SELL, px=PX, place=1) == DenyReason.SELF_CROSS
    assert desk.reason(side=SELL, px=PX - 100, place=1) == DenyReason.SELF_CROSS
    assert desk.reason(side=SELL, px=PX, place=1, instrument=1) == DenyReason.OK
    assert desk.reason(side=SELL, px=PX + 100, place=1) == DenyReason.OK
    assert desk.reason(side=BUY, px=PX + 100, place=0) == DenyReason.SELF_CROSS
    desk.report(ExecType.CANCELED, bid, qty=100, leaves=0)
    assert desk.reason(side=SELL, px=PX, place=1) == DenyReason.OK


def test_an_order_that_was_asked_to_go_is_not_crossed(desk):
    """The venue gets our messages in their order: a cancel or replace sent before the order counts; refused, it counts no more."""
    bid = desk.intent(px=PX, place=0)
    desk.step()
    moved = desk.intent(kind=REPLACE, orig=bid, px=PX - 300, place=0)
    desk.step()
    assert desk.reason(side=SELL, px=PX, place=1) == DenyReason.OK
    assert desk.reason(side=SELL, px=PX - 300, place=1) == DenyReason.SELF_CROSS
    desk.report(ExecType.REPLACE_REJECTED, moved, orig=bid)
    assert desk.reason(side=SELL, px=PX, place=1) == DenyReason.SELF_CROSS
    desk.intent(kind=CANCEL, cl_ord_id=bid, qty=0)
    desk.step()
    assert desk.reason(side=SELL, px=PX, place=1) == DenyReason.OK
    desk.report(ExecType.CANCEL_REJECTED, bid, qty=100, leaves=100)
    assert desk.reason(side=SELL, px=PX, place=1) == DenyReason.SELF_CROSS


def test_an_order_whose_cancel_may_be_lost_is_crossed_again(desk):
    """The session broke with the cancel under way: the order may stand, and in a session that is gone nobody will say."""
    bid = desk.intent(px=PX, place=0)
    desk.intent(kind=CANCEL, cl_ord_id=bid, qty=0)
    desk.step()
    assert desk.reason(side=SELL, px=PX, qty=10, place=1) == DenyReason.OK
    desk.report(ExecType.UNKNOWN, bid, qty=100, leaves=100)
    assert desk.reason(side=SELL, px=PX, qty=10, place=1) == DenyReason.SELF_CROSS


def test_self_cross_can_be_allowed(tmp_path):
    """risk.self_cross = false leaves it to the venue."""
    desk = Desk(tmp_path, risk={"self_cross": False})
    assert desk.reason(px=PX) == DenyReason.OK
    assert desk.reason(side=SELL, px=PX, place=1) == DenyReason.OK


@pytest.mark.parametrize("side", [BUY, SELL])
def test_position_counts_what_is_held_and_what_is_open(tmp_path, side):
    """1,000 allowed: 400 held and 500 open leave 100; the other side is not touched by it."""
    desk = Desk(tmp_path, risk={"position_max": 1000, "self_cross": False})
    desk.report(ExecType.FILL, make_id(0, 1, 1 << 20), qty=400, side=side, venue_id=1)
    assert desk.reason(side=side, qty=500) == DenyReason.OK
    assert desk.reason(side=side, qty=101) == DenyReason.POSITION
    assert desk.reason(side=side, qty=100) == DenyReason.OK
    assert desk.reason(side=side, qty=1) == DenyReason.POSITION
    other = SELL if side == BUY else BUY
    assert desk.reason(side=other, qty=1000) == DenyReason.OK
    assert desk.reason(side=other, qty=400) == DenyReason.OK
    assert desk.reason(side=other, qty=1) == DenyReason.POSITION


def test_stale_market_data(tmp_path):
    """No datagram, heartbeats included, for risk.feed_stale_ms: nothing that adds risk; what shrinks a position passes."""
    desk = Desk(tmp_path, risk={"feed_stale_ms": 1000})
    desk.agent.handle["feed_seen"] = int(desk.agent.handle["feed_seen"]) - 2 * int(desk.clock["hz"])
    assert desk.reason() == DenyReason.FEED_STALE
    desk.agent.cold(1)
    assert desk.reason() == DenyReason.FEED_STALE, "nothing arrived: cold code must not renew it"
    desk.report(ExecType.FILL, make_id(0, 1, 1 << 20), qty=100, side=BUY, venue_id=1)
    assert desk.reason(side=SELL, qty=100) == DenyReason.OK
    assert desk.reason(side=SELL, qty=1) == DenyReason.FEED_STALE
    desk.quote()
    desk.agent.cold(2)
    assert desk.reason(px=PX - 100) == DenyReason.OK


@pytest.mark.parametrize("said", ["foreign", "malformed", "truncated", "doubted", "duplicates_a", "first_r"])
def test_packets_that_say_nothing_of_now_are_no_market_data(tmp_path, said):
    """The venue changed its session, or a line repeats itself: datagrams arrive, and books stand still at their last prices."""
    desk = Desk(tmp_path, risk={"feed_stale_ms": 1000})
    desk.agent.handle["feed_seen"] = int(desk.agent.handle["feed_seen"]) - 2 * int(desk.clock["hz"])
    for name in ("packets_r" if said == "first_r" else "packets_a", said):
        desk.memory["market"]["counters"][0][name] += 1
    desk.agent.cold(1)
    assert desk.reason() == DenyReason.FEED_STALE
    desk.memory["market"]["counters"][0]["heartbeats"] += 1
    desk.agent.cold(2)
    assert desk.reason() == DenyReason.OK


def test_open_orders(tmp_path):
    """The account's open orders, over all strategies; a replace opens none."""
    desk = Desk(tmp_path, risk={"open_orders_max": 2})
    first = desk.intent(px=PX)
    desk.step()
    desk.orders()
    assert desk.reason(place=1) == DenyReason.OK
    assert desk.reason() == DenyReason.OPEN_ORDERS
    assert desk.reason(kind=REPLACE, orig=first, px=PX - 100) == DenyReason.OK
    desk.report(ExecType.REJECTED, make_id(1, 1, 2), instrument=0)
    assert desk.reason() == DenyReason.OK


def test_gross_notional(tmp_path):
    """Positions at their mark and open orders, over all instruments."""
    desk = Desk(tmp_path, risk={"gross_notional_max": 50_000.0})
    desk.report(ExecType.FILL, make_id(0, 1, 1 << 20), qty=200, side=BUY, venue_id=1)
    assert desk.reason(qty=200, instrument=1) == DenyReason.OK
    assert desk.reason(qty=101, instrument=2) == DenyReason.GROSS_NOTIONAL
    assert desk.reason(qty=100, instrument=2) == DenyReason.OK
    assert desk.reason(qty=1, instrument=2) == DenyReason.GROSS_NOTIONAL
    assert desk.reason(side=SELL, qty=200, px=PX + 100) == DenyReason.OK, "it only shrinks the position"


def test_loss_limit_is_latched(tmp_path):
    """A marked loss of risk.loss_max denies what adds risk, and goes on denying when the price comes back."""
    desk = Desk(tmp_path, risk={"loss_max": 1000.0})
    desk.report(ExecType.FILL, make_id(0, 1, 1 << 20), px=PX, qty=100, side=BUY, venue_id=1)
    desk.quote(bid=PX - 9_9900, ask=PX - 9_9700, last=PX)
    assert desk.reason(px=PX - 10_0000, instrument=0) == DenyReason.OK
    desk.quote(bid=PX - 10_0100, ask=PX - 9_9900, last=PX)
    desk.step(8)
    assert int(desk.account["pnl"]) == -1000_0000
    assert desk.reason(instrument=1) == DenyReason.LOSS_LIMIT
    assert desk.reason(side=SELL, px=PX - 9_9800, qty=100) == DenyReason.OK
    desk.quote()
    desk.step(8)
    assert int(desk.account["pnl"]) == 0
    assert desk.reason(instrument=1) == DenyReason.LOSS_LIMIT


def test_limits_of_one_instrument(tmp_path):
    """[risk.instrument.BBB] holds for BBB alone."""
    desk = Desk(tmp_path, risk={"instrument": {"BBB": {"order_qty_max": 10, "position_max": 20}}})
    assert desk.reason(qty=11, instrument=1) == DenyReason.ORDER_QTY
    assert desk.reason(qty=11, instrument=0) == DenyReason.OK
    assert desk.reason(qty=10, instrument=1) == DenyReason.OK
    assert desk.reason(qty=10, instrument=1) == DenyReason.OK
    assert desk.reason(qty=1, instrument=1) == DenyReason.POSITION


def test_order_table_full(tmp_path):
    """Every row taken: the order is denied, and nothing stays behind of it."""
    desk = Desk(tmp_path, rings={"intent": 256, "order": 256}, risk={"position_max": 100_000})
    for _ in range(64):
        desk.intent(qty=1)
    desk.step(8)
    assert desk.count("approved") == 64
    before = desk.open_sums()
    desk.orders()
    assert desk.reason(qty=1) == DenyReason.ORDER_TABLE_FULL
    assert desk.open_sums() == before


def test_every_denial_is_counted_by_its_reason(desk):
    """denied = the sum over the reasons; the strategy's row counts too."""
    assert desk.reason(qty=0) == DenyReason.ORDER_QTY
    assert desk.reason(px=PX + 1) == DenyReason.PRICE_TICK
    assert desk.reason(px=PX + 1) == DenyReason.PRICE_TICK
    assert desk.counted(DenyReason.PRICE_TICK) == 2 and desk.counted(DenyReason.ORDER_QTY) == 1
    assert desk.count("denied") == 3 == sum(desk.counted(reason) for reason in DenyReason if reason)
    assert int(desk.memory["risk"]["strategies"][0]["denied"]) == 3
