"""ITCH 5.0 messages as bytes, written with struct from the specification's tables, apart from hftd's own layouts."""

import struct


def _head(kind: str, locate: int, ts: int) -> bytes:
    return kind.encode() + struct.pack(">HH", locate, 0) + ts.to_bytes(6, "big")


def _stock(symbol: str) -> bytes:
    return symbol.encode().ljust(8)


def framed(*messages: bytes) -> bytes:
    """Return messages with their two bytes of length each."""
    return b"".join(struct.pack(">H", len(message)) + message for message in messages)


def packet(session: str, sequence: int, *messages: bytes) -> bytes:
    """Return a MoldUDP64 downstream packet."""
    return session.encode().ljust(10) + struct.pack(">QH", sequence, len(messages)) + framed(*messages)


def directory(locate: int, symbol: str, ts: int = 1, lot: int = 100, test: bool = False) -> bytes:
    """R."""
    return (_head("R", locate, ts) + _stock(symbol) + b"QN" + struct.pack(">I", lot) + b"NCZ " + (b"T" if test else b"P")
            + b"NN1N" + struct.pack(">I", 0) + b"N")  # fmt: skip


def add(locate: int, ref: int, side: str, shares: int, px: int, symbol: str = "AAPL", ts: int = 1, mpid: str = "") -> bytes:
    """A, or F with an MPID."""
    body = struct.pack(">Q", ref) + side.encode() + struct.pack(">I", shares) + _stock(symbol) + struct.pack(">I", px)
    return _head("F" if mpid else "A", locate, ts) + body + mpid.encode()


def executed(locate: int, ref: int, shares: int, match: int = 1, ts: int = 1) -> bytes:
    """E."""
    return _head("E", locate, ts) + struct.pack(">QIQ", ref, shares, match)


def executed_at(locate: int, ref: int, shares: int, px: int, printable: bool = True, match: int = 1, ts: int = 1) -> bytes:
    """C."""
    return _head("C", locate, ts) + struct.pack(">QIQ", ref, shares, match) + (b"Y" if printable else b"N") + struct.pack(">I", px)


def cancel(locate: int, ref: int, shares: int, ts: int = 1) -> bytes:
    """X."""
    return _head("X", locate, ts) + struct.pack(">QI", ref, shares)


def delete(locate: int, ref: int, ts: int = 1) -> bytes:
    """D."""
    return _head("D", locate, ts) + struct.pack(">Q", ref)


def replace(locate: int, ref: int, new_ref: int, shares: int, px: int, ts: int = 1) -> bytes:
    """U."""
    return _head("U", locate, ts) + struct.pack(">QQII", ref, new_ref, shares, px)


def trade(locate: int, shares: int, px: int, match: int = 1, symbol: str = "AAPL", ts: int = 1) -> bytes:
    """P."""
    head = _head("P", locate, ts) + struct.pack(">Q", 0) + b"B"
    return head + struct.pack(">I", shares) + _stock(symbol) + struct.pack(">IQ", px, match)


def cross(locate: int, shares: int, px: int, match: int = 1, symbol: str = "AAPL", ts: int = 1) -> bytes:
    """Q."""
    return _head("Q", locate, ts) + struct.pack(">Q", shares) + _stock(symbol) + struct.pack(">IQ", px, match) + b"O"


def broken(locate: int, match: int, ts: int = 1) -> bytes:
    """B."""
    return _head("B", locate, ts) + struct.pack(">Q", match)


def action(locate: int, state: str, reason: str = "", symbol: str = "AAPL", ts: int = 1) -> bytes:
    """H."""
    return _head("H", locate, ts) + _stock(symbol) + state.encode() + b" " + reason.encode().ljust(4)


def operational(locate: int, market: str, what: str, symbol: str = "AAPL", ts: int = 1) -> bytes:
    """h."""
    return _head("h", locate, ts) + _stock(symbol) + market.encode() + what.encode()


def reg_sho(locate: int, what: str, symbol: str = "AAPL", ts: int = 1) -> bytes:
    """Y."""
    return _head("Y", locate, ts) + _stock(symbol) + what.encode()


def imbalance(locate: int, paired: int, shares: int, direction: str, near: int, symbol: str = "AAPL", ts: int = 1) -> bytes:
    """I."""
    return (_head("I", locate, ts) + struct.pack(">QQ", paired, shares) + direction.encode() + _stock(symbol)
            + struct.pack(">III", near, near, near) + b"O ")  # fmt: skip


def system(code: str, ts: int = 1) -> bytes:
    """S."""
    return _head("S", 0, ts) + code.encode()


def others(locate: int, symbol: str = "AAPL") -> list[bytes]:
    """One of each message that touches no book and causes no event: L V W(breach 1) K J N O."""
    return [
        _head("L", locate, 1) + b"ABCD" + _stock(symbol) + b"YNA",
        _head("V", 0, 1) + struct.pack(">QQQ", 1, 2, 3),
        _head("W", 0, 1) + b"1",
        _head("K", 0, 1) + _stock(symbol) + struct.pack(">I", 34200) + b"A" + struct.pack(">I", 100000),
        _head("J", locate, 1) + _stock(symbol) + struct.pack(">IIII", 1, 2, 3, 4),
        _head("N", locate, 1) + _stock(symbol) + b"A",
        _head("O", locate, 1) + _stock(symbol) + b"Y" + struct.pack(">IIIQII", 1, 2, 3, 4, 5, 6),
    ]
