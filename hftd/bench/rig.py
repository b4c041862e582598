"""The daemon's stages over private memory, in this process: the rig that several benchmarks load and run.

    packet bytes ──▶ feed ──ring.md──▶ strategy ──ring.intent──▶ risk ──ring.order──▶ gateway ──▶ bytes handed to send()

Memory, rings, agents and functions are the daemon's; the venue is a few lines of compiled code (`answer`) that accept and fill what
was sent, on the other end of a TCP connection. `trigger.py` is the strategy: each better bid sends one order.
"""


import contextlib
import ctypes
import os
import socket
import struct
from pathlib import Path

import numpy as np

from hftd.bench.flow import _Maker, preamble
from hftd.bench.registry import BenchError
from hftd.control import config as configuration
from hftd.control import placing
from hftd.core import clock as clocks
from hftd.core.jit import leaf
from hftd.core.layout import layout, offset_of
from hftd.core.memory import (
    address,
    block,
    blocks,
    copy_bytes,
    load32,
    load64,
    prefault,
    record_at,
    records,
    store8,
    store16,
    store64,
    swap16,
    swap32,
    swap64,
)
from hftd.feed.setup import FeedAgent
from hftd.gateway.memory import LINK_UP
from hftd.gateway.setup import GatewayAgent
from hftd.msg.enums import DenyReason, RunState
from hftd.risk.memory import DENIED_AT
from hftd.risk.setup import RiskAgent
from hftd.strategy.harness import private_memory
from hftd.strategy.setup import StrategyAgent
from hftd.venues.nasdaq.itch50 import add_order_dtype, order_executed_dtype, order_replace_dtype
from hftd.venues.nasdaq.moldfeed import handle_packet
from hftd.venues.nasdaq.moldudp64 import session_to_ints
from hftd.venues.nasdaq.ouch50 import out_order_accepted_dtype, out_order_executed_dtype
from hftd.venues.nasdaq.soup_link import plug

PX, QTY = 100_0000, 100
TEXT_AT = offset_of(out_order_accepted_dtype, "cl_ord_id")
ADD, DELETE, EXECUTE, REPLACE = (ord(code) for code in "ADEU")
ACCEPTED, EXECUTED, LIVE, REMOVED = (ord(code) for code in "AELR")

rig_dtype = layout("bench_rig", 128, [
    ("packet_at", "i8"),                          # address of the datagram
    ("sequence", "i8"),                           # of the feed's next message
    ("ref", "i8"),                                # of the next order in the market
    ("peer", "i8"),                               # the venue's end of the socket
    ("scratch_at", "i8"),
    ("match", "i8"),
    ("risk_mark_at", "i8"),                       # risk's heartbeat
    ("wrong", "i8"),                              # orders that did not arrive
    ("symbol", "i8"),                             # as it lies on the wire
    ("pad", ("i8", (7,))),
])  # fmt: skip



