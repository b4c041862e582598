"""Sends as much as it can: new orders inside and outside the book, replaces of what stands, cancels, in a random order."""

from hftd.strategy import BUY, DAY, IOC, SELL, Param, cancel, cancel_all, is_open, layout, position, replace, state_of, submit

params = [Param("qty", 100, min=1, max=100_000, unit="shares", doc="size of each order")]
state = layout("busy_state", 16, [("dice", "i8"), ("orders", "i8")])
instrument_state = layout("busy_orders", 64, [("ids", ("i8", (8,)))])


def roll(ctx):
    """Throw the dice."""
    dice = ctx.state.dice * 6364136223846793005 + 1442695040888963407
    ctx.state.dice = dice
    return (dice >> 33) & 0x3FFFFFFF


def on_book(ctx, book):
    """Do two things at random to the orders of this instrument."""
    if book.bid_px == 0 or book.ask_px == 0:
        return
    mine = state_of(ctx, book.instrument)
    held = position(ctx, book.instrument)
    for _ in range(2):
        dice = roll(ctx)
        slot = dice & 7
        what = (dice >> 3) & 15
        quote = mine.ids[slot]
        side = BUY if (dice >> 8) & 1 else SELL
        if held > 1500:
            side = SELL
        if held < -1500:
            side = BUY
        off = ((dice >> 10) & 7) - 3
        px = (book.bid_px - off * book.tick) if side == BUY else (book.ask_px + off * book.tick)
        qty = 1 + ((dice >> 14) & 127)
        if not is_open(ctx, quote):
            made = submit(ctx, book.instrument, side, px, qty, IOC if what == 0 else DAY)
            if made > 0:
                mine.ids[slot] = made
        elif what < 9:
            moved = replace(ctx, quote, px, qty)
            if moved > 0:
                mine.ids[slot] = moved
        elif what < 14:
            cancel(ctx, quote)
    if (roll(ctx) & 4095) == 0:
        cancel_all(ctx)
