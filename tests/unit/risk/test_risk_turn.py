"""The turn as a whole: what is sent, in which order, what is held for it, and what comes back when it ends."""

import numpy as np
import pytest

from hftd.core import clock as clocks
from hftd.core.memory import records
from hftd.msg.enums import AgentState, BookState, DenyReason, ExecType, Role
from hftd.msg.ids import make_id
from hftd.risk.memory import STRATEGY_DEAD, STRATEGY_OFF, STRATEGY_ON, STRATEGY_OVERRUN
from hftd.risk.setup import HUNG_NS
from hftd.shm import ring
from hftd.shm.map import PLACE_GATEWAY
from tests.support.risk_desk import BUY, CANCEL, CANCEL_ALL, NEW, PX, REPLACE, SELL, Desk


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path)


def accepted(desk: Desk, qty: int = 100, px: int = PX, side: int = BUY, **fields) -> int:
    """Send an order and let the venue accept it; return its id."""
    cl_ord_id = desk.intent(side=side, px=px, qty=qty, **fields)
    desk.step()
    desk.report(ExecType.NEW, cl_ord_id, px=px, qty=qty, leaves=qty, side=side)
    desk.step()
    return cl_ord_id


def test_a_sent_order_counts_at_once_and_is_released_when_it_ends(desk):
    """Before any answer it is in the sums; each terminal report takes it out whole."""
    for exec_type in (ExecType.REJECTED, ExecType.DENIED, ExecType.CANCELED):
        cl_ord_id = desk.intent(qty=300)
        desk.step()
        assert desk.position()["open_buy_qty"] == 300 and desk.position()["open_buy_cash"] == 300 * PX
        desk.report(exec_type, cl_ord_id, qty=300, leaves=0)
        desk.step()
        assert set(desk.open_sums().values()) == {0}


def test_fills_move_shares_from_open_to_held(desk):
    """Quantity and cash, at the fill's own price; the rest stays open at the order's."""
    cl_ord_id = accepted(desk, qty=300, px=PX + 100)
    desk.report(ExecType.FILL, cl_ord_id, px=PX, qty=200, leaves=100, venue_id=5)
    desk.step()
    row = desk.position()
    assert (row["bought_qty"], row["bought_cash"], row["fills"], row["orders"]) == (200, 200 * PX, 1, 1)
    assert (row["open_buy_qty"], row["open_buy_cash"]) == (100, 100 * (PX + 100))
    desk.report(ExecType.FILL, cl_ord_id, px=PX, qty=100, leaves=0, venue_id=6)
    desk.step()
    assert desk.position()["bought_qty"] == 300 and set(desk.open_sums().values()) == {0}


def test_a_fill_told_twice_counts_once(desk):
    """By match number and order; another order's fill of the same match is another fill."""
    first, second = accepted(desk, qty=100), accepted(desk, qty=100, side=SELL, px=PX + 100)
    for _ in range(2):
        desk.report(ExecType.FILL, first, qty=50, leaves=50, venue_id=9)
    desk.report(ExecType.FILL, second, qty=50, leaves=50, venue_id=9, side=SELL)
    desk.step()
    assert (desk.position()["bought_qty"], desk.position()["sold_qty"]) == (50, 50)
    assert desk.count("fills_repeated") == 1


def test_a_broken_fill_is_taken_back_out(desk):
    """Shares, cash and count; counted as broken."""
    cl_ord_id = accepted(desk)
    desk.report(ExecType.FILL, cl_ord_id, qty=100, leaves=0, venue_id=9)
    desk.report(ExecType.BROKEN, cl_ord_id, qty=100, venue_id=9)
    desk.step()
    row = desk.position()
    assert (row["bought_qty"], row["bought_cash"], row["fills"], row["broken"]) == (0, 0, 0, 1)
    assert int(desk.account["pnl"]) == 0 and int(desk.account["held_cash"]) == 0


