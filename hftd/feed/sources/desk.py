"""The feed without the daemon: `hftd feed`. A file, a capture or live lines through the feed's own agent, in private memory.

    ITCH file ──▶ replay_file ───────▶ apply_one ─┐
    capture ────▶ replay_capture ─▶ handle_packet ├─▶ books, counters, events ─▶ whoever takes them (`take`)
    synthetic ──▶ play_packets ──▶ handle_packet ─┤
    live ───────▶ the feed's duty cycle ──────────┘

The agent is the daemon's (`FeedAgent`), so that what is looked at here is what would be traded on: sequencing, lines A and B, gaps,
books. For files and captures it has no sockets, and its clock makes a tick a nanosecond of the recording's own time; nobody can be
asked for what a recording lacks, so a gap that outlasts the reorder window leaves the books STALE, as it would live.

Nothing is in /dev/shm: any number of these run beside a daemon.
"""

import contextlib
import ctypes
import dataclasses
import mmap
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from hftd.control.config import Config, ConfigError, build, host_port
from hftd.core import clock as clocks
from hftd.core.memory import address, block, records
from hftd.errors import HftdError
from hftd.feed.files import DataError, ItchFile, Scan
from hftd.feed.memory import HISTOGRAMS, LINE_A, LINE_B
from hftd.feed.setup import FeedAgent
from hftd.feed.sources.capture import LATEST, CaptureFile
from hftd.feed.sources.frames import NEED, REASON, file_dtype, play_packets, replay_capture, replay_file, run_whole, settle
from hftd.feed.state import SINK_NONE, SINK_RING
from hftd.feed.view import read_sides, told
from hftd.msg.enums import BookState, Reason
from hftd.shm import map as shared
from hftd.shm.histogram import percentiles
from hftd.shm.segment import Segment, size_of
from hftd.venues.nasdaq.itch50 import symbol_to_text
from hftd.venues.nasdaq.moldudp64 import session_to_text

EVENTS = 1 << 18
"""Slots of the private ring of events, drained after every step."""

INSTRUMENTS, ORDERS_MAX, LEVELS_MAX = 1 << 14, 1 << 22, 1 << 21
"""Where nothing else is known: more than a full day of the whole market has had."""

BYTES_PER_ORDER = 38
"""An add order message with its framing: a file has no more orders than its bytes over this."""

UNZIPPED = 12
"""Bytes that a byte of gzip may stand for, where they are not known."""

MARKET_BYTES, MARKET_MESSAGES, MARKET_GAP_NS = 64 << 20, 1 << 16, 1000
"""Of a synthetic market: bytes and messages made at once (its events fit the ring), and the time between two packets."""

TURNS = 64
"""Turns of the live loop between two looks at the ring: far fewer events than it has slots."""

ERRORS = (
    "malformed", "truncated", "foreign", "doubted", "unknown_types", "bad_lengths", "bad_fields", "unknown_refs", "duplicate_refs",
    "overfills", "crossed", "locked", "orders_full", "levels_full", "slots_full", "instruments_full", "given_up", "lost_messages",
    "distrusted", "mend_failures",
)  # fmt: skip
"""Counters that say that something is wrong with the data, or with us."""


