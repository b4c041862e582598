"""What the gateway does when something fails: the link, its own process, risk, a reader of reports, an order that is not risk's."""

import socket as sockets
import struct

import pytest

from hftd.core import clock as clocks
from hftd.core.agent import push_log
from hftd.core.jit import INTERPRETED
from hftd.gateway.left import open_rows
from hftd.gateway.memory import LINK_CLEANING, LINK_CLOSED, LINK_UP, TAILS
from hftd.gateway.order_state import MARK_CANCEL_SENT
from hftd.gateway.setup import EXIT_ORDERS_OPEN, read_orders
from hftd.msg.enums import Reason, Role, RunState
from hftd.shm import pauses, ring
from tests.support.gateway_desk import BUY, CANCEL, NEW, PX, REPLACE, SELL, SYMBOLS, GatewayDesk, Line, reason_of


@pytest.fixture
def desk(tmp_path):
    """A gateway that is up."""
    made = GatewayDesk(tmp_path)
    yield made
    made.close()


def ref_of(desk, order):
    """Return the UserRefNum of an order."""
    return desk.row(order)["user_ref"]


# ---------------------------------------------------------------- the kill switch, the checksum, risk


def test_kill_switch_cancels_all_once_and_denies(desk):
    """The word alone is enough: everything open is cancelled, nothing new is sent, until it is cleared."""
    one, two = desk.live(), desk.live(side=SELL, px=PX + 100)
    desk.run["kill"] = 1
    desk.until(lambda: desk.status(one) == "CANCELED" and desk.status(two) == "CANCELED")
    desk.reports()
    before = len(desk.line.messages(b"O"))
    desk.send()
    desk.step()
    assert [reason_of(item) for item in desk.reports()] == ["KILLED"]
    assert len(desk.line.messages(b"O")) == before
    assert desk.counters["kills"] == 1
    assert len(desk.line.messages(b"X")) == 2
    desk.run["kill"] = 0
    desk.step()
    assert desk.live()


def test_kill_word_is_read_before_each_order(desk):
    """A kill that is set while orders lie in the ring stops every one of them, in the very same turn."""
    for _ in range(3):
        desk.send()
    desk.run["kill"] = 1
    desk.step()
    assert [reason_of(item) for item in desk.reports()] == ["KILLED"] * 3
    assert desk.line.messages(b"O") == []


def test_a_wrong_checksum_stops_the_gateway(desk):
    """It is refused and reported, everything open is cancelled, and nothing new goes out any more; cancels still do."""
    good, other = desk.live(), desk.live(side=SELL, px=PX + 100)
    desk.reports()
    desk.send(spoil=1)
    desk.until(lambda: desk.status(good) == "CANCELED" and desk.status(other) == "CANCELED")
    said = desk.reports()
    assert (said[0]["exec_type"], reason_of(said[0])) == (6, "CHECKSUM")
    desk.send()
    desk.step()
    assert reason_of(desk.reports()[0]) == "CHECKSUM"
    assert int(desk.session["latched"]) == 1
    assert desk.counters["checksum_refused"] == 1
    assert len(desk.line.messages(b"O")) == 2


def test_a_repeated_order_does_not_match_its_count(desk):
    """The same record once more, byte for byte, carries an old count: refused."""
    desk.live()
    desk.order[0]["cl_ord_id"] += 1
    record = desk.order
    assert push_log(desk.orders_out, record[0]._address if hasattr(record[0], "_address") else record.ctypes.data)
    desk.step()
    assert desk.counters["checksum_refused"] == 1


def test_silent_risk_cancels_everything_and_comes_back(desk):
    """Risk silent for risk_dead_ms: all cancelled, new orders denied; when it is back, orders go again."""
    order = desk.live()
    desk.risk_alive = False
    desk.risk_mark["heartbeat"] = clocks.now_ticks() - 2 * int(desk.clock["hz"])
    desk.until(lambda: desk.status(order) == "CANCELED")
    desk.reports()
    desk.send()
    desk.step()
    assert reason_of(desk.reports()[0]) == "NOT_READY"
    assert desk.counters["risk_lost"] == 1
    desk.risk_alive = True
    desk.until(lambda: int(desk.session["risk_dead"]) == 0)
    assert desk.live()


