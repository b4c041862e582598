"""Benchmarks of the whole way: tick to order in one process, and tick to trade over two cores.

    tick_to_order   one process:  packet bytes ──▶ feed ──ring.md──▶ strategy ──▶ intent published                (t0 .. t1)
    two_cores       core A: packet bytes ──▶ feed ──ring.md──┐
                    core B:                                  └──▶ strategy ──▶ risk ──▶ gateway ──▶ send() called  (t0 .. ts_sent)
    dedicated       the sum for a core of its own for each role: the stages as measured in one process, and three hops

All of it is the rig's (`rig.py`): the daemon's own stages, rings and turns. In `two_cores` core B runs the three turns of the fused
loop one after the other, as `core/duty.py` does; t0 is taken on core A when the packet lies in memory, and the gateway's own stamp
before send() ends the way. Packets come when core B is spinning, at moments that it cannot know.
"""

import mmap
import tempfile
from typing import Any

import numpy as np

from hftd.bench.cores import PATIENCE, round_trips, two_cores
from hftd.bench.path import path_samples
from hftd.bench.registry import BenchError, Lab, Samples, benchmark, room_for
from hftd.bench.rig import ADD, DELETE, PX, Rig, answer, write_packet
from hftd.core.atomics import load_acquire_at, pause, store_relaxed, store_release, store_release_at, tsc
from hftd.core.budgets import COMPONENTS, STAGES
from hftd.core.jit import hot
from hftd.core.libc import MSG_DONTWAIT, recv
from hftd.core.memory import address, load64, record_at, row, span, store64
from hftd.gateway.incoming import receive_messages
from hftd.gateway.loop import gateway_turn
from hftd.gateway.memory import order_row_dtype
from hftd.gateway.outgoing import send_orders
from hftd.msg.records import order_dtype
from hftd.risk.loop import risk_turn
from hftd.venues.nasdaq.moldfeed import handle_packet

BURST = 16
"""Ticks between two visits of the rest of the path, whose system calls would empty the caches before each tick."""

turn: Any = None


def ticks_to_orders(feed, strategy, risk, gateway, rig, samples, n):
    """Let `n` bursts of better bids come; samples: address of n * BURST int64. Returns the orders that arrived at the venue."""
    arrived = 0
    for i in range(n):
        store_release_at(rig.risk_mark_at, tsc())
        before = gateway.table.open_count
        for k in range(BURST):
            size = write_packet(rig, ADD, rig.ref, PX + 100)
            t0 = tsc()
            feed.ts_recv = t0
            handle_packet(feed, rig.packet_at, size, 0)
            turn(strategy, t0)
            t1 = tsc()
            store64(samples + 8 * (i * BURST + k), t1 - t0)
            size = write_packet(rig, DELETE, rig.ref, 0)
            feed.ts_recv = tsc()
            handle_packet(feed, rig.packet_at, size, 0)
            turn(strategy, tsc())
            rig.ref += 1
        risk_turn(risk, tsc())
        sent = gateway.link.tx_base
        send_orders(gateway, tsc())
        if gateway.table.open_count != before + BURST:
            return arrived
        for k in range(BURST):
            answer(gateway.link, rig, sent + 50 * k)
        recv(rig.peer, rig.scratch_at, 4096, MSG_DONTWAIT)
        receive_messages(gateway, tsc())
        risk_turn(risk, tsc())
        turn(strategy, tsc())
        arrived += BURST
    return arrived


# ---------------------------------------------------------------- two cores


@hot
def feed_core(feed, rig, told, n):
    """Core A: each time `told` names the next packet, wait a little and hand it to the feed. True when all went out."""
    for i in range(2 * n):
        turns = 0
        while load_acquire_at(told) != i + 1:
            turns += 1
            if turns > PATIENCE // 20:
                return False
            pause()
        for _ in range(20 + (i * 7919 & 63)):
            pause()
        size = write_packet(rig, ADD if i & 1 == 0 else DELETE, rig.ref, PX + 100)
        feed.ts_recv = tsc()
        handle_packet(feed, rig.packet_at, size, 0)
        rig.ref += i & 1
    return True


