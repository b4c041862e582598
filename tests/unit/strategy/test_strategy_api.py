"""Every function a strategy may call, called from inside a compiled callback."""

import numpy as np
import pytest

from hftd.core.memory import records
from hftd.msg.enums import BookState, DenyReason, EventKind, ExecType, IntentKind, RunState, TradingState
from hftd.msg.ids import sequence_of, strategy_of
from hftd.shm import ring
from tests.support.strategy_desk import BUY, IOC, PX, SELL, Desk


@pytest.fixture
def desk():
    made = Desk()
    made.quote()
    return made


def test_submit_sends_one_intent_with_every_field(desk):
    """What the strategy asked for is what risk reads, with the stamps of the event that caused it."""
    made = desk.submit(0, SELL, PX + 300, 250, IOC)

    sent = desk.last()
    assert len(sent) == 1
    intent = sent[0]
    assert intent["cl_ord_id"] == made > 0
    assert (intent["kind"], intent["side"], intent["tif"]) == (IntentKind.NEW, SELL, IOC)
    assert (intent["px"], intent["qty"]) == (PX + 300, 250)
    assert (intent["instrument"], intent["strategy"], intent["flags"]) == (0, 0, 0)
    assert intent["ts_recv"] == desk.clock
    assert int(strategy_of(made)) == 0
    assert int(sequence_of(made)) == 1


def test_ids_grow_and_never_repeat(desk):
    """Risk refuses an id that is not above the last."""
    made = [desk.submit() for _ in range(5)]
    assert made == sorted(set(made))


@pytest.mark.parametrize(("change", "reason"), [
    ({"instrument": 2}, DenyReason.UNKNOWN_INSTRUMENT),
    ({"instrument": -1}, DenyReason.UNKNOWN_INSTRUMENT),
    ({"side": 2}, DenyReason.BAD_FIELD),
    ({"tif": 5}, DenyReason.BAD_FIELD),
    ({"px": 0}, DenyReason.BAD_FIELD),
    ({"px": -100}, DenyReason.BAD_FIELD),
    ({"px": 1 << 41}, DenyReason.BAD_FIELD),
    ({"qty": 0}, DenyReason.BAD_FIELD),
    ({"qty": 1_000_000}, DenyReason.BAD_FIELD),
    ({"instrument": 1}, DenyReason.BOOK_NOT_LIVE),
])  # fmt: skip
def test_submit_refuses_what_cannot_be_and_sends_nothing(desk, change, reason):
    """The reason comes back negative, nothing leaves, nothing is held."""
    assert desk.submit(**change) == -reason
    assert desk.last() == []
    assert desk.counters()["refused"] == 1
    assert desk.counters()["last_refusal"] == reason
    assert desk.do(7, 0)[1:3] == [0, 0]


@pytest.mark.parametrize(("field", "value", "reason"), [
    ("state", RunState.STARTING, DenyReason.NOT_READY),
    ("state", RunState.STOPPING, DenyReason.STOPPING),
    ("state", RunState.STOPPED, DenyReason.STOPPING),
    ("kill", 1, DenyReason.KILLED),
    ("session_up", 0, DenyReason.SESSION_DOWN),
])  # fmt: skip
def test_nothing_new_leaves_unless_the_daemon_trades(desk, field, value, reason):
    """Not before READY, not after stop or kill, not without a session; cancels leave at any time."""
    made = desk.submit()
    desk.run[field] = int(value)

    assert desk.submit() == -reason
    assert desk.do(9, 0)[3] == 0
    desk.report(1, made, px=PX, qty=100, leaves_qty=100, venue_id=5)
    assert desk.do(2, made, PX - 100, 100)[0] == -reason
    assert desk.do(3, made)[0] == 0


def test_submit_refuses_a_halted_instrument_and_a_book_that_is_not_live(desk):
    """Both are known from market events alone."""
    desk.event(EventKind.STATUS, qty=int(TradingState.HALTED))
    assert desk.submit() == -DenyReason.NOT_TRADING
    desk.event(EventKind.STATUS, qty=int(TradingState.TRADING))
    assert desk.submit() > 0
    assert desk.submit(state=int(BookState.RECOVERING)) == -DenyReason.BOOK_NOT_LIVE