# ---------------------------------------------------------------- the link


def test_lost_link_makes_orders_unknown_and_resumes(desk):
    """UNKNOWN at once; after the replay the fill that happened meanwhile is there, and the order goes on."""
    order = desk.live(qty=100)
    desk.reports()
    exchange = desk.line.exchange
    desk.line.hang_up()
    desk.until(lambda: desk.status(order) == "UNKNOWN")
    assert int(desk.run["session_up"]) == 0
    exchange.fill(ref_of(desk, order), 40)
    desk.send()
    desk.turn()
    assert [item["exec_type"] for item in desk.reports()] == [12, 6]
    desk.until(desk.up)
    assert desk.status(order) == "PARTIALLY_FILLED"
    assert desk.line.logins == [("", 0), ("TESTSESS01", 1), ("TESTSESS01", 4)]
    assert desk.said() == [("FILL", 1), ("MODIFIED", 1)]
    assert desk.position()["bought_qty"] == 40
    assert desk.counters["resumes"] == 1
    assert desk.counters.get("repeats", 0) == 0


def test_order_that_never_arrived_is_proven_gone(desk):
    """Handed to the socket, lost with the connection: after the reconnect the venue's next number shows that it never came."""
    desk.line.deaf = True
    order = desk.send()
    desk.until(lambda: desk.status(order) == "PENDING_NEW")
    desk.line.hang_up()
    desk.line.deaf = False
    desk.until(lambda: desk.status(order) == "UNKNOWN")
    desk.until(desk.up)
    assert desk.status(order) == "REJECTED"
    assert [item["exec_type"] for item in desk.reports()] == [12, 6]
    assert desk.position()["open_buy_qty"] == 0
    assert desk.counters["never_arrived"] == 1
    assert desk.live()
    assert ref_of(desk, order) == 1


def test_order_that_arrived_unseen_is_found(desk):
    """The venue took it, the answer was lost: the replay brings the answer."""
    desk.line.hold = True
    order = desk.send()
    desk.until(lambda: desk.line.messages(b"O"))
    desk.line.hang_up()
    desk.line.hold = False
    desk.until(lambda: not desk.up())
    desk.until(desk.up)
    assert desk.status(order) == "LIVE"
    assert desk.said() == [("UNKNOWN", 1), ("NEW", 1), ("MODIFIED", 1)]


def test_cancel_lost_with_the_link_is_sent_again(desk):
    """A cancel under way when the link broke goes again, on the new one."""
    order = desk.live()
    desk.line.deaf = True
    desk.send(CANCEL, cl_ord_id=order)
    desk.until(lambda: desk.status(order) == "PENDING_CANCEL")
    desk.line.hang_up()
    desk.line.deaf = False
    desk.until(lambda: desk.status(order) == "CANCELED")


def test_replacement_lost_with_the_link_leaves_the_original(desk):
    """A replacement that never arrived is over; its original is live again and can be replaced again."""
    first = desk.live()
    desk.line.deaf = True
    second = desk.send(REPLACE, orig=first, qty=200)
    desk.until(lambda: desk.status(second) == "PENDING_NEW")
    assert desk.position()["open_buy_qty"] == 200
    desk.line.hang_up()
    desk.line.deaf = False
    desk.until(lambda: not desk.up())
    desk.until(desk.up)
    assert (desk.status(first), desk.status(second)) == ("LIVE", "REJECTED")
    assert desk.position()["open_buy_qty"] == 100
    third = desk.send(REPLACE, orig=first, qty=300)
    desk.until(lambda: desk.status(third) == "LIVE")


def test_byte_by_byte(tmp_path):
    """Packets that come one byte at a time are put together; many in one segment are taken apart."""
    line = Line()
    line.chunk = 1
    desk = GatewayDesk(tmp_path, line)
    order = desk.live(qty=100)
    for _ in range(10):
        line.exchange.fill(ref_of(desk, order), 1)
    desk.until(lambda: desk.row(order)["cum"] == 10)
    line.chunk = 0
    for _ in range(80):
        line.exchange.fill(ref_of(desk, order), 1)
    desk.until(lambda: desk.row(order)["cum"] == 90)
    assert desk.position()["fills"] == 90
    desk.close()


