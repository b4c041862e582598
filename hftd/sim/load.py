"""Files and days: a recorded ITCH file read whole into memory and checked, its pace, and the frame of a synthetic day.

BinaryFILE: a length (u16, big-endian) and so many bytes, again and again; a length of 0 or the end of the file ends it. What is cut
off or longer than any ITCH message is an error that says where. A whole day of all symbols takes as much memory as the file.
"""

import gzip
import zlib
from dataclasses import dataclass

import numpy as np

from hftd.core.jit import hot
from hftd.core.memory import load8, load16, load64, record_at, store64, swap16, swap64
from hftd.sim.options import SYMBOLS, Options, SimError
from hftd.venues.nasdaq import itch50 as itch

HOUR = 3_600_000_000_000
OPEN_NS = 9 * HOUR + HOUR // 2
SEED_NS = OPEN_NS - 1_000_000_000
LAST_LENGTH = 1024
"""Longer than any message of ITCH 5.0, with room for those to come."""


@dataclass
class Recording:
    """A file in memory, and what there is to know about it before it is played."""

    bytes: np.ndarray                             # the framed messages, without a terminator
    messages: int
    stamps: np.ndarray                            # i8, ns since midnight, by message
    ref_max: int                                  # highest order reference and match number: ours come above
    match_max: int
    adds: int                                     # orders it brings in
    locate_max: int


@hot
def scan(base, size, stamps, facts):
    """Check the framing of `size` bytes at `base`, write each message's stamp to i8[] at `stamps` (0: only count).

    facts: address of i8[6]: messages, bytes used, highest reference, highest match number, adds, highest locate. Returns 0, or 1
    for a cut-off message, 2 for an impossible length; then `bytes used` is where.
    """
    position = 0
    messages = 0
    ref_max = 0
    match_max = 0
    adds = 0
    locate_max = 0
    result = 0
    while position + 2 <= size:
        length = swap16(load16(base + position))
        if length == 0:
            break
        if length < 11 or length > LAST_LENGTH:
            result = 2
            break
        if position + 2 + length > size:
            result = 1
            break
        at = base + position + 2
        kind = load8(at)
        head = record_at(at, itch.header_dtype)
        ts = itch.stamp(head)
        if stamps != 0:
            store64(stamps + 8 * messages, ts)
        locate_max = max(locate_max, swap16(head.locate))
        if (kind == itch.ADD_ORDER or kind == itch.ADD_ORDER_MPID) and length >= 36:
            ref_max = max(ref_max, swap64(load64(at + 11)))
            adds += 1
        elif kind == itch.ORDER_REPLACE and length >= 35:
            ref_max = max(ref_max, swap64(load64(at + 19)))
            adds += 1
        elif (kind == itch.ORDER_EXECUTED or kind == itch.ORDER_EXECUTED_PRICE) and length >= 31:
            match_max = max(match_max, swap64(load64(at + 23)))
        elif kind == itch.TRADE and length >= 44:
            match_max = max(match_max, swap64(load64(at + 36)))
        elif kind == itch.CROSS_TRADE and length >= 40:
            match_max = max(match_max, swap64(load64(at + 31)))
        messages += 1
        position += 2 + length
    if result == 0 and position + 1 == size:
        result = 1
    store64(facts, messages)
    store64(facts + 8, position)
    store64(facts + 16, ref_max)
    store64(facts + 24, match_max)
    store64(facts + 32, adds)
    store64(facts + 40, locate_max)
    return result


