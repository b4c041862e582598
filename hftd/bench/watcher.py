"""The strategy of the load benchmark: looks at every book that changed, and sends nothing."""

from hftd.strategy import layout

state = layout("watcher_state", 16, [("seen", "i8"), ("spread", "i8")])


def on_book(ctx, book):
    """Count the book, and look at its top."""
    ctx.state.seen += 1
    ctx.state.spread = book.ask_px - book.bid_px
