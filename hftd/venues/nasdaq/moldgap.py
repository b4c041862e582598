"""Messages that are missing: packets beyond a gap wait, servers are asked, and a snapshot makes up for what nobody has.

    handle_packet ─ beyond the gap ─▶ enqueue ─▶ queue, sorted ─▶ drain ─▶ apply_packet       when its turn has come
                                                    ▲
         catch_up ─ request ─▶ servers ─ answers ───┤    every turn, one bounded step, while messages are missing
             └─── want_snapshot ─▶ glimpse.py ─▶ take_snapshot

What is missing may still come late, or by the other line: for the reorder window nothing is done, unless `reorder_packets` wait
already. Then the books are RECOVERING, events carry the SNAPSHOT flag, and servers are asked in turn: a window of requests of CHUNK
messages, each small enough to be answered by one packet; a time-out starts again at the first missing message with the next server;
answers are packets like any other. When nothing came after `tries_max` time-outs, the missing messages are given up: what waited is
applied, and the books are STALE. A feed that starts late finds its first packet beyond 1 and recovers the same way from message 1.

With a snapshot server nothing is passed over. What no server of retransmissions has, and at once what is more than `snapshot_from`
messages, is made up for by a snapshot of all books (GLIMPSE): cold code fetches it (`glimpse.py`) while packets wait as ever; then
the books are cleared (CLEAR), the snapshot's messages go through `apply_run` like any others, and the queue follows from the number
the snapshot names. Meanwhile `expected` is 0, so that every packet waits. What waits and is older than the snapshot is dropped, but
for market-wide breakers, of which a snapshot does not speak. A snapshot that fails leaves the books STALE; it is
asked for again after a pause, and servers of retransmissions are tried in between. When the gap closes first, the snapshot is
called off.

Replay can be faster than strategies read. While recovering the feed waits for room in the ring, for a time-out's length; only then
is the slowest detached.
"""

from hftd.core.apart import apart
from hftd.core.jit import hot, leaf
from hftd.core.libc import MSG_DONTWAIT, sendto
from hftd.core.memory import copy_bytes, load8, load16, record_at, row, span, swap16, swap64
from hftd.feed.book import clear_books
from hftd.feed.events import make_room, set_state, tell_void
from hftd.feed.memory import LINE_R, book_dtype, feed_counters_dtype
from hftd.feed.state import (
    BATCH,
    PACKET_ROOM,
    SINK_RING,
    SNAPSHOT_APPLYING,
    SNAPSHOT_CLEARING,
    SNAPSHOT_FAILED,
    SNAPSHOT_NONE,
    SNAPSHOT_READY,
    SNAPSHOT_WANTED,
    ticket_dtype,
    waiting_dtype,
)
from hftd.msg.enums import BookState, Reason
from hftd.msg.records import FLAG_SNAPSHOT, INSTRUMENT_ANNOUNCED, instrument_dtype
from hftd.shm.histogram import histogram_dtype, record_value
from hftd.shm.ring import publish, room
from hftd.venues.nasdaq.itch50 import MWCB_LEVELS, MWCB_STATUS
from hftd.venues.nasdaq.itchfeed import apply_run
from hftd.venues.nasdaq.moldapply import apply_packet, walk
from hftd.venues.nasdaq.moldudp64 import HEADER, packet_dtype

CHUNK = 24
"""Messages asked for at once: 24 of the longest fit one Ethernet frame."""

WINDOW = 16 * CHUNK
"""Messages asked for and not yet received, at most."""

REACH = 1 << 24
"""Messages that a snapshot may be ahead of all that is known; further, and it is not of this session's today."""

CLEARED, SPUN, RUNS = 64, 64, 8
"""Books cleared in a turn; messages of a snapshot applied at once, and how many times in a turn."""

ROOM_TO_RECOVER = 1024
"""Free slots of the ring that recovery waits for: more than any packet's events."""

WAITING_BYTES = waiting_dtype.itemsize
HISTOGRAM_BYTES = histogram_dtype.itemsize
RECOVERING, LIVE, STALE = int(BookState.RECOVERING), int(BookState.LIVE), int(BookState.STALE)
SNAPSHOT = int(Reason.SNAPSHOT)


# ---------------------------------------------------------------- packets that wait


@leaf
def gap_end(agent):
    """Return the first number after the first gap: of the first packet that waits, or of what is known to exist."""
    if agent.first < agent.beyond:
        order = span(agent.order)
        return row(order, agent.first & (order.count - 1), waiting_dtype).sequence
    return agent.highest


