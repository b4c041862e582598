"""The table of open orders: found by id, listed by instrument, each holding its share of the account's exposure.

An order holds what it could still do: `hold_qty` shares and `hold_cash` in the sums of its instrument and of the account. A
*standing* order (`orig` 0) holds its open shares. A *replacement under way* (`orig` set) holds only what it could add to the
order it is to replace, so that a chain together holds the worst of its members, whichever of them the venue makes true:

    order 300 @ 10.00 open   +   replace to 500 @ 10.02, 100 traded   =   held 300 + 100 (= max(300, 500 - 100)), at 10.02
    a fill of 50 on the first:   held 250 + 100 (= max(250, 500 - 150))

`refresh` states that rule once; it runs after anything that changes the order in front. Fills alone keep it true by themselves.
"""

from hftd.core.jit import leaf
from hftd.core.memory import load32, row, store32
from hftd.msg.enums import OrdStatus, Side
from hftd.msg.ids import bucket_of
from hftd.msg.records import position_dtype
from hftd.risk.memory import NO_ASK, exposure_dtype, risk_order_dtype, strategy_row_dtype
from hftd.shm.pool import give_row

BUY = int(Side.BUY)
PENDING_CANCEL = int(OrdStatus.PENDING_CANCEL)


# ---------------------------------------------------------------- by id


@leaf
def bucket_of_id(buckets, cl_ord_id):
    """Return the address of an id's hash bucket."""
    return buckets.base + 4 * bucket_of(cl_ord_id, buckets.count - 1)


@leaf
def find_order(rows, buckets, cl_ord_id):
    """Return the row of an open order, or 0."""
    index = load32(bucket_of_id(buckets, cl_ord_id))
    while index != 0:
        order = row(rows, index, risk_order_dtype)
        if order.id == cl_ord_id:
            return index
        index = order.next
    return 0


@leaf
def widen_own(exposure, order):
    """Let the own best prices take in an open order's."""
    if order.side == BUY:
        exposure.own_bid_px = max(exposure.own_bid_px, order.px)
    else:
        exposure.own_ask_px = min(exposure.own_ask_px, order.px)


@leaf
def link_order(rows, buckets, exposure, index):
    """Enter a filled row into the hash and into its instrument's list. exposure: exposure_dtype record of the instrument."""
    order = row(rows, index, risk_order_dtype)
    bucket = bucket_of_id(buckets, order.id)
    order.next = load32(bucket)
    store32(bucket, index)
    order.before, order.after = 0, exposure.first
    if exposure.first != 0:
        row(rows, exposure.first, risk_order_dtype).before = index
    exposure.first = index
    widen_own(exposure, order)


@leaf
def unlink_order(rows, buckets, exposure, index):
    """Take a row out of the hash and out of its instrument's list."""
    order = row(rows, index, risk_order_dtype)
    bucket = bucket_of_id(buckets, order.id)
    other = load32(bucket)
    if other == index:
        store32(bucket, order.next)
    else:
        while other != 0:
            link = row(rows, other, risk_order_dtype)
            other = link.next
            if other == index:
                link.next = order.next
                break
    if order.before != 0:
        row(rows, order.before, risk_order_dtype).after = order.after
    else:
        exposure.first = order.after
    if order.after != 0:
        row(rows, order.after, risk_order_dtype).before = order.before
    if exposure.first == 0:
        exposure.own_bid_px, exposure.own_ask_px = 0, NO_ASK


@leaf
def tighten_own(rows, exposure):
    """Make the own best prices exact by walking the instrument's open orders. Only when a self cross is suspected.

    An order that was asked to go (a cancel or a replacement is on its way) does not count: the venue gets our messages in the order
    in which they were sent. Where it refuses, `widen_own` counts the order again.
    """
    bid, ask = 0, NO_ASK
    index = exposure.first
    while index != 0:
        order = row(rows, index, risk_order_dtype)
        if order.successor != 0 or order.status == PENDING_CANCEL:
            pass
        elif order.side == BUY:
            bid = max(bid, order.px)
        else:
            ask = min(ask, order.px)
        index = order.after
    exposure.own_bid_px, exposure.own_ask_px = bid, ask


# ---------------------------------------------------------------- what they hold


@leaf
def set_hold(account, position, order, qty, cash):
    """Let an order hold `qty` shares and `cash`, instead of what it held."""
    more_qty, more_cash = qty - order.hold_qty, cash - order.hold_cash
    order.hold_qty, order.hold_cash = qty, cash
    if order.side == BUY:
        position.open_buy_qty += more_qty
        position.open_buy_cash += more_cash
    else:
        position.open_sell_qty += more_qty
        position.open_sell_cash += more_cash
    account.open_cash += more_cash


@leaf
def excess_qty(total, executed, held):
    """Shares that a replacement of `total` (executed ones included) could open beyond the `held` of what stands before it."""
    return max(total - executed - held, 0)


@leaf
def refresh(rows, account, position, index):
    """Recompute what the replacements under way after row `index` hold; the order itself is up to date."""
    order = row(rows, index, risk_order_dtype)
    held_qty, held_cash, executed, worst_px = order.hold_qty + 0, order.hold_cash, order.executed + 0, order.px
    index = order.successor + 0
    while index != 0:
        order = row(rows, index, risk_order_dtype)
        worst_px = max(worst_px, order.px)
        extra = excess_qty(order.qty, executed, held_qty)
        held_qty += extra
        cash = max(worst_px * held_qty - held_cash, 0)
        held_cash += cash
        set_hold(account, position, order, extra, cash)
        index = order.successor + 0


@leaf
def count_open(account, position, strategy, by):
    """Count a standing order that opened (+1) or ended (-1)."""
    account.open_orders += by
    position.open_orders += by
    strategy.open_orders += by


@leaf
def end_orders(rows, buckets, pool, account, positions, exposures, strategies, index):
    """Release row `index` and every replacement that hung on it: exposure, counts, rows."""
    while index != 0:
        order = row(rows, index, risk_order_dtype)
        following = order.successor + 0
        position = row(positions, order.instrument, position_dtype)
        set_hold(account, position, order, 0, 0)
        if order.orig == 0:
            count_open(account, position, row(strategies, order.strategy, strategy_row_dtype), -1)
        unlink_order(rows, buckets, row(exposures, order.instrument, exposure_dtype), index)
        order.id, order.status, order.successor, order.orig = 0, 0, 0, 0
        give_row(pool, rows, index, risk_order_dtype)
        index = following
