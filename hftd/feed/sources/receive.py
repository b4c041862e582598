"""The recorder's loop: datagrams of several lines into blocks of a pcapng file, with the kernel's receive stamps.

    recvmmsg ─▶ stamp and drop count from the control messages ─▶ enhanced packet block: Ethernet, IPv4, UDP, payload

Sockets give the payload and not the frame, so the headers are made anew: addresses and ports are the real ones, the rest is fixed
(see `write_headers`); the IPv4 header's checksum is right, UDP's is 0, which says that there is none.

The stamp is the network card's where it gave one, else the kernel's own at reception; a datagram with neither gets the time of the
system's clock and is counted. `record_lines` never waits. It takes a batch of every line and writes them in the order of their
stamps, the youngest only at a later call, so that a replay meets the lines as they came. (A line itself is always in order.)
"""

from hftd.core.jit import hot, leaf
from hftd.core.layout import layout
from hftd.core.libc import EAGAIN, EINTR, MSG_DONTWAIT, errno, recvmmsg
from hftd.core.memory import (
    copy_bytes,
    load16,
    load32,
    load64,
    row,
    span,
    span_dtype,
    store8,
    store16,
    store32,
    store64,
    swap16,
)

BATCH = 32
ROOM = 9216
"""Bytes kept of a datagram: a jumbo frame's. Longer ones are cut, with their true length noted."""

CONTROL = 256
"""Bytes of control messages of a datagram."""

HOLD_NS = 50_000
"""How old a datagram must be to be written: the kernel stamps first and hands over later, so that a line may hide an older one."""

OTHER_CLOCK_NS = 1_000_000_000
"""Stamps further ahead of the system's clock than this are of another clock, and are not waited for."""

NAME = 16
MSGHDR = 64
HEADERS = 42
"""Bytes of the Ethernet, IPv4 and UDP headers that are made."""

BLOCK_MAX = 28 + HEADERS + ROOM + 3 + 16 + 4
"""Bytes of the longest packet block."""

SOL_SOCKET = 1
SCM_TIMESTAMPNS, SCM_TIMESTAMPING, SO_RXQ_OVFL = 35, 37, 40
MSG_TRUNC = 0x20
ENHANCED_PACKET, DROPCOUNT = 6, 4

recorded_line_dtype = layout("recorded_line", 128, [
    ("fd", "i8"),
    ("ip", "i8"),                                 # destination, its bytes as they lie on the wire (load32)
    ("port", "i8"),                               # destination, a number
    ("packets", "i8"),
    ("bytes", "i8"),                              # UDP payload
    ("drops", "i8"),                              # datagrams the kernel had no room for
    ("drops_seen", "i8"),                         # the socket's own count, 32 bits, when last looked at
    ("drops_told", "i8"),                         # of `drops`, written into the file
    ("cut", "i8"),                                # longer than ROOM
    ("hardware", "i8"),                           # stamped by the card
    ("software", "i8"),                           # stamped by the kernel
    ("unstamped", "i8"),
    ("errors", "i8"),                             # of the receive call other than nothing there
    ("first_ns", "i8"), ("last_ns", "i8"),
    ("got", "u4"),                                # datagrams of the batch at hand
    ("done", "u4"),                               # of these, written
])  # fmt: skip

recorder_dtype = layout("line_recorder", 128, [
    ("lines", span_dtype),                        # recorded_line_dtype
    ("headers_at", "i8"),                         # by line: BATCH struct mmsghdr
    ("buffers_at", "i8"),                         # by line: BATCH buffers of ROOM
    ("controls_at", "i8"),                        # by line: BATCH buffers of CONTROL
    ("names_at", "i8"),                           # by line: BATCH struct sockaddr_in
    ("stamps_at", "i8"),                          # by line: BATCH stamps, ns
    ("out", "i8"),                                # address of the next block
    ("out_end", "i8"),                            # address after the buffer
    ("now_ns", "i8"),                             # the system's time, for datagrams without a stamp
    ("pad", ("i8", (6,))),
])  # fmt: skip


@leaf
def fold(total):
    """Return the ones' complement of a sum of 16-bit words: an Internet checksum."""
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


@leaf
def write_headers(at, source_ip, source_port, ip, port, length):
    """Write 42 bytes of headers at `at`. Addresses as they lie on the wire; ports and length are numbers.

    Ethernet: to the group's own address (01:00:5e and 23 bits), or to 02:00:00:00:00:02; from 02:00:00:00:00:01. IPv4: no options,
    do not fragment, 64 hops.
    """
    first = ip & 0xFF
    if first >= 224 and first < 240:
        store16(at, 0x0001)
        store8(at + 2, 0x5E)
        store8(at + 3, (ip >> 8) & 0x7F)
        store8(at + 4, (ip >> 16) & 0xFF)
        store8(at + 5, (ip >> 24) & 0xFF)
    else:
        store16(at, 0x0002)
        store32(at + 2, 0x02000000)
    store16(at + 6, 0x0002)
    store32(at + 8, 0x01000000)
    store16(at + 12, 0x0008)
    total = 20 + 8 + length
    store16(at + 14, 0x0045)
    store16(at + 16, swap16(total))
    store32(at + 18, 0x00400000)
    store16(at + 22, 0x1140)
    store16(at + 24, 0)
    store32(at + 26, source_ip)
    store32(at + 30, ip)
    check = 0
    for word in range(10):
        check += load16(at + 14 + 2 * word)
    store16(at + 24, fold(check))
    store16(at + 34, swap16(source_port))
    store16(at + 36, swap16(port))
    store16(at + 38, swap16(8 + length))
    store16(at + 40, 0)


