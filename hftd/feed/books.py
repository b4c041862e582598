"""Books rebuilt from a file: `hftd books`. The messages take the very function that live packets take (`apply_run`).

Rows are collected in compiled code into preallocated arrays, one message at a time, and written out whenever an array is full.

    --bbo OUT.csv     seq,ts_ns,locate,symbol,bid_px,bid_sz,ask_px,ask_sz    after each message that changed a best price or size
    --symbol S        seq,ts_ns,ask_px_1,ask_sz_1,bid_px_1,bid_sz_1,ask_px_2,…    after each message that carries S's locate

seq is the message's number in the file, from 1; prices are integers times 10,000. An empty side is 0 in the first, an empty level
has no price and size 0 in the second.
"""

import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from hftd.core.jit import hot
from hftd.core.layout import layout
from hftd.core.memory import load16, record_at, records, row, set_array, span, span_dtype, store64, swap16
from hftd.feed.book import SLOT_BYTES, shares_of, top_of
from hftd.feed.build import Build, private_tables
from hftd.feed.files import DataError, ItchFile, Scan
from hftd.feed.memory import LANES, book_dtype, level_dtype, slot_dtype
from hftd.feed.state import listed_dtype
from hftd.feed.view import told
from hftd.msg.records import instrument_dtype, quote_dtype
from hftd.venues.nasdaq.itch50 import header_dtype, stamp, symbol_to_int, symbol_to_text
from hftd.venues.nasdaq.itchfeed import apply_run

ROWS = 1 << 16
BIG_ORDERS, BIG_LEVELS, BIG_INSTRUMENTS = 1 << 22, 1 << 21, 1 << 14
"""Sizes for a file that does not fit one chunk: more than a full day of the whole market has had."""

ERRORS = (
    "unknown_types", "bad_lengths", "bad_fields", "unknown_refs", "duplicate_refs", "overfills", "crossed", "locked", "orders_full",
    "levels_full", "slots_full", "instruments_full",
)  # fmt: skip
"""Counters that say something is wrong with the file, or with us."""

bbo_dtype = layout("bbo", 64, [
    ("seq", "i8"), ("ts_ns", "i8"), ("locate", "i8"), ("instrument", "i8"),
    ("bid_px", "i8"), ("bid_qty", "i8"), ("ask_px", "i8"), ("ask_qty", "i8"),
])  # fmt: skip

collect_dtype = layout("collect", 128, [
    ("cursor", "i8"),                             # address of the next message
    ("seq", "i8"),                                # its number
    ("bbo", span_dtype),                          # bbo_dtype rows; empty: not wanted
    ("bbo_count", "i8"),
    ("last", span_dtype),                         # bbo_dtype by instrument: the last row of each
    ("depth", span_dtype),                        # i8 a row
    ("depth_count", "i8"),                        # rows
    ("levels", "i8"),                             # of a row; 0: not wanted
    ("symbol", "i8"),                             # eight bytes, as on the wire
    ("pad", ("i8", (4,))),
])  # fmt: skip


@hot
def collect_run(agent, collect, end):
    """Apply messages from collect.cursor until `end` or a full array, and collect rows. True when `end` was reached."""
    t_last, bbo, depth = span(collect.last), span(collect.bbo), span(collect.depth)
    listing, instruments, quotes = span(agent.listed), span(agent.instruments), span(agent.quotes)
    width = 2 + 4 * collect.levels
    depth_room = depth.count // width
    at = collect.cursor
    while at < end:
        if (bbo.count > 0 and collect.bbo_count == bbo.count) or (collect.levels > 0 and collect.depth_count == depth_room):
            collect.cursor = at
            return False
        length = swap16(load16(at))
        message = at + 2
        at = message + length
        apply_run(agent, message - 2, at, collect.seq)
        if agent.touched > 0 and bbo.count > 0:
            quote = row(quotes, agent.touched - 1, quote_dtype)
            last = row(t_last, agent.touched - 1, bbo_dtype)
            if (
                last.bid_px != quote.bid_px or last.bid_qty != quote.bid_qty
                or last.ask_px != quote.ask_px or last.ask_qty != quote.ask_qty
            ):  # fmt: skip
                last.bid_px = quote.bid_px
                last.bid_qty = quote.bid_qty
                last.ask_px = quote.ask_px
                last.ask_qty = quote.ask_qty
                new = row(bbo, collect.bbo_count, bbo_dtype)
                new.seq = collect.seq
                new.ts_ns = agent.ts_event
                new.locate = swap16(load16(message + 1))
                new.instrument = agent.touched - 1
                new.bid_px = quote.bid_px
                new.bid_qty = quote.bid_qty
                new.ask_px = quote.ask_px
                new.ask_qty = quote.ask_qty
                collect.bbo_count += 1
        if collect.levels > 0 and length >= 11:
            instrument = row(listing, swap16(load16(message + 1)), listed_dtype).instrument - 1
            if instrument >= 0 and row(instruments, instrument, instrument_dtype).symbol == collect.symbol:
                to = depth.base + 8 * width * collect.depth_count
                store64(to, collect.seq)
                store64(to + 8, stamp(record_at(message, header_dtype)))
                write_side(agent, instrument, 1, collect.levels, to + 16)
                write_side(agent, instrument, 0, collect.levels, to + 32)
                collect.depth_count += 1
        collect.seq += 1
    collect.cursor = at
    return True


