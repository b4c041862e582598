"""Captures made byte by byte from the formats' descriptions, apart from hftd's own reader and writer."""

import struct

ETHERNET, NULL, RAW, RAW_BSD, COOKED, IPV4, COOKED2 = 1, 0, 101, 12, 113, 228, 276
GROUP, PORT = "239.1.2.3", 4000


def ip_bytes(text: str) -> bytes:
    return bytes(int(part) for part in text.split("."))


def udp(payload: bytes, to: str = GROUP, port: int = PORT, fragment: int = 0, options: int = 0, protocol: int = 17) -> bytes:
    """An IPv4 packet with a UDP datagram. fragment: the flags and offset field; options: words of IP options."""
    body = struct.pack(">HHHH", 5000, port, 8 + len(payload), 0) + payload
    head = struct.pack(">BBHHHBBH", 0x45 + options, 0, 20 + 4 * options + len(body), 7, fragment, 16, protocol, 0)
    return head + ip_bytes("10.0.0.1") + ip_bytes(to) + bytes(4 * options) + body


def framed(packet: bytes, link: int = ETHERNET, tags: tuple[int, ...] = (), ethertype: int = 0x0800) -> bytes:
    """A link layer frame around an IP packet. tags: the tag protocol of each VLAN tag, outermost first."""
    if link in (RAW, RAW_BSD, IPV4):
        return packet
    if link == NULL:
        return struct.pack("<I", 2) + packet
    kinds = [*tags, ethertype]
    tagged = struct.pack(">H", kinds[0]) + b"".join(struct.pack(">HH", 100, kind) for kind in kinds[1:])
    if link == COOKED:
        return struct.pack(">HHH8s", 0, 1, 6, bytes(8)) + tagged + packet
    if link == COOKED2:
        assert not tags
        return struct.pack(">HHIHBB8s", ethertype, 0, 1, 1, 0, 6, bytes(8)) + packet
    return bytes.fromhex("01005e010203020000000001") + tagged + packet


def pcap(frames: list[tuple[int, bytes]], order: str = "<", nano: bool = True, link: int = ETHERNET, snap: int = 65535) -> bytes:
    """A pcap file of (ns, frame)."""
    made = struct.pack(order + "IHHiIII", 0xA1B23C4D if nano else 0xA1B2C3D4, 2, 4, 0, 0, snap, link)
    for ns, frame in frames:
        part = ns % 10**9
        kept = frame[:snap]
        made += struct.pack(order + "IIII", ns // 10**9, part if nano else part // 1000, len(kept), len(frame)) + kept
    return made


def block(order: str, kind: int, body: bytes) -> bytes:
    """A pcapng block."""
    body += bytes(-len(body) % 4)
    return struct.pack(order + "II", kind, len(body) + 12) + body + struct.pack(order + "I", len(body) + 12)


def section(order: str = "<") -> bytes:
    """A pcapng section header."""
    return block(order, 0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1))


def interface(order: str = "<", link: int = ETHERNET, resolution: int | None = 9, offset: int = 0, snap: int = 0) -> bytes:
    """A pcapng interface. resolution: if_tsresol; None: left out (microseconds)."""
    options = b"" if resolution is None else struct.pack(order + "HHB3x", 9, 1, resolution)
    if offset:
        options += struct.pack(order + "HHq", 14, 8, offset)
    if options:
        options += struct.pack(order + "HH", 0, 0)
    return block(order, 1, struct.pack(order + "HHI", link, 0, snap) + options)


def enhanced(frame: bytes, units: int, order: str = "<", which: int = 0, full: int | None = None) -> bytes:
    """A pcapng packet of an interface, stamped in its units."""
    head = struct.pack(order + "IIIII", which, units >> 32, units & 0xFFFFFFFF, len(frame), len(frame) if full is None else full)
    return block(order, 6, head + frame)


def simple(frame: bytes, order: str = "<") -> bytes:
    """A pcapng packet without a stamp."""
    return block(order, 3, struct.pack(order + "I", len(frame)) + frame)


def pcapng(frames: list[tuple[int, bytes]], order: str = "<", link: int = ETHERNET) -> bytes:
    """A pcapng file of (ns, frame), one interface, nanoseconds."""
    return section(order) + interface(order, link) + b"".join(enhanced(frame, ns, order) for ns, frame in frames)
