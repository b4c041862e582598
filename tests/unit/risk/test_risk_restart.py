"""A new risk process takes up where the last one stood, wherever that one died."""

import numpy as np
import pytest

from hftd.msg.enums import AgentState, DenyReason, ExecType, Role
from hftd.msg.ids import make_id
from hftd.risk import ledger
from hftd.risk.memory import NO_ASK, STRATEGY_DEAD, STRATEGY_OFF, STRATEGY_OVERRUN
from tests.support.risk_desk import BUY, CANCEL, CANCEL_ALL, NEW, PX, REPLACE, SELL, Desk


@pytest.fixture
def desk(tmp_path):
    """A desk with a position, open orders on both sides, and a replacement under way."""
    desk = Desk(tmp_path)
    first = desk.intent(qty=300, px=PX - 100)
    second = desk.intent(qty=200, side=SELL, px=PX + 100, place=1)
    desk.step()
    desk.report(ExecType.NEW, first, px=PX - 100, qty=300, leaves=300)
    desk.report(ExecType.FILL, first, px=PX - 100, qty=100, leaves=200, venue_id=4)
    desk.report(ExecType.NEW, second, px=PX + 100, qty=200, leaves=200, side=SELL)
    desk.step()
    desk.intent(kind=REPLACE, orig=first, qty=500, px=PX - 200)
    desk.intent(qty=50, instrument=1)
    desk.step()
    desk.orders()
    desk.first, desk.second = first, second
    return desk


def everything(desk: Desk) -> dict:
    """Return all sums that must survive."""
    rows = [desk.position(at) for at in range(4)]
    account = {name: int(desk.account[name]) for name in ("open_cash", "held_cash", "pnl", "open_orders", "report_seq")}
    exposures = [int(desk.memory["risk"]["exposures"][at][name]) for at in range(4) for name in ("own_bid_px", "own_ask_px")]
    return {"rows": rows, "account": account, "own": exposures, "used": int(desk.agent.handle["pool"]["used"])}


def test_a_restart_knows_what_its_predecessor_knew(desk):
    """Positions, open orders, sums, lists: the same; and the session goes on as if nothing had happened."""
    before = everything(desk)
    desk.start()
    assert everything(desk) == before
    assert desk.reason(kind=REPLACE, orig=desk.first, qty=500) == DenyReason.NOT_OPEN
    assert desk.reason(side=SELL, px=PX - 200, place=1) == DenyReason.SELF_CROSS
    for cl_ord_id, at, side in ((desk.first, 0, BUY), (desk.second, 0, SELL), (make_id(0, 1, 4), 1, BUY)):
        desk.report(ExecType.CANCELED, cl_ord_id, qty=1, leaves=0, instrument=at, side=side)
    desk.step()
    assert set(desk.open_sums().values()) == {0}


def test_the_most_rows_in_use_are_those_of_the_day(desk):
    """A restarted risk counted anew, from what was open then."""
    counters = desk.memory["risk"]["counters"]
    most = int(counters["orders_peak"][0])
    for cl_ord_id, at, side in ((desk.first, 0, BUY), (desk.second, 0, SELL), (make_id(0, 1, 4), 1, BUY)):
        desk.report(ExecType.CANCELED, cl_ord_id, qty=1, leaves=0, instrument=at, side=side)
    desk.step()
    desk.start()
    desk.intent(qty=10, instrument=2)
    desk.step()
    assert int(desk.agent.handle["pool"]["used"]) < most
    assert int(counters["orders_peak"][0]) == most


def test_an_instruments_own_limits_survive(tmp_path):
    """Each of them, and the venue's tick: a restart that kept the account's alone would let through what was forbidden."""
    own = {"position_max": 100, "order_qty_max": 300, "order_notional_max": 20_000.0, "collar_bps": 50, "feed_stale_ms": 700}
    desk = Desk(tmp_path, risk={"position_max": 5000, "instrument": {"AAA": own}})
    before = desk.memory["risk"]["limits"].tobytes()
    assert desk.reason(qty=101) == DenyReason.POSITION
    desk.start()
    assert desk.memory["risk"]["limits"].tobytes() == before
    assert desk.reason(qty=101) == DenyReason.POSITION
    assert desk.reason(qty=101, instrument=1) == DenyReason.OK


