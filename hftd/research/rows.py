"""Market events into rows of tables: events, trades, best prices, depth. Compiled; `parquet.py` writes them.

The books are made from the events alone, as a strategy makes its own (`strategy/levels.py`), so that the tables say what a strategy
would have known. A row of best prices, or of depth, stands for one message of the venue, whatever number of events it caused: the
events of a message have one number and one instrument and follow one another, and the row is written when the next one comes.

    events   one row per event
    trades   one row per print (TRADE, HIDDEN_TRADE)
    bbo      one row after each message that changed a best price or size
    depth    one row after each message that touched one of the best levels

`collect` stops when a table is full and says how many events it took; the caller writes the tables out and calls again.
"""

from hftd.core.clock import clock_dtype, utc_ns
from hftd.core.jit import hot, leaf
from hftd.core.layout import layout
from hftd.core.memory import record_at, row, span, span_dtype, store64
from hftd.msg.enums import BookState, EventKind
from hftd.msg.records import FLAG_SELL, FLAG_STATE_SHIFT, market_event_dtype
from hftd.strategy.levels import apply_level, clear_levels, level_at, refresh
from hftd.strategy.records import arena_dtype, book_dtype

LEVEL, CLEAR, BOOK_STATE = int(EventKind.LEVEL), int(EventKind.CLEAR), int(EventKind.BOOK_STATE)
TRADE, HIDDEN = int(EventKind.TRADE), int(EventKind.HIDDEN_TRADE)
EMPTY = int(BookState.EMPTY)
EVENT_BYTES = market_event_dtype.itemsize
WRAP = 1 << 32

event_row_dtype = layout("event_row", 72, [
    ("seq", "i8"),                                # the venue's message number
    ("ts_event", "i8"),                           # ns since the venue's midnight
    ("ts_recv", "i8"),                            # ns UTC; 0: not known
    ("px", "i8"), ("qty", "i8"), ("ref", "i8"), ("orders", "i8"), ("instrument", "i8"),
    ("kind", "i4"), ("flags", "i4"),
])  # fmt: skip

bbo_row_dtype = layout("bbo_row", 72, [
    ("seq", "i8"), ("ts_event", "i8"), ("ts_recv", "i8"), ("instrument", "i8"), ("state", "i8"),
    ("bid_px", "i8"), ("bid_qty", "i8"), ("ask_px", "i8"), ("ask_qty", "i8"),
])  # fmt: skip

DEPTH_HEAD = 5
"""Words of a depth row before its levels: seq, ts_event, ts_recv, instrument, state. Then by level: bid px, qty, orders, ask …"""

rows_dtype = layout("rows", 264, [
    ("books", span_dtype),                        # book_dtype (strategy/records.py), by instrument
    ("last", span_dtype),                         # bbo_row_dtype, by instrument: the last row of each
    ("arena_at", "i8"),
    ("clock_at", "i8"),                           # clock_dtype: what ts_recv counts
    ("levels", "i8"),                             # of a depth row
    ("events", span_dtype), ("events_count", "i8"),
    ("trades", span_dtype), ("trades_count", "i8"),
    ("bbo", span_dtype), ("bbo_count", "i8"),
    ("depth", span_dtype), ("depth_count", "i8"), # rows of DEPTH_HEAD + 6 * levels words
    # the message whose events are being taken
    ("open", "i8"),                               # 1: there is one
    ("open_touched", "i8"),                       # it touched one of the best levels
    ("open_changed", "i8"),                       # it changed a book
    ("row", event_row_dtype),                     # its last event
    ("high", "i8"),                               # upper part of the message number: events carry the lower 32 bits
    ("low", "i8"),                                # lower part of the last one
])  # fmt: skip


@leaf
def touches(book, side, px, depth):
    """Tell whether `px` stands among the best `depth` levels of a side, or would if it had orders. side: 0 bids, 1 asks."""
    mine = book.sides[side]
    if mine.count < depth:
        return 1
    key = -px if side else px
    return 1 if key >= level_at(mine.base, mine.count - depth).key else 0


@leaf
def write_levels(book, side, depth, at):
    """Write px, qty, orders of the best `depth` levels at every 48 bytes from address `at`; zeros where there is none."""
    mine = book.sides[side]
    for i in range(depth):
        px = qty = orders = 0
        if i < mine.count:
            level = level_at(mine.base, mine.count - 1 - i)
            px = -level.key if side else level.key
            qty, orders = level.qty, level.orders
        store64(at, px)
        store64(at + 8, qty)
        store64(at + 16, orders)
        at += 48