def test_a_book_that_is_made_anew_values_no_position(tmp_path):
    """A feed that starts anew goes through the prices of the day again: none of them is now."""
    desk = Desk(tmp_path, risk={"loss_max": 1000.0})
    desk.report(ExecType.FILL, make_id(0, 1, 1), px=PX, qty=100, side=SELL, venue_id=1)
    desk.step(9)
    then = PX + 20_0000
    desk.quote(bid=then - 100, ask=then + 100, last=then, state=int(BookState.RECOVERING))
    desk.step(9)
    assert (int(desk.account["pnl"]), int(desk.account["loss_latched"])) == (0, 0)
    assert desk.reason(qty=10, px=then) == DenyReason.OK, "an order that shrinks a position passes, and values nothing either"
    desk.step(9)
    assert (int(desk.account["pnl"]), int(desk.account["loss_latched"])) == (0, 0)
    desk.quote(bid=PX + 4_9900, ask=PX + 5_0100)
    desk.step(9)
    assert int(desk.account["pnl"]) == -500_0000


def test_stub_quotes_value_no_position(tmp_path):
    """The book of an early morning, before the first print: what was held overnight keeps its price."""
    desk = Desk(tmp_path, risk={"loss_max": 1000.0})
    desk.report(ExecType.FILL, make_id(0, 1, 1), px=PX, qty=100, side=SELL, venue_id=1)
    desk.quote(bid=100, ask=199_999_0000, last=0)
    desk.step(9)
    assert (int(desk.account["pnl"]), int(desk.account["loss_latched"])) == (0, 0)


def test_an_unknown_order_keeps_its_exposure(desk):
    """A lost session is no answer: it counts on, until the venue says."""
    cl_ord_id = desk.intent(qty=100)
    desk.step()
    desk.report(ExecType.UNKNOWN, cl_ord_id, qty=100, leaves=100)
    desk.step()
    assert desk.position()["open_buy_qty"] == 100
    desk.report(ExecType.REJECTED, cl_ord_id, qty=100, leaves=0)
    desk.step()
    assert set(desk.open_sums().values()) == {0}


def test_a_refused_cancel_leaves_the_order_open(desk):
    """Whatever the refusal is called."""
    cl_ord_id = accepted(desk)
    for exec_type in (ExecType.CANCEL_REJECTED, ExecType.DENIED, ExecType.CANCEL_PENDING):
        desk.report(exec_type, cl_ord_id, qty=100, leaves=100)
    desk.step()
    assert desk.position()["open_buy_qty"] == 100


def test_reports_of_orders_it_does_not_hold(desk):
    """An open order is adopted, a fill counts, the rest is counted and harmless."""
    ghost = make_id(1, 9, 9)
    desk.report(ExecType.FILL, ghost, qty=10, venue_id=1)
    desk.report(ExecType.CANCELED, ghost, qty=10)
    desk.report(ExecType.REJECTED, ghost, qty=10)
    desk.step()
    assert desk.position()["bought_qty"] == 10 and desk.count("reports_unknown") == 3
    desk.report(ExecType.NEW, ghost, qty=70, leaves=70)
    desk.step()
    assert desk.position()["open_buy_qty"] == 70 and desk.count("adopted") == 1
    desk.report(ExecType.CANCELED, ghost, qty=70, leaves=0)
    desk.step()
    assert set(desk.open_sums().values()) == {0}