@pytest.mark.skipif(INTERPRETED, reason="6000 orders take minutes interpreted; nothing in it depends on the mode")
def test_socket_that_takes_nothing_loses_no_order(tmp_path):
    """With the venue not reading, orders wait in the socket, the send buffer and the ring, and all arrive, whole, in order."""
    line = Line()
    line.listener.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
    desk = GatewayDesk(tmp_path, line, rings={"order": 8192, "report": 16384}, gateway={
        "orders_max": 8192, "address": f"127.0.0.1:{line.port}", "dead_after_s": 60.0})  # fmt: skip
    desk.agent.socket.setsockopt(sockets.SOL_SOCKET, sockets.SO_SNDBUF, 4096)
    line.deaf = True
    sent = [desk.send(qty=1 + i % 900) for i in range(6000)]
    for _ in range(400):
        desk.turn(16)
    assert desk.counters["partial_sends"] > 0
    taken = desk.counters["orders_taken"]
    assert taken < len(sent)
    assert int(desk.agent.handle["held_why"]) == pauses.SOCKET and int(desk.agent.handle["held_since"]) > 0
    line.deaf = False
    desk.until(lambda: desk.counters.get("accepted", 0) == len(sent))
    wanted = [int.from_bytes(message[6:10], "big") for message in line.messages(b"O")]
    assert wanted == [1 + i % 900 for i in range(6000)]
    desk.close()


def test_heartbeats_and_a_dead_peer(desk):
    """A second of silence brings a heartbeat; a peer silent for too long is given up."""
    link = desk.agent.handle["link"]
    link["sent_at"] = clocks.now_ticks() - 2 * int(desk.clock["hz"])
    desk.until(lambda: any(kind == b"R" for kind, _ in desk.line.packets))
    link["received_at"] = clocks.now_ticks() - 6 * int(desk.clock["hz"])
    reasons = []
    for _ in range(50):
        reasons.append(desk.turn(2000))
        if Reason.RECONNECT in reasons:
            break
    assert Reason.RECONNECT in reasons


def test_end_of_session_asks_for_the_next(desk):
    """After Z the next log-in asks for the current session from its start; orders stay unknown, since nobody can say."""
    order = desk.live()
    desk.line.send(b"Z")
    desk.line.session = "TESTSESS02"
    desk.line.exchange.log.clear()
    desk.line.exchange.orders.clear()
    desk.until(lambda: desk.status(order) == "UNKNOWN")
    desk.line.hang_up()
    desk.until(desk.up)
    assert desk.line.logins[-2:] == [("", 0), ("TESTSESS02", 1)]
    assert desk.status(order) == "UNKNOWN"
    assert desk.counters["unresolved"] == 1
    assert desk.agent.session_name() == "TESTSESS02"


def test_session_that_goes_on_after_its_end_is_taken_up_where_it_was(desk):
    """Asked for the current session, the venue names the one it had ended: what was heard of it is not told and counted again."""
    order = desk.live(qty=100)
    desk.line.exchange.decrement(ref_of(desk, order), 40)
    desk.until(lambda: desk.row(order)["leaves"] == 60)
    heard = int(desk.session["next_seq"])
    desk.line.send(b"Z")
    desk.until(lambda: desk.status(order) == "UNKNOWN")
    desk.line.hang_up()
    desk.until(desk.up)
    assert desk.line.logins[-2:] == [("", 0), ("TESTSESS01", heard)]
    assert (desk.status(order), desk.row(order)["leaves"], desk.row(order)["qty"]) == ("LIVE", 60, 60)


def test_session_younger_than_what_we_heard_is_another_one(desk):
    """A venue that began anew under the old name: its messages count from 1, and the order of before stays unknown."""
    order = desk.live()
    desk.live()
    desk.line.send(b"Z")
    desk.line.exchange.log.clear()
    desk.line.exchange.orders.clear()
    desk.line.exchange.last_ref = 0
    desk.until(lambda: desk.status(order) == "UNKNOWN")
    desk.line.hang_up()
    desk.until(desk.up)
    assert desk.line.logins[-1] == ("TESTSESS01", 1)
    assert desk.status(order) == "UNKNOWN"
    assert desk.live()