@hot
def enqueue(agent, at, length, sequence, end):
    """Keep a packet until its turn, sorted by sequence. False when it waits already.

    A full queue drops the packet that is furthest away, this or another; it is asked for again when the gap before it is filled.
    But while a snapshot is on its way, what it will contain goes first.
    """
    apart()
    counters = record_at(agent.counters_at, feed_counters_dtype)
    order, tickets = span(agent.order), span(agent.free_buffers)
    mask = order.count - 1
    place = agent.beyond
    while place > agent.first and row(order, (place - 1) & mask, waiting_dtype).sequence > sequence:
        place -= 1
    if place > agent.first and row(order, (place - 1) & mask, waiting_dtype).end >= end:
        return False
    if agent.free_count == 0:
        counters.queue_full += 1
        if agent.snapshot != SNAPSHOT_NONE and row(order, agent.first & mask, waiting_dtype).end <= agent.snapshot_floor:
            if place == agent.first:
                tell_breakers(agent, at, sequence, end)
                return True
            dropped = row(order, agent.first & mask, waiting_dtype)
            tell_breakers(agent, agent.queue_at + dropped.buffer * PACKET_ROOM, dropped.sequence, dropped.end)
            agent.first += 1
        elif place == agent.beyond:
            return True
        else:
            agent.beyond -= 1
            dropped = row(order, agent.beyond & mask, waiting_dtype)
        row(tickets, 0, ticket_dtype).buffer = dropped.buffer
        agent.free_count = 1
    else:
        counters.queued += 1
    move = agent.beyond
    while move > place:
        copy_bytes(row_at(order, move & mask), row_at(order, (move - 1) & mask), WAITING_BYTES)
        move -= 1
    agent.beyond += 1
    agent.free_count -= 1
    buffer = row(tickets, agent.free_count, ticket_dtype).buffer
    waiting = row(order, place & mask, waiting_dtype)
    waiting.sequence = sequence
    waiting.end = end
    waiting.buffer = buffer
    waiting.length = length
    waiting.ts_recv = agent.ts_recv
    copy_bytes(agent.queue_at + buffer * PACKET_ROOM, at, length)
    return True


@hot
def tell_breakers(agent, at, sequence, end):
    """Apply what a packet that a snapshot stands for says of market-wide breakers: no snapshot speaks of them.

    at: the packet; sequence: its first message's number; end: one after the last that is looked at.
    """
    apart()
    at += HEADER
    while sequence < end:
        length = swap16(load16(at))
        kind = load8(at + 2) if length > 0 else 0
        if kind == MWCB_STATUS or kind == MWCB_LEVELS:
            apply_run(agent, at, at + 2 + length, sequence)
            record_at(agent.counters_at, feed_counters_dtype).messages -= 1
            if agent.sink == SINK_RING:
                publish(agent.md)
        at += 2 + length
        sequence += 1


@leaf
def row_at(order, index):
    """Return the address of a row of the queue."""
    return order.base + index * WAITING_BYTES


@hot
def drain(agent, now):
    """Apply the waiting packets whose turn it is; return how many were taken off the queue."""
    apart()
    order, tickets = span(agent.order), span(agent.free_buffers)
    taken = 0
    while agent.first < agent.beyond and taken < BATCH:
        waiting = row(order, agent.first & (order.count - 1), waiting_dtype)
        if waiting.sequence > agent.expected:
            break
        if waiting.end > agent.expected and not has_room(agent, now):
            break
        agent.ts_recv = waiting.ts_recv
        at = agent.queue_at + waiting.buffer * PACKET_ROOM
        if agent.by_snapshot != 0:
            tell_breakers(agent, at, waiting.sequence, min(waiting.end, agent.snapshot_next, agent.expected))
        if waiting.end > agent.expected:
            count = waiting.end - waiting.sequence
            walk(agent, at + HEADER, at + waiting.length, waiting.sequence, count)
            apply_packet(agent, at, waiting.length, waiting.sequence, count)
        row(tickets, agent.free_count, ticket_dtype).buffer = waiting.buffer
        agent.free_count += 1
        agent.first += 1
        taken += 1
    return taken


# ---------------------------------------------------------------- recovery


