"""Packets over real sockets: two lines in one order, gaps asked for, servers that die, sessions that change."""

import random
import socket
import struct
import time

import pytest

from hftd.control.config import ConfigError
from hftd.feed.setup import line_socket
from hftd.msg.enums import AgentState, BookState, EventKind
from hftd.msg.records import FLAG_SNAPSHOT
from tests.support import itch_messages as itch
from tests.support.feed_books import Feed
from tests.support.live_feed import Live, state_of

LIVE, RECOVERING, STALE = int(BookState.LIVE), int(BookState.RECOVERING), int(BookState.STALE)


def day(count: int) -> list[bytes]:
    """Return the messages of a small day in one symbol."""
    rng, messages, live = random.Random(5), [itch.directory(9, "AAPL"), itch.action(9, "T")], []
    for ref in range(1, count):
        if live and rng.random() < 0.45:
            messages.append(itch.delete(9, live.pop(rng.randrange(len(live))), ts=ref))
        side = rng.choice("BS")
        px = 1_000_000 + 100 * rng.randrange(20) * (1 if side == "S" else -1) + (5000 if side == "S" else 0)
        messages.append(itch.add(9, ref, side, 100, px, ts=ref))
        live.append(ref)
    return messages[:count]


@pytest.fixture
def live():
    made = Live()
    made.messages = day(600)
    yield made
    made.close()


@pytest.fixture
def impatient():
    """A feed that gives a server 5 ms, three times."""
    made = Live(gap_timeout_ms=5)
    made.messages = day(600)
    yield made
    made.close()


def same_books(live: Live) -> bool:
    """Tell whether the feed's books are those of a run without packets."""
    clean = Feed(levels=2048, orders=4096)
    clean.apply(*live.messages)
    other = Feed.__new__(Feed)
    other.build = live.agent.build
    return other.sides(0) == clean.sides(0) and other.quote(0) == clean.quote(0)