@hot
def write_side(agent, instrument, which, levels, to):
    """Write price and size of a side's best `levels` levels at every 32 bytes from address `to`; 0, 0 where there is none."""
    book = row(span(agent.engine.books), instrument, book_dtype)
    side, top_at = book.sides[which], top_of(book, which)
    slots, rows = span(agent.engine.slots), span(agent.engine.levels.rows)
    for i in range(levels):
        px = qty = 0
        if i < side.count:
            at = top_at + SLOT_BYTES * (LANES - 1 - i) if i < LANES else slots.base + SLOT_BYTES * (side.start + side.count - 1 - i)
            level = row(rows, record_at(at, slot_dtype).level, level_dtype)
            px = -level.px if which != 0 else level.px
            qty = shares_of(level)
        store64(to, px)
        store64(to + 8, qty)
        to += 32


class Output:
    """A CSV file that appears under its name only when it is complete."""

    def __init__(self, path: str | os.PathLike, header: str):
        self.path = Path(path)
        self.part = self.path.with_name(self.path.name + ".part")
        try:
            self.file = open(self.part, "w", encoding="ascii")  # noqa: SIM115 - closed in __exit__
        except OSError as error:
            raise DataError(f"{path}: {error.strerror}; give a file in a directory that exists and that you may write") from None
        self.file.write(header + "\n")

    def __enter__(self) -> "Output":
        return self

    def write(self, lines: list[str]) -> None:
        """Append lines."""
        if lines:
            try:
                self.file.write("\n".join(lines) + "\n")
            except OSError as error:
                raise DataError(f"{self.path}: {error.strerror}; is the disk full?") from None

    def __exit__(self, kind, *_: object) -> None:
        self.file.close()
        if kind is None:
            os.replace(self.part, self.path)
        else:
            self.part.unlink(missing_ok=True)


