"""MoldUDP64 received: two lines in one order, gaps noticed, missing messages asked for.

    line A ─┐                  ┌─ sequence = expected ──▶ apply
    line B ─┼─▶ handle_packet ─┼─ already seen ─────────▶ count, drop        (the first copy wins; a straddling packet's new part)
    server ─┘                  └─ beyond ───────────────▶ queue, sorted ──▶ catch_up applies it when its turn comes

A packet is checked whole before any of it is believed: length, sequence, framing, session. What is missing may still come late,
or by the other line: for the reorder window nothing is done, unless `reorder_packets` wait already. Then the books are RECOVERING,
events carry the SNAPSHOT flag, and servers are asked in turn: a window of requests of CHUNK messages, each small enough to be
answered by one packet; a time-out starts again at the first missing message with the next server; answers are packets like any
other, but only a configured server's are read. When nothing came after `tries_max` time-outs, the missing messages are given up:
what waited is applied, and the books are STALE. A feed that starts late finds its first packet beyond 1 and recovers the same way
from message 1.

With a snapshot server nothing is passed over. What no server of retransmissions has, and at once what is more than `snapshot_from`
messages, is made up for by a snapshot of all books (GLIMPSE): cold code fetches it (`glimpse.py`) while packets wait as ever; then
the books are cleared (CLEAR), the snapshot's messages go through `apply_run` like any others, and the queue follows from the number
the snapshot names. Meanwhile `expected` is 0, so that every packet waits. A snapshot that fails leaves the books STALE; it is
asked for again after a pause, and servers of retransmissions are tried in between. When the gap closes first, the snapshot is
called off.

Replay can be faster than strategies read. While recovering the feed waits for room in the ring, for a time-out's length; only then
is the slowest detached. A packet of another session is dropped; when our own has ended, or been silent, and the configuration names
none, the host is asked to change over: books cleared, sequence 1.

A sequence number is believed up to SEQUENCE_MAX. Heartbeats alone never move `expected`. A number more than JUMP ahead of all that
is known is believed when CLAIMS packets in a row of one line agree on it: a single forged packet makes no gap.

Each line's own losses are counted by its own numbers (`follow_line`): what comes late is taken off again, what comes twice is not.
The receipt of each first copy is kept for a while, so that the second tells by how much its line was behind.
"""

from hftd.core.apart import apart
from hftd.core.atomics import tsc
from hftd.core.clock import scale
from hftd.core.jit import hot, leaf
from hftd.core.layout import offset_of
from hftd.core.libc import CLOCK_REALTIME, EAGAIN, EINTR, MSG_DONTWAIT, clock_gettime, errno, recvmmsg, sendto
from hftd.core.memory import address_of, copy_bytes, load8, load16, load32, load64, record_at, row, span, store64, swap16, swap64
from hftd.feed.book import clear_books
from hftd.feed.events import bump, make_room, note, set_state, tell_void
from hftd.feed.memory import LINE_R, book_dtype, feed_counters_dtype
from hftd.feed.state import (
    BATCH,
    DOES_EMIT,
    MISSED,
    PACKET_ROOM,
    SINK_RING,
    SNAPSHOT_APPLYING,
    SNAPSHOT_CLEARING,
    SNAPSHOT_FAILED,
    SNAPSHOT_NONE,
    SNAPSHOT_READY,
    SNAPSHOT_WANTED,
    STAMPS,
    feed_agent_dtype,
    kind_dtype,
    line_dtype,
    listed_dtype,
    missed_dtype,
    stamp_dtype,
    ticket_dtype,
    waiting_dtype,
)
from hftd.msg.enums import BookState, LogCode, Reason
from hftd.msg.records import FLAG_SNAPSHOT, INSTRUMENT_ANNOUNCED, instrument_dtype
from hftd.shm.histogram import histogram_dtype, record_value
from hftd.shm.ring import publish, room
from hftd.venues.nasdaq.itchfeed import apply_run
from hftd.venues.nasdaq.itchmend import keep
from hftd.venues.nasdaq.moldudp64 import END_OF_SESSION, HEADER, HEARTBEAT, packet_dtype

CHUNK = 24
"""Messages asked for at once: 24 of the longest fit one Ethernet frame."""

WINDOW = 16 * CHUNK
"""Messages asked for and not yet received, at most."""

SEQUENCE_MAX = 1 << 40

JUMP = 1 << 16
"""Messages that a packet may be ahead of all that is known and still be believed at once."""