def test_an_instrument_is_armed_again_only_when_the_venue_announces_it_again(desk):
    """Market data restarted as well: without the venue's word its tick is not known."""
    rows = desk.memory["market"]["instruments"]
    rows["flags"] = 0
    desk.start()
    assert desk.reason(side=SELL, qty=1, px=PX + 100) == DenyReason.UNKNOWN_INSTRUMENT
    rows["flags"][:3] = 1
    desk.agent.cold(1)
    assert desk.reason(side=SELL, qty=1, px=PX + 100) == DenyReason.OK


@pytest.mark.parametrize("state", [STRATEGY_OFF, STRATEGY_OVERRUN, STRATEGY_DEAD])
def test_a_strategy_that_was_switched_off_stays_so(desk, state):
    """By an operator, because it reads no denials, or because it is gone."""
    desk.memory["risk"]["strategies"][0]["state"] = state
    desk.start()
    assert desk.reason(qty=1) == DenyReason.STRATEGY_DISABLED
    assert desk.reason(qty=1, px=PX - 200, place=1) == DenyReason.OK


def test_a_strategy_that_was_started_again_while_risk_was_down(desk):
    """In the fused layout it always is. Its predecessor's orders are cancelled: it knows nothing of them."""
    mark = desk.memory["control"]["marks"][int(Role.STRATEGY)]
    mark["starts"] = 1
    desk.agent.cold(1_000_000_000)
    desk.start()
    desk.agent.cold(1 << 60)
    desk.step()
    assert desk.orders() == []
    mark["starts"] = 2
    desk.start()
    desk.agent.cold(1 << 61)
    desk.step()
    assert [(int(order["kind"]), int(order["strategy"])) for order in desk.orders()] == [(CANCEL_ALL, 0)]


def test_derived_memory_is_made_anew(desk):
    """Hash, lists and sums full of rubbish: a restart makes them from the orders."""
    before = everything(desk)
    risk = desk.memory["risk"]
    risk["buckets"]["row"][:] = 7
    risk["exposures"]["first"][:] = 3
    risk["positions"]["open_buy_qty"][:] = -5
    risk["account"]["open_cash"][:] = 12345
    risk["orders"]["next"][:] = 9
    desk.start()
    assert everything(desk) == before


def test_ids_stay_used_and_fills_stay_counted(desk):
    """A duplicate id is refused, a fill told again is not counted again, after the restart as before it."""
    desk.start()
    assert desk.reason(cl_ord_id=desk.first) == DenyReason.DUPLICATE_ID
    bought = desk.position()["bought_qty"]
    desk.report(ExecType.FILL, desk.first, px=PX - 100, qty=100, leaves=200, venue_id=4)
    desk.step()
    assert desk.position()["bought_qty"] == bought and desk.count("fills_repeated") == 1


def test_reports_that_came_meanwhile_are_applied(desk):
    """They wait in the ring, even where the supervisor freed the place."""
    desk.report(ExecType.FILL, desk.first, px=PX - 100, qty=60, leaves=140, venue_id=5)
    desk.memory["ring.report"]["control"][0]["consumers"][17]["state"] = 0
    desk.start()
    desk.step()
    assert desk.position()["bought_qty"] == 160


def test_intents_that_came_meanwhile_are_denied_and_cancels_pass(desk):
    """Their prices are old."""
    desk.intent(qty=10)
    desk.intent(kind=CANCEL, cl_ord_id=desk.first)
    desk.memory["ring.intent.0"]["control"][0]["consumers"][17]["state"] = 0
    desk.start()
    desk.step()
    assert [int(row["venue_id"]) for row in desk.denials()][-1] == DenyReason.NOT_READY
    assert [int(row["kind"]) for row in desk.orders()] == [CANCEL]
    assert desk.reason(qty=10) == DenyReason.NOT_READY, "until cold code has seen that it caught up"
    desk.agent.cold(1)
    assert desk.reason(qty=10) == DenyReason.OK


def test_lost_reports_stop_new_risk(tmp_path):
    """More reports than the ring holds went by while risk was down: nobody vouches for the positions."""
    desk = Desk(tmp_path, rings={"report": 64})
    desk.memory["ring.report"]["control"][0]["consumers"][17]["state"] = 0
    for number in range(100):
        desk.report(ExecType.FILL, make_id(0, 1, 1), qty=1, venue_id=number + 1)
    desk.start()
    desk.step()
    assert desk.reason() == DenyReason.NOT_READY
    desk.agent.cold(1)
    assert desk.reason() == DenyReason.NOT_READY
    assert desk.reason(kind=CANCEL, cl_ord_id=make_id(0, 1, 1)) == DenyReason.OK
    assert int(desk.agent.mark["ready"]) == 0
    desk.report(ExecType.FILL, make_id(0, 1, 1), qty=1, venue_id=101)
    desk.step()
    for _ in range(2):                                # killed and started again: nothing is missing from here on, and yet
        desk.start()
        desk.step()
        desk.agent.cold(1_000_000_000)
        assert desk.reason() == DenyReason.NOT_READY
        assert (int(desk.agent.mark["ready"]), int(desk.agent.mark["state"])) == (0, AgentState.DEGRADED)


