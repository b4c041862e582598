"""`hftd bench load`: how much the path takes, and what happens to latency on the way there. Cold.

    feed in         core A: packets ──▶ feed ──▶ ring.md                              messages/s
    book updates    core A: the same ──ring.md──▶ core B: strategy                    market events/s
    orders out      core A: better bids ──ring.md──▶ core B: strategy, risk, gateway, venue and back      orders/s

Each is swept upward from LOWEST by STEP until the 99th percentile is KNEE times that of the lowest rate, the rate is not reached,
or a ring fills; then what is claimed is held for some seconds, with the counters that prove that nothing was lost. Roles, rings and
turns are the daemon's own in two processes, one on each of two cores; `loadloops.py` says why packets come from memory.
"""

import mmap
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hftd.bench import flow, said_of
from hftd.bench.cores import two_cores
from hftd.bench.loadloops import feed_at_rate, follow, load_dtype, trade
from hftd.bench.registry import BenchError
from hftd.bench.rig import PX, QTY, Rig
from hftd.core.memory import prefault
from hftd.msg.enums import DenyReason
from hftd.risk.memory import DENIED_AT
from hftd.shm import ring
from hftd.shm.histogram import histogram_dtype, percentiles

STEP, KNEE, REACHED = 1.5, 10.0, 0.98
LOWEST = {"feed in": 1e6, "book updates": 5e5, "orders out": 2e4}
PER_PACKET = 10
"""Messages in a packet, as a busy feed has them."""

MESSAGES = 60_000
ORDERS_MAX = 1 << 17
PATIENCE_S = 30.0
ERRORS = ("malformed", "truncated", "foreign", "duplicates_a", "gaps", "gap_messages", "lost_messages", "unknown_types",
          "bad_lengths", "bad_fields", "unknown_refs", "duplicate_refs", "overfills", "orders_full", "levels_full", "slots_full",
          "detached", "queued")  # fmt: skip
"""Counters of the feed that must be zero: each would be a message that went another way than into a book and a ring."""


@dataclass(frozen=True)
class Point:
    """One run at a rate: messages, events or orders a second; ns from the intended arrival.

    utilisation: of the busier of its cores. lost: what nobody can account for, or an error counter; 0, or something is wrong.
    turned_away: orders that the strategy's own tables or risk refused, each counted and answered.
    """

    what: str
    offered: float
    reached: float
    seconds: float
    p50: float
    p99: float
    p999: float
    max: float
    utilisation: float
    lost: int
    turned_away: int
    proof: str
    stopped: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


