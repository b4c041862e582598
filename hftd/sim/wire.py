"""Market data out: the tape as MoldUDP64 packets on one or two lines, and the answers to requests for what was missed.

A packet is twenty bytes of header and a slice of the tape, two pieces of one datagram, so nothing is copied. What is due at the
same time goes out in the fewest packets of at most PAYLOAD_MAX bytes, up to PACKETS of them in one system call. Both lines carry
the same packets. A line that is silent for a second says a heartbeat (or, after the end, end of session).

Faults, for each packet of each line, from the line's own seed: lost; sent twice; held back until a few packets later went out
(reorder); held back for a time (delay). Heartbeats are never touched, so that a loss at the very end is still noticed.
"""

from hftd.core.atomics import tsc
from hftd.core.jit import hot, leaf
from hftd.core.layout import offset_of
from hftd.core.libc import EAGAIN, EINTR, MSG_DONTWAIT, errno, recvmmsg, sched_yield, sendmmsg
from hftd.core.memory import address_of, load16, load64, record_at, row, span, swap16, swap64
from hftd.sim.chance import below, chance
from hftd.sim.memory import HELD, PACKETS, exchange_dtype, held_dtype, iovec_dtype, line_dtype, mmsghdr_dtype
from hftd.venues.nasdaq import moldudp64 as mold

ECONNREFUSED = 111
HEADER = mold.HEADER
SPARE = PACKETS  # the row of the sending table for packets sent one at a time
HEADER_STRIDE = 32
REQUESTS = 16  # requests taken in one call
REQUEST_STRIDE = 128  # a request's bytes, its sender's address behind them
EMPTY = 65534  # messages a packet may count
LINE_SIZE = line_dtype.itemsize
LINES_AT = offset_of(exchange_dtype, "lines")


@leaf
def line_of(x, which):
    """Line 0 is A, 1 is B. Walks by address: an array of records inside the handle would cost a reference count."""
    return record_at(address_of(x) + LINES_AT + which * LINE_SIZE, line_dtype)


@leaf
def write_header(x, at, sequence, count):
    """Write a packet's header at `at`."""
    head = record_at(at, mold.packet_dtype)
    head.session_a = x.session_a
    head.session_b = x.session_b
    head.sequence = swap64(sequence)
    head.count = swap16(count)


@leaf
def aim(x, k, sequence, count, offset, size):
    """Make message k of the sending table the packet with `count` messages from `sequence` on: `size` bytes of tape."""
    write_header(x, x.headers + k * HEADER_STRIDE, sequence, count)
    vector = record_at(x.vectors + (2 * k + 1) * 16, iovec_dtype)
    vector.base = x.tape.base + offset
    vector.size = size


@hot
def hand_over(line, messages, count, now):
    """Give `count` datagrams to the kernel. A full socket buffer is waited for, briefly; what the kernel refuses is counted."""
    done = 0
    tries = 0
    while done < count:
        sent = sendmmsg(line.fd, messages + done * 64, count - done, MSG_DONTWAIT)
        if sent > 0:
            done += sent
            continue
        error = errno()
        if error == EAGAIN and tries < 2000:
            tries += 1
            sched_yield()
        elif error != EINTR and error != ECONNREFUSED:
            line.errors += 1
            done += 1
    line.packets += count
    line.last = now


@leaf
def hold(line, due, after, sequence, count, offset, size):
    """Keep a packet back; False when the table is full."""
    table = span(line.held)
    for i in range(HELD):
        held = row(table, i, held_dtype)
        if held.busy == 0:
            held.busy = 1
            held.due = due
            held.after = after
            held.sequence = sequence
            held.count = count
            held.offset = offset
            held.size = size
            line.holding += 1
            return True
    return False


@hot
def hand_over_faulty(x, line, sequence, count, offset, size, now):
    """Send one packet through the line's faults."""
    aim(x, SPARE, sequence, count, offset, size)
    if chance(line, line.loss):
        line.lost += 1
        line.last = now
        return
    if line.delay > 0 and chance(line, line.delay) and hold(line, now + line.delay_ticks, 0, sequence, count, offset, size):
        line.delayed += 1
        return
    if line.reorder > 0 and chance(line, line.reorder):
        if hold(line, 0, line.packets + 1 + below(line, 4), sequence, count, offset, size):
            line.reordered += 1
            return
    hand_over(line, x.messages + SPARE * 64, 1, now)
    if line.duplicate > 0 and chance(line, line.duplicate):
        line.duplicated += 1
        hand_over(line, x.messages + SPARE * 64, 1, now)


