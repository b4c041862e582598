"""Parquet files of what a feed saw: `hftd feed SOURCE --parquet DIR`. Needs pyarrow, the extra `research`.

    DIR/events.parquet   seq ts_event_ns ts_recv_ns symbol kind side px qty orders ref end_of_packet snapshot state
    DIR/trades.parquet   seq ts_event_ns ts_recv_ns symbol px qty side hidden cross ref state
    DIR/bbo.parquet      seq ts_event_ns ts_recv_ns symbol bid_px bid_qty ask_px ask_qty state
    DIR/depth.parquet    seq ts_event_ns ts_recv_ns symbol state bid_px_1 bid_qty_1 bid_orders_1 ask_px_1 … by level

Prices are integers in the venue's scale, 10,000 to the dollar (said in each file's metadata); 0 is an empty side or level.
`ts_event_ns` counts from the venue's midnight; `ts_recv_ns` is UTC, null where a recording has no receive stamps. `ref` is the
order that a level's change or a print is about, or a hidden print's match number; `cross` is the auction's type, null for other
prints. What `px`, `qty`, `orders` and `ref` of the other kinds mean is told in hftd/feed/README.md. Memory is bounded: groups of
at most ROWS rows. A file gets its name when it is whole; what a failed run wrote is removed.
"""

import contextlib
import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np

from hftd.core.memory import records, set_array
from hftd.errors import HftdError, how_to_install
from hftd.msg.enums import BookState, EventKind
from hftd.msg.records import FLAG_END_OF_PACKET, FLAG_SELL, FLAG_SNAPSHOT, FLAG_STATE_SHIFT, market_event_dtype
from hftd.research.rows import DEPTH_HEAD, bbo_row_dtype, close_message, collect, event_row_dtype, rows_dtype
from hftd.strategy.levels import open_arena
from hftd.strategy.records import arena_dtype, book_dtype

ROWS = 1 << 16
TABLES = ("events", "trades", "bbo", "depth")
SCALE = 10_000
ARENA_BYTES = 1 << 30
"""Address space for the levels of all books; pages that no level has touched are no memory."""

STATES = [state.name for state in sorted(BookState)]
KINDS = [kind.name for kind in sorted(EventKind)]
SIDES = ["BUY", "SELL"]
SIDED = {int(EventKind.LEVEL), int(EventKind.TRADE), int(EventKind.HIDDEN_TRADE), int(EventKind.IMBALANCE)}

OF_ALL = {int(EventKind.SYSTEM), int(EventKind.BREAKER_LEVELS)}
"""Kinds that concern all instruments."""


class ExportError(HftdError):
    """The tables cannot be written, and what to do."""


def pyarrow() -> tuple[Any, Any]:
    """Return pyarrow and its Parquet module. Raises ExportError where it is not installed."""
    try:
        import pyarrow as arrow
        import pyarrow.parquet as files
    except ImportError:
        raise ExportError(f"--parquet needs pyarrow; install it with: {how_to_install('research')}") from None
    return arrow, files


