"""`hftd record`: lines captured to a pcapng file, with nanosecond receive stamps and what was lost counted.

    sockets ─▶ record_lines (receive.py) ─▶ buffers ─▶ writer thread ─▶ file

The compiled loop fills a buffer with blocks, the writer thread puts full ones into the file; while the disk is slow the next
buffers take over, and after those the sockets' own. Each line is an interface of the file, with its address as a name; statistics
blocks at the end say what each received and lost, so that `hftd feed`, tshark and capinfos can tell.

Stamps: SO_TIMESTAMPING asks for the network card's (they come where the card has been told to stamp what it receives, as ptp4l or
hwstamp_ctl do, and count by the card's own clock) and for the kernel's (at reception, CLOCK_REALTIME); SO_TIMESTAMPNS stands in
where the first is refused. Which of them each datagram got is counted. The file is the payload of the lines as the application
gets it: fragments are already whole, and the headers are made anew (`receive.py`).
"""

import contextlib
import os
import queue
import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hftd import __version__
from hftd.control.config import Config, host_port
from hftd.core.memory import address, block, records, set_array
from hftd.errors import HftdError
from hftd.feed.setup import line_socket
from hftd.feed.sources.desk import stop_signals
from hftd.feed.sources.receive import (
    BATCH,
    BLOCK_MAX,
    CONTROL,
    HEADERS,
    MSGHDR,
    NAME,
    ROOM,
    SO_RXQ_OVFL,
    record_lines,
    recorded_line_dtype,
    recorder_dtype,
)

LINES_MAX = 16
BUFFERS, BUFFER_BYTES = 8, 6 << 20
FLUSH_BYTES, FLUSH_S = 1 << 20, 0.2
"""A buffer goes to the writer once it holds so much, or is so old; what is left of it takes a batch of every line."""

WAIT_MS = 20
LAST_S = 0.1
"""How long after a stop what the kernel held already is still taken, at most."""

SO_TIMESTAMPNS, SO_TIMESTAMPING, SO_MEMINFO = 35, 37, 55
WANTED_STAMPS = (1 << 2) | (1 << 3) | (1 << 4) | (1 << 6)
"""SOF_TIMESTAMPING_RX_HARDWARE, RX_SOFTWARE, SOFTWARE, RAW_HARDWARE."""

assert BUFFER_BYTES - FLUSH_BYTES >= LINES_MAX * BATCH * BLOCK_MAX

SECTION, INTERFACE, STATISTICS, ETHERNET = 0x0A0D0D0A, 1, 5, 1
NOTE = "UDP payloads as received; the Ethernet, IPv4 and UDP headers were made anew"


COUNTED = {"packets": "packets", "bytes": "bytes", "dropped": "drops", "truncated": "cut", "hardware": "hardware",
           "software": "software", "unstamped": "unstamped", "errors": "errors"}  # fmt: skip
"""What the statistics say of a line, and the field of recorded_line_dtype that holds it."""


class RecordError(HftdError):
    """The lines cannot be recorded, and what to do."""


def configured_lines(config: Config) -> list[tuple[str, int]]:
    """Return (address, port) of a configuration's lines."""
    return [host_port(text, f"{config.path}: feed") for text in (config.feed.line_a, config.feed.line_b) if text]


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("=HH", code, len(value)) + value + bytes(-len(value) % 4)


def _block(kind: int, body: bytes) -> bytes:
    size = len(body) + 12
    return struct.pack("=II", kind, size) + body + struct.pack("=I", size)


def head_of(names: list[str]) -> bytes:
    """Return a pcapng section with an Ethernet interface for each name, stamps in nanoseconds."""
    options = _option(1, NOTE.encode()) + _option(4, f"hftd {__version__}".encode()) + _option(0, b"")
    made = _block(SECTION, struct.pack("=IHHq", 0x1A2B3C4D, 1, 0, -1) + options)
    for name in names:
        options = _option(2, name.encode()) + _option(9, b"\x09") + _option(0, b"")
        made += _block(INTERFACE, struct.pack("=HHI", ETHERNET, 0, ROOM + HEADERS) + options)
    return made


def statistics_of(which: int, first_ns: int, last_ns: int, received: int, dropped: int) -> bytes:
    """Return an interface's statistics block: datagrams that arrived, and those of them that were lost."""
    def stamp(ns: int) -> bytes:
        return struct.pack("=II", ns >> 32, ns & 0xFFFFFFFF)

    options = _option(2, stamp(first_ns)) + _option(3, stamp(last_ns)) + _option(4, struct.pack("=Q", received))
    return _block(STATISTICS, struct.pack("=I", which) + stamp(last_ns) + options + _option(5, struct.pack("=Q", dropped))
                  + _option(0, b""))  # fmt: skip


