"""Risk killed at any instruction of a turn: the next process comes to the same positions, orders and sums, and trades on."""

import pytest

from hftd.core.jit import INTERPRETED
from hftd.msg.enums import ExecType
from tests.support.risk_desk import BUY, CANCEL, PX, REPLACE, SELL, Desk
from tests.support.stepped import bytes_of, put_back, states

pytestmark = pytest.mark.skipif(INTERPRETED, reason="machine code only")
RISK = ("account", "limits", "exposures", "positions", "strategies", "orders", "fills", "undo", "carried")


def fills(desk):
    """Two fills in one turn, of an order with a replacement under way, the second one ends it."""
    order = desk.intent(qty=300, px=PX - 100)
    desk.step()
    desk.report(ExecType.NEW, order, px=PX - 100, qty=300, leaves=300)
    desk.intent(kind=REPLACE, orig=order, qty=500, px=PX - 200)
    desk.step()
    desk.report(ExecType.FILL, order, px=PX - 100, qty=100, leaves=200, venue_id=4)
    desk.report(ExecType.FILL, order, px=PX - 100, qty=200, leaves=0, venue_id=5)


def replaced(desk):
    """A replacement comes about and trades; a further replacement hangs on it."""
    order = desk.intent(qty=300, px=PX - 100)
    desk.step()
    desk.report(ExecType.NEW, order, px=PX - 100, qty=300, leaves=300)
    desk.report(ExecType.FILL, order, px=PX - 100, qty=100, leaves=200, venue_id=4)
    second = desk.intent(kind=REPLACE, orig=order, qty=500, px=PX - 200)
    desk.intent(kind=REPLACE, orig=second, qty=700, px=PX - 300)
    desk.step()
    desk.report(ExecType.REPLACED, second, px=PX - 200, qty=500, leaves=400, orig=order)
    desk.report(ExecType.FILL, second, px=PX - 200, qty=50, leaves=350, venue_id=6)


def replace_rejected(desk):
    """A replacement is refused, and what hung on it with it; then the first order is cancelled."""
    order = desk.intent(qty=300, px=PX - 100)
    desk.step()
    desk.report(ExecType.NEW, order, px=PX - 100, qty=300, leaves=300)
    second = desk.intent(kind=REPLACE, orig=order, qty=500, px=PX - 200)
    desk.step()
    desk.report(ExecType.REPLACE_REJECTED, second, px=PX - 200, qty=500, orig=order)
    desk.report(ExecType.CANCELED, order, px=PX - 100, qty=300)


def adopted(desk):
    """An order that risk does not hold is accepted, and a fill of it is voided."""
    order = (1 << 56) | (7 << 32) | 12
    desk.report(ExecType.NEW, order, px=PX + 100, qty=300, leaves=300, side=SELL)
    desk.report(ExecType.FILL, order, px=PX + 100, qty=100, leaves=200, side=SELL, venue_id=4)
    desk.report(ExecType.BROKEN, order, px=PX + 100, qty=100, leaves=200, side=SELL, venue_id=4)


def everything(desk: Desk) -> dict:
    """Return what a restart must come to."""
    risk = desk.memory["risk"]
    names = ("px", "hold_cash", "hold_qty", "qty", "executed", "side", "marked")
    orders = {int(row["id"]): {name: int(row[name]) for name in names} for row in risk["orders"] if int(row["id"])}
    for at in range(4):                               # own prices may be wider than true after a turn, exact after a restart
        own = [(int(row["side"]), int(row["px"])) for row in risk["orders"] if int(row["id"]) and int(row["instrument"]) == at]
        assert all(int(risk["exposures"][at]["own_bid_px"]) >= px for side, px in own if side == BUY)
        assert all(int(risk["exposures"][at]["own_ask_px"]) <= px for side, px in own if side == SELL)
    return {
        "positions": [desk.position(at) for at in range(4)], "orders": orders, "lost": desk.agent.lost,
        "account": {name: int(desk.account[name]) for name in ("open_cash", "held_cash", "pnl", "open_orders", "report_seq")},
    }  # fmt: skip


