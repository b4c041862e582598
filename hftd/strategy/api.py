"""What a strategy may call. Every function takes the `ctx` its callback was given, costs nanoseconds, and never fails loudly.

    ctx.params      the file's params, by name                      ctx.state       the file's state record, yours alone
    ctx.now_ns      UTC ns of what is being handled: when its packet came in (on_timer: the moment the timer was set for)
    ctx.venue_ns    ns since the venue's midnight of the last market event

`now_ns` belongs to the input, not to the moment the code runs: replaying the same input makes the same decisions.

Prices are int64 in the venue's scale (Nasdaq: 1 cent is 100), quantities are shares, instruments are indexes. Functions that ask
for something (`submit`, `replace`, `cancel`) return what they promise, or a negative DenyReason, and then nothing was sent.
"""

from collections import namedtuple

from numba import types
from numba.core.errors import TypingError
from numba.extending import intrinsic

from hftd.core.clock import ns_to_ticks
from hftd.core.fixed import round_down, round_up
from hftd.core.jit import INTERPRETED, leaf
from hftd.core.memory import load64, row, span, store64
from hftd.core.twin import Record
from hftd.msg.enums import BookState, EventKind, ExecType, OrdStatus, TradingState
from hftd.msg.records import instrument_dtype, position_dtype, status_dtype
from hftd.strategy.levels import level_at
from hftd.strategy.orders import (
    BUY,
    DAY,
    IOC,
    SELL,
    cancel_everything,
    cancel_instrument,
    cancel_order,
    level_qty,
    may_trade,
    order_row,
    replace_order,
    submit_order,
)
from hftd.strategy.records import book_dtype, order_row_dtype

Context = namedtuple("Context", "params state now_ns venue_ns host states any_state ts_recv t_feed")
"""What callbacks get as `ctx`. The first four are yours; the rest is how the functions below find their way."""

FOR_EVER_NS = 1 << 60
"""A timer is set no further ahead: 36 years, in ticks still an int64."""

ALL = -1
"""`cancel_all(ctx)`: every instrument."""

NEW, FILL, CANCELED, REPLACED = int(ExecType.NEW), int(ExecType.FILL), int(ExecType.CANCELED), int(ExecType.REPLACED)
REJECTED, DENIED, BROKEN = int(ExecType.REJECTED), int(ExecType.DENIED), int(ExecType.BROKEN)
REPLACE_REJECTED, CANCEL_REJECTED = int(ExecType.REPLACE_REJECTED), int(ExecType.CANCEL_REJECTED)
LIVE, RECOVERING, STALE, EMPTY = int(BookState.LIVE), int(BookState.RECOVERING), int(BookState.STALE), int(BookState.EMPTY)
TRADING, HALTED = int(TradingState.TRADING), int(TradingState.HALTED)
PAUSED, QUOTE_ONLY = int(TradingState.PAUSED), int(TradingState.QUOTE_ONLY)
STATUS, SYSTEM, BREAKER_LEVELS, COLLAR = (
    int(EventKind.STATUS), int(EventKind.SYSTEM), int(EventKind.BREAKER_LEVELS), int(EventKind.COLLAR)
)  # fmt: skip
IMBALANCE, IPO, RETAIL, LISTING, PARTICIPANT, BROKEN_PRINT = (
    int(EventKind.IMBALANCE), int(EventKind.IPO), int(EventKind.RETAIL), int(EventKind.LISTING), int(EventKind.PARTICIPANT),
    int(EventKind.BROKEN),
)  # fmt: skip


def _nth(typingctx, first, index):
    """nth(first, index): the record that lies `index` records of the same layout after `first`."""

    def codegen(context, builder, signature, args):
        size = context.get_constant(types.int64, first.size)
        base = builder.ptrtoint(args[0], context.get_value_type(types.int64))
        at = builder.add(base, builder.mul(args[1], size))
        return builder.inttoptr(at, context.get_value_type(first))

    return first(first, types.int64), codegen


def _nth_twin(first, index):
    return Record.at(first._address + index * first.dtype.itemsize, first.dtype)


