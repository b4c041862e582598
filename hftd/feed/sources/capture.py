"""Captures read in chunks: pcap and pcapng, plain or gzip, either byte order, stamps of any unit.

Python opens the file, reads its header (pcap) or its sections and interfaces (pcapng), and fills a buffer; the packets themselves
are walked in compiled code (`frames.py`). Whatever is wrong with a file is a DataError of one line that says where and what to do.

    pcap     header 24 | record: seconds 4, fraction 4, kept 4, length 4, bytes | record | …
    pcapng   section | interface … | packet | packet | …       each block: type 4, length 4, body, length 4

After the pcapng draft of the IETF (draft-ietf-opsawg-pcapng) and libpcap's format; a capture may have several sections, of either
byte order, and interfaces with link types and units of their own.
"""

import gzip
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hftd.core.memory import address, records, set_array
from hftd.feed.files import DataError, fill
from hftd.feed.sources.frames import (
    BLOCK,
    BROKEN,
    DESTINATIONS,
    FRAME_MAX,
    INTERFACE,
    LATEST,
    LIMIT,
    NEED,
    PCAP,
    PCAPNG,
    REASON,
    STATISTICS,
    capture_dtype,
    destination_dtype,
    interface_dtype,
    wanted_dtype,
)

CHUNK_BYTES = 8 << 20
INTERFACES = 1024

MAGICS = {
    b"\xa1\xb2\xc3\xd4": (">", 1000), b"\xd4\xc3\xb2\xa1": ("<", 1000),
    b"\xa1\xb2\x3c\x4d": (">", 1), b"\x4d\x3c\xb2\xa1": ("<", 1),
}  # fmt: skip
"""The first bytes of a pcap file: byte order, and nanoseconds of a unit of the fraction."""

SECTION_MAGIC = b"\x0a\x0d\x0d\x0a"
_MODIFIED = "is a modified pcap; convert it: editcap -F nsecpcap"
OTHERS = {
    b"\x28\xb5\x2f\xfd": "is compressed with zstd; decompress it first: zstd -d",
    b"\xfd7zXZ": "is compressed with xz; decompress it first: xz -d",
    b"BZh": "is compressed with bzip2; decompress it first: bunzip2",
    b"PK\x03\x04": "is a zip archive; unpack it first",
    b"\xa1\xb2\xcd\x34": _MODIFIED, b"\x34\xcd\xb2\xa1": _MODIFIED,
}  # fmt: skip
"""What else a file may start with, and what is to be done."""

FRAME_COUNTERS = (
    "frames", "packets", "other_lines", "not_ip", "ipv6", "not_udp", "fragments", "truncated", "malformed", "too_long",
    "unknown_links", "vlan", "backwards", "blocks_skipped", "stampless", "drops", "forgotten", "bytes",
)  # fmt: skip
"""What `counts` tells. The frames are the sum of packets … unknown_links."""


def first_bytes(path: str | os.PathLike, count: int = 16) -> bytes:
    """Return the first bytes of a file, unpacked where it is gzip. Raises DataError."""
    try:
        with open(path, "rb") as raw:
            head = raw.read(count)
            if head[:2] == b"\x1f\x8b":
                raw.seek(0)
                with gzip.open(raw) as file:
                    return file.read(count)
            return head
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; give a capture (pcap, pcapng) or an ITCH 5.0 file, plain or gzip") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: damaged gzip file ({error}); fetch the file again") from None
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; give a file that you may read") from None


def is_capture(path: str | os.PathLike) -> bool:
    """Tell whether a file is a capture (or something that must be made one); what else it is, ITCH or not, is not said."""
    head = first_bytes(path)
    return head[:4] in MAGICS or head[:4] == SECTION_MAGIC or any(head.startswith(other) for other in OTHERS)