def test_the_first_copy_of_either_line_wins_and_the_other_is_counted(live):
    for first in range(1, 600, 10):
        live.publish(first, 10, line=first // 10 % 2)
        live.step()
        live.publish(first, 10, line=1 - first // 10 % 2)
        live.step()
    live.until(lambda: live.counter("duplicates_a") + live.counter("duplicates_b") == 60)

    assert live.expected() == 601 and same_books(live) and live.ready()
    assert live.counter("first_a") == live.counter("first_b") == 30 == live.counter("duplicates_a")
    assert live.counter("gaps") == 0 and live.counter("messages") == 600


def test_a_packet_that_straddles_brings_only_its_new_part(live):
    live.publish(1, 20)
    live.publish(11, 20)
    live.publish(5, 30)
    live.until(lambda: live.expected() == 35)

    assert live.counter("messages") == 34 and live.counter("duplicate_refs") == 0


def test_a_loss_on_one_line_is_filled_by_the_other_within_the_reorder_window():
    live = Live(reorder_ms=1000)
    try:
        live.messages = day(100)
        live.publish(1, 20)
        live.publish(41, 20)
        live.until(lambda: live.counter("gaps") == 1)
        assert not live.ready() and live.state() == LIVE
        live.publish(21, 20, line=1)
        live.until(lambda: live.expected() == 61)
        live.until(live.ready)

        assert live.counter("requests") == 0 and live.counter("reordered") == 1 and live.counter("recovered") == 0
        assert not any(int(event["flags"]) & FLAG_SNAPSHOT for event in live.events())
    finally:
        live.close()


def test_a_loss_on_both_lines_is_asked_for_and_books_recover(live):
    live.publish(1, 100)
    live.until(lambda: live.expected() == 101)
    for first in range(201, 600, 40):
        live.publish(first, 40)
    live.until(lambda: live.state() == RECOVERING)
    assert not live.ready() and live.agent.mark["state"] == AgentState.DEGRADED
    live.until(lambda: live.expected() == 601, step=live.answer)
    live.until(live.ready)

    assert same_books(live) and live.state() == LIVE
    assert live.counter("gap_messages") == 100 and live.counter("recovered") == 1 and live.counter("given_up") == 0
    assert sum(count for _, _, count in live.requests) >= 100 and min(first for _, first, _ in live.requests) == 101
    assert max(first + count for _, first, count in live.requests) <= 201
    events = live.events()
    states = [int(event["qty"]) for event in events if event["kind"] == EventKind.BOOK_STATE]
    assert states == [LIVE, RECOVERING, LIVE]
    recovered = [event for event in events if int(event["flags"]) & FLAG_SNAPSHOT and event["kind"] == EventKind.LEVEL]
    assert recovered and all(state_of(event) == RECOVERING for event in recovered)


def test_a_late_joiner_recovers_from_message_one(live):
    live.publish(581, 20)
    live.until(lambda: live.expected() == 601, step=live.answer)
    live.until(live.ready)

    assert same_books(live) and live.counter("gap_messages") == 580
    assert live.counter("requests") < 60


def test_a_heartbeat_shows_a_loss_at_the_end(live):
    live.publish(1, 590)
    live.control(601)
    live.until(lambda: live.expected() == 601, step=live.answer)

    assert same_books(live) and live.counter("heartbeats") == 1


def test_a_dead_server_is_passed_over():
    live = Live(servers=2, gap_timeout_ms=5, gap_retries=1000)
    try:
        live.messages = day(100)
        live.publish(51, 50)
        live.until(lambda: live.expected() == 101, step=lambda: (live.answer(0, keep=lambda first: False), live.answer(1)))
        live.until(live.ready)

        assert live.counter("request_timeouts") >= 1 and same_books(live)
        assert {server for server, _, _ in live.requests} == {0, 1}
    finally:
        live.close()


def test_a_lost_answer_is_asked_for_again(impatient):
    live, impatient.agent.handle["tries_max"] = impatient, 1000
    silent = iter([False, True, False])
    live.publish(501, 100)
    live.until(lambda: live.expected() == 601, step=lambda: live.answer(keep=lambda first: next(silent, True)))

    assert same_books(live) and live.counter("request_timeouts") >= 1


def test_what_no_server_has_is_given_up_and_books_are_stale(impatient):
    live = impatient
    live.publish(1, 50)
    live.publish(61, 40)
    live.until(lambda: live.counter("given_up") == 1)
    live.until(lambda: live.expected() == 101)

    assert live.state() == STALE and not live.ready()
    assert live.counter("lost_messages") == 10 and live.counter("request_timeouts") == 3
    assert [int(event["qty"]) for event in live.events() if event["kind"] == EventKind.BOOK_STATE][-1] == STALE
    live.publish(101, 10)
    live.until(lambda: live.expected() == 111)
    assert live.state() == STALE and state_of(live.events()[-1]) == STALE


def test_one_forged_number_is_not_believed(live):
    live.publish(1, 50)
    live.control(1 << 39)
    live.send(itch.packet(live.session, 1 << 39, *live.messages[:10]))
    live.send(itch.packet(live.session, 1 << 30, *live.messages[:10]), 1)
    live.publish(51, 50)
    live.until(lambda: live.expected() == 101)

    assert live.counter("doubted") == 3 and live.counter("gaps") == 0 and live.ready()


def test_one_forged_number_not_so_far_ahead_stops_nothing(live):
    """Believed, it would keep every book RECOVERING until the session came there, and ask servers for what is still to come."""
    live.publish(1, 50)
    live.send(itch.packet(live.session, 60_000, *live.messages[:10]))
    live.control(5_000, line=1)
    live.publish(51, 50)
    live.until(lambda: live.expected() == 101)

    assert live.counter("doubted") == 2 and live.counter("gaps") == live.counter("requests") == 0
    assert live.ready() and live.state() == LIVE


def test_a_jump_that_a_line_repeats_is_believed(live):
    live.publish(1, 50)
    for sequence in (100_000, 100_010, 100_020):
        live.send(itch.packet(live.session, sequence, *live.messages[:10]))
    live.until(lambda: live.counter("gaps") == 1)

    assert live.counter("doubted") == 2 and int(live.agent.handle["highest"]) == 100_030


def test_an_answer_from_a_stranger_is_dropped(live):
    live.publish(1, 50)
    live.publish(61, 40)
    live.until(lambda: live.counter("requests") > 0)
    ours = next(one for one in live.agent.sockets if one.fileno() == int(live.agent.handle["lines"][2]["fd"]))
    live.out.sendto(itch.packet(live.session, 51, *live.messages[50:60]), ("127.0.0.1", ours.getsockname()[1]))
    live.until(lambda: live.counter("strangers") == 1)
    assert live.expected() == 51
    live.until(lambda: live.expected() == 101, step=live.answer)

    assert live.counter("unknown_refs") == 0 and live.counter("messages") == 100


def test_each_line_counts_what_it_lacks_and_what_came_late(live):
    for first, line in ((1, 0), (1, 1), (11, 1), (21, 0), (21, 1), (31, 1), (31, 1), (41, 0), (11, 0), (11, 0), (41, 1), (51, 1)):
        live.publish(first, 10, line=line)
        live.step(2)
    live.control(61, line=0)
    live.until(lambda: live.counter("heartbeats") == 1)

    assert live.expected() == 61
    assert live.counter("lost_a") == 20 and live.counter("late_a") == 1
    assert live.counter("lost_b") == 0 == live.counter("late_b")
    leads = [int(row["count"]) for row in live.memory["market"]["histograms"]]
    assert leads[2] == 3 and leads[3] == 1, "A was first with 1, 21 and 41, B with 11"


def test_a_gap_is_believed_as_soon_as_many_packets_wait():
    live = Live(reorder_ms=1000, reorder_packets=5)
    try:
        live.messages = day(200)
        live.publish(1, 20)
        for first in range(41, 81, 10):
            live.publish(first, 10)
        live.until(lambda: live.counter("queued") == 4)
        live.step()
        assert live.counter("requests") == 0
        live.publish(81, 10)
        live.until(lambda: live.expected() == 91, step=live.answer)

        assert live.counter("recovered") == 1
    finally:
        live.close()


def test_heartbeats_beyond_what_ever_came_move_nothing(impatient):
    live = impatient
    live.publish(1, 50)
    for _ in range(3):
        live.control(1 << 39)
    live.until(lambda: live.counter("given_up") == 1)
    live.publish(51, 50)
    live.until(lambda: live.expected() == 101)

    assert live.counter("lost_messages") == 0


def test_a_full_queue_drops_what_is_furthest_and_asks_again(live):
    for first in range(101, 501, 4):                  # 100 packets, room for 64
        live.publish(first, 4)
        live.step(2)
    live.until(lambda: live.counter("queue_full") == 36)
    live.publish(501, 100)
    live.until(lambda: live.expected() == 601, step=live.answer)

    assert same_books(live)


def test_packets_that_are_not_sound_are_dropped_and_move_nothing(live):
    live.send(b"noise" * 20)
    live.send(b"NOSESSION0" + bytes(7) + b"\x01\x00\x02\x00")
    live.until(lambda: live.counter("malformed") == 2)
    live.publish(1, 100)
    live.until(lambda: live.expected() == 101)
    good = itch.packet(live.session, 101, *live.messages[100:110])
    bad = [
        good[:10], b"", good[:-1], good + b"x", good[:20], good[:18] + struct.pack(">H", 11) + good[20:],
        good[:18] + struct.pack(">H", 9) + good[20:], good[:10] + bytes(8) + good[18:],
        good[:10] + b"\xff" * 8 + good[18:], good[:18] + bytes(2) + good[20:], good[:18] + b"\xff\xff" + good[20:],
    ]  # fmt: skip
    for data in bad:
        live.send(data)
    live.send(good + bytes(3000))
    live.send(itch.packet("OTHER", 101, *live.messages[100:110]))
    live.until(lambda: live.counter("packets_a") == 2 + 3 + len(bad) + 2)

    assert live.counter("malformed") == 2 + len(bad) and live.counter("truncated") == 1 and live.counter("foreign") == 1
    assert live.expected() == 101 and live.counter("messages") == 100 and live.counter("gaps") == 0
    live.publish(101, 500)
    live.until(lambda: live.expected() == 601)
    assert same_books(live)


def test_a_new_session_after_the_end_clears_the_books(live):
    live.publish(1, 30)
    live.until(lambda: live.expected() == 31)
    live.control(31, 0xFFFF)
    live.until(lambda: live.counter("session_ends") == 1)
    live.session = "SESSION002"
    live.publish(1, 30)
    live.until(lambda: live.counter("foreign") == 1)
    live.step()
    live.publish(1, 30)
    live.publish(31, 30)
    live.until(lambda: live.expected() == 61)

    kinds = [int(event["kind"]) for event in live.events()]
    assert int(EventKind.CLEAR) in kinds and live.counter("sessions") == 2
    live.messages = live.messages[:60]
    assert same_books(live) and live.ready()


def test_what_is_left_of_a_silent_session_does_not_take_the_feed_back(live):
    """A straggler behind the change of sessions: the books of the new one stay."""
    live.publish(1, 30)
    live.until(lambda: live.expected() == 31)
    live.agent.handle["last_heard"] -= 2 * int(live.agent.handle["silence"])  # as if it had said nothing for so long
    old, live.session = live.session, "SESSION002"
    live.control(1)
    live.until(lambda: live.counter("foreign") == 1)
    live.session = old
    live.publish(31, 10)
    live.until(lambda: live.counter("foreign") == 2)
    live.step()
    live.session = "SESSION002"
    live.publish(1, 40)
    live.until(lambda: live.expected() == 41)

    assert live.counter("sessions") == 2 and live.counter("foreign") == 2 and live.ready()


def test_a_configured_session_is_never_left():
    live = Live(session="MINE")
    try:
        live.messages = day(20)
        live.session = "MINE"
        live.control(1, 0xFFFF)
        live.until(lambda: live.counter("session_ends") == 1)
        live.session = "YOURS"
        live.publish(1, 20)
        live.until(lambda: live.counter("foreign") == 1)
        live.step()

        assert live.expected() == 1 and live.counter("messages") == 0
    finally:
        live.close()


def test_a_feed_that_starts_again_begins_with_empty_books_and_recovers(live):
    live.publish(1, 300)
    live.until(lambda: live.expected() == 301)
    live.agent.close()
    again = type(live.agent)(live.config, live.memory)
    again.prepare(False)
    live.agent = again
    assert int(live.events()[-1]["kind"]) == EventKind.CLEAR
    live.publish(571, 30)
    live.until(lambda: live.expected() == 601, step=live.answer)

    assert same_books(live) and live.ready()


def test_a_slow_consumer_is_detached_and_the_feed_goes_on():
    live = Live(md=1024, orders_max=4096)
    try:
        live.messages = day(2000)
        live.consumer(0)
        live.publish(1, 2000)
        live.until(lambda: live.expected() == 2001)

        assert live.counter("detached") == 1 and same_books(live)
    finally:
        live.close()


def test_recovery_waits_for_a_slow_consumer_before_it_detaches_it():
    live = Live(md=1024, gap_timeout_ms=500)
    try:
        live.messages = day(2000)
        live.consumer(0)
        live.publish(1981, 20)
        begun = time.monotonic()
        while time.monotonic() - begun < 0.1:
            live.step()
            live.answer()
        assert live.counter("detached") == 0 and live.expected() < 1981
        live.until(lambda: live.expected() == 2001, step=live.answer)

        assert live.counter("detached") == 1 and same_books(live)
    finally:
        live.close()


def test_a_port_in_use_and_a_wrong_interface_are_one_line_errors(live):
    with pytest.raises(ConfigError, match=r"^x: feed\.line_a: 127.0.0.1:\d+ on interface 127.0.0.1: Address already in use"):
        line_socket(live.config.feed.line_a, "127.0.0.1", 65536, "x: feed.line_a")
    with pytest.raises(ConfigError, match=r"^x: feed\.line_a: 239\.1\.2\.3:31999 on interface 203\.0\.113\.7: "):
        line_socket("239.1.2.3:31999", "203.0.113.7", 65536, "x: feed.line_a")


def test_a_multicast_group_is_joined_and_heard_by_two_receivers():
    one, two = (line_socket("239.192.77.1:31997", "127.0.0.1", 65536, "x") for _ in range(2))
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
    sender.sendto(b"hello", ("239.192.77.1", 31997))
    for receiver in (one, two):
        receiver.settimeout(2)
        assert receiver.recv(16) == b"hello"
        receiver.close()
    sender.close()
