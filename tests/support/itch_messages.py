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


def directory(locate: int, symbol: str, ts: int = 1, lot: int = 100, test: bool = False, lots_only: str = "N") -> bytes:
    """R."""
    return (_head("R", locate, ts) + _stock(symbol) + b"QN" + struct.pack(">I", lot) + lots_only.encode() + b"CZ "
            + (b"T" if test else b"P") + b"NN1N" + struct.pack(">I", 0) + b"N")  # fmt: skip


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


def cross(locate: int, shares: int, px: int, match: int = 1, symbol: str = "AAPL", ts: int = 1, kind: str = "O") -> bytes:
    """Q."""
    return _head("Q", locate, ts) + struct.pack(">Q", shares) + _stock(symbol) + struct.pack(">IQ", px, match) + kind.encode()


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


def imbalance(locate: int, paired: int, shares: int, direction: str, near: int, symbol: str = "AAPL", ts: int = 1,
              far: int = 0, reference: int = 0, kind: str = "O", variation: str = " ") -> bytes:  # fmt: skip
    """I."""
    return (_head("I", locate, ts) + struct.pack(">QQ", paired, shares) + direction.encode() + _stock(symbol)
            + struct.pack(">III", far, near, reference) + kind.encode() + variation.encode())  # fmt: skip


def collar(locate: int, middle: int, low: int, high: int, extension: int = 0, symbol: str = "AAPL", ts: int = 1) -> bytes:
    """J."""
    return _head("J", locate, ts) + _stock(symbol) + struct.pack(">IIII", middle, high, low, extension)


def ipo(locate: int, seconds: int, qualifier: str, px: int, symbol: str = "AAPL", ts: int = 1) -> bytes:
    """K."""
    return _head("K", locate, ts) + _stock(symbol) + struct.pack(">I", seconds) + qualifier.encode() + struct.pack(">I", px)


def retail(locate: int, interest: str, symbol: str = "AAPL", ts: int = 1) -> bytes:
    """N."""
    return _head("N", locate, ts) + _stock(symbol) + interest.encode()


def listing(locate: int, opens: str, least: int, most: int, near: int, when: int, low: int, high: int, symbol: str = "AAPL",
            ts: int = 1) -> bytes:  # fmt: skip
    """O."""
    return (_head("O", locate, ts) + _stock(symbol) + opens.encode() + struct.pack(">III", least, most, near)
            + struct.pack(">QII", when, low, high))  # fmt: skip


def participant(locate: int, mpid: str, primary: str, mode: str, state: str, symbol: str = "AAPL", ts: int = 1) -> bytes:
    """L."""
    return _head("L", locate, ts) + mpid.encode().ljust(4) + _stock(symbol) + (primary + mode + state).encode()


def breaker_levels(first: int, second: int, third: int, ts: int = 1) -> bytes:
    """V: levels times 10**8."""
    return _head("V", 0, ts) + struct.pack(">QQQ", first, second, third)


def breach(level: str, ts: int = 1) -> bytes:
    """W."""
    return _head("W", 0, ts) + level.encode()


def system(code: str, ts: int = 1) -> bytes:
    """S."""
    return _head("S", 0, ts) + code.encode()


def others(locate: int, symbol: str = "AAPL") -> list[bytes]:
    """One of each message that only tells something: L V W(breach 1) K J N O."""
    return [
        participant(locate, "ABCD", "Y", "N", "A", symbol), breaker_levels(1, 2, 3), breach("1"),
        ipo(0, 34200, "A", 100_000, symbol),
        collar(locate, 2, 1, 3, 4, symbol), retail(locate, "A", symbol), listing(locate, "Y", 1, 2, 3, 4, 5, 6, symbol),
    ]
