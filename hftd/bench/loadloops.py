"""The loops of `hftd bench load`: packets at a rate into the feed, and what stands behind it. Hot.

Packets lie in memory: a UDP loopback takes 0.9 us for a datagram, and would be the limit of everything measured here (`submission`
and `hftd bench packet` have the system calls). A packet's time is the moment it was meant to arrive, whether or not the feed was
ready for it: what waits, waits in the figures.
"""

from typing import Any

from hftd.bench.rig import answer
from hftd.core.atomics import load_acquire_at, store_relaxed, store_release, tsc
from hftd.core.jit import hot, leaf
from hftd.core.layout import layout
from hftd.core.libc import MSG_DONTWAIT, recv
from hftd.core.memory import load64, record_at, store64, swap64
from hftd.gateway.loop import gateway_turn
from hftd.gateway.memory import gateway_counters_dtype
from hftd.msg.records import market_event_dtype, order_dtype
from hftd.risk.loop import risk_turn
from hftd.shm.histogram import histogram_dtype, record_value
from hftd.venues.nasdaq.moldfeed import handle_packet

load_dtype = layout("bench_load", 256, [
    ("table", "i8"),                              # rows of three int64: address of a packet, its bytes, its messages
    ("packets", "i8"),                            # rows; they are a closed cycle: at its end the books are as at its beginning
    ("sequence", "i8"),                           # of the feed's next message
    ("at", "i8"),                                 # row of the next packet
    ("messages", "i8"),                           # to be sent in this run
    ("spacing", "i8"),                            # ticks per 1024 messages; 0: as fast as it goes
    ("sent", "i8"),                               # messages that went in
    ("elapsed", "i8"),                            # ticks
    ("busy", "i8"),                               # ticks of these in handle_packet
    ("histogram", "i8"),                          # address: ticks from the intended arrival to the end of handle_packet
    ("md_tail", "i8"),                            # market events published so far
    ("pad0", ("i8", (5,))),
    ("ready", "i8"),                              # the other core is there; it stores it
    ("ended", "i8"),                              # all went in, and the other core may stop when it is through
    ("taken_histogram", "i8"),                    # address: from an event's or order's intended arrival to the end of core B's turn
    ("arrived", "i8"),                            # the other core: orders that the venue answered
    ("other_busy", "i8"),                         # ticks in turns that found work
    ("other_elapsed", "i8"),
    ("code", "i8"),                               # what stopped the other core: 0, or a turn's negative Reason
    ("pad1", ("i8", (9,))),
])  # fmt: skip

IDLE = 20_000
"""Turns in a row without work, after the last packet, before the other core is through."""

BYTES = 50
"""An Enter Order in its SoupBinTCP packet."""

turn: Any = None


@leaf
def arrival(md, number):
    """When the packet behind record `number`, which was taken a moment ago, was to arrive: its slot is not used for a lap."""
    return record_at(md.slots.base + (number & md.mask) * 64, market_event_dtype).ts_recv


@hot
def feed_at_rate(feed, load):
    """Core A: hand packets to the feed, each when it is due, until `messages` went in."""
    begun = tsc()
    sent, busy, k = 0, 0, load.at
    at = load.histogram
    while sent < load.messages:
        row = load.table + 24 * k
        packet, size, count = load64(row), load64(row + 8), load64(row + 16)
        due = begun + ((sent * load.spacing) >> 10)
        now = tsc()
        while now < due:
            now = tsc()
        if load.spacing == 0:
            due = now
        store64(packet + 10, swap64(load.sequence))
        load.sequence += count
        feed.ts_recv = due
        handle_packet(feed, packet, size, 0)
        end = tsc()
        busy += end - now
        record_value(record_at(at, histogram_dtype), at, end - due)
        sent += count
        k = k + 1 if k + 1 < load.packets else 0
    load.at = k
    load.sent = sent
    load.busy = busy
    load.elapsed = tsc() - begun
    load.md_tail = feed.md.tail
    store_release(load, "ended", 1)
    return sent


def follow(strategy, load, load_at):
    """Core B: take market events as a strategy does; each counts from its intended arrival to the end of the turn that took it.

    Each, and not each turn: what waits behind a stall is taken many at a time, and would be few among the many that did not wait.
    """
    store_release(load, "ready", 1)
    at, md = load.taken_histogram, strategy.md
    idle, busy, begun = 0, 0, tsc()
    while idle < IDLE:
        now = tsc()
        first = md.next
        done = turn(strategy, now)
        if done < 0:
            load.code = done
            break
        if md.next != first:
            end = tsc()
            busy += end - now
            for number in range(first, md.next):
                record_value(record_at(at, histogram_dtype), at, end - arrival(md, number))
            idle = 0
        elif load_acquire_at(load_at + ENDED_AT) != 0:
            idle += 1
    load.other_busy = busy
    load.other_elapsed = tsc() - begun
    return 0


def trade(strategy, strategy_mark, risk, risk_mark, gateway, gateway_mark, rig, load, load_at):
    """Core B: strategy, risk and gateway as the fused loop turns them; the venue accepts and fills what was sent."""
    store_release(load, "ready", 1)
    at = load.taken_histogram
    counters = record_at(gateway.counters_at, gateway_counters_dtype)
    idle, busy, begun, arrived = 0, 0, tsc(), 0
    while idle < IDLE:
        now = tsc()
        store_relaxed(strategy_mark, "heartbeat", now)
        store_relaxed(risk_mark, "heartbeat", now)
        store_release(gateway_mark, "heartbeat", now)
        before = counters.enters_sent
        a = turn(strategy, now)
        b = risk_turn(risk, now)
        c = gateway_turn(gateway, now)
        if a < 0 or b < 0 or c < 0:
            load.code = min(a, min(b, c))
            break
        sent = counters.enters_sent - before
        if sent > 0:
            end = tsc()
            for i in range(sent):
                order = record_at(load64(gateway.batch_at + 16 * i), order_dtype)
                record_value(record_at(at, histogram_dtype), at, end - order.ts_recv)
                answer(gateway.link, rig, gateway.link.tx_base + BYTES * i)
            gateway.link.received_at = now        # the venue is alive: its answers do not come through the socket
            recv(rig.peer, rig.scratch_at, 4096, MSG_DONTWAIT)
            arrived += sent
        if a + b + c > 0:
            busy += tsc() - now
            idle = 0
        elif load_acquire_at(load_at + ENDED_AT) != 0:
            idle += 1
    load.arrived = arrived
    load.other_busy = busy
    load.other_elapsed = tsc() - begun
    return 0


ENDED_AT = load_dtype.fields["ended"][1]

__all__ = ["feed_at_rate", "follow", "load_dtype", "trade"]
