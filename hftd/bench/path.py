"""Benchmarks of the order path: the daemon's own stages, in one process, each operation stamped by itself.

    packet bytes ──▶ feed ──ring.md──▶ strategy ──ring.intent──▶ risk ──ring.order──▶ gateway ──▶ bytes handed to send()
               t0          t1                   t2                   t3              t4: tick to trade           t5

    packet         t1 - t0    a MoldUDP64 packet with one Add Order: checked, decoded, booked, published
    strategy       t2 - t1    book rebuilt from the events, signal, intent published
    risk           t3 - t2    every check, order published
    order          t4 - t3    checksum, table, OUCH encoded, up to the call of send()
    submission     t5 - t3    with send() on a TCP socket, which is the kernel's (limit: send() of the same bytes
                             alone; the budget is for what comes on top)
    tick_to_trade  t4 - t0
    position       per report: risk applies an acceptance and a fill of the venue's to order, position and exposure

Memory, rings, agents and functions are the daemon's; the venue is a few lines of compiled code that accept and fill what was sent.
Before anything is timed, a thousand orders go the whole way, and feed, strategy, risk and gateway must agree on every share.
"""

import contextlib
import socket
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hftd.bench.flow import _Maker, preamble
from hftd.bench.registry import BenchError, Lab, Samples, benchmark, measure
from hftd.control import config as configuration
from hftd.core import clock as clocks
from hftd.core.atomics import store_release_at, tsc
from hftd.core.budgets import COMPONENTS
from hftd.core.jit import hot, leaf
from hftd.core.layout import layout, offset_of
from hftd.core.libc import MSG_DONTWAIT, MSG_NOSIGNAL, recv, send
from hftd.core.memory import (
    address,
    block,
    copy_bytes,
    load32,
    load64,
    record_at,
    records,
    row,
    span,
    store8,
    store16,
    store64,
    swap16,
    swap32,
    swap64,
)
from hftd.feed.setup import FeedAgent
from hftd.gateway.incoming import receive_messages
from hftd.gateway.memory import LINK_UP, order_row_dtype
from hftd.gateway.outgoing import send_orders
from hftd.gateway.setup import GatewayAgent
from hftd.msg.enums import DenyReason, IntentKind, RunState, Tif
from hftd.msg.records import intent_dtype
from hftd.risk import checks
from hftd.risk.bench import check_many
from hftd.risk.loop import risk_turn
from hftd.risk.memory import DENIED_AT
from hftd.risk.setup import RiskAgent
from hftd.strategy.harness import Tape, private_memory
from hftd.strategy.setup import StrategyAgent
from hftd.strategy.synthetic import market_events
from hftd.venues.nasdaq.itch50 import add_order_dtype
from hftd.venues.nasdaq.moldfeed import handle_packet
from hftd.venues.nasdaq.moldudp64 import session_to_ints
from hftd.venues.nasdaq.ouch50 import out_order_accepted_dtype, out_order_executed_dtype
from hftd.venues.nasdaq.ouch_encode import IMAGE, encode_order, make_image

PX, QTY = 100_0000, 100
CHECKS = 2048
STAGES = ("packet", "strategy", "risk", "order", "submission", "tick_to_trade", "answer", "position")
WORDS = len(STAGES)
TEXT_AT = offset_of(out_order_accepted_dtype, "cl_ord_id")
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
    ("pad", ("i8", (8,))),
])  # fmt: skip

turn = None


@leaf
def write_packet(rig, kind, ref, px):
    """Write a MoldUDP64 packet with one message: an Add Order (buy) at `px`, or the Delete of `ref`. Returns its bytes."""
    at = rig.packet_at
    store64(at + 10, swap64(rig.sequence))
    store16(at + 18, swap16(1))
    rig.sequence += 1
    message = record_at(at + 22, add_order_dtype)
    message.type = kind
    message.ref = swap64(ref)
    if kind == 65:
        message.price = swap32(px)
        store16(at + 20, swap16(36))
        return 20 + 2 + 36
    store16(at + 20, swap16(19))
    return 20 + 2 + 19


@leaf
def answer(link, rig):
    """Play the venue: accept and fill the Enter Order that was sent last, into the gateway's receive buffer."""
    sent = link.tx_base
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