def test_a_gap_in_the_session_confirms_nothing_and_is_a_doubt(desk):
    """The venue begins behind what we asked for: a fill is lost. The order is not held for open, its cancel goes again."""
    order = desk.live()
    desk.line.deaf = True
    desk.send(CANCEL, cl_ord_id=order)
    desk.until(lambda: desk.row(order)["marks"] & MARK_CANCEL_SENT)
    desk.line.hang_up()
    desk.line.deaf = False
    desk.line.exchange.fill(ref_of(desk, order), 40)
    desk.line.begins = len(desk.line.exchange.log) + 1
    desk.until(lambda: desk.status(order) == "UNKNOWN")
    assert int(desk.session["earlier_doubts"]) == 0
    desk.until(desk.up)
    assert desk.status(order) == "UNKNOWN"
    assert (int(desk.session["earlier_doubts"]), int(desk.session["earlier_version"])) == (1, 1)
    desk.until(lambda: desk.row(order)["leaves"] == 40)
    assert (desk.counters["cancels_sent"], len(desk.line.messages(b"X"))) == (2, 1)
    assert desk.status(order) == "UNKNOWN"


def test_a_venue_that_tells_older_messages_again_proves_nothing_by_them(desk):
    """An answer to an old query among them was taken for the barrier, and an order that had arrived for one that had not."""
    desk.line.hold = True
    order = desk.send()
    desk.until(lambda: desk.line.exchange.live())
    desk.line.hang_up()
    desk.line.hold = False
    desk.line.begins = 1
    desk.until(lambda: desk.status(order) == "UNKNOWN")
    desk.until(desk.up)
    desk.step()
    assert desk.status(order) == "LIVE"
    assert desk.counters.get("never_arrived", 0) == 0


def heard_before(tmp_path) -> Line:
    """Return the line of a session that two instances have logged into, and died."""
    line = Line()
    for _ in range(2):
        before = GatewayDesk(tmp_path, line)
        before.agent.close()
        line.hang_up()
    return line


def test_answers_to_queries_of_earlier_instances_are_not_counted_as_ours(tmp_path):
    """They made up for later answers of ours that never came, so that an old one of those was taken for the barrier."""
    line = heard_before(tmp_path)
    desk = GatewayDesk(tmp_path, line)
    desk.step()
    assert 1 <= int(desk.session["queries_seen"]) <= int(desk.session["queries_sent"]) == 2
    desk.close()


@pytest.mark.parametrize("deaf", [False, True])
def test_connection_lost_within_the_first_replay_still_finds_what_an_earlier_instance_left(tmp_path, deaf):
    """Old answers that come after the reconnect are as old as those before it. deaf: the queries were lost with the connection."""
    line = heard_before(tmp_path)
    left = GatewayDesk(tmp_path, line)
    order = left.live()
    left.agent.close()
    line.hang_up()
    line.hold = True
    desk = GatewayDesk(tmp_path, line, up=False)
    asked = len(line.exchange.inbound)
    desk.until(lambda: len(line.logins) == 8)
    line.deaf = deaf
    desk.until(lambda: int(desk.session["queries_sent"]) == 2 and (deaf or len(line.exchange.inbound) == asked + 2))
    line.hang_up()
    line.hold = line.deaf = False
    desk.until(desk.up)
    assert desk.counters["foreign_orders"] == 1
    assert line.exchange.live() == []
    assert order
    desk.close()


def test_orders_whose_loss_could_not_be_told_are_settled_all_the_same(tmp_path):
    """The report ring was full when the link broke: told of the loss after the reconnect, orders stayed UNKNOWN for good."""
    desk = GatewayDesk(tmp_path, rings={"report": 64})
    desk.agent.handle["patience_ticks"] = 1 << 60
    orders = [desk.live(qty=1000) for _ in range(5)]
    for _ in range(100):
        desk.line.exchange.fill(ref_of(desk, orders[0]), 1)
    desk.until(lambda: desk.counters.get("report_stalls", 0) > 0)
    desk.line.client.setsockopt(sockets.SOL_SOCKET, sockets.SO_LINGER, struct.pack("ii", 1, 0))  # a reset: an end would wait
    desk.line.hang_up()
    desk.until(lambda: int(desk.session["state"]) != LINK_UP)
    assert int(desk.agent.handle["losing"]) == 1
    desk.agent.handle["check_at"] = 1 << 62  # it does not look around before it is up again
    said = []
    desk.until(lambda: said.extend(desk.said()) or desk.up())
    desk.agent.handle["check_at"] = 0
    for _ in range(20):
        desk.step()
        said.extend(desk.said())
    assert [desk.status(order) for order in orders] == ["PARTIALLY_FILLED"] + ["LIVE"] * 4
    assert [kind for kind, number in said if number == orders[4] & 0xFFFFFFFF][-2:] == ["UNKNOWN", "MODIFIED"]
    desk.close()


