"""`hftd bench feed`: market data on one core, beside whoever else does it, on the user's own file. Cold.

    parse        file in memory ──▶ every field of every message, swapped
    parse+book   file in memory ──▶ order-by-order books, quotes, counters; the same books after each pass, or no figure

Everything takes turns, round after round, so that a busy minute is everybody's: hftd, the packages of PyPI that are installed
(`rivals.py`), and any program given with --beside, which is handed the file and prints lines that end in `min NS med NS`. Figures
are ns a message: the least and the median over the rounds. --scale adds the cost as live orders and instruments grow, and in
packets instead of long runs; --stores the order stores that were tried (`stores.py`).
"""

import contextlib
import importlib.util
import json
import os
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hftd.bench import host as hosts
from hftd.bench.registry import BenchError
from hftd.bench.rivals import PYTHON_MESSAGES, RIVALS, first
from hftd.core.budgets import COMPONENTS
from hftd.core.jit import hot
from hftd.core.memory import address, block, load16, records, set_span, swap16
from hftd.errors import how_to_install
from hftd.feed.build import Build, private_tables
from hftd.feed.replay import Replay
from hftd.sim.day import Market
from hftd.sim.load import scan
from hftd.venues.nasdaq.itchfeed import apply_messages, apply_run

SYNTHETIC = (2_000_000, 100, 300)
"""Messages, symbols and live orders of each, where no file is given."""
BUDGETS = {"parse": COMPONENTS["parse"], "parse+book": COMPONENTS["book"]}
NO_VERDICT = 3
PASSES = 3
"""Passes of hftd in a round, as the programs beside it make several."""
SCALE_MESSAGES = 4_000_000
LIVE_SCALE = ((10_000, 100), (100_000, 100), (1_000_000, 1000), (10_000_000, 1000))
"""Live orders, and over how many instruments."""
INSTRUMENT_SCALE = (1, 10, 100, 1000, 10_000)
INSTRUMENT_LIVE = 100_000
PACKET_SCALE = (1, 3, 10, 40)
"""Messages of a packet, of the 1,000,000 live orders of 1,000 instruments."""
FIGURE = re.compile(r"^(?P<name>.*?)\s+min\s+(?P<min>[0-9.]+)\s+med\s+(?P<med>[0-9.]+)")


class Row:
    """What one contender took, round by round."""

    def __init__(self, name: str, does: str, note: str = ""):
        self.name, self.does, self.note = name, does, note
        self.ns: list[float] = []                     # of each round; of a program that tells more, its median
        self.least: list[float] = []

    def as_dict(self) -> dict[str, Any]:
        """The row for JSON."""
        least, middle = round(min(self.least), 2), round(statistics.median(self.ns), 2)
        return {"name": self.name, "does": self.does, "min_ns": least, "p50_ns": middle, "rounds": len(self.ns), "note": self.note}