@hot
def release(x, line, now, idle):
    """Send what a line held back and is due. idle: 1 when nothing else is going out, so packets held for order go too."""
    table = span(line.held)
    for i in range(HELD):
        held = row(table, i, held_dtype)
        if held.busy != 0:
            due = now >= held.due if held.due != 0 else (line.packets >= held.after or idle == 1)
            if due:
                aim(x, SPARE, held.sequence, held.count, held.offset, held.size)
                held.busy = 0
                line.holding -= 1
                hand_over(line, x.messages + SPARE * 64, 1, now)


@leaf
def pack(x, offset, tail, limit):
    """Return (end, count): the slice of the tape from `offset` that fits one packet of at most `limit` messages."""
    end = offset
    count = 0
    size = HEADER
    while end < tail and count < limit:
        step = 2 + swap16(load16(x.tape.base + end))
        if size + step > mold.PAYLOAD_MAX and count > 0:
            break
        size += step
        end += step
        count += 1
    return end, count


@hot
def flush(x, now):
    """Send what the tape has and the lines have not had, and what is due of the rest. Returns packets made."""
    made = 0
    while x.sent_bytes < x.tape.tail:
        k = 0
        first = x.sent_bytes
        first_seq = x.sent_seq
        while k < PACKETS and x.sent_bytes < x.tape.tail:
            offset = x.sent_bytes
            end, count = pack(x, offset, x.tape.tail, EMPTY)
            aim(x, k, x.sent_seq, count, offset, end - offset)
            x.sent_bytes = end
            x.sent_seq += count
            k += 1
        for which in range(2):
            line = line_of(x, which)
            if line.fd >= 0:
                line.bytes += x.sent_bytes - first + k * HEADER
                if line.faulty == 0:
                    hand_over(line, x.messages, k, now)
                else:
                    offset = first
                    sequence = first_seq
                    for _ in range(k):
                        end, count = pack(x, offset, x.tape.tail, EMPTY)
                        hand_over_faulty(x, line, sequence, count, offset, end - offset, now)
                        offset = end
                        sequence += count
        made += k
    for which in range(2):
        line = line_of(x, which)
        if line.fd >= 0:
            if line.holding > 0:
                release(x, line, now, 1 if made == 0 else 0)
            if now - line.last > x.beat_ticks:
                beat(x, line, now)
    return made


@hot
def beat(x, line, now):
    """Say a heartbeat, or end of session, on a line."""
    aim(x, SPARE, x.sent_seq, mold.END_OF_SESSION if x.ending == 1 else mold.HEARTBEAT, 0, 0)
    hand_over(line, x.messages + SPARE * 64, 1, now)
    line.heartbeats += 1


@hot
def beat_both(x):
    """Say a heartbeat (or end of session) on both lines at once, from cold code."""
    now = tsc()
    for which in range(2):
        line = line_of(x, which)
        if line.fd >= 0:
            beat(x, line, now)


@hot
def answer(x):
    """Answer requests: one packet each, unicast, with as many of the wanted messages as fit. Returns how many came.

    A request of another size, for another session or for what was not sent yet gets no answer.
    """
    got = recvmmsg(x.request_fd, x.request_messages, REQUESTS, MSG_DONTWAIT, 0)
    if got <= 0:
        return 0
    for i in range(got):
        asked_at = x.request_messages + i * 64
        asked = record_at(asked_at, mmsghdr_dtype)
        request = record_at(load64(asked.vector), mold.packet_dtype)
        x.requests += 1
        first = swap64(request.sequence)
        wanted = swap16(request.count)
        size = asked.size & 0xFFFFFFFF
        known = request.session_a == x.session_a and request.session_b == x.session_b
        if size != HEADER or not known or first < 1 or first >= x.sent_seq or wanted == 0:
            x.request_bad += 1
        elif x.request_loss == 0 or not chance(x, x.request_loss):
            offset = load64(x.tape.index + 8 * (first - 1))
            end, count = pack(x, offset, x.sent_bytes, wanted)
            aim(x, SPARE, first, count, offset, end - offset)
            reply = record_at(x.messages + SPARE * 64, mmsghdr_dtype)
            reply.name = asked.name
            reply.name_size = asked.name_size & 0xFFFFFFFF
            if sendmmsg(x.request_fd, x.messages + SPARE * 64, 1, MSG_DONTWAIT) == 1:
                x.answered += 1
            reply.name = 0
            reply.name_size = 0
        asked.name_size = 16
    return got