@hot
def has_room(agent, now):
    """Tell whether the ring has room for recovered events; after a time-out's length of waiting the slowest is detached."""
    apart()
    if agent.sink != SINK_RING or agent.recovering == 0:
        return True
    wanted = min(ROOM_TO_RECOVER, (agent.md.mask + 1) >> 1)
    if agent.md.limit - agent.md.tail >= wanted or room(agent.md, wanted):
        agent.stalled_since = 0
        return True
    if agent.stalled_since == 0:
        agent.stalled_since = now
    if now - agent.stalled_since > agent.timeout:
        make_room(agent, wanted)
        agent.stalled_since = 0
        return True
    agent.progress = now
    return False


@hot
def set_all(agent, before, after):
    """Give every announced book that is in state `before` the state `after`, and say so."""
    apart()
    instruments, books = span(agent.instruments), span(agent.quotes)
    for index in range(agent.used):
        if row(instruments, index, instrument_dtype).flags & INSTRUMENT_ANNOUNCED != 0 and index < books.count:
            set_state_if(agent, index, before, after)


@hot
def set_state_if(agent, index, before, after):
    """Give one book the state `after` when it is in `before` (-1: whatever it is in)."""
    apart()
    book = row(span(agent.engine.books), index, book_dtype)
    if (before < 0 or book.state == before) and (after != LIVE or book.lacking == 0):
        set_state(agent, index, after, 1)


@hot
def request(agent, sequence, count):
    """Ask the server whose turn it is for `count` messages from `sequence`."""
    apart()
    packet = record_at(agent.request_at, packet_dtype)
    packet.session_a = agent.session_a
    packet.session_b = agent.session_b
    packet.sequence = swap64(sequence)
    packet.count = swap16(count)
    sendto(agent.lines[LINE_R].fd, agent.request_at, HEADER, MSG_DONTWAIT, agent.servers_at + 16 * agent.server, 16)
    record_at(agent.counters_at, feed_counters_dtype).requests += 1


@leaf
def catch_up(agent, now):
    """Do what a gap asks for, one bounded step; return how much was done. Called on every turn while messages are missing."""
    if agent.snapshot > SNAPSHOT_WANTED:
        return take_snapshot(agent, now)
    counters = record_at(agent.counters_at, feed_counters_dtype)
    work = drain(agent, now)
    if agent.expected > agent.reached:
        agent.reached = agent.expected
        agent.progress = now
        agent.tries = 0
    if agent.expected >= agent.highest:
        agent.behind = 0
        agent.snapshot = SNAPSHOT_NONE                # one on its way is called off: cold code looks
        if agent.recovering != 0:
            agent.recovering = 0
            agent.flags = 0
            counters.recovered += 1 - agent.by_snapshot
            agent.by_snapshot = 0
            if agent.state == RECOVERING or agent.snapshot_from > 0:  # with a snapshot server no message was ever passed over
                before = agent.state
                agent.state = LIVE
                set_all(agent, before, LIVE)
        else:
            counters.reordered += 1
        if agent.histograms_at != 0:
            at = agent.histograms_at + HISTOGRAM_BYTES
            record_value(record_at(at, histogram_dtype), at, now - agent.behind_since)
        if agent.sink == SINK_RING:
            publish(agent.md)
        return work + 1
    end = gap_end(agent)
    if end <= agent.expected or not has_room(agent, now):
        return work
    if agent.recovering == 0:
        if now - agent.behind_since < agent.reorder and agent.beyond - agent.first < agent.reorder_packets:
            return work
        agent.recovering = 1
        agent.flags = FLAG_SNAPSHOT
        agent.ts_recv = now
        if agent.state == LIVE:
            agent.state = RECOVERING
            set_all(agent, LIVE, RECOVERING)
        agent.asked = agent.expected
        agent.progress = now
        agent.tries = 0
        if agent.sink == SINK_RING:
            publish(agent.md)
    if agent.snapshot == SNAPSHOT_WANTED:
        return work
    if agent.snapshot_from > 0 and end - agent.expected > agent.snapshot_from and now >= agent.snapshot_after:
        want_snapshot(agent)
        return work + 1
    if now - agent.progress > agent.timeout:
        agent.progress = now
        agent.asked = agent.expected
        agent.tries += 1
        if agent.servers > 0:
            counters.request_timeouts += 1
            agent.server = (agent.server + 1) % max(agent.servers, 1)
        if agent.tries >= agent.tries_max or agent.servers == 0:
            give_up(agent, end, now)
            return work + 1
    agent.asked = max(agent.asked, agent.expected)
    while agent.servers > 0 and agent.asked < end and agent.asked - agent.expected < WINDOW:
        count = min(CHUNK, end - agent.asked)
        request(agent, agent.asked, count)
        agent.asked += count
        work += 1
    return work


