"""Takes the side that more shares stand behind, with immediate-or-cancel orders, and gives the position back soon after.

    signal     shares displayed on the best `levels` prices of each side; one side holds `threshold` percent of them or more
    entry      an IOC order at the other side's best price, when the spread is at most `spread_max` and we hold nothing
    exit       an IOC order the other way when the signal has turned, or `hold_ms` after the entry
    limit      never more than `position_max` shares, one order at a time per instrument

Heavy bids tend to be followed by a higher price, heavy asks by a lower one. Whether by enough to pay the spread is for you to find
out; here it is an example of deciding, taking and getting out.
"""

from hftd.strategy import (
    BUY,
    DENIED,
    FILL,
    IOC,
    SELL,
    TRADING,
    Param,
    book,
    count,
    instruments,
    is_open,
    layout,
    level_size,
    position,
    set_timer,
    state_of,
    submit,
)

params = [
    Param("qty", 100, min=1, max=100_000, unit="shares", doc="size of an entry"),
    Param("position_max", 300, min=0, unit="shares", doc="largest position, long or short"),
    Param("levels", 3, min=1, max=50, doc="price levels of each side that count"),
    Param("threshold", 70, min=51, max=100, unit="percent", doc="share of the displayed quantity on one side that is a signal"),
    Param("spread_max", 25, min=1, max=10_000, unit="ticks", doc="stay out when the spread is wider"),
    Param("hold_ms", 100, min=1, max=3_600_000, unit="ms", doc="how long to hold a position"),
    Param("rest_ms", 20, min=0, max=3_600_000, unit="ms", doc="how long to wait between two orders on an instrument"),
]

instrument_state = layout("imbalance_taker_state", 32, [
    ("order", "i8"),                              # id of our last order
    ("sent_ns", "i8"),                            # when we sent it
    ("entered_ns", "i8"),                         # when the position was last taken or added to
    ("signal", "i8"),                             # 1 bids heavy, -1 asks heavy, 0 neither
])  # fmt: skip

counters = ["entries", "exits: signal turned", "exits: held long enough", "fills"]

MS = 1_000_000


def on_start(ctx):
    """Look at the clock ten times a second, so that a position is given back even where the book stands still."""
    set_timer(ctx, 100 * MS)


def on_book(ctx, book):
    """The book changed: what does it say, and what do we hold?"""
    mine, held = state_of(ctx, book.instrument), position(ctx, book.instrument)
    mine.signal = signal_of(ctx, book)
    if is_open(ctx, mine.order) or ctx.now_ns - mine.sent_ns < ctx.params.rest_ms * MS:
        return
    if held != 0:
        leave(ctx, book, held)
        return
    if mine.signal == 0 or book.trading > TRADING or book.bid_px == 0 or book.ask_px == 0:
        return
    if book.ask_px - book.bid_px > ctx.params.spread_max * book.tick:
        return
    qty = min(ctx.params.qty, ctx.params.position_max)
    if qty <= 0:
        return
    mine.sent_ns, mine.entered_ns = ctx.now_ns, ctx.now_ns
    if mine.signal > 0:
        mine.order = submit(ctx, book.instrument, BUY, book.ask_px, qty, IOC)
    else:
        mine.order = submit(ctx, book.instrument, SELL, book.bid_px, qty, IOC)
    count(ctx, 0)


def signal_of(ctx, book):
    """1 where bids hold `threshold` percent of the shares on the best levels, -1 where asks do, else 0."""
    bids, asks = 0, 0
    for n in range(ctx.params.levels):
        bids += level_size(book, BUY, n)
        asks += level_size(book, SELL, n)
    if bids == 0 or asks == 0:
        return 0
    if bids * 100 >= ctx.params.threshold * (bids + asks):
        return 1
    return -1 if asks * 100 >= ctx.params.threshold * (bids + asks) else 0


def leave(ctx, book, held):
    """Give the position back where the signal has turned against it or its time is up."""
    mine = state_of(ctx, book.instrument)
    turned = (held > 0 and mine.signal < 0) or (held < 0 and mine.signal > 0)
    if not turned and ctx.now_ns - mine.entered_ns < ctx.params.hold_ms * MS:
        return
    side, px = (SELL, book.bid_px) if held > 0 else (BUY, book.ask_px)
    if px == 0:
        return
    mine.sent_ns = ctx.now_ns
    mine.order = submit(ctx, book.instrument, side, px, abs(held), IOC)
    count(ctx, 1 if turned else 2)


def on_timer(ctx):
    """Give back what was held long enough in books that do not move, and set the timer again."""
    for i in range(instruments(ctx)):
        held = position(ctx, i)
        if held != 0 and not is_open(ctx, state_of(ctx, i).order):
            leave(ctx, book(ctx, i), held)
    set_timer(ctx, 100 * MS)


def on_report(ctx, report):
    """Count fills (what was filled stands in position(ctx, instrument) already); after a denial, wait twenty times as long."""
    if report.kind == FILL:
        count(ctx, 3)
    elif report.kind == DENIED:
        state_of(ctx, report.instrument).sent_ns = ctx.now_ns + 19 * ctx.params.rest_ms * MS
