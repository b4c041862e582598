"""Snapshots over a real connection: late joiners, gaps that nobody fills, servers that refuse, lie, hang up or fall silent."""

import contextlib
import socket
import struct
import time

import numpy as np
import pytest

from hftd.control.config import ConfigError
from hftd.msg.enums import BookState, EventKind, TradingState
from hftd.msg.records import FLAG_SNAPSHOT, status_dtype
from hftd.msg.status import apply_status
from hftd.venues.nasdaq import glimpse
from tests.support import itch_messages as itch
from tests.support.feed_books import Feed
from tests.support.live_feed import Live, state_of
from tests.unit.feed.test_mold_recovery import day

LIVE, RECOVERING, STALE = int(BookState.LIVE), int(BookState.RECOVERING), int(BookState.STALE)


def soup(kind: str, payload: bytes = b"") -> bytes:
    """Return a SoupBinTCP packet."""
    return struct.pack(">HB", len(payload) + 1, ord(kind)) + payload


class Server:
    """A GLIMPSE server that answers when it is stepped. `held` bytes of the spin wait until `held` is None."""

    def __init__(self):
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(8)
        self.listener.setblocking(False)
        self.text = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.logins: list[bytes] = []
        self.open: list[socket.socket] = []
        self.waiting: list[socket.socket] = []

    def serve(self, answer: bytes, hang_up: bool = True) -> None:
        """Accept who waits; answer who has asked."""
        with contextlib.suppress(BlockingIOError):
            one, _ = self.listener.accept()
            one.setblocking(False)
            self.waiting.append(one)
            self.open.append(one)
        for one in list(self.waiting):
            with contextlib.suppress(BlockingIOError):
                asked = one.recv(100)
                self.waiting.remove(one)
                if asked:
                    self.logins.append(asked)
                    one.setblocking(True)
                    one.sendall(answer)
                    if hang_up:
                        one.close()

    def close(self) -> None:
        for one in (self.listener, *self.open):
            one.close()


def spin(messages: list[bytes], upto: int, session: str = "SESSION001", end: str = "", extra: tuple = (), first: int = 1) -> bytes:
    """Return what a server says of the books after the first `upto` messages."""
    clean = Feed(levels=2048, orders=4096)
    clean.apply(*messages[:upto])
    said = [itch.directory(9, "AAPL"), itch.action(9, "T")]
    for side, levels in zip("BS", clean.sides(0)):
        said += [itch.add(9, ref, side, qty, px) for px, queue in levels for ref, qty in queue]
    said += [*extra, b"G" + (end or f"{upto + 1:>20}").encode()]
    return soup("A", f"{session:>10}{first:>20}".encode()) + b"".join(soup("S", message) for message in said)


def same_books(live: Live, upto: int) -> bool:
    """Tell whether the feed's book is that of a run without packets."""
    clean = Feed(levels=2048, orders=4096)
    clean.apply(*live.messages[:upto])
    other = Feed.__new__(Feed)
    other.build = live.agent.build
    return other.sides(0) == clean.sides(0) and other.quote(0) == clean.quote(0)


@pytest.fixture
def server():
    made = Server()
    yield made
    made.close()


@pytest.fixture
def live(server):
    """A feed that gives retransmission 5 ms three times, and a snapshot server 0.3 s."""
    made = Live(gap_timeout_ms=5, glimpse=server.text, glimpse_user="GLIMPS")
    made.agent.spin.timeout_s, made.agent.spin.pause = 0.3, 1000
    made.messages = day(2000)
    yield made
    made.close()


def test_a_late_joiner_starts_from_a_snapshot_and_asks_for_nothing_again(live, server):
    live.publish(1001, 200)
    live.until(lambda: live.agent.spin.busy)
    assert live.state() != LIVE and not live.ready()
    answer = spin(live.messages, 1100)
    live.until(lambda: live.expected() == 1201, step=lambda: server.serve(answer))
    live.until(live.ready)

    assert same_books(live, 1200)
    assert live.counter("snapshots") == 1 and live.counter("requests") == 0 and live.counter("recovered") == 0
    assert live.counter("superseded") == 1100 and live.counter("messages") == 100 == 1200 - 1100
    assert live.counter("snapshot_messages") > 100 and live.counter("snapshot_failures") == 0
    assert server.logins[0][3:9] == b"GLIMPS"
    live.publish(1201, 100, line=1)
    live.until(lambda: live.expected() == 1301)
    assert same_books(live, 1300)


