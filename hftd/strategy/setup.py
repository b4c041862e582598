"""Setting up one strategy's agent: its memory, its places on the rings, its books after a late start. Cold.

A strategy that starts late, or that was too slow and lost events, copies from the feed's segments: each book with the prints and
the status of its instrument, under the book's seqlock, which the feed holds while it changes any of the three. It goes on with the
events that are newer than the copy: what was published before the copy began is in it, and of what was not yet published, the
messages up to the book's own `wire_seq` (`in_copy` in `loop.py`).
"""

import time

import numpy as np

from hftd.control.config import Config
from hftd.core import clock as clocks
from hftd.core.agent import Agent
from hftd.core.layout import offset_of
from hftd.core.memory import address, block, records, set_array, set_span
from hftd.errors import HftdError
from hftd.feed.memory import SHARES_AT
from hftd.feed.view import rows_of
from hftd.msg.enums import AgentState, BookState, DenyReason, ExecType, LogCode, Reason, Role, TradingState
from hftd.msg.ids import next_epoch
from hftd.msg.records import report_dtype, status_dtype
from hftd.shm import ring
from hftd.shm.errlog import ROWS
from hftd.strategy.levels import LEVEL, make_room, open_arena
from hftd.strategy.memory import PARAMS_MAX, SUMS_KEPT
from hftd.strategy.params import symbol_word
from hftd.strategy.program import Program, load_row
from hftd.strategy.records import book_dtype, level_dtype, order_row_dtype, side_dtype, strategy_agent_dtype

DEFAULT_TICK = 100
"""One cent in Nasdaq's scale, until the feed has announced the instrument's own."""

SIDES_AT = offset_of(book_dtype, "sides")

TRIES, TRIES_AT_ONCE, PAUSE_S = 6000, 1000, 0.001
"""Looks at what the feed may be writing, how many of them in a row, and what is waited before each other: 5 s in all. A feed
that writes is done in no time; one that died at it is started again, and makes its memory before it makes books anew."""

CLOCK_EVERY_NS = 1_000_000_000


def large_block(config: Config) -> int:
    """Return the bytes of the levels of a strategy's own books: the one block that asks for large pages."""
    return 4 * config.feed.levels_max * LEVEL


def wait(tries: int) -> None:
    """Wait for the feed to be done, after so many looks."""
    time.sleep(0 if tries < TRIES_AT_ONCE else PAUSE_S)