def fused_core(strategy, strategy_mark, risk, risk_mark, gateway, gateway_mark, rig, told, samples, n):
    """Core B: spin as the fused loop does; each order's way is a row of samples (WAY int64). Returns the orders that arrived."""
    arrived, packets = 0, 0
    turn(strategy, tsc())                         # the market's opening is no tick
    for i in range(n):
        before, taken = gateway.table.open_count, strategy.md.next
        packets += 1
        store_release_at(told, packets)
        turns, quiet = 0, 0
        while quiet < 4:                          # the order, then the market's deletion, then a few turns for the reports
            now = tsc()
            store_relaxed(strategy_mark, "heartbeat", now)
            store_relaxed(risk_mark, "heartbeat", now)
            store_release(gateway_mark, "heartbeat", now)
            a = turn(strategy, now)
            b = risk_turn(risk, now)
            c = gateway_turn(gateway, now)
            if a < 0 or b < 0 or c < 0:
                return arrived
            turns += 1
            if turns > PATIENCE // 200:
                return arrived
            if packets == 2 * i + 1 and gateway.table.open_count == before + 1:
                order = record_at(load64(gateway.batch_at), order_dtype)
                sent = row(span(gateway.table.rows), load64(gateway.batch_at + 8), order_row_dtype).ts_sent
                store64(samples + 32 * i, order.t_feed * 1)
                store64(samples + 32 * i + 8, order.t_strategy * 1)
                store64(samples + 32 * i + 16, order.t_risk * 1)
                store64(samples + 32 * i + 24, sent - order.ts_recv)
                answer(gateway.link, rig, gateway.link.tx_base)
                gateway.link.received_at = now        # the venue is alive: its answers do not come through the socket
                recv(rig.peer, rig.scratch_at, 4096, MSG_DONTWAIT)
                packets += 1
                store_release_at(told, packets)
            if packets == 2 * i + 2 and strategy.md.next != taken + 1 and gateway.table.open_count == before:
                quiet += 1
        arrived += 1
    return arrived


def _two_cores(lab: Lab) -> np.ndarray:
    """Rows of t_feed, t_strategy, t_risk and the whole way, in ticks."""
    warm, n = lab.count(3_000, 300), lab.count(20_000, 600)
    with tempfile.TemporaryDirectory(prefix="hftd-bench-") as directory:
        rig = Rig(directory)
        try:
            word, samples = mmap.mmap(-1, 4096), room_for(warm + n, 4)
            told = address(word)
            kernel = rig.strategy.program.bind(fused_core, "fused_core")
            marks = (rig.strategy.handle, rig.strategy.mark, rig.risk.handle, rig.risk.mark, rig.gateway.handle, rig.gateway.mark)
            kernel(*marks, rig.rig, told, samples.ctypes.data, 0)
            feed_core(rig.feed.handle, rig.rig, told, 0)
            rig.wake()
            done: list[int] = []

            def feed() -> bool:
                rig.map_all()
                return bool(feed_core(rig.feed.handle, rig.rig, told, warm + n))

            def behind() -> None:
                rig.map_all()
                done.append(int(kernel(*marks, rig.rig, told, samples.ctypes.data, warm + n)))

            two_cores(feed, behind)
            if done != [warm + n]:
                raise BenchError(f"two_cores: order {done[0] + 1} of {warm + n} did not reach the venue; {rig.why()}")
            rig.check(warm + n)
            return samples[warm:]
        finally:
            rig.close()


@benchmark("tick_to_order", COMPONENTS["tick_to_order"], about="packet bytes to intent published, feed and strategy in one process")
def tick_to_order(lab: Lab):
    """Bursts of BURST ticks; every order then goes the whole way, and the books of all stages must agree."""
    warm, n = lab.count(300, 30), lab.count(5_000, 60)
    with tempfile.TemporaryDirectory(prefix="hftd-bench-") as directory:
        rig = Rig(directory)
        try:
            kernel = rig.strategy.program.bind(ticks_to_orders, "ticks_to_orders")
            samples = room_for((warm + n) * BURST)
            arrived = int(kernel(*rig.parts, samples.ctypes.data, warm + n))
            if arrived != (warm + n) * BURST:
                raise BenchError(f"tick_to_order: order {arrived + 1} did not reach the venue; {rig.why()}")
            rig.check(arrived)
        finally:
            rig.close()
    return Samples(samples[warm * BURST :])


@benchmark("two_cores", COMPONENTS["tick_to_trade"], about="tick to trade, feed on one core, strategy, risk and gateway fused")
def two_cores_tick_to_trade(lab: Lab):
    """Rows: the whole way, and where it went; the stamps are the order's own."""
    made = lab.once("two_cores", lambda: _two_cores(lab))
    note = f"p99 budget {STAGES['tick_to_trade'].p99:,.0f} ns"
    return [
        Samples(made[:, 3], name="two_cores", budget=COMPONENTS["tick_to_trade"], note=note),
        Samples(made[:, 0], name="two_cores: feed", note="packet to event published"),
        Samples(made[:, 1] - made[:, 0], name="two_cores: hop, strategy", note="event published to intent published"),
        Samples(made[:, 2] - made[:, 1], name="two_cores: risk", note="intent to order"),
        Samples(made[:, 3] - made[:, 2], name="two_cores: gateway", note="order to the call of send()"),
    ]


@benchmark("dedicated", about="tick to trade with a core for each role: the stages in one process and three hops, summed")
def dedicated(lab: Lab):
    """Each sample is one order's way through the stages and three hops drawn from the round trips of this run."""
    whole, trips = path_samples(lab)["samples"][:, 5], np.maximum(round_trips(lab) - lab.overhead, 0)
    drawn = np.random.default_rng(lab.seed).integers(0, len(trips), (3, len(whole)))
    hop = lab.median_ns(round_trips(lab)) / 2
    return Samples((whole + trips[drawn].sum(axis=0) / 2).astype(np.int64), note=f"hop p50 {hop:.0f} ns")
