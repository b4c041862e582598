"""MoldUDP64 1.00: sequenced messages over multicast, and requests for what was missed.

    downstream packet   session 10 | sequence of the first message 8 | message count 2 | count times: length 2, message
    request packet      session 10 | first wanted 8 | count wanted 2

Count 0 is a heartbeat (the sequence is the next expected), 0xFFFF the end of the session. All numbers are big-endian.
"""

from hftd.core.layout import packed

packet_dtype = packed("packet", 20, [
    ("session_a", "i8"), ("session_b", "u2"), ("sequence", "i8"), ("count", "u2"),
])  # fmt: skip
"""Header of a downstream packet, and the whole of a request. The ten bytes of the session as an i8 and a u2, unswapped."""

HEADER = packet_dtype.itemsize
HEARTBEAT = 0
END_OF_SESSION = 0xFFFF
PAYLOAD_MAX = 1400
"""Bytes a sender of ours puts into one datagram, header included: one MTU, with room for tunnels."""


def session_to_ints(session: str) -> tuple[int, int]:
    """Return a session's ten bytes as (session_a, session_b), as they lie on the wire. Raises ValueError over 10 characters."""
    raw = session.encode("ascii").ljust(10)
    if len(raw) != 10:
        raise ValueError(f"MoldUDP64 session {session!r} is longer than 10 characters")
    return int.from_bytes(raw[:8], "little", signed=True), int.from_bytes(raw[8:], "little")


def session_to_text(a: int, b: int) -> str:
    """Return a session's name from its wire integers."""
    return (int(a).to_bytes(8, "little", signed=True) + int(b).to_bytes(2, "little")).decode("ascii", "replace").strip()