def test_numbers_of_the_upper_half_are_numbers(tmp_path):
    """UserRefNum has 32 bits; an account on which somebody used high ones goes on there."""
    line = Line()
    line.exchange.last_ref = (1 << 31) + 5
    desk = GatewayDesk(tmp_path, line)
    order = desk.live()
    assert desk.row(order)["user_ref"] == (1 << 31) + 6
    desk.line.exchange.fill((1 << 31) + 6, 100)
    desk.until(lambda: desk.status(order) == "FILLED")
    assert desk.position()["bought_qty"] == 100
    desk.close()


def test_refused_login_is_told_and_tried_again(tmp_path):
    """A wrong password is counted, noted and tried again, more slowly; nothing is sent meanwhile."""
    line = Line()
    line.refuse = b"A"
    desk = GatewayDesk(tmp_path, line, up=False)
    desk.until(lambda: desk.counters.get("login_rejects", 0) == 1)
    line.refuse = b""
    desk.agent.retry_at_ns = 0
    desk.until(desk.up)
    desk.close()


def test_no_listener_is_tried_again(tmp_path):
    """With nobody there the gateway keeps trying, and is up soon after somebody is."""
    line = Line()
    line.listener.close()
    desk = GatewayDesk(tmp_path, line, up=False)
    for _ in range(200):
        desk.turn()
    assert desk.counters["connect_failures"] >= 1
    line.listener = sockets.create_server(("127.0.0.1", line.port))
    line.listener.setblocking(False)
    desk.agent.retry_at_ns = 0
    desk.until(desk.up)
    desk.close()


# ---------------------------------------------------------------- our own death


def test_the_most_orders_open_at_once_are_those_of_the_day(desk):
    """A restarted gateway counted anew: after a recovery with one order the day's most was one."""
    two = [desk.live(), desk.live()]
    assert int(desk.agent.counters["orders_peak"]) == 2
    for order in two:
        desk.line.exchange.cancel(ref_of(desk, order))
    desk.until(lambda: all(desk.status(order) == "CANCELED" for order in two))
    desk.crash()
    desk.line.hang_up()
    desk.start()
    desk.until(desk.up)
    desk.live()
    assert int(desk.agent.counters["orders_peak"]) == 2


def test_restart_takes_the_orders_up_where_they_were(desk):
    """Killed with orders open, one filled meanwhile: the successor knows them, resumes, and books the fill once."""
    one, two = desk.live(qty=100), desk.live(side=SELL, px=PX + 100, qty=50)
    desk.line.exchange.fill(ref_of(desk, one), 10)
    desk.until(lambda: desk.row(one)["cum"] == 10)
    desk.reports()
    position = desk.position()
    desk.crash()
    desk.line.hang_up()
    desk.line.exchange.fill(ref_of(desk, one), 15)
    pending = desk.send(qty=7)
    desk.start()
    assert (desk.status(one), desk.status(two)) == ("UNKNOWN", "UNKNOWN")
    assert desk.position()["open_buy_qty"] == position["open_buy_qty"]
    desk.until(desk.up)
    assert (desk.status(one), desk.status(two)) == ("PARTIALLY_FILLED", "LIVE")
    assert desk.row(one)["cum"] == 25
    assert desk.position()["bought_qty"] == 25
    assert desk.status(pending) == "NONE"  # it waited in the ring while the session was down: denied
    said = desk.said()
    assert said[:2] in ([("UNKNOWN", 1), ("UNKNOWN", 2)], [("UNKNOWN", 2), ("UNKNOWN", 1)])
    assert ("FILL", 1) in said
    assert ("DENIED", 3) in said
    assert desk.position()["open_sell_qty"] == 50
    desk.send(CANCEL, cl_ord_id=two)
    desk.until(lambda: desk.status(two) == "CANCELED")


