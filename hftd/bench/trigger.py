"""The strategy of the tick-to-trade benchmark: each time the best bid rises, take 100 shares at the best ask."""

from hftd.strategy import BUY, IOC, layout, submit

state = layout("trigger_state", 16, [("bid_px", "i8"), ("sent", "i8")])


def on_book(ctx, book):
    """One order per better bid."""
    if book.bid_px > ctx.state.bid_px > 0 and book.ask_px > 0:
        submit(ctx, book.instrument, BUY, book.ask_px, 100, IOC)
        ctx.state.sent += 1
    ctx.state.bid_px = book.bid_px