class CaptureFile:
    """A capture, read through `state` (capture_dtype) by compiled code: see `play`."""

    def __init__(self, path: str | os.PathLike, wanted: list[tuple[int, int, int]] | None = None, chunk_bytes: int = CHUNK_BYTES):
        """wanted: (ip, port, line) of the destinations to take, 0 for any; none: lines are found by what they carry.

        Raises DataError where the file cannot be read or is no capture.
        """
        self.path, self.chunk_bytes = Path(path), max(chunk_bytes, 4096)
        head = first_bytes(path)
        for start, what in OTHERS.items():
            if head.startswith(start):
                raise DataError(f"{path}: {what}")
        self.size = os.stat(path).st_size
        if not head:
            raise DataError(f"{path}: is empty; capture again")
        if head[:4] not in MAGICS and head[:4] != SECTION_MAGIC:
            raise DataError(f"{path}: is not a capture (starts {head[:4].hex(' ')}); give a pcap or pcapng file, plain or gzip")
        with open(path, "rb") as raw:
            self.zipped = raw.read(2) == b"\x1f\x8b"
        self._states = records(capture_dtype, 1)
        self.state = self._states[0]
        self.interfaces = np.zeros(INTERFACES, interface_dtype)
        self.destinations = np.zeros(DESTINATIONS, destination_dtype)
        self.wanted = np.zeros(len(wanted or ()), wanted_dtype)
        for place, (ip, port, line) in enumerate(wanted or ()):
            self.wanted[place]["ip"], self.wanted[place]["port"], self.wanted[place]["line"] = ip, port, line
        set_array(self.state["interfaces"], self.interfaces)
        self.state["interfaces"]["count"] = 0
        set_array(self.state["destinations"], self.destinations)
        set_array(self.state["wanted"], self.wanted)
        self.state["until"] = self.state["messages_until"] = LATEST
        self.order = "<"
        self.kind = ""

    def counts(self) -> dict[str, int]:
        """Return what became of the frames."""
        return {name: int(self.state[name]) for name in FRAME_COUNTERS}

    def lines(self) -> list[dict[str, Any]]:
        """Return every destination: address, packets, bytes, and the line it was taken for (None: none of ours)."""
        found = []
        for each in self.destinations[: int(self.state["used"])]:
            ip = ".".join(str((int(each["ip"]) >> shift) & 255) for shift in (24, 16, 8, 0))
            line = int(each["line"])
            found.append({"to": f"{ip}:{int(each['port'])}", "line": "AB"[line] if line >= 0 else None,
                          "packets": int(each["packets"]), "bytes": int(each["bytes"])})  # fmt: skip
        return found

    def play(self, walk: Callable[[Any], int], paused: Callable[[int], None]) -> None:
        """Read the file and call walk(state) for each buffer until it is used up.

        walk returns why it stopped (`frames.py`); for LIMIT and REASON paused(why) is called, which waits or changes what is to be
        changed, and the walk goes on. paused may raise to end it. Raises DataError where the file is cut short or damaged.
        """
        buffer = bytearray(self.chunk_bytes + FRAME_MAX + 64)
        view, base = memoryview(buffer), address(buffer)
        state = self.state
        held = done = 0
        with open(self.path, "rb") as raw, gzip.open(raw) if self.zipped else raw as file:
            while True:
                got, wrong = fill(file, view[held : held + self.chunk_bytes])
                held += got
                used = self._begin(buffer, held) if done == 0 else 0
                state["at"], state["end"] = base + used, base + held
                if not (done == 0 and used == 0):
                    self._walk(walk, paused, buffer, base, held, done)
                used = int(state["at"]) - base
                done += used
                if wrong:
                    raise DataError(f"{self.path}: {wrong}; what came before byte {done:,} was read")
                if got == 0:
                    if used != held or done == 0:
                        raise DataError(
                            f"{self.path}: cut short: the last packet is incomplete, at byte {done:,}; what came before it was read"
                        )
                    return
                buffer[: held - used] = buffer[used:held]
                held -= used

    def _walk(self, walk, paused, buffer, base: int, held: int, done: int) -> None:
        while True:
            why = walk(self.state)
            if why == NEED:
                return
            at = int(self.state["at"]) - base
            if why == BROKEN:
                raise DataError(f"{self.path}: damaged: the lengths at byte {done + at:,} make no sense; capture or fetch it again")
            if why == BLOCK:
                size = self._block(buffer, at, held, done + at)
                if size == 0:
                    return
                self.state["at"] = base + at + size
            else:
                assert why in (LIMIT, REASON)
                paused(why)

    # ------------------------------------------------------------ headers

    def _begin(self, buffer: bytearray, held: int) -> int:
        """Read the head of the file; return its bytes, 0 where there are not enough of them."""
        magic = bytes(buffer[:4])
        if magic == SECTION_MAGIC:
            self.state["format"], self.kind = PCAPNG, "pcapng"
            return self._block(buffer, 0, held, 0)
        if held < 24:
            return 0
        self.order, unit = MAGICS[magic]
        major, _minor = struct.unpack_from(self.order + "HH", buffer, 4)
        if major != 2:
            raise DataError(f"{self.path}: pcap of version {major}; only version 2 is read: convert it with editcap")
        snap, link = struct.unpack_from(self.order + "II", buffer, 16)
        self.state["format"], self.kind = PCAP, "pcap"
        self.state["swapped"] = int(self.order == ">")
        self._interface(link & 0xFFFF, snap, unit, 1, 0, 0)
        return 24

    def _interface(self, link: int, snap: int, mult: int, div: int, shift: int, offset_ns: int) -> None:
        count = int(self.state["interfaces"]["count"])
        if count == INTERFACES:
            raise DataError(f"{self.path}: more than {INTERFACES} interfaces in one section; split it: editcap")
        made = self.interfaces[count]
        made["link"], made["snap"], made["mult"], made["div"], made["shift"] = link, snap, mult, div, shift
        made["offset_ns"], made["frames"], made["drops"] = offset_ns, 0, 0
        self.state["interfaces"]["count"] = count + 1

    def _block(self, buffer: bytearray, at: int, held: int, where: int) -> int:
        """Read the section, interface or statistics block at `at`; return its bytes, 0 where they are not all there yet."""
        if held - at < 12:
            return 0
        wrong = DataError(f"{self.path}: damaged: the block at byte {where:,} makes no sense; capture or fetch it again")
        section = bytes(buffer[at : at + 4]) == SECTION_MAGIC
        if section:
            order = {b"\x1a\x2b\x3c\x4d": ">", b"\x4d\x3c\x2b\x1a": "<"}.get(bytes(buffer[at + 8 : at + 12]), "")
            if not order:
                raise wrong
            self.order = order
        (size,) = struct.unpack_from(self.order + "I", buffer, at + 4)
        if size < (28 if section else 20) or size & 3 or size > FRAME_MAX:
            raise wrong
        if held - at < size:
            return 0
        body = bytes(buffer[at + 8 : at + size - 4])
        if struct.unpack_from(self.order + "I", buffer, at + size - 4)[0] != size:
            raise wrong
        if section:
            if struct.unpack_from(self.order + "H", body, 4)[0] != 1:
                raise DataError(f"{self.path}: pcapng of another version than 1, at byte {where:,}; convert it with editcap")
            self.state["swapped"] = int(self.order == ">")
            self.state["interfaces"]["count"] = 0
            return size
        (kind,) = struct.unpack_from(self.order + "I", buffer, at)
        assert kind in (INTERFACE, STATISTICS)
        if kind == STATISTICS:
            self._statistics(body, wrong)
        else:
            link, _, snap = struct.unpack_from(self.order + "HHI", body)
            mult, div, shift, offset = self._units(body[8:], wrong)
            self._interface(link, snap, mult, div, shift, offset)
        return size

    def _statistics(self, body: bytes, wrong: DataError) -> None:
        """Note what an interface's statistics say was lost: by the system, or by the capturing program."""
        (which,) = struct.unpack_from(self.order + "I", body)
        if which >= int(self.state["interfaces"]["count"]):
            raise wrong
        for code, value in self._options(body[12:], wrong):
            if code == 5 and len(value) == 8:         # isb_ifdrop, a running total
                before, total = int(self.interfaces[which]["drops"]), struct.unpack(self.order + "Q", value)[0] & (LATEST - 1)
                self.state["drops"] += total - before
                self.interfaces[which]["drops"] = total

    def _options(self, raw: bytes, wrong: DataError) -> Iterator[tuple[int, bytes]]:
        at = 0
        while at + 4 <= len(raw):
            code, length = struct.unpack_from(self.order + "HH", raw, at)
            if code == 0:
                return
            if at + 4 + length > len(raw):
                raise wrong
            yield code, raw[at + 4 : at + 4 + length]
            at += 4 + length + (-length & 3)

    def _units(self, options: bytes, wrong: DataError) -> tuple[int, int, int, int]:
        """Return (mult, div, shift, offset_ns) of an interface's stamps, from its options."""
        mult, div, shift, offset = 1000, 1, 0, 0
        for code, value in self._options(options, wrong):
            length = len(value)
            if code == 9 and length == 1:             # if_tsresol
                power = value[0] & 0x7F
                if value[0] & 0x80:
                    if power > 63:
                        raise wrong
                    mult, div, shift = (1, 1, power) if power else (1_000_000_000, 1, 0)
                else:
                    if power > 19:
                        raise wrong
                    mult, div, shift = (10 ** (9 - power), 1, 0) if power <= 9 else (1, 10 ** (power - 9), 0)
            elif code == 14 and length == 8:          # if_tsoffset, seconds
                offset = struct.unpack(self.order + "q", value)[0] * 1_000_000_000
                if abs(offset) >= 1 << 62:
                    raise wrong
        return mult, div, shift, offset
