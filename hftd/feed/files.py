"""Recorded ITCH files, plain or gzip, read in chunks of whole messages.

Nasdaq's BinaryFILE framing: two bytes of length, big-endian, then the message; a length of 0 ends the session where it stands, and
the plain end of the file ends it too. Whatever is wrong with a file is a DataError of one line that says what to do.
"""

import gzip
import os
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from hftd.core.jit import hot
from hftd.core.layout import layout
from hftd.core.memory import address, load8, load16, load64, records, row, span, span_dtype, swap16
from hftd.errors import HftdError
from hftd.venues.nasdaq.itch50 import (
    ADD_ORDER,
    ADD_ORDER_MPID,
    LENGTH,
    ORDER_DELETE,
    STOCK_DIRECTORY,
    symbol_to_text,
)
from hftd.venues.nasdaq.itchfeed import STOCK_AT

CHUNK_BYTES = 64 << 20
STEP_BYTES = 1 << 20
LOCATES = 65536

frames_dtype = layout("frames", 128, [
    ("bytes", "i8"),                              # of whole messages, their lengths included
    ("messages", "i8"),
    ("adds", "i8"),                               # A and F
    ("live", "i8"),                               # A and F less D so far: never below the orders in the books
    ("live_peak", "i8"),
    ("bad", "i8"),                                # messages of a known type and another length
    ("unknown", "i8"),                            # messages of no known type
    ("ended", "i8"),                              # 1: a length of 0 was met
    ("by_locate", span_dtype),                    # i8 a row: messages by locate
    ("names", span_dtype),                        # i8 a row: symbol by locate, eight bytes as on the wire
    ("lengths", span_dtype),                      # i8 a row: length by type byte
    ("stocks", span_dtype),                       # i8 a row: offset of the symbol by type byte
])  # fmt: skip

word_dtype = layout("word", 8, [("value", "i8")])


class DataError(HftdError):
    """A data file cannot be used, and what to do."""


@hot
def scan_frames(frames, at, end):
    """Walk the whole messages from address `at`, add them to `frames` (frames_dtype), and stop before one that `end` cuts."""
    by_locate, names, lengths, stocks = span(frames.by_locate), span(frames.names), span(frames.lengths), span(frames.stocks)
    frames.bytes = 0
    start = at
    while at + 2 <= end:
        length = swap16(load16(at))
        if length == 0:
            frames.ended = 1
            at += 2
            break
        if at + 2 + length > end:
            break
        kind = load8(at + 2)
        known = row(lengths, kind, word_dtype).value
        if known == 0:
            frames.unknown += 1
        elif known != length:
            frames.bad += 1
        else:
            locate = swap16(load16(at + 3))
            row(by_locate, locate, word_dtype).value += 1
            if kind == ADD_ORDER or kind == ADD_ORDER_MPID:
                frames.adds += 1
                frames.live += 1
                frames.live_peak = max(frames.live_peak, frames.live)
            elif kind == ORDER_DELETE:
                frames.live -= 1
            stock_at = row(stocks, kind, word_dtype).value
            if stock_at != 0 and (kind == STOCK_DIRECTORY or row(names, locate, word_dtype).value == 0):
                row(names, locate, word_dtype).value = load64(at + 2 + stock_at)
        frames.messages += 1
        at += 2 + length
    frames.bytes = at - start


class Scan:
    """What a walk over a file's messages found."""

    def __init__(self) -> None:
        self._frames = records(frames_dtype, 1)
        self.frames = self._frames[0]
        self._tables = {
            "by_locate": np.zeros(LOCATES, word_dtype), "names": np.zeros(LOCATES, word_dtype),
            "lengths": np.zeros(256, word_dtype), "stocks": np.zeros(256, word_dtype),
        }  # fmt: skip
        self._tables["lengths"]["value"] = LENGTH
        for kind, offset in STOCK_AT.items():
            self._tables["stocks"]["value"][kind] = offset
        for name, table in self._tables.items():
            self.frames[name]["base"], self.frames[name]["count"] = table.ctypes.data, len(table)

    def __getitem__(self, field: str) -> int:
        return int(self.frames[field])

    def add(self, at: int, size: int) -> int:
        """Walk `size` bytes at address `at`; return the bytes that are whole messages."""
        scan_frames(self.frames, at, at + size)
        return int(self.frames["bytes"])

    def symbols(self) -> dict[int, str]:
        """Return the symbol of every locate that was named."""
        names = self._tables["names"]["value"]
        return {int(locate): symbol_to_text(names[locate]) for locate in np.nonzero(names)[0]}

    def locates(self) -> int:
        """Return how many instruments there are."""
        return int(np.count_nonzero(self._tables["by_locate"]["value"][1:]))

    def traffic(self) -> Counter:
        """Return messages by symbol."""
        counts = self._tables["by_locate"]["value"]
        return Counter({name: int(counts[locate]) for locate, name in self.symbols().items()})


