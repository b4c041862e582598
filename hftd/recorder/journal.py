"""The journal: every intent, order, report, denial and log record, as it lay in its ring, in files that only grow.

    header (4096 bytes)   magic, version, schema, state, entries, calibration of the clock, instance, names of the streams (JSON)
    entry 0 | entry 1 | … 80 bytes each: CRC-32, stream, number, the 64-byte record (recorder/taps.py)

A file is allocated whole, mapped, and filled by plain stores from the compiled drain, so a crash of every process loses nothing
that was stored; once a second the recorder pushes it through to the disk, so a loss of power costs a second at most. States:
OPEN while it is written; SEALED at a clean end, cut to its length; CRASHED when found OPEN at the next start, cut behind its
last good entry (crashed.py). It gets its name when its header is whole: no reader ever meets half a header. Instruments and
the clock's calibration are entries too (streams SYMBOL and CLOCK), so a file explains itself. Files follow on:
`<instance>-<start>-<number>.journal`.

`read_journal(path)` gives the entries and stops at the first bad one. It opens files in any state, a running one included.
"""

import contextlib
import errno
import hashlib
import json
import mmap
import os
import time
import weakref
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np

from hftd import __version__
from hftd.core.clock import clock_dtype
from hftd.core.files import sync_directory
from hftd.core.layout import layout, offset_of
from hftd.core.memory import address
from hftd.errors import HftdError
from hftd.msg.records import RECORDS, instrument_dtype, intent_dtype, log_dtype, order_dtype, report_dtype
from hftd.recorder.taps import ENTRY, entry_dtype
from hftd.shm.segment import Part, schema_of

MAGIC = 0x6C6E72756F6A6668  # "hfjournl"
VERSION = 2
HEADER = 4096
FILE_BYTES = 16 << 20
"""Size of a journal file while it is open: 209,663 entries."""

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

OPEN, SEALED, CRASHED = 1, 2, 3
UNBORN = ".new"
"""Ends the name of a file whose header is not whole yet."""

STATES = {OPEN: "OPEN", SEALED: "SEALED", CRASHED: "CRASHED"}


class Stream(IntEnum):
    """Where an entry comes from: the high byte of its stream code; the low byte is the strategy's or agent's index."""

    ORDER = 1
    REPORT = 2
    DENY = 3
    INTENT = 4
    LOG = 5
    SYMBOL = 6
    CLOCK = 7


KINDS = {
    Stream.ORDER: order_dtype, Stream.REPORT: report_dtype, Stream.DENY: report_dtype, Stream.INTENT: intent_dtype,
    Stream.LOG: log_dtype, Stream.SYMBOL: instrument_dtype, Stream.CLOCK: clock_dtype,
}  # fmt: skip
SCHEMA = schema_of([*(Part(name, kind, 1) for name, kind in RECORDS.items()), Part("instrument", instrument_dtype, 1),
                    Part("entry", entry_dtype, 1)])  # fmt: skip

journal_dtype = layout("journal", HEADER, [
    ("magic", "i8"),
    ("version", "i8"),
    ("schema", "i8"),                             # hash of every record's layout
    ("state", "i8"),                              # OPEN, SEALED, CRASHED
    ("entries", "i8"),                            # whole entries; the drain stores it after them
    ("capacity", "i8"),                           # entries that fit
    ("epoch", "i8"),                              # utc ns of the daemon's start: files of one run share it
    ("number", "i8"),                             # of the file in its run
    ("created_utc_ns", "i8"),
    ("sealed_utc_ns", "i8"),
    ("begun_crc", "i8"),                          # of the header, what changes while the file is open taken as 0
    ("ended_crc", "i8"),                          # of the header, this word taken as 0; stored when it is sealed, before the state
    ("digest", ("u1", (32,))),                    # SHA-256 of entries, `before` and header as begun; stored when it is sealed
    ("before", ("u1", (32,))),                    # digest of the run's file before this one; zeros: the first, or that one was open
    ("clock", clock_dtype),                       # turns the records' ticks into UTC
    ("instance", ("u1", (32,))),
    ("text", ("u1", (3832,))),                    # JSON: {"streams": {code: name}, "version": hftd's, "run": SHA-256}
    ("told", "i8"),                               # entries whose log lines are written
])  # fmt: skip