def different(found, whole, where: str = "") -> list[str]:
    """Say what differs, as `where: found for right`."""
    if isinstance(whole, dict) and isinstance(found, dict) and found.keys() == whole.keys():
        return [text for key in whole for text in different(found[key], whole[key], f"{where}.{key}")]
    if isinstance(whole, list):
        return [text for at, pair in enumerate(zip(found, whole, strict=True)) for text in different(*pair, f"{where}.{at}")]
    return [] if found == whole else [f"{where}: {found} for {whole}"]


@pytest.mark.parametrize("told", [fills, replaced, replace_rejected, adopted])
def test_reports_are_applied_once_wherever_it_dies(tmp_path, told):
    """Between any two stores."""
    desk = Desk(tmp_path)
    told(desk)
    watched = bytes_of(desk.memory["risk"], *RISK) + bytes_of(desk.memory["ring.report"], "control")
    images = states(desk.kernel, (desk.agent.handle, desk.agent.mark, desk.agent.waiting, 1), watched)
    assert len(images) > 30
    wrong = {}
    put_back(watched, images[0])
    desk.start()
    desk.step(2)
    whole = everything(desk)
    for number, image in enumerate(images):
        put_back(watched, image)
        desk.start()
        desk.step(2)
        found = everything(desk)
        if found != whole:
            wrong[number] = different(found, whole)
    assert not wrong, f"{len(wrong)} of {len(images)}: {wrong}"


@pytest.mark.parametrize("published", [True, False])
def test_an_approved_order_is_sent_once_wherever_it_dies(tmp_path, published):
    """Orders, a replacement and a cancel in one turn: each is in the order ring exactly once, or denied, and holds accordingly."""
    desk = Desk(tmp_path)
    first = desk.intent(qty=300, px=PX - 100)
    desk.step()
    desk.report(ExecType.NEW, first, px=PX - 100, qty=300, leaves=300)
    desk.step()
    asked = [desk.intent(qty=200, px=PX - 300), desk.intent(kind=REPLACE, orig=first, qty=500, px=PX - 200)]
    desk.intent(kind=CANCEL, cl_ord_id=asked[0])
    asked.append(desk.intent(qty=10, side=SELL, px=PX + 100))
    if not published:                                 # the strategy's callback still runs: they can be read, by their slots
        desk.memory["ring.intent.0"]["control"][0]["tail"] = 1
    before = int(desk.memory["ring.order"]["control"][0]["tail"])
    watched = bytes_of(desk.memory["risk"], *RISK)
    for name in ("ring.report", "ring.order", "ring.deny", "ring.intent.0"):
        watched += bytes_of(desk.memory[name], "control", "slots")
    images = states(desk.kernel, (desk.agent.handle, desk.agent.mark, desk.agent.waiting, 1), watched)
    assert len(images) > 50
    wrong = {}
    for number, image in enumerate(images):
        put_back(watched, image)
        desk.seen = {"order": before, "deny": 0}
        desk.start()
        desk.step(3)
        sent = [(int(row["kind"]), int(row["cl_ord_id"])) for row in desk.orders()]
        denied = [int(row["cl_ord_id"]) for row in desk.denials()]
        held = {int(row["id"]) for row in desk.memory["risk"]["orders"] if int(row["id"])}
        for one in asked:
            said = [cl_ord_id for kind, cl_ord_id in sent if kind != CANCEL].count(one), one in denied, one in held
            if said not in ((1, False, True), (0, True, False)):
                wrong.setdefault(number, []).append((one & 0xFFFFFFFF, said))
        if (CANCEL, asked[0]) not in sent:
            wrong.setdefault(number, []).append("the cancel is lost")
    assert not wrong, f"{len(wrong)} of {len(images)}: {wrong}"