class StrategyAgent(Agent):
    """Strategy number `index` of the configuration."""

    role = Role.STRATEGY

    def __init__(self, config: Config, memory, index: int = 0, program: Program | None = None):
        """With `program`, one that is loaded already: its compiled loop is then the same one."""
        super().__init__(config, memory, index)
        self.row = config.strategy[index]
        self.program = program or load_row(config, index)
        self.segment = memory[f"strategy.{index}"]
        self.made = records(strategy_agent_dtype, 1, "handle")
        self.handle = self.made[0]
        self.clock_read = 0
        self.gateway_gone = False

    def kernel(self):
        """Return the duty cycle with this strategy in it."""
        return self.program.kernel()

    def open(self) -> None:
        """Make private memory, fill the handle, take the places on the rings, and catch up where the market is under way."""
        handle, memory, segment, config = self.handle, self.memory, self.segment, self.config
        count = config.instruments
        self.books = records(book_dtype, count, "books")
        self.orders = records(order_row_dtype, 2 * self.row.orders_max, "orders")
        self.states = records(self.program.instrument_dtype, count, "instrument states")
        self.statuses = records(status_dtype, count, "statuses")
        self.levels = block(large_block(config), huge=True, name="levels", count=4 * config.feed.levels_max)
        self.wanted = np.array([symbol_word(symbol) for symbol in self.row.symbols] or [0], dtype=np.int64)
        set_array(handle["books"], self.books)
        set_array(handle["orders"], self.orders)
        set_array(handle["statuses"], self.statuses)
        open_arena(handle["arena"], address(self.levels), len(self.levels))
        set_span(handle["positions"], segment.address("positions"), count)
        set_span(handle["instruments"], memory["market"].address("instruments"), count)
        set_span(handle["wanted"], self.wanted.ctypes.data, len(self.row.symbols))
        set_span(handle["errors"], self.errors_at, ROWS)
        handle["run_at"] = memory["control"].address("run")
        handle["params_at"], handle["state_at"] = segment.address("params"), segment.address("state")
        handle["states_at"] = self.states.ctypes.data
        handle["counters_at"], handle["histograms_at"] = segment.address("counters"), segment.address("histograms")
        handle["user_at"], handle["undo_at"] = segment.address("user"), segment.address("undo")
        counters = segment["counters"][0]
        counters["epoch"] = next_epoch(time.time_ns(), int(counters["epoch"]))
        counters["starts"] += 1
        handle["index"], handle["epoch"], handle["sequence"] = self.index, int(counters["epoch"]), 0
        handle["disabled"], handle["open_orders"], handle["open_max"] = 0, 0, self.row.orders_max
        handle["timer_at"], handle["started"], handle["cut_off"], handle["calls"] = 0, 0, 0, 0
        self.set_params()
        segment["state"]["value"] = 0
        self.take_back()
        self.forget_orders()
        self.read_clock(0)
        self.open_books()
        place = self.index
        told = memory["ring.report"]["control"][0]["consumers"][place]
        given_up = int(told["state"]) == ring.DETACHED
        ring.open_consumer(handle["reports"], memory["ring.report"], place, from_start=True)
        if given_up:                              # the first turn finds it: no start brings back reports that went by
            told["state"] = ring.DETACHED
        ring.open_consumer(handle["denials"], memory["ring.deny"], place, from_start=True)
        ring.open_producer(handle["intents"], memory[f"ring.intent.{self.index}"])
        ring.open_consumer(handle["md"], memory["ring.md"], place)
        self.copy_books()
        self.ready()

    def set_params(self) -> None:
        """Write the values of the params where the callbacks read them."""
        words = self.program.params_record().view(np.int64)
        shown = np.asarray(self.segment["params"]["value"])
        shown[:] = 0
        shown[: min(len(words), PARAMS_MAX)] = words

    def take_back(self) -> None:
        """Undo the report in whose middle a predecessor died: it waits in the ring, and will be applied whole."""
        undo, told = self.segment["undo"][0], self.memory["ring.report"]
        head = int(told["control"][0]["consumers"][self.index]["head"])
        if int(undo["seq"]) == head + 1:
            slots = np.asarray(told["slots"]).view(np.ndarray).view(report_dtype)
            report = slots[head % len(slots)]
            row = self.segment["positions"][int(report["instrument"])]
            if int(report["exec_type"]) in (ExecType.NEW, ExecType.REPLACED):
                row["orders"] = undo["orders"]
            else:
                row["fills"] = undo["fills"]
                for name, value in zip(SUMS_KEPT, undo["sums"], strict=True):
                    row[name] = value
        undo["seq"] = 0

    def forget_orders(self) -> None:
        """Positions outlive a restart, open orders do not: risk cancels what an earlier start left open."""
        positions = self.segment["positions"]
        for field in ("open_buy_qty", "open_sell_qty", "open_buy_cash", "open_sell_cash", "open_orders"):
            positions[field] = 0

    def open_books(self) -> None:
        """Give every instrument an empty book."""
        table = self.memory["market"]["instruments"]
        books = self.books
        count = len(books)
        books["instrument"] = np.arange(count)
        books["tick"] = np.where(table["tick"] > 0, table["tick"], DEFAULT_TICK)
        books["lot"] = np.where(table["lot"] > 0, table["lot"], 100)
        books["state"], books["skip_to"] = int(BookState.EMPTY), -1
        wanted = set(self.wanted.tolist()) if self.row.symbols else None
        for i in range(count):
            books["subscribed"][i] = int(wanted is None or self.symbol(i) in wanted)

    def symbol(self, index: int) -> int:
        """Return instrument `index`'s symbol as the table keeps it: from the configuration, else as announced so far."""
        known = self.config.universe.symbols
        return symbol_word(known[index]) if index < len(known) else int(self.memory["market"]["instruments"]["symbol"][index])

    def copy_books(self) -> int:
        """Copy the feed's books into ours; return how many had levels. The place on ring.md must have been taken before."""
        copied = 0
        shared = self.memory["books"]
        if "slots" not in shared.parts:
            return 0
        self.handle["skip_before"] = self.published()
        self.copy_session()
        for i in range(len(self.books)):
            if self.books["subscribed"][i] and self.copy_book(shared, i):
                copied += 1
        return copied

    def published(self) -> int:
        """Return how many market events the feed has published."""
        return int(self.memory["ring.md"]["control"]["tail"][0])

    def copy_book(self, shared, index: int) -> bool:
        """Copy one book, its prints and its status, under its seqlock; False where the feed has nothing for it yet."""
        theirs, levels, slots, market = shared["books"], shared["levels"], shared["slots"], self.memory["market"]
        for tries in range(TRIES):
            before = int(theirs["version"][index])
            if before & 1:
                wait(tries)
                continue
            told = self.published()
            head = np.array(theirs[index : index + 1])[0]
            quote, status = (np.array(market[name][index : index + 1]) for name in ("quotes", "statuses"))
            sides = []
            for side in range(2):
                mine = rows_of(head, slots, side)
                if np.any(mine >= len(levels)):
                    break
                rows = np.array(levels[mine])
                sides.append((rows["px"].astype(np.int64), rows["held"] >> SHARES_AT, rows["orders"].astype(np.int64)))
            if int(theirs["version"][index]) == before and len(sides) == 2:
                break
        else:
            raise HftdError(f"strategy {self.program.name}: the feed never left the book of instrument {index} alone")
        if int(head["events"]) == 0:
            return False
        book = self.books[index : index + 1]
        for side, (keys, quantities, counts) in enumerate(sides):
            at = self.books.ctypes.data + index * book_dtype.itemsize + SIDES_AT + side * side_dtype.itemsize
            self.fill_side(book["sides"][0, side : side + 1], at, keys, quantities, counts)
        self.statuses[index : index + 1] = status
        book["state"], book["trading"] = int(head["state"]), int(quote["trading"][0])
        for name in ("last_px", "last_qty", "volume"):
            book[name] = int(quote[name][0])
        book["skip_to"], book["skip_before"], book["dirty"], book["subscribed"] = int(head["wire_seq"]), told, 1, 1
        for side, name, sign in ((0, "bid", 1), (1, "ask", -1)):
            keys, quantities, _ = sides[side]
            book[f"{name}_px"] = sign * int(keys[-1]) if len(keys) else 0
            book[f"{name}_qty"] = int(quantities[-1]) if len(keys) else 0
        return True

    def copy_session(self) -> None:
        """Copy what concerns all instruments to our own record. Raises HftdError where the feed never left it alone."""
        cells, target = self.memory["market"]["session"], self.made["session"]
        for tries in range(TRIES):
            before = int(cells["version"][0])
            target[:] = np.array(cells)
            if before & 1 == 0 and int(cells["version"][0]) == before:
                return
            wait(tries)
        raise HftdError(f"strategy {self.program.name}: the feed never left what concerns all instruments alone")

    def fill_side(self, side, side_at, keys, quantities, counts) -> None:
        """Write a sorted side (best last) into our own arena. side: view of the side_dtype record that lies at `side_at`."""
        if make_room(self.handle["arena"], side_at, len(keys)) != 0:
            raise HftdError(f"strategy {self.program.name}: the book has more levels than fit; raise feed.levels_max")
        start = (int(side["base"][0]) - address(self.levels)) // LEVEL
        if len(keys):
            ours = np.frombuffer(self.levels, level_dtype, len(keys), start * LEVEL)
            ours["key"], ours["qty"], ours["orders"] = keys, quantities, counts
        side["count"] = len(keys)

    def read_clock(self, now_ns: int) -> None:
        """Take a consistent copy of the daemon's clock calibration."""
        self.clock_read = now_ns
        self.handle["clock"] = clocks.snapshot(np.asarray(self.memory["control"]["clock"])[0])

    def cold(self, now_ns: int) -> None:
        """Refresh the clock once a second."""
        if now_ns - self.clock_read > CLOCK_EVERY_NS:
            self.read_clock(now_ns)

    def on_reason(self, reason: int) -> None:
        """Join again after having been detached from the market data."""
        if reason == Reason.OVERRUN:
            self.log(LogCode.CONSUMER_DETACHED, self.index)
            ring.open_consumer(self.handle["md"], self.memory["ring.md"], self.index)
            for i in range(len(self.books)):
                self.books["sides"]["count"][i] = 0
            for field in ("bid_px", "bid_qty", "ask_px", "ask_qty"):
                self.books[field] = 0
            self.books["state"], self.books["dirty"] = int(BookState.STALE), 1
            self.copy_books()
            self.handle["cut_off"], self.handle["started"] = 0, 2
            self.segment["counters"]["rejoins"] += 1
        elif reason == Reason.BROKEN_INVARIANT:
            self.mark["state"] = int(AgentState.DEGRADED)
            self.log(LogCode.STRATEGY_ERROR, self.index, int(DenyReason.STRATEGY_DISABLED))

    def stop(self) -> bool:
        """One more slice after the gateway is gone: what it reported last is applied before this strategy goes."""
        gone, self.gateway_gone = self.gateway_gone, super().stop()
        return gone and self.gateway_gone


assert TradingState.UNKNOWN == 0
