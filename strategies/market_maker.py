"""Quotes both sides of every book it follows, leans against its inventory, and moves a quote only when its price changed.

    where      one bid and one ask per instrument, `edge` ticks behind the best prices, our own orders left out of these
    leaning    a long position moves both quotes down, a short one up: `skew` ticks for each `qty` shares held
    limit      no quote that could take the position past `position_max`
    safety     quotes are pulled when the book is not LIVE, when one side is empty, or when trading stops

The price of a quote is decided in `wanted_bid` and `wanted_ask`; everything else keeps the two orders where they should be.
"""

from hftd.strategy import (
    BUY,
    FILL,
    LIVE,
    SELL,
    TRADING,
    Param,
    cancel,
    cancel_all,
    count,
    is_open,
    is_pending,
    layout,
    market_px,
    order,
    position,
    replace,
    round_down,
    round_up,
    state_of,
    submit,
)

params = [
    Param("qty", 100, min=1, max=100_000, unit="shares", doc="size of each quote"),
    Param("position_max", 500, min=0, unit="shares", doc="largest position, long or short"),
    Param("edge", 0, min=0, max=1000, unit="ticks", doc="how far behind the best prices to quote"),
    Param("skew", 1, min=0, max=1000, unit="ticks", doc="how far to lean for each `qty` shares held"),
    Param("step", 1, min=1, max=1000, unit="ticks", doc="leave a quote alone unless its price is wrong by this much"),
]

instrument_state = layout("market_maker_quotes", 16, [
    ("bid", "i8"),                                # id of our buy order; <= 0: none
    ("ask", "i8"),                                # id of our sell order; <= 0: none
])  # fmt: skip

counters = ["quotes sent", "quotes moved", "quotes filled", "times pulled"]


def on_book(ctx, book):
    """The book changed: work out where our two quotes belong, and put them there."""
    instrument, quotes = book.instrument, state_of(ctx, book.instrument)
    best_bid, best_ask = market_px(ctx, instrument, BUY), market_px(ctx, instrument, SELL)
    if best_bid == 0 or best_ask == 0 or best_bid >= best_ask:
        pull(ctx, instrument)
        return
    held, qty, most = position(ctx, instrument), ctx.params.qty, ctx.params.position_max
    lean = ctx.params.skew * book.tick * held // qty
    bid = wanted_bid(ctx, book, best_bid, best_ask, lean)
    ask = wanted_ask(ctx, book, best_bid, best_ask, lean)
    quotes.bid = keep_at(ctx, book, quotes.bid, BUY, bid, min(qty, most - held))
    quotes.ask = keep_at(ctx, book, quotes.ask, SELL, ask, min(qty, most + held))


def wanted_bid(ctx, book, best_bid, best_ask, lean):
    """Where our bid belongs: at the best bid, moved by edge and inventory, never high enough to trade at once."""
    return min(round_down(best_bid - ctx.params.edge * book.tick - lean, book.tick), best_ask - book.tick)


def wanted_ask(ctx, book, best_bid, best_ask, lean):
    """Where our ask belongs: the same, seen from the other side."""
    return max(round_up(best_ask + ctx.params.edge * book.tick - lean, book.tick), best_bid + book.tick)


def keep_at(ctx, book, quote, side, px, qty):
    """Have one order of ours at `px` on this side, or none where qty <= 0. Returns its id."""
    if is_pending(ctx, quote):
        return quote                              # an answer is on its way: decide when it is here
    if not is_open(ctx, quote):
        if qty <= 0 or px <= 0:
            return 0
        count(ctx, 0)
        return submit(ctx, book.instrument, side, px, qty)
    if qty <= 0 or px <= 0:
        cancel(ctx, quote)
        return quote
    if abs(order(ctx, quote).px - px) < ctx.params.step * book.tick:
        return quote
    moved = replace(ctx, quote, px, qty)
    if moved <= 0:
        return quote
    count(ctx, 1)
    return moved


def pull(ctx, instrument):
    """Cancel both quotes of an instrument."""
    quotes = state_of(ctx, instrument)
    if is_open(ctx, quotes.bid) or is_open(ctx, quotes.ask):
        cancel_all(ctx, instrument)
        count(ctx, 3)


def on_report(ctx, report):
    """Count fills; the quotes are put right at the next change of the book."""
    if report.kind == FILL:
        count(ctx, 2)


def on_state(ctx, change):
    """Pull the quotes as soon as the book cannot be trusted or trading stops."""
    if change.book != LIVE or change.trading > TRADING:
        pull(ctx, change.instrument)
