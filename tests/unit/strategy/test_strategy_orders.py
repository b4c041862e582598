"""The strategy's order table and positions, report by report; every way an order can end."""

import numpy as np
import pytest

from hftd.msg.enums import DenyReason, ExecType, OrdStatus
from tests.support.strategy_desk import BUY, PX, SELL, Desk

NEW, FILL, CANCELED, REPLACED = ExecType.NEW, ExecType.FILL, ExecType.CANCELED, ExecType.REPLACED


@pytest.fixture
def desk():
    made = Desk()
    made.quote()
    return made


def row(desk, instrument=0):
    """The position row without its zeros."""
    return {name: value for name, value in desk.position(instrument).items() if value}


def test_life_of_an_order(desk):
    """Sent, accepted, filled in two parts: the table and the position say the same at each step."""
    made = desk.submit(qty=100)
    assert desk.order(made)["status"] == OrdStatus.PENDING_NEW
    assert row(desk) == {"open_buy_qty": 100, "open_buy_cash": 100 * PX, "open_orders": 1}

    desk.report(NEW, made, px=PX, qty=100, leaves_qty=100, venue_id=77)
    assert desk.order(made)["status"] == OrdStatus.LIVE
    assert desk.saw("kind") == NEW

    desk.report(FILL, made, px=PX - 100, qty=40, leaves_qty=60, venue_id=1)
    seen = desk.order(made)
    assert (seen["status"], seen["leaves_qty"], seen["cum_qty"]) == (OrdStatus.PARTIALLY_FILLED, 60, 40)
    assert (desk.saw("qty"), desk.saw("leaves"), desk.saw("cum"), desk.saw("position")) == (40, 60, 40, 40)

    desk.report(FILL, made, px=PX, qty=60, leaves_qty=0, venue_id=2)
    assert desk.order(made)["status"] == OrdStatus.FILLED
    assert desk.order(made)["is_open"] == 0
    assert row(desk) == {"bought_qty": 100, "bought_cash": 40 * (PX - 100) + 60 * PX, "fills": 2, "orders": 1, "last_fill_px": PX}
    assert desk.do(7, 0)[:5] == [100, 0, 0, -(40 * (PX - 100) + 60 * PX) + 100 * (PX + 100), 2]


def test_partial_cancel_leaves_the_rest_open(desk):
    """Decrement first, then the end."""
    made, _ = desk.accepted(side=SELL, px=PX + 200)
    desk.report(CANCELED, made, side=SELL, px=PX + 200, qty=30, leaves_qty=70)
    assert desk.order(made)["leaves_qty"] == 70
    assert row(desk)["open_sell_qty"] == 70
    desk.report(CANCELED, made, side=SELL, px=PX + 200, qty=70, leaves_qty=0)
    assert desk.order(made)["status"] == OrdStatus.CANCELED
    assert row(desk) == {"orders": 1}


@pytest.mark.parametrize(("kind", "reason"), [(ExecType.DENIED, int(DenyReason.POSITION)), (ExecType.REJECTED, 9)])
def test_an_order_that_never_lived_holds_nothing(desk, kind, reason):
    """Denied by risk or rejected by the venue."""
    made = desk.submit()
    desk.report(kind, made, px=PX, qty=100, venue_id=reason)
    assert desk.order(made)["status"] == OrdStatus.REJECTED
    assert (desk.saw("kind"), desk.saw("reason"), desk.saw("status")) == (kind, reason, OrdStatus.REJECTED)
    assert row(desk) == {}
    assert desk.counters()["denied"] + desk.counters()["rejected"] == 1


def test_denials_come_from_their_own_ring(desk):
    """Risk's ring is read beside the gateway's."""
    from hftd.core.agent import push_log
    from hftd.core.memory import records
    from hftd.msg.records import report_dtype
    from hftd.shm import ring

    made = desk.submit()
    denials = records(ring.producer_dtype, 1)[0]
    ring.open_producer(denials, desk.memory["ring.deny"])
    said = np.zeros(1, report_dtype)
    said["exec_type"], said["cl_ord_id"], said["venue_id"], said["ts_recv"] = int(ExecType.DENIED), made, 10, desk.clock
    push_log(denials, said.ctypes.data)
    desk.idle(desk.clock)
    assert desk.order(made)["status"] == OrdStatus.REJECTED
    assert desk.counters()["last_denial"] == 10


def test_reports_of_other_strategies_are_not_ours(desk):
    """The ring carries everybody's."""
    desk.report(FILL, (3 << 56) | 5, px=PX, qty=10)
    assert row(desk) == {}
    assert desk.saw("reports") == 0


