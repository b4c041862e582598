"""Our gateway against a SoupBinTCP server that is not ours: the PyPI package `nasdaq-protocols` serves, the gateway trades.

The gateway runs as it does in the daemon: a process of its own, forked after compiling, its serve loop and all. The exchange is
this process's asyncio loop; the test plays risk on the shared-memory rings.
"""

import asyncio
import os
import signal
import time

import pytest
from numba import types

from hftd.control.warm import duty_signature, record
from hftd.core import clock as clocks
from hftd.core.agent import push_log
from hftd.core.jit import INTERPRETED
from hftd.core.memory import records
from hftd.gateway import loop
from hftd.gateway.memory import LINK_CLOSED, LINK_UP
from hftd.gateway.setup import GatewayAgent
from hftd.msg.enums import RunState
from hftd.msg.records import order_dtype
from hftd.shm.ring import producer_dtype
from tests.support.gateway_desk import BUY, CANCEL, PX, REPLACE, SELL, GatewayDesk, Line, order_sum
from tests.support.ouch_exchange import Exchange

soup = pytest.importorskip("nasdaq_protocols.soup", reason="nasdaq-protocols is not installed: source scripts/environment test")
pytestmark = pytest.mark.skipif(INTERPRETED, reason="one process in real time is enough; compiled is what runs")


class Server(soup.SoupServerSession, session_type="server"):
    """One client's connection: their framing and heartbeats, our exchange behind it."""

    exchange: Exchange
    current: "Server | None" = None
    told = 0
    requests: list

    async def on_login(self, msg):
        """Accept; what was asked for is replayed right behind the answer."""
        if msg.user != "HFTD01" or msg.password != "secret":
            return soup.LoginRejected(soup.LoginRejectReason.NOT_AUTHORIZED)
        sequence = int(msg.sequence) or len(Server.exchange.log) + 1
        Server.requests.append((msg.session.strip(), int(msg.sequence)))
        self.told = sequence - 1
        Server.current = self
        asyncio.get_running_loop().call_soon(self.tell)
        return soup.LoginAccepted("OTHERSOUP1", sequence)

    async def on_unsequenced(self, msg):
        """Hand an OUCH message to the exchange and send what it says."""
        Server.exchange.handle(msg.data)
        self.tell()

    def tell(self):
        """Send what the exchange said since."""
        for message in Server.exchange.log[self.told :]:
            self.send_seq_msg(message)
        self.told = len(Server.exchange.log)


def compile_all() -> None:
    """Compile what both processes run before either has to be in time."""
    loop.kernel().compile(duty_signature(loop.gateway_agent_dtype))
    loop.serve_request.compile((record(loop.gateway_agent_dtype), types.int64, types.int64, types.int64))
    order_sum(records(order_dtype, 1)[0], 1)
    push_log.compile((record(producer_dtype), types.int64))


class Child:
    """The gateway's process, and the test's hands on the rings."""

    def __init__(self, path, port: int, password: str = "secret"):
        self.password = password
        line = Line()
        line.close()
        line.port = port
        self.desk = GatewayDesk(path, line, up=False, here=False, gateway={
            "address": f"127.0.0.1:{port}", "risk_dead_ms": 60_000, "orders_max": 64})  # fmt: skip
        compile_all()
        self.desk.risk_mark["heartbeat"] = clocks.now_ticks()
        self.pid = self.fork()

    def fork(self) -> int:
        """Start the gateway's process."""
        pid = os.fork()
        if pid:
            return pid
        code = 99
        try:
            os.environ["HFTD_PASSWORD"] = self.password
            self.desk.memory["control"]["marks"][3]["starts"] += 1
            code = GatewayAgent(self.desk.config, self.desk.memory).serve(False)
        finally:
            os._exit(code)

    def wait(self) -> int:
        """Return the exit code of the child, waiting at most ten seconds."""
        for _ in range(1000):
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.pid = 0
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.01)
        raise AssertionError("the gateway did not end")

    def close(self) -> None:
        """Leave nothing behind."""
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)


async def until(done, seconds: float = 60.0, told=lambda: "") -> None:
    """Wait for `done()`, yielding to the server."""
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, f"did not come about: {done}; {told()}"
        await asyncio.sleep(0.002)


@pytest.fixture
def exchange():
    """A fresh exchange behind the server class."""
    Server.exchange, Server.requests, Server.current = Exchange(), [], None
    return Server.exchange


async def listen():
    """Start their server; return it and its port."""
    server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()[1]


def test_a_whole_conversation(tmp_path, exchange):
    """Log in, trade, replace, cancel, lose the link, be killed, come back, stop in order: over somebody else's SoupBinTCP."""
    async def play():
        server, port = await listen()
        child = Child(tmp_path, port)
        desk = child.desk
        try:
            await until(lambda: int(desk.session["state"]) == LINK_UP)
            assert Server.requests == [("", 0), ("OTHERSOUP1", 1)]
            one = desk.send(qty=100, side=BUY)
            await until(lambda: desk.status(one) == "LIVE", told=lambda: (desk.counters, desk.reports()))
            two = desk.send(REPLACE, orig=one, qty=150, px=PX + 10)
            await until(lambda: desk.status(two) == "LIVE")
            exchange.fill(desk.row(two)["user_ref"], 60)
            Server.current.tell()
            await until(lambda: desk.row(two)["cum"] == 60)

            Server.current._transport.abort()  # the link breaks; a fill happens meanwhile
            exchange.fill(desk.row(two)["user_ref"], 40)
            await until(lambda: desk.row(two)["cum"] == 100 and int(desk.session["state"]) == LINK_UP)
            assert desk.counters["resumes"] == 1
            assert desk.status(two) == "PARTIALLY_FILLED"

            os.kill(child.pid, signal.SIGKILL)  # and now the gateway itself dies
            assert child.wait() == -signal.SIGKILL
            exchange.fill(desk.row(two)["user_ref"], 20)
            child.pid = child.fork()
            await until(lambda: desk.row(two)["cum"] == 120 and int(desk.session["state"]) == LINK_UP)
            assert desk.counters["resumes"] == 2
            other = desk.send(qty=30, side=SELL, px=PX + 100)
            await until(lambda: desk.status(other) == "LIVE")
            desk.send(CANCEL, cl_ord_id=two)
            await until(lambda: desk.status(two) == "CANCELED")

            desk.run["state"] = int(RunState.STOPPING)
            await until(lambda: int(desk.session["state"]) == LINK_CLOSED)
            assert child.wait() == 0
            assert exchange.live() == []
            assert desk.status(other) == "CANCELED"
            position = desk.position()
            assert (position["bought_qty"], position["fills"], position["orders"], position["open_orders"]) == (120, 3, 3, 0)
            assert desk.counters.get("contradictions", 0) == 0
        finally:
            child.close()
            server.close()

    asyncio.run(play())


def test_a_wrong_password_never_trades(tmp_path, exchange):
    """The log-in is refused: counted, nothing is up, and SIGTERM still ends the process in order."""

    async def play():
        server, port = await listen()
        child = Child(tmp_path, port, password="wrong")
        try:
            await until(lambda: child.desk.counters.get("login_rejects", 0) == 1)
            assert int(child.desk.run["session_up"]) == 0
            os.kill(child.pid, signal.SIGTERM)
            assert child.wait() == 0
            assert exchange.inbound == []
        finally:
            child.close()
            server.close()

    asyncio.run(play())
