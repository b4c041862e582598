"""`hftd sim`: the simulated exchange as a program. Sockets, log-ins and time-outs here; the rest is compiled (`loop.py`).

    waiting for a log-in -> the flow -> lingering while accounts finish -> end of session -> ledger

Three servers beside the market data lines: order entry (SoupBinTCP, one account per user name, resumed by sequence number),
retransmissions (answered in compiled code), snapshots (GLIMPSE). A connection has to log in within LOGIN_S. A second log-in of an
account waits a moment for the first connection to be found dead, and is refused ('S') when it is not.
"""

import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

from hftd.cli.main import say
from hftd.core import clock as clocks
from hftd.core.libc import set_name
from hftd.core.memory import records
from hftd.sim import ledger as ledgers
from hftd.sim.exchange import Exchange, Stream, open_line
from hftd.sim.loop import MARGIN, MARGIN_ROWS, cycle
from hftd.sim.memory import LOST_END, stream_dtype
from hftd.sim.options import Options, SimError, check
from hftd.sim.session import greet
from hftd.sim.snapshot import spin_message, spin_orders
from hftd.sim.wire import beat_both
from hftd.venues.nasdaq import soupbintcp as soup

LOGIN_S = 30.0
SECOND_LOGIN_S = 1.0
SLICE_S = 0.002
WHY = {1: "the client closed", 2: "connection error", 3: "silent for too long", 4: "logged out", 5: "not SoupBinTCP",
       6: "dropped as asked", 7: "end of session"}  # fmt: skip
END_OF_SNAPSHOT = "G{:>20}"


def run(options: Options, ready: Callable[[], Any] | None = None, stop: Callable[[], bool] | None = None) -> dict[str, Any]:
    """Run an exchange until its session is over, SIGTERM or SIGINT comes, or `stop()` says so; return the ledger.

    ready: called once when every socket is open and all code is compiled. Raises SimError.
    """
    server = Server(check(options))
    try:
        server.open()
        with _Signals() as signals:
            server.serve(ready, lambda: bool(signals.seen or (stop is not None and stop())))
        facts = ledgers.ledger(server.exchange)
        if options.ledger:
            ledgers.write(options.ledger, facts)
        server.exchange.check()
        return facts
    finally:
        server.close()


def warm(exchange: Exchange | None = None) -> None:
    """Compile, or load, everything hot that an exchange calls: done before it says that it is ready, and by `hftd warm`."""
    exchange = exchange or Exchange(Options())
    cycle(exchange.x, 0)
    beside = records(stream_dtype, 1)
    stream = Stream(beside[0], 4096, 64)
    greeting = np.zeros(64, np.uint8)
    spin_message(beside[0], greeting.ctypes.data, 12)
    if int(exchange.x["orders"]["used"]) == 0:
        spin_orders(exchange.x, beside[0])
    assert len(stream) == 1


class _Signals:
    """SIGTERM and SIGINT, noted instead of obeyed while the exchange runs (in the main thread)."""

    def __init__(self):
        self.seen = 0
        self.before: dict[int, Any] = {}

    def __enter__(self) -> "_Signals":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self.before[number] = signal.signal(number, self._note)
        return self

    def _note(self, number, frame):
        self.seen = number

    def __exit__(self, *_):
        for number, handler in self.before.items():
            signal.signal(number, handler)


def _readable(waiting: list[socket.socket]) -> set[socket.socket]:
    """Return the sockets that have something, however high their descriptors are: select() takes none beyond 1023."""
    by_fd = {sock.fileno(): sock for sock in waiting}
    polled = select.poll()
    for fd in by_fd:
        polled.register(fd, select.POLLIN)
    return {by_fd[fd] for fd, _ in polled.poll(0)}


class Login:
    """A connection that has not logged in yet."""

    def __init__(self, sock: socket.socket, kind: str):
        self.sock, self.kind = sock, kind
        self.bytes = b""
        self.since = time.monotonic()
        self.waiting = False