@leaf
def want_snapshot(agent):
    """Ask cold code for a snapshot."""
    agent.snapshot = SNAPSHOT_WANTED
    agent.snapshot_floor = 0
    if agent.reason == 0:
        agent.reason = SNAPSHOT


@hot
def give_up(agent, end, now):
    """Stop asking servers for the messages before `end`: ask for a snapshot, or go on without, every book STALE from now on."""
    apart()
    counters = record_at(agent.counters_at, feed_counters_dtype)
    agent.tries = 0
    if agent.snapshot_from > 0:
        if now >= agent.snapshot_after:
            counters.given_up += 1
            want_snapshot(agent)
        return
    counters.given_up += 1
    agent.state = STALE
    set_all(agent, -1, STALE)
    if agent.first < agent.beyond:
        counters.lost_messages += end - agent.expected
        agent.expected = end
        agent.reached = end
    else:
        agent.highest = agent.expected
    if agent.sink == SINK_RING:
        publish(agent.md)


# ---------------------------------------------------------------- snapshots


@hot
def take_snapshot(agent, now):
    """Go on with a snapshot that cold code has fetched, or tell that it could not; one bounded step. Returns how much was done."""
    apart()
    counters = record_at(agent.counters_at, feed_counters_dtype)
    agent.ts_recv = now
    work = 1
    if agent.snapshot == SNAPSHOT_READY:
        if agent.snapshot_next < agent.expected or agent.snapshot_next > agent.highest + REACH:
            counters.snapshot_failures += 1           # it ends before what we have, or is of another day
            agent.snapshot = SNAPSHOT_FAILED
    if agent.snapshot == SNAPSHOT_FAILED:
        agent.snapshot = SNAPSHOT_NONE
        agent.progress = now
        agent.tries = 0
        if agent.state == RECOVERING:
            agent.state = STALE
            set_all(agent, RECOVERING, STALE)
    elif not has_room(agent, now):
        work = 0
    elif agent.snapshot == SNAPSHOT_READY:
        counters.superseded += agent.snapshot_next - agent.expected
        agent.wire_seq = agent.snapshot_seq - 1
        agent.state = RECOVERING
        agent.expected = 0                            # whatever comes now waits
        agent.snapshot_cleared = 0
        agent.snapshot = SNAPSHOT_CLEARING
        clear_books(agent.engine)
    elif agent.snapshot == SNAPSHOT_CLEARING:
        instruments = span(agent.instruments)
        upto = min(agent.snapshot_cleared + CLEARED, agent.used)
        for index in range(agent.snapshot_cleared, upto):
            if row(instruments, index, instrument_dtype).flags & INSTRUMENT_ANNOUNCED != 0:
                row(span(agent.engine.books), index, book_dtype).lacking = 0
                tell_void(agent, index)
        agent.snapshot_cleared = upto
        if upto == agent.used:
            agent.snapshot = SNAPSHOT_APPLYING
    else:
        runs = 0
        while runs < RUNS and agent.snapshot_at < agent.snapshot_end and has_room(agent, now):
            at, count = agent.snapshot_at, 0
            while at < agent.snapshot_end and count < SPUN:
                at += 2 + swap16(load16(at))
                count += 1
            walk(agent, agent.snapshot_at, at, agent.snapshot_seq, count)
            apply_run(agent, agent.snapshot_at, at, agent.snapshot_seq)
            counters.messages -= count
            counters.snapshot_messages += count
            agent.snapshot_at = at
            agent.snapshot_seq += count
            runs += 1
        work = runs
        if agent.snapshot_at >= agent.snapshot_end:
            agent.expected = agent.snapshot_next
            agent.reached = agent.expected
            agent.asked = agent.expected
            if agent.expected > agent.highest or (agent.first == agent.beyond and agent.highest <= agent.snapshot_floor):
                agent.highest = agent.expected        # what only a heartbeat spoke of: if it is true, the next will say so again
            agent.progress = now
            agent.tries = 0
            agent.by_snapshot = 1
            agent.snapshot = SNAPSHOT_NONE
            counters.snapshots += 1
            work += 1
    if agent.sink == SINK_RING:
        publish(agent.md)
    return work
