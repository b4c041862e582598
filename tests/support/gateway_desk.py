"""A desk for tests of the gateway: real shared memory, a real GatewayAgent and its compiled loop, real TCP on the loopback. The
test plays risk, and an exchange in plain Python; both sides are stepped in turn in one thread, so nothing sleeps and nothing races.
"""

import itertools
import os
import socket
import time
from typing import Any

from hftd.control.config import build
from hftd.core import clock as clocks
from hftd.core.agent import push_log
from hftd.core.jit import hot
from hftd.core.memory import records
from hftd.gateway.memory import LINK_UP
from hftd.gateway.setup import GatewayAgent
from hftd.msg.check import order_check
from hftd.msg.enums import DenyReason, ExecType, IntentKind, OrdStatus, Role, RunState
from hftd.msg.ids import make_id
from hftd.msg.records import order_dtype, report_dtype
from hftd.shm import map as shared
from hftd.shm import ring
from hftd.shm.counters import values
from tests.support.ouch_exchange import Exchange

PX = 100_0000
NEW, REPLACE, CANCEL, CANCEL_ALL = (int(IntentKind[n]) for n in ("NEW", "REPLACE", "CANCEL", "CANCEL_ALL"))
BUY, SELL = 0, 1
SYMBOLS = ["AAA", "BBB", "CCC"]
_numbers = itertools.count()


@hot
def order_sum(order, count):
    """Risk's checksum, for a test that plays risk."""
    return order_check(order, count)


class Line:
    """The exchange's end: a listening socket, at most one client, SoupBinTCP written out by hand."""

    def __init__(self, exchange: Exchange | None = None, session: str = "TESTSESS01"):
        self.exchange = exchange or Exchange()
        self.session = session
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        self.port = self.listener.getsockname()[1]
        self.client: socket.socket | None = None
        self.received = b""
        self.packets: list[tuple[bytes, bytes]] = []  # (type, payload) as they came
        self.sent = 0  # sequenced messages sent on this connection
        self.logged_in = False
        self.logins: list[tuple[str, int]] = []
        self.refuse: bytes = b""
        self.begins: int = 0  # where the next log-in that asks for more than number 1 is answered to begin; 0: where it asks
        self.chunk = 0  # bytes per send; 0: all at once
        self.hold = False  # keep answers back
        self.deaf = False  # take nothing from the socket

    def step(self) -> None:
        """Accept, read, answer."""
        if self.client is None:
            try:
                self.client, _ = self.listener.accept()
            except BlockingIOError:
                return
            self.client.setblocking(False)
            self.client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.received, self.logged_in = b"", False
        if not self.deaf:
            self._read()
        self._flush()

    def _read(self) -> None:
        assert self.client is not None
        try:
            data = self.client.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            self.hang_up()
            return
        if not data:
            self.hang_up()
            return
        self.received += data
        while len(self.received) >= 3 and len(self.received) >= 2 + int.from_bytes(self.received[:2], "big"):
            size = int.from_bytes(self.received[:2], "big")
            kind, payload = self.received[2:3], self.received[3 : 2 + size]
            self.received = self.received[2 + size :]
            self.packets.append((kind, payload))
            if kind == b"L":
                self._login(payload)
            elif kind == b"U":
                self.exchange.handle(payload)
            elif kind == b"O":
                self.hang_up()
                return

    def _login(self, payload: bytes) -> None:
        wanted, number = payload[16:26].decode().strip(), int(payload[26:46].decode().strip())
        self.logins.append((wanted, number))
        refused = self.refuse or (b"S" if wanted and wanted != self.session else b"")
        if refused:
            self.send(b"J", refused)
            self.hang_up()
            return
        number = number or len(self.exchange.log) + 1
        if self.begins and number > 1 and wanted:
            number, self.begins = self.begins, 0
        self.sent = number - 1
        self.logged_in = True
        self.send(b"A", f"{self.session:>10}{number:>20}".encode())

    def send(self, kind: bytes, payload: bytes = b"") -> None:
        """Send one packet."""
        data = (len(payload) + 1).to_bytes(2, "big") + kind + payload
        assert self.client is not None
        for at in range(0, len(data), self.chunk or len(data)):
            self.client.send(data[at : at + (self.chunk or len(data))])

    def _flush(self) -> None:
        if self.client is None or not self.logged_in or self.hold:
            return
        waiting = self.exchange.log[self.sent :]
        if waiting and not self.chunk:
            self.client.send(b"".join((len(item) + 1).to_bytes(2, "big") + b"S" + item for item in waiting))
        else:
            for item in waiting:
                self.send(b"S", item)
        self.sent = len(self.exchange.log)

    def hang_up(self) -> None:
        """Drop the client."""
        if self.client is not None:
            self.client.close()
        self.client, self.logged_in = None, False

    def close(self) -> None:
        """Close everything."""
        self.hang_up()
        self.listener.close()

    def messages(self, kind: bytes) -> list[bytes]:
        """Return the client's messages of one type."""
        return [payload for soup, payload in self.packets if soup == b"U" and payload[:1] == kind]