@contextlib.contextmanager
def on_one_core():
    """Keep this process on one core, the last it may use, while the block runs."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def synthetic_file(path: Path, messages: int, symbols: int, live: int, seed: int = 7) -> None:
    """Write an ITCH file of a synthetic market."""
    market = Market(symbols, live, seed, messages)
    buffer = block(64 << 20)
    at = address(buffer)
    with open(path, "wb") as file:
        file.write(market.opening())
        while (left := messages - int(market.state["messages"])) > 0:
            end = market.run(at, at + len(buffer), min(left, 1 << 20))
            file.write(buffer[: end - at])
        file.write(market.closing())


class Contest:
    """All contenders over one file."""

    def __init__(self, path: Path, beside: list[str]):
        self.path, self.beside = path, beside
        self.replay = Replay(path)
        self.raw = self.replay.data.tobytes()
        self.refs_max = references(self.replay) if any("{refs}" in text for text in beside) else 0
        self.rows: dict[str, Row] = {}
        self.missing = sorted({rival.package for rival in RIVALS if importlib.util.find_spec(rival.package) is None})
        self.rivals = [rival for rival in RIVALS if rival.package not in self.missing]
        self.some = first(self.raw, PYTHON_MESSAGES)
        self.some_count = min(PYTHON_MESSAGES, self.replay.messages)
        self.checksums: set[tuple[int, int]] = set()

    def _note(self, name: str, does: str, ns: float, note: str = "", least: float | None = None) -> None:
        row = self.rows.setdefault(f"{name}/{does}", Row(name, does, note))
        row.ns.append(ns)
        row.least.append(ns if least is None else least)

    def round(self) -> None:
        """Let everybody run once. Raises BenchError where hftd's own result changed."""
        replay = self.replay
        for does, run in (("parse", replay.decode), ("parse+book", self._apply)):
            took = []
            for _ in range(PASSES):
                replay.clear()
                begun = time.perf_counter_ns()
                count, total = run()
                took.append((time.perf_counter_ns() - begun) / replay.messages)
                if count != replay.messages:
                    raise BenchError(f"feed: {count} of {replay.messages} messages were taken")
                self.checksums.add((hash(does), total if does == "parse" else replay.checksum()))
            self._note("hftd", does, statistics.median(took), least=min(took))
        if len(self.checksums) != 2:
            raise BenchError("feed: two passes over the same file did not give the same")
        for rival in self.rivals:
            raw, count = (self.raw, replay.messages) if rival.whole else (self.some, self.some_count)
            begun = time.perf_counter_ns()
            rival.run(raw)
            self._note(rival.name, rival.does, (time.perf_counter_ns() - begun) / count, "" if rival.whole else f"first {count:,}")
        for text in self.beside:
            for name, least, ns in self._program(text):
                self._note(name, "as it says", ns, least=least)

    def _apply(self) -> tuple[int, int]:
        return int(apply_run(self.replay.build.agent, self.replay.at, self.replay.end, 1)), 0

    def _program(self, text: str) -> list[tuple[str, float, float]]:
        """Run a program; return what its lines say: name, least, median."""
        words = [word.format(file=self.path, refs=self.refs_max) for word in shlex.split(text)]
        try:
            done = subprocess.run(words, capture_output=True, text=True, timeout=600, check=True)
        except (OSError, subprocess.SubprocessError) as error:
            raise BenchError(f"--beside {text!r}: {error}") from None
        matches = [match for match in map(FIGURE.match, done.stdout.splitlines()) if match]
        found = [(match["name"].strip(), float(match["min"]), float(match["med"])) for match in matches]
        if not found:
            raise BenchError(f"--beside {text!r}: printed no line that ends in `min NS med NS`")
        return found


def references(replay: Replay) -> int:
    """Return one more than the highest order reference of a file in memory."""
    facts = np.zeros(6, np.int64)
    scan(replay.at, len(replay.data), 0, facts.ctypes.data)
    return int(facts[2]) + 1


# ---------------------------------------------------------------- scale


@hot
def apply_packets(agent, at, end, seq, per):
    """Apply framed messages as packets of `per` messages would bring them; return how many they were."""
    done = 0
    while at < end:
        first, count = at, 0
        while at < end and count < per:
            at += 2 + swap16(load16(at))
            count += 1
        apply_messages(agent, first, at, seq + done, count)
        done += count
    return done