class PrivateMemory:
    """An instance's segments in private memory, each made when it is first asked for."""

    def __init__(self, config: Config):
        self._parts = shared.segments(config)
        self._made: dict[str, Segment] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._parts

    def __getitem__(self, name: str) -> Segment:
        if name not in self._made:
            parts = self._parts[name]
            memory = mmap.mmap(-1, size_of(parts), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            self._made[name] = Segment(name, parts, memory)
        return self._made[name]


class OfflineAgent(FeedAgent):
    """The feed's agent without lines: its packets are given to it."""

    def _line(self, line: int, text: str, key: str, path: str) -> None:
        """Join nothing."""


class Stopped(Exception):
    """The user, or a limit, ended the run; what was done until then counts."""


@contextlib.contextmanager
def stop_signals():
    """Yield a list to which SIGTERM and SIGINT append their number, in the main thread; the handlers before come back after."""
    seen: list[int] = []
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            before[number] = signal.signal(number, lambda got, frame: seen.append(got))
    try:
        yield seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def parse_lines(texts: list[str], most: int = 2) -> list[tuple[str, int]]:
    """Return (address, port) of `--line` options: GROUP:PORT, for line A and then line B. Raises ConfigError."""
    if len(texts) > most:
        raise ConfigError(f"--line: at most {most} lines, {len(texts)} were given")
    if len(set(texts)) < len(texts):
        raise ConfigError(f"--line: one line stands twice: {', '.join(texts)}")
    found = []
    for text in texts:
        host, port = host_port(text, "--line")
        try:
            socket.inet_aton(host)
        except OSError:
            raise ConfigError(f"--line: must be an IPv4 address and a port, was {text!r}") from None
        found.append((host, port))
    return found


def settings(config: Config | None, lines: list[tuple[str, int]], symbols: list[str], orders: int = 0, offline: bool = False,
             interface: str = "") -> Config:  # fmt: skip
    """Return the configuration a desk runs with: the one given or the defaults, with the lines, symbols and sizes asked for.

    orders: at most so many at once, 0: as configured. Offline: as large as a recording needs, and no servers to be asked.
    """
    base = config or build({}, "--line")
    feed, universe, rings = base.feed, base.universe, base.rings
    if lines:
        texts = [f"{host}:{port}" for host, port in lines] + [""]
        feed = dataclasses.replace(feed, line_a=texts[0], line_b=texts[1])
    if interface:
        feed = dataclasses.replace(feed, interface=interface)
    if config is None:
        universe = dataclasses.replace(universe, max=INSTRUMENTS)
        feed = dataclasses.replace(feed, request=[], glimpse="", levels_max=max(feed.levels_max, feed.orders_max >> 1))
    if offline:
        feed = dataclasses.replace(feed, request=[], glimpse="", gap_timeout_ms=1, session="")
        if config is None:
            wanted = 1 << max(min(orders, ORDERS_MAX) - 1, 1023).bit_length()
            feed = dataclasses.replace(feed, orders_max=wanted, levels_max=min(wanted, LEVELS_MAX))
    if symbols:
        universe = dataclasses.replace(universe, symbols=symbols)
    return dataclasses.replace(base, feed=feed, universe=universe, strategy=(), rings=dataclasses.replace(rings, md=EVENTS))


class Pace:
    """How fast a recording runs: recorded pace times `times`, or `rate` messages a second, the slower; 0: as fast as possible."""

    def __init__(self, times: float = 0.0, rate: float = 0.0):
        if times < 0 or rate < 0:
            raise HftdError("--pace and --rate: must be above 0")
        self.times, self.rate = times, rate
        self.begun = time.monotonic()
        self.active = times > 0 or rate > 0

    def limit(self, state, messages: int) -> None:
        """Set the limits of a walk's state (until, messages_until)."""
        passed = time.monotonic() - self.begun
        until = messages_until = LATEST
        if self.times > 0:
            if int(state["first"]) == 0:
                messages_until = messages + 1         # the first one tells when the recording begins
                self.begun = time.monotonic()
            else:
                until = int(state["first"]) + int(passed * self.times * 1e9)
        if self.rate > 0:
            messages_until = min(messages_until, 1 + int(passed * self.rate))
        state["until"], state["messages_until"] = until, messages_until


class Desk:
    """A feed agent in private memory. take(events): called with arrays of market_event_dtype, in order, good until it returns."""

    def __init__(self, config: Config, live: bool = False, take: Callable[[np.ndarray], None] | None = None):
        self.config, self.take, self.live = config, take, live
        self.memory = PrivateMemory(config)
        self.clock_array = self.memory["control"]["clock"]
        self.clock = self.clock_array[0]
        if live:
            clocks.calibrate(self.clock)
        else:                                         # a tick is a nanosecond of the recording's time, UTC
            self.clock["mult"] = self.clock["inverse"] = 1 << 32
            self.clock["hz"] = 1_000_000_000
        self.agent = (FeedAgent if live else OfflineAgent)(config, self.memory)
        try:
            self.agent.prepare(False)
        except BaseException:
            self.agent.close()
            raise
        self.handle, self.counters = self.agent.handle, self.agent.build.counters
        self.handle["sink"] = SINK_RING if take else SINK_NONE
        self.slots = np.asarray(self.memory["ring.md"]["slots"])
        self.drained = int(self.handle["md"]["tail"])
        self.events = self.lost_events = 0
        self.kind = ""
        self.span_ns = 0
        self.begun = time.monotonic()
        self.seconds = 0.0
        self.capture: CaptureFile | None = None
        self.resident: list[int] = []

    def close(self) -> None:
        """Close the sockets."""
        self.agent.close()

    # ------------------------------------------------------------ events

    def drain(self) -> None:
        """Hand the events since the last call to `take`."""
        if self.take is None:
            return
        from hftd.msg.records import market_event_dtype

        tail = int(self.handle["md"]["tail"])
        count = tail - self.drained
        if count > EVENTS:
            self.lost_events += count - EVENTS
            self.drained = tail - EVENTS
        rows = self.slots.view(market_event_dtype)
        while self.drained < tail:
            at = self.drained & (EVENTS - 1)
            run = min(tail - self.drained, EVENTS - at)
            self.take(rows[at : at + run])
            self.drained += run
            self.events += run

    # ------------------------------------------------------------ sources

    def run_file(self, source: ItchFile, pace: Pace, stop: list, seconds: float = 0.0) -> None:
        """Play a recorded ITCH file."""
        self.kind = "ITCH file"
        made = records(file_dtype, 1)
        state = made[0]
        state["seq"], state["until"], state["messages_until"] = 1, LATEST, LATEST
        replay_file(self.handle, state)               # compiled, or loaded, before the clock runs
        run_whole(self.handle, 0, 0, 1)
        pace.begun = self.begun = time.monotonic()
        seq = 1
        try:
            for at, size in source.chunks():
                if not pace.active and self.take is None:
                    self._look(stop, seconds)
                    if seq == 1:
                        state["first"] = stamp_at(at)
                    seq += int(run_whole(self.handle, at, size, seq))
                    state["now"] = self.handle["ts_event"]
                    continue
                state["at"], state["end"] = at, at + size
                why = -1
                while why != NEED:
                    self._look(stop, seconds)
                    pace.limit(state, int(self.counters["messages"]))
                    state["drained"] = self.drained
                    why = int(replay_file(self.handle, state))
                    self.drain()
                    if why != NEED and pace.active:
                        time.sleep(0.0005)
        finally:
            self.seconds = time.monotonic() - self.begun
            self.span_ns = int(state["now"]) - int(state["first"])

    def run_capture(self, source: CaptureFile, pace: Pace, stop: list, seconds: float = 0.0) -> None:
        """Play a capture. Raises DataError where nothing in it is a line of ours."""
        self.capture = source
        replay_capture(self.handle, source.state)     # compiled, or loaded, before the clock runs: there is nothing to walk yet
        settle(self.handle, 0)

        def walk(state) -> int:
            self._look(stop, seconds)
            pace.limit(state, int(self.counters["messages"]))
            state["drained"] = self.drained
            why = int(replay_capture(self.handle, state))
            self.drain()
            return why

        def paused(why: int) -> None:
            if why == REASON:
                reason, self.handle["reason"] = int(self.handle["reason"]), 0
                self.agent.on_reason(reason)
                self.drain()
            elif pace.active:
                time.sleep(0.0005)

        pace.begun = self.begun = time.monotonic()
        try:
            source.play(walk, paused)
            self._settle(int(source.state["now"]))
        finally:
            self.kind = source.kind
            self.seconds = time.monotonic() - self.begun
            self.span_ns = int(source.state["now"]) - int(source.state["first"])

    def run_market(self, market, messages: int, stop: list, seconds: float = 0.0) -> None:
        """Play a synthetic market's day (`hftd.sim.day.Market`) of `messages` messages between opening and close, on both lines."""
        self.kind = "synthetic"
        buffer = block(MARKET_BYTES, huge=True)
        at, now = address(buffer), time.time_ns()
        begun_ns = now
        play_packets(self.handle, at, at, now, MARKET_GAP_NS)  # compiled, or loaded, before the clock runs
        market.packets(at, at, 0)
        self.begun = time.monotonic()
        self.resident = [resident_bytes()]

        def play(end: int) -> None:
            nonlocal now
            begun = time.monotonic()
            now = int(play_packets(self.handle, at, end, now, MARKET_GAP_NS))
            self.seconds += time.monotonic() - begun
            self.drain()
            self.resident.append(resident_bytes())

        def say(framed: bytes) -> None:
            packets = market.packed(framed)
            buffer[: len(packets)] = packets
            play(at + len(packets))

        try:
            say(market.opening())
            wanted = int(market.state["messages"]) + messages
            while (left := wanted - int(market.state["messages"])) > 0:
                self._look(stop, seconds)
                play(market.packets(at, at + MARKET_BYTES, min(left, MARKET_MESSAGES)))
            say(market.closing())
        finally:
            self.span_ns = now - begun_ns

    def _settle(self, now: int) -> None:
        """Let time pass after the last packet until nothing is missing any more, or nothing moves."""
        step = int(self.handle["timeout"]) + int(self.handle["reorder"]) + 1
        still = 0
        while int(self.handle["behind"]) and still < 1000:
            before = int(self.handle["expected"])
            now += step
            settle(self.handle, now)
            self.drain()
            still = still + 1 if int(self.handle["expected"]) == before else 0

    def run_live(self, stop: list, seconds: float = 0.0, every: Callable[[], None] | None = None, every_s: float = 1.0) -> None:
        """Listen until a signal, the end of `seconds` (0: none) or of the session. every(): called each `every_s` seconds."""
        self.kind = "live"
        kernel, agent = self.agent.kernel(), self.agent
        kernel(self.handle, agent.mark, agent.waiting, 1)
        reported = self.begun = time.monotonic()
        try:
            while not stop:
                reason = kernel(self.handle, agent.mark, agent.waiting, TURNS)
                if reason not in (Reason.SLICE, Reason.STOP):
                    agent.on_reason(reason)
                now = time.monotonic()
                agent.cold(time.monotonic_ns())
                self.drain()
                if (seconds and now > self.begun + seconds) or (int(self.handle["ended"]) and not int(self.handle["behind"])):
                    break
                if every and now - reported >= every_s:
                    reported = now
                    every()
        finally:
            self.seconds = time.monotonic() - self.begun
            self.span_ns = int(self.seconds * 1e9)

    def _look(self, stop: list, seconds: float) -> None:
        if stop or (seconds and time.monotonic() > self.begun + seconds):
            raise Stopped

    # ------------------------------------------------------------ what was seen

    def symbols(self) -> list[str]:
        """Return the symbols of the instrument table, by index."""
        rows = self.agent.build.tables["instruments"].rows["symbol"][: int(self.handle["used"])]
        return [symbol_to_text(value) for value in rows]

    def book(self, symbol: str, depth: int) -> dict[str, Any]:
        """Return a book: bids and asks, best first, [px, qty, orders], px times 10,000. Raises HftdError for an unknown symbol."""
        names = self.symbols()
        if symbol not in names:
            raise HftdError(f"--book {symbol}: was not announced; there were {', '.join(sorted(names)[:12]) or 'no symbols'}")
        tables, index = self.agent.build.tables, names.index(symbol)
        arrays = (np.asarray(tables[name].rows) for name in ("books", "levels", "slots"))
        bids, asks = read_sides(*arrays, index, depth)
        book, quote = tables["books"].rows[index], tables["quotes"].rows[index]
        return {"symbol": symbol, "state": BookState(int(book["state"])).name, "orders": int(book["orders"]),
                "taints": int(book["taints"]), "last_px": int(quote["last_px"]), "volume": int(quote["volume"]),
                "status": told(tables["statuses"].rows[index]), "bids": bids, "asks": asks}  # fmt: skip

    def counts(self) -> dict[str, int]:
        """Return messages by type."""
        types = self.agent.build.tables["types"].rows["count"]
        return {chr(kind): int(types[kind]) for kind in np.nonzero(types)[0]}

    def counter_values(self) -> dict[str, int]:
        """Return every counter of the feed that is not zero."""
        names = [name for name in self.counters.dtype.names or () if not name.startswith("pad")]
        return {name: int(self.counters[name]) for name in names if int(self.counters[name])}

    def lines(self) -> dict[str, dict[str, int]]:
        """Return the counters of each line that heard anything: a, b, and r for retransmissions."""
        found: dict[str, dict[str, int]] = {}
        for name in self.counters.dtype.names or ():
            stem, _, line = name.rpartition("_")
            if line in ("a", "b", "r") and stem:
                found.setdefault(line, {})[stem] = int(self.counters[name])
        return {line: values for line, values in found.items() if any(values.values())}

    def summary(self) -> dict[str, Any]:
        """Return everything that was seen, for people's tables and for --json."""
        all_counters, messages = self.counter_values(), int(self.counters["messages"])
        recorded = self.span_ns / 1e9
        facts: dict[str, Any] = {
            "kind": self.kind, "messages": messages, "counts": self.counts(), "instruments": int(self.handle["used"]),
            "seconds": round(self.seconds, 6), "recorded_seconds": round(recorded, 9),
            "rates": {"messages_per_s": round(messages / self.seconds) if self.seconds else 0,
                      "recorded_messages_per_s": round(messages / recorded, 3) if recorded > 0 else 0},
            "gaps": {name: int(self.counters[name]) for name in
                     ("gaps", "gap_messages", "reordered", "recovered", "given_up", "lost_messages")},
            "lines": self.lines(), "errors": {name: all_counters.get(name, 0) for name in ERRORS}, "counters": all_counters,
            "executed_shares": int(self.counters["volume"]), "events": self.events, "events_lost": self.lost_events,
            "state": BookState(int(self.handle["state"])).name, "live_orders": int(self.counters["orders_live"]),
        }  # fmt: skip
        if int(self.handle["session_known"]):
            facts["session"] = session_to_text(int(self.handle["session_a"]), int(self.handle["session_b"]))
            facts["next_sequence"] = int(self.handle["expected"])
        facts["market"] = told(self.agent.build.tables["session"].rows[0])
        facts["histograms_ns"] = self._histograms()
        if self.resident:
            facts["resident_mib"] = {"begin": self.resident[0] >> 20, "middle": self.resident[len(self.resident) // 2] >> 20,
                                     "end": self.resident[-1] >> 20}  # fmt: skip
        if self.capture is not None:
            facts["capture"] = self.capture.counts()
            facts["destinations"] = self.capture.lines()
        return facts

    def _histograms(self) -> dict[str, dict[str, int]]:
        """Return percentiles of the feed's histograms in ns; of a recording, those that are not about our own speed."""
        found, rows = {}, self.agent.build.tables["histograms"].rows
        for index, name in enumerate(HISTOGRAMS):
            if int(rows[index]["count"]) and (self.live or name != "packet"):
                values = [round(value * 1e9 / int(self.clock["hz"])) for value in percentiles(rows[index], (50, 99, 100))]
                found[name] = dict(zip(("count", "p50", "p99", "max"), (int(rows[index]["count"]), *values), strict=True))
        return found


def resident_bytes() -> int:
    """Return what this process has in memory now."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * mmap.PAGESIZE


def stamp_at(at: int) -> int:
    """Return the stamp of the framed message at an address, ns since the venue's midnight."""
    return int.from_bytes(ctypes.string_at(at + 7, 6), "big")


def orders_in_capture(source: CaptureFile) -> int:
    """Return more orders than a capture can hold."""
    return source.size * (UNZIPPED if source.zipped else 1) // BYTES_PER_ORDER + 1


def orders_in_file(source: ItchFile) -> int:
    """Return as many orders as a file has at once where it fits one chunk, else more than it can hold."""
    scan, whole = Scan(), True
    for at, size in source.chunks():
        scan.add(at, size)
        whole = size < source.chunk_bytes
        break
    return scan["live_peak"] + 1 if whole else source.size * (UNZIPPED if source.zipped else 1) // BYTES_PER_ORDER


def wanted_of(lines: list[tuple[str, int]], config: Config | None) -> list[tuple[int, int, int]]:
    """Return the destinations of a capture that are lines A and B: those given, else the configuration's, else none (found)."""
    if not lines and config is not None:
        texts = [text for text in (config.feed.line_a, config.feed.line_b) if text]
        lines = [host_port(text, f"{config.path}: feed") for text in texts]
    return [(struct.unpack("!I", socket.inet_aton(host))[0], port, line) for line, (host, port) in
            zip((LINE_A, LINE_B), lines, strict=False)]  # fmt: skip


__all__ = ["DataError", "Desk", "Pace", "Stopped", "orders_in_capture", "orders_in_file", "parse_lines", "settings", "stop_signals",
           "wanted_of"]  # fmt: skip
