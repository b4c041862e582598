"""A small order entry exchange in plain Python: OUCH 5.0 in, OUCH 5.0 out, by the letter of the specification. No matching: a test
says what trades. It decodes with `struct`, shares no code with hftd, and remembers every sequenced message for replays.
"""

import struct
from dataclasses import dataclass


@dataclass
class Resting:
    """An order as the exchange has it."""

    ref: int
    side: bytes
    qty: int  # liable in all, executed included
    symbol: bytes
    px: int
    tif: bytes
    text: bytes
    number: int
    executed: int = 0
    alive: bool = True

    @property
    def open(self) -> int:
        """Shares outstanding."""
        return self.qty - self.executed if self.alive else 0


class Exchange:
    """Takes client messages with `handle`, appends what it answers to `log`."""

    def __init__(self):
        self.log: list[bytes] = []
        self.inbound: list[bytes] = []
        self.orders: dict[int, Resting] = {}
        self.last_ref = 0
        self.number = 1000
        self.match = 1
        self.clock = 36_000_000_000_000
        self.refuse: dict[int, int] = {}  # ref -> reject reason
        self.mute = False  # take orders and answer nothing
        self.trades: list[tuple[int, bytes, bytes, int, int]] = []

    def say(self, message: bytes) -> None:
        """Append one sequenced message."""
        self.log.append(message)

    def stamp(self) -> bytes:
        """Return the next time stamp."""
        self.clock += 1000
        return struct.pack(">Q", self.clock)

    def handle(self, message: bytes) -> None:
        """Take one message of the client."""
        self.inbound.append(message)
        if self.mute:
            return
        kind = message[:1]
        if kind == b"O":
            self._enter(message)
        elif kind == b"U":
            self._replace(message)
        elif kind == b"X":
            ref, qty = struct.unpack(">II", message[1:9])
            self._cancel(ref, qty)
        elif kind == b"Q":
            self.say(b"Q" + self.stamp() + struct.pack(">I", self.last_ref + 1))

    def _enter(self, message: bytes) -> None:
        ref, side, qty, symbol, px, tif, *_, text, _ = struct.unpack(">I c I 8s Q c c c c c 14s H", message[1:47])
        if ref <= self.last_ref:
            return
        self.last_ref = ref
        if ref in self.refuse:
            self.say(b"J" + self.stamp() + struct.pack(">IH", ref, self.refuse[ref]) + text)
            return
        self.number += 1
        self.orders[ref] = Resting(ref, side, qty, symbol, px, tif, text, self.number)
        self.say(
            b"A" + self.stamp() + struct.pack(">I c I 8s Q c c Q c c c c 14s H", ref, side, qty, symbol, px, tif, b"Y",
                                              self.number, b"P", b"N", b"N", b"L", text, 0)
        )  # fmt: skip

    def _replace(self, message: bytes) -> None:
        orig, ref, qty, px, tif, _, _, text, _ = struct.unpack(">I I I Q c c c 14s H", message[1:40])
        old = self.orders.get(orig)
        if old is None or not old.alive or ref <= self.last_ref:
            return
        if ref in self.refuse:
            self.last_ref = ref
            self.say(b"J" + self.stamp() + struct.pack(">IH", ref, self.refuse[ref]) + text)
            return
        if qty <= old.executed:  # details invalid: the original is cancelled, the number is not used up
            self.cancel(orig)
            return
        self.last_ref = ref
        old.alive = False
        self.number += 1
        new = Resting(ref, old.side, qty, old.symbol, px, tif, text, self.number, executed=old.executed)
        self.orders[ref] = new
        self.say(
            b"U" + self.stamp() + struct.pack(">I I c I 8s Q c c Q c c c c 14s H", orig, ref, new.side, new.open, new.symbol, px,
                                              tif, b"Y", self.number, b"P", b"N", b"N", b"L", text, 0)
        )  # fmt: skip

    def _cancel(self, ref: int, total: int) -> None:
        order = self.orders.get(ref)
        if order is None or not order.alive or total >= order.qty:
            return
        gone = order.qty - max(total, order.executed)
        order.qty -= gone
        if order.qty == order.executed:
            order.alive = False
        self.say(b"C" + self.stamp() + struct.pack(">II", ref, gone) + b"U")

    def cancel(self, ref: int, reason: bytes = b"Z") -> None:
        """The exchange cancels all that is open of an order."""
        order = self.orders[ref]
        if order.alive:
            self.say(b"C" + self.stamp() + struct.pack(">II", ref, order.open) + reason)
            order.alive = False

    def decrement(self, ref: int, qty: int) -> None:
        """The exchange takes `qty` shares off an order (self-match prevention)."""
        order = self.orders[ref]
        order.qty -= qty
        if order.qty == order.executed:
            order.alive = False
        self.say(b"D" + self.stamp() + struct.pack(">I I c I Q c c", ref, qty, b"Q", qty, order.px, b"A", b"D"))

    def fill(self, ref: int, qty: int, px: int | None = None, flag: bytes = b"A") -> int:
        """Trade `qty` shares of an order; return the match number."""
        order = self.orders[ref]
        assert order.alive and qty <= order.open
        order.executed += qty
        if order.open == 0:
            order.alive = False
        self.match += 1
        price = order.px if px is None else px
        self.trades.append((self.match, order.side, order.symbol, qty, price))
        self.say(b"E" + self.stamp() + struct.pack(">IIQcQH", ref, qty, price, flag, self.match, 0))
        return self.match

    def bust(self, ref: int, match: int) -> None:
        """Void a trade."""
        self.say(b"B" + self.stamp() + struct.pack(">IQ", ref, match) + b"E" + self.orders[ref].text)

    def live(self) -> list[int]:
        """Return the refs of the orders that are open."""
        return [ref for ref, order in self.orders.items() if order.alive]
