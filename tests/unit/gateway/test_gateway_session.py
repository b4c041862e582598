"""The gateway's session and its orders, against an exchange in plain Python over real TCP, stepped in one thread."""

import pytest

from tests.support.gateway_desk import BUY, CANCEL, CANCEL_ALL, NEW, PX, REPLACE, SELL, GatewayDesk, Line, reason_of


@pytest.fixture
def desk(tmp_path):
    """A gateway that is up."""
    made = GatewayDesk(tmp_path)
    yield made
    made.close()


def ref_of(desk, order):
    """Return the UserRefNum of an order."""
    return desk.row(order)["user_ref"]


def test_nothing_is_sent_before_the_session_is_reconciled(tmp_path):
    """Until the account query is answered, orders are denied and the session is not up."""
    line = Line()
    line.exchange.mute = True
    desk = GatewayDesk(tmp_path, line, up=False)
    desk.until(lambda: line.messages(b"Q"))
    desk.send()
    desk.step()
    assert int(desk.run["session_up"]) == 0
    denial = desk.reports()
    assert [(item["exec_type"], reason_of(item)) for item in denial] == [(6, "SESSION_DOWN")]
    line.exchange.mute = False
    line.exchange.handle(b"Q")
    for _ in range(20):
        desk.step()
    assert not desk.up()  # the first answer might be an old one
    line.exchange.handle(b"Q")
    desk.until(desk.up)
    assert int(desk.run["session_up"]) == 1
    assert line.messages(b"O") == []
    desk.close()


def test_an_order_lives_and_is_filled(desk):
    """Enter, accept, two fills: rows, reports, position."""
    order = desk.send(qty=100, px=PX, side=BUY)
    desk.until(lambda: desk.status(order) == "LIVE")
    ref = ref_of(desk, order)
    desk.line.exchange.fill(ref, 40, PX - 100)
    desk.until(lambda: desk.status(order) == "PARTIALLY_FILLED")
    assert desk.position()["open_buy_qty"] == 60
    desk.line.exchange.fill(ref, 60)
    desk.until(lambda: desk.status(order) == "FILLED")
    assert desk.said() == [("NEW", 1), ("FILL", 1), ("FILL", 1)]
    position = desk.position()
    assert (position["bought_qty"], position["bought_cash"]) == (100, 40 * (PX - 100) + 60 * PX)
    assert (position["fills"], position["orders"], position["open_orders"], position["open_buy_qty"]) == (2, 1, 0, 0)


def test_cancel_and_cancel_all(desk):
    """A cancel takes one order out; CANCEL_ALL every order of that strategy and no other."""
    one, two, other = desk.live(), desk.live(side=SELL, px=PX + 100), desk.live(strategy=1)
    desk.send(CANCEL, cl_ord_id=one)
    desk.until(lambda: desk.status(one) == "CANCELED")
    desk.send(CANCEL_ALL, cl_ord_id=0, strategy=0)
    desk.until(lambda: desk.status(two) == "CANCELED")
    assert desk.status(other) == "LIVE"
    assert [len(item) for item in desk.line.messages(b"X")] == [9, 9]


def test_replace(desk):
    """A replacement takes the place of its original and hands the executed shares on."""
    first = desk.live(qty=100)
    desk.line.exchange.fill(ref_of(desk, first), 30)
    second = desk.send(REPLACE, orig=first, qty=120, px=PX + 200)
    desk.until(lambda: desk.status(second) == "PARTIALLY_FILLED")
    row = desk.row(second)
    assert (row["qty"], row["cum"], row["leaves"], row["px"]) == (120, 30, 90, PX + 200)
    assert desk.row(first)["leaves"] == 0
    said = desk.reports()
    assert said[-1]["exec_type"] == 4
    assert (said[-1]["orig_seq"], said[-1]["leaves_qty"]) == (1, 90)
    assert desk.position()["open_buy_qty"] == 90


def test_reject_and_replace_reject(desk):
    """A rejected order ends; a rejected replacement leaves its original as it was."""
    desk.line.exchange.refuse = {1: 0x1D, 3: 0x15}
    bad = desk.send()
    desk.until(lambda: desk.status(bad) == "REJECTED")
    good = desk.live()
    new = desk.send(REPLACE, orig=good, qty=50)
    desk.until(lambda: desk.status(new) == "REJECTED")
    assert desk.status(good) == "LIVE"
    said = desk.reports()
    assert [(item["exec_type"], item["venue_id"]) for item in said if item["exec_type"] in (5, 9)] == [(5, 0x1D), (9, 0x15)]
    assert desk.position()["open_buy_qty"] == 100


def test_kinds_refused(desk):
    """What cannot be done is said: unknown order, finished order, bad field, instrument never announced, id used twice."""
    desk.send(CANCEL, cl_ord_id=12345)
    done = desk.live()
    desk.send(CANCEL, cl_ord_id=done)
    desk.until(lambda: desk.status(done) == "CANCELED")
    desk.reports()
    desk.send(CANCEL, cl_ord_id=done)
    desk.send(REPLACE, orig=done)
    desk.send(REPLACE, orig=99)
    desk.send(qty=0)
    desk.send(instrument=3)
    desk.send(cl_ord_id=done)
    desk.send(kind=0)
    desk.step()
    said = desk.reports()
    assert [reason_of(item) for item in said] == [
        "NOT_OPEN", "NOT_OPEN", "UNKNOWN_ORDER", "BAD_FIELD", "UNKNOWN_INSTRUMENT", "DUPLICATE_ID", "BAD_FIELD"]  # fmt: skip
    assert said[0]["exec_type"] == 7
    assert {item["exec_type"] for item in said[1:]} == {6}


def test_new_is_new(desk):
    """NEW is the default kind of this desk; the wire shows the order's own words."""
    order = desk.send(NEW, qty=7, px=PX + 1, side=SELL, tif=1, flags=1)
    desk.until(lambda: desk.status(order) == "LIVE")
    message = desk.line.messages(b"O")[0]
    assert message[5:6] == b"T"
    assert int.from_bytes(message[6:10], "big") == 7
    assert message[10:18] == b"AAA     "
    assert int.from_bytes(message[18:26], "big") == PX + 1
    assert message[26:27] == b"3"
