"""Captured frames into the feed: from a pcap or pcapng record down to the UDP payload, which takes the path of a live packet.

    record ─▶ link layer ─▶ VLAN tags ─▶ IPv4 ─▶ UDP ─▶ destination ─▶ line ─▶ handle_packet

`replay_capture` walks whole records in a buffer and stops at the first that the buffer cuts, at one that Python must read (pcapng
sections and interfaces), at a limit of time, messages or events, or with the agent's reason. Time is the capture's: the receive
stamp of a packet and the `now` of recovery are nanoseconds, UTC (the desk's clock makes a tick a nanosecond).

Every frame ends in exactly one counter of `capture_dtype`. A fragment is refused, its later parts too: what a datagram said cannot
be known from a part of it. Checksums are not looked at: cards leave them out of what they hand to a capture.
"""

from hftd.core.jit import hot, leaf
from hftd.core.layout import layout, offset_of
from hftd.core.memory import load8, load16, load32, load64, record_at, row, span, span_dtype, store64, swap16, swap32, swap64
from hftd.feed.memory import LINE_A, LINE_B, feed_counters_dtype
from hftd.feed.state import PACKET_ROOM, SINK_RING
from hftd.msg.enums import BookState
from hftd.shm.ring import publish
from hftd.venues.nasdaq.itch50 import header_dtype, stamp
from hftd.venues.nasdaq.itchfeed import apply_one, apply_run
from hftd.venues.nasdaq.moldapply import fills
from hftd.venues.nasdaq.moldfeed import SEQUENCE_MAX, handle_packet
from hftd.venues.nasdaq.moldgap import catch_up
from hftd.venues.nasdaq.moldudp64 import END_OF_SESSION, HEADER, HEARTBEAT, packet_dtype

NEED, BLOCK, LIMIT, REASON, BROKEN = 0, 1, 2, 3, 4
"""Why a walk stopped: the buffer is used up; a block for Python lies at `at`; a limit; agent.reason; a length makes no sense."""

LATEST = 1 << 62
"""ns, later than all that is stamped: where no limit is set."""
PCAP, PCAPNG = 0, 1
FRAME_MAX = 1 << 20
"""Bytes of a record or block beyond which a length is held for damage."""

EVENTS_SPARE = 1 << 17
"""More events than one packet and what it sets free can cause: a batch of waiting packets, and the state of every instrument."""

DESTINATIONS = 64
"""Rows of the table of destinations: many more than there can be lines of ours."""
TRIES = 32
"""Packets of a destination that may be no MoldUDP64 before it is given up, where lines are found and not given."""

OPEN, REFUSED = -1, -2
"""A destination's line while it is not known what it carries; and when it is none of ours."""

ETHERNET, NULL, RAW_OLD, RAW_BSD, RAW, LOOP, COOKED, IPV4, IPV6, COOKED2 = 1, 0, 12, 14, 101, 108, 113, 228, 229, 276
"""Link types (LINKTYPE_… of the capture formats)."""

TYPE_IPV4, TYPE_IPV6, TYPE_VLAN, TYPE_QINQ, TYPE_QINQ_OLD = 0x0800, 0x86DD, 0x8100, 0x88A8, 0x9100
UDP = 17

SECTION, INTERFACE, OLD_PACKET, SIMPLE_PACKET, STATISTICS, ENHANCED_PACKET = 0x0A0D0D0A, 1, 2, 3, 5, 6
"""Block types of pcapng."""

STALE = int(BookState.STALE)
PACKETS = offset_of(feed_counters_dtype, "packets_a")

interface_dtype = layout("capture_interface", 64, [
    ("link", "i8"),                               # link type
    ("mult", "i8"),                               # ns = stamp * mult / div, for decimal units
    ("div", "i8"),
    ("shift", "i8"),                              # > 0: units of 2**-shift seconds instead
    ("offset_ns", "i8"),                          # added to every stamp
    ("snap", "i8"),                               # bytes kept of a frame; 0: all
    ("frames", "i8"),
    ("drops", "i8"),                              # packets the capturing program says it lost
])  # fmt: skip