def ticks_to_trades(feed, strategy, risk, gateway, rig, samples, n):
    """Let `n` better bids come, one at a time; samples: address of n rows of WORDS int64. Returns the orders that arrived."""
    arrived = 0
    for i in range(n):
        at = samples + 8 * WORDS * i
        size = write_packet(rig, 65, rig.ref, PX + 100)
        sent_before = gateway.table.open_count
        store_release_at(rig.risk_mark_at, tsc())
        t0 = tsc()
        feed.ts_recv = t0
        handle_packet(feed, rig.packet_at, size, 0)
        t1 = tsc()
        turn(strategy, t1)
        t2 = tsc()
        risk_turn(risk, t2)
        t3 = tsc()
        send_orders(gateway, t3)
        t5 = tsc()
        if gateway.table.open_count != sent_before + 1:
            rig.wrong += 1
            return arrived
        t4 = row(span(gateway.table.rows), load64(gateway.batch_at + 8), order_row_dtype).ts_sent
        answer(gateway.link, rig)
        recv(rig.peer, rig.scratch_at, 4096, MSG_DONTWAIT)
        t6 = tsc()
        receive_messages(gateway, t6)
        t7 = tsc()
        risk_turn(risk, t7)
        t8 = tsc()
        turn(strategy, t8)
        store64(at, t1 - t0)
        store64(at + 8, t2 - t1)
        store64(at + 16, t3 - t2)
        store64(at + 24, t4 - t3)
        store64(at + 32, t5 - t3)
        store64(at + 40, t4 - t0)
        store64(at + 48, t7 - t6)
        store64(at + 56, t8 - t7)
        size = write_packet(rig, 68, rig.ref, 0)
        feed.ts_recv = tsc()
        handle_packet(feed, rig.packet_at, size, 0)
        turn(strategy, tsc())
        risk_turn(risk, tsc())
        rig.ref += 1
        arrived += 1
    return arrived


@hot
def _bare_sends(fd, peer, at, size, scratch, samples, n):
    for i in range(n):
        begun = tsc()
        send(fd, at, size, MSG_DONTWAIT | MSG_NOSIGNAL)
        store64(samples + 8 * i, tsc() - begun)
        recv(peer, scratch, 4096, MSG_DONTWAIT)


def _pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        here = socket.create_connection(listener.getsockname())
        there, _ = listener.accept()
    for end in (here, there):
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        end.setblocking(False)
    return here, there


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.bind(("127.0.0.1", 0))
        return made.getsockname()[1]