def test_half_a_message_is_applied_again_whole(desk):
    """Died after row, position and report, before the sequence moved on: nothing counts twice."""
    order = desk.live(qty=100)
    desk.reports()
    desk.line.exchange.fill(ref_of(desk, order), 40)
    desk.until(lambda: desk.row(order)["cum"] == 40)
    assert len(desk.reports()) == 1
    # put memory back to the moment before the sequence number was stored
    desk.session["next_seq"] -= 1
    desk.session["undo_seq"] = int(desk.session["next_seq"])
    desk.crash()
    desk.line.hang_up()
    desk.start()
    desk.until(desk.up)
    assert desk.row(order)["cum"] == 40
    assert desk.row(order)["leaves"] == 60
    assert desk.position()["bought_qty"] == 40
    assert desk.position()["fills"] == 1
    assert [name for name, _ in desk.said()] == ["UNKNOWN", "MODIFIED"]


def test_orders_of_an_earlier_instance_are_cancelled_before_trading(tmp_path):
    """A fresh start finds open orders in the venue's replay: they are cancelled first; their fills are not this run's."""
    line = Line()
    first = GatewayDesk(tmp_path, line)
    order = first.live(qty=100)
    line.exchange.fill(ref_of(first, order), 30)
    first.until(lambda: first.row(order)["cum"] == 30)
    first.crash()
    line.hang_up()
    second = GatewayDesk(tmp_path, line, up=False)
    states = set()

    def opened():
        states.add(int(second.session["state"]))
        return second.up()

    second.until(opened)
    assert LINK_CLEANING in states
    assert line.exchange.live() == []
    assert second.reports() == []
    assert second.position()["bought_qty"] == 0
    assert second.counters["foreign_orders"] == 1
    assert second.counters["foreign_fills"] == 1
    assert int(second.session["next_ref"]) == 2
    assert second.live(cl_ord_id=order + 1)
    first.agent.close()
    second.close()


# ---------------------------------------------------------------- readers that do not keep up


def test_full_report_ring_holds_the_venue_back_then_gives_the_reader_up(tmp_path):
    """Nothing is dropped: messages wait in the socket; a reader that stays too slow is detached and its orders cancelled."""
    desk = GatewayDesk(tmp_path, rings={"report": 64}, gateway={"orders_max": 64})
    order = desk.live(qty=1000)
    ref = ref_of(desk, order)
    desk.agent.handle["patience_ticks"] = 1 << 60
    for _ in range(100):
        desk.line.exchange.fill(ref, 1)
    for _ in range(20):
        desk.step()
    assert desk.row(order)["cum"] < 100
    assert desk.counters["report_stalls"] > 0
    desk.agent.handle["patience_ticks"] = 1
    desk.until(lambda: desk.row(order)["cum"] == 100)
    assert desk.counters["consumers_detached"] == 1
    assert int(desk.log["control"][0]["consumers"][0]["state"]) == ring.DETACHED
    desk.until(lambda: desk.status(order) == "CANCELED")
    desk.close()


# ---------------------------------------------------------------- the way out


def test_stop_cancels_waits_and_logs_out(desk):
    """Two phases: everything cancelled and finished, then the log-out; new orders are denied meanwhile."""
    order = desk.live()
    desk.reports()
    assert desk.agent.stop() is False
    desk.send()
    desk.until(lambda: desk.status(order) == "CANCELED")
    assert "STOPPING" in [reason_of(item) for item in desk.reports() if item["exec_type"] == 6]
    desk.line.step()
    assert desk.agent.stop() is True
    desk.line.step()
    assert desk.line.packets[-1][0] == b"O"
    assert int(desk.session["state"]) == LINK_CLOSED
    assert desk.agent.exit_code == 0


def test_stop_gives_up_at_the_deadline_and_says_what_is_open(desk):
    """The venue does not answer: at the deadline the order is counted, logged by id, and the exit code is not 0."""
    order = desk.live()
    desk.line.exchange.mute = True
    assert desk.agent.stop() is False
    desk.step()
    desk.agent.stop_deadline_ns = 1
    assert desk.agent.stop() is True
    assert desk.counters["open_at_stop"] == 1
    assert desk.agent.exit_code == EXIT_ORDERS_OPEN
    assert [int(row["cl_ord_id"]) for row in open_rows(desk.memory["orders"])] == [order]


