"""Writes down what the venue said: every notice, and what `status`, `session` and `facts` say at that moment."""

from hftd.strategy import facts, layout, session, state_of, status

state = layout("watcher_state", 128, [
    ("notices", "i8"), ("kind", "i8"), ("instrument", "i8"), ("px", "i8"), ("qty", "i8"), ("ref", "i8"), ("orders", "i8"),
    ("phase", "i8"), ("breaker", "i8"), ("level_3", "i8"), ("cross", "i8"), ("changes", "i8"), ("of_one", "i8"), ("trades", "i8"),
    ("pad", ("i8", (2,))),
])  # fmt: skip
instrument_state = layout("watcher_instrument_state", 104, [
    ("trading", "i8"), ("reason", "i8"), ("short", "i8"), ("breaker", "i8"), ("collar_low", "i8"), ("collar_high", "i8"),
    ("imbalance_qty", "i8"), ("far_px", "i8"), ("reference_px", "i8"), ("ipo_px", "i8"), ("retail", "i8"), ("listing_max", "i8"),
    ("lot", "i8"),
])  # fmt: skip


def note(ctx, instrument):
    """Copy the status of an instrument."""
    mine, now = state_of(ctx, instrument), status(ctx, instrument)
    mine.trading, mine.reason, mine.short, mine.breaker = now.trading, now.reason, now.short, now.breaker
    mine.collar_low, mine.collar_high = now.collar_low, now.collar_high
    mine.imbalance_qty, mine.far_px, mine.reference_px = now.imbalance_qty, now.far_px, now.reference_px
    mine.ipo_px, mine.retail, mine.listing_max = now.ipo_px, now.retail, now.listing_max
    mine.lot = facts(ctx, instrument).lot


def on_notice(ctx, notice):
    """Write it down."""
    s = ctx.state
    s.notices += 1
    s.kind, s.instrument, s.px, s.qty = notice.kind, notice.instrument, notice.px, notice.qty
    s.ref, s.orders = notice.ref, notice.orders
    s.phase, s.breaker, s.level_3 = session(ctx).phase, session(ctx).breaker, session(ctx).level_3
    if notice.instrument >= 0:
        s.of_one += 1
        note(ctx, notice.instrument)
    else:
        note(ctx, 0)
        note(ctx, 1)


def on_trade(ctx, trade):
    """Write down the cross."""
    ctx.state.trades += 1
    ctx.state.cross = trade.cross


def on_state(ctx, change):
    """Count."""
    ctx.state.changes += 1
