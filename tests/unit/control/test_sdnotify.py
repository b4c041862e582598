"""What systemd is told, and that it cannot hold us up."""

import os
import socket
import time

import pytest

from hftd.control import sdnotify
from hftd.control.sdnotify import Notifier


@pytest.fixture
def manager(tmp_path, monkeypatch):
    """A service manager's socket, named in the environment."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(path)
        made.settimeout(1)
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        yield made


def test_messages_are_lines_of_key_and_value(manager):
    Notifier().send(ready=1, status="trading, layout shared")
    assert manager.recv(4096) == b"READY=1\nSTATUS=trading, layout shared"


def test_status_stays_on_its_line(manager):
    Notifier().send(status="a\nWATCHDOG=1")
    assert manager.recv(4096) == b"STATUS=a WATCHDOG=1"


def test_variables_are_not_inherited_by_children(manager, monkeypatch):
    monkeypatch.setenv("WATCHDOG_USEC", "2000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    assert Notifier().watchdog_s == 2.0
    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} & set(os.environ)


@pytest.mark.parametrize(("limit", "whose"), [("2000000", "1"), ("soon", ""), ("", ""), ("-1", "")])
def test_watchdog_of_another_process_or_of_nonsense_is_none(manager, monkeypatch, limit, whose):
    monkeypatch.setenv("WATCHDOG_USEC", limit)
    monkeypatch.setenv("WATCHDOG_PID", whose)
    assert Notifier().watchdog_s == 0.0


def test_without_a_manager_nothing_happens(monkeypatch):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    Notifier().send(ready=1)


def test_manager_that_went_away_is_no_error_of_ours(manager):
    notifier = Notifier()
    os.unlink(manager.getsockname())
    notifier.send(watchdog=1)


def test_manager_that_does_not_read_holds_us_up_for_a_moment_only(manager, monkeypatch):
    monkeypatch.setattr(sdnotify, "SEND_MAX_S", 0.01)
    notifier = Notifier()
    begun = time.monotonic()
    for _ in range(600):  # more than any queue of datagrams holds by default
        notifier.send(watchdog=1)
        if time.monotonic() - begun > 0.05:
            break
    assert time.monotonic() - begun < 5


def test_abstract_socket_is_reached(monkeypatch):
    name = f"hftd-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(f"\0{name}")
        made.settimeout(1)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
        Notifier().send(stopping=1)
        assert made.recv(100) == b"STOPPING=1"