def test_full_intent_ring_and_full_order_table_refuse():
    """64 slots and 16 open orders: the first that runs out says so."""
    desk = Desk(orders_max=16)
    desk.quote()
    made = [desk.submit() for _ in range(17)]
    assert all(one > 0 for one in made[:16])
    assert made[16] == -DenyReason.ORDER_TABLE_FULL

    desk = Desk(rings={"intent": 64})
    desk.quote()
    ring.open_consumer(records(ring.consumer_dtype, 1)[0], desk.memory["ring.intent.0"], 5)   # it never reads
    made = [desk.submit() for _ in range(65)]
    assert all(one > 0 for one in made[:64])
    assert made[64] == -DenyReason.RING_FULL
    assert desk.do(4, -1)[0] == -DenyReason.RING_FULL


def test_a_finished_orders_row_is_used_again_under_a_new_id():
    """100 orders, one open at a time, in a table of 32 rows; an old id does not find the new order."""
    desk = Desk(orders_max=16)
    desk.quote()
    first = desk.submit()
    desk.report(3, first, qty=100, leaves_qty=0, px=PX)
    for _ in range(100):
        made = desk.submit()
        desk.report(3, made, qty=100, leaves_qty=0, px=PX)
    assert int(sequence_of(made)) > 100
    assert desk.order(first)["status"] == 0
    assert desk.do(7, 0)[1] == 0


def test_cancel_and_replace_speak_of_the_order_meant(desk):
    """A replace carries a new id, the old sequence, and the chain's total; a cancel the order's own id."""
    made, _ = desk.accepted()
    desk.report(2, made, px=PX, qty=30, leaves_qty=70)

    new = desk.do(2, made, PX + 100, 200)[0]
    intent = desk.last()[0]
    assert new > made
    assert (intent["kind"], intent["cl_ord_id"], intent["orig_seq"]) == (IntentKind.REPLACE, new, int(sequence_of(made)))
    assert (intent["px"], intent["qty"]) == (PX + 100, 230)          # 30 are executed already, 200 shall be open
    assert desk.order(made)["is_pending"] == 1

    assert desk.do(2, made, PX, 100)[0] == -DenyReason.NOT_OPEN       # its replacement is under way
    assert desk.do(3, new)[0] == 0
    assert desk.last()[0]["kind"] == IntentKind.CANCEL
    assert desk.do(3, new)[0] == -DenyReason.NOT_OPEN
    assert desk.do(3, 12345)[0] == -DenyReason.UNKNOWN_ORDER
    assert desk.do(2, 12345, PX, 100)[0] == -DenyReason.UNKNOWN_ORDER


def test_an_ioc_order_cannot_be_replaced(desk):
    """It is over before the replace could arrive."""
    made, _ = desk.accepted(tif=IOC)
    assert desk.do(2, made, PX, 50)[0] == -DenyReason.BAD_FIELD


def test_cancel_all_is_one_intent_and_on_one_instrument_one_each(desk):
    """The whole strategy at once, or an instrument's orders one by one."""
    desk.quote(instrument=1)
    ours = [desk.accepted(px=PX - 100 * i)[0] for i in range(3)]
    other = desk.accepted(instrument=1)[0]

    assert desk.do(4, 0)[0] == 3
    assert sorted(one["cl_ord_id"] for one in desk.last()) == sorted(ours)
    assert desk.order(other)["is_pending"] == 0
    assert desk.do(4, -1)[0] == 0
    assert [one["kind"] for one in desk.last()] == [IntentKind.CANCEL_ALL]
    assert desk.order(other)["is_pending"] == 1


def test_books_are_readable_to_full_depth(desk):
    """40 levels a side: best first, zeros beyond the end."""
    for i in range(1, 40):
        desk.level(BUY, PX - 100 * i, 100 + i, orders=i, end=False)
        desk.level(SELL, PX + 200 + 100 * i, 200 + i, orders=i + 1, end=i == 39)
    assert desk.do(5, 0, BUY, 0, PX)[:5] == [40, PX, 100, 1, 100]
    assert desk.do(5, 0, BUY, 39, PX - 3900)[:5] == [40, PX - 3900, 139, 39, 139]
    assert desk.do(5, 0, SELL, 20, PX + 2200)[:5] == [40, PX + 2200, 220, 21, 220]
    assert desk.do(5, 0, SELL, 40, 5)[:5] == [40, 0, 0, 0, 0]
    assert desk.do(12, 0, 1)[:4] == [PX - 100, 101, PX + 300, 201]
    assert (desk.saw("bid_px"), desk.saw("ask_px")) == (PX, PX + 200)