# ---------------------------------------------------------------- the table, the stamps


def test_table_full_denies_and_rows_are_used_again(tmp_path):
    """With every row open the next order is denied; finished rows are used again, oldest first, and stay readable until then."""
    desk = GatewayDesk(tmp_path)
    orders = [desk.send(qty=1) for _ in range(63)]
    desk.until(lambda: desk.counters.get("accepted", 0) == 63)
    desk.reports()
    desk.send(qty=1)
    desk.step()
    assert reason_of(desk.reports()[0]) == "ORDER_TABLE_FULL"
    desk.send(CANCEL, cl_ord_id=orders[5])
    desk.until(lambda: desk.status(orders[5]) == "CANCELED")
    fresh = desk.live(qty=1)
    assert desk.status(orders[5]) == "NONE"
    assert desk.status(fresh) == "LIVE"
    desk.close()


def test_many_short_lives(tmp_path):
    """Rows, numbers and ids go round many times in a small table; one order stays open all the while and is never lost."""
    desk = GatewayDesk(tmp_path)
    stayer = desk.live(qty=5, px=PX - 5000)
    for turn in range(300):
        order = desk.live(qty=1)
        if turn % 2:
            desk.line.exchange.fill(ref_of(desk, order), 1)
        else:
            desk.send(CANCEL, cl_ord_id=order)
        desk.until(lambda order=order: desk.status(order) in ("FILLED", "CANCELED"))
        desk.reports()
    assert desk.status(stayer) == "LIVE"
    assert desk.counters["ref_skips"] >= 1
    assert desk.position()["bought_qty"] == 150
    desk.line.exchange.fill(ref_of(desk, stayer), 5)
    desk.until(lambda: desk.status(stayer) == "FILLED")
    desk.close()


def test_stage_histograms_count_market_data_orders_only(desk):
    """An order caused by a packet is timed through every stage; one caused by a timer is not."""
    desk.live(ts_recv=0)
    histograms = desk.memory["orders"]["histograms"]
    assert int(histograms[4]["count"]) == 0
    desk.live(ts_recv=clocks.now_ticks() - 1000)
    counts = [int(histogram["count"]) for histogram in histograms]
    assert counts == [1, 1, 1, 1, 1, 2, 2]
    assert int(histograms[4]["smallest"]) >= 1000


def tails(desk) -> list:
    """The slow orders kept, oldest first."""
    rows = [row.copy() for row in desk.memory["orders"]["tails"] if int(row["number"])]
    return sorted(rows, key=lambda row: int(row["number"]))


def test_slow_order_is_kept_with_its_stamps_and_a_fast_one_is_not(desk):
    """An order whose cause is half a second old; the threshold is below. One without a cause cannot be judged."""
    half = int(desk.clock["hz"]) // 2
    desk.agent.handle["tail_ticks"] = half // 2
    fast, slow = desk.live(ts_recv=clocks.now_ticks()), desk.live(ts_recv=clocks.now_ticks() - half, strategy=1)
    desk.live(ts_recv=0)
    (kept,) = tails(desk)
    assert int(kept["cl_ord_id"]) == slow != fast
    assert (int(kept["t_feed"]), int(kept["t_strategy"]), int(kept["batch"]), int(kept["strategy"])) == (10, 30, 1, 1)
    assert int(kept["t_sent"]) > int(kept["t_risk"]) >= half
    assert int(kept["t_call"]) > 0
    assert desk.counters["slow_orders"] == 1


def test_an_order_older_than_its_stamps_can_tell_is_the_slowest_and_is_counted(desk):
    """Behind a pause of seconds the hops' four bytes are full: such orders were left out, the slowest of the day."""
    slow = desk.live(ts_recv=clocks.now_ticks() - (1 << 34))
    (kept,) = tails(desk)
    assert int(kept["cl_ord_id"]) == slow and int(kept["t_sent"]) >= 1 << 34
    assert int(kept["t_strategy"]) == 30 and int(kept["t_risk"]) == int(kept["t_sent"])
    stages = desk.memory["orders"]["histograms"][:5]
    assert [int(stage["count"]) for stage in stages] == [1] * 5
    assert sum(int(stage["total"]) for stage in stages[:4]) == int(stages[4]["total"]) == int(kept["t_sent"])