def read(path: str) -> Recording:
    """Read and check an ITCH file. Raises SimError."""
    try:
        with open(path, "rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            raw = (gzip.GzipFile(fileobj=file) if packed else file).read()
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise SimError(f"--data {path}: the gzip file is damaged or cut off; get it again") from None
    except OSError as error:
        raise SimError(f"--data {path}: {error.strerror or error}") from None
    return parse(bytearray(raw), f"--data {path}")


def parse(raw: bytearray, where: str) -> Recording:
    """Check framed ITCH messages. Raises SimError."""
    if len(raw) < 13:
        raise SimError(f"{where}: holds no ITCH message (BinaryFILE: 2 bytes of length before each)")
    data = np.frombuffer(raw, np.uint8)
    facts = np.zeros(6, np.int64)
    result = scan(data.ctypes.data, len(raw), 0, facts.ctypes.data)
    messages, used = int(facts[0]), int(facts[1])
    if result:
        what = {1: "is cut off", 2: "is not ITCH 5.0 in BinaryFILE framing"}[result]
        raise SimError(f"{where}: {what} at byte {used}, after {messages} messages")
    stamps = np.zeros(messages, np.int64)
    scan(data.ctypes.data, len(raw), stamps.ctypes.data, facts.ctypes.data)
    return Recording(data[:used], messages, stamps, *(int(facts[i]) for i in (2, 3, 4, 5)))


def pace(stamps: np.ndarray, options: Options) -> np.ndarray | None:
    """Return when each message is due, ns after the start; None: at once."""
    if options.fast:
        return None
    gaps = np.maximum(np.diff(stamps, prepend=stamps[:1]), 0)
    if options.max_gap:
        gaps = np.minimum(gaps, int(options.max_gap * 1e9))
    due = np.cumsum(gaps)
    if options.seconds:
        return (due * (options.seconds * 1e9 / max(int(due[-1]), 1))).astype(np.int64)
    return (due / options.speed).astype(np.int64)


# ---------------------------------------------------------------- the frame of a synthetic day


def framed(kind: str, locate: int, ts: int, body: bytes) -> bytes:
    """Return an ITCH message of a type, behind its length."""
    head = kind.encode() + locate.to_bytes(2, "big") + b"\0\0" + ts.to_bytes(6, "big")
    raw = head + body
    assert len(raw) == itch.LENGTH[ord(kind)], kind
    return len(raw).to_bytes(2, "big") + raw


def number(value: int, width: int) -> bytes:
    """Return a number as it lies on the wire, in `width` bytes."""
    return value.to_bytes(width, "big")


def synthetic_day(symbols: int) -> tuple[bytearray, int, int]:
    """Return (framed messages, where the opening begins, where the end of the day begins) of a synthetic day.

    Before the opening: start of messages, the market-wide circuit breaker's levels; directory, trading action, Reg SHO, a market
    maker and retail interest of every symbol; start of system hours; the first symbol is paused, has its auction collar, widened
    once, and resumes by a cross; the last one's release as an IPO is put off, and its direct listing told; an operational halt of
    another market; imbalances. So every type of message but a breach of the breaker is heard each day. Opening: cross trades and
    start of market hours. End: closing crosses and the system events that end a day; their stamps are moved up to the flow's last
    where it runs longer.
    """
    chosen = [(n + 1, name.encode().ljust(8), round(px * 100) * 100) for n, (name, px) in enumerate(SYMBOLS[:symbols])]
    before, opening, end = bytearray(), bytearray(), bytearray()
    ts = 3 * HOUR + 300_000_000_000
    before += framed("S", 0, ts, b"O")
    before += framed("V", 0, ts + 1, b"".join(number(level * 10**8, 8) for level in (3900, 3650, 3350)))
    for locate, stock, _ in chosen:
        ts += 1_000_000
        before += framed("R", locate, ts, stock + b"QN" + number(100, 4) + b"NC" + b"Z " + b"PNN1N" + number(0, 4) + b"N")
        before += framed("H", locate, ts, stock + b"T " + b"    ")
        before += framed("Y", locate, ts, stock + b"0")
        before += framed("L", locate, ts, b"SIMU" + stock + b"YNA")
        before += framed("N", locate, ts, stock + b"N")
    before += framed("S", 0, 4 * HOUR, b"S")
    ts = 4 * HOUR
    locate, stock, px = chosen[0]
    before += framed("H", locate, ts + 1, stock + b"P LUDP")
    for widened in range(2):
        part = px * (5 + 5 * widened) // 100 // 100 * 100
        body = stock + number(px, 4) + number(px + part, 4) + number(px - part, 4) + number(widened, 4)
        before += framed("J", locate, ts + 2 + widened, body)
    before += framed("Q", locate, ts + 4, number(500, 8) + stock + number(px, 4) + number(200 + locate, 8) + b"H")
    before += framed("H", locate, ts + 5, stock + b"T     ")
    locate, stock, px = chosen[-1]
    before += framed("K", 0, ts + 6, stock + number(OPEN_NS // 1_000_000_000 + 900, 4) + b"A" + number(px, 4))
    before += framed("K", 0, ts + 7, stock + number(0, 4) + b"C" + number(0, 4))
    before += framed("O", locate, ts + 8, stock + b"N" + number(px - 100, 4) + number(px + 100, 4)
                         + number(px, 4) + number(OPEN_NS, 8)
                       + number(px - 100, 4) + number(px + 100, 4))  # fmt: skip
    before += framed("h", locate, ts + 9, stock + b"XH")
    before += framed("h", locate, ts + 10, stock + b"XT")
    for locate, stock, px in chosen:
        body = number(1000, 8) + number(200, 8) + b"B" + stock + number(px, 4) * 3 + b"OL"
        before += framed("I", locate, SEED_NS - 1_000_000, body)
    for locate, stock, px in chosen:
        opening += framed("Q", locate, OPEN_NS - 1, number(1000, 8) + stock + number(px, 4) + number(locate, 8) + b"O")
    opening += framed("S", 0, OPEN_NS, b"Q")
    end += framed("S", 0, 16 * HOUR, b"M")
    for locate, stock, px in chosen:
        end += framed("Q", locate, 16 * HOUR, number(0, 8) + stock + number(px, 4) + number(100 + locate, 8) + b"C")
    end += framed("S", 0, 20 * HOUR, b"E")
    end += framed("S", 0, 20 * HOUR + 300_000_000_000, b"C")
    return before + opening + end, len(before), len(before) + len(opening)
