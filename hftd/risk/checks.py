"""The checks, each a pure function of a few integers and at most one row: returns a DenyReason, 0 where the order may pass.

Every check is integer arithmetic on lines that are in the cache anyway: the instrument's limits, exposure and position, the
account, the strategy. No check writes. `loop.py` calls them in one fixed order, and the first that denies gives the reason.

Products cannot overflow: `check_price` refuses px >= 2**40 and `check_qty` qty > 999,999 before anything is multiplied, so px * qty
is below 2**60 and px * 10,000 below 2**54. A position is valued by `value_of_position`, which saturates.
"""

from hftd.core.atomics import fence_acquire, load_acquire, load_relaxed, pause
from hftd.core.jit import leaf
from hftd.core.memory import address_of, copy_bytes
from hftd.msg.enums import BookState, DenyReason, IntentKind, RunState, Side, Tif, TradingState
from hftd.risk.memory import PX_MAX, QTY_MAX, STRATEGY_ON
from hftd.shm.histogram import log2

OK = int(DenyReason.OK)
KILLED, STOPPING, NOT_READY, SESSION_DOWN = (
    int(DenyReason.KILLED), int(DenyReason.STOPPING), int(DenyReason.NOT_READY), int(DenyReason.SESSION_DOWN),
)  # fmt: skip
BAD_FIELD, DUPLICATE_ID, STRATEGY_DISABLED = (
    int(DenyReason.BAD_FIELD), int(DenyReason.DUPLICATE_ID), int(DenyReason.STRATEGY_DISABLED),
)  # fmt: skip
UNKNOWN_INSTRUMENT, ORDER_QTY, ORDER_NOTIONAL, PRICE_TICK = (
    int(DenyReason.UNKNOWN_INSTRUMENT), int(DenyReason.ORDER_QTY), int(DenyReason.ORDER_NOTIONAL), int(DenyReason.PRICE_TICK),
)  # fmt: skip
PRICE_COLLAR, NO_REFERENCE_PRICE, POSITION, MESSAGE_RATE = (
    int(DenyReason.PRICE_COLLAR), int(DenyReason.NO_REFERENCE_PRICE), int(DenyReason.POSITION), int(DenyReason.MESSAGE_RATE),
)  # fmt: skip
BOOK_NOT_LIVE, NOT_TRADING, FEED_STALE, OPEN_ORDERS = (
    int(DenyReason.BOOK_NOT_LIVE), int(DenyReason.NOT_TRADING), int(DenyReason.FEED_STALE), int(DenyReason.OPEN_ORDERS),
)  # fmt: skip
GROSS_NOTIONAL, LOSS_LIMIT, SELF_CROSS, SHORT_RESTRICTED = (
    int(DenyReason.GROSS_NOTIONAL), int(DenyReason.LOSS_LIMIT), int(DenyReason.SELF_CROSS), int(DenyReason.SHORT_RESTRICTED),
)  # fmt: skip
LULD_COLLAR, MARKET_BREAKER, ROUND_LOT, SHORT_UNMARKED = (
    int(DenyReason.LULD_COLLAR), int(DenyReason.MARKET_BREAKER), int(DenyReason.ROUND_LOT), int(DenyReason.SHORT_UNMARKED),
)  # fmt: skip
NEW, CANCEL_ALL = int(IntentKind.NEW), int(IntentKind.CANCEL_ALL)
BUY, SELL, IOC = int(Side.BUY), int(Side.SELL), int(Tif.IOC)
READY, RUN_STOPPING = int(RunState.READY), int(RunState.STOPPING)
LIVE, TRADING = int(BookState.LIVE), int(TradingState.TRADING)

ID_MASK, ID_HALF = (1 << 56) - 1, 1 << 55
QUOTE_BYTES = 128  # of quote_dtype: everything a check looks at

TRIES = 256
"""Looks at a quote that the feed is writing, some microseconds: it writes one in some 10 ns, or an interrupt later."""


# ---------------------------------------------------------------- what may be sent at all