@hot
def close_message(rows):
    """Write what the open message did to its book."""
    rows.open = 0
    if rows.open_changed == 0:
        return
    of = rows.row
    book = row(span(rows.books), of.instrument, book_dtype)
    last = row(span(rows.last), of.instrument, bbo_row_dtype)
    refresh(book)
    if (
        last.bid_px != book.bid_px or last.bid_qty != book.bid_qty or last.ask_px != book.ask_px or last.ask_qty != book.ask_qty
        or last.state != book.state
    ):  # fmt: skip
        last.seq, last.ts_event, last.ts_recv = of.seq, of.ts_event, of.ts_recv
        last.instrument, last.state = of.instrument, book.state
        last.bid_px, last.bid_qty, last.ask_px, last.ask_qty = book.bid_px, book.bid_qty, book.ask_px, book.ask_qty
        made = row(span(rows.bbo), rows.bbo_count, bbo_row_dtype)
        made.seq, made.ts_event, made.ts_recv = of.seq, of.ts_event, of.ts_recv
        made.instrument, made.state = of.instrument, book.state
        made.bid_px, made.bid_qty, made.ask_px, made.ask_qty = book.bid_px, book.bid_qty, book.ask_px, book.ask_qty
        rows.bbo_count += 1
    if rows.open_touched != 0 and rows.levels > 0:
        at = rows.depth.base + 8 * (DEPTH_HEAD + 6 * rows.levels) * rows.depth_count
        store64(at, of.seq)
        store64(at + 8, of.ts_event)
        store64(at + 16, of.ts_recv)
        store64(at + 24, of.instrument)
        store64(at + 32, book.state)
        write_levels(book, 0, rows.levels, at + 8 * DEPTH_HEAD)
        write_levels(book, 1, rows.levels, at + 8 * DEPTH_HEAD + 24)
        rows.depth_count += 1


@hot
def collect(rows, at, count):
    """Take up to `count` events from address `at`; return how many were taken: fewer only where a table is full."""
    arena, clock = record_at(rows.arena_at, arena_dtype), record_at(rows.clock_at, clock_dtype)
    books, events, trades = span(rows.books), span(rows.events), span(rows.trades)
    depth_room = rows.depth.count // (DEPTH_HEAD + 6 * rows.levels)
    for taken in range(count):
        if (
            rows.events_count == events.count or rows.trades_count == trades.count or rows.bbo_count == rows.bbo.count
            or (rows.levels > 0 and rows.depth_count == depth_room)
        ):  # fmt: skip
            return taken
        event = record_at(at, market_event_dtype)
        at += EVENT_BYTES
        low, instrument, kind = event.wire_seq, event.instrument, event.kind
        if low < (1 << 28) and rows.low > WRAP - (1 << 28):
            rows.high += WRAP
        elif low > WRAP - (1 << 28) and rows.low < (1 << 28) and rows.high > 0:
            rows.high -= WRAP
        rows.low = low
        seq = rows.high + low
        if rows.open != 0 and (rows.row.seq != seq or rows.row.instrument != instrument or kind == CLEAR):
            close_message(rows)
        if rows.open == 0:
            rows.open, rows.open_touched, rows.open_changed = 1, 0, 0
        made = row(events, rows.events_count, event_row_dtype)
        made.seq = seq
        made.ts_event = event.ts_event
        made.ts_recv = utc_ns(clock, event.ts_recv) if event.ts_recv != 0 else 0
        made.px = event.px
        made.qty = event.qty
        made.ref = event.ref
        made.orders = event.orders
        made.instrument = instrument
        made.kind = kind
        made.flags = event.flags
        rows.events_count += 1
        rows.row.seq, rows.row.ts_event, rows.row.ts_recv, rows.row.instrument = seq, made.ts_event, made.ts_recv, instrument
        book = row(books, instrument, book_dtype)
        state = (event.flags >> FLAG_STATE_SHIFT) & 3
        side = event.flags & FLAG_SELL
        if kind == LEVEL:
            before = touches(book, side, event.px, rows.levels)
            apply_level(arena, book, side, event.px, event.qty, event.orders)
            rows.open_touched |= before | touches(book, side, event.px, rows.levels)
            rows.open_changed = 1
        elif kind == CLEAR:
            clear_levels(book)
            rows.open_touched = rows.open_changed = 1
        elif kind == TRADE or kind == HIDDEN:
            print_row = row(trades, rows.trades_count, event_row_dtype)
            print_row.seq, print_row.ts_event, print_row.ts_recv = seq, made.ts_event, made.ts_recv
            print_row.px, print_row.qty, print_row.ref, print_row.orders = event.px, event.qty, event.ref, event.orders
            print_row.instrument, print_row.kind, print_row.flags = instrument, kind, event.flags
            rows.trades_count += 1
        if kind == LEVEL or kind == BOOK_STATE:
            if state != book.state and book.state != EMPTY:
                rows.open_changed = 1
            book.state = state
    return count