def cost(symbols: int, live: int, messages: int, per: int = 0) -> tuple[float, int]:
    """Return (ns a message, live orders) of a synthetic market with about `live` orders in all its books.

    per: messages of a packet; 0: all in one run.
    The books are filled first; then messages are made and applied in stretches, and only the applying is timed: the median stretch.
    """
    each = max(live // symbols, 1)
    market = Market(symbols, each, 11, 50_000_000)
    build = Build(private_tables(symbols, max(min(live, symbols * 400), 1024)), max(int(live * 2.5), 1024), [])
    buffer = block(64 << 20, huge=True)
    at = address(buffer)
    opening = market.opening()
    buffer[: len(opening)] = opening
    seq = 1 + int(apply_run(build.agent, at, at + len(opening), 1))
    while int(market.state["filled"]) < int(market.state["fill"]):
        seq += int(apply_run(build.agent, at, market.run(at, at + len(buffer), 1 << 19), seq))
    took = []
    if per:
        apply_packets(build.agent, at, at, seq, per)      # compiled
    for _ in range(max(messages >> 18, 1)):
        end = market.run(at, at + len(buffer), 1 << 18)
        begun = time.perf_counter_ns()
        count = int(apply_packets(build.agent, at, end, seq, per) if per else apply_run(build.agent, at, end, seq))
        took.append((time.perf_counter_ns() - begun) / count)
        seq += count
    wrong = [name for name in ("unknown_refs", "duplicate_refs", "crossed", "locked", "orders_full", "levels_full", "slots_full")
             if int(build.counters[name])]  # fmt: skip
    if wrong:
        raise BenchError(f"feed --scale: {symbols} symbols, {live} orders: {', '.join(wrong)} counted")
    return statistics.median(took), int(build.counters["orders_live"])


def scale(progress: Callable[[str], None], quick: bool = False) -> list[dict[str, Any]]:
    """Return the cost per message as live orders grow, as instruments do, and in packets of so many messages."""
    found = []
    live_rows = LIVE_SCALE[:1] if quick else LIVE_SCALE
    sets = [("live orders", live, symbols, 0) for live, symbols in live_rows]
    sets += [("instruments", INSTRUMENT_LIVE, symbols, 0) for symbols in (INSTRUMENT_SCALE[:2] if quick else INSTRUMENT_SCALE)]
    sets += [("packet", *LIVE_SCALE[0 if quick else 2], per) for per in (PACKET_SCALE[:2] if quick else PACKET_SCALE)]
    for what, live, symbols, per in sets:
        progress(f"{live:,} live orders, {symbols:,} instruments{f', packets of {per}' if per else ''}")
        ns, now = cost(symbols, live, 1 << 18 if quick else SCALE_MESSAGES, per)
        found.append({"grows": what, "live_orders": now, "instruments": symbols, "packet": per, "ns": round(ns, 1)})
    return found


# ---------------------------------------------------------------- stores


def stores(replay: Replay, rounds: int) -> list[dict[str, Any]]:
    """Return what each order store takes for the file's references: ns a message, MiB. Raises BenchError where they disagree."""
    from hftd.bench import stores as made

    refs = references(replay)
    live = max(len(replay.build.orders.rows), 1024)
    size = 1 << (2 * live - 1).bit_length()
    plans: dict[str, tuple[int, int, int, int]] = {   # bytes of rows, of heads, of counts; mask
        "chained": (live * made.link_dtype.itemsize, 4 * size, 0, size - 1),
        "open": (size * made.entry_dtype.itemsize, 0, 0, size - 1),
        "direct": (8 * refs, 0, 0, 0),
        "pages": (8 * made.PAGE * (2 + min(refs >> made.PAGE_BITS, 2 * live)), 8 * ((refs >> made.PAGE_BITS) + 1),
                  8 * (2 + min(refs >> made.PAGE_BITS, 2 * live)), 0),
    }  # fmt: skip
    rows, totals = [], set()
    for name, (rows_bytes, heads_bytes, counts_bytes, mask) in plans.items():
        memory = rows_bytes + heads_bytes + counts_bytes
        if memory > available_bytes() // 2:
            rows.append({"store": name, "ns": None, "mib": memory >> 20, "note": "more memory than half of what is free"})
            continue
        took = []
        for _ in range(rounds):
            store = records(made.store_dtype, 1)[0]
            blocks = [block(max(part, 8), huge=True) for part in (rows_bytes, heads_bytes, counts_bytes)]
            widths = ({"chained": 24, "open": 16}.get(name, 8), 4 if name == "chained" else 8, 8)
            for field, part, width in zip(("rows", "heads", "counts"), blocks, widths, strict=True):
                set_span(store[field], address(part), len(part) // width)
            store["mask"], store["fresh"] = mask, 1
            begun = time.perf_counter_ns()
            totals.add(int(made.WALKS[name](store, replay.at, replay.end)))
            took.append((time.perf_counter_ns() - begun) / replay.messages)
        rows.append({"store": name, "ns": round(min(took), 1), "mib": memory >> 20, "note": ""})
    if len(totals) != 1:
        raise BenchError(f"feed --stores: the stores disagree: {sorted(totals)}")
    return rows


def available_bytes() -> int:
    """Return the memory that is free for use."""
    with open("/proc/meminfo", encoding="ascii") as file:
        facts = dict(line.split(":", 1) for line in file)
    return int(facts["MemAvailable"].split()[0]) << 10


# ---------------------------------------------------------------- the command


def feed_mode(options) -> int:
    """Run the contest; exit code 1 where a median misses hftd's budget, 3 where the host was too busy to tell."""
    from rich.console import Console
    from rich.table import Table

    rounds = 2 if options.quick else max(options.rounds, 3)
    machine, watch = hosts.describe(), hosts.Watch()
    result: dict[str, Any] = {"host": machine}
    with contextlib.ExitStack() as stack:
        shown = stack.enter_context(Console(stderr=True).status("compiling"))
        if options.data:
            path = Path(options.data)
        else:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hftd-bench-")))
            path = folder / "synthetic.itch"
            shown.update("making a synthetic day")
            count, symbols, live = SYNTHETIC
            synthetic_file(path, count // 50 if options.quick else count, symbols, live // (10 if options.quick else 1))
        contest = Contest(path, options.beside or [])
        if options.data and str(path).endswith(".gz") and contest.beside:
            plain = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hftd-bench-"))) / "plain.itch"
            plain.write_bytes(contest.raw)
            contest.path = plain
        stack.enter_context(on_one_core())
        for number in range(rounds + 1):
            shown.update(f"round {number} of {rounds}")
            watch.look()
            contest.round()
            if number == 0:                           # compiled, and warm; it does not count
                contest.rows.clear()
        result |= {"file": path.name if options.data else f"synthetic, {contest.replay.messages:,} messages",
                   "messages": contest.replay.messages, "rows": [row.as_dict() for row in contest.rows.values()],
                   "missing": contest.missing}  # fmt: skip
        if options.scale:
            result["scale"] = scale(shown.update, options.quick)
        if options.stores:
            shown.update("order stores")
            result["stores"] = stores(contest.replay, rounds)
    machine |= {"load_after": hosts.load(), **watch.end()}
    console = Console(width=None if sys.stdout.isatty() else 140, stderr=options.json == "-")
    ours = {row["does"]: row["p50_ns"] for row in result["rows"] if row["name"] == "hftd"}
    table = Table(box=None, pad_edge=False, show_edge=False)
    for column in ("what", "who", "min ns", "p50 ns", "messages/s", "times hftd", ""):
        table.add_column(column, justify="left" if column in ("what", "who", "") else "right")
    for row in sorted(result["rows"], key=lambda row: (row["does"], row["p50_ns"])):
        least, middle = row["min_ns"], row["p50_ns"]
        times = f"{middle / ours.get(row['does'], ours['parse+book']):.2f}"
        table.add_row(row["does"], row["name"], f"{least:.1f}", f"{middle:.1f}", f"{1e9 / middle:,.0f}", times, row["note"])
    console.print(f"{result['file']}: {result['messages']:,} messages, {rounds} rounds, one core", highlight=False, markup=False)
    console.print(table)
    for row in result.get("scale", ()):
        text = f"{row['live_orders']:>12,} live orders {row['instruments']:>7,} instruments {row['ns']:>8.1f} ns a message"
        console.print(text + (f", in packets of {row['packet']}" if row["packet"] else ""), highlight=False)
    for row in result.get("stores", ()):
        taken = f"{row['ns']:.1f} ns a message" if row["ns"] is not None else row["note"]
        console.print(f"store {row['store']:8} {row['mib']:>7,} MiB  {taken}", highlight=False)
    if contest.missing:
        absent = f"not installed, so not beside: {', '.join(contest.missing)} (to have them: {how_to_install('test')})"
        console.print(absent, highlight=False, markup=False)
    console.print(hosts.line(machine), soft_wrap=True, highlight=False, markup=False)
    if options.json:
        text = json.dumps(result, indent=1) + "\n"
        if options.json == "-":
            sys.stdout.write(text)
        else:
            Path(options.json).write_text(text)
    if options.quick:
        console.print("quick run: these figures are not to be believed")
        return 0
    if machine["busy"] and not options.busy:
        why = "; ".join(machine["busy"])
        text = f"too busy to measure: {why}. No verdict; --busy gives one all the same"
        console.print(text, soft_wrap=True, highlight=False, markup=False)
        return NO_VERDICT
    missed = {does: budget for does, budget in BUDGETS.items() if ours[does] > budget}
    for does, budget in missed.items():
        console.print(f"MISSED: {does} {ours[does]:g} ns a message, budget {budget:g}", highlight=False, markup=False)
    return int(bool(missed))
