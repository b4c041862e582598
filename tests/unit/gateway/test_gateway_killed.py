"""The gateway killed at any instruction of a turn: the next process has every execution once, and has told it once."""

import copy

import pytest

from hftd.core.jit import INTERPRETED
from hftd.gateway.incoming import reconcile
from hftd.gateway.left import open_rows
from hftd.msg.enums import ExecType
from tests.support.gateway_desk import CANCEL, PX, REPLACE, SELL, GatewayDesk
from tests.support.stepped import bytes_of, put_back, states

pytestmark = pytest.mark.skipif(INTERPRETED, reason="machine code only")
ORDERS = ("orders", "fills", "positions", "earlier", "session", "undo", "undo_position")
TOLD_ANEW = (ExecType.UNKNOWN, ExecType.MODIFIED)


def ref_of(desk, order: int) -> int:
    """Return an order's UserRefNum."""
    return desk.row(order)["user_ref"]


@pytest.fixture
def desk(tmp_path):
    made = GatewayDesk(tmp_path)
    yield made
    made.close()


def told(desk) -> list[tuple[str, int, int, int]]:
    """Return what was reported since the last call, what a new process says of its own accord left out."""
    reports = [one for one in desk.reports() if one["exec_type"] not in TOLD_ANEW]
    return [(ExecType(one["exec_type"]).name, one["cl_ord_id"] & 0xFFFFFFFF, one["qty"], one["leaves_qty"]) for one in reports]


@pytest.mark.parametrize("deaths", [1, 2])
def test_messages_count_once_wherever_it_dies(desk, deaths):
    """Fills, a replacement, a cancel and a broken trade in one turn; the process after it may die before it has logged in."""
    first, second, third = desk.live(qty=300), desk.live(qty=50, side=SELL, px=PX + 100), desk.live(qty=70, px=PX - 100)
    exchange = desk.line.exchange
    match = exchange.fill(ref_of(desk, first), 20)
    desk.until(lambda: desk.row(first)["cum"] == 20)
    moved = desk.send(REPLACE, orig=first, qty=200, px=PX - 100)
    exchange.mute = True
    desk.step()
    exchange.mute = False
    desk.reports()
    reader = int(desk.reader["next"])
    exchange.fill(ref_of(desk, first), 100)
    exchange.handle(exchange.inbound[-1])
    exchange.fill(ref_of(desk, moved), 80)
    exchange.fill(ref_of(desk, second), 10)
    exchange.cancel(ref_of(desk, second))
    exchange.bust(ref_of(desk, first), match)
    exchange.fill(ref_of(desk, third), 70)
    desk.line.step()
    watched = bytes_of(desk.memory["orders"], *ORDERS) + bytes_of(desk.memory["ring.report"], "control", "slots")
    agent = desk.agent
    images = states(desk.kernel, (agent.handle, agent.mark, agent.waiting, 1), watched)
    assert len(images) > 100
    before, wrong = copy.deepcopy(exchange), {}
    wanted = [("FILL", 1, 100, 180), ("REPLACED", 4, 200, 80), ("FILL", 4, 80, 0), ("FILL", 2, 10, 40), ("CANCELED", 2, 40, 0),
              ("BROKEN", 1, 20, 0), ("FILL", 3, 70, 0)]  # fmt: skip
    for number, image in enumerate(images):
        desk.agent.close()
        desk.line.hang_up()
        desk.line.exchange = copy.deepcopy(before)
        put_back(watched, image)
        desk.reader["next"] = reader
        for _ in range(deaths):
            desk.start()
        desk.until(desk.up)
        rows = [(desk.row(one)["status"], desk.row(one)["cum"]) for one in (first, second, third, moved)]
        position = {name: desk.position()[name] for name in ("bought_qty", "sold_qty", "fills", "orders", "broken", "open_orders")}
        found = told(desk), rows, position
        right = wanted, [("CANCELED", 120), ("CANCELED", 10), ("FILLED", 70), ("FILLED", 200)], {
            "bought_qty": 250, "sold_qty": 10, "fills": 4, "orders": 4, "broken": 1, "open_orders": 0}
        if found != right:
            wrong[number] = [pair for pair in zip(found, right, strict=True) if pair[0] != pair[1]]
    assert not wrong, f"{len(wrong)} of {len(images)}: {wrong}"


