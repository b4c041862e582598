"""The control socket: one request a connection, only from the daemon's own user, and nothing that is sent can end the daemon."""

import contextlib
import json
import os
import socket
import stat
import threading

import pytest

from hftd.control import channel
from hftd.control.channel import ChannelError, Server, ask


@pytest.fixture
def server(tmp_path):
    made = Server(tmp_path / "control.sock")
    yield made
    made.close()


@contextlib.contextmanager
def serving(server: Server, answer=lambda request: request):
    """Answer requests from a thread until the block ends."""
    done = threading.Event()

    def serve():
        while not done.is_set():
            for request, reply in server.requests():
                reply(answer(request))
            done.wait(0.002)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def test_request_is_answered(server):
    with serving(server, lambda request: {"heard": request}):
        assert ask(server.path, do="ping", number=5) == {"heard": {"do": "ping", "number": 5}}


def test_error_in_the_answer_is_raised(server):
    with serving(server, lambda request: {"error": "no"}), pytest.raises(ChannelError, match=r"^no$"):
        ask(server.path, do="x")


def test_socket_is_its_owner_s_alone(server):
    assert stat.S_IMODE(server.path.stat().st_mode) == 0o600


def test_other_users_are_turned_away(server, monkeypatch):
    monkeypatch.setattr(channel.struct, "unpack", lambda *_: (1, 4242, 1))
    heard = []
    with serving(server, heard.append), pytest.raises(ChannelError, match="belongs to another user"):
        ask(server.path, do="stop")
    assert not heard


@pytest.mark.parametrize("line", [b"", b"\n", b"not json\n", b"\xff\xfe\n", b"[" * 4000 + b"\n", b"7\n", b'{"do": "' + b"x" * 9000])
def test_what_is_no_request_harms_nobody(server, line):
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(server.path))
        peer.sendall(line)
        peer.shutdown(socket.SHUT_WR)
        assert [request for request, _ in server.requests()] in ([], [{}])
    with serving(server):
        assert ask(server.path, do="ping") == {"do": "ping"}


def test_silent_peer_does_not_hold_the_daemon_up(server, monkeypatch):
    monkeypatch.setattr(channel, "PEER_MAX_S", 0.01)
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(server.path))
        assert list(server.requests()) == []


def test_peer_that_left_is_not_answered(server):
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(server.path))
        peer.sendall(b'{"do": "ping"}\n')
    for _, reply in server.requests():
        reply({"large": "x" * 100_000})


def test_nobody_there_is_said_with_what_to_do(tmp_path):
    with pytest.raises(ChannelError, match=r"^no daemon is running here; start one with: hftd start$"):
        ask(tmp_path / "none.sock", do="ping")
    dead = Server(tmp_path / "dead.sock")
    dead._socket.close()
    with pytest.raises(ChannelError, match="no daemon is running here"):
        ask(tmp_path / "dead.sock", do="ping")


def test_daemon_that_says_nothing_is_given_up(server):
    with pytest.raises(ChannelError, match=r"did not answer on .*control\.sock"):
        ask(server.path, timeout_s=0.05, do="ping")


def test_socket_of_a_dead_daemon_is_taken_over_and_removed(tmp_path):
    dead = Server(tmp_path / "control.sock")
    dead._socket.close()
    again = Server(tmp_path / "control.sock")
    with serving(again):
        assert ask(again.path, do="ping") == {"do": "ping"}
    again.close()
    assert os.listdir(tmp_path) == []


def test_path_too_long_for_a_socket_is_named(tmp_path):
    path = tmp_path / ("d" * 120)
    with pytest.raises(ChannelError, match=r"^control socket .*: AF_UNIX path too long; choose another daemon\.run_dir$"):
        Server(path)


def test_answer_is_one_line_of_json(server):
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(server.path))
        peer.sendall(b'{"do": "ping"}\n')
        for _, reply in server.requests():
            reply({"text": "two\nlines"})
        assert json.loads(peer.makefile().read()) == {"text": "two\nlines"}


def test_a_peer_that_drips_is_not_waited_for(server):
    """Each byte comes in time, the line never: the supervisor has roles to watch, and a kill may be next in line."""
    done = threading.Event()
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(server.path))

        def drip():
            with contextlib.suppress(OSError):
                while not done.wait(channel.PEER_MAX_S / 10):
                    peer.sendall(b" ")

        thread = threading.Thread(target=drip)
        thread.start()
        ended = threading.Timer(20 * channel.PEER_MAX_S, done.set)
        ended.start()
        assert not list(server.requests())
        assert not done.is_set()
        ended.cancel()
        done.set()
        thread.join()
