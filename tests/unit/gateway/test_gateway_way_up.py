"""The way to an open session at a venue that makes it hard: it names another session each time, or cancels nothing."""

import time
from types import SimpleNamespace

import pytest

from hftd.gateway import left
from hftd.gateway.memory import LINK_CLEANING
from hftd.gateway.setup import EXIT_ORDERS_OPEN, RETRY_FIRST_NS, RETRY_MAX_NS, OrdersStay
from hftd.msg import ids
from tests.support.gateway_desk import GatewayDesk, Line


@pytest.fixture
def clock(monkeypatch):
    """CLOCK_MONOTONIC, as the gateway's cold side sees it: it stands still until the test moves it."""
    hands = [time.monotonic_ns()]
    standing = SimpleNamespace(monotonic_ns=lambda: hands[0], time_ns=time.time_ns)
    for module in ("hftd.gateway.setup", "tests.support.gateway_desk"):
        monkeypatch.setattr(f"{module}.time", standing)
    return hands


class Fickle(Line):
    """A venue that names another session at each log-in, and takes every name for the current one."""

    def _login(self, payload: bytes) -> None:
        self.session = f"SESSION{len(self.logins):03d}"
        super()._login(payload[:16] + b" " * 10 + payload[26:])


def test_a_venue_that_names_another_session_at_each_log_in_is_asked_ever_more_seldom(tmp_path, clock):
    """Probe and log-in, then a wait that doubles, up to the longest: a venue bans who hammers at it."""
    line = Fickle()
    desk = GatewayDesk(tmp_path, line, up=False)
    try:
        wait, waits = RETRY_FIRST_NS, []
        for attempt in range(1, 9):
            for _ in range(60):
                desk.step()
            assert len(line.logins) == 2 * attempt, "a probe and a log-in at each attempt, no more before the wait is over"
            clock[0] += wait - 1
            for _ in range(10):
                desk.step()
            assert len(line.logins) == 2 * attempt
            waits.append(wait)
            wait, clock[0] = min(2 * wait, RETRY_MAX_NS), clock[0] + 1
        assert waits[-1] == RETRY_MAX_NS
    finally:
        desk.close()


def test_a_session_that_changed_once_is_taken_at_the_second_attempt(tmp_path):
    line = Fickle()
    desk = GatewayDesk(tmp_path, line, up=False)
    try:
        desk.until(lambda: len(line.logins) >= 2)
        line._login = lambda payload: Line._login(line, payload)
        desk.until(desk.up)
        assert int(desk.agent.backoff_ns) == RETRY_FIRST_NS
    finally:
        desk.close()


def left_open(tmp_path):
    """An exchange at which an earlier instance has left an order that it fills no more of and does not cancel."""
    line = Line()
    first = GatewayDesk(tmp_path, line)
    order = first.live(qty=100)
    line.exchange.fill(first.row(order)["user_ref"], 30)
    first.until(lambda: first.row(order)["cum"] == 30)
    first.crash()
    line.hang_up()
    line.exchange._cancel = lambda ref, total: None
    return line, order


def test_a_venue_that_cancels_nothing_is_waited_for_so_long_and_no_longer(tmp_path, clock):
    """Then the gateway ends, and says which orders stay: a person must see to them."""
    line, order = left_open(tmp_path)
    wanted = {"orders_max": 64, "address": f"127.0.0.1:{line.port}", "clean_timeout_s": 7.0}
    desk = GatewayDesk(tmp_path, line, up=False, gateway=wanted)
    try:
        desk.until(lambda: int(desk.session["state"]) == LINK_CLEANING)
        clock[0] += 7_000_000_000 - 1
        desk.step()
        assert line.messages(b"X")
        clock[0] += 2
        with pytest.raises(OrdersStay) as raised:
            desk.step()
        venue = line.exchange.orders[1].number
        assert str(raised.value) == (
            f"{desk.config.path}: gateway.clean_timeout_s: the venue did not cancel within 7 s what an earlier run left open "
            f"there: buy 70 AAA at 100.00 ({ids.text(order)}, venue order {venue}); cancel it at the venue, then start again"
        )
        assert raised.value.exit_code == EXIT_ORDERS_OPEN
        assert int(desk.run["session_up"]) == 0 and not int(desk.agent.mark["ready"])
    finally:
        desk.close()


def test_orders_left_are_named_each_up_to_some(tmp_path):
    desk = GatewayDesk(tmp_path)
    try:
        assert left.in_words(desk.memory) == ""
        desk.live(qty=10)
        desk.live(qty=20, side=1, instrument=1, px=1_234_500)
        desk.line.exchange.mute = True
        lost = desk.send(qty=30, instrument=2)
        desk.until(lambda: desk.status(lost) == "PENDING_NEW")
        said = left.in_words(desk.memory)
        assert "buy 10 AAA at 100.00 (" in said and "sell 20 BBB at 123.45 (" in said
        assert f"buy 30 CCC at 100.00 ({ids.text(lost)}, not accepted yet)" in said
        assert left.in_words(desk.memory, most=1).endswith(" and 2 more")
    finally:
        desk.close()