def test_market_px_leaves_our_own_quote_out(desk):
    """Alone at the best bid, we quote around the next one; with company, the best bid counts."""
    made, ref = desk.accepted(px=PX + 100)
    desk.level(BUY, PX + 100, 100, ref=ref)
    assert desk.do(11, 0, BUY, PX + 100)[:3] == [PX, PX + 200, 100]
    desk.level(BUY, PX + 100, 150, orders=2)
    assert desk.do(11, 0, BUY, PX + 100)[:3] == [PX + 100, PX + 200, 100]
    assert made


def test_queue_position_follows_what_leaves_before_us(desk):
    """400 stand before us; executions and older cancels shorten the queue, younger ones do not."""
    older = desk.level(BUY, PX, 400)
    made, ref = desk.accepted()
    assert desk.order(made)["queue_ahead"] == -1
    desk.level(BUY, PX, 500, ref=ref)
    assert desk.order(made)["queue_ahead"] == 400
    younger = desk.level(BUY, PX, 800)
    desk.level(BUY, PX, 700, ref=older)
    assert desk.order(made)["queue_ahead"] == 300
    desk.level(BUY, PX, 650, ref=younger)
    assert desk.order(made)["queue_ahead"] == 300
    desk.level(BUY, PX, 350, ref=older)
    assert desk.order(made)["queue_ahead"] == 0


def test_queue_positions_of_many_orders_at_many_prices(desk):
    """Forty orders, some finished, some moved by the venue: what happens at a price concerns those that stand there, no others."""
    held = {}
    for at in range(40):
        px = PX - 100 * at
        desk.level(BUY, px, 400)
        made, ref = desk.accepted(px=px)
        desk.level(BUY, px, 500, ref=ref)
        held[made] = (px, 400)
    for at, made in enumerate(list(held)):
        if at % 3 == 0:
            desk.report(ExecType.CANCELED, made, px=held[made][0], qty=100, leaves_qty=0)
            del held[made]
    moved, ref = desk.submit(px=PX - 20_000), desk.ref + 1
    desk.report(1, moved, px=PX - 30_000, qty=100, leaves_qty=100, venue_id=ref)      # accepted at another price than asked
    desk.level(BUY, PX - 30_000, 300, ref=ref)
    desk.level(BUY, PX - 30_000, 400, ref=ref)
    held[moved] = (PX - 30_000, 300)
    for at, (made, (px, ahead)) in enumerate(held.items()):
        desk.level(BUY, px, ahead + 100 - at, ref=1)
        held[made] = (px, max(ahead - at, 0))
    for made, (_, ahead) in held.items():
        assert desk.order(made)["queue_ahead"] == ahead


def test_queue_position_when_the_market_data_was_faster(desk):
    """The book shows the order before the venue's answer is here: whoever stands there counts as before us."""
    made = desk.submit()
    ref = desk.level(BUY, PX, 200)
    desk.report(1, made, px=PX, qty=100, leaves_qty=100, venue_id=ref)
    assert desk.order(made)["queue_ahead"] == 100
    assert desk.do(11, 0, BUY, PX)[2] == 100


def test_lists_walk_all_open_orders_of_a_side(desk):
    """Newest first; a finished order is not in it."""
    first, second, third = (desk.accepted(px=PX - 100 * i)[0] for i in range(3))
    assert desk.do(8, 0, BUY)[:3] == [third, second, first]
    desk.report(3, second, px=PX, qty=100, leaves_qty=0)
    assert desk.do(8, 0, BUY)[:3] == [third, first, 0]
    assert desk.do(8, 0, SELL)[:2] == [0, 0]


def test_params_counters_symbols_and_instrument_state(desk):
    """Floats and symbols as params, names found in the table, one state record an instrument."""
    table = desk.memory["market"]["instruments"]
    table["symbol"][:2] = [int.from_bytes(name.ljust(8).encode(), "little") for name in ("AAA", "BBB")]
    assert desk.do(9, 1)[:4] == [1, 2, 1, 1]
    assert desk.saw("rate") == 0.5
    assert desk.saw("starts") == 1
    seen = np.asarray(desk.agent.states)
    assert int(seen["seen"][0]) == desk.saw("books") == 1
    assert float(seen["half"][0]) == 0.5
    assert int(np.asarray(desk.agent.segment["user"]["values"])[0][0]) == 1


