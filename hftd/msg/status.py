"""What the venue says about an instrument beside its book: one function makes the row of it, from events alone.

    feed      message -> event -> apply_status -> segment `market`, `statuses`     for who joins late, risk's cold side, the CLI
    strategy             event -> apply_status -> a row of its own                 `status(ctx, instrument)`

So a strategy knows what its input stream told it, and a replay decides the same.

A collar and a breaker are over when the venue resumes trading (STATUS with RESUMED), not before: a breaker whose end we missed
stops too much rather than too little.
"""

from hftd.core.jit import hot
from hftd.msg.enums import EventKind

HIDDEN_TRADE, STATUS, IMBALANCE = int(EventKind.HIDDEN_TRADE), int(EventKind.STATUS), int(EventKind.IMBALANCE)
IMBALANCE_PRICES, COLLAR, IPO, RETAIL = (
    int(EventKind.IMBALANCE_PRICES), int(EventKind.COLLAR), int(EventKind.IPO), int(EventKind.RETAIL)
)  # fmt: skip
LISTING_LIMITS, LISTING, BREAKER_LEVELS, SYSTEM = (
    int(EventKind.LISTING_LIMITS), int(EventKind.LISTING), int(EventKind.BREAKER_LEVELS), int(EventKind.SYSTEM)
)  # fmt: skip

SHORT, OPERATIONAL, RESUMED = 1 << 32, 1 << 33, 1 << 34
"""Bits of a STATUS event's ref, above the reason's four bytes."""

BREAKER, START_OF_DAY = ord("W"), ord("O")
"""A SYSTEM event's qty: a market-wide circuit breaker (level in ref); start of messages."""


@hot
def apply_status(status, kind, px, qty, ref, orders):
    """Apply one event to a status_dtype record. Returns 1 where it is of a kind that stands there, else 0."""
    if kind == STATUS:
        status.trading = qty
        status.reason = ref & 0xFFFFFFFF
        status.short = 1 if ref & SHORT != 0 else 0
        status.halted = 1 if ref & OPERATIONAL != 0 else 0
        if ref & RESUMED != 0:
            status.breaker = 0
            status.collar_px = 0
            status.collar_low = 0
            status.collar_high = 0
            status.collar_extension = 0
    elif kind == COLLAR:
        status.collar_px = px
        status.collar_low = qty
        status.collar_high = ref
        status.collar_extension = orders
    elif kind == IMBALANCE_PRICES:
        status.far_px = px
        status.reference_px = qty
    elif kind == IMBALANCE:
        status.near_px = px
        status.paired_qty = qty
        status.imbalance_qty = ref
        status.direction = orders & 0xFF
        status.auction = (orders >> 8) & 0xFF
        status.variation = (orders >> 16) & 0xFF
    elif kind == HIDDEN_TRADE and orders != 0:
        status.cross_px = px
        status.cross_qty = qty
        status.cross_type = orders
    elif kind == IPO:
        status.ipo_px = px
        status.ipo_ns = qty
        status.ipo_qualifier = ref
    elif kind == RETAIL:
        status.retail = qty
    elif kind == LISTING_LIMITS:
        status.listing_min = px
        status.listing_max = qty
        status.listing_open = ref
    elif kind == LISTING:
        status.listing_px = px
        status.listing_ns = qty
        status.listing_low = ref
        status.listing_high = orders
    else:
        return 0
    return 1


@hot
def apply_session(session, kind, px, qty, ref):
    """Apply one SYSTEM or BREAKER_LEVELS event to a session_dtype record. Returns the level of a breaker that fell, else 0."""
    if kind == BREAKER_LEVELS:
        session.level_1 = px
        session.level_2 = qty
        session.level_3 = ref
    elif qty == BREAKER:
        session.breaker = max(session.breaker, ref)
        return ref
    else:
        session.phase = qty
        if qty == START_OF_DAY:
            session.breaker = 0
    return 0