class GatewayDesk:
    """A gateway between a test's hands; with `here` False the memory only, for a gateway in another process."""

    def __init__(self, run_dir, line: Line | None = None, up: bool = True, here: bool = True, **sections: dict[str, Any]):
        self.line = line or Line()
        data: dict[str, Any] = {
            "daemon": {"name": f"g{os.getpid()}-{next(_numbers)}", "run_dir": str(run_dir), "stop_timeout_s": 0.5},
            "universe": {"symbols": SYMBOLS, "max": 4},
            "strategy": [{"file": "a.py", "name": "a"}, {"file": "b.py", "name": "b"}],
            "gateway": {"orders_max": 64, "address": f"127.0.0.1:{self.line.port}"},
            "feed": {"orders_max": 1024, "levels_max": 1024},
            "rings": {"md": 1024, "intent": 256, "order": 256, "report": 256, "log": 64},
        }
        for section, items in sections.items():
            data[section] = {**data.get(section, {}), **items} if isinstance(items, dict) else items
        self.config = build(data)
        self.memory = shared.create(self.config, 1)
        self.memory.unlink()
        control = self.memory["control"]
        self.clock, self.run = control["clock"][0], control["run"][0]
        clocks.calibrate(self.clock, 0.001)
        self.risk_mark = control["marks"][int(Role.RISK)]
        rows = self.memory["market"]["instruments"]
        for at, symbol in enumerate(SYMBOLS):
            rows[at]["symbol"] = int.from_bytes(symbol.ljust(8).encode(), "little")
        self.run["state"] = int(RunState.READY)
        self.orders_out = records(ring.producer_dtype, 1)[0]
        ring.open_producer(self.orders_out, self.memory["ring.order"])
        self.order = records(order_dtype, 1)
        self.sequence = 0
        self.count = 0
        self.log = self.memory["ring.report"]
        self.reader = records(ring.consumer_dtype, 1)[0]
        ring.open_consumer(self.reader, self.log, 0, gating=True)
        self.session, self.counters_row = self.memory["orders"]["session"][0], self.memory["orders"]["counters"][0]
        if here:
            self.start()
        if up:
            self.until(self.up)

    # ------------------------------------------------------------ the gateway

    def start(self) -> None:
        """Start the gateway, or start it again over the same memory."""
        self.agent = GatewayAgent(self.config, self.memory)
        self.agent.prepare(spin=True)
        self.kernel = self.agent.kernel()

    def crash(self) -> None:
        """Let the gateway die without a word: the socket closes, the memory stays as it is."""
        self.agent.close()
        self.run["session_up"] = 0

    def turn(self, turns: int = 4) -> int:
        """Run some turns of the gateway and its cold work."""
        self.risk_mark["heartbeat"] = clocks.now_ticks() if self.risk_alive else self.risk_mark["heartbeat"]
        reason = int(self.kernel(self.agent.handle, self.agent.mark, self.agent.waiting, turns))
        if reason > 1:
            self.agent.on_reason(reason)
        self.agent.cold(time.monotonic_ns())
        return reason

    risk_alive = True

    def step(self, times: int = 3) -> None:
        """Run both sides a few times."""
        for _ in range(times):
            self.turn()
            self.line.step()
        self.turn()

    def until(self, done, times: int = 20_000) -> None:
        """Step until `done()`; fail where it does not come about."""
        for _ in range(times):
            if done():
                return
            self.step(1)
        raise AssertionError(f"did not come about: {done}; counters {self.counters}")

    def up(self) -> bool:
        """Tell whether the session is open and reconciled."""
        return int(self.session["state"]) == LINK_UP

    def close(self) -> None:
        """Put everything away."""
        self.agent.close()
        self.line.close()

    # ------------------------------------------------------------ what the test plays: risk and a strategy

    def send(self, kind: int = NEW, *, cl_ord_id: int = 0, px: int = PX, qty: int = 100, side: int = BUY, tif: int = 0,
             orig: int = 0, instrument: int = 0, strategy: int = 0, flags: int = 0, ts_recv: int = 0, spoil: int = 0,
             ) -> int:  # fmt: skip
        """Play risk: approve one order. Returns its cl_ord_id. orig: id of the order to be replaced."""
        if cl_ord_id == 0:
            self.sequence += 1
            cl_ord_id = make_id(strategy, 7, self.sequence)
        order = self.order[0]
        now = clocks.now_ticks()
        for name, value in {
            "ts_recv": ts_recv, "cl_ord_id": cl_ord_id, "px": px, "qty": qty, "orig_seq": orig & 0xFFFFFFFF,
            "instrument": instrument, "kind": kind, "side": side, "tif": tif, "flags": flags, "strategy": strategy,
            "t_feed": 10, "t_strategy": 30, "t_risk": min(max(now - ts_recv, 60), (1 << 32) - 1) if ts_recv else 60,
        }.items():  # fmt: skip
            order[name] = value
        self.count = int(self.orders_out["tail"]) + 1
        order["check"] = int(order_sum(order, self.count)) ^ spoil
        address = order._address if hasattr(order, "_address") else self.order.ctypes.data
        assert push_log(self.orders_out, address)
        return int(cl_ord_id)

    def reports(self) -> list[dict]:
        """Return the reports published since the last call."""
        found = []
        slots = self.log["slots"].view(report_dtype) if self.log["slots"].dtype != report_dtype else self.log["slots"]
        capacity = self.log.parts["slots"].count
        tail = int(self.log["control"][0]["tail"])
        while int(self.reader["next"]) < tail:
            slot = slots[int(self.reader["next"]) % capacity]
            found.append({name: int(slot[name]) for name in report_dtype.names})
            self.reader["next"] = int(self.reader["next"]) + 1
        self.log["control"][0]["consumers"][0]["head"] = int(self.reader["next"])
        return found

    def said(self) -> list[tuple[str, int]]:
        """Return (exec type, order's number) of the reports since the last call."""
        return [(ExecType(item["exec_type"]).name, item["cl_ord_id"] & 0xFFFFFFFF) for item in self.reports()]

    def row(self, cl_ord_id: int) -> dict:
        """Return an order's row."""
        for order in self.memory["orders"]["orders"]:
            if int(order["cl_ord_id"]) == cl_ord_id and int(order["status"]):
                found = {name: int(order[name]) for name in order.dtype.names if name != "pad"}
                found["status"] = OrdStatus(found["status"]).name
                return found
        raise KeyError(f"no row for {cl_ord_id:x}")

    def status(self, cl_ord_id: int) -> str:
        """Return an order's status by name; NONE where it has no row."""
        try:
            return self.row(cl_ord_id)["status"]
        except KeyError:
            return "NONE"

    def position(self, instrument: int = 0) -> dict:
        """Return a position row."""
        found = self.memory["orders"]["positions"][instrument]
        return {name: int(found[name]) for name in found.dtype.names if name != "pad"}

    @property
    def counters(self) -> dict:
        """The gateway's counters that are not 0."""
        return {name: value for name, value in values(self.counters_row).items() if value}

    def live(self, **fields) -> int:
        """Send an order and see it accepted; return its id."""
        made = self.send(**fields)
        self.until(lambda: self.status(made) == "LIVE")
        return made


def reason_of(report: dict) -> str:
    """Return the DenyReason of a denial by name."""
    return DenyReason(report["venue_id"]).name
