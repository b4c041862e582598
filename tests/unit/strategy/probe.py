"""Does what the tests write into its state, and writes back what it saw: every function of the API, from inside a callback."""

from hftd.strategy import (
    BUY,
    SELL,
    Param,
    ask_px,
    ask_qty,
    bid_px,
    bid_qty,
    book,
    can_trade,
    cancel,
    cancel_all,
    count,
    depth,
    find,
    first_order,
    instruments,
    is_open,
    is_pending,
    layout,
    level_orders,
    level_px,
    level_size,
    market_px,
    next_order,
    open_qty,
    order,
    own_qty,
    position,
    positions,
    profit,
    qty_at,
    queue_ahead,
    replace,
    set_timer,
    state_of,
    submit,
    subscribed,
)

params = [Param("symbol", "BBB", doc="a symbol to find"), Param("rate", 0.5, min=0.0, max=1.0), Param("qty", 7, min=1, max=9)]

state = layout("probe_state", 320, [
    ("what", "i8"), ("a", "i8"), ("b", "i8"), ("c", "i8"), ("d", "i8"), ("e", "i8"),
    ("r0", "i8"), ("r1", "i8"), ("r2", "i8"), ("r3", "i8"), ("r4", "i8"), ("r5", "i8"), ("r6", "i8"), ("r7", "i8"),
    ("starts", "i8"), ("books", "i8"), ("trades", "i8"), ("reports", "i8"), ("timers", "i8"), ("changes", "i8"),
    ("now_ns", "i8"), ("venue_ns", "i8"), ("rate", "f8"),
    ("kind", "i8"), ("id", "i8"), ("qty", "i8"), ("leaves", "i8"), ("cum", "i8"), ("status", "i8"), ("reason", "i8"),
    ("orig", "i8"), ("position", "i8"),
    ("px", "i8"), ("side", "i8"), ("hidden", "i8"), ("instrument", "i8"), ("book", "i8"), ("trading", "i8"),
    ("bid_px", "i8"), ("ask_px", "i8"),
])  # fmt: skip
instrument_state = layout("probe_instrument_state", 16, [("seen", "i8"), ("half", "f8")])
counters = ["commands"]


def on_start(ctx):
    """Note the parameters."""
    ctx.state.starts += 1
    ctx.state.rate = ctx.params.rate


def on_book(ctx, book):
    """Note the best prices."""
    ctx.state.books += 1
    ctx.state.bid_px, ctx.state.ask_px = book.bid_px, book.ask_px
    mine = state_of(ctx, book.instrument)
    mine.seen += 1
    mine.half = mine.seen / 2


def on_trade(ctx, trade):
    """Note the print, and do what the state asks for."""
    s = ctx.state
    s.trades += 1
    s.px, s.side, s.hidden, s.instrument = trade.px, trade.side, trade.hidden, trade.instrument
    s.now_ns, s.venue_ns = ctx.now_ns, ctx.venue_ns
    obey(ctx, s.what)
    s.what = 0


def obey(ctx, what):
    """Do one command."""
    s = ctx.state
    if what != 0:
        count(ctx, 0)
    if what == 1:
        s.r0 = submit(ctx, s.a, s.b, s.c, s.d, s.e)
    elif what == 2:
        s.r0 = replace(ctx, s.a, s.b, s.c)
    elif what == 3:
        s.r0 = cancel(ctx, s.a)
    elif what == 4:
        s.r0 = cancel_all(ctx, s.a)
    elif what == 5:
        at = book(ctx, s.a)
        s.r0, s.r1, s.r2 = depth(at, s.b), level_px(at, s.b, s.c), level_size(at, s.b, s.c)
        s.r3, s.r4 = level_orders(at, s.b, s.c), qty_at(at, s.b, s.d)
    elif what == 6:
        mine = order(ctx, s.a)
        s.r0, s.r1, s.r2, s.r3, s.r4 = mine.status, mine.px, mine.leaves_qty, mine.cum_qty, mine.qty
        s.r5, s.r6, s.r7 = queue_ahead(ctx, s.a), int(is_open(ctx, s.a)), int(is_pending(ctx, s.a))
    elif what == 7:
        s.r0, s.r1, s.r2 = position(ctx, s.a), open_qty(ctx, s.a, BUY), open_qty(ctx, s.a, SELL)
        s.r3, s.r4 = profit(ctx, s.a), positions(ctx, s.a).fills
    elif what == 8:
        s.r0 = first_order(ctx, s.a, s.b)
        s.r1 = next_order(ctx, s.r0)
        s.r2 = next_order(ctx, s.r1)
    elif what == 9:
        s.r0, s.r1, s.r2 = find(ctx, ctx.params.symbol), instruments(ctx), int(subscribed(ctx, s.a))
        s.r3 = int(can_trade(ctx))
    elif what == 10:
        set_timer(ctx, s.a)
    elif what == 11:
        s.r0, s.r1, s.r2 = market_px(ctx, s.a, BUY), market_px(ctx, s.a, SELL), own_qty(ctx, s.a, s.b, s.c)
    elif what == 12:
        s.r0, s.r1, s.r2, s.r3 = bid_px(ctx, s.a, s.b), bid_qty(ctx, s.a, s.b), ask_px(ctx, s.a, s.b), ask_qty(ctx, s.a, s.b)


def on_report(ctx, report):
    """Note the report."""
    s = ctx.state
    s.reports += 1
    s.kind, s.id, s.qty, s.leaves, s.cum, s.status = (
        report.kind, report.id, report.qty, report.leaves_qty, report.cum_qty, report.status
    )  # fmt: skip
    s.reason, s.orig, s.position = report.reason, report.orig_id, report.position


def on_timer(ctx):
    """Note the moment."""
    ctx.state.timers += 1
    ctx.state.now_ns = ctx.now_ns


def on_state(ctx, change):
    """Note the change."""
    ctx.state.changes += 1
    ctx.state.book, ctx.state.trading = change.book, change.trading