class Server:
    """Sockets and phases."""

    def __init__(self, options: Options):
        self.options = options
        self.exchange: Exchange
        self.sockets: list[socket.socket] = []
        self.logins: list[Login] = []
        self.clients: dict[int, socket.socket] = {}
        self.spins: list[tuple[socket.socket, bytes]] = []

    # ------------------------------------------------------------ opening and closing

    def open(self) -> None:
        """Open every socket and make every table. Raises SimError."""
        options = self.options
        self.ouch = self._listen(options.ouch_port, "--ouch-port")
        self.glimpse = self._listen(options.glimpse_port, "--glimpse-port") if options.glimpse_port else None
        self.request = self._keep(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self._bind(self.request, options.request_port, "--request-port")
        self.request.setblocking(False)
        if options.ledger and not os.access(os.path.dirname(os.path.abspath(options.ledger)), os.W_OK):
            raise SimError(f"--ledger {options.ledger}: its directory does not exist or cannot be written to")
        self.exchange = Exchange(options)
        self.exchange.line_delay()
        x = self.exchange.x
        x["request_fd"] = self.request.fileno()
        for which, text in enumerate((options.line_a, options.line_b)):
            if text:
                line = self._keep(open_line(text, options.interface, "--line-" + "ab"[which]))
                self.exchange.lines[which]["fd"] = line.fileno()
                self.exchange.lines[which]["last"] = clocks.now_ticks()
        self._polls()

    def _keep(self, sock: socket.socket) -> socket.socket:
        self.sockets.append(sock)
        return sock

    def _bind(self, sock: socket.socket, port: int, option: str) -> None:
        try:
            sock.bind((self.options.host, port))
        except OSError as error:
            raise SimError(
                f"{option} {port}: {self.options.host}: {error.strerror}; stop what uses the port or choose another"
            ) from None

    def _listen(self, port: int, option: str) -> socket.socket:
        made = self._keep(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._bind(made, port, option)
        made.listen(16)
        made.setblocking(False)
        return made

    def close(self) -> None:
        """Close every socket."""
        waiting = (*(login.sock for login in self.logins), *(sock for sock, _ in self.spins))
        for sock in (*self.sockets, *self.clients.values(), *waiting):
            with suppress(OSError):
                sock.close()

    # ------------------------------------------------------------ phases

    def serve(self, ready: Callable[[], Any] | None, stopped: Callable[[], bool]) -> None:
        """Run the session."""
        exchange, options = self.exchange, self.options
        x = exchange.x
        warm(exchange)
        beat_both(x)
        if ready:
            ready()
        set_name("hftd-sim")
        held_until = time.monotonic() + options.wait_login
        if not options.wait_login:
            exchange.start_flow()
        lingering_until = 0.0
        ending_until = 0.0
        while True:
            cycle(x, clocks.now_ticks() + exchange.ticks(SLICE_S))
            self.cold()
            now = time.monotonic()
            if x["holding"] and (self.clients or now >= held_until):
                exchange.start_flow()
            if ending_until:
                if now >= ending_until:
                    return
            elif stopped():
                self._end_session()
                ending_until = now + min(options.end_seconds, 0.1)
            elif x["done"]:
                if not lingering_until:
                    say(f"hftd sim: flow ended after {int(x['tape']['count']):,} messages")
                    lingering_until = now + options.linger
                if now >= lingering_until or not (self.clients or self.logins):
                    self._end_session()
                    ending_until = now + options.end_seconds

    def _end_session(self) -> None:
        """Tell every account and both lines that the session is over."""
        exchange = self.exchange
        for number in range(1, len(exchange.names)):
            greet(exchange.x, number, ord("E"))
            if int(exchange.accounts[number]["fd"]) >= 0:
                self._finish(number)
        exchange.x["done"] = 1  # whatever flow there was is over
        cycle(exchange.x, clocks.now_ticks() + exchange.ticks(SLICE_S))
        exchange.x["ending"] = 1
        beat_both(exchange.x)

    def _finish(self, number: int) -> None:
        """Give a client what it has not been told, end of session, and close. Its open orders stay as they are."""
        exchange = self.exchange
        account = exchange.accounts[number]
        sock = self.clients[int(account["fd"])]
        told, tail = int(account["sent"]), int(account["stream"]["tail"])
        with suppress(OSError):
            sock.settimeout(0.5)
            sock.sendall(exchange.streams[number].store.bytes(told, tail - told) + soup.empty(soup.END_OF_SESSION))
        account["sent"], account["lost_fd"], account["lost_why"], account["fd"] = tail, account["fd"], LOST_END, -1
        self._lost()

    # ------------------------------------------------------------ cold work

    def cold(self) -> None:
        """Everything that compiled code leaves to Python, between two slices."""
        x = self.exchange.x
        if x["closing"]:
            self._lost()
        self.exchange.grow(MARGIN, MARGIN_ROWS)
        waiting = [self.ouch, *([self.glimpse] if self.glimpse else []), *(login.sock for login in self.logins)]
        readable = _readable(waiting)
        if self.ouch in readable:
            self._accept(self.ouch, "ouch")
        if self.glimpse in readable:
            self._accept(self.glimpse, "glimpse")
        for login in list(self.logins):
            if login.sock in readable and not login.waiting:
                self._read(login)
            if login.waiting:
                self._log_in(login)
            elif login in self.logins and time.monotonic() - login.since > LOGIN_S:
                self._refuse(login, "")
        if self.spins:
            self._spin_on()

    def _polls(self) -> None:
        listeners = [self.ouch, *([self.glimpse] if self.glimpse else [])]
        cold = [sock.fileno() for sock in (*listeners, *(login.sock for login in self.logins))]
        self.exchange.set_polls(cold, [self.request.fileno(), *self.clients])

    def _lost(self) -> None:
        """Close the connections that compiled code gave up."""
        exchange = self.exchange
        exchange.x["closing"] = 0
        for number in range(1, len(exchange.names)):
            account = exchange.accounts[number]
            fd = int(account["lost_fd"])
            if fd >= 0:
                account["lost_fd"] = -1
                sock = self.clients.pop(fd, None)
                if sock is not None:
                    sock.close()
                why = WHY[int(account["lost_why"])]
                swept = f", {int(account['swept'])} orders canceled on disconnect so far" if account["swept"] else ""
                say(f"hftd sim: {exchange.names[number]}: {why}{swept}")
        self._polls()

    def _accept(self, listener: socket.socket, kind: str) -> None:
        with suppress(OSError):
            sock, _ = listener.accept()
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.logins.append(Login(sock, kind))
            self._polls()

    def _drop(self, login: Login) -> None:
        self.logins.remove(login)
        self._polls()

    def _refuse(self, login: Login, reason: str) -> None:
        """Answer a log-in with a reject, or (empty reason) with nothing, and close."""
        with suppress(OSError):
            if reason:
                login.sock.send(soup.login_rejected(reason))
            login.sock.close()
        self._drop(login)

    def _read(self, login: Login) -> None:
        """Receive until the Login Request is whole, and nothing behind it: that is for compiled code to find in the socket."""
        size = int.from_bytes(login.bytes[:2], "big") if len(login.bytes) >= 3 else 1
        while True:
            try:
                got = login.sock.recv(size + 2 - len(login.bytes))
            except BlockingIOError:
                return
            except OSError:
                got = b""
            if not got:
                self._refuse(login, "")
                return
            login.bytes += got
            if len(login.bytes) < 3:
                continue
            size = int.from_bytes(login.bytes[:2], "big")
            kind = login.bytes[2]
            if size == 0 or (kind != soup.LOGIN_REQUEST and kind != soup.DEBUG and kind != soup.CLIENT_HEARTBEAT):
                self._refuse(login, "A")
                return
            if size > 1024:
                self._refuse(login, "")
                return
            if len(login.bytes) == size + 2:
                if kind == soup.LOGIN_REQUEST:
                    login.waiting = True
                    return
                login.bytes, size = b"", 1

    def _log_in(self, login: Login) -> None:
        """Judge a whole Login Request."""
        try:
            user, password, session, sequence = soup.parse_login_request(login.bytes[3:])
        except ValueError:
            self._refuse(login, "A")
            return
        user = user.upper()
        users = self.options.users
        if not user or not user.isalnum() or (users and users.get(user, "\0").upper() != password.upper()):
            self._refuse(login, "A")
        elif (session and session != self.options.session) or self.exchange.x["ending"]:
            self._refuse(login, "S")
        elif login.kind == "glimpse":
            self._spin(login, sequence)
        else:
            self._admit(login, user, sequence)

    def _admit(self, login: Login, user: str, sequence: int) -> None:
        """Give a connection to its account, from the sequence number it asked for on."""
        exchange = self.exchange
        number = exchange.account(user)
        if number == 0:
            self._refuse(login, "S")
            return
        account = exchange.accounts[number]
        if int(account["fd"]) >= 0:  # the first connection may be dead and not found so yet
            if time.monotonic() - login.since > SECOND_LOGIN_S:
                self._refuse(login, "S")
            return
        stream = exchange.streams[number]
        last = len(stream)
        start = min(sequence, last + 1) if sequence > 0 else max(last, 1)
        try:
            login.sock.sendall(soup.login_accepted(self.options.session, start))
        except OSError:
            self._refuse(login, "")
            return
        account["sent"] = stream.offset(start)
        account["fill"] = 0
        account["heard"] = account["said"] = clocks.now_ticks()
        account["logins"] += 1
        if account["logins"] > 1:
            account["until_drop"] = 0
        account["logged_out"] = 0
        fd = login.sock.fileno()
        self.clients[fd] = login.sock
        account["fd"] = fd
        self._drop(login)
        say(f"hftd sim: {user} logged in, next message {start} of {last}")

    # ------------------------------------------------------------ snapshots

    def _spin(self, login: Login, sequence: int) -> None:
        """Take a snapshot and begin to send it."""
        exchange = self.exchange
        x = exchange.x
        admin = list(exchange.admin.rows())
        size = 64 * int(x["orders"]["used"]) + 64 * (len(admin) + 2) + 4096
        record = records(stream_dtype, 1)[0]
        stream = Stream(record, size, int(x["orders"]["used"]) + len(admin) + 16)
        tape = exchange.tape.store.base
        for offset in admin:
            head = exchange.tape.store.bytes(int(offset), 2)
            spin_message(record, tape + int(offset) + 2, int.from_bytes(head, "big"))
        spin_orders(x, record)
        end = END_OF_SNAPSHOT.format(len(exchange.tape) + 1).encode()
        body = stream.store.bytes(0, int(record["tail"]))
        data = soup.login_accepted(self.options.session, 1) + body + (len(end) + 1).to_bytes(2, "big") + b"S" + end
        self.logins.remove(login)
        self.spins.append((login.sock, data))
        self._polls()

    def _spin_on(self) -> None:
        """Send more of the snapshots; close what is done."""
        going = []
        for sock, data in self.spins:
            try:
                sent = sock.send(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                sock.close()
                continue
            if sent < len(data):
                going.append((sock, data[sent:]))
            else:
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_WR)
                sock.close()
        self.spins = going