class Export:
    """Takes market events (`take`) and writes the tables. symbols(): the symbols by instrument, as far as they are known."""

    def __init__(self, directory: str | os.PathLike, clock: np.ndarray, instruments: int, symbols, levels: int = 10):
        """clock: an array of one clock_dtype, that the events' ts_recv counts by. Raises ExportError."""
        self.arrow, self.files = pyarrow()
        if not 1 <= levels <= 1000:
            raise ExportError(f"--levels: must be 1 to 1000, was {levels}")
        self.directory, self.symbols, self.levels, self.clock = Path(directory), symbols, levels, clock
        self._arena_memory = _address_space(ARENA_BYTES)
        self._arenas = records(arena_dtype, 1)
        open_arena(self._arenas[0], np.frombuffer(self._arena_memory, np.uint8).ctypes.data, ARENA_BYTES)
        self._books = records(book_dtype, instruments)
        self._books["state"] = int(BookState.EMPTY)
        self._last = np.zeros(instruments, bbo_row_dtype)
        self._events, self._trades = np.zeros(ROWS, event_row_dtype), np.zeros(ROWS, event_row_dtype)
        self._bbo = np.zeros(ROWS, bbo_row_dtype)
        self._depth = np.zeros((max(ROWS * 8 // (DEPTH_HEAD + 6 * levels), 1024), DEPTH_HEAD + 6 * levels), np.int64)
        self._rows = records(rows_dtype, 1)
        rows = self.rows = self._rows[0]
        for name, array in (("books", self._books), ("last", self._last), ("events", self._events), ("trades", self._trades),
                            ("bbo", self._bbo)):  # fmt: skip
            set_array(rows[name], array)
        rows["depth"]["base"], rows["depth"]["count"] = self._depth.ctypes.data, self._depth.size
        rows["arena_at"], rows["clock_at"], rows["levels"] = self._arenas.ctypes.data, clock.ctypes.data, levels
        collect(rows, 0, 0)                           # compiled, or loaded, before anything waits for it
        close_message(rows)
        self._names: Any = None
        self._writers: dict[str, Any] = {}
        self.counts = dict.fromkeys(TABLES, 0)
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            for name, schema in self._schemas().items():
                self._writers[name] = self.files.ParquetWriter(self._part(name), schema, compression="zstd")
        except OSError as error:
            self._discard()
            raise ExportError(f"--parquet {directory}: {error.strerror or error}; give a directory that you may write") from None

    def _part(self, name: str) -> str:
        return str(self.directory / f"{name}.parquet.part")

    def _schemas(self) -> dict[str, Any]:
        a = self.arrow
        text = a.dictionary(a.int32(), a.string())
        word = a.int64()
        head = [("seq", word), ("ts_event_ns", word), ("ts_recv_ns", word), ("symbol", text)]
        depth = [(f"{side}_{what}_{level}", word) for level in range(1, self.levels + 1) for side in ("bid", "ask")
                 for what in ("px", "qty", "orders")]  # fmt: skip
        columns = {
            "events": [*head, ("kind", text), ("side", text), ("px", word), ("qty", word), ("orders", word), ("ref", word),
                       ("end_of_packet", a.bool_()), ("snapshot", a.bool_()), ("state", text)],
            "trades": [*head, ("px", word), ("qty", word), ("side", text), ("hidden", a.bool_()), ("cross", a.string()),
                       ("ref", word), ("state", text)],
            "bbo": [*head, ("bid_px", word), ("bid_qty", word), ("ask_px", word), ("ask_qty", word), ("state", text)],
            "depth": [*head, ("state", text), *depth],
        }  # fmt: skip
        facts = {"hftd.price_scale": str(SCALE), "hftd.ts_event": "ns since the venue's midnight", "hftd.ts_recv": "ns, UTC"}
        return {name: a.schema(fields, metadata=facts) for name, fields in columns.items()}

    # ------------------------------------------------------------ rows in

    def take(self, events: np.ndarray) -> None:
        """Take an array of market_event_dtype. Raises ExportError where a file cannot be written or a book outgrew its memory."""
        assert events.dtype == market_event_dtype
        at, left = events.ctypes.data, len(events)
        while left:
            done = int(collect(self.rows, at, left))
            at += done * market_event_dtype.itemsize
            left -= done
            if left:
                self._write()
        if int(self._arenas[0]["refused"]):
            raise ExportError(f"--parquet: the books outgrew {ARENA_BYTES >> 20} MiB; follow fewer symbols: --symbol")

    def finish(self) -> dict[str, int]:
        """Write what is left, give the files their names, and return the rows of each table."""
        self._write()                                 # room for the row of the last message
        if int(self.rows["open"]):
            close_message(self.rows)
            self._write()
        try:
            for writer in self._writers.values():
                writer.close()
            for name in self._writers:
                os.replace(self._part(name), self.directory / f"{name}.parquet")
        except OSError as error:
            self._discard()
            raise ExportError(f"--parquet {self.directory}: {error.strerror or error}; is the disk full?") from None
        self._writers = {}
        return self.counts

    def abandon(self) -> None:
        """Remove what was written, unless `finish` was called."""
        self._discard()

    def _discard(self) -> None:
        for name, writer in self._writers.items():
            with contextlib.suppress(OSError):
                writer.close()
            Path(self._part(name)).unlink(missing_ok=True)
        self._writers = {}

    # ------------------------------------------------------------ rows out

    def _write(self) -> None:
        rows, a = self.rows, self.arrow
        self._names = a.array([*self.symbols(), ""], a.string())
        made = {
            "events": self._event_columns(self._events[: int(rows["events_count"])]),
            "trades": self._trade_columns(self._trades[: int(rows["trades_count"])]),
            "bbo": self._bbo_columns(self._bbo[: int(rows["bbo_count"])]),
            "depth": self._depth_columns(self._depth[: int(rows["depth_count"])]),
        }
        for name, (count, columns) in made.items():
            rows[f"{name}_count"] = 0
            if count:
                writer = self._writers[name]
                try:
                    writer.write_batch(a.RecordBatch.from_arrays(columns, schema=writer.schema))
                except OSError as error:
                    self._discard()
                    raise ExportError(f"--parquet {self.directory}: {error.strerror or error}; is the disk full?") from None
                self.counts[name] += count

    def _code(self, values: np.ndarray, texts: list[str], nulls: np.ndarray | None = None):
        a = self.arrow
        return a.DictionaryArray.from_arrays(a.array(values.astype(np.int32), mask=nulls), a.array(texts, a.string()))

    def _head(self, seq, ts_event, ts_recv, instrument, nulls: np.ndarray | None = None) -> list:
        a = self.arrow
        recv = np.ascontiguousarray(ts_recv)
        return [
            a.array(np.ascontiguousarray(seq)), a.array(np.ascontiguousarray(ts_event)), a.array(recv, mask=recv == 0),
            a.DictionaryArray.from_arrays(a.array(np.ascontiguousarray(instrument).astype(np.int32), mask=nulls), self._names),
        ]  # fmt: skip

    def _words(self, *columns) -> list:
        return [self.arrow.array(np.ascontiguousarray(column)) for column in columns]

    def _event_columns(self, e: np.ndarray) -> tuple[int, list]:
        flags, kinds = e["flags"], e["kind"]
        return len(e), [
            *self._head(e["seq"], e["ts_event"], e["ts_recv"], e["instrument"], np.isin(kinds, list(OF_ALL))),
            self._code(kinds, KINDS),
            self._code(flags & FLAG_SELL, SIDES, ~np.isin(kinds, list(SIDED))),
            *self._words(e["px"], e["qty"], e["orders"], e["ref"]),
            self.arrow.array((flags & FLAG_END_OF_PACKET) != 0), self.arrow.array((flags & FLAG_SNAPSHOT) != 0),
            self._code((flags >> FLAG_STATE_SHIFT) & 3, STATES),
        ]  # fmt: skip

    def _trade_columns(self, e: np.ndarray) -> tuple[int, list]:
        flags = e["flags"]
        return len(e), [
            *self._head(e["seq"], e["ts_event"], e["ts_recv"], e["instrument"]), *self._words(e["px"], e["qty"]),
            self._code(flags & FLAG_SELL, SIDES), self.arrow.array(e["kind"] == int(EventKind.HIDDEN_TRADE)),
            self.arrow.array([chr(code) if code else None for code in e["orders"].tolist()], self.arrow.string()),
            *self._words(e["ref"]), self._code((flags >> FLAG_STATE_SHIFT) & 3, STATES),
        ]  # fmt: skip

    def _bbo_columns(self, e: np.ndarray) -> tuple[int, list]:
        return len(e), [
            *self._head(e["seq"], e["ts_event"], e["ts_recv"], e["instrument"]),
            *self._words(e["bid_px"], e["bid_qty"], e["ask_px"], e["ask_qty"]), self._code(e["state"], STATES),
        ]  # fmt: skip

    def _depth_columns(self, w: np.ndarray) -> tuple[int, list]:
        return len(w), [
            *self._head(w[:, 0], w[:, 1], w[:, 2], w[:, 3]), self._code(w[:, 4], STATES),
            *self._words(*(w[:, column] for column in range(DEPTH_HEAD, w.shape[1]))),
        ]  # fmt: skip


def _address_space(size: int):
    """Return private memory whose pages come into being as they are touched."""
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0x4000))


__all__ = ["ROWS", "TABLES", "Export", "ExportError", "pyarrow"]