def _whole(what):
    def declare(typingctx, value):
        if not isinstance(value, types.Integer | types.Boolean):
            kind = "a fraction" if isinstance(value, types.Float) else str(value)
            raise TypingError(f"{what} must be a whole number, was {kind}: use //, round_down, round_up or int()")

        def codegen(context, builder, signature, args):
            return context.cast(builder, args[0], value, types.int64)

        return types.int64(value), codegen

    return declare


def _whole_twin(what):
    def check(value):
        if isinstance(value, float):
            raise TypeError(f"{what} must be a whole number, was {value}: use //, round_down, round_up or int()")
        return int(value)

    return check


nth = _nth_twin if INTERPRETED else intrinsic(_nth)
whole_px, whole_qty, whole_id, whole_index = (
    _whole_twin(what) if INTERPRETED else intrinsic(_whole(what)) for what in ("px", "qty", "an order's id", "instrument")
)


@leaf
def side_of(book, side):
    """Return a side of a book. What is neither BUY nor SELL gives one of the two: beyond them lies the next book."""
    return book.sides[side & 1]


# ---------------------------------------------------------------- orders


@leaf
def submit(ctx, instrument, side, px, qty, tif=DAY):
    """Send a new order: side BUY or SELL, tif DAY (rests in the book) or IOC (takes what is there, the rest is canceled).

    Returns the order's id (> 0), or a negative DenyReason: nothing was sent.
    """
    instrument, px, qty = whole_index(instrument), whole_px(px), whole_qty(qty)
    return submit_order(ctx.host, instrument, side, px, qty, tif, ctx.any_state, ctx.ts_recv, ctx.t_feed, ctx.now_ns)


@leaf
def replace(ctx, order_id, px, qty):
    """Ask that an open order be replaced by one at `px` with `qty` shares open. It loses its place in the queue.

    Returns the new order's id (> 0), or a negative DenyReason. Until the venue answers, either of the two may be filled.
    """
    return replace_order(
        ctx.host, whole_id(order_id), whole_px(px), whole_qty(qty), ctx.any_state, ctx.ts_recv, ctx.t_feed, ctx.now_ns
    )


@leaf
def cancel(ctx, order_id):
    """Ask that an order be canceled. Returns 0, or a negative DenyReason. It may still be filled until CANCELED is reported."""
    return cancel_order(ctx.host, whole_id(order_id), ctx.ts_recv, ctx.t_feed)


@leaf
def cancel_all(ctx, instrument=ALL):
    """Ask that all of this strategy's open orders, or those on one instrument, be canceled. Returns >= 0, or -DenyReason."""
    if instrument == ALL:
        return cancel_everything(ctx.host, ctx.ts_recv, ctx.t_feed)
    return cancel_instrument(ctx.host, instrument, ctx.ts_recv, ctx.t_feed)


@leaf
def can_trade(ctx):
    """Tell whether orders may leave now: the daemon is READY, the kill switch is off, the venue session is up."""
    return may_trade(ctx.host) == 0


@leaf
def order(ctx, order_id):
    """Return an order: fields id, status, px, qty, leaves_qty, cum_qty, instrument, side, tif, sent_ns. id 0: no such order."""
    return order_row(ctx.host, order_id)


@leaf
def is_open(ctx, order_id):
    """Tell whether an order may still trade: sent, and not finished."""
    return order_row(ctx.host, order_id).open != 0


@leaf
def is_pending(ctx, order_id):
    """Tell whether an order waits for an answer: to itself, to its replacement or to its cancel."""
    status = order_row(ctx.host, order_id).status
    return status == _PENDING_NEW or status == _PENDING_REPLACE or status == _PENDING_CANCEL


_PENDING_NEW, _PENDING_REPLACE = int(OrdStatus.PENDING_NEW), int(OrdStatus.PENDING_REPLACE)
_PENDING_CANCEL = int(OrdStatus.PENDING_CANCEL)


@leaf
def first_order(ctx, instrument, side):
    """Return the id of the newest open order on a side of an instrument, 0 where there is none."""
    index = side_of(book(ctx, instrument), side).first
    return row(span(ctx.host.orders), index, order_row_dtype).id


@leaf
def next_order(ctx, order_id):
    """Return the id of the open order after `order_id` in its list (see first_order), 0 at its end."""
    index = order_row(ctx.host, order_id).next
    return row(span(ctx.host.orders), index, order_row_dtype).id


