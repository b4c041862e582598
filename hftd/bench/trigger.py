"""The strategy of the tick-to-trade benchmark: each time the best bid rises, take `qty` shares at the best ask."""

from hftd.strategy import BUY, IOC, Param, layout, submit

params = [Param("qty", 100, min=1, max=10_000, unit="shares")]
state = layout("trigger_state", 16, [("bid_px", "i8"), ("sent", "i8")])


def on_book(ctx, book):
    """One order per better bid."""
    if book.bid_px > ctx.state.bid_px > 0 and book.ask_px > 0:
        submit(ctx, book.instrument, BUY, book.ask_px, ctx.params.qty, IOC)
        ctx.state.sent += 1
    ctx.state.bid_px = book.bid_px
