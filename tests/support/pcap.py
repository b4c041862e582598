"""UDP payloads of a capture, pcap or pcapng of one section: Ethernet, VLAN tags allowed, IPv4."""

import gzip
import struct
from pathlib import Path


def udp_payloads(path: Path) -> list[bytes]:
    """Return the payload of every UDP datagram of a capture, gzip or not."""
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    if raw[:4] == b"\x0a\x0d\x0d\x0a":
        return [data for frame in _blocks(raw) if (data := _payload(frame, 1)) is not None]
    order = "<" if raw[:4] in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1") else ">"
    link = struct.unpack_from(order + "I", raw, 20)[0]
    assert link in (1, 113), f"link type {link}"
    at, found = 24, []
    while at < len(raw):
        held = struct.unpack_from(order + "I", raw, at + 8)[0]
        frame = raw[at + 16 : at + 16 + held]
        at += 16 + held
        data = _payload(frame, link)
        if data is not None:
            found.append(data)
    return found


def _blocks(raw: bytes):
    """Yield the frames of a pcapng file's enhanced packet blocks."""
    order = "<" if raw[8:12] == b"\x4d\x3c\x2b\x1a" else ">"
    at = 0
    while at < len(raw):
        kind, length = struct.unpack_from(order + "II", raw, at)
        if kind == 1:
            assert struct.unpack_from(order + "H", raw, at + 8)[0] == 1, "link type"
        elif kind == 6:
            held = struct.unpack_from(order + "I", raw, at + 20)[0]
            yield raw[at + 28 : at + 28 + held]
        at += length


def _payload(frame: bytes, link: int) -> bytes | None:
    """Return the UDP payload of a frame, or None where it has none."""
    ethertype = 12 if link == 1 else 14
    while frame[ethertype : ethertype + 2] == b"\x81\x00":
        ethertype += 4
    ip = ethertype + 2
    if frame[ethertype : ethertype + 2] != b"\x08\x00" or frame[ip + 9] != 17:
        return None
    udp = ip + 4 * (frame[ip] & 15)
    length = struct.unpack_from(">H", frame, udp + 4)[0]
    return frame[udp + 8 : udp + length]