CLAIMS = 3
"""Packets in a row of one line that must agree on a number further ahead than JUMP."""

REACH = 1 << 24
"""Messages that a snapshot may be ahead of all that is known; further, and it is not of this session's today."""

CLEARED, SPUN, RUNS = 64, 64, 8
"""Books cleared in a turn; messages of a snapshot applied at once, and how many times in a turn."""

ROOM_TO_RECOVER = 1024
"""Free slots of the ring that recovery waits for: more than any packet's events."""

MSGHDR, MSG_CONTROL, MSG_CONTROL_LENGTH, MSG_FLAGS, MSG_LEN = 64, 32, 40, 48, 56
"""struct mmsghdr: its size, and where msg_control, msg_controllen, msg_flags and msg_len lie; at its start, the address of the
sender's address."""

CONTROL_ROOM, SCM_TIMESTAMPNS = 32, 35
"""Bytes of a control message that holds a struct timespec, and its type: length 8, level 4, type 4, seconds 8, nanoseconds 8."""

AGE_MAX_NS = 10_000_000_000
"""A stamp older than this is the clock's fault: it was set between the stamp and now."""

MSG_TRUNC = 0x20
WAITING_BYTES = waiting_dtype.itemsize
HISTOGRAM_BYTES = histogram_dtype.itemsize

LINES_AT, LINE_BYTES = offset_of(feed_agent_dtype, "lines"), line_dtype.itemsize
LEAD_A, WAIT = 2, 4
PACKETS, FIRST, DUPLICATES, LATE, LOST = (
    offset_of(feed_counters_dtype, name) for name in ("packets_a", "first_a", "duplicates_a", "late_a", "lost_a")
)
RECOVERING, LIVE, STALE = int(BookState.RECOVERING), int(BookState.LIVE), int(BookState.STALE)
CHANGE_SESSION, SNAPSHOT = int(Reason.SESSION_END), int(Reason.SNAPSHOT)
BAD_PACKET, GAP = int(LogCode.FEED_BAD_PACKET), int(LogCode.FEED_GAP)
TOO_SHORT, BAD_FRAMING, BAD_SEQUENCE, TOO_LONG = 1, 2, 3, 4
"""Detail `a` of a FEED_BAD_PACKET error; `b` is the length."""


@leaf
def receive(agent, line):
    """Take and handle what waits on a line, at most BATCH datagrams; return how many."""
    mine = line_at(agent, line)
    headers_at = mine.headers_at
    got = recvmmsg(mine.fd, headers_at, BATCH, MSG_DONTWAIT, 0)
    if got <= 0:
        if got < 0:
            error = errno()
            if error != EAGAIN and error != EINTR:
                record_at(agent.counters_at, feed_counters_dtype).receive_errors += 1
        return 0
    now = tsc()
    if mine.stamped != 0:
        arrived(agent, mine, got, now)
    for i in range(got):
        header = headers_at + i * MSGHDR
        agent.ts_recv = now
        if mine.stamped != 0:
            agent.ts_recv = load64(agent.arrivals_at + 8 * i)
        bump(agent.counters_at + PACKETS + 8 * line)
        length = load32(header + MSG_LEN)
        if line == LINE_R and not from_server(agent, load64(header)):
            record_at(agent.counters_at, feed_counters_dtype).strangers += 1
        elif load32(header + MSG_FLAGS) & MSG_TRUNC != 0:
            record_at(agent.counters_at, feed_counters_dtype).truncated += 1
            note(agent, BAD_PACKET, TOO_LONG, length)
        else:
            handle_packet(agent, agent.buffers_at + i * PACKET_ROOM, length, line)
    return got


@hot
def arrived(agent, mine, got, now):
    """Write when each of `got` datagrams arrived to agent.arrivals_at; count how long the first one waited."""
    apart()
    clock_gettime(CLOCK_REALTIME, agent.time_at)
    for i in range(got):
        store64(agent.arrivals_at + 8 * i, arrival(agent, mine.headers_at + i * MSGHDR, now))
    count_wait(agent, now - load64(agent.arrivals_at))


@leaf
def count_wait(agent, ticks):
    """Count how long a packet lay in the socket, or may have lain there at most."""
    if agent.histograms_at != 0:
        at = agent.histograms_at + WAIT * HISTOGRAM_BYTES
        record_value(record_at(at, histogram_dtype), at, ticks)