CHANGING = ("state", "entries", "sealed_utc_ns", "begun_crc", "ended_crc", "digest", "before", "told")


class JournalError(HftdError):
    """A journal cannot be written or read, and why."""


def stream_code(stream: Stream, index: int = 0) -> int:
    """Return the code that entries carry."""
    return int(stream) << 8 | index


def without(head: bytes | bytearray | memoryview, *names: str) -> bytes:
    """Return a header with some fields set to 0."""
    copy = bytearray(head)
    header = np.frombuffer(copy, journal_dtype, 1)[0]
    for name in names:
        header[name] = 0
    return bytes(copy)


def end_header(head: bytearray, entries: Any, state: int, before: bytes) -> None:
    """Fill in what a header has once its file is done: counts are in it already. entries: their SHA-256, taken further."""
    header = np.frombuffer(head, journal_dtype, 1)[0]
    header["before"] = np.frombuffer(before, np.uint8)
    entries.update(before + without(head, *CHANGING))
    header["digest"] = np.frombuffer(entries.digest(), np.uint8)
    header["sealed_utc_ns"], header["state"] = time.time_ns(), state
    header["ended_crc"] = zlib.crc32(without(head, "ended_crc"))


def digest_before(directory: Path, instance: str, epoch: int, number: int) -> bytes:
    """Return the digest of the file before number `number` of a run; zeros where there is none, or it is open still."""
    head = b""
    with contextlib.suppress(OSError), open(directory / file_name(instance, epoch, number - 1), "rb") as file:
        head = file.read(HEADER)
    if len(head) < HEADER:
        return bytes(32)
    header = np.frombuffer(head, journal_dtype, 1)[0]
    known = int(header["magic"]) == MAGIC and int(header["version"]) == VERSION and int(header["state"]) != OPEN
    return bytes(header["digest"]) if known else bytes(32)