@leaf
def queue_ahead(ctx, order_id):
    """Return how many displayed shares probably stand before our order at its price; -1 where that is not known."""
    return order_row(ctx.host, order_id).ahead_qty


# ---------------------------------------------------------------- books


@leaf
def instruments(ctx):
    """Return how many instruments there are: indexes 0 to that, less one."""
    return ctx.host.books.count


@leaf
def subscribed(ctx, instrument):
    """Tell whether this strategy follows (and may trade) an instrument."""
    return book(ctx, instrument).subscribed != 0


@leaf
def find(ctx, symbol):
    """Return the index of a symbol given as a param (`Param("hedge", "QQQ")`), -1 where it is not known (yet)."""
    table = span(ctx.host.instruments)
    for i in range(table.count):
        if symbol != 0 and row(table, i, instrument_dtype).symbol == symbol:
            return i                              # (0 is "", and what is not announced yet)
    return -1


@leaf
def book(ctx, instrument):
    """Return an instrument's book, as on_book gets it. An index outside the table gives instrument 0's."""
    books = span(ctx.host.books)
    inside = instrument if 0 <= instrument < books.count else 0
    return row(books, inside, book_dtype)


@leaf
def depth(book, side):
    """Return how many price levels a side of a book has."""
    return side_of(book, side).count


@leaf
def level_px(book, side, n):
    """Return the price of level n of a side, 0 being the best; 0 where the side is not that deep."""
    mine = side_of(book, side)
    if n < 0 or n >= mine.count:
        return 0
    key = level_at(mine.base, mine.count - 1 - n).key
    return key if side & 1 == BUY else -key


@leaf
def level_size(book, side, n):
    """Return the shares displayed at level n of a side; 0 where the side is not that deep."""
    mine = side_of(book, side)
    if n < 0 or n >= mine.count:
        return 0
    return level_at(mine.base, mine.count - 1 - n).qty


@leaf
def level_orders(book, side, n):
    """Return how many orders are displayed at level n of a side; 0 where the side is not that deep."""
    mine = side_of(book, side)
    if n < 0 or n >= mine.count:
        return 0
    return level_at(mine.base, mine.count - 1 - n).orders


@leaf
def bid_px(ctx, instrument, n=0):
    """Return the price of the n-th best bid (0: the best); 0 where there is none."""
    return level_px(book(ctx, instrument), BUY, n)


@leaf
def bid_qty(ctx, instrument, n=0):
    """Return the shares of the n-th best bid."""
    return level_size(book(ctx, instrument), BUY, n)


@leaf
def ask_px(ctx, instrument, n=0):
    """Return the price of the n-th best ask (0: the best); 0 where there is none."""
    return level_px(book(ctx, instrument), SELL, n)


@leaf
def ask_qty(ctx, instrument, n=0):
    """Return the shares of the n-th best ask."""
    return level_size(book(ctx, instrument), SELL, n)


@leaf
def qty_at(book, side, px):
    """Return the shares displayed at a price on one side of a book; 0 where there is no such level."""
    return level_qty(book, side & 1, px)


@leaf
def own_qty(ctx, instrument, side, px):
    """Return the shares of our own orders that the book displays at a price."""
    orders, total = span(ctx.host.orders), 0
    index = side_of(book(ctx, instrument), side).first
    while index != 0:
        mine = row(orders, index, order_row_dtype)
        if mine.px == px and mine.shown != 0:
            total += mine.leaves_qty
        index = mine.next
    return total


@leaf
def market_px(ctx, instrument, side):
    """Return the best price on a side at which somebody other than us displays shares; 0 where nobody does.

    What you quote around: the best price itself may be your own, and a quote that follows itself runs away.
    """
    at = book(ctx, instrument)
    mine = side_of(at, side)
    for n in range(mine.count - 1, -1, -1):
        level = level_at(mine.base, n)
        px = level.key if side & 1 == BUY else -level.key
        if mine.first == 0 or level.qty > own_qty(ctx, instrument, side, px):
            return px
    return 0


# ---------------------------------------------------------------- what the venue says beside the books