class Bench:
    """A rig whose feed takes its packets from a table, on one core, and one of three things behind it."""

    def __init__(self, what: str, directory: str):
        self.what = what
        orders = what == "orders out"
        symbols = ("BENA",) if orders else tuple(f"BEN{chr(65 + at)}" for at in range(8))
        self.rig = Rig(directory, "trigger.py" if orders else "watcher.py", symbols, ORDERS_MAX)
        self.memory = mmap.mmap(-1, 2 * histogram_dtype.itemsize + load_dtype.itemsize)
        self.histograms = np.frombuffer(self.memory, histogram_dtype, 2)
        self.load = np.frombuffer(self.memory, load_dtype, 1, 2 * histogram_dtype.itemsize)[0]
        self.load_at = self.histograms.ctypes.data + 2 * histogram_dtype.itemsize
        self.packets, self.table = _ticks() if orders else _cycle(symbols)
        load = self.load
        load["table"], load["packets"], load["sequence"] = self.table.ctypes.data, len(self.table), self.rig.rig["sequence"]
        load["histogram"] = self.histograms.ctypes.data
        load["taken_histogram"] = self.histograms.ctypes.data + histogram_dtype.itemsize
        self.hz = float(self.rig.memory["control"]["clock"][0]["hz"])
        if what == "feed in":
            for place in range(ring.CONSUMERS):
                ring.release(self.rig.memory["ring.md"], place)
        program, rig = self.rig.strategy.program, self.rig
        marks = (rig.strategy.handle, rig.strategy.mark, rig.risk.handle, rig.risk.mark, rig.gateway.handle, rig.gateway.mark)
        self.behind: Callable[[], Any] | None = None
        if what == "book updates":
            kernel = program.bind(follow, "load_follow")
            self.behind = lambda: kernel(rig.strategy.handle, load, self.load_at)
        elif orders:
            kernel = program.bind(trade, "load_trade")
            self.behind = lambda: kernel(*marks, rig.rig, load, self.load_at)
        self._compile()

    def _compile(self) -> None:
        """Compile and touch everything, with nothing to send."""
        self.load["messages"], self.load["ended"] = 0, 1
        feed_at_rate(self.rig.feed.handle, self.load)
        if self.behind:
            self.behind()

    def sweep(self, wanted: Callable[["Point | None"], tuple[float, float] | None]) -> list[Point]:
        """Run the rates that `wanted` asks for, given the point before: (rate, seconds), or None at the end."""
        made: list[Point] = []
        if self.behind is None:
            allowed = os.sched_getaffinity(0)
            os.sched_setaffinity(0, {max(allowed)})
            try:
                while (ask := wanted(made[-1] if made else None)) is not None:
                    self._ask(*ask)
                    feed_at_rate(self.rig.feed.handle, self.load)
                    made.append(self._point(*ask))
            finally:
                os.sched_setaffinity(0, allowed)
            return made
        go = np.frombuffer(mmap.mmap(-1, 4096), np.int64, 1)

        def feed() -> bool:
            self.rig.map_all()
            for memory in (self.memory, self.packets, *_kept):  # else the first lap copies every page of packets as it numbers them
                prefault(memory)
            done = 0
            while True:
                until = time.monotonic() + PATIENCE_S
                while go[0] == done or (go[0] > 0 and not self.load["ready"]):
                    if time.monotonic() > until:
                        return False
                    time.sleep(0.0002)
                if go[0] < 0:
                    return True
                done += 1
                feed_at_rate(self.rig.feed.handle, self.load)

        def follow_up() -> None:
            assert self.behind is not None
            self.rig.map_all()
            prefault(self.memory)
            try:
                while (ask := wanted(made[-1] if made else None)) is not None:
                    self._ask(*ask)
                    self.rig.wake()
                    go[0] += 1
                    self.behind()
                    until = time.monotonic() + PATIENCE_S
                    while not self.load["ended"] and time.monotonic() < until:
                        time.sleep(0.001)
                    made.append(self._point(*ask))
                    if made[-1].stopped or made[-1].lost:
                        break
            finally:
                go[0] = -1

        two_cores(feed, follow_up)
        return made

    def _ask(self, rate: float, seconds: float) -> None:
        load = self.load
        per = self._messages_per()
        load["spacing"] = int(self.hz * 1024 / (rate * per)) if rate else 0
        load["messages"] = messages_of(rate, seconds, int(per))
        for word in ("ready", "ended", "sent", "busy", "elapsed", "arrived", "other_busy", "other_elapsed", "code"):
            load[word] = 0
        self.histograms.view(np.uint8)[:] = 0
        self.before = self._counts()

    def _messages_per(self) -> float:
        """Messages for one of what is counted: an order takes a better bid and its deletion; an event is about a message."""
        return 2.0 if self.what == "orders out" else 1.0

    def _counts(self) -> dict[str, int]:
        rig = self.rig
        feed = rig.feed.build.counters
        made = {name: int(feed[name]) for name in ERRORS}
        made["taken"] = int(rig.strategy.handle["md"]["next"])
        made["orders"] = int(rig.risk.segment["counters"]["orders"][0])
        made["enters"] = int(rig.gateway.counters["enters_sent"])
        words = np.asarray(rig.risk.segment["counters"]).view(np.int64)
        made["denied"] = int(words[DENIED_AT + 1 : DENIED_AT + len(DenyReason)].sum())
        made["refused"] = int(rig.strategy.segment["counters"]["refused"][0])
        made["fills"] = int(rig.strategy.segment["positions"][0]["fills"])
        return made

    def _point(self, rate: float, seconds: float) -> Point:
        load, now = self.load, self._counts()
        grown = {name: now[name] - self.before[name] for name in now}
        elapsed, sent = int(load["elapsed"]) / self.hz, int(load["sent"])
        wrong = {name: grown[name] for name in ERRORS if grown[name]}
        lost = (int(load["messages"]) > sent and int(load["messages"]) - sent) or 0
        lost += sum(wrong.values())
        proof = f"{sent:,} messages in"
        reached = sent / max(elapsed, 1e-9) / self._messages_per()
        if self.what != "feed in":
            behind = int(load["md_tail"]) - now["taken"]
            lost += abs(behind)
            proof += f", {grown['taken']:,} events taken of {grown['taken'] + behind:,} published"
            if self.what == "book updates":
                reached = grown["taken"] / max(int(load["other_elapsed"]) / self.hz, 1e-9)
        away = grown["denied"] + grown["refused"]
        if self.what == "orders out":
            lost += abs(sent // 2 - grown["orders"] - away)
            lost += sum(abs(grown["orders"] - grown[name]) for name in ("enters", "fills"))
            proof += f", {grown['orders']:,} orders passed, {grown['enters']:,} sent, {grown['fills']:,} filled"
            proof += "".join(f", {grown[name]:,} {name}" for name in ("denied", "refused") if grown[name])
            reached = grown["enters"] / max(int(load["other_elapsed"]) / self.hz, 1e-9)
        proof += "; " + (", ".join(f"{name} {count:,}" for name, count in wrong.items()) or f"{len(ERRORS)} error counters at 0")
        which = 0 if self.what == "feed in" else 1
        points = [value * 1e9 / self.hz for value in percentiles(self.histograms[which], (50, 99, 99.9, 100))]
        busy = max(int(load[f"{core}busy"]) / max(int(load[f"{core}elapsed"]), 1) for core in ("", "other_"))
        stopped = f"core B stopped ({int(load['code'])})" if load["code"] else ""
        p50, p99, p999, most = (round(value, 1) for value in points)
        return Point(self.what, rate, round(reached), round(elapsed, 3), p50, p99, p999, most, round(busy, 4), lost, away, proof,
                     stopped)  # fmt: skip

    def close(self) -> None:
        """Give everything back."""
        self.rig.close()


def _sweep(what: str, wanted: Callable[[Point | None], tuple[float, float] | None]) -> list[Point]:
    with tempfile.TemporaryDirectory(prefix="hftd-bench-") as directory:
        bench = Bench(what, directory)
        try:
            return bench.sweep(wanted)
        finally:
            bench.close()


def curve(what: str, seconds: float, progress: Callable[[str], None]) -> list[Point]:
    """Sweep the rate upward until the knee. Returns the points, the last one beyond it."""

    def wanted(last: Point | None) -> tuple[float, float] | None:
        rate = LOWEST[what] if last is None else last.offered * STEP
        if last is not None:
            points.append(last)
            if why_knee(points) or rate > 1e9:
                return None
        progress(f"{what}: {rate:,.0f}/s")
        return rate, seconds

    points: list[Point] = []
    return _sweep(what, wanted)


def messages_of(rate: float, seconds: float, per: int) -> int:
    """Return the messages of a run, `per` for each thing that is counted: a bid without its deletion would be an order too many."""
    return int((rate or 20e6) * seconds) * per


def why_knee(points: list[Point]) -> str:
    """Why the last point is beyond what is sustained; "" where it is not."""
    last, first = points[-1], points[0]
    if last.lost or last.turned_away or last.stopped:
        return last.stopped or ("lost" if last.lost else "orders turned away")
    if last.what != "book updates" and last.reached < REACHED * last.offered:
        return "not reached"
    if last.p99 > KNEE * max(first.p99, 1000.0):
        return f"p99 {KNEE:g} times that of the lowest rate"
    return ""


def sustained(points: list[Point]) -> Point | None:
    """The highest point before the knee."""
    good = [point for at, point in enumerate(points) if not why_knee([points[0], *points[1 : at + 1]])]
    return good[-1] if good else None


CLAIMS = (
    ("feed in", 10e6, 0.0, "10 M messages/s into the feed"),
    ("feed in", 5e6, 0.5, "utilisation below 50 % at 5 M messages/s"),
    ("book updates", 1e6, 0.0, "1 M book updates/s through the rings"),
    ("orders out", 1e5, 0.0, "100 K orders/s through risk and encoding"),
)
"""What is claimed: rate, highest utilisation (0: any), in words."""


@dataclass(frozen=True)
class Verdict:
    """What became of a claim. wrong: something was lost, or it could not be run, on any host; short: why it was not held."""

    words: str
    point: Point | None
    wrong: str = ""
    short: str = ""

    @property
    def held(self) -> bool:
        """Whether the claim was held."""
        return not self.wrong and not self.short

    @property
    def text(self) -> str:
        """The verdict as people read it."""
        return "held" if self.held else f"NOT HELD: {self.wrong or self.short}"


def verdict(point: Point, rate: float, busiest: float, words: str) -> Verdict:
    """Judge a point against its claim: a rate a second, and the highest utilisation (0: any)."""
    if point.lost and not point.stopped:
        return Verdict(words, point, wrong=f"{point.lost:,} lost, or counted as errors: {point.proof}")
    if point.stopped:
        return Verdict(words, point, short=f"{point.stopped}, {point.lost:,} behind when it did")
    if point.turned_away:
        return Verdict(words, point, short=f"{point.turned_away:,} orders were turned away")
    if point.reached < REACHED * rate:
        return Verdict(words, point, short=f"{point.reached:,.0f}/s were reached, {rate:,.0f} are claimed")
    if busiest and point.utilisation >= busiest:
        return Verdict(words, point, short=f"the core was busy {point.utilisation:.0%} of the time, {busiest:.0%} is claimed")
    return Verdict(words, point)


def claims(seconds: float, progress: Callable[[str], None]) -> list[Verdict]:
    """Hold each claimed rate for `seconds`, and judge it. One that cannot be run is judged wrong, and the others are run."""
    made = []
    for what, rate, busiest, words in CLAIMS:
        progress(f"{words}, for {seconds:g} s")
        try:
            point = _hold(what, rate, seconds)
        except Exception as error:                    # whatever it is, the other claims are worth as much as before
            made.append(Verdict(words, None, wrong=said_of(error)))
        else:
            made.append(verdict(point, rate, busiest, words))
    return made


def _hold(what: str, rate: float, seconds: float) -> Point:
    offered = rate * 1.3 if what == "book updates" else rate  # not every message is an event
    found = _sweep(what, lambda last: None if last else (offered, seconds))
    if not found:
        raise BenchError(f"{what}: core B gave no result")
    return found[0]


# ---------------------------------------------------------------- packets


def _packets(messages: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """MoldUDP64 packets one after the other, 64 bytes apart at least, and the table of them."""
    rows, parts, at = [], [], 0
    for start in range(0, len(messages), PER_PACKET):
        some = messages[start : start + PER_PACKET]
        packet = b"BENCH00001" + bytes(8) + len(some).to_bytes(2, "big") + b"".join(some)
        rows.append((at, len(packet), len(some)))
        parts.append(packet.ljust((len(packet) + 63) // 64 * 64, b"\0"))
        at += len(parts[-1])
    memory = np.frombuffer(b"".join(parts), np.uint8).copy()
    table = np.array(rows, np.int64)
    table[:, 0] += memory.ctypes.data
    return memory, table


def _cycle(symbols: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Messages of a seed, and the deletions that leave the books as empty as they began."""
    made = flow.make_flow(MESSAGES, 7, len(symbols))
    messages, at = [], 0
    while at < len(made.data):
        size = 2 + int.from_bytes(made.data[at : at + 2], "big")
        messages.append(made.data[at : at + size])
        at += size
    messages = messages[1 + 2 * len(symbols) :]   # announcements come once, from the rig
    open_orders: dict[bytes, list[Any]] = {}
    for message in messages:
        kind, ref = message[2:3], message[13:21]
        if kind == b"A":
            open_orders[ref] = [int.from_bytes(message[22:26], "big"), message[3:5]]
        elif kind == b"D":
            del open_orders[ref]
        elif kind == b"U":
            locate = open_orders.pop(ref)[1]
            open_orders[message[21:29]] = [int.from_bytes(message[29:33], "big"), locate]
        elif kind in (b"E", b"X"):
            open_orders[ref][0] -= int.from_bytes(message[21:25], "big")
            if open_orders[ref][0] == 0:
                del open_orders[ref]
    stamp = messages[-1][7:13]
    for ref, (_, locate) in open_orders.items():
        messages.append((19).to_bytes(2, "big") + b"D" + locate + bytes(2) + stamp + ref)
    if not messages:
        raise BenchError("load: no messages")
    return _packets(messages)


def _ticks() -> tuple[np.ndarray, np.ndarray]:
    """A better bid and its deletion, each in a packet of its own."""
    head = (1).to_bytes(2, "big") + bytes(2) + flow.SESSION_START_NS.to_bytes(6, "big")
    ref = (1_000_000).to_bytes(8, "big")
    add = b"A" + head + ref + b"B" + QTY.to_bytes(4, "big") + b"BENA    " + (PX + 100).to_bytes(4, "big")
    parts = [_packets([len(body).to_bytes(2, "big") + body]) for body in (add, b"D" + head + ref)]
    return np.concatenate([memory for memory, _ in parts]), _joined(parts)


def _joined(parts: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    _kept.extend(memory for memory, _ in parts)
    return np.concatenate([table for _, table in parts])


_kept: list[np.ndarray] = []
"""Memory that tables of addresses point to."""