def test_timer_fires_once_at_its_moment_by_events_or_by_the_clock(desk):
    """Set for 500 ticks from now: not before, once, and its `now` is the moment it was set for."""
    desk.do(10, 500)
    set_at = desk.clock
    desk.idle(set_at + 499)
    assert desk.saw("timers") == 0
    desk.idle(set_at + 5000)
    assert desk.saw("timers") == 1
    assert desk.saw("now_ns") == set_at + 500
    desk.idle(set_at + 50_000)
    assert desk.saw("timers") == 1

    desk.clock += 60_000
    desk.do(10, 30)
    for _ in range(5):
        desk.level(BUY, PX, 100)
    assert desk.saw("timers") == 2
    desk.do(10, 30)
    desk.do(10, 0)
    desk.idle(desk.clock + 1000)
    assert desk.saw("timers") == 2


def test_a_timer_set_for_never_does_not_fire(desk):
    """The moment was past the end of an int64: it fired at once, and again with every event."""
    for ns in ((1 << 63) - 1, 1 << 62):
        desk.do(10, ns)
        desk.level(BUY, PX, 100)
        desk.idle(desk.clock + 1000)
        assert desk.saw("timers") == 0


def test_no_symbol_is_not_found(desk):
    """An empty param found the first instrument that was not announced yet: whatever that became was traded."""
    assert Desk(params={"symbol": ""}).do(9, 0)[0] == -1
    assert desk.do(9, 0)[0] == -1                                     # BBB is not announced either


@pytest.mark.parametrize("side", [2, -1, 1 << 40])
def test_a_side_that_is_none_reads_no_other_memory(desk, side):
    """Books lie side by side: what was read as a level's address was another book's price."""
    desk.quote(instrument=1)
    assert desk.do(5, 0, side, 0, PX)[:2] in ([1, PX], [1, PX + 200])
    assert desk.do(8, 0, side)[:2] == [0, 0]
    assert desk.do(11, 0, side, PX)[2] == 0


def test_callbacks_see_what_happened(desk):
    """Prints with the resting side, hidden ones marked; the book once a packet; states as they change."""
    books = desk.saw("books")
    desk.event(EventKind.TRADE, PX, 50, SELL, end=False)
    assert (desk.saw("px"), desk.saw("side"), desk.saw("hidden")) == (PX, SELL, 0)
    desk.level(SELL, PX + 200, 50)
    assert desk.saw("books") == books + 1
    desk.level(SELL, PX + 200, 40, end=False)
    assert desk.saw("books") == books + 1
    desk.event(EventKind.HIDDEN_TRADE, PX + 50, 10)
    assert desk.saw("books") == books + 2                             # it ended the packet of the change before
    assert (desk.saw("hidden"), desk.saw("now_ns"), desk.saw("venue_ns")) == (1, desk.clock, desk.clock + 5)

    desk.event(EventKind.STATUS, qty=int(TradingState.HALTED))
    assert desk.saw("trading") == TradingState.HALTED
    desk.event(EventKind.BOOK_STATE, qty=int(BookState.STALE), state=int(BookState.STALE))
    assert desk.saw("book") == BookState.STALE
    books = desk.saw("books")
    desk.level(BUY, PX + 100, 10, state=int(BookState.STALE))
    assert desk.saw("books") == books                                 # not told of a book that cannot be trusted
    desk.event(EventKind.BOOK_STATE, qty=0)
    assert desk.saw("books") == books + 1
    assert desk.saw("bid_px") == PX + 100


def test_clear_empties_the_book(desk):
    """What follows is a snapshot."""
    desk.event(EventKind.CLEAR, state=int(BookState.RECOVERING))
    assert desk.do(5, 0, BUY, 0, PX, state=int(BookState.RECOVERING))[:2] == [0, 0]
    desk.level(BUY, PX - 500, 70)
    assert desk.do(5, 0, BUY, 0, PX - 500)[:5] == [1, PX - 500, 70, 1, 70]


def test_events_of_instruments_outside_the_table_are_dropped_and_counted(desk):
    """A feed of another configuration must not write over memory."""
    desk.level(BUY, PX, 100, instrument=7)
    assert desk.counters()["bad_reports"] == 1


def test_only_its_symbols_are_followed():
    """Symbols in the configuration: the others are skipped and cannot be traded."""
    desk = Desk(symbols=("AAA", "BBB"), follow=["BBB"])
    desk.quote(instrument=0)
    desk.quote(instrument=1)
    assert desk.saw("books") == 1
    desk.event(EventKind.HIDDEN_TRADE, PX, 1, instrument=1)
    assert desk.saw("trades") == 1
    assert int(np.asarray(desk.agent.books["subscribed"])[0]) == 0
    assert int(np.asarray(desk.agent.books["subscribed"])[1]) == 1