@leaf
def write_packet(rig, kind, ref, px):
    """Write a MoldUDP64 packet with one message about the order `ref`; returns its bytes.

    kind: ADD (a bid of QTY shares at `px`), DELETE, EXECUTE (half of it), REPLACE (by the order `ref` + 1, at `px`).
    """
    at = rig.packet_at
    store64(at + 10, swap64(rig.sequence))
    store16(at + 18, swap16(1))
    rig.sequence += 1
    message = record_at(at + 22, add_order_dtype)
    message.type = kind
    message.ref = swap64(ref)
    size = 19
    if kind == ADD:
        message.side = 66
        message.shares = swap32(QTY)
        message.stock = rig.symbol
        message.price = swap32(px)
        size = 36
    elif kind == EXECUTE:
        executed = record_at(at + 22, order_executed_dtype)
        executed.shares = swap32(QTY // 2)
        executed.match = swap64(rig.sequence)
        size = 31
    elif kind == REPLACE:
        replaced = record_at(at + 22, order_replace_dtype)
        replaced.new_ref = swap64(ref + 1)
        replaced.shares = swap32(QTY)
        replaced.price = swap32(px)
        size = 35
    store16(at + 20, swap16(size))
    return 20 + 2 + size


@leaf
def answer(link, rig, sent):
    """Play the venue: accept and fill the Enter Order that lies at `sent`, into the gateway's receive buffer."""
    if link.rx_head == link.rx_tail:
        link.rx_head = 0
        link.rx_tail = 0
    at = link.rx_base + link.rx_tail
    rig.match += 1
    store16(at, swap16(1 + 64))
    store8(at + 2, 83)
    accepted = record_at(at + 3, out_order_accepted_dtype)
    accepted.type = ACCEPTED
    accepted.ts = swap64(rig.match)
    accepted.user_ref_num = load32(sent + 4)
    copy_bytes(at + 3 + 13, sent + 8, 21)         # side, shares, symbol, price: as entered
    copy_bytes(at + 3 + TEXT_AT, sent + 34, 14)
    accepted.ref = swap64(rig.match + 1_000_000)
    accepted.order_state = LIVE
    accepted.appendage_length = 0
    at += 67
    store16(at, swap16(1 + 36))
    store8(at + 2, 83)
    executed = record_at(at + 3, out_order_executed_dtype)
    executed.type = EXECUTED
    executed.ts = swap64(rig.match)
    executed.user_ref_num = load32(sent + 4)
    executed.qty = load32(sent + 9)
    executed.price = load64(sent + 21)
    executed.liquidity_flag = REMOVED
    executed.match = swap64(rig.match)
    executed.appendage_length = 0
    link.rx_tail += 67 + 39


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Return two ends of a connection over the loopback, neither of which waits."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        here = socket.create_connection(listener.getsockname())
        there, _ = listener.accept()
    for end in (here, there):
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        end.setblocking(False)
    return here, there


def free_port() -> int:
    """Return a UDP port that nobody has."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.bind(("127.0.0.1", 0))
        return made.getsockname()[1]


def map_memory(memory) -> None:
    """Have every segment's pages mapped in this process. Raises BenchError."""
    for name in memory.names():
        if why := placing.map_all(memory[name]):
            raise BenchError(f"{name}: its pages cannot be had: {os.strerror(why)}")


class Rig:
    """The daemon's stages over private memory, in this process, with their venue played by `answer`."""

    def __init__(self, directory: str, strategy: str = "trigger.py", symbols: tuple[str, ...] = ("BENA",), orders_max: int = 4096):
        self.config = configuration.build({
            "daemon": {"name": "bench", "run_dir": directory, "state_dir": directory},
            "universe": {"symbols": list(symbols), "max": len(symbols)},
            "feed": {"line_a": f"127.0.0.1:{free_port()}", "line_b": "", "interface": "127.0.0.1", "request": [],
                     "orders_max": orders_max, "levels_max": max(orders_max // 4, 4096)},
            "strategy": [{"file": str(Path(__file__).with_name(strategy)), "orders_max": 1 << 14}],
            "risk": {"position_max": 1 << 39, "gross_notional_max": 1e13, "loss_max": 1e13, "message_rate_max": 10_000_000,
                     "feed_stale_ms": 3_600_000, "order_notional_max": 1e9, "open_orders_max": 1 << 16},
            "gateway": {"risk_dead_ms": 60_000},
        })  # fmt: skip
        made_before = len(blocks)
        self.memory = private_memory(self.config)
        control = self.memory["control"]
        clocks.calibrate(control["clock"][0], 0.005)
        run = control["run"][0]
        self.gateway = GatewayAgent(self.config, self.memory)
        self.risk = RiskAgent(self.config, self.memory)
        self.strategy = StrategyAgent(self.config, self.memory, 0)
        self.feed = FeedAgent(self.config, self.memory)
        for agent in (self.gateway, self.risk, self.strategy, self.feed):
            agent.prepare(True)
        run["state"], run["session_up"] = int(RunState.READY), 1
        self.here, self.there = tcp_pair()
        self.wake()
        self.buffer = block(1 << 16)
        self.made = records(rig_dtype, 1)
        self.rig = self.made[0]
        rig = self.rig
        rig["packet_at"], rig["scratch_at"] = address(self.buffer), address(self.buffer) + 4096
        rig["symbol"] = int.from_bytes(b"BENA    ", "little")
        rig["peer"], rig["ref"], rig["sequence"] = self.there.fileno(), 1_000_000, 1
        marks = control.parts["marks"].dtype.itemsize
        rig["risk_mark_at"] = control.address("marks") + int(self.risk.role) * marks
        self.begin(list(symbols))
        self.private = [(one.address, one.bytes) for one in blocks[made_before:]]
        self.map_all()
        self.parts = (self.feed.handle, self.strategy.handle, self.risk.handle, self.gateway.handle, self.rig)

    def begin(self, symbols: list[str]) -> None:
        """Open the market: announced, trading; one symbol: a book of five levels a side; then a template for single messages."""
        maker = _Maker(1, len(symbols))
        preamble(maker, symbols)
        for depth in range(5 if len(symbols) == 1 else 0):
            for side, px in ((0, PX - depth * 100), (1, PX + 1000 + depth * 100)):
                new = maker.put(0, side, px, 500)
                maker.say("A", 1, struct.pack(">QcI8sI", new, b"BS"[side : side + 1], 500, b"BENA    ", px))
        session = b"BENCH00001"
        words = struct.pack("<qh", *session_to_ints("BENCH00001"))[:10]
        assert len(words) == 10 and len(session) == 10
        packet = session + struct.pack(">QH", 1, len(maker.out)) + b"".join(maker.out)
        self.buffer[: len(packet)] = packet
        self.handle(len(packet))
        self.risk.arm()
        self.rig["sequence"] = 1 + len(maker.out)
        maker.out.clear()
        maker.say("A", 1, struct.pack(">QcI8sI", 1, b"B", QTY, b"BENA    ", PX))
        self.buffer[22 : 22 + 36] = maker.out[0][2:]

    def map_all(self) -> None:
        """Have all memory mapped in this process, as a role has it when it is ready. To be called again behind a fork, on both
        sides: the child has none of what is shared, and what is private is copied page by page as either writes to it.
        """
        map_memory(self.memory)
        for at, size in self.private:
            prefault((ctypes.c_uint8 * size).from_address(at))

    def handle(self, size: int) -> None:
        """Hand the datagram in the buffer to the feed."""
        self.feed.handle["ts_recv"] = clocks.now_ticks()
        handle_packet(self.feed.handle, address(self.buffer), size, 0)
        counted = self.feed.build.counters
        if int(counted["malformed"]) or int(counted["gaps"]):
            raise BenchError("tick_to_trade: the feed did not take the packet")

    def wake(self) -> None:
        """Connect (again): compiling takes longer than a connection may be silent."""
        plug(self.gateway.handle["link"], self.here.fileno(), clocks.now_ticks())
        self.gateway.session["state"] = LINK_UP

    def why(self) -> str:
        """What the stages say of an order that did not arrive."""
        risk, gateway = self.risk.segment["counters"], self.gateway.counters
        words = np.asarray(risk).view(np.int64)
        denied = [f"{int(words[DENIED_AT + reason])} x {reason.name}" for reason in DenyReason if words[DENIED_AT + reason]]
        return (
            f"risk passed {int(risk['orders'][0])} and denied {', '.join(denied) or 'none'}; "
            f"gateway took {int(gateway['orders_taken'])} and sent {int(gateway['enters_sent'])}"
        )

    def check(self, n: int) -> None:
        """All three must hold n fills of QTY, bought at the best ask, and nothing open."""
        wanted = {"bought_qty": n * QTY, "bought_cash": n * QTY * (PX + 1000), "fills": n, "open_buy_qty": 0, "open_orders": 0}
        for name, segment in (("strategy", self.strategy.segment), ("risk", self.risk.segment), ("gateway", self.gateway.segment)):
            held = np.asarray(segment["positions"])[0]
            seen = {field: int(held[field]) for field in wanted}
            if seen != wanted:
                raise BenchError(f"tick_to_trade: {name} holds {seen}, should hold {wanted}")

    def close(self) -> None:
        """Give everything back."""
        for agent in (self.feed, self.strategy, self.risk, self.gateway):
            with contextlib.suppress(OSError):
                agent.close()
        self.here.close()
        self.there.close()