@leaf
def write_block(at, which, ns, kept, full, drops):
    """Write an enhanced packet block around `kept` bytes that lie at `at` + 28; return the address after it. drops: 0, none."""
    padded = (kept + 3) & -4
    end = at + 28 + kept
    while end < at + 28 + padded:
        store8(end, 0)
        end += 1
    if drops != 0:
        store16(end, DROPCOUNT)
        store16(end + 2, 8)
        store64(end + 4, drops)
        store32(end + 12, 0)
        end += 16
    size = end + 4 - at
    store32(at, ENHANCED_PACKET)
    store32(at + 4, size)
    store32(at + 8, which)
    store32(at + 12, ns >> 32)
    store32(at + 16, ns & 0xFFFFFFFF)
    store32(at + 20, kept)
    store32(at + 24, full)
    store32(end, size)
    return end + 4


@leaf
def take_stamp(line, at, size, now_ns):
    """Read a datagram's control messages, `size` bytes at `at`; note what they say of drops, and return the receive stamp in ns."""
    soft = hard = 0
    end = at + size
    while at + 16 <= end:
        length = load64(at)
        if length < 16 or at + length > end:
            break
        kind = load32(at + 12)
        if load32(at + 8) == SOL_SOCKET:
            if kind == SCM_TIMESTAMPNS and length >= 32:
                soft = load64(at + 16) * 1_000_000_000 + load64(at + 24)
            elif kind == SCM_TIMESTAMPING and length >= 64:
                stamped = load64(at + 16) * 1_000_000_000 + load64(at + 24)
                if stamped != 0:
                    soft = stamped
                hard = load64(at + 48) * 1_000_000_000 + load64(at + 56)
            elif kind == SO_RXQ_OVFL and length >= 20:
                seen = load32(at + 16)
                line.drops += (seen - line.drops_seen) & 0xFFFFFFFF
                line.drops_seen = seen
        at += (length + 7) & -8
    if hard != 0:
        line.hardware += 1
        return hard
    if soft != 0:
        line.software += 1
        return soft
    line.unstamped += 1
    return now_ns


@leaf
def receive_batch(recorder, line, which):
    """Take what waits on a line, at most BATCH datagrams, and note their stamps; return how many."""
    headers = recorder.headers_at + which * BATCH * MSGHDR
    for i in range(BATCH):                            # the kernel has overwritten both lengths
        store32(headers + i * MSGHDR + 8, NAME)
        store64(headers + i * MSGHDR + 40, CONTROL)
    line.done = 0
    line.got = 0
    got = recvmmsg(line.fd, headers, BATCH, MSG_DONTWAIT | MSG_TRUNC, 0)
    if got < 0:
        error = errno()
        if error != EAGAIN and error != EINTR:
            line.errors += 1
        return 0
    for i in range(got):
        control = recorder.controls_at + (which * BATCH + i) * CONTROL
        ns = take_stamp(line, control, load64(headers + i * MSGHDR + 40), recorder.now_ns)
        store64(recorder.stamps_at + (which * BATCH + i) * 8, ns)
    line.got = got
    return got


@leaf
def write_datagram(recorder, line, which, ns):
    """Write the next datagram of a line's batch as a block."""
    place = which * BATCH + line.done
    line.done += 1
    length = load32(recorder.headers_at + place * MSGHDR + 56)
    kept = min(length, ROOM)
    if length > ROOM:
        line.cut += 1
    if line.packets == 0:
        line.first_ns = ns
    line.last_ns = ns
    line.packets += 1
    line.bytes += length
    name = recorder.names_at + place * NAME
    frame = recorder.out + 28
    write_headers(frame, load32(name + 4), swap16(load16(name + 2)), line.ip, line.port, length)
    copy_bytes(frame + HEADERS, recorder.buffers_at + place * ROOM, kept)
    lost = line.drops - line.drops_told
    line.drops_told = line.drops
    recorder.out = write_block(recorder.out, which, ns, HEADERS + kept, HEADERS + length, lost)


@hot
def record_lines(recorder):
    """Take a batch of every line and write what is old enough by its stamps; return how many were taken, written, or wait.

    0: there is nothing to do, or the buffer lacks the room. A line whose batch is not written yet is not asked for more, and no
    line is written beyond the last stamp that such a line is known to have.
    """
    lines = span(recorder.lines)
    if recorder.out + lines.count * BATCH * BLOCK_MAX > recorder.out_end:
        return 0
    until = recorder.now_ns - HOLD_NS
    left = 0
    for which in range(lines.count):
        line = row(lines, which, recorded_line_dtype)
        whole = 0
        if line.done == line.got:
            whole = 1 if receive_batch(recorder, line, which) < BATCH else 0
        if whole == 0:
            until = min(until, load64(recorder.stamps_at + (which * BATCH + line.got - 1) * 8))
        left += line.got - line.done
    work = left
    while left > 0:
        first, earliest = -1, 0
        for which in range(lines.count):
            line = row(lines, which, recorded_line_dtype)
            if line.done < line.got:
                ns = load64(recorder.stamps_at + (which * BATCH + line.done) * 8)
                if first < 0 or ns < earliest:
                    first, earliest = which, ns
        if earliest > until and earliest < recorder.now_ns + OTHER_CLOCK_NS:
            break
        write_datagram(recorder, row(lines, first, recorded_line_dtype), first, earliest)
        left -= 1
    return work