class Rig:
    """The daemon's stages over private memory, in this process, with their venue played by `answer`."""

    def __init__(self, lab: Lab, directory: str):
        self.config = configuration.build({
            "daemon": {"name": "bench", "run_dir": directory, "state_dir": directory},
            "universe": {"symbols": ["BENA"], "max": 1},
            "feed": {"line_a": f"127.0.0.1:{_free_port()}", "line_b": "", "interface": "127.0.0.1", "request": [],
                     "orders_max": 4096, "levels_max": 4096},
            "strategy": [{"file": str(Path(__file__).with_name("trigger.py"))}],
            "risk": {"position_max": 1 << 39, "gross_notional_max": 1e13, "loss_max": 1e13, "message_rate_max": 10_000_000,
                     "feed_stale_ms": 3_600_000, "order_notional_max": 1e9},
            "gateway": {"risk_dead_ms": 60_000},
        })  # fmt: skip
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
        self.here, self.there = _pair()
        self.gateway.handle["link"]["fd"] = self.here.fileno()
        self.gateway.session["state"] = LINK_UP
        self.buffer = block(1 << 16)
        self.made = records(rig_dtype, 1)
        self.rig = self.made[0]
        rig = self.rig
        rig["packet_at"], rig["scratch_at"] = address(self.buffer), address(self.buffer) + 4096
        rig["peer"], rig["ref"], rig["sequence"] = self.there.fileno(), 1_000_000, 1
        marks = control.parts["marks"].dtype.itemsize
        rig["risk_mark_at"] = control.address("marks") + int(self.risk.role) * marks
        self.begin()
        self.kernel = self.strategy.program.bind(ticks_to_trades, "ticks_to_trades")

    def begin(self) -> None:
        """Open the market: announced, trading, a book of five levels a side, in one packet; then a template for single messages."""
        maker = _Maker(1, 1)
        preamble(maker, ["BENA"])
        for depth in range(5):
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

    def handle(self, size: int) -> None:
        """Hand the datagram in the buffer to the feed."""
        self.feed.handle["ts_recv"] = clocks.now_ticks()
        handle_packet(self.feed.handle, address(self.buffer), size, 0)
        counted = self.feed.build.counters
        if int(counted["malformed"]) or int(counted["gaps"]):
            raise BenchError("tick_to_trade: the feed did not take the packet")

    def run(self, n: int) -> np.ndarray:
        """Let `n` orders go the whole way. Returns n rows of WORDS ticks. Raises BenchError where one did not arrive."""
        samples = np.zeros((n, WORDS), np.int64)
        parts = (self.feed.handle, self.strategy.handle, self.risk.handle, self.gateway.handle, self.rig)
        arrived = int(self.kernel(*parts, samples.ctypes.data, n))
        if arrived != n:
            raise BenchError(f"tick_to_trade: order {arrived + 1} of {n} did not reach the venue; {self.why()}")
        return samples

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

    def checks(self, n: int) -> np.ndarray:
        """Ticks of n times CHECKS judgements of one good order, which nothing is written for."""
        intent, made = records(intent_dtype, 1), []
        intent["px"], intent["qty"], intent["kind"], intent["tif"] = PX + 1000, QTY, int(IntentKind.NEW), int(Tif.IOC)
        intent["ts_recv"] = clocks.now_ticks()
        for _ in range(n + 1):
            begun = clocks.now_ticks()
            denied = int(check_many(self.risk.handle, intent[0], begun, CHECKS))
            made.append(clocks.now_ticks() - begun)
            if denied:
                raise BenchError(f"risk_check: {denied} of {CHECKS} good orders were denied")
        return np.array(made[1:])

    def send_limit(self, lab: Lab) -> float:
        """Median nanoseconds of send() of an Enter Order alone, on such a socket."""
        n = lab.count(20_000, 500)
        samples, (here, there) = np.zeros(n, np.int64), _pair()
        with here, there:
            scratch = address(self.buffer)
            _bare_sends(here.fileno(), there.fileno(), scratch + 8192, 50, scratch + 4096, samples.ctypes.data, n)
        return float(np.median(samples)) * lab.ns_per_tick

    def close(self) -> None:
        """Give everything back."""
        for agent in (self.feed, self.strategy, self.risk, self.gateway):
            with contextlib.suppress(OSError):
                agent.close()
        self.here.close()
        self.there.close()


def _measured(lab: Lab) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="hftd-bench-") as directory:
        rig = Rig(lab, directory)
        try:
            warm, n = lab.count(2_000, 300), lab.count(30_000, 1_000)
            rig.run(warm)
            rig.check(warm)
            samples = rig.run(n)
            rig.check(warm + n)
            return {"samples": samples, "send": rig.send_limit(lab), "checks": rig.checks(lab.count(400, 20))}
        finally:
            rig.close()


def _stage(name: str) -> Callable[[Lab], Samples]:
    def run(lab: Lab) -> Samples:
        found = lab.once("path", lambda: _measured(lab))
        limit = found["send"] if name == "submission" else None
        per = 2 if name == "position" else 1
        return Samples(found["samples"][:, STAGES.index(name)], per, limit=limit, beyond=name == "submission")

    return run


for _name, _about in (
    ("packet", "packet with one message: bytes to published event, the syscall left out"),
    ("strategy", "event to intent: own book rebuilt, signal, order submitted"),
    ("risk", "intent to order: every check"),
    ("order", "order to bytes: checksum, order table, OUCH, up to send()"),
    ("submission", "the same with send() on TCP (limit: send() alone; the budget is for the rest)"),
    ("tick_to_trade", "packet bytes to bytes handed to send(), all stages in one process"),
    ("answer", "gateway: acceptance and fill decoded, booked and reported, recv() included"),
    ("position", "risk: a report applied to order, position and exposure"),
):
    benchmark(_name, COMPONENTS.get(_name), about=_about)(_stage(_name))


# ---------------------------------------------------------------- single functions

@benchmark("risk_check", COMPONENTS["risk"], about="the whole check of one order by itself, without rings")
def risk_check(lab: Lab):
    """All of `judge`, on the rig's own account and book."""
    return Samples(lab.once("path", lambda: _measured(lab))["checks"], CHECKS)


limits_dtype = layout("bench_limits", 64, [
    ("qty_max", "i8"), ("notional_max", "i8"), ("position_max", "i8"), ("rate_max", "i8"), ("gross_max", "i8"), ("bps", "i8"),
    ("denied", "i8"), ("passed", "i8"),
])  # fmt: skip