def books(path: str | os.PathLike, bbo_out: str | os.PathLike | None = None, symbol: str | None = None, levels: int | None = None,
          out: str | os.PathLike | None = None, progress: Callable[[int, int], None] | None = None) -> dict[str, Any]:  # fmt: skip
    """Run a file through the feed, write the CSV files that are asked for, and return the summary.

    progress(done, total): bytes of the file. Raises DataError where a file cannot be read or written, or `symbol` is not in it.
    """
    if bool(symbol) != bool(out):
        raise DataError("books: a symbol and the file to write its levels to go together")
    depth = 0
    if symbol:
        depth = 10 if levels is None else int(levels)
        if not 1 <= depth <= 10_000:
            raise DataError(f"books: levels must be 1 to 10000, was {depth}")
    source = ItchFile(path)
    build: Build | None = None
    collect = records(collect_dtype, 1)
    state = collect[0]
    state["seq"], state["levels"] = 1, depth
    names: list[str] = []
    with ExitStack() as stack:
        bbo_file = stack.enter_context(Output(bbo_out, "seq,ts_ns,locate,symbol,bid_px,bid_sz,ask_px,ask_sz")) if bbo_out else None
        depth_file = None
        if out:
            columns = ",".join(f"ask_px_{i},ask_sz_{i},bid_px_{i},bid_sz_{i}" for i in range(1, depth + 1))
            depth_file = stack.enter_context(Output(out, f"seq,ts_ns,{columns}"))
        for at, size in source.chunks(progress):
            if build is None:
                build = _sized(source, at, size)
                last = np.zeros(build.tables["instruments"].count, bbo_dtype)
                set_array(state["last"], last)
                rows = np.zeros(ROWS, bbo_dtype)
                if bbo_file:
                    set_array(state["bbo"], rows)
                width = 2 + 4 * depth
                words = np.zeros((max(ROWS * 8 // width, 64), width), np.int64)
                if symbol:
                    state["symbol"] = symbol_to_int(symbol)
                    state["depth"]["base"], state["depth"]["count"] = words.ctypes.data, words.size
            if not bbo_file and not depth_file:
                state["seq"] += apply_run(build.agent, at, at + size, int(state["seq"]))
                continue
            state["cursor"] = at
            whole = False
            while not whole:
                whole = collect_run(build.agent, state, at + size)
                if bbo_file:
                    _name(build, names)
                    bbo_file.write(_bbo_lines(rows[: int(state["bbo_count"])], names))
                    state["bbo_count"] = 0
                if depth_file:
                    depth_file.write(_depth_lines(words[: int(state["depth_count"])]))
                    state["depth_count"] = 0
        if build is None:
            raise DataError(f"{path}: holds no message; fetch the file again")
        _name(build, names)
        if symbol and symbol not in names:
            raise DataError(f"{path}: {symbol} is not in it; it has {', '.join(sorted(names)[:12]) or 'no symbols'}")
    return _summary(build, names, source)


def _sized(source: ItchFile, at: int, size: int) -> Build:
    """Return a feed as large as the file needs: exactly, where it is one chunk, else large enough for a day of the whole market."""
    scan = Scan()
    scan.add(at, size)
    if size < source.chunk_bytes:
        orders = max(scan["live_peak"] + 1, 1024)
        instruments, levels = max(scan.locates(), 1), orders + 1
    else:
        instruments, levels, orders = BIG_INSTRUMENTS, BIG_LEVELS, BIG_ORDERS
    return Build(private_tables(instruments, levels), orders, [])


def _name(build: Build, names: list[str]) -> None:
    used = int(build.agent["used"])
    names.extend(symbol_to_text(value) for value in build.tables["instruments"].rows["symbol"][len(names) : used])


def _bbo_lines(rows: np.ndarray, names: list[str]) -> list[str]:
    return [
        f"{seq},{ts},{locate},{names[index]},{bid},{bid_qty},{ask},{ask_qty}"
        for seq, ts, locate, index, bid, bid_qty, ask, ask_qty in rows.tolist()
    ]


def _depth_lines(words: np.ndarray) -> list[str]:
    lines = []
    for values in words.tolist():
        if 0 in values:
            for i in range(2, len(values), 2):
                if values[i] == 0:
                    values[i] = ""
        lines.append(",".join(map(str, values)))
    return lines


def _summary(build: Build, names: list[str], source: ItchFile) -> dict[str, Any]:
    counters = build.counters
    types = build.tables["types"].rows["count"]
    quotes, instruments = build.tables["quotes"].rows, build.tables["instruments"].rows
    return {
        "file": str(source.path),
        "messages": int(counters["messages"]),
        "counts": {chr(kind): int(types[kind]) for kind in np.nonzero(types)[0]},
        "executed_shares": int(counters["volume"]),
        "displayed_shares": int(counters["volume"]) - int(counters["hidden_volume"]),
        "hidden_shares": int(counters["hidden_volume"]),
        "trades": int(counters["trades"]),
        "hidden_trades": int(counters["hidden_trades"]),
        "broken": int(counters["broken"]),
        "instruments": len(names),
        "live_orders": int(counters["orders_live"]),
        "peak_orders": int(counters["orders_peak"]),
        "live_levels": int(counters["levels_live"]),
        "bbo": [
            {"symbol": name, "locate": int(instruments["locate"][i]), "bid_px": int(quotes["bid_px"][i]),
             "bid_sz": int(quotes["bid_qty"][i]), "ask_px": int(quotes["ask_px"][i]), "ask_sz": int(quotes["ask_qty"][i]),
             "volume": int(quotes["volume"][i]), "status": told(build.tables["statuses"].rows[i])}
            for i, name in enumerate(names)
        ],
        "market": told(build.tables["session"].rows[0]),
        "errors": {name: int(counters[name]) for name in ERRORS},
    }  # fmt: skip