class Recording:
    """A file being recorded. Call `run` once."""

    def __init__(self, path: str | os.PathLike, lines: list[tuple[str, int]], interface: str, max_bytes: int = 0,
                 receive_buffer: int = 64 << 20):  # fmt: skip
        """lines: (address, port). Raises ConfigError where one cannot be joined, RecordError where the file cannot be made."""
        self.path, self.max_bytes = Path(path), max_bytes
        self.names = [f"{chr(ord('A') + place)} {host}:{port}" for place, (host, port) in enumerate(lines)]
        self.tail_bytes = len(statistics_of(0, 0, 0, 0, 0)) * len(lines)
        head = head_of(self.names)
        if max_bytes and max_bytes < len(head) + self.tail_bytes + BLOCK_MAX:
            raise RecordError(f"--max-bytes: must be at least {len(head) + self.tail_bytes + BLOCK_MAX:,}, was {max_bytes:,}")
        self.sockets: list[socket.socket] = []
        self.stamps = "without the kernel's receive stamps"
        self._file = None
        self._failed: OSError | None = None
        try:
            for host, port in lines:
                made = line_socket(f"{host}:{port}", interface, receive_buffer, "--line")
                self.sockets.append(made)
                self._ask_for_stamps(made)
            try:
                self._file = open(self.path, "xb", buffering=0)  # noqa: SIM115 - closed in run
                self._put(head)
                if self._failed is not None:
                    self.path.unlink()
                    raise self._failed
            except FileExistsError:
                raise RecordError(f"{path}: exists already; choose another name, or remove it") from None
            except OSError as error:
                raise RecordError(f"{path}: {error.strerror}; give a file in a directory that you may write") from None
        except BaseException:
            self.close()
            raise
        self.written = len(head)
        self._memory(lines)

    def _ask_for_stamps(self, made: socket.socket) -> None:
        made.setsockopt(socket.SOL_SOCKET, SO_RXQ_OVFL, 1)
        both = "the card's receive stamps where it gives them, else the kernel's, ns"
        for option, value, what in ((SO_TIMESTAMPNS, 1, "kernel receive stamps, ns"), (SO_TIMESTAMPING, WANTED_STAMPS, both)):
            try:
                made.setsockopt(socket.SOL_SOCKET, option, value)
            except OSError:
                continue
            self.stamps = what

    def _memory(self, lines: list[tuple[str, int]]) -> None:
        """Lay out receive buffers, their headers, the buffers of the file, and the handle."""
        rows = BATCH * len(lines)
        self._receive = block(rows * (ROOM + CONTROL + NAME + 16 + MSGHDR + 8))
        buffers = address(self._receive)
        controls = buffers + rows * ROOM
        names = controls + rows * CONTROL
        vectors = names + rows * NAME
        headers = vectors + rows * 16
        for i in range(rows):
            struct.pack_into("=QQ", self._receive, vectors - buffers + 16 * i, buffers + i * ROOM, ROOM)
            struct.pack_into("=QQQQQQII", self._receive, headers - buffers + MSGHDR * i, names + i * NAME, NAME, vectors + 16 * i,
                             1, controls + i * CONTROL, CONTROL, 0, 0)  # fmt: skip
        self._line_rows = np.zeros(len(lines), recorded_line_dtype)
        for place, ((host, port), made) in enumerate(zip(lines, self.sockets, strict=True)):
            one = self._line_rows[place]
            one["fd"], one["port"] = made.fileno(), port
            one["ip"] = int.from_bytes(socket.inet_aton(host), "little")
        self._buffers = [block(BUFFER_BYTES) for _ in range(BUFFERS)]
        self._free: queue.Queue[int] = queue.Queue()
        self._full: queue.Queue[tuple[int, int] | None] = queue.Queue()
        for index in range(BUFFERS):
            self._free.put(index)
        self._recorders = records(recorder_dtype, 1)
        handle = self.handle = self._recorders[0]
        set_array(handle["lines"], self._line_rows)
        handle["headers_at"], handle["buffers_at"], handle["controls_at"], handle["names_at"] = headers, buffers, controls, names
        handle["stamps_at"] = headers + rows * MSGHDR
        self._current = self._free.get()
        self._base = address(self._buffers[self._current])
        handle["out"], handle["out_end"] = self._base, self._base      # no room: the first call only compiles
        record_lines(handle)
        handle["out_end"] = self._base + BUFFER_BYTES
        self.waits = 0

    # ------------------------------------------------------------ running

    def run(self, seconds: float = 0.0, ready: Callable[[], Any] | None = None) -> dict[str, Any]:
        """Record until SIGINT, SIGTERM, the end of `seconds` (0: none) or the file's largest size; return the statistics.

        Raises RecordError where the file cannot be written any more; what was written until then stays.
        """
        writer = threading.Thread(target=self._write, name="writer")
        waiting = select.poll()
        for made in self.sockets:
            waiting.register(made, select.POLLIN)
        writer.start()
        begun = flushed = time.monotonic()
        ended, stopping = "", 0.0
        try:
            with stop_signals() as stop:
                if ready:
                    ready()
                while True:
                    self.handle["now_ns"] = time.time_ns()
                    got = int(record_lines(self.handle))
                    now = time.monotonic()
                    held = int(self.handle["out"]) - self._base
                    if self.max_bytes and self.written + held + self.tail_bytes > self.max_bytes:
                        self._cut(self.max_bytes - self.written - self.tail_bytes)
                        ended = "largest size"
                        break
                    if held >= FLUSH_BYTES or (held and now - flushed > FLUSH_S):
                        self._hand_over()
                        flushed = now
                    if self._failed:
                        break
                    if not ended and (stop or (seconds and now - begun >= seconds)):
                        ended = "stopped" if stop else "time"
                    if ended:
                        stopping = stopping or now
                        if got == 0 or now - stopping > LAST_S:
                            break
                    elif got == 0:
                        waiting.poll(WAIT_MS)
            self._hand_over()
        finally:
            self._full.put(None)
            writer.join()
            took = time.monotonic() - begun
            if self._failed is None:
                self._end()
            self.close()
        if self._failed is not None:
            raise RecordError(f"{self.path}: {self._failed.strerror}; the recording ends there")
        return self.facts(took, ended)

    def _hand_over(self) -> None:
        """Give the buffer to the writer and take a free one, waiting for it if need be."""
        held = int(self.handle["out"]) - self._base
        if held == 0:
            return
        self._full.put((self._current, held))
        self.written += held
        if self._free.empty():
            self.waits += 1
        self._current = self._free.get()
        self._base = address(self._buffers[self._current])
        self.handle["out"], self.handle["out_end"] = self._base, self._base + BUFFER_BYTES

    def _write(self) -> None:
        """The writer thread: put full buffers into the file, and free them."""
        while (item := self._full.get()) is not None:
            index, held = item
            try:
                if self._failed is None:
                    self._put(memoryview(self._buffers[index])[:held])
            finally:
                self._free.put(index)

    def _put(self, data: memoryview | bytes) -> None:
        """Append whole blocks to the file. Where it takes no more, the part of one is cut off again, and `_failed` says why."""
        done = 0
        try:
            while done < len(data):
                done += self._file.write(data[done:])
        except OSError as error:
            self._failed = error
            at = 0
            while at < done and (after := at + struct.unpack_from("=I", data, at + 4)[0]) <= done:
                at = after
            with contextlib.suppress(OSError):
                self._file.truncate(self._file.tell() - (done - at))

    def _cut(self, room: int) -> None:
        """Keep only the blocks of the buffer that fit `room` bytes, and take the others back out of the counts."""
        view, at, end = self._buffers[self._current], 0, int(self.handle["out"]) - self._base
        keep = True
        kept = 0
        while at < end:
            size, which = struct.unpack_from("=II", view, at + 4)
            if keep and at + size > room:
                keep, kept = False, at
            if not keep:
                self._line_rows[which]["packets"] -= 1
                self._line_rows[which]["bytes"] -= struct.unpack_from("=I", view, at + 24)[0] - HEADERS
            at += size
        self.handle["out"] = self._base + (end if keep else kept)

    def _end(self) -> None:
        """Look at the sockets' counts of what was lost a last time, and write the statistics blocks."""
        made = b""
        for which, (line, one) in enumerate(zip(self._line_rows, self.sockets, strict=True)):
            try:
                seen = struct.unpack_from("=9I", one.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 36))[8]
                line["drops"] += (seen - int(line["drops_seen"])) & 0xFFFFFFFF
            except (OSError, struct.error):
                pass
            received = int(line["packets"]) + int(line["drops"])
            made += statistics_of(which, int(line["first_ns"]), int(line["last_ns"]), received, int(line["drops"]))
        self._put(made)
        self.written += len(made)

    def close(self) -> None:
        """Leave the groups and close the file."""
        for made in self.sockets:
            made.close()
        if self._file is not None:
            self._file.close()

    def facts(self, seconds: float, ended: str) -> dict[str, Any]:
        """Return the statistics."""
        rows = []
        for name, line in zip(self.names, self._line_rows, strict=True):
            letter, _, where = name.partition(" ")
            counts = {name: int(line[field]) for name, field in COUNTED.items()}
            rows.append({"line": letter, "address": where, **counts})
        kinds = [kind for kind in ("hardware", "software", "unstamped") if any(row[kind] for row in rows)]
        return {"file": str(self.path), "file_bytes": self.written, "seconds": round(seconds, 6), "ended": ended, "lines": rows,
                "packets": sum(row["packets"] for row in rows), "dropped": sum(row["dropped"] for row in rows),
                "stamps": " and ".join(kinds) or "none", "writer_waits": self.waits}  # fmt: skip