def test_a_broken_trade_of_an_order_long_gone_spoils_no_position(desk):
    """Its row is another order's by now: which position is the one to keep is known only when the execution is found."""
    old = desk.live(qty=30, instrument=1, px=PX + 100)
    ref = ref_of(desk, old)
    match = desk.line.exchange.fill(ref, 30)
    for _ in range(80):
        order = desk.live(qty=1)
        desk.line.exchange.fill(ref_of(desk, order), 1)
        desk.until(lambda filled=order: desk.status(filled) in ("FILLED", "NONE"))
        desk.reports()
    assert desk.status(old) == "NONE"
    desk.line.exchange.bust(ref, match)
    desk.line.step()
    watched = bytes_of(desk.memory["orders"], *ORDERS) + bytes_of(desk.memory["ring.report"], "control", "slots")
    agent = desk.agent
    images = states(desk.kernel, (agent.handle, agent.mark, agent.waiting, 1), watched)
    assert len(images) > 10
    for image in images:
        desk.agent.close()
        desk.line.hang_up()
        put_back(watched, image)
        desk.start()
        desk.until(desk.up)
        assert [(desk.position(k)["bought_qty"], desk.position(k)["broken"]) for k in (0, 1)] == [(80, 0), (0, 1)]


@pytest.mark.parametrize("arrived", [False, True])
def test_orders_are_sent_once_or_denied_once_wherever_it_dies(desk, arrived):
    """An order, a replacement and a cancel in one batch, and the batch in the venue's hands or lost with the socket."""
    first, second = desk.live(qty=300), desk.live(qty=50, side=SELL, px=PX + 100)
    exchange = desk.line.exchange
    desk.reports()
    reader, before = int(desk.reader["next"]), copy.deepcopy(exchange)
    new, moved = desk.send(qty=70, px=PX - 100), desk.send(REPLACE, orig=first, qty=400, px=PX - 200)
    desk.send(CANCEL, cl_ord_id=second)
    watched = bytes_of(desk.memory["orders"], *ORDERS) + bytes_of(desk.memory["ring.report"], "control", "slots")
    watched += bytes_of(desk.memory["ring.order"], "control")
    agent = desk.agent
    images = states(desk.kernel, (agent.handle, agent.mark, agent.waiting, 1), watched)
    assert len(images) > 30
    if arrived:
        for _ in range(50):
            desk.line.step()
        before = copy.deepcopy(exchange)
    wrong, tried = {}, 0
    for number, image in enumerate(images):
        desk.agent.close()
        desk.line.hang_up()
        desk.line.exchange = copy.deepcopy(before)
        put_back(watched, image)
        if arrived and (desk.status(moved) != "PENDING_NEW" or not desk.row(moved)["ts_sent"]):
            continue                                  # stamped behind the send(): before, the venue cannot have it
        tried += 1
        desk.reader["next"] = reader
        desk.start()
        desk.until(desk.up)
        desk.until(lambda: desk.status(second) == "CANCELED", 50)
        reports = told(desk)
        answers = [sum(one & 0xFFFFFFFF == about for _, about, _, _ in reports) for one in (new, moved, second)]
        ours = sorted(int(row["user_ref"]) for row in open_rows(desk.memory["orders"]))
        found = answers, ours, sorted(desk.line.exchange.live())
        right = [1, 1, 1], *[[ref_of(desk, one) for one in ((moved, new) if arrived else (first,))]] * 2
        if found != (right[0], sorted(right[1]), sorted(right[2])):
            wrong[number] = found, right, reports
    assert tried > 2
    assert not wrong, f"{len(wrong)} of {len(images)}: {wrong}"


def test_a_replacement_that_never_arrived_frees_its_original_wherever_it_dies(desk):
    """It dies while it settles what a log-in proved. The original is open as it was, and can be replaced again."""
    first = desk.live(qty=300)
    exchange, before = desk.line.exchange, copy.deepcopy(desk.line.exchange)
    moved = desk.send(REPLACE, orig=first, qty=400, px=PX - 200)
    desk.line.hold = True
    desk.until(lambda: len(exchange.log) > len(before.log))
    desk.agent.close()
    desk.line.hang_up()
    desk.line.hold = False
    desk.line.exchange = copy.deepcopy(before)
    desk.start()
    reconcile(desk.agent.handle, 0)                   # nothing is settled before the log-in: it is compiled
    agent = desk.agent.handle
    agent["barrier"], agent["same_session"], agent["losing"] = ref_of(desk, moved), 1, 0
    watched = bytes_of(desk.memory["orders"], *ORDERS) + bytes_of(desk.memory["ring.report"], "control", "slots")
    images = states(reconcile, (agent, 0), watched)
    assert len(images) > 10
    for image in images:
        desk.agent.close()
        desk.line.hang_up()
        desk.line.exchange = copy.deepcopy(before)
        put_back(watched, image)
        desk.start()
        desk.until(desk.up)
        assert desk.status(first) == "LIVE" and desk.status(moved) in ("NONE", "REJECTED")
        again = desk.send(REPLACE, orig=first, qty=200, px=PX - 300)
        desk.until(lambda order=again: desk.status(order) == "LIVE")