@leaf
def check_run(run):
    """May new risk be taken now? run: run_dtype record. Called once a turn; cancels pass whatever it says."""
    if load_acquire(run, "kill") != 0:
        return KILLED
    state = load_acquire(run, "state")
    if state >= RUN_STOPPING:
        return STOPPING
    if state != READY:
        return NOT_READY
    if load_acquire(run, "session_up") == 0:
        return SESSION_DOWN
    return OK


@leaf
def check_codes(kind, side, tif, strategy, of_ring, of_id):
    """Are the codes legal, and does the intent belong to the strategy whose ring it came from?"""
    if kind < NEW or kind > CANCEL_ALL or side > SELL or tif > IOC or strategy != of_ring:
        return BAD_FIELD
    return BAD_FIELD if kind != CANCEL_ALL and of_id != of_ring else OK


@leaf
def check_strategy(strategy):
    """Is the strategy switched on? strategy: strategy_row_dtype record."""
    return OK if strategy.state == STRATEGY_ON else STRATEGY_DISABLED


@leaf
def check_id(cl_ord_id, last_id):
    """Is the id one, and new? A strategy's ids only grow (modulo the epoch's 24 bits), so one comparison tells.

    last_id 0: none yet.
    """
    if cl_ord_id <= 0:                                # 0 is a free row's
        return BAD_FIELD
    ahead = (cl_ord_id - last_id) & ID_MASK
    return OK if last_id == 0 or 0 < ahead < ID_HALF else DUPLICATE_ID


# ---------------------------------------------------------------- the order by itself


@leaf
def check_qty(qty, qty_max):
    """1 <= qty <= qty_max, and never above what the wire carries."""
    return OK if 0 < qty <= qty_max and qty <= QTY_MAX else ORDER_QTY


@leaf
def check_price(px, tick):
    """0 < px < 2**40, a multiple of the tick (> 0)."""
    if px <= 0 or px >= PX_MAX:
        return BAD_FIELD
    return OK if px % tick == 0 else PRICE_TICK


@leaf
def check_notional(px, qty, notional_max):
    """px * qty <= notional_max. px and qty have passed their own checks: the product fits."""
    return OK if px * qty <= notional_max else ORDER_NOTIONAL


@leaf
def check_lot(restricted, qty, lot):
    """Whole round lots, where the instrument trades in no others. restricted: 0 or not; lot: shares, above 0."""
    return ROUND_LOT if restricted != 0 and lot > 0 and qty % lot != 0 else OK


# ---------------------------------------------------------------- the order against the market


@leaf
def read_quote(cell, target):
    """Copy a quote cell (seqlock) to the record `target`; False where the feed is at it for TRIES pauses, or died at it."""
    for _ in range(TRIES):
        before = load_acquire(cell, "version")
        if before & 1 == 0:
            copy_bytes(address_of(target), address_of(cell), QUOTE_BYTES)
            fence_acquire()
            if load_relaxed(cell, "version") == before:
                return True
        pause()
    return False


@leaf
def is_stub(bid_px, ask_px, bps):
    """Tell whether a book's sides (both > 0) are further apart than twice `bps`: such quotes say nothing about a price."""
    return (ask_px - bid_px) * 10_000 > bid_px * bps * 2


@leaf
def mark_of(bid_px, ask_px, last_px, bps):
    """Price at which a position is valued: the middle of a book that says something, else the last print, else 0."""
    if bid_px > 0 and ask_px > 0 and not is_stub(bid_px, ask_px, bps):
        return (bid_px + ask_px) >> 1
    return max(last_px, 0)


@leaf
def check_trading(trading):
    """Is the instrument trading (TradingState)?"""
    return OK if trading == TRADING else NOT_TRADING


@leaf
def check_luld(px, low, high):
    """Inside the auction collar of a pause? high 0: there is none. An order outside could only stand in the auction's way."""
    return LULD_COLLAR if high != 0 and (px < low or px > high) else OK


@leaf
def check_breaker(level):
    """Is a market-wide circuit breaker in force?"""
    return MARKET_BREAKER if level != 0 else OK


