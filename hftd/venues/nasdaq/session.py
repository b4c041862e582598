"""The cold half of a SoupBinTCP client: connecting and logging in, without ever blocking.

`LogIn.step()` is called again and again between slices of the hot loop; it returns None while the answer is awaited, and the
connected socket with what the venue said when it came. Everything that can go wrong is a SessionError that says what to do.
What follows the Login Accepted in the same read belongs to the hot half and is handed over with the socket.
"""

import contextlib
import errno
import os
import select
import socket
from dataclasses import dataclass

from hftd.errors import HftdError
from hftd.venues.nasdaq import soupbintcp

UNREACHABLE, SILENT, CLOSED, NOT_AUTHORISED, NO_SESSION, NOT_SOUP, NO_ANSWER, OTHER_SESSION = range(1, 9)
"""Codes of a SessionError, as they stand in the log and the error log."""

SESSION_TEXT = {
    UNREACHABLE: "the venue cannot be reached",
    SILENT: "the venue did not answer the log-in in time",
    CLOSED: "the venue closed the connection before it answered the log-in",
    NOT_AUTHORISED: "the venue refused the user name or the password",
    NO_SESSION: "the venue has no such session",
    NOT_SOUP: "what answered does not speak SoupBinTCP",
    NO_ANSWER: "the venue did not answer the account query in time",
    OTHER_SESSION: "the venue named another session than a moment before",
}


class SessionError(HftdError):
    """A connection or log-in failed. `code` is one of the constants above."""

    def __init__(self, code: int, detail: str):
        super().__init__(f"{detail}: {SESSION_TEXT[code]}")
        self.code = code


@dataclass
class LoggedIn:
    """A session that is open: the socket, what the venue calls it, the next sequence number, and bytes read too far."""

    socket: socket.socket
    session: str
    sequence: int
    rest: bytes


class LogIn:
    """One attempt to connect and log in."""

    def __init__(self, host: str, port: int, request: bytes, timeout_s: float, now_ns: int):
        self._where = f"{host}:{port}"
        self._request, self._received = request, b""
        self._deadline_ns = now_ns + int(timeout_s * 1e9)
        self.connected = False
        self._poll = select.poll()
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            self.socket = socket.socket(family, kind, protocol)
            self.socket.setblocking(False)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            code = self.socket.connect_ex(address)
        except OSError as error:
            raise SessionError(UNREACHABLE, f"{self._where} ({error.strerror})") from None
        if code not in (0, errno.EINPROGRESS):
            self.abandon()
            raise SessionError(UNREACHABLE, f"{self._where} ({os.strerror(code)})")
        self._poll.register(self.socket, select.POLLIN | select.POLLOUT)

    def step(self, now_ns: int) -> LoggedIn | None:
        """Go on as far as can be without waiting. Returns the open session, None while it takes longer. Raises SessionError."""
        try:
            return self._step(now_ns)
        except SessionError:
            self.abandon()
            raise
        except OSError as error:
            self.abandon()
            raise SessionError(UNREACHABLE, f"{self._where} ({error.strerror})") from None

    def abandon(self) -> None:
        """Close the socket."""
        with contextlib.suppress(OSError):
            self.socket.close()

    def _step(self, now_ns: int) -> LoggedIn | None:
        if not self.connected and self._poll.poll(0):
            code = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise SessionError(UNREACHABLE, f"{self._where} ({os.strerror(code)})")
            self.connected = True
            self.socket.sendall(self._request)  # 49 bytes into an empty socket buffer: taken whole
        if self.connected:
            try:
                data = self.socket.recv(65536)
                if not data:
                    raise SessionError(CLOSED, self._where)
                self._received += data
            except BlockingIOError:
                pass
            found = self._answer()
            if found is not None:
                return found
        if now_ns > self._deadline_ns:
            raise SessionError(SILENT if self.connected else UNREACHABLE, self._where)
        return None

    def _answer(self) -> LoggedIn | None:
        while len(self._received) >= soupbintcp.HEADER:
            length = int.from_bytes(self._received[:2], "big")
            kind = self._received[2]
            if length == 0 or length > 1024:
                raise SessionError(NOT_SOUP, self._where)
            if len(self._received) < length + 2:
                return None
            payload, self._received = self._received[3 : length + 2], self._received[length + 2 :]
            if kind == soupbintcp.LOGIN_ACCEPTED:
                try:
                    session, sequence = soupbintcp.parse_login_accepted(payload)
                except ValueError:
                    raise SessionError(NOT_SOUP, self._where) from None
                return LoggedIn(self.socket, session, sequence, self._received)
            if kind == soupbintcp.LOGIN_REJECTED:
                raise SessionError(NO_SESSION if payload[:1] == b"S" else NOT_AUTHORISED, self._where)
            if kind not in (soupbintcp.DEBUG, soupbintcp.SERVER_HEARTBEAT):
                raise SessionError(NOT_SOUP, self._where)
        return None


def hang_up(sock: socket.socket, patience_s: float = 0.25) -> None:
    """Close a connection so that what was sent last still arrives: half-close, wait for the peer to close, at most `patience_s`."""
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_WR)
        sock.settimeout(patience_s)
        for _ in range(64):
            if not sock.recv(65536):
                break
    sock.close()
