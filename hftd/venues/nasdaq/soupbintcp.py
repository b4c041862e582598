"""SoupBinTCP 3.00: log-in, heartbeats and sequenced messages over TCP.

    packet   length 2 (of what follows) | type 1 | payload

The first sequenced message of a session is number 1 and nothing carries the number: the client counts. A heartbeat is due
whenever a side has sent nothing for a second; silence for several seconds means the other is gone.
"""

from hftd.core.layout import packed

packet_dtype = packed("soup_packet", 3, [("length", "u2"), ("type", "u1")])

HEADER = 3
DEBUG, LOGIN_ACCEPTED, LOGIN_REJECTED, SEQUENCED, SERVER_HEARTBEAT, END_OF_SESSION = (ord(c) for c in "+AJSHZ")
LOGIN_REQUEST, UNSEQUENCED, CLIENT_HEARTBEAT, LOGOUT_REQUEST = (ord(c) for c in "LURO")

LOGIN_REQUEST_SIZE, LOGIN_ACCEPTED_SIZE, LOGIN_REJECTED_SIZE = 49, 33, 4
HEARTBEAT_NS = 1_000_000_000
PACKET_MAX = 2 + 0xFFFF

REJECT_TEXT = {"A": "not authorised: wrong username or password", "S": "the requested session is not available"}


def login_request(username: str, password: str, session: str = "", sequence: int = 1) -> bytes:
    """Return a Login Request packet. sequence: next number wanted, 0 for the newest. Raises ValueError on over-long text."""
    for name, text, width in (("username", username, 6), ("password", password, 10), ("session", session, 10)):
        if len(text.encode("ascii")) > width:
            raise ValueError(f"SoupBinTCP {name} is longer than {width} characters")
    body = f"{username:<6}{password:<10}{session:<10}{sequence:>20}".encode("ascii")
    return (len(body) + 1).to_bytes(2, "big") + b"L" + body


def login_accepted(session: str, sequence: int) -> bytes:
    """Return a Login Accepted packet; numbers are padded on the left."""
    body = f"{session:>10}{sequence:>20}".encode("ascii")
    return (len(body) + 1).to_bytes(2, "big") + b"A" + body


def login_rejected(reason: str) -> bytes:
    """Return a Login Rejected packet; reason 'A' not authorised, 'S' session not available."""
    return b"\x00\x02J" + reason.encode("ascii")


def empty(kind: int) -> bytes:
    """Return a packet without payload: heartbeats, end of session, logout."""
    return b"\x00\x01" + bytes([kind])


def parse_login_accepted(payload: bytes) -> tuple[str, int]:
    """Return (session, next sequence) of a Login Accepted payload (30 bytes), padding on either side stripped."""
    if len(payload) != 30:
        raise ValueError(f"Login Accepted must carry 30 bytes, had {len(payload)}")
    return payload[:10].decode("ascii", "replace").strip(), int(payload[10:].decode("ascii", "replace").strip() or "0")


def parse_login_request(payload: bytes) -> tuple[str, str, str, int]:
    """Return (username, password, session, sequence) of a Login Request payload (46 bytes, or 51 in version 4.10)."""
    if len(payload) not in (46, 51):
        raise ValueError(f"Login Request must carry 46 bytes, had {len(payload)}")
    text = payload.decode("ascii", "replace")
    return text[:6].strip(), text[6:16].strip(), text[16:26].strip(), int(text[26:46].strip() or "0")