def test_a_gap_that_nobody_fills_is_closed_by_a_snapshot_and_strategies_start_again(live, server):
    live.publish(1, 100)
    live.until(lambda: live.expected() == 101)
    before = len(live.events())
    live.publish(111, 100)
    live.until(lambda: live.agent.spin.busy)
    assert live.state() == RECOVERING and live.counter("given_up") == 1
    answer = spin(live.messages, 150)
    live.until(lambda: live.expected() == 211, step=lambda: server.serve(answer))
    live.until(live.ready)

    assert same_books(live, 210) and live.counter("lost_messages") == 0
    events = live.events()[before:]
    kinds = [int(event["kind"]) for event in events]
    cleared = kinds.index(int(EventKind.CLEAR))
    assert int(events[0]["qty"]) == RECOVERING and kinds[0] == EventKind.BOOK_STATE
    assert kinds[-1] == EventKind.BOOK_STATE and int(events[-1]["qty"]) == LIVE and state_of(events[-1]) == LIVE
    assert all(state_of(event) == RECOVERING and int(event["flags"]) & FLAG_SNAPSHOT for event in events[cleared:-1])
    book: dict = {}
    for event in events[cleared:]:                    # a strategy's own book, from events alone
        if event["kind"] == EventKind.LEVEL:
            book[(int(event["flags"]) & 1, int(event["px"]))] = int(event["qty"])
    wanted = Feed(levels=2048, orders=4096)
    wanted.apply(*live.messages[:210])
    sides = wanted.sides(0)
    expected = {(side, px): sum(qty for _, qty in queue) for side in (0, 1) for px, queue in sides[side]}
    assert {key: qty for key, qty in book.items() if qty} == expected


def test_a_gap_that_closes_meanwhile_calls_the_snapshot_off(live, server):
    live.publish(1, 100)
    live.publish(111, 100)
    live.until(lambda: live.agent.spin.busy)
    live.publish(101, 10, line=1)
    live.until(live.ready)

    assert not live.agent.spin.busy and same_books(live, 210)
    assert live.counter("snapshots") == live.counter("snapshot_failures") == 0