@leaf
def arrival(agent, header, now):
    """Return the counter's reading when the kernel received the datagram of a struct mmsghdr; `now` where it did not say.

    The kernel's stamp is UTC, and so is the timespec at agent.time_at, which was read just after the counter said `now`: only their
    difference counts, so neither drift nor an old calibration does.
    """
    control = load64(header + MSG_CONTROL)
    length = load64(header + MSG_CONTROL_LENGTH)
    store64(header + MSG_CONTROL_LENGTH, CONTROL_ROOM)
    if length < CONTROL_ROOM or load32(control + 12) != SCM_TIMESTAMPNS:
        record_at(agent.counters_at, feed_counters_dtype).unstamped += 1
        return now
    age = (load64(agent.time_at) - load64(control + 16)) * 1_000_000_000 + load64(agent.time_at + 8) - load64(control + 24)
    if age < 0 or age > AGE_MAX_NS:
        record_at(agent.counters_at, feed_counters_dtype).unstamped += 1
        return now
    return now - scale(age, agent.per_ns)


@leaf
def line_at(agent, line):
    """Return a line's record."""
    return record_at(address_of(agent) + LINES_AT + line * LINE_BYTES, line_dtype)


@leaf
def from_server(agent, sender_at):
    """Tell whether the struct sockaddr_in at `sender_at` is a configured server's: family, port and address."""
    sender, found = load64(sender_at), 0
    for server in range(agent.servers):
        found += 1 if load64(agent.servers_at + 16 * server) == sender else 0
    return found > 0


@hot
def follow_line(agent, line, sequence, end):
    """Count what a line lacks, when a packet of it is not the one that should have come next. sequence, end: its messages."""
    apart()
    mine = line_at(agent, line)
    lost_at = agent.counters_at + LOST + 8 * line
    missed = span(mine.missed)
    if mine.next == 0:
        mine.next = end
        return
    if sequence > mine.next:
        for number in range(max(mine.next, sequence - MISSED), sequence):
            row(missed, number & (MISSED - 1), missed_dtype).number = number
        store64(lost_at, load64(lost_at) + sequence - mine.next)
        mine.next = end
        return
    filled = 0
    for number in range(sequence, min(end, mine.next)):
        place = row(missed, number & (MISSED - 1), missed_dtype)
        if place.number == number:
            place.number = 0
            filled += 1
    if filled > 0:
        store64(lost_at, load64(lost_at) - filled)
        bump(agent.counters_at + LATE + 8 * line)
    mine.next = max(mine.next, end)


@leaf
def stamp_first(agent, sequence, line):
    """Remember which line brought a packet first, and when."""
    stamp = row(span(agent.stamps), sequence & (STAMPS - 1), stamp_dtype)
    stamp.what = sequence * 4 + line
    stamp.ts_recv = agent.ts_recv


@hot
def note_lead(agent, sequence, line):
    """Record by how much the other line was ahead with the packet that `line` brings now."""
    apart()
    stamp = row(span(agent.stamps), sequence & (STAMPS - 1), stamp_dtype)
    if stamp.what == sequence * 4 + 1 - line and agent.histograms_at != 0:
        stamp.what = 0
        at = agent.histograms_at + (LEAD_A + 1 - line) * HISTOGRAM_BYTES
        record_value(record_at(at, histogram_dtype), at, agent.ts_recv - stamp.ts_recv)


@hot
def doubted(agent, line, sequence, end):
    """Tell whether a packet from far ahead is not to be believed yet: CLAIMS packets in a row of its line must agree."""
    apart()
    if line == LINE_R:
        return True
    mine = line_at(agent, line)
    mine.claims = mine.claims + 1 if mine.claimed - JUMP < sequence <= mine.claimed + JUMP and mine.claims > 0 else 1
    mine.claimed = end
    return mine.claims < CLAIMS


@leaf
def refuse_packet(agent, why, length):
    """Count a datagram that is not a sound MoldUDP64 packet."""
    record_at(agent.counters_at, feed_counters_dtype).malformed += 1
    note(agent, BAD_PACKET, why, length)


@hot
def walk(agent, at, end, sequence, count):
    """Check that `count` framed messages fill the bytes from `at` to `end`, and note each instrument's last one with an effect."""
    apart()
    listing, kinds = span(agent.listed), span(agent.kinds)
    for i in range(count):
        if at + 2 > end:
            return False
        length = swap16(load16(at))
        at += 2 + length
        if at > end:
            return False
        if length >= 3:
            message = at - length
            if row(kinds, load8(message), kind_dtype).does & DOES_EMIT != 0:
                row(listing, swap16(load16(message + 1)), listed_dtype).last = (sequence + i) & 0xFFFFFFFF
    return at == end


