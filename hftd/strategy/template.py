"""What `hftd strategy new NAME` writes."""

TEMPLATE = '''"""NAME: one sentence that says what it does; `hftd strategy list` shows it.

Check it:  hftd strategy check strategies/NAME.py
Run it:    hftd demo --strategy strategies/NAME.py
Debug it:  NUMBA_DISABLE_JIT=1 runs every callback as plain Python: breakpoints and print work.

Inside callbacks only numbers, records and the functions of hftd.strategy: no strings, lists, dicts or print.
Prices are whole numbers in the venue's scale (Nasdaq: $1 is 10000, one cent is 100), quantities are shares.
"""

from hftd.strategy import (
    BUY,
    FILL,
    LIVE,
    Param,
    cancel,
    cancel_all,
    count,
    is_open,
    is_pending,
    layout,
    order,
    position,
    state_of,
    submit,
)

# Set from the configuration; read as ctx.params.qty. The type of the default is the type of the parameter.
params = [
    Param("qty", 100, min=1, max=10_000, unit="shares", doc="size of the order"),
    Param("position_max", 500, min=0, unit="shares", doc="stop buying at this position"),
]

# What the strategy remembers: one record of its own (ctx.state), and one for each instrument (state_of(ctx, instrument)).
state = layout("NAME_state", 8, [
    ("bought_qty", "i8"),                         # shares
])  # fmt: skip
instrument_state = layout("NAME_instrument_state", 8, [
    ("order", "i8"),                              # id of our order, 0 before the first
])  # fmt: skip

# Names of the numbers that count(ctx, index) adds to.
counters = ["joined"]


def on_book(ctx, book):
    """Join the best bid with one order. Called once a packet for each instrument whose book changed and is LIVE."""
    mine = state_of(ctx, book.instrument)
    if is_open(ctx, mine.order):
        if not is_pending(ctx, mine.order) and order(ctx, mine.order).px != book.bid_px:
            cancel(ctx, mine.order)
    elif book.bid_px > 0 and position(ctx, book.instrument) < ctx.params.position_max:
        mine.order = submit(ctx, book.instrument, BUY, book.bid_px, ctx.params.qty)
        if mine.order > 0:
            count(ctx, 0)


def on_report(ctx, report):
    """Something happened to one of our orders: report.kind is NEW, FILL, CANCELED, REPLACED, REJECTED, DENIED, …"""
    if report.kind == FILL:
        ctx.state.bought_qty += report.qty


def on_state(ctx, change):
    """A book became LIVE, RECOVERING or STALE, or trading in it was halted or resumed."""
    if change.book != LIVE:
        cancel_all(ctx, change.instrument)


# There are also on_start(ctx), on_trade(ctx, trade), on_notice(ctx, notice), and on_timer(ctx) with set_timer(ctx, ns).
'''