@leaf
def _limits(state, k):
    px, qty = PX + (k & 63) * 100, 1 + (k & 127)
    reason = checks.check_qty(qty, state.qty_max)
    if reason == 0:
        reason = checks.check_notional(px, qty, state.notional_max)
    if reason == 0:
        reason = checks.check_collar(px, PX, PX + 100, PX, state.bps)
    if reason == 0:
        reason = checks.check_position(k & 1023, qty, qty, k & 1, state.position_max)
    if reason == 0:
        reason = checks.check_rate(k & 255, state.rate_max)
    if reason == 0:
        reason = checks.check_gross(px * qty, px, px * qty, state.gross_max)
    if reason == 0:
        state.passed += 1
    else:
        state.denied += 1


@benchmark("limits", COMPONENTS["limits"], about="six limits: size, notional, collar, position, rate, gross")
def limits(lab: Lab):
    """Orders of which one in 128 is too large."""
    state = records(limits_dtype, 1)[0]
    state["qty_max"], state["notional_max"], state["position_max"], state["rate_max"] = 127, 1 << 40, 1 << 30, 1000
    state["gross_max"], state["bps"] = 1 << 50, 500
    n = lab.count(20_000, 512)
    n -= n % 20
    ticks = measure("limits", _limits, state, n, 128)
    total = n + max(n // 10, 1)
    if (int(state["denied"]), int(state["passed"])) != (total, total * 127):
        raise BenchError(f"limits: {int(state['denied'])} of {total * 128} were denied, should be {total}")
    return Samples(ticks, 128)


encode_dtype = layout("bench_encode", 64, [("image", "i8"), ("out", "i8"), ("bytes", "i8"), ("pad", ("i8", (5,)))])


@leaf
def _encode(state, k):
    state.bytes += encode_order(state.out, state.image, 50, k, 100 + (k & 63), PX + (k & 255) * 100, 1, 0, (k << 4) | 5)


@hot
def _image(at, symbol):
    make_image(at, symbol, 66, 80, 0)


@benchmark("encode", COMPONENTS["encode"], about="encode an OUCH 5.0 Enter Order in its SoupBinTCP packet")
def encode(lab: Lab):
    """The last one is looked at: its bytes are the protocol's."""
    memory, state = block(4096), records(encode_dtype, 1)[0]
    state["image"], state["out"] = address(memory), address(memory) + 128
    _image(address(memory), int.from_bytes(b"BENA    ", "little"))
    n = lab.count(20_000, 500)
    ticks = measure("encode", _encode, state, n, 64)
    last = n * 64 - 1
    head = b"U" + b"O" + struct.pack(">IcI8sQ", last, b"B", 100 + (last & 63), b"BENA    ", PX + (last & 255) * 100) + b"3"
    if bytes(memory[130 : 130 + len(head)]) != head or IMAGE > 64:
        raise BenchError(f"encode: wrote {bytes(memory[128:178])!r}, should begin with {head!r}")
    return Samples(ticks, 64)


EVENTS = 4096


@benchmark("strategies", about="the strategies that ship, per market event, paper venue included")
def strategies(lab: Lab):
    """Each file of strategies/ over events of a seed; it must send orders, and the same ones every time."""
    folder = Path(__file__).resolve().parents[2] / "strategies"
    events = market_events(lab.count(200_000, 5 * EVENTS), lab.seed)
    made = []
    for file in sorted(folder.glob("*.py")):
        sums = []
        for _ in range(2):
            tape = Tape(file, 1)
            ticks = []
            for at in range(0, len(events) - EVENTS + 1, EVENTS):
                part = events[at : at + EVENTS]
                begun = clocks.now_ticks()
                tape.play(part, keep=1)
                ticks.append(clocks.now_ticks() - begun)
            sums.append((int(tape.tape["orders"]), int(tape.tape["fills"]), tape.position(0)["bought_cash"]))
        if sums[0] != sums[1] or sums[0][0] == 0:
            raise BenchError(f"strategies: {file.stem} sent {sums[0]} and then {sums[1]} (orders, fills, cash bought)")
        made.append(Samples(np.array(ticks[1:]), EVENTS, name=f"strategies: {file.stem}",
                            note=f"{sums[0][0]} orders"))  # fmt: skip
    return made
