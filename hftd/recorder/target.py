"""Where the drain writes: the open journal file, or private memory where there is none. Between two turns, by the recorder alone.

A disk that is full, fails, or is taken away ends nothing: it is counted, said once until it is over, and what finds no journal is
counted too (`unjournaled`). A file that could not be made is tried again once a minute.
"""

import time
from pathlib import Path

import numpy as np

from hftd.control.config import Config
from hftd.core import clock as clocks
from hftd.core.memory import address, block, set_span
from hftd.recorder.journal import HEADER, JournalError, Stream, Writer, free_number, stream_code
from hftd.recorder.logs import Logs
from hftd.recorder.manifest import keep_manifest
from hftd.recorder.taps import ENTRY, entry_dtype

RETRY_NS = 60_000_000_000
SCRAP = 2048
"""Entries of the private memory: it is emptied after each slice."""

NONE = "no journal is written"


class Target:
    """The drain's target, and how far it was looked at."""

    def __init__(self, config: Config, directory: Path, memory, handle, streams: dict[str, int], symbols: dict[int, str]):
        """handle: recorder_agent_dtype record. streams: tapped ring -> stream code. symbols: rows that each file begins with."""
        self.config, self.directory, self.handle, self.symbols = config, directory, handle, symbols
        self.run, self.clock = memory["control"]["run"][0], memory["control"]["clock"][0]
        self.counters, self.instruments = memory["recorder"]["counters"][0], memory["market"]["instruments"]
        self.names = {code: name for name, code in streams.items()}
        self.logs: Logs
        self.writer: Writer | None = None
        self.manifest = ""
        self.files = self.looked = self.next_try = 0
        self._scrap = block(SCRAP * ENTRY + HEADER, name="scrap", count=SCRAP)
        self._scrap_entries = np.frombuffer(self._scrap, entry_dtype, SCRAP, HEADER)
        self._told: set[str] = set()              # troubles that were told and are not over

    def next_file(self) -> None:
        """Aim the drain at a new journal file, or at private memory."""
        self.seal()
        self.next_try = time.monotonic_ns() + RETRY_NS
        if self.config.recorder.journal:
            try:
                self.writer = Writer(self.directory, self.config.daemon.name, int(self.run["epoch"]) or time.time_ns(),
                                     self._free_number(), clocks.snapshot(self.clock), self.names,
                                     run=self._manifest())  # fmt: skip
            except JournalError as error:
                self._trouble(NONE, error)
        handle, writer = self.handle, self.writer
        if writer is None:
            at = address(self._scrap)
            set_span(handle["target"], at + HEADER, SCRAP)
            handle["committed_at"], handle["next"], handle["limit"] = at, 0, SCRAP
            return
        if NONE in self._told:
            self.logs.say("warning", "recorder", "a journal is written again", unjournaled=int(self.counters["unjournaled"]))
        self._told.clear()
        self._count("journal_files", 1)
        set_span(handle["target"], writer.base, writer.capacity)
        handle["committed_at"], handle["limit"] = writer.committed_at, writer.capacity
        for at in self.symbols:
            writer.append(stream_code(Stream.SYMBOL), at, self.instruments[at : at + 1].tobytes())
        handle["next"] = self.looked = writer.count

    def seal(self) -> None:
        """End the journal file, where there is one."""
        writer, self.writer = self.writer, None
        if writer is None:
            self._forget()
            return
        self.looked = 0
        try:
            writer.seal()
        except OSError as error:
            self._trouble("a journal file was not sealed", error, path=str(writer.path))

    def new(self) -> np.ndarray:
        """Return the entries since the last look (entry_dtype, in place)."""
        entries = self.writer.entries if self.writer is not None else self._scrap_entries
        begin, self.looked = self.looked, int(self.handle["next"])
        return entries[begin : self.looked]

    def kept(self) -> None:
        """Note that the log has what was looked at: there the next recorder goes on, should this one be killed."""
        if self.writer is None:
            self._forget()
            return
        self.writer.header["told"] = self.looked
        self.writer.absorb()
        self.counters["journal_entries"] = self.writer.count
        self.counters["journal_bytes"] = HEADER + self.writer.count * ENTRY

    def append(self, stream: int, aux: int, record: bytes) -> None:
        """Append an entry of our own to the journal; it never makes it full (the drain needs one free)."""
        if self.writer is None or self.writer.count + 1 >= self.writer.capacity:
            return
        self.writer.append(stream, aux, record)
        self.handle["next"] = self.writer.count
        if self.looked == self.writer.count - 1:
            self.looked = self.writer.count

    def each_second(self, now_ns: int) -> None:
        """Push the journal through to the disk; begin another where its file was removed, or where there was no room for one."""
        writer = self.writer
        if writer is None:
            if self.config.recorder.journal and now_ns >= self.next_try:
                self.next_file()
            return
        try:
            kept = writer.kept()
            if kept < writer.capacity:
                self._was_cut(writer, min(kept, int(self.handle["next"])))
                return
            if not writer.gone():
                writer.flush()
                return
        except OSError as error:
            self._trouble("the journal may not be on the disk", error, path=str(writer.path), entries=writer.count)
            return
        self._trouble("the journal file was removed: what was in it is lost", "removed",
                      path=str(writer.path), entries=writer.count)  # fmt: skip
        self._count("unjournaled", writer.count)
        self.next_file()

    def _was_cut(self, writer: Writer, kept: int) -> None:
        """Leave a file that somebody cut to its `kept` first entries, without a look at its map; begin another."""
        lost = int(self.handle["next"]) - kept
        self._trouble("the journal file was cut short: what was behind its new end is lost", "truncated",
                      path=str(writer.path), entries=lost)  # fmt: skip
        self._count("unjournaled", lost)
        self.writer, self.looked = None, 0
        self.next_file()

    def _forget(self) -> None:
        """Empty the private memory: what was in it is in no journal."""
        if self.looked:
            self._count("unjournaled", self.looked)
            self._scrap_entries["crc"][: self.looked] = 0
            self.handle["next"] = self.looked = 0

    def _manifest(self) -> str:
        """Return the digest of the run's manifest, written at its first file; '' where it cannot be."""
        if not self.manifest and int(self.run["epoch"]):
            try:
                self.manifest = keep_manifest(self.config, self.directory, int(self.run["epoch"]))
            except OSError as error:
                self._trouble("the run's manifest was not written: its journal does not say what it was made of", error)
        return self.manifest

    def _free_number(self) -> int:
        """Return the number of the next file: past those an earlier recorder of this run wrote."""
        epoch = int(self.run["epoch"])
        self.files = free_number(self.directory, self.config.daemon.name, epoch, self.files) if epoch else self.files + 1
        return self.files

    def _trouble(self, event: str, why: object, **facts: object) -> None:
        """Count a failure of the journal's disk, and say it once until it is over."""
        self._count("journal_failed", 1)
        if event not in self._told:
            self._told.add(event)
            self.logs.say("error", "recorder", event, why=str(why), **facts)

    def _count(self, name: str, more: int) -> None:
        self.counters[name] = int(self.counters[name]) + more