def test_a_report_half_applied_is_taken_back_and_applied_whole(desk):
    """Died between a fill's first store and its last: counted once."""
    risk = desk.memory["risk"]
    images = {name: np.asarray(risk[name]).view(np.ndarray).copy() for name in ("positions", "orders", "fills", "account")}
    desk.report(ExecType.FILL, desk.first, px=PX - 100, qty=60, leaves=140, venue_id=5)
    desk.step()
    after = everything(desk)
    # as it lay when the process died: the fill noted, the position counted, the order not yet, the report not ticked off
    np.asarray(risk["orders"]).view(np.ndarray)[:] = images["orders"]
    risk["account"][0]["report_seq"] = int(images["account"]["report_seq"][0])
    desk.start()
    desk.step()
    assert everything(desk) == after


def test_an_approval_half_done_is_taken_back(desk):
    """Died after the order was entered and before it was sent: it holds nothing; sent, it holds on."""
    before = everything(desk)
    risk = desk.memory["risk"]
    index = int(np.flatnonzero(risk["orders"]["id"] == make_id(0, 1, 4))[0])
    risk["account"][0]["entering"] = index
    desk.start()
    assert everything(desk) == before, "it is the last order in the ring: it was sent"

    spare = int(desk.agent.handle["pool"]["fresh"])
    for name in risk["orders"].dtype.names:
        risk["orders"][spare][name] = risk["orders"][index][name]
    risk["orders"][spare]["id"] = make_id(0, 1, 99)
    risk["account"][0]["entering"] = spare
    desk.start()
    assert everything(desk) == before


# ---------------------------------------------------------------- the day's ledger


def test_the_day_goes_on_in_a_new_run(tmp_path):
    """Shares and loss of an earlier run of the day are carried; positions of this run begin at 0."""
    first = Desk(tmp_path, risk={"loss_max": 1000.0, "position_max": 500}, daemon={"name": "same", "run_dir": str(tmp_path)})
    first.report(ExecType.FILL, make_id(0, 1, 1), px=PX + 2_0000, qty=400, venue_id=1)
    first.step(9)
    assert int(first.account["pnl"]) == -800_0000
    ledger.save(first.config, first.memory)

    second = Desk(tmp_path, risk={"loss_max": 1000.0, "position_max": 500}, daemon={"name": "same", "run_dir": str(tmp_path)})
    assert second.position()["bought_qty"] == 0
    assert int(second.account["pnl"]) == -800_0000
    assert second.reason(qty=101) == DenyReason.POSITION
    assert second.reason(qty=100) == DenyReason.OK
    second.quote(bid=PX - 6000, ask=PX - 4000)
    second.step(9)
    assert int(second.account["pnl"]) == -1000_0000
    assert second.reason(qty=1, instrument=1) == DenyReason.LOSS_LIMIT
    ledger.save(second.config, second.memory)

    third = Desk(tmp_path, daemon={"name": "same", "run_dir": str(tmp_path)})
    assert third.reason(qty=1, instrument=1) == DenyReason.LOSS_LIMIT, "latched for the day"


def test_a_broken_ledger_is_an_error_and_stays(tmp_path):
    """Rubbish wants a person."""
    desk = Desk(tmp_path)
    path = ledger.path_of(desk.config)
    for text in ('{"day": 3', "[]", '{"day": "2025-03-07", "loss_latched": false, "instruments": {"AAA": {"opening_qty": 1}}}'):
        path.write_text(text)
        with pytest.raises(ledger.LedgerError, match="cannot be read"):
            ledger.begin(desk.config, desk.memory)
        assert path.read_text() == text


def test_nothing_open_leaves_the_own_prices_empty(tmp_path):
    """No own order: no own price to cross."""
    desk = Desk(tmp_path)
    row = desk.memory["risk"]["exposures"][0]
    assert (int(row["own_bid_px"]), int(row["own_ask_px"])) == (0, NO_ASK)
    assert desk.reason(kind=NEW, px=PX + 100) == DenyReason.OK
