"""A desk at the exchange for tests: the engine without sockets, OUCH bytes in, tuples out, decoded here with struct."""

import struct

import numpy as np

from hftd.core import clock as clocks
from hftd.sim.exchange import Exchange
from hftd.sim.loop import MARGIN, MARGIN_ROWS, cycle
from hftd.sim.options import Options
from hftd.sim.replay import history
from hftd.sim.session import act


def play(exchange: Exchange, limit: float = 60.0) -> Exchange:
    """Let the flow run to its end, as fast as possible."""
    exchange.start_flow()
    slices = 0
    while not exchange.x["done"]:
        cycle(exchange.x, clocks.now_ticks() + exchange.ticks(0.02))
        exchange.grow(MARGIN, MARGIN_ROWS)
        slices += 1
        assert slices < limit / 0.02, "the flow does not end"
    return exchange


def framed(exchange: Exchange) -> bytes:
    """All that the exchange published, in BinaryFILE framing."""
    return exchange.tape.store.bytes(0, int(exchange.x["tape"]["tail"]))


def messages(exchange: Exchange, first: int = 1) -> list[bytes]:
    """The messages published from number `first` on."""
    return [exchange.tape.message(number)[2:] for number in range(first, len(exchange.tape) + 1)]


def itch_tuple(raw: bytes) -> tuple:
    """An order message as (type, ref, …); any other as its bytes."""
    kind, ref = chr(raw[0]), struct.unpack_from(">Q", raw, 11)[0] if len(raw) >= 19 else 0
    if kind in "AF":
        side, shares = struct.unpack_from(">BI", raw, 19)
        return "A", ref, "BS".index(chr(side)), shares, struct.unpack_from(">I", raw, 32)[0]
    if kind in "EC":
        return kind, ref, *struct.unpack_from(">IQ", raw, 19)
    if kind == "X":
        return kind, ref, struct.unpack_from(">I", raw, 19)[0]
    if kind == "D":
        return kind, ref
    if kind == "U":
        return kind, ref, *struct.unpack_from(">QII", raw, 19)
    return kind, raw


def ouch_tuple(raw: bytes) -> tuple:
    """An OUCH response as a tuple, its stamp left out."""
    kind = chr(raw[0])
    if kind == "A":
        (user_ref,) = struct.unpack_from(">I", raw, 9)
        (qty,) = struct.unpack_from(">I", raw, 14)
        return kind, user_ref, qty, struct.unpack_from(">Q", raw, 36)[0], struct.unpack_from(">Q", raw, 26)[0]
    if kind == "U":
        orig, user_ref = struct.unpack_from(">II", raw, 9)
        (qty,) = struct.unpack_from(">I", raw, 18)
        return kind, orig, user_ref, qty, struct.unpack_from(">Q", raw, 40)[0], struct.unpack_from(">Q", raw, 30)[0]
    if kind == "C":
        user_ref, qty, reason = struct.unpack_from(">IIc", raw, 9)
        return kind, user_ref, qty, reason.decode()
    if kind == "E":
        user_ref, qty, px, flag, match = struct.unpack_from(">IIQcQ", raw, 9)
        return kind, user_ref, qty, px, flag.decode(), match
    if kind == "J":
        return kind, *struct.unpack_from(">IH", raw, 9)
    if kind == "M":
        user_ref, side, qty = struct.unpack_from(">IcI", raw, 9)
        return kind, user_ref, side.decode(), qty
    if kind == "Q":
        return kind, struct.unpack_from(">I", raw, 9)[0]
    return kind, raw[9:]


def enter(user_ref: int, side: str, qty: int, px: int, symbol: str = "ALFA", tif: str = "0", display: str = "Y",
          cross: str = "N", appendage: bytes = b"") -> bytes:  # fmt: skip
    """An Enter Order."""
    return (b"O" + struct.pack(">IcI", user_ref, side.encode(), qty) + symbol.encode().ljust(8) + struct.pack(">Q", px)
            + f"{tif}{display}PN{cross}".encode() + b"%014d" % user_ref
            + struct.pack(">H", len(appendage)) + appendage)  # fmt: skip


def replace(orig: int, user_ref: int, qty: int, px: int, tif: str = "0", appendage: bytes = b"") -> bytes:
    """A Replace Order."""
    return (b"U" + struct.pack(">IIIQ", orig, user_ref, qty, px) + f"{tif}YN".encode() + b"%014d" % user_ref
            + struct.pack(">H", len(appendage)) + appendage)  # fmt: skip


def cancel(user_ref: int, total: int = 0) -> bytes:
    """A Cancel Order."""
    return b"X" + struct.pack(">II", user_ref, total)


def modify(user_ref: int, side: str, total: int) -> bytes:
    """A Modify Order."""
    return b"M" + struct.pack(">IcI", user_ref, side.encode(), total)


POST_ONLY = b"\x02\x0cP"


class Desk:
    """An exchange with one or more accounts that nobody has connected to."""

    def __init__(self, accounts: int = 1, exchange: Exchange | None = None, **options):
        self.exchange = exchange or Exchange(Options(fast=True, **options))
        self.x = self.exchange.x
        self.numbers = [self.exchange.account(f"ACC{k}") for k in range(accounts)]
        self.read = dict.fromkeys(self.numbers, 1)  # the start-of-day event is passed over
        self.published = len(self.exchange.tape)
        self._bytes = np.zeros(256, np.uint8)

    def open(self, symbol: str = "ALFA", locate: int = 1) -> "Desk":
        """Announce a symbol and let it trade."""
        stamp = b"\0" * 8
        self.history(b"R" + locate.to_bytes(2, "big") + stamp + symbol.encode().ljust(8) + b"\0" * 20)
        self.history(b"H" + locate.to_bytes(2, "big") + stamp + symbol.encode().ljust(8) + b"T     ")
        self.tape()
        return self

    def _at(self, raw: bytes) -> int:
        self._bytes[: len(raw)] = np.frombuffer(raw, np.uint8)
        return self._bytes.ctypes.data

    def send(self, raw: bytes, account: int = 0) -> list[tuple]:
        """One OUCH message of an account; returns what that account was told."""
        self.give(raw, account)
        return self.told(account)

    def give(self, raw: bytes, account: int = 0) -> None:
        """One OUCH message of an account; the answers wait for `told`."""
        act(self.x, self.numbers[account], self._at(raw), len(raw))

    def history(self, raw: bytes) -> None:
        """One message of history."""
        history(self.x, self._at(raw), len(raw))

    def told(self, account: int = 0) -> list[tuple]:
        """What an account was told since it was last asked for."""
        number = self.numbers[account]
        stream = self.exchange.streams[number]
        rows = [ouch_tuple(stream.message(k)[3:]) for k in range(self.read[number] + 1, len(stream) + 1)]
        self.read[number] = len(stream)
        return rows

    def tape(self) -> list[tuple]:
        """What market data said since it was last asked for."""
        rows = [itch_tuple(raw) for raw in messages(self.exchange, self.published + 1)]
        self.published = len(self.exchange.tape)
        return rows