@leaf
def check_collar(px, bid_px, ask_px, last_px, bps):
    """bid less `bps` <= px <= ask plus `bps`.

    A side that is missing is taken for the other. A book whose sides are further apart than twice the collar holds stub quotes and
    says nothing: the last print then stands for both sides; so it does where one side alone is as far from it, since a stub quote
    often is all that is left. Nothing at all: NO_REFERENCE_PRICE.
    """
    low, high = bid_px, ask_px
    if low <= 0 or high <= 0:
        low = high = max(bid_px, ask_px)
        if low <= 0 or (last_px > 0 and is_stub(min(low, last_px), max(low, last_px), bps)):
            low = high = last_px
    elif is_stub(low, high, bps):
        low = high = last_px
    if low <= 0:
        return NO_REFERENCE_PRICE
    if (px - high) * 10_000 > high * bps or (low - px) * 10_000 > low * bps:
        return PRICE_COLLAR
    return OK


@leaf
def check_self_cross(side, px, own_bid_px, own_ask_px):
    """Would the order trade with one of our own? The own prices may be staler and worse than true, never better."""
    if side == BUY:
        return SELF_CROSS if px >= own_ask_px else OK
    return SELF_CROSS if px <= own_bid_px else OK


@leaf
def check_short(restricted, marked, net_after, px, bid_px):
    """A short sale (marked, or selling more than is held) under a price test must be above the bid. Called for sells.

    restricted, marked: 0 or not. net_after: shares held if this and every open sell were filled.
    """
    if restricted != 0 and (marked != 0 or net_after < 0) and px <= bid_px:
        return SHORT_RESTRICTED
    return OK


@leaf
def check_mark(orig, marked, extra, net_after):
    """A replacement carries the mark of the order it replaces: a long sale cannot grow into a short one.

    orig: row of the order that is replaced, 0: a new order, which is marked as it needs. marked: whether that one is. extra: shares
    that are added.
    """
    return SHORT_UNMARKED if orig != 0 and marked == 0 and extra > 0 and net_after < 0 else OK


# ---------------------------------------------------------------- the order against what we have already


@leaf
def check_position(net, open_qty, extra, side, position_max):
    """|position| if everything open on this side and `extra` shares more were filled. net: shares held, open_qty: of this side."""
    worst = (net if side == BUY else -net) + open_qty + extra
    return OK if worst <= position_max else POSITION


@leaf
def reduces(net, open_qty, extra, side):
    """Does the order only shrink the position, even if everything else open on its side were filled before it?"""
    return open_qty + extra <= (-net if side == BUY else net)


@leaf
def check_book(state):
    """Is the book LIVE (BookState)?"""
    return OK if state == LIVE else BOOK_NOT_LIVE


@leaf
def check_stale(age, stale_ticks):
    """Is market data younger than the limit? Ticks."""
    return OK if age <= stale_ticks else FEED_STALE


@leaf
def check_rate(sent, rate_max):
    """One more message in the last second?"""
    return OK if sent < rate_max else MESSAGE_RATE


@leaf
def check_open_orders(open_orders, extra, open_orders_max):
    """`extra` (0 or 1) more open orders?"""
    return OK if open_orders + extra <= open_orders_max else OPEN_ORDERS


@leaf
def check_gross(open_cash, held_cash, extra, gross_max):
    """Value of positions and open orders together, `extra` more."""
    return OK if open_cash + held_cash + extra <= gross_max else GROSS_NOTIONAL


@leaf
def check_loss(pnl, loss_max, latched):
    """Has the day's loss reached the limit, now or before?"""
    return LOSS_LIMIT if latched != 0 or pnl <= -loss_max else OK


# ---------------------------------------------------------------- arithmetic


@leaf
def value_of_position(shares, px, cap):
    """|shares| * px for px >= 0, `cap` (at most 2**61) where that is more."""
    if shares < 0:
        shares = -shares
    if shares == 0 or px <= 0:
        return 0
    if log2(shares) + log2(px) >= 60:
        return cap
    return min(shares * px, cap)


__all__ = [name for name in globals() if name.startswith(("check_", "value_", "mark_", "read_")) or name in ("reduces", "is_stub")]