def test_replace_moves_the_chain_to_the_new_order(desk):
    """Held while under way: the larger of the two; afterwards the new one alone, with what the old one had executed."""
    made, _ = desk.accepted()
    desk.report(FILL, made, px=PX, qty=30, leaves_qty=70)
    new = desk.do(2, made, PX + 100, 120)[0]
    assert row(desk)["open_buy_qty"] == 120
    assert row(desk)["open_orders"] == 2

    desk.report(FILL, made, px=PX, qty=20, leaves_qty=50)             # the old one is still there
    assert row(desk)["open_buy_qty"] == 100                           # 50, and the 50 by which the new one may be larger
    assert (desk.order(new)["leaves_qty"], desk.order(new)["cum_qty"]) == (100, 50)
    desk.report(REPLACED, new, px=PX + 100, qty=100, leaves_qty=100, orig_seq=made & 0xFFFFFFFF, venue_id=500)
    assert desk.order(made)["status"] == OrdStatus.CANCELED
    seen = desk.order(new)
    assert (seen["status"], seen["leaves_qty"], seen["cum_qty"], seen["px"]) == (OrdStatus.PARTIALLY_FILLED, 100, 50, PX + 100)
    assert desk.saw("orig") == made
    after = row(desk)
    assert (after["open_buy_qty"], after["open_buy_cash"], after["open_orders"], after["orders"]) == (100, 100 * (PX + 100), 1, 2)


@pytest.mark.parametrize("kind", [ExecType.DENIED, ExecType.REPLACE_REJECTED, ExecType.REJECTED])
def test_a_replace_that_failed_leaves_the_old_order_as_it_was(desk, kind):
    """Whoever refused it."""
    made, _ = desk.accepted()
    new = desk.do(2, made, PX + 100, 200)[0]
    desk.report(kind, new, px=PX + 100, qty=200, orig_seq=made & 0xFFFFFFFF, venue_id=5)
    assert desk.order(new)["status"] == OrdStatus.REJECTED
    assert desk.order(made)["status"] == OrdStatus.LIVE
    assert desk.order(made)["is_pending"] == 0
    assert row(desk)["open_buy_qty"] == 100
    assert desk.do(2, made, PX + 100, 200)[0] > 0                     # and it may be tried again


def test_old_order_filled_while_its_replace_was_under_way(desk):
    """The replace then fails; nothing is open."""
    made, _ = desk.accepted()
    new = desk.do(2, made, PX + 100, 100)[0]
    desk.report(FILL, made, px=PX, qty=100, leaves_qty=0)
    desk.report(ExecType.REPLACE_REJECTED, new, px=PX, orig_seq=made & 0xFFFFFFFF)
    assert desk.order(made)["status"] == OrdStatus.FILLED
    assert {key: value for key, value in row(desk).items() if key.startswith("open")} == {}


def test_a_refused_cancel_leaves_the_order_open(desk):
    """CANCEL_REJECTED: it may well be open, and may be canceled again."""
    made, _ = desk.accepted()
    desk.do(3, made)
    assert desk.order(made)["status"] == OrdStatus.PENDING_CANCEL
    desk.report(ExecType.CANCEL_REJECTED, made, venue_id=11)
    assert desk.order(made)["status"] == OrdStatus.LIVE
    assert desk.do(3, made)[0] == 0


def test_unknown_keeps_everything_held_until_the_venue_says(desk):
    """A lost session is no answer: exposure stays, the order may be canceled but not replaced."""
    made, _ = desk.accepted()
    desk.report(ExecType.UNKNOWN, made, leaves_qty=100)
    assert desk.order(made)["status"] == OrdStatus.UNKNOWN
    assert row(desk)["open_buy_qty"] == 100
    assert desk.do(2, made, PX, 50)[0] == -DenyReason.NOT_OPEN
    assert desk.do(3, made)[0] == 0
    desk.report(CANCELED, made, qty=100, leaves_qty=0)
    assert desk.order(made)["status"] == OrdStatus.CANCELED
    assert "open_buy_qty" not in row(desk)


def test_a_broken_trade_is_taken_back(desk):
    """To the share and the cent."""
    made, _ = desk.accepted()
    desk.report(FILL, made, px=PX, qty=100, leaves_qty=0, venue_id=9)
    desk.report(ExecType.BROKEN, made, px=PX, qty=100, venue_id=9)
    after = row(desk)
    assert (after.get("bought_qty", 0), after.get("bought_cash", 0), after.get("fills", 0), after["broken"]) == (0, 0, 0, 1)
    assert desk.saw("position") == 0


def test_modified_and_restated(desk):
    """The venue changed the open shares, or the order's reference."""
    made, _ = desk.accepted()
    desk.report(ExecType.MODIFIED, made, leaves_qty=60)
    assert desk.order(made)["leaves_qty"] == 60
    assert row(desk)["open_buy_qty"] == 60
    desk.report(ExecType.RESTATED, made, leaves_qty=60, venue_id=900)
    desk.level(BUY, PX, 160, ref=900)
    assert desk.order(made)["queue_ahead"] == 100