IMPOSSIBLE = {
    "a fill above 2**31": (ExecType.FILL, {"qty": 4_000_000_000, "leaves": 0}),
    "a fill above what the wire takes": (ExecType.FILL, {"qty": 1_000_000, "leaves": 0}),
    "a fill at a price of eight bytes": (ExecType.FILL, {"qty": 10, "px": 1 << 62, "leaves": 90}),
    "a fill at a negative price": (ExecType.FILL, {"qty": 10, "px": -PX, "leaves": 90}),
    "a fill at no price": (ExecType.FILL, {"qty": 10, "px": 0, "leaves": 90}),
    "a broken fill of 2**32": (ExecType.BROKEN, {"qty": (1 << 32) - 1, "leaves": 100}),
    "more open than an order can be": (ExecType.MODIFIED, {"leaves": 1 << 31}),
    "accepted at a price of eight bytes": (ExecType.REPLACED, {"px": 1 << 40, "leaves": 100}),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_a_report_that_cannot_be_changes_nothing_and_ends_new_risk(desk, name):
    """Sums would overflow, a loss become a profit. Cancels still pass; a new risk process is as careful as the one before."""
    order = accepted(desk)
    sums, held = desk.open_sums(), desk.position()
    exec_type, fields = IMPOSSIBLE[name]
    desk.report(exec_type, order, venue_id=7, **fields)
    desk.step()
    assert (desk.open_sums(), desk.position()) == (sums, held) and int(desk.account["pnl"]) == 0
    assert desk.count("reports_impossible") == 1
    assert desk.reason(instrument=1) == DenyReason.NOT_READY, "at once, not when cold code looks"
    desk.agent.cold(1 << 60)
    assert int(desk.agent.mark["state"]) == AgentState.DEGRADED and not int(desk.agent.mark["ready"])
    desk.start()
    assert desk.reason(instrument=1) == DenyReason.NOT_READY
    assert desk.reason(kind=CANCEL, cl_ord_id=order, qty=0) == DenyReason.OK


def test_a_report_about_no_instrument_is_dropped(desk):
    """An index outside the table touches nothing."""
    desk.report(ExecType.FILL, make_id(0, 1, 1), qty=10, instrument=4, venue_id=1)
    desk.step()
    assert desk.count("reports_unknown") == 1


# ---------------------------------------------------------------- replaces


def test_a_replace_holds_the_larger_of_the_two(desk):
    """Larger: the excess is held at once. Smaller: nothing is released before the venue says so."""
    first = accepted(desk, qty=300)
    larger = desk.intent(kind=REPLACE, orig=first, qty=500, px=PX + 100)
    desk.step()
    assert (desk.position()["open_buy_qty"], desk.position()["open_buy_cash"]) == (500, 500 * (PX + 100))
    desk.report(ExecType.REPLACED, larger, orig=first, px=PX + 100, qty=500, leaves=500)
    desk.step()
    smaller = desk.intent(kind=REPLACE, orig=larger, qty=200, px=PX)
    desk.step()
    assert desk.position()["open_buy_qty"] == 500
    desk.report(ExecType.REPLACED, smaller, orig=larger, px=PX, qty=200, leaves=200)
    desk.step()
    assert (desk.position()["open_buy_qty"], desk.position()["open_buy_cash"]) == (200, 200 * PX)
    assert desk.position()["open_orders"] == 1 and desk.position()["orders"] == 3


def test_executed_shares_are_part_of_a_replaces_total(desk):
    """100 of 300 filled: "leave 400 open" is a total of 500, and holds 400; a refused one gives the excess back."""
    first = accepted(desk, qty=300)
    desk.report(ExecType.FILL, first, qty=100, leaves=200, venue_id=1)
    desk.step()
    second = desk.intent(kind=REPLACE, orig=first, qty=500)
    desk.step()
    assert desk.position()["open_buy_qty"] == 400
    desk.report(ExecType.FILL, first, qty=50, leaves=150, venue_id=2)
    desk.step()
    assert desk.position()["open_buy_qty"] == 350
    desk.report(ExecType.REPLACE_REJECTED, second, orig=first, qty=500)
    desk.step()
    assert desk.position()["open_buy_qty"] == 150 and desk.position()["open_orders"] == 1


def test_an_order_that_ends_takes_its_replacement_with_it(desk):
    """The venue ignores a replace of a dead order: nothing is held for it any more."""
    first = accepted(desk, qty=100)
    second = desk.intent(kind=REPLACE, orig=first, qty=300)
    third = desk.intent(kind=REPLACE, orig=second, qty=400)
    desk.step()
    assert desk.position()["open_buy_qty"] == 400
    desk.report(ExecType.FILL, first, qty=100, leaves=0, venue_id=1)
    desk.step()
    assert set(desk.open_sums().values()) == {0}
    desk.report(ExecType.REPLACE_REJECTED, third, orig=second)
    desk.step()
    assert set(desk.open_sums().values()) == {0}


def test_replaces_that_cannot_be(desk):
    """No such order, one that is being replaced already, another side or instrument, a chain too long."""
    first = accepted(desk, qty=100)
    assert desk.reason(kind=REPLACE, orig=make_id(0, 1, 77)) == DenyReason.UNKNOWN_ORDER
    assert desk.reason(kind=REPLACE, orig=first, side=SELL, px=PX + 100) == DenyReason.BAD_FIELD
    assert desk.reason(kind=REPLACE, orig=first, instrument=1) == DenyReason.BAD_FIELD
    assert desk.reason(kind=REPLACE, orig=first, place=1) == DenyReason.UNKNOWN_ORDER, "another strategy's"
    last = desk.intent(kind=REPLACE, orig=first)
    desk.step()
    assert desk.reason(kind=REPLACE, orig=first) == DenyReason.NOT_OPEN
    for _ in range(7):
        last = desk.intent(kind=REPLACE, orig=last)
    desk.step()
    assert desk.reason(kind=REPLACE, orig=last) == DenyReason.NOT_OPEN
    desk.report(ExecType.CANCELED, first, qty=100, leaves=0)
    desk.step()
    assert set(desk.open_sums().values()) == {0}


# ---------------------------------------------------------------- cancels, fairness, full rings


def test_cancels_pass_whatever_the_limits_say(tmp_path):
    """Rate used up, feed stale, book stale: cancels go out, of orders risk does not hold too; another strategy's are refused."""
    desk = Desk(tmp_path, risk={"message_rate_max": 1})
    cl_ord_id = desk.intent()
    desk.step()
    assert desk.reason() == DenyReason.MESSAGE_RATE
    desk.quote(state=2, trading=2)
    for _ in range(20):
        assert desk.reason(kind=CANCEL, cl_ord_id=cl_ord_id) == DenyReason.OK
    assert desk.reason(kind=CANCEL, cl_ord_id=make_id(0, 1, 12345)) == DenyReason.OK
    assert desk.count("cancels_unknown") == 1
    assert desk.reason(kind=CANCEL, cl_ord_id=cl_ord_id, place=1) == DenyReason.BAD_FIELD


def test_a_denied_cancel_is_no_end_of_the_order(desk):
    """It is reported as CANCEL_REJECTED, an order as DENIED."""
    desk.intent(kind=CANCEL, cl_ord_id=make_id(0, 1, 5), place=1)
    desk.intent(qty=0)
    desk.step()
    kinds = sorted((int(row["exec_type"]), int(row["venue_id"])) for row in desk.denials())
    assert kinds == [(int(ExecType.DENIED), int(DenyReason.ORDER_QTY)), (int(ExecType.CANCEL_REJECTED), int(DenyReason.BAD_FIELD))]


def test_strategies_are_served_in_turn(tmp_path):
    """Two strategies with long queues get equal shares, and neither is always first."""
    desk = Desk(tmp_path, risk={"self_cross": False})
    for _ in range(64):
        desk.intent(kind=CANCEL, cl_ord_id=make_id(0, 1, 1), place=0)
        desk.intent(kind=CANCEL, cl_ord_id=make_id(1, 1, 1), place=1)
    firsts = []
    for _ in range(4):
        desk.step()
        sent = [int(row["strategy"]) for row in desk.orders()]
        assert sent.count(0) == sent.count(1) == 16
        firsts.append(sent[0])
    assert set(firsts) == {0, 1}


def gateway_that_sleeps(desk: Desk) -> np.ndarray:
    """Stand on the order ring as a gating consumer that reads nothing."""
    handle = records(ring.consumer_dtype, 1)
    ring.open_consumer(handle[0], desk.memory["ring.order"], PLACE_GATEWAY)
    return handle


def test_a_full_order_ring_denies_orders_and_holds_cancels_back(tmp_path):
    """Orders are denied with nothing held for them; a cancel waits in its place and goes out when there is room."""
    desk = Desk(tmp_path, rings={"order": 64, "intent": 256, "report": 256})
    gateway_that_sleeps(desk)
    for _ in range(64):
        desk.intent(kind=CANCEL, cl_ord_id=make_id(0, 1, 1))
    desk.step(8)
    before = desk.open_sums()
    assert desk.reason() == DenyReason.RING_FULL
    assert desk.open_sums() == before
    desk.intent(kind=CANCEL, cl_ord_id=make_id(0, 1, 2))
    desk.step(4)
    assert desk.orders() == [] and desk.denials() == []
    desk.memory["ring.order"]["control"][0]["consumers"][PLACE_GATEWAY]["head"] = 1
    desk.step(4)
    assert [int(row["cl_ord_id"]) for row in desk.orders()] == [make_id(0, 1, 2)]
    assert desk.count("approved") == 65


def test_a_strategy_that_does_not_read_its_denials_is_switched_off(tmp_path):
    """It is detached from the ring, its orders are cancelled, and the others go on."""
    desk = Desk(tmp_path, rings={"report": 64, "intent": 256, "order": 256})
    handle = records(ring.consumer_dtype, 1)
    ring.open_consumer(handle[0], desk.memory["ring.deny"], 1)
    for _ in range(70):
        desk.intent(qty=0)
    desk.step(8)
    row = desk.memory["risk"]["strategies"][1]
    assert int(row["state"]) == STRATEGY_OVERRUN and desk.count("deny_overruns") == 1
    assert [(int(order["kind"]), int(order["strategy"])) for order in desk.orders()] == [(CANCEL_ALL, 1)]
    assert desk.reason(place=1) == DenyReason.STRATEGY_DISABLED
    assert desk.reason(place=0) == DenyReason.OK


# ---------------------------------------------------------------- strategies that are gone


def test_a_dead_strategys_orders_are_cancelled(desk):
    """No such process: CANCEL_ALL, once; what it still had in its ring is denied; when it is back, it may trade."""
    mark = desk.memory["control"]["marks"][int(Role.STRATEGY)]
    half_a_second = int(desk.clock["hz"]) // 2        # old enough to ask the kernel, too young to be hung
    mark["state"], mark["pid"] = int(AgentState.RUNNING), 999_999_999
    mark["heartbeat"] = clocks.now_ticks() - half_a_second
    desk.agent.cold(1_000_000_000)
    desk.agent.cold(2_000_000_000)
    desk.step(3)
    assert [(int(order["kind"]), int(order["strategy"])) for order in desk.orders()] == [(CANCEL_ALL, 0)]
    assert int(desk.memory["risk"]["strategies"][0]["state"]) == STRATEGY_DEAD
    assert desk.reason() == DenyReason.STRATEGY_DISABLED
    assert desk.reason(place=1) == DenyReason.OK
    mark["pid"] = desk.agent.mark["pid"]
    desk.agent.cold(3_000_000_000)
    assert desk.reason() == DenyReason.OK


def test_a_hung_strategys_orders_are_cancelled(desk):
    """Alive, and without a heartbeat for HUNG_NS."""
    mark = desk.memory["control"]["marks"][int(Role.STRATEGY)]
    mark["state"], mark["pid"] = int(AgentState.RUNNING), desk.agent.mark["pid"]
    mark["heartbeat"] = int(desk.agent.handle["feed_seen"]) - HUNG_NS * 3
    desk.agent.cold(1_000_000_000)
    desk.step()
    assert [int(order["kind"]) for order in desk.orders()] == [CANCEL_ALL]


def test_a_strategy_started_again_between_two_looks(desk):
    """Its predecessor's orders are cancelled all the same."""
    mark = desk.memory["control"]["marks"][int(Role.STRATEGY) + 1]
    mark["starts"] = 1
    desk.agent.cold(1_000_000_000)
    desk.step()
    assert desk.orders() == []
    mark["starts"] = 2
    desk.agent.cold(2_000_000_000)
    desk.step()
    assert [(int(order["kind"]), int(order["strategy"])) for order in desk.orders()] == [(CANCEL_ALL, 1)]


def test_a_strategy_switched_off_by_an_operator(desk):
    """New risk is denied, cancels pass."""
    row = desk.memory["risk"]["strategies"][0]
    row["state"] = STRATEGY_OFF
    assert desk.reason() == DenyReason.STRATEGY_DISABLED
    assert desk.reason(kind=CANCEL, cl_ord_id=make_id(0, 1, 1)) == DenyReason.OK
    row["state"] = STRATEGY_ON
    assert desk.reason() == DenyReason.OK


def test_approved_equals_sent(desk):
    """The count of approved records is the order ring's sequence, and every record carries its own."""
    for step in range(30):
        desk.intent(qty=(step % 3) * 100, px=PX - 100 * (step % 2))
        desk.step()
    sent = desk.orders()
    assert [int(order["seq"]) for order in sent] == list(range(1, len(sent) + 1))
    assert desk.count("approved") == len(sent) == desk.count("orders") == 20
    assert int(sent[0]["kind"]) == NEW