destination_dtype = layout("capture_destination", 64, [
    ("ip", "i8"),                                 # as a number, first byte the highest
    ("port", "i8"),
    ("packets", "i8"),
    ("bytes", "i8"),                              # UDP payload
    ("line", "i8"),                               # LINE_…; OPEN; REFUSED
    ("session_a", "i8"),                          # of the first sound packet
    ("session_b", "i8"),
    ("unsound", "i8"),                            # packets that are no MoldUDP64, while OPEN
])  # fmt: skip

wanted_dtype = layout("capture_wanted", 32, [
    ("ip", "i8"),                                 # 0: any
    ("port", "i8"),                               # 0: any
    ("line", "i8"),
    ("pad0", "i8"),
])  # fmt: skip

capture_dtype = layout("capture", 384, [
    ("at", "i8"),                                 # address of the next record
    ("end", "i8"),                                # address after the last byte in the buffer
    ("format", "i8"),                             # PCAP or PCAPNG
    ("swapped", "i8"),                            # 1: numbers are in the other byte order
    ("interfaces", span_dtype),                   # interface_dtype; pcap: one row
    ("destinations", span_dtype),                 # destination_dtype
    ("used", "i8"),                               # rows of it
    ("recent", "i8"),                             # row of the last packet
    ("wanted", span_dtype),                       # wanted_dtype; empty: lines are found by what they carry
    ("found", "i8"),                              # lines found so far
    ("now", "i8"),                                # stamp of the last frame, ns UTC
    ("first", "i8"),                              # of the first; 0: none yet
    ("until", "i8"),                              # frames stamped later wait
    ("messages_until", "i8"),                     # stop once the feed has applied so many
    ("drained", "i8"),                            # events of the ring that were taken out
    # every frame counts once
    ("frames", "i8"),
    ("packets", "i8"),                            # handed to the feed
    ("other_lines", "i8"),                        # UDP to a destination that is none of ours
    ("not_ip", "i8"),
    ("ipv6", "i8"),
    ("not_udp", "i8"),
    ("fragments", "i8"),
    ("truncated", "i8"),                          # the capture kept too little of the frame
    ("malformed", "i8"),                          # lengths of IP or UDP that make no sense
    ("too_long", "i8"),                           # a payload longer than the feed takes
    ("unknown_links", "i8"),                      # a link type that is not read
    # and beside that
    ("bytes", "i8"),                              # of the frames kept
    ("vlan", "i8"),                               # frames with a VLAN tag
    ("backwards", "i8"),                          # frames stamped before their predecessor
    ("blocks_skipped", "i8"),                     # pcapng blocks of other kinds
    ("stampless", "i8"),                          # frames without a stamp: they got their predecessor's
    ("drops", "i8"),                              # packets that the capturing program says it lost
    ("forgotten", "i8"),                          # destinations, none of ours, whose rows others got
    ("pad", ("i8", (12,))),
])  # fmt: skip

file_dtype = layout("itch_source", 64, [
    ("at", "i8"),                                 # address of the next message's length
    ("end", "i8"),
    ("seq", "i8"),                                # its number
    ("until", "i8"),                              # messages stamped later wait (ns since the venue's midnight)
    ("messages_until", "i8"),
    ("drained", "i8"),
    ("now", "i8"),                                # stamp of the last message
    ("first", "i8"),                              # of the first; 0: none yet
])  # fmt: skip


@leaf
def bump(at, amount):
    """Add to the word at address `at`."""
    store64(at, load64(at) + amount)


@leaf
def number32(capture, at):
    """Return four bytes in the capture's byte order."""
    value = load32(at)
    return swap32(value) if capture.swapped != 0 else value


@leaf
def number16(capture, at):
    """Return two bytes in the capture's byte order."""
    value = load16(at)
    return swap16(value) if capture.swapped != 0 else value