@leaf
def handle_packet(agent, at, length, line):
    """Handle one datagram of `length` bytes at address `at`, received on `line` at agent.ts_recv."""
    if length < HEADER:
        refuse_packet(agent, TOO_SHORT, length)
        return
    counters = record_at(agent.counters_at, feed_counters_dtype)
    header = record_at(at, packet_dtype)
    sequence, count = swap64(header.sequence), swap16(header.count)
    if sequence <= 0 or sequence > SEQUENCE_MAX:
        refuse_packet(agent, BAD_SEQUENCE, length)
        return
    control = count == HEARTBEAT or count == END_OF_SESSION
    ours = agent.session_known != 0 and header.session_a == agent.session_a and header.session_b == agent.session_b
    seen = ours and not control and sequence + count <= agent.expected
    if not seen and not (length == HEADER if control else walk(agent, at + HEADER, at + length, sequence, count)):
        refuse_packet(agent, BAD_FRAMING, length)
        return
    if agent.session_known == 0:
        agent.session_a = header.session_a
        agent.session_b = header.session_b
        agent.session_known = 1
        counters.sessions += 1
    elif not ours:
        counters.foreign += 1
        if agent.session_fixed == 0 and line != LINE_R and (agent.ended != 0 or agent.ts_recv - agent.last_heard > agent.silence):
            agent.next_a = header.session_a
            agent.next_b = header.session_b
            agent.reason = CHANGE_SESSION
        return
    told = 0 if control else count
    if sequence + told > agent.highest + JUMP and doubted(agent, line, sequence, sequence + told):
        counters.doubted += 1
        return
    if line != LINE_R:
        mine = line_at(agent, line)
        if sequence == mine.next:
            mine.next = sequence + told
        else:
            follow_line(agent, line, sequence, sequence + told)
    if control:
        if count == HEARTBEAT:
            counters.heartbeats += 1
        else:
            counters.session_ends += 1
            agent.ended = 1
        agent.highest = max(agent.highest, sequence)
    elif seen:
        bump(agent.counters_at + DUPLICATES + 8 * line)
        if line != LINE_R:
            note_lead(agent, sequence, line)
    elif sequence > agent.expected:
        if enqueue(agent, at, length, sequence, sequence + count):
            bump(agent.counters_at + FIRST + 8 * line)
            stamp_first(agent, sequence, line)
        else:
            bump(agent.counters_at + DUPLICATES + 8 * line)
            if line != LINE_R:
                note_lead(agent, sequence, line)
        agent.highest = max(agent.highest, sequence + count)
    else:
        bump(agent.counters_at + FIRST + 8 * line)
        stamp_first(agent, sequence, line)
        apply_packet(agent, at, length, sequence, count)
        agent.highest = max(agent.highest, agent.expected)
    agent.last_heard = agent.ts_recv
    if agent.behind == 0 and agent.expected < agent.highest:
        agent.behind = 1
        agent.behind_since = agent.ts_recv
        agent.reached = agent.expected
        counters.gaps += 1
        counters.gap_messages += gap_end(agent) - agent.expected
        note(agent, GAP, 0, agent.expected)


@leaf
def apply_packet(agent, at, length, sequence, count):
    """Apply what is new in a checked packet whose first message is not beyond the expected one, and publish."""
    start = at + HEADER
    while sequence < agent.expected:
        start += 2 + swap16(load16(start))
        sequence += 1
        count -= 1
    if agent.mending != 0:
        keep(agent, start, at + length, sequence)
    told = agent.md.tail
    apply_run(agent, start, at + length, sequence)
    agent.expected = sequence + count
    if agent.sink == SINK_RING:
        publish(agent.md)
    if agent.histograms_at != 0:
        ticks = agent.emitted if agent.md.tail != told else tsc() - agent.ts_recv
        record_value(record_at(agent.histograms_at, histogram_dtype), agent.histograms_at, ticks)


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
                return True
            dropped = row(order, agent.first & mask, waiting_dtype)
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
        if waiting.end > agent.expected:
            if not has_room(agent, now):
                break
            agent.ts_recv = waiting.ts_recv
            at = agent.queue_at + waiting.buffer * PACKET_ROOM
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