def run_name(instance: str, epoch: int) -> str:
    """Return what the files of a run begin with. epoch: utc ns of the daemon's start."""
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(epoch // 1_000_000_000))
    return f"{instance}-{stamp}.{epoch // 1_000_000 % 1000:03d}"


def file_name(instance: str, epoch: int, number: int) -> str:
    """Return what file `number` of a run is called."""
    return f"{run_name(instance, epoch)}-{number:04d}.journal"


def free_number(directory: Path, instance: str, epoch: int, after: int = 0) -> int:
    """Return the number of a run's next file: past `after`, and past those that are there already."""
    number = after + 1
    while os.path.exists(directory / file_name(instance, epoch, number)):  # one that may not be looked at is refused later
        number += 1
    return number


class Writer:
    """One open journal file, mapped. `base` is the address of entry 0, `committed_at` of the count of whole entries."""

    def __init__(self, directory: Path, instance: str, epoch: int, number: int, clock, names: dict[int, str],
                 size: int = FILE_BYTES, *, run: str = ""):  # fmt: skip
        """names: stream code -> name. run: SHA-256 of the run's manifest (manifest.py), in hex, '' where it has none."""
        self.path = directory / file_name(instance, epoch, number)
        self._before = lambda: digest_before(directory, instance, epoch, number)
        self._sha, self._hashed = hashlib.sha256(), 0
        self.capacity = (size - HEADER) // ENTRY
        self._flushed = 0
        unborn = self.path.with_name(self.path.name + UNBORN)
        try:
            if self.path.exists():
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
            self._handle = os.open(unborn, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise JournalError(f"journal {self.path}: {error.strerror}") from None
        self._close = weakref.finalize(self, os.close, self._handle)
        try:
            os.posix_fallocate(self._handle, 0, size)
            self.map = mmap.mmap(self._handle, size)
            self._begin(instance, epoch, number, clock, names, run)
            self.map.flush(0, HEADER)
            os.rename(unborn, self.path)
            sync_directory(directory)
        except OSError as error:
            self._close()
            for left in (unborn, self.path):      # each try would leave another
                with contextlib.suppress(OSError):
                    left.unlink(missing_ok=True)
            needed = f"; {size >> 20} MiB are needed" if error.errno in NO_ROOM else ""
            raise JournalError(f"journal {self.path}: {error.strerror}{needed}") from None

    def _begin(self, instance: str, epoch: int, number: int, clock, names: dict[int, str], run: str) -> None:
        """Fill the header."""
        at = address(self.map)
        self.base, self.committed_at = at + HEADER, at + offset_of(journal_dtype, "entries")
        self.header = np.frombuffer(self.map, journal_dtype, 1)[0]
        self.entries = np.frombuffer(self.map, entry_dtype, self.capacity, HEADER)
        facts: dict[str, Any] = {"version": __version__, "run": run, "streams": {str(code): name for code, name in names.items()}}
        text = json.dumps(facts).encode()
        if len(text) > self.header["text"].size:
            text = json.dumps({**facts, "streams": {}}).encode()
        header = self.header
        header["version"], header["schema"], header["capacity"] = VERSION, SCHEMA, self.capacity
        header["epoch"], header["number"], header["created_utc_ns"] = epoch, number, time.time_ns()
        for field in clock_dtype.names:
            header["clock"][field] = int(clock[field])
        header["instance"][: len(instance)] = list(instance.encode())
        header["text"][: len(text)] = np.frombuffer(text, np.uint8)
        header["magic"] = MAGIC
        header["begun_crc"] = zlib.crc32(without(self.map[:HEADER], *CHANGING))
        header["state"] = OPEN

    @property
    def count(self) -> int:
        """Whole entries so far."""
        return int(self.header["entries"])

    def append(self, stream: int, aux: int, record: bytes) -> None:
        """Append an entry from cold code (between slices: the drain must not run)."""
        number = self.count
        body = stream.to_bytes(2, "little") + aux.to_bytes(2, "little") + number.to_bytes(8, "little") + record
        at = HEADER + number * ENTRY
        self.map[at + 4 : at + ENTRY] = body          # the checksum last, as the drain does: a reader never meets half an entry
        self.map[at : at + 4] = zlib.crc32(body).to_bytes(4, "little")
        self.header["entries"] = number + 1

    def flush(self) -> None:
        """Push what was written through to the disk. Raises OSError."""
        end = HEADER + self.count * ENTRY
        start = self._flushed & ~(mmap.PAGESIZE - 1)
        if end > self._flushed:
            self._flushed = end                       # also where it fails: the kernel takes such pages for written
            self.map.flush(start, end - start)
            self.map.flush(0, HEADER)

    def gone(self) -> bool:
        """Tell whether somebody removed the file: what is written from here on would be nowhere."""
        return os.fstat(self._handle).st_nlink == 0

    def kept(self) -> int:
        """Return how many entries have room in the file as it is: fewer than `capacity` where somebody cut it.

        Behind its end the map must not be touched any more, not the header's page either where that is gone: the process would end.
        """
        return max(os.fstat(self._handle).st_size - HEADER, 0) // ENTRY

    def absorb(self) -> None:
        """Take what is new into the digest: a little each time, so that sealing does not take it all at once."""
        count = self.count
        with memoryview(self.map) as view:
            self._sha.update(view[HEADER + self._hashed * ENTRY : HEADER + count * ENTRY])
        self._hashed = count

    def seal(self) -> None:
        """End the file: length, through to the disk, then state. The header stays mapped until the writer is dropped. Raises
        OSError; then the file is left OPEN."""
        self.absorb()
        head = bytearray(self.map[:HEADER])
        end_header(head, self._sha, SEALED, self._before())
        ended = np.frombuffer(head, journal_dtype, 1)[0]
        for name in ("digest", "before", "sealed_utc_ns", "ended_crc"):
            self.header[name] = ended[name]
        try:
            os.ftruncate(self._handle, HEADER + self.count * ENTRY)
            os.fsync(self._handle)
            self.header["state"] = SEALED
            self.map.flush(0, HEADER)
        finally:
            self._close()


@dataclass(frozen=True)
class Entry:
    """One record of a journal. `record` is a copy, of the stream's dtype."""

    number: int
    stream: Stream
    index: int
    aux: int
    record: np.void


class Reader:
    """A journal file, read. Iterating gives entries up to the first bad one; `problem` says what is wrong with it."""

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        try:
            self._data = self.path.read_bytes()
        except OSError as error:
            raise JournalError(f"journal {path}: {error.strerror}") from None
        if len(self._data) < HEADER:
            raise JournalError(f"journal {path}: is shorter than a header")
        self.header = np.frombuffer(self._data, journal_dtype, 1)[0]
        if int(self.header["magic"]) != MAGIC:
            raise JournalError(f"journal {path}: is not a journal of hftd")
        if int(self.header["version"]) != VERSION or int(self.header["schema"]) != SCHEMA:
            raise JournalError(f"journal {path}: was written by another version, whose records look different")
        self.state = STATES.get(int(self.header["state"]), "?")
        self.instance = bytes(self.header["instance"]).rstrip(b"\0").decode("utf-8", "replace")
        self.clock = self.header["clock"]
        self.damage = self._damage()
        self.problem = self.damage
        try:
            facts = json.loads(bytes(self.header["text"]).rstrip(b"\0"))
            self.streams: dict[str, Any] = facts["streams"]
            self.version, self.run = str(facts["version"]), str(facts["run"])
        except (ValueError, KeyError, TypeError):
            self.streams, self.version, self.run = {}, "", ""

    def _damage(self) -> str:
        """Return what is wrong with the header, the file's length included, '' where nothing is."""
        head, state = self._data[:HEADER], int(self.header["state"])
        good = zlib.crc32(without(head, *CHANGING)) == int(self.header["begun_crc"])
        if state != OPEN:
            good = good and zlib.crc32(without(head, "ended_crc")) == int(self.header["ended_crc"])
        if not good or state not in STATES:
            return "header: checksum is wrong: its clock, names, counts or state may be, too"
        beyond = len(self._data) - HEADER - int(self.header["entries"]) * ENTRY
        return f"{beyond:,} bytes are behind the last entry" if state != OPEN and beyond > 0 else ""

    def digest(self) -> bytes:
        """Return the SHA-256 of the entries the header counts, `before` and the header as begun: what a sealed file's must be."""
        end = HEADER + int(self.header["entries"]) * ENTRY
        made = hashlib.sha256(memoryview(self._data)[HEADER:end])
        made.update(bytes(self.header["before"]) + without(self._data[:HEADER], *CHANGING))
        return made.digest()

    def whole(self) -> int:
        """Return how many entries are whole; `problem` says what is wrong with the next one, or with the header."""
        self.problem = self.damage
        promised, room = int(self.header["entries"]), (len(self._data) - HEADER) // ENTRY
        rows, view = self.rows(room), memoryview(self._data)[HEADER:]
        checks, codes, numbers = rows["crc"].tolist(), rows["stream"].tolist(), rows["number"].tolist()
        for number in range(room):
            if number >= promised and checks[number] == 0:
                return number
            if zlib.crc32(view[number * ENTRY + 4 : (number + 1) * ENTRY]) != checks[number]:
                self.problem = f"entry {number}: checksum is wrong"
                return number
            if numbers[number] != number or codes[number] >> 8 not in KINDS:
                self.problem = f"entry {number}: says it is number {numbers[number]} of stream {codes[number]:#x}"
                return number
        if promised > room:
            self.problem = f"{promised - room} of {promised} entries are missing at the end"
        return room

    def rows(self, count: int) -> np.ndarray:
        """Return the first `count` entries as they lie in the file (entry_dtype)."""
        return np.frombuffer(self._data, entry_dtype, count, HEADER)

    def __iter__(self) -> Iterator[Entry]:
        for row in self.rows(self.whole()):
            stream = Stream(int(row["stream"]) >> 8)
            record = np.frombuffer(row["record"].tobytes(), KINDS[stream], 1)[0]
            yield Entry(int(row["number"]), stream, int(row["stream"]) & 255, int(row["aux"]), record)


def read_journal(path: str | os.PathLike) -> Reader:
    """Return a journal file's reader; iterate it for the entries. Raises JournalError where it is no journal at all."""
    return Reader(path)