@leaf
def status(ctx, instrument):
    """Return what the venue said about an instrument beside its book: status_dtype in hftd/msg/records.py.

    trading, reason, halted, short; breaker; collar_px, collar_low, collar_high, collar_extension; ipo_px, ipo_ns, ipo_qualifier;
    retail; listing_…; paired_qty, imbalance_qty, direction, near_px, far_px, reference_px, auction, variation; cross_px, cross_qty,
    cross_type. Made from the events that this strategy got, so that a replay sees the same.
    """
    statuses = span(ctx.host.statuses)
    inside = instrument if 0 <= instrument < statuses.count else 0
    return row(statuses, inside, status_dtype)


@leaf
def session(ctx):
    """Return what concerns all instruments: phase (last system event), breaker (level breached), level_1, level_2, level_3."""
    return ctx.host.session


@leaf
def facts(ctx, instrument):
    """Return the directory's facts: tick, lot, flags, category, financial, classification, threshold, ipo, tier, etp, …"""
    table = span(ctx.host.instruments)
    inside = instrument if 0 <= instrument < table.count else 0
    return row(table, inside, instrument_dtype)


# ---------------------------------------------------------------- positions


@leaf
def position(ctx, instrument):
    """Return this strategy's position in shares: bought less sold, as reported so far."""
    mine = positions(ctx, instrument)
    return mine.bought_qty - mine.sold_qty


@leaf
def positions(ctx, instrument):
    """Return the whole position row: bought_qty, sold_qty, bought_cash, sold_cash, fills, orders, open_buy_qty, …"""
    table = span(ctx.host.positions)
    inside = instrument if 0 <= instrument < table.count else 0
    return row(table, inside, position_dtype)


@leaf
def open_qty(ctx, instrument, side):
    """Return the shares of this strategy's open orders on one side, pending ones included."""
    mine = positions(ctx, instrument)
    return mine.open_buy_qty if side == BUY else mine.open_sell_qty


@leaf
def profit(ctx, instrument):
    """Return realised and open profit in price units times shares (Nasdaq: 1e-4 dollars), marked at the book's middle."""
    mine, at = positions(ctx, instrument), book(ctx, instrument)
    middle = (at.bid_px + at.ask_px) // 2 if at.bid_px > 0 and at.ask_px > 0 else at.last_px
    return mine.sold_cash - mine.bought_cash + (mine.bought_qty - mine.sold_qty) * middle


# ---------------------------------------------------------------- state, time, counting


@leaf
def state_of(ctx, instrument):
    """Return this instrument's own record of the file's `instrument_state` layout."""
    inside = instrument if 0 <= instrument < ctx.host.books.count else 0
    return nth(ctx.states, inside)


@leaf
def set_timer(ctx, ns):
    """Have on_timer called once, `ns` nanoseconds after ctx.now_ns. A new setting takes the place of the old; ns <= 0 stops it."""
    ctx.host.timer_at = ctx.ts_recv + ns_to_ticks(ctx.host.clock, min(ns, FOR_EVER_NS)) if ns > 0 else 0


@leaf
def count(ctx, index, amount=1):
    """Add to one of the strategy's 16 own counters, which `hftd status --all` shows by the names in the file's `counters` list."""
    if 0 <= index < 16:
        at = ctx.host.user_at + 8 * index
        store64(at, load64(at) + amount)


__all__ = [
    "ALL", "BREAKER_LEVELS", "BROKEN", "BROKEN_PRINT", "BUY", "CANCELED", "CANCEL_REJECTED", "COLLAR", "DAY", "DENIED", "EMPTY",
    "FILL", "HALTED", "IMBALANCE", "IOC", "IPO", "LISTING", "LIVE", "NEW", "PARTICIPANT", "PAUSED", "QUOTE_ONLY", "RECOVERING",
    "REJECTED", "REPLACED", "REPLACE_REJECTED", "RETAIL", "SELL", "STALE", "STATUS", "SYSTEM", "TRADING",
    "ask_px", "ask_qty", "bid_px", "bid_qty", "book", "can_trade", "cancel", "cancel_all", "count", "depth", "facts", "find",
    "first_order", "instruments", "is_open", "is_pending", "level_orders", "level_px", "level_size", "market_px", "next_order",
    "open_qty", "order", "own_qty", "position", "positions", "profit", "qty_at", "queue_ahead", "replace", "round_down",
    "round_up", "session", "set_timer", "state_of", "status", "submit", "subscribed",
]  # fmt: skip