def fill(file, room: memoryview) -> tuple[int, str]:
    """Read until `room` is full or the file ends; return the bytes, and what is wrong with the file behind them ("": nothing).

    In small steps: a large read of a gzip file that is cut or damaged would take what it had unpacked so far with it.
    """
    got, wrong = 0, ""
    try:
        while got < len(room) and (more := file.readinto1(room[got : got + STEP_BYTES])):
            got += more
    except EOFError:
        wrong = "cut short: the gzip stream has no end; fetch the file again"
    except (gzip.BadGzipFile, zlib.error) as error:
        wrong = f"damaged gzip file ({error}); fetch the file again"
    except OSError as error:
        wrong = f"{error.strerror or error}; is it still there, and readable?"
    return got, wrong


class ItchFile:
    """A recorded file. `chunks()` yields (address, bytes) of whole messages, in one buffer that the next step overwrites."""

    def __init__(self, path: str | os.PathLike, chunk_bytes: int = CHUNK_BYTES):
        self.path, self.chunk_bytes = Path(path), chunk_bytes
        try:
            self.size = self.path.stat().st_size
            with open(self.path, "rb") as file:
                self.zipped = file.read(2) == b"\x1f\x8b"
        except FileNotFoundError:
            raise DataError(f"{path}: no such file; give the path of an ITCH 5.0 file, plain or gzip") from None
        except OSError as error:
            raise DataError(f"{path}: {error.strerror}; give the path of an ITCH 5.0 file that you may read") from None
        if self.size == 0:
            raise DataError(f"{path}: is empty; fetch the file again")

    def chunks(self, progress: Callable[[int, int], None] | None = None) -> Iterator[tuple[int, int]]:
        """Read the file. progress(done, total) is called with bytes of the file as it lies on the disk.

        Raises DataError where the file is cut short, damaged, or not framed as ITCH.
        """
        buffer = bytearray(self.chunk_bytes + 70_000)
        at, held, done, scan = address(buffer), 0, 0, Scan()
        view = memoryview(buffer)
        with open(self.path, "rb") as raw, gzip.open(raw) if self.zipped else raw as file:
            while True:
                got, wrong = fill(file, view[held : held + self.chunk_bytes])
                held += got
                whole = scan.add(at, held)
                if not wrong or scan["messages"]:
                    self._check(scan, done)
                if whole > 2 * scan["ended"]:
                    yield at, whole - 2 * scan["ended"]
                if progress:
                    progress(raw.tell(), self.size)
                done += whole
                if wrong:
                    raise DataError(f"{self.path}: {wrong}")
                if scan["ended"]:
                    return
                if got == 0:
                    if held != whole:
                        raise DataError(
                            f"{self.path}: cut short: the last message, at byte {done:,}, is incomplete; fetch the file again"
                        )
                    return
                buffer[: held - whole] = buffer[whole:held]
                held -= whole

    def _check(self, scan: Scan, done: int) -> None:
        wrong = scan["bad"] + scan["unknown"]
        if (done == 0 and wrong * 2 > scan["messages"]) or (scan["messages"] == 0 and not scan["ended"]):
            raise DataError(
                f"{self.path}: is not ITCH 5.0 in BinaryFILE framing ({wrong:,} of {scan['messages']:,} messages make no sense); "
                f"give a file of two-byte lengths and messages, plain or gzip"
            )

    def load(self) -> tuple[np.ndarray, int]:
        """Return the whole file's messages, framed, in memory, and how many they are."""
        parts, scan = [], Scan()
        for at, size in self.chunks():
            parts.append(np.ctypeslib.as_array((np.ctypeslib.ctypes.c_uint8 * size).from_address(at)).copy())
            scan.add(at, size)
        return np.concatenate(parts) if parts else np.zeros(0, np.uint8), scan["messages"]


def survey(path: str | os.PathLike) -> Scan:
    """Walk a whole file and return what is in it."""
    scan = Scan()
    for at, size in ItchFile(path).chunks():
        scan.add(at, size)
    return scan


def busiest_symbols(path: str | os.PathLike, most: int) -> list[str]:
    """Return the symbols of a file with the most messages, the busiest first, at most `most`.

    Raises DataError where the file names none.
    """
    found = [name for name, _ in survey(path).traffic().most_common(most)]
    if not found:
        raise DataError(f"{path}: names no instrument; give a file with stock directory or add order messages")
    return found
