"""A small market and a patient venue, for rehearsing: packets as the exchange sends them, and answers to orders. Cold.

    MarketTape    one symbol: `opening()`, then `round()` again and again: every message that changes a book, and a book that ends
                  as it began, so that it can go on for ever
    PaperVenue    answers OUCH by the order's quantity: accepts, fills, fills in part, rejects; replaces and cancels as asked

Both only make bytes. Where they go is the caller's business, and it is never a network (`control/rehearsal.py`).
"""

import struct

PX = 100_0000
"""$100: the middle of the market."""

TICK = 100
LEVELS = 5
PART, WHOLE, REJECT, REST = 100, 200, 300, 400
"""Quantities by which PaperVenue knows what to do: fill 40 of it, all of it, refuse it, let it rest; any other: fill all of it."""

PARTLY = 40


class MarketTape:
    """Packets of one symbol's market, in sequence."""

    def __init__(self, symbol: str, session: str = "REHEARSAL1"):
        self.symbol, self.session = symbol.encode().ljust(8), session.encode().ljust(10)
        self.sequence, self.reference, self.match, self.ns = 1, 1, 1, 34_200_000_000_000

    def _message(self, kind: str, body: bytes, locate: int = 1) -> bytes:
        self.ns += 1000
        return kind.encode() + struct.pack(">HH", locate, 0) + self.ns.to_bytes(6, "big") + body

    def _add(self, side: str, px: int, shares: int = 100) -> bytes:
        self.reference += 1
        return self._message("A", struct.pack(">Q1sI8sI", self.reference, side.encode(), shares, self.symbol, px))

    def packet(self, *messages: bytes) -> bytes:
        """Return a MoldUDP64 packet of these messages."""
        head = self.session + struct.pack(">QH", self.sequence, len(messages))
        self.sequence += len(messages)
        return head + b"".join(struct.pack(">H", len(one)) + one for one in messages)

    def opening(self) -> bytes:
        """Return the packet that announces the symbol, lets it trade, and gives it LEVELS levels on each side."""
        directory = self.symbol + b"QN" + struct.pack(">I", 100) + b"NC  PN 1N" + struct.pack(">I", 0) + b"N"
        messages = [self._message("S", b"Q", 0), self._message("R", directory), self._message("H", self.symbol + b"T     ")]
        for depth in range(1, LEVELS + 1):
            messages += [self._add("B", PX - depth * TICK, 500), self._add("S", PX + depth * TICK, 500)]
        return self.packet(*messages)

    def better(self) -> bytes:
        """Return the packet that makes the best bid better by a level, right below the best offer."""
        return self.packet(self._add("B", PX))

    def worse(self) -> bytes:
        """Return the packet that takes it back."""
        return self.packet(self._message("D", struct.pack(">Q", self.reference)))

    def round(self) -> list[bytes]:
        """Return the packets of one round: added, reduced, executed, replaced, deleted on both sides, and a hidden print."""
        made = []
        for side, px in (("B", PX), ("S", PX + TICK)):
            made.append(self.packet(self._add(side, px)))
            first = self.reference
            made.append(self.packet(self._message("X", struct.pack(">QI", first, 10))))
            self.match += 1
            made.append(self.packet(self._message("E", struct.pack(">QIQ", first, 20, self.match))))
            self.reference += 1
            away = px - TICK if side == "B" else px + TICK
            made.append(self.packet(self._message("U", struct.pack(">QQII", first, self.reference, 60, away))))
            second = self._add(side, px)
            made.append(self.packet(second, self._message("D", struct.pack(">Q", self.reference - 1))))
            made.append(self.packet(self._message("D", struct.pack(">Q", self.reference))))
        self.match += 1
        made.append(self.packet(self._message("P", struct.pack(">QcI8sIQ", 0, b"B", 100, self.symbol, PX, self.match))))
        return made


class PaperVenue:
    """Answers the OUCH messages in a SoupBinTCP stream, each at once. Counts what it saw."""

    def __init__(self):
        self.rest = b""
        self.match = self.reference = 1
        self.open: dict[int, list] = {}  # UserRefNum -> [shares left, px, side, qty and symbol as entered, executed]
        self.seen = {"enter": 0, "replace": 0, "cancel": 0}

    def answer(self, data: bytes) -> bytes:
        """Return what the venue says to `data`, which may end in the middle of a packet."""
        self.rest += data
        said = b""
        while len(self.rest) >= 3 and len(self.rest) >= (size := 2 + int.from_bytes(self.rest[:2], "big")):
            kind, message, self.rest = self.rest[2:3], self.rest[3:size], self.rest[size:]
            if kind == b"U":
                for one in self._handle(message):
                    said += struct.pack(">H", len(one) + 1) + b"S" + one
        return said

    def _handle(self, message: bytes) -> list[bytes]:
        kind = message[:1]
        if kind == b"O":
            self.seen["enter"] += 1
            return self._enter(message)
        if kind == b"U":
            self.seen["replace"] += 1
            return self._replace(message)
        if kind == b"X":
            self.seen["cancel"] += 1
            ref = int.from_bytes(message[1:5], "big")
            held = self.open.pop(ref, None)
            return [self._head(b"C", ref) + struct.pack(">IB", held[0], ord("U"))] if held else []
        return []

    def _head(self, kind: bytes, ref: int) -> bytes:
        return kind + struct.pack(">QI", self.match, ref)

    def _enter(self, message: bytes) -> list[bytes]:
        ref = int.from_bytes(message[1:5], "big")
        side_to_symbol = message[5:18]
        qty, px = int.from_bytes(message[6:10], "big"), int.from_bytes(message[18:26], "big")
        text = message[31:45]
        if qty == REJECT:
            return [self._head(b"J", ref) + struct.pack(">H", 1) + text]
        self.reference += 1
        number = struct.pack(">Q", self.reference)
        accepted = self._head(b"A", ref) + side_to_symbol + message[18:28] + number + message[28:31] + b"L" + text + b"\0\0"
        self.open[ref] = [qty, px, side_to_symbol, 0]
        return [accepted, *self._fill(ref, {PART: PARTLY, REST: 0}.get(qty, qty))]

    def _fill(self, ref: int, shares: int) -> list[bytes]:
        if not shares:
            return []
        held = self.open[ref]
        held[0] -= shares
        held[3] += shares
        if not held[0]:
            del self.open[ref]
        self.match += 1
        return [self._head(b"E", ref) + struct.pack(">IQ1sQH", shares, held[1], b"R", self.match, 0)]

    def _replace(self, message: bytes) -> list[bytes]:
        first, ref, qty, px = struct.unpack(">IIIQ", message[1:21])
        held = self.open.pop(first, None)
        if held is None:
            return []
        self.reference += 1
        left = max(qty - held[3], 1)
        self.open[ref] = [left, px, held[2], held[3]]
        return [b"U" + struct.pack(">QII", self.match, first, ref) + held[2][:1] + struct.pack(">I", left) + held[2][5:13]
                + struct.pack(">Q", px) + message[21:23] + struct.pack(">Q", self.reference) + b"P" + message[23:24] + b"N" + b"L"
                + message[24:38] + b"\0\0"]  # fmt: skip
