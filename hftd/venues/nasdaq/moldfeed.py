"""MoldUDP64 received: two lines in one order, each message once, gaps noticed.

    line A ─┐                  ┌─ sequence = expected ──▶ apply
    line B ─┼─▶ handle_packet ─┼─ already seen ─────────▶ count, drop        (the first copy wins; a straddling packet's new part)
    server ─┘                  └─ beyond ───────────────▶ queue, sorted ──▶ catch_up applies it when its turn comes

A packet is checked whole before any of it is believed: length, sequence, framing, session. A datagram of the retransmission socket
is a packet like any other, but only a configured server's is read. What is done about missing messages: `moldgap.py`.

A packet of another session is dropped; when our own has ended, or been silent, and the configuration names none, the host is asked
to change over: books cleared, sequence 1.

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
from hftd.core.libc import CLOCK_REALTIME, EAGAIN, EINTR, MSG_DONTWAIT, clock_gettime, errno, recvmmsg
from hftd.core.memory import address_of, load32, load64, record_at, row, span, store64, swap16, swap64
from hftd.feed.events import bump, note
from hftd.feed.memory import LINE_R, feed_counters_dtype
from hftd.feed.state import BATCH, MISSED, PACKET_ROOM, STAMPS, feed_agent_dtype, line_dtype, missed_dtype, stamp_dtype
from hftd.msg.enums import LogCode, Reason
from hftd.shm.histogram import histogram_dtype, record_value
from hftd.venues.nasdaq.moldapply import apply_packet, fills
from hftd.venues.nasdaq.moldgap import enqueue, gap_end
from hftd.venues.nasdaq.moldudp64 import END_OF_SESSION, HEADER, HEARTBEAT, packet_dtype

SEQUENCE_MAX = 1 << 40

JUMP = 1 << 12
"""Messages that a packet may be ahead of all that is known and still be believed at once."""

CLAIMS = 3
"""Packets in a row of one line that must agree on a number further ahead than JUMP."""

MSGHDR, MSG_CONTROL, MSG_CONTROL_LENGTH, MSG_FLAGS, MSG_LEN = 64, 32, 40, 48, 56
"""struct mmsghdr: its size, and where msg_control, msg_controllen, msg_flags and msg_len lie; at its start, the address of the
sender's address."""

CONTROL_ROOM, SCM_TIMESTAMPNS = 32, 35
"""Bytes of a control message that holds a struct timespec, and its type: length 8, level 4, type 4, seconds 8, nanoseconds 8."""

AGE_MAX_NS = 10_000_000_000
"""A stamp older than this is the clock's fault: it was set between the stamp and now."""

MSG_TRUNC = 0x20
HISTOGRAM_BYTES = histogram_dtype.itemsize

LINES_AT, LINE_BYTES = offset_of(feed_agent_dtype, "lines"), line_dtype.itemsize
LEAD_A, WAIT = 2, 4
PACKETS, FIRST, DUPLICATES, LATE, LOST = (
    offset_of(feed_counters_dtype, name) for name in ("packets_a", "first_a", "duplicates_a", "late_a", "lost_a")
)
CHANGE_SESSION = int(Reason.SESSION_END)
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
    if not seen and not (length == HEADER if control else fills(agent, at + HEADER, at + length, sequence, count)):
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