def test_slow_orders_beyond_the_ring_overwrite_the_oldest(tmp_path):
    """Numbers go on; the newest are there."""
    desk = GatewayDesk(tmp_path, gateway={"orders_max": 64})
    desk.agent.handle["tail_ticks"] = 0
    for _ in range(TAILS + 20):
        order = desk.live(ts_recv=clocks.now_ticks() - 1000)
        desk.line.exchange.fill(ref_of(desk, order), 100)
        desk.until(lambda order=order: desk.status(order) == "FILLED")
    assert [int(row["number"]) for row in tails(desk)] == list(range(21, TAILS + 21))
    desk.close()


def test_orders_that_wait_for_room_are_told_as_a_pause(tmp_path):
    """The report ring is full of what nobody read: the order waits in risk's ring, and when it goes on the wait is in the meter."""
    desk = GatewayDesk(tmp_path, rings={"report": 64}, gateway={"orders_max": 64})
    desk.agent.open_meter(True)
    order = desk.live(qty=1000)
    desk.agent.handle["patience_ticks"] = 1 << 60
    for _ in range(100):
        desk.line.exchange.fill(ref_of(desk, order), 1)
    desk.until(lambda: desk.counters.get("report_stalls", 0) > 0)
    waiting = desk.send()
    desk.step()
    assert desk.status(waiting) == "NONE" and int(desk.agent.handle["held_why"]) == pauses.HELD
    held = int(desk.agent.handle["held_since"])
    desk.until(lambda: bool(desk.reports()) and desk.status(waiting) == "LIVE")
    assert int(desk.agent.handle["held_since"]) == 0
    control = desk.memory["control"]
    rows = pauses.kept(control["meters"], control["pauses"], int(Role.GATEWAY)).rows
    told = rows[rows["kind"] == pauses.HELD]
    assert int(told[0]["begin"]) == held < int(told[0]["end"])
    desk.close()


def test_people_can_read_the_table(desk):
    """`hftd orders` reads rows from shared memory, newest first."""
    desk.live(side=SELL, px=PX + 100, instrument=1)
    desk.live()
    rows = read_orders(desk.config, desk.memory, SYMBOLS)
    assert [(row["symbol"], row["side"], row["status"]) for row in rows] == [("AAA", "BUY", "LIVE"), ("BBB", "SELL", "LIVE")]
    assert rows[0]["answer_us"] > 0
    assert int(desk.run["state"]) == RunState.READY
    assert (NEW, BUY, LINK_UP) == (1, 0, 5)


def test_fills_bust_and_odd_messages(desk):
    """A broken trade is taken back once; rubbish is counted and survived; order entry can be turned off and on."""
    order = desk.live(qty=100)
    ref = ref_of(desk, order)
    exchange = desk.line.exchange
    match = exchange.fill(ref, 60)
    exchange.bust(ref, match)
    exchange.bust(ref, match)
    exchange.bust(ref, 987654)
    exchange.say(b"?" + bytes(20))
    exchange.say(b"E" + bytes(20))
    exchange.say(b"")
    exchange.say(b"C" + bytes(8) + (4711).to_bytes(4, "big") + bytes(5))
    exchange.say(b"G" + exchange.stamp() + bytes(10))
    desk.until(lambda: int(desk.session["disabled"]) == 1)
    position = desk.position()
    assert (position["bought_qty"], position["bought_cash"], position["fills"], position["broken"]) == (0, 0, 0, 1)
    counters = desk.counters
    assert (counters["broken"], counters["repeats"], counters["contradictions"]) == (1, 1, 1)
    assert (counters["unknown_types"], counters["short_messages"], counters["unknown_refs"]) == (1, 2, 1)
    desk.reports()
    desk.send()
    desk.step()
    assert reason_of(desk.reports()[0]) == "NOT_READY"
    exchange.say(b"K" + exchange.stamp() + bytes(10))
    desk.until(lambda: int(desk.session["disabled"]) == 0)
    assert desk.live()
