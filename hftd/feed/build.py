"""Makes a feed's handle and its private memory: for the live agent, for files, for benches and for tests alike.

`Build` fills a `feed_agent_dtype` record over five shared (or, with `private`, its own) tables. What is private to the feed - the
order store, the locate table, packet buffers - lies on huge pages where the kernel grants them, and is touched before use, so that
no message meets a page fault.
"""

import numpy as np

from hftd.core.jit import hot
from hftd.core.layout import PAIR, offset_of
from hftd.core.memory import address, block, records, set_span
from hftd.feed.book import BLOCK_CLASSES, block_class_dtype, clear_books
from hftd.feed.kept import Kept
from hftd.feed.memory import (
    HISTOGRAMS,
    book_dtype,
    feed_counters_dtype,
    level_dtype,
    slot_dtype,
    slots_for,
    type_count_dtype,
)
from hftd.feed.orders import head_dtype, resting_dtype
from hftd.feed.prints import print_dtype
from hftd.feed.state import (
    LOCATES,
    LOOKS,
    MISSED,
    SINK_NONE,
    STAMPS,
    feed_agent_dtype,
    kind_dtype,
    listed_dtype,
    look_dtype,
    missed_dtype,
    stamp_dtype,
    standing_dtype,
)
from hftd.msg.enums import BookState
from hftd.msg.records import INSTRUMENT_ANNOUNCED, instrument_dtype, quote_dtype, session_dtype, status_dtype
from hftd.shm.histogram import histogram_dtype
from hftd.shm.pool import open_pool
from hftd.venues.nasdaq.itch50 import symbol_to_int
from hftd.venues.nasdaq.itchfeed import fill_kinds
from hftd.venues.nasdaq.itchrare import SCALE, TICK

PRINTS = 1 << 12
"""Prints that are remembered where nothing else is said."""


class Table:
    """One array of records: its address, and a NumPy view. `owner` keeps the memory alive."""

    def __init__(self, dtype: np.dtype, count: int, base: int, owner: object):
        self.dtype, self.count, self.base, self.owner = dtype, count, base, owner
        raw = np.ctypeslib.as_array((np.ctypeslib.ctypes.c_uint8 * (count * dtype.itemsize)).from_address(base))
        self.rows: np.ndarray = raw.view(dtype)


def private(**wanted: tuple[np.dtype, int]) -> dict[str, Table]:
    """Return tables, each of so many rows of a dtype, in one piece of private, touched memory.

    One piece, so that the small ones share large pages too: a book of two instruments lies in one page and not in eighty.
    """
    sizes = sizes_of(wanted)
    told = [(name, size, count) for (name, (_, count)), size in zip(wanted.items(), sizes)]
    memory = block(sum(sizes), huge=True, parts=told)
    at, made = address(memory), {}
    for (name, (dtype, count)), size in zip(wanted.items(), sizes):
        made[name] = Table(dtype, count, at, memory)
        at += size
    return made