BAD = {
    "refused": (soup("J", b"A"), glimpse.REFUSED),
    "another session": (spin(day(300), 250, session="YESTERDAY0"), glimpse.FOREIGN),
    "cut off": (spin(day(300), 250)[:-5], glimpse.CUT_OFF),
    "no number": (spin(day(300), 250, end="              12-4  "), glimpse.NOT_SOUND),
    "an execution": (spin(day(300), 250, extra=(itch.delete(9, 1),)), glimpse.NOT_SOUND),
    "not SoupBinTCP": (bytes(100), glimpse.NOT_SOUND),
    "end of session": (spin(day(300), 250)[:-24] + soup("Z"), glimpse.CUT_OFF),
    "no log-in": (spin(day(300), 250)[33:], glimpse.NOT_SOUND),
    "log-in twice": (spin(day(300), 250)[:33] * 2, glimpse.NOT_SOUND),
    "from its middle on": (spin(day(300), 250, first=2), glimpse.NOT_SOUND),
    "log-in answered by noise": (soup("A", b"\xff" * 30), glimpse.FOREIGN),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_snapshot_moves_nothing_and_the_next_one_heals(live, server, name):
    answer, why = BAD[name]
    live.messages = day(300)
    live.publish(1, 100)
    live.publish(111, 100)
    live.until(lambda: live.counter("snapshot_failures") == 1, step=lambda: server.serve(answer))
    assert live.agent.spin.failure == why
    live.until(lambda: live.state() == STALE, step=lambda: server.serve(answer))
    assert live.expected() == 101 and same_books(live, 100) and not live.ready()
    good = spin(live.messages, 205)
    live.until(live.ready, step=lambda: server.serve(good))

    assert same_books(live, 210) and live.counter("snapshots") == 1


@pytest.mark.parametrize("upto", [90, 1 << 30])
def test_a_snapshot_from_before_the_gap_or_from_nowhere_is_refused(live, server, upto):
    live.messages = day(300)
    live.publish(1, 100)
    live.publish(111, 100)
    answer = spin(live.messages, 90, end=f"{upto:>20}")
    live.until(lambda: live.counter("snapshot_failures") > 0, step=lambda: server.serve(answer))
    live.until(lambda: live.state() == STALE, step=lambda: server.serve(answer))

    assert live.expected() == 101 and same_books(live, 100) and live.counter("snapshots") == 0


def test_a_silent_server_is_left_and_asked_again_at_a_bounded_rate(live, server):
    live.agent.spin.timeout_s, live.agent.spin.pause = 0.02, 1 << 62
    live.publish(1, 100)
    live.publish(111, 100)
    half = spin(live.messages, 150)[:500]
    live.until(lambda: live.counter("snapshot_failures") == 1, step=lambda: server.serve(half, hang_up=False))
    assert live.agent.spin.failure == glimpse.SILENT
    begun, asked = time.monotonic(), live.counter("requests")
    while time.monotonic() - begun < 0.1:
        live.step()
    assert live.counter("snapshot_failures") == 1 and len(server.logins) == 1 and live.state() == STALE
    assert live.counter("requests") > asked, "servers of retransmissions are tried in between"
    live.until(live.ready, step=live.answer)
    assert same_books(live, 210), "and what they bring heals, since nothing was passed over"


@pytest.mark.parametrize("said", [b"H", b"+"], ids=["heartbeats", "debug"])
def test_a_server_that_lives_and_sends_no_snapshot_is_left_too(live, server, said):
    """Its heartbeats are none: retransmission is tried in between, another snapshot asked for later."""
    live.agent.spin.timeout_s, live.agent.spin.pause = 0.05, 1 << 62
    live.publish(1, 100)
    live.publish(111, 100)
    half = spin(live.messages, 150)[:500]

    def beat():
        server.serve(half, hang_up=False)
        if server.logins:
            with contextlib.suppress(OSError):
                server.open[0].sendall(soup(said.decode()))

    live.until(lambda: live.counter("snapshot_failures") == 1, step=beat, limit_s=5.0)
    assert live.agent.spin.failure == glimpse.SILENT
    live.until(lambda: live.state() == STALE)
    live.until(live.ready, step=live.answer)
    assert same_books(live, 210)


def test_a_forged_heartbeat_is_found_out_by_the_snapshot(live, server):
    live.publish(1, 100)
    for _ in range(3):
        live.control(50_000)
    answer = spin(live.messages, 100)
    live.until(lambda: live.counter("snapshots") == 1, step=lambda: server.serve(answer))
    live.until(live.ready)

    assert live.expected() == 101 and same_books(live, 100)


def test_no_server_at_all_is_a_failure_and_nothing_else(live, server):
    server.listener.close()
    live.publish(1, 100)
    live.publish(111, 100)
    live.until(lambda: live.counter("snapshot_failures") > 1)

    assert live.agent.spin.failure == glimpse.NO_CONNECTION and live.state() == STALE


def test_a_queue_that_overflows_keeps_what_the_snapshot_will_not_contain(live, server):
    live.publish(1001, 40)
    live.until(lambda: live.agent.spin.busy)
    live.until(lambda: int(live.agent.handle["snapshot_floor"]) > 0)
    for first in range(1041, 1741, 4):                # 175 packets, room for 64
        live.publish(first, 4)
        live.step(2)
    answer = spin(live.messages, 1060)
    live.until(lambda: live.expected() == 1741, step=lambda: (server.serve(answer), live.answer()))
    live.until(live.ready)

    assert same_books(live, 1740) and live.counter("queue_full") > 100


def test_only_followed_instruments_are_kept(server):
    live = Live(symbols=("MSFT",), glimpse=server.text)
    try:
        adds = [itch.add(9, ref, "B", 1, 100) for ref in range(1, 2000)]
        live.messages = [itch.directory(9, "AAPL"), itch.directory(7, "MSFT"), *adds]
        live.publish(1001, 40)
        said = [itch.directory(9, "AAPL"), itch.directory(7, "MSFT"), *(itch.add(9, ref, "B", 5, 900) for ref in range(1, 900)),
                itch.add(7, 5000, "S", 5, 900), b"G%20d" % 1001]  # fmt: skip
        answer = soup("A", b"%10s%20d" % (b"SESSION001", 1)) + b"".join(soup("S", message) for message in said)
        live.until(live.ready, step=lambda: server.serve(answer))

        assert live.counter("snapshot_messages") == 2 and live.counter("orders_live") == 1
    finally:
        live.close()


def test_a_user_name_that_is_too_long_is_a_one_line_error(server):
    with pytest.raises(ConfigError, match=r"feed\.glimpse_user: must match \[ -~\]\{0,6\}, was 'SEVENTEEN'"):
        Live(glimpse=server.text, glimpse_user="SEVENTEEN")


def breaker(live: Live) -> tuple[int, int, int]:
    """Return the breaker, in the quote and in the status, and the trading state."""
    market = live.memory["market"]
    return (int(market["quotes"]["breaker"][0]), int(market["statuses"]["breaker"][0]), int(market["quotes"]["trading"][0]))


def told_of_breakers(live: Live) -> int:
    """Return how often it was published that a breaker fell."""
    return sum(int(event["kind"]) == EventKind.SYSTEM and int(event["qty"]) == ord("W") for event in live.events())


def test_a_snapshot_from_between_a_breaker_and_the_halt_does_not_lift_it(live, server):
    """It says "T" of every instrument that no action has stopped yet, and nothing of the breaker."""
    orders = day(300)
    live.messages = [*orders[:98], itch.collar(9, 100, 90, 110), itch.breach("2"), *orders[98:]]
    live.publish(1, 100)
    live.publish(111, 50)
    answer = spin(live.messages, 130)
    live.until(live.ready, step=lambda: server.serve(answer))
    assert live.counter("snapshots") == 1 and live.expected() == 161
    assert breaker(live) == (2, 2, TradingState.TRADING)
    assert int(live.memory["market"]["quotes"]["collar_high"][0]) == int(live.memory["market"]["statuses"]["collar_high"][0]) == 110

    live.messages[160:] = [itch.action(9, "H", "MWC2"), itch.action(9, "T", "MWCQ")]
    live.publish(161, 1)
    live.until(lambda: live.expected() == 162)
    assert breaker(live) == (2, 2, TradingState.HALTED)
    live.publish(162, 1)
    live.until(lambda: live.expected() == 163)
    assert breaker(live) == (0, 0, TradingState.TRADING) and told_of_breakers(live) == 1
    assert int(live.memory["market"]["quotes"]["collar_high"][0]) == int(live.memory["market"]["statuses"]["collar_high"][0]) == 0


def test_a_snapshot_that_says_that_a_halt_is_over_lifts_breaker_and_collar(live, server):
    """The halt was seen, its end was not: the snapshot is later than both."""
    orders = day(300)
    live.messages = [*orders[:97], itch.breach("1"), itch.action(9, "H", "MWC1"), itch.collar(9, 100, 90, 110), *orders[97:]]
    live.publish(1, 100)
    live.publish(111, 50)
    live.until(lambda: live.agent.spin.busy)
    assert breaker(live) == (1, 1, TradingState.HALTED)
    answer = spin(live.messages, 130)
    live.until(live.ready, step=lambda: server.serve(answer))

    assert breaker(live) == (0, 0, TradingState.TRADING)
    assert int(live.memory["market"]["quotes"]["collar_high"][0]) == int(live.memory["market"]["statuses"]["collar_high"][0]) == 0


def test_a_halt_from_before_the_breaker_is_not_the_breakers(live, server):
    """An instrument stopped for news, which goes on as the breaker falls: what a snapshot says of it may be from in between."""
    orders = day(300)
    live.messages = [*orders[:98], itch.action(9, "H", "T1"), itch.breach("1"), *orders[98:]]
    live.publish(1, 100)
    live.publish(111, 50)
    answer = spin(live.messages, 130)
    live.until(live.ready, step=lambda: server.serve(answer))

    assert breaker(live) == (1, 1, TradingState.TRADING)


@pytest.mark.parametrize("upto", [150, 131])
def test_a_breaker_among_the_messages_that_a_snapshot_stands_for_is_told(live, server, upto):
    """It waited beyond the gap; the snapshot is later, and silent about it. 131: in the middle of its packet."""
    orders = day(300)
    live.messages = [*orders[:129], itch.breaker_levels(7, 5, 3), itch.breach("1"), *orders[129:]]
    live.publish(1, 100)
    live.publish(111, 100)
    answer = spin(live.messages, upto)
    live.until(live.ready, step=lambda: server.serve(answer))

    assert live.counter("snapshots") == 1 and live.expected() == 211 and breaker(live) == (1, 1, TradingState.TRADING)
    assert told_of_breakers(live) == 1 and int(live.memory["market"]["session"]["level_1"][0]) == 7
    assert live.counter("messages") + live.counter("superseded") == 210


@pytest.mark.parametrize("late", [False, True])
def test_a_breaker_in_a_packet_that_found_no_room_in_the_queue_is_told(live, server, late):
    """The queue keeps what the snapshot will not contain; what it drops is looked through. late: it is not even kept at first."""
    live.agent.spin.timeout_s = 60.0                  # it says nothing while the queue fills
    orders = day(1800)
    live.messages = [*orders[:1003], itch.breach("3"), *orders[1003:]]
    live.publish(1001 if not late else 1005, 4)
    live.until(lambda: live.agent.spin.busy)
    live.until(lambda: int(live.agent.handle["snapshot_floor"]) > 0)
    for first in range(1041, 1741, 4):
        live.publish(first, 4)
        live.step(2)
    if late:
        assert told_of_breakers(live) == 0
        live.agent.handle["snapshot_floor"] = 1060   # as if those had come before the snapshot was asked for
        live.publish(1001, 4)
        live.step(4)
    assert live.counter("queue_full") > 100 and told_of_breakers(live) == 1
    assert int(live.memory["market"]["session"]["breaker"][0]) == 3 and int(live.agent.handle["used"]) == 0
    answer = spin(live.messages, 1060)
    live.until(lambda: live.expected() == 1741, step=lambda: (server.serve(answer), live.answer()))
    live.until(live.ready)
    assert breaker(live) == (3, 3, TradingState.TRADING) and same_books(live, 1740)


def started_again(live: Live) -> None:
    """Let the feed die, and another take its place over the same memory."""
    live.agent.close()
    live.agent = type(live.agent)(live.config, live.memory)
    live.agent.prepare(False)


def collars(live: Live) -> list[tuple[int, int]]:
    """Return the collar in the quote, in the status row, and in a strategy's row made of the events alone."""
    market = live.memory["market"]
    own = np.zeros(1, status_dtype)
    for event in live.events():
        if int(event["kind"]) not in (EventKind.SYSTEM, EventKind.LEVEL):
            apply_status(own[0], *(int(event[name]) for name in ("kind", "px", "qty", "ref", "orders")))
    cells = (market["quotes"][0], market["statuses"][0], own[0])
    return [(int(cell["collar_low"]), int(cell["collar_high"])) for cell in cells]


def test_a_feed_that_starts_again_between_a_breaker_and_the_halt_knows_of_the_breaker(live, server):
    """No snapshot speaks of it, and it says "T" of every instrument that is not halted yet."""
    live.messages = [*day(100), itch.breaker_levels(7, 5, 3), itch.breach("2"), *day(300)[100:]]
    live.publish(1, 102)
    live.until(lambda: live.expected() == 103)
    started_again(live)
    assert breaker(live) == (2, 2, TradingState.UNKNOWN)
    live.publish(121, 20)
    answer = spin(live.messages, 130, extra=(itch.system("O"), itch.system("Q")))
    live.until(live.ready, step=lambda: server.serve(answer))
    assert live.counter("snapshots") == 1 and breaker(live) == (2, 2, TradingState.TRADING) and told_of_breakers(live) == 1
    session = live.memory["market"]["session"][0]
    assert [int(session[name]) for name in ("phase", "breaker", "level_1", "level_2", "level_3")] == [ord("Q"), 2, 7, 5, 3]

    live.messages[140:] = [itch.action(9, "H", "MWC2"), itch.action(9, "T", "MWCQ")]
    live.publish(141, 2)
    live.until(lambda: live.expected() == 143)
    assert breaker(live) == (0, 0, TradingState.TRADING)


def test_a_breaker_that_went_by_unheard_is_known_by_the_first_halt_it_causes(live, server):
    """Lost on both lines, and the snapshot says "T" of instruments that are not halted yet: the others' halts may take a while."""
    live.messages = [*day(100), itch.directory(10, "MSFT"), itch.action(10, "T", symbol="MSFT"), itch.breach("2"), *day(300)[100:]]
    live.publish(1, 102)
    live.publish(121, 20)
    answer = spin(live.messages, 130, extra=(itch.directory(10, "MSFT"), itch.action(10, "H", "MWC2", symbol="MSFT")))
    live.until(live.ready, step=lambda: server.serve(answer))
    assert breaker(live) == (0, 0, TradingState.TRADING), "what a snapshot says of halts may be hours old"
    again = itch.action(10, "H", "MWC2", symbol="MSFT")
    live.messages[140:] = [again, itch.action(9, "T", "MWCQ"), again]
    live.publish(141, 1)
    live.until(lambda: live.expected() == 142)
    assert breaker(live) == (2, 2, TradingState.TRADING) and told_of_breakers(live) == 1
    live.publish(142, 2)
    live.until(lambda: live.expected() == 144)
    assert breaker(live) == (0, 0, TradingState.TRADING) and told_of_breakers(live) == 1


HALTS = {
    "the breaker's own": ([itch.breach("1"), itch.action(9, "H", "MWC1")], 0),
    "for news, before the breaker": ([itch.action(9, "H", "T1"), itch.breach("1")], 1),
    "of this market, not of the instrument": ([itch.breach("1"), itch.operational(9, "Q", "H")], 1),
}


@pytest.mark.parametrize("name", HALTS)
def test_a_feed_that_starts_again_in_a_halt_lifts_only_what_the_halt_ends(live, server, name):
    """The snapshot says that the instrument trades."""
    said, left = HALTS[name]
    live.messages = [*day(100), *said, *day(300)[100:]]
    live.publish(1, 102)
    live.until(lambda: live.expected() == 103)
    started_again(live)
    live.publish(121, 20)
    answer = spin(live.messages, 130)
    live.until(live.ready, step=lambda: server.serve(answer))
    assert breaker(live) == (left, left, TradingState.TRADING)


def test_a_feed_that_starts_again_in_a_pause_keeps_its_collar_until_trading_resumes(live, server):
    """In the quote that risk reads, in the row, and in what strategies made of the events: they are one all the time."""
    live.messages = [*day(100), itch.action(9, "P", "LUDP"), itch.collar(9, 100, 90, 110), *day(300)[100:]]
    live.publish(1, 102)
    live.until(lambda: live.expected() == 103)
    assert collars(live) == [(90, 110)] * 3
    started_again(live)
    assert collars(live) == [(90, 110)] * 3
    live.publish(121, 20)
    answer = spin(live.messages, 130)                 # it says "T": trading resumed while nobody was there
    live.until(live.ready, step=lambda: server.serve(answer))
    assert live.counter("snapshots") == 1 and collars(live) == [(0, 0)] * 3
