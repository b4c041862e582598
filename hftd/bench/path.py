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

import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hftd.bench.registry import BenchError, Lab, Samples, benchmark, measure, room_for
from hftd.bench.rig import ADD, DELETE, PX, QTY, Rig, answer, tcp_pair, write_packet
from hftd.core import clock as clocks
from hftd.core.atomics import store_release_at, tsc
from hftd.core.budgets import COMPONENTS
from hftd.core.jit import hot, leaf
from hftd.core.layout import layout
from hftd.core.libc import MSG_DONTWAIT, MSG_NOSIGNAL, recv, send
from hftd.core.memory import (
    address,
    block,
    load64,
    records,
    row,
    span,
    store64,
)
from hftd.gateway.incoming import receive_messages
from hftd.gateway.memory import order_row_dtype
from hftd.gateway.outgoing import send_orders
from hftd.msg.enums import IntentKind, Tif
from hftd.msg.records import intent_dtype
from hftd.risk import checks
from hftd.risk.bench import check_many
from hftd.risk.loop import risk_turn
from hftd.strategy.harness import Tape
from hftd.strategy.synthetic import market_events
from hftd.venues.nasdaq.moldfeed import handle_packet
from hftd.venues.nasdaq.ouch_encode import IMAGE, encode_order, make_image

CHECKS = 2048
ROUNDS = 10
STAGES = ("packet", "strategy", "risk", "order", "submission", "tick_to_trade", "answer", "position")
WORDS = len(STAGES)

turn = None


def ticks_to_trades(feed, strategy, risk, gateway, rig, samples, n):
    """Let `n` better bids come, one at a time; samples: address of n rows of WORDS int64. Returns the orders that arrived."""
    arrived = 0
    for i in range(n):
        at = samples + 8 * WORDS * i
        size = write_packet(rig, ADD, rig.ref, PX + 100)
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
        answer(gateway.link, rig, gateway.link.tx_base)
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
        size = write_packet(rig, DELETE, rig.ref, 0)
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


def _run(kernel, rig: Rig, n: int) -> np.ndarray:
    """Let `n` orders go the whole way. Returns n rows of WORDS ticks. Raises BenchError where one did not arrive."""
    samples = room_for(n, WORDS)
    arrived = int(kernel(*rig.parts, samples.ctypes.data, n))
    if arrived != n:
        raise BenchError(f"tick_to_trade: order {arrived + 1} of {n} did not reach the venue; {rig.why()}")
    return samples


def _checks(rig: Rig, n: int) -> np.ndarray:
    """Ticks of n times CHECKS judgements of one good order, which nothing is written for."""
    intent, made = records(intent_dtype, 1), []
    intent["px"], intent["qty"], intent["kind"], intent["tif"] = PX + 1000, QTY, int(IntentKind.NEW), int(Tif.IOC)
    intent["ts_recv"] = clocks.now_ticks()
    for _ in range(n + 1):
        begun = clocks.now_ticks()
        denied = int(check_many(rig.risk.handle, intent[0], begun, CHECKS))
        made.append(clocks.now_ticks() - begun)
        if denied:
            raise BenchError(f"risk_check: {denied} of {CHECKS} good orders were denied")
    return np.array(made[1:])


def _sends(rig: Rig, n: int) -> np.ndarray:
    """Ticks of `n` times send() of an Enter Order alone, on such a socket."""
    samples, (here, there) = room_for(n), tcp_pair()
    with here, there:
        scratch = address(rig.buffer)
        _bare_sends(here.fileno(), there.fileno(), scratch + 8192, 50, scratch + 4096, samples.ctypes.data, n)
    return samples


def path_samples(lab: Lab) -> dict[str, Any]:
    """Return what the rig measured in this run: `samples` (rows of STAGES, ticks), `send` (ns), `checks` (ticks)."""
    return lab.once("path", lambda: _measured(lab))


def _measured(lab: Lab) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="hftd-bench-") as directory:
        rig = Rig(directory)
        try:
            warm, n = lab.count(2_000, 300), lab.count(3_000, 100)
            kernel = rig.strategy.program.bind(ticks_to_trades, "ticks_to_trades")
            _run(kernel, rig, warm)
            rig.check(warm)
            _sends(rig, warm)
            samples, sends = [], []
            for _ in range(ROUNDS):                   # in turn: what is judged is the difference
                samples.append(_run(kernel, rig, n))
                sends.append(_sends(rig, n))
            rig.check(warm + n * ROUNDS)
            return {"samples": np.concatenate(samples), "send": lab.median_ns(np.concatenate(sends)),
                    "checks": _checks(rig, lab.count(400, 20))}  # fmt: skip
        finally:
            rig.close()


def _stage(name: str) -> Callable[[Lab], Samples]:
    def run(lab: Lab) -> Samples:
        found = path_samples(lab)
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
    return Samples(path_samples(lab)["checks"], CHECKS)


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