def sizes_of(wanted: dict[str, tuple[np.dtype, int]]) -> list[int]:
    """Return the bytes that tables of so many rows take in one piece, each."""
    return [-(-count * dtype.itemsize // PAIR) * PAIR for dtype, count in wanted.values()]


def own_tables(instruments: int, orders_max: int, prints: int) -> dict[str, tuple[np.dtype, int]]:
    """Return what a feed holds for itself alone: name -> dtype and rows."""
    return {
        "kinds": (kind_dtype, 256),
        "looks": (look_dtype, LOOKS),
        "blocks": (block_class_dtype, BLOCK_CLASSES),
        "standings": (standing_dtype, instruments),
        "listed": (listed_dtype, LOCATES),
        "stamps": (stamp_dtype, STAMPS),
        "missed": (missed_dtype, 3 * MISSED),
        "heads": (head_dtype, heads_for(orders_max)),
        "orders": (resting_dtype, orders_max + 1),
        "prints": (print_dtype, prints),
    }


def heads_for(orders_max: int) -> int:
    """Return the heads of chains for so many orders: a power of two."""
    return 4 << max(orders_max - 1, 1).bit_length()


def shared(segment, part: str) -> Table:
    """Return a part of a segment as a table."""
    wanted = segment.parts[part]
    return Table(wanted.dtype, wanted.count, segment.address(part), segment)


def private_tables(instruments: int, levels: int) -> dict[str, Table]:
    """Return what the live agent finds in the segments `market` and `books`, in private memory."""
    return private(
        instruments=(instrument_dtype, instruments),
        quotes=(quote_dtype, instruments),
        statuses=(status_dtype, instruments),
        session=(session_dtype, 1),
        counters=(feed_counters_dtype, 1),
        histograms=(histogram_dtype, len(HISTOGRAMS)),
        types=(type_count_dtype, 256),
        books=(book_dtype, instruments),
        levels=(level_dtype, levels),
        slots=(slot_dtype, slots_for(instruments, levels)),
    )


CROWDED = 4 << 10
"""Live orders from which on the store outgrows the cache, so that lines are asked for some messages ahead. Where all is cached that
costs 3 ns a message; with 5,000 live orders it saves 1, with 110,000 of 400 instruments 28 of 62 (1 MiB of second-level cache)."""
MANY = 3 << 9
"""Instruments from which on books do too. Looking at them costs 7 ns more; with 1,000 instruments it saves 4, with 2,700 28."""


@hot
def clear_all(agent):
    """Empty every book of a feed_agent_dtype record."""
    clear_books(agent.engine)


DAY = ("volume", "hidden_volume", "broken_volume", "orders_live", "levels_live")
"""Counters that say what the market did, as the quotes do, and not what the feed did: they begin again with the messages."""


class Build:
    """A feed's handle (`agent`) with its memory. `symbols`: those to follow; empty: all."""

    def __init__(self, tables: dict[str, Table], orders_max: int, symbols: list[str], sink: int = SINK_NONE,
                 prints: int = PRINTS):  # fmt: skip
        self.tables = tables
        self.symbols = symbols
        self.memory: list = []
        kept = Kept(tables)
        self.half_told = kept.half_told
        self.void()
        self.own = own = private(**own_tables(tables["instruments"].count, orders_max, prints))
        self.orders = own["orders"]
        fill_kinds(own["kinds"].rows)
        self._agents = records(feed_agent_dtype, 1)
        agent = self.agent = self._agents[0]
        engine = agent["engine"]
        open_pool(engine["orders"], self.orders.base, self.orders.count)
        open_pool(engine["levels"], tables["levels"].base, tables["levels"].count)
        for name in ("orders", "levels"):                 # of the day, not of this process
            engine[name]["peak"] = tables["counters"].rows[0][f"{name}_peak"]
        for name in ("heads", "blocks"):
            set_span(engine[name], own[name].base, own[name].count)
        for name in ("slots", "books"):
            set_span(engine[name], tables[name].base, tables[name].count)
        engine["mask"] = own["heads"].count - 1
        for name in ("listed", "kinds", "standings", "looks", "stamps", "prints"):
            set_span(agent[name], own[name].base, own[name].count)
        looks = own["looks"].rows                         # as if each had looked at an order of the first book
        looks["side_at"] = tables["books"].base + offset_of(book_dtype, "sides")
        looks["top_at"] = tables["books"].base + offset_of(book_dtype, "tops")
        agent["crowded"], agent["many"] = CROWDED, MANY
        for name in ("types", "instruments", "quotes", "statuses"):
            set_span(agent[name], tables[name].base, tables[name].count)
        agent["session_state_at"] = tables["session"].base
        agent["counters_at"], agent["histograms_at"] = tables["counters"].base, tables["histograms"].base
        agent["sink"] = sink
        for line in range(3):
            agent["lines"][line]["fd"] = -1
            set_span(agent["lines"][line]["missed"], own["missed"].base + line * MISSED * missed_dtype.itemsize, MISSED)
        self.reset(int(BookState.LIVE))
        kept.put_back(tables, own["standings"].rows)

    @property
    def counters(self) -> np.void:
        """The counters, as one record."""
        return self.tables["counters"].rows[0]

    def void(self) -> None:
        """Say of every instrument that nothing is known: no price, no state to trade in.

        A feed that starts anew says so first of all: what its predecessor left looks LIVE, and making our own memory takes long.
        """
        self.tables["books"].rows["state"] = int(BookState.EMPTY)
        for cells in (self.tables[name].rows for name in ("quotes", "statuses", "session")):
            cells["version"] |= 1
            for name in cells.dtype.names:
                if name != "version" and not name.startswith("pad"):
                    cells[name] = int(BookState.EMPTY) if name == "state" else 0
            cells["version"] += 1

    def reset(self, state: int, keep_counters: bool = True) -> None:
        """Forget every order, sequence and what is known of instruments. state: BookState of a book once it is announced.

        A symbol keeps its row as long as the table lives, a shared one through sessions and restarts of the feed: what others know
        of an instrument, positions and open orders above all, they know by its row. So a row is never another symbol's; rows of
        symbols that the venue lists no more stay taken until the daemon is started anew.
        """
        agent, tables = self.agent, self.tables
        self.void()                                       # before the flags of instruments go: they forbid short sales, odd lots
        clear_all(agent)
        tables["books"].rows["wire_seq"] = 0              # what a copy has goes by this number, and messages begin again
        self.own["listed"].rows[:] = np.zeros(1, listed_dtype)
        self.own["standings"].rows[:] = np.zeros(1, standing_dtype)
        self.own["prints"].rows[:] = np.zeros(1, print_dtype)
        instruments = np.zeros(tables["instruments"].count, instrument_dtype)
        instruments["locate"] = -1
        instruments["symbol"] = tables["instruments"].rows["symbol"]
        for index, symbol in enumerate(self.symbols):
            instruments["symbol"][index] = symbol_to_int(symbol)
        known = np.flatnonzero(instruments["symbol"])
        instruments["tick"], instruments["scale"], instruments["lot"] = TICK, SCALE, 100
        tables["instruments"].rows[:] = instruments
        agent["chosen"], agent["used"] = int(bool(self.symbols)), int(known[-1]) + 1 if len(known) else 0
        agent["state"] = state
        agent["expected"] = agent["highest"] = agent["reached"] = agent["asked"] = 1
        for name in ("first", "beyond", "behind", "recovering", "ended", "flags", "tries", "stalled_since", "reason", "snapshot",
                     "snapshot_after", "by_snapshot", "mending", "mend_tail"):  # fmt: skip
            agent[name] = 0
        for line in agent["lines"]:
            line["next"] = line["claims"] = 0
        self.own["missed"].rows[:] = np.zeros(1, missed_dtype)
        self.own["stamps"].rows[:] = np.zeros(1, stamp_dtype)
        tables["books"].rows["lacking"] = 0
        for name in DAY:
            self.counters[name] = 0
        agent["free_count"] = agent["free_buffers"]["count"]
        if not keep_counters:
            self.tables["counters"].rows[:] = np.zeros(1, feed_counters_dtype)
            self.tables["types"].rows[:] = np.zeros(1, type_count_dtype)

    @property
    def announced(self) -> list[int]:
        """Indexes of the instruments the venue has announced."""
        flags = self.tables["instruments"].rows["flags"][: int(self.agent["used"])]
        return [int(i) for i in np.nonzero(flags & INSTRUMENT_ANNOUNCED)[0]]