def test_a_fill_of_an_earlier_start_still_counts(desk):
    """Positions outlive a restart; the order itself is not known any more."""
    stranger = (0 << 56) | (999 << 32) | 7
    desk.report(FILL, stranger, side=SELL, px=PX, qty=10)
    assert row(desk) == {"sold_qty": 10, "sold_cash": 10 * PX, "fills": 1, "last_fill_px": PX}
    assert desk.counters()["foreign_reports"] == 1
    desk.report(FILL, stranger, instrument=99, px=PX, qty=10)
    assert desk.counters()["bad_reports"] == 1


def test_when_the_session_is_back_an_order_is_what_the_venue_says(desk):
    """MODIFIED after UNKNOWN settles it: it was UNKNOWN for good, could not be replaced, and stood at its price all day."""
    made, _ = desk.accepted()
    desk.report(ExecType.UNKNOWN, made, leaves_qty=100)
    desk.report(ExecType.MODIFIED, made, qty=100, leaves_qty=100)
    assert desk.order(made)["status"] == OrdStatus.LIVE
    desk.report(FILL, made, px=PX, qty=40, leaves_qty=60, venue_id=1)
    desk.do(3, made)
    desk.report(ExecType.UNKNOWN, made, leaves_qty=60)
    desk.report(ExecType.MODIFIED, made, qty=100, leaves_qty=60)
    assert desk.order(made)["status"] == OrdStatus.PARTIALLY_FILLED
    assert desk.do(2, made, PX, 50)[0] > 0


def test_an_order_that_never_arrived_is_over_when_the_session_is_back(desk):
    """DENIED after UNKNOWN: it stayed open, pending and held for good."""
    made = desk.submit()
    desk.report(ExecType.UNKNOWN, made, leaves_qty=100)
    desk.report(ExecType.DENIED, made, qty=100, venue_id=int(DenyReason.SESSION_DOWN))
    seen = desk.order(made)
    assert (seen["status"], seen["is_open"], seen["is_pending"]) == (OrdStatus.REJECTED, 0, 0)
    assert row(desk) == {}


def test_a_replacement_that_never_arrived_leaves_the_old_order(desk):
    """Both UNKNOWN; the venue has the old one only, in whatever order the two are told."""
    for first_is_settled_first in (True, False):
        made, _ = desk.accepted()
        new = desk.do(2, made, PX + 100, 300)[0]
        desk.report(ExecType.UNKNOWN, made, leaves_qty=100)
        desk.report(ExecType.UNKNOWN, new, leaves_qty=300)
        if first_is_settled_first:
            desk.report(ExecType.MODIFIED, made, qty=100, leaves_qty=100)
            assert desk.order(made)["status"] == OrdStatus.PENDING_REPLACE
        desk.report(ExecType.REPLACE_REJECTED, new, qty=300, orig_seq=made & 0xFFFFFFFF)
        if not first_is_settled_first:
            desk.report(ExecType.MODIFIED, made, qty=100, leaves_qty=100)
        assert desk.order(new)["status"] == OrdStatus.REJECTED
        assert desk.order(made)["status"] == OrdStatus.LIVE
        assert (row(desk)["open_buy_qty"], row(desk)["open_orders"]) == (100, 1)
        desk.report(CANCELED, made, qty=100, leaves_qty=0)


def test_a_refused_cancel_of_an_order_that_is_being_replaced(desk):
    """It waits for its replacement again, and is not replaced a second time meanwhile."""
    made, _ = desk.accepted()
    assert desk.do(2, made, PX + 100, 100)[0] > 0
    desk.do(3, made)
    desk.report(ExecType.CANCEL_REJECTED, made, venue_id=11)
    assert desk.order(made)["status"] == OrdStatus.PENDING_REPLACE
    assert desk.do(2, made, PX, 50)[0] == -DenyReason.NOT_OPEN


def test_a_replacement_of_a_replacement_after_a_fill_asks_for_the_shares_it_was_asked_for(desk):
    """What the first of the chain trades meanwhile counts for all: the second replacement came out smaller by it."""
    made, _ = desk.accepted()
    second = desk.do(2, made, PX + 100, 150)[0]
    desk.report(FILL, made, px=PX, qty=20, leaves_qty=80, venue_id=1)
    third = desk.do(2, second, PX + 200, 200)[0]
    assert [(one["cl_ord_id"], one["qty"]) for one in desk.last()] == [(third, 20 + 200)]
    assert row(desk)["open_buy_qty"] == 200
    desk.report(FILL, made, px=PX, qty=30, leaves_qty=50, venue_id=2)
    assert [desk.order(one)["leaves_qty"] for one in (made, second, third)] == [50, 100, 170]
    assert row(desk)["open_buy_qty"] == 170
    desk.report(REPLACED, second, px=PX + 100, qty=150, leaves_qty=100, orig_seq=made & 0xFFFFFFFF, venue_id=500)
    desk.report(REPLACED, third, px=PX + 200, qty=220, leaves_qty=170, orig_seq=second & 0xFFFFFFFF, venue_id=501)
    assert (desk.order(third)["leaves_qty"], desk.order(third)["cum_qty"], row(desk)["open_buy_qty"]) == (170, 50, 170)