@leaf
def nanoseconds(interface, high, low):
    """Return an interface's stamp, of two halves, as nanoseconds UTC. Its 64 bits are unsigned: units of 10 ** -10 s need all."""
    units, half = (high << 32) | low, (high << 31) | (low >> 1)
    if interface.shift > 0:
        part, shift = units & ((1 << interface.shift) - 1), interface.shift
        if shift > 33:
            part, shift = part >> (shift - 33), 33
        seconds = min(half >> (interface.shift - 1), LATEST // 1_000_000_000)
        return seconds * 1_000_000_000 + ((part * 1_000_000_000) >> shift) + interface.offset_ns
    if interface.div > 1:                                 # a power of ten: even
        return half // max(interface.div >> 1, 1) + interface.offset_ns
    if units < 0 or units > LATEST // max(interface.mult, 1):
        return LATEST
    return units * interface.mult + interface.offset_ns


# ---------------------------------------------------------------- which line


@hot
def is_sound(at, length):
    """Tell whether a payload is a MoldUDP64 packet: lengths and counts add up to the byte."""
    if length < HEADER:
        return False
    high, low = swap32(load32(at + 10)), swap32(load32(at + 14))
    sequence = (high << 32) | low
    count = swap16(load16(at + 18))
    if high > SEQUENCE_MAX >> 32 or sequence == 0 or sequence > SEQUENCE_MAX:
        return False
    if count == HEARTBEAT or count == END_OF_SESSION:
        return length == HEADER
    end = at + length
    at += HEADER
    for _ in range(count):
        if at + 2 > end:
            return False
        at += 2 + swap16(load16(at))
        if at > end:
            return False
    return at == end


@hot
def destination(capture, ip, port):
    """Return the row of a destination, a new one where it was not seen before.

    Where the table is full, the new one takes the place of that with the fewest packets that is no line of ours: however many
    others a capture holds, ours are found in it. -1 where all are lines: a port was asked for, and too many addresses have it.
    """
    rows, wanted = span(capture.destinations), span(capture.wanted)
    for i in range(capture.used):
        found = row(rows, i, destination_dtype)
        if found.ip == ip and found.port == port:
            return i
    place = capture.used
    if place < rows.count:
        capture.used += 1
    else:
        place = -1
        for i in range(rows.count):
            other = row(rows, i, destination_dtype)
            if other.line < 0 and (place < 0 or other.packets < row(rows, place, destination_dtype).packets):
                place = i
        if place < 0:
            return -1
        capture.forgotten += 1
    made = row(rows, place, destination_dtype)
    made.ip = ip
    made.port = port
    made.packets = 0
    made.bytes = 0
    made.unsound = 0
    made.line = OPEN if wanted.count == 0 else REFUSED
    for i in range(wanted.count):
        asked = row(wanted, i, wanted_dtype)
        if made.line < 0 and (asked.ip == 0 or asked.ip == ip) and (asked.port == 0 or asked.port == port):
            made.line = asked.line
    return place


@hot
def look(capture, made, at, length):
    """Find out what a destination carries: line A is the first with MoldUDP64, line B the next of the same session."""
    if not is_sound(at, length):
        made.unsound += 1
        if made.unsound >= TRIES:
            made.line = REFUSED
        return
    header = record_at(at, packet_dtype)
    made.session_a = header.session_a
    made.session_b = header.session_b
    if capture.found == 0:
        made.line = 0
        capture.found = 1
        return
    rows = span(capture.destinations)
    for i in range(capture.used):
        other = row(rows, i, destination_dtype)
        if capture.found == 1 and other.line == 0 and other.session_a == made.session_a and other.session_b == made.session_b:
            made.line = 1
            capture.found = 2
            return
    made.line = REFUSED


# ---------------------------------------------------------------- one frame


@hot
def join(agent, at, length):
    """Begin with a recording's first packet, wherever in the session it stands: what came before is nowhere to be had.

    That is said: the messages are counted as lost, and the books are STALE.
    """
    sequence = swap64(record_at(at, packet_dtype).sequence)
    if sequence > 1 and is_sound(at, length):
        counters = record_at(agent.counters_at, feed_counters_dtype)
        counters.given_up += 1
        counters.lost_messages += sequence - 1
        agent.expected = agent.highest = agent.reached = agent.asked = sequence
        agent.state = STALE


@hot
def packet_in(agent, at, length, line, now):
    """Give the feed one datagram that was received on `line` at `now`; what the passing of time asks for comes first."""
    if agent.behind != 0:
        catch_up(agent, now)
    if agent.session_known == 0 and length >= HEADER:
        join(agent, at, length)
    agent.ts_recv = now
    bump(agent.counters_at + PACKETS + 8 * line, 1)
    handle_packet(agent, at, length, line)


@hot
def play_packets(agent, at, end, now, gap):
    """Give the feed packets that lie from `at` on, each behind its length (i8), on line A and then on line B, `gap` ns apart.

    Returns the time after the last.
    """
    while at < end:
        length = load64(at)
        packet_in(agent, at + 8, length, LINE_A, now)
        packet_in(agent, at + 8, length, LINE_B, now + gap // 2)
        if agent.sink == SINK_RING:
            publish(agent.md)
        now += gap
        at += (8 + length + 7) & -8
    return now


@hot
def settle(agent, now):
    """Do what the passing of time asks for. Called after a packet and, at the end of a capture, until nothing is missing."""
    if agent.behind != 0:
        catch_up(agent, now)
    if agent.sink == SINK_RING:
        publish(agent.md)


@hot
def frame(agent, capture, link, at, kept, full):
    """Read one frame of `full` bytes, of which `kept` lie at address `at`; give its payload to the feed."""
    capture.frames += 1
    capture.bytes += kept
    start, kind = 0, -1
    end = at + kept
    if link == ETHERNET:
        start, kind = 14, 12
    elif link == COOKED:
        start, kind = 16, 14
    elif link == COOKED2:
        start, kind = 20, 0
    elif link == NULL or link == LOOP:
        start = 4
    elif link != RAW and link != RAW_OLD and link != RAW_BSD and link != IPV4 and link != IPV6:
        capture.unknown_links += 1
        return
    if at + start + 1 > end:
        capture.truncated += 1
        return
    ip = at + start
    if kind >= 0:
        ethertype = swap16(load16(at + kind))
        if ethertype == TYPE_VLAN or ethertype == TYPE_QINQ or ethertype == TYPE_QINQ_OLD:
            capture.vlan += 1
        while ethertype == TYPE_VLAN or ethertype == TYPE_QINQ or ethertype == TYPE_QINQ_OLD:
            if ip + 4 > end:
                capture.truncated += 1
                return
            ethertype = swap16(load16(ip + 2))
            ip += 4
        if ethertype == TYPE_IPV6:
            capture.ipv6 += 1
            return
        if ethertype != TYPE_IPV4:
            capture.not_ip += 1
            return
        if ip + 1 > end:
            capture.truncated += 1
            return
    version = load8(ip) >> 4
    if version != 4:
        if version == 6 and kind < 0:
            capture.ipv6 += 1
        elif kind < 0:
            capture.not_ip += 1
        else:
            capture.malformed += 1
        return
    if ip + 20 > end:
        capture.truncated += 1
        return
    size, total = 4 * (load8(ip) & 15), swap16(load16(ip + 2))
    if size < 20 or total < size:
        capture.malformed += 1
        return
    if load8(ip + 9) != UDP:
        capture.not_udp += 1
        return
    if swap16(load16(ip + 6)) & 0x3FFF != 0:          # more fragments, or not the first
        capture.fragments += 1
        return
    udp = ip + size
    if udp + 8 > end:
        capture.truncated += 1
        return
    length = swap16(load16(udp + 4))
    if length < 8 or size + length > total or ip + size + length > at + full:
        capture.malformed += 1
        return
    if udp + length > end:
        capture.truncated += 1
        return
    payload, length = udp + 8, length - 8
    to, port = swap32(load32(ip + 16)), swap16(load16(udp + 2))
    rows = span(capture.destinations)
    place = capture.recent
    if place >= capture.used or row(rows, place, destination_dtype).ip != to or row(rows, place, destination_dtype).port != port:
        place = destination(capture, to, port)
    if place < 0:
        capture.other_lines += 1
        return
    capture.recent = place
    found = row(rows, place, destination_dtype)
    found.packets += 1
    found.bytes += length
    if found.line == OPEN:
        look(capture, found, payload, length)
    if found.line < 0:
        capture.other_lines += 1
    elif length > PACKET_ROOM:
        capture.too_long += 1
    else:
        capture.packets += 1
        packet_in(agent, payload, length, found.line, capture.now)
        settle(agent, capture.now)


# ---------------------------------------------------------------- records and blocks


@leaf
def time_passes(capture, ns):
    """Note a frame's stamp."""
    if capture.first == 0:
        capture.first = ns
    elif ns < capture.now:
        capture.backwards += 1
    capture.now = ns


@leaf
def is_full(agent, drained):
    """Tell whether events must be taken out of the ring before more may come."""
    return agent.sink == SINK_RING and agent.md.tail - drained + min(EVENTS_SPARE, agent.md.mask) > agent.md.mask + 1


@hot
def replay_capture(agent, capture):
    """Walk whole records from capture.at; return why it stopped: NEED, BLOCK, LIMIT, REASON or BROKEN.

    What stopped it, a record that waits or a block for Python, lies at capture.at.
    """
    interfaces = span(capture.interfaces)
    counters = record_at(agent.counters_at, feed_counters_dtype)
    at, end = capture.at, capture.end
    why = NEED
    while why == NEED:
        kind, size, head, which, kept, full, ns = ENHANCED_PACKET, 0, 16, 0, 0, 0, capture.now
        if at + 16 > end and (capture.format == PCAP or at + 12 > end):
            break
        if capture.format == PCAP:
            kept, full = number32(capture, at + 8), number32(capture, at + 12)
            size = 16 + kept
        else:
            kind, size = number32(capture, at), number32(capture, at + 4)
            if kind == SECTION:
                why = BLOCK
                break
            if size < 12 or size & 3 != 0:
                why = BROKEN
                break
        if size > FRAME_MAX:
            why = BROKEN
            break
        if at + size > end:
            break
        if capture.format == PCAPNG and number32(capture, at + size - 4) != size:
            why = BROKEN
            break
        if capture.format == PCAPNG and (kind == INTERFACE or kind == STATISTICS):
            why = BLOCK
            break
        if capture.format == PCAPNG:
            if kind == ENHANCED_PACKET or kind == OLD_PACKET:
                if size < 32:
                    why = BROKEN
                    break
                which = number32(capture, at + 8) if kind == ENHANCED_PACKET else number16(capture, at + 8)
                head, kept, full = 28, number32(capture, at + 20), number32(capture, at + 24)
            elif kind == SIMPLE_PACKET:
                head, full = 12, number32(capture, at + 8)
                kept = min(full, size - 16)
            else:
                capture.blocks_skipped += 1
                at += size
                continue
            if which >= interfaces.count or kept < 0 or head + kept + 4 > size:
                why = BROKEN
                break
        interface = row(interfaces, which, interface_dtype)
        if kind == SIMPLE_PACKET:
            if interface.snap > 0:
                kept = min(kept, interface.snap)
        elif capture.format == PCAP:
            ns = number32(capture, at) * 1_000_000_000 + number32(capture, at + 4) * interface.mult
        else:
            ns = nanoseconds(interface, number32(capture, at + 12), number32(capture, at + 16))
        ns = max(min(ns, LATEST), 0)                      # a stamp of no time on earth must not wait for ever
        if ns > capture.until or counters.messages >= capture.messages_until or is_full(agent, capture.drained):
            why = LIMIT
            break
        if kind == SIMPLE_PACKET:
            capture.stampless += 1
        else:
            time_passes(capture, ns)
        interface.frames += 1
        frame(agent, capture, interface.link, at + head, kept, full)
        at += size
        if agent.reason != 0:
            why = REASON
    capture.at = at
    return why


# ---------------------------------------------------------------- recorded files


@hot
def replay_file(agent, file):
    """Apply framed messages from file.at, each as if it had come in a packet of its own. Returns NEED or LIMIT."""
    counters = record_at(agent.counters_at, feed_counters_dtype)
    at, end = file.at, file.end
    why = NEED
    while at < end:
        length = swap16(load16(at))
        if length >= 11:
            now = stamp(record_at(at + 2, header_dtype))
            if now > file.until:
                why = LIMIT
                break
            if file.first == 0:
                file.first = now
            file.now = now
        if counters.messages >= file.messages_until or is_full(agent, file.drained):
            why = LIMIT
            break
        after = at + 2 + length
        fills(agent, at, after, file.seq, 1)
        apply_one(agent, at, file.seq)
        file.seq += 1
        at = after
        if agent.sink == SINK_RING:
            publish(agent.md)
    file.at = at
    return why


@hot
def run_whole(agent, at, size, seq):
    """Apply framed messages at once; return how many."""
    return apply_run(agent, at, at + size, seq)


