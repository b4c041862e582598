"""What the venue said: reports into positions, open orders and released exposure.

Reports are the truth. An order that risk does not hold (it was restarted, or released it early) is adopted when the venue says
that it is open; a fill counts whoever's order it was. A fill is known by its match number and order, and counted once. Only what
the venue ended is released; UNKNOWN releases nothing.

The venue's wire has room for more than an order can be: quantities above 2**31, prices of eight bytes. A report with such figures
changes nothing, since sums would overflow, and ends all new risk (`account.lost`): nobody knows what is true.
"""

from hftd.core.atomics import fence_release
from hftd.core.jit import leaf
from hftd.core.layout import offset_of
from hftd.core.memory import address_of, copy_bytes, row
from hftd.msg.enums import ExecType, OrdStatus
from hftd.msg.ids import strategy_of
from hftd.msg.records import REPORT_SELL, position_dtype
from hftd.risk.checks import value_of_position
from hftd.risk.memory import FILLS, PX_MAX, QTY_MAX, exposure_dtype, fill_dtype, risk_order_dtype, strategy_row_dtype, undo_dtype
from hftd.risk.orders import count_open, end_orders, find_order, link_order, refresh, set_hold, widen_own
from hftd.shm.control import STRATEGIES_MAX
from hftd.shm.pool import take_row

NEW, FILL, CANCELED, REPLACED, REJECTED = (
    int(ExecType.NEW), int(ExecType.FILL), int(ExecType.CANCELED), int(ExecType.REPLACED), int(ExecType.REJECTED),
)  # fmt: skip
DENIED, REPLACE_REJECTED, BROKEN, UNKNOWN, MODIFIED, CANCEL_PENDING, CANCEL_REJECTED = (
    int(ExecType.DENIED), int(ExecType.REPLACE_REJECTED), int(ExecType.BROKEN), int(ExecType.UNKNOWN),
    int(ExecType.MODIFIED), int(ExecType.CANCEL_PENDING), int(ExecType.CANCEL_REJECTED),
)  # fmt: skip
LIVE, PARTIALLY_FILLED, PENDING_CANCEL, LOST = (
    int(OrdStatus.LIVE), int(OrdStatus.PARTIALLY_FILLED), int(OrdStatus.PENDING_CANCEL),
    int(OrdStatus.UNKNOWN),
)  # fmt: skip
SEQUENCE = 0xFFFFFFFF
POSITION_BYTES, ORDER_BYTES = position_dtype.itemsize, risk_order_dtype.itemsize
UNDO_POSITION, UNDO_ORDER, UNDO_REPLACED = (offset_of(undo_dtype, name) for name in ("position", "before", "replaced"))


@leaf
def remark(account, position, exposure, mark_px, now):
    """Value an instrument's position at `mark_px` (0: at the last mark, else at the last fill), and latch the loss limit."""
    if mark_px > 0:
        exposure.mark_px = mark_px
    elif exposure.mark_px == 0:
        exposure.mark_px = position.last_fill_px
    shares = position.bought_qty - position.sold_qty + exposure.carried_qty
    held = value_of_position(shares, exposure.mark_px, account.cap)
    pnl = position.sold_cash - position.bought_cash + exposure.carried_cash + (held if shares >= 0 else -held)
    account.held_cash += held - exposure.held_cash
    account.pnl += pnl - exposure.pnl
    exposure.held_cash, exposure.pnl = held, pnl
    if account.pnl <= -account.loss_max and account.loss_latched == 0:
        account.loss_latched = now


@leaf
def seen_before(fills, undo, match, cl_ord_id):
    """Tell whether this fill was counted among the last ones; remember it. Match number 0 means none was given."""
    if match == 0:
        return False
    index = (match ^ (match >> 13) ^ cl_ord_id) & (FILLS - 1)
    entry = row(fills, index, fill_dtype)
    if entry.match == match and entry.cl_ord_id == cl_ord_id:
        return True
    undo.fill = index + 1
    fence_release()
    entry.match, entry.cl_ord_id = match, cl_ord_id
    return False


@leaf
def keep(undo, seq, instrument, position, index, rows):
    """Keep what report `seq` may change, as it is: `rebuild` puts it back where the process died in the middle."""
    undo.instrument, undo.order, undo.fill, undo.orig = instrument, index, 0, 0
    copy_bytes(address_of(undo) + UNDO_POSITION, address_of(position), POSITION_BYTES)
    if index != 0:
        copy_bytes(address_of(undo) + UNDO_ORDER, rows.base + index * ORDER_BYTES, ORDER_BYTES)
        orig = row(rows, index, risk_order_dtype).orig + 0
        if orig != 0:
            undo.orig = orig
            copy_bytes(address_of(undo) + UNDO_REPLACED, rows.base + orig * ORDER_BYTES, ORDER_BYTES)
    fence_release()
    undo.seq = seq
    fence_release()


@leaf
def believable(kind, px, qty, leaves):
    """Tell whether a report's figures can be an order's, so that whatever is made of them fits. kind: ExecType."""
    if leaves > QTY_MAX or px < 0 or px >= PX_MAX:
        return False
    return (kind != FILL and kind != BROKEN) or (px > 0 and qty <= QTY_MAX)


@leaf
def adopt(pool, rows, buckets, account, position, exposure, strategies, report):
    """Take up an open order that risk does not hold; return its row, or 0 where the table is full. It holds nothing yet."""
    index = take_row(pool, rows, risk_order_dtype)
    if index == 0:
        return 0
    order = row(rows, index, risk_order_dtype)
    order.px, order.instrument = report.px, report.instrument
    order.side, order.strategy = report.flags & REPORT_SELL, strategy_of(report.cl_ord_id) & (STRATEGIES_MAX - 1)
    order.hold_qty = order.qty = order.executed = order.orig = order.successor = order.depth = 0
    order.hold_cash = 0
    order.marked = 0                              # not told: what may not grow into a short sale is the safe guess
    fence_release()                               # a row without an id is free: whoever dies here has adopted nothing
    order.id = report.cl_ord_id
    link_order(rows, buckets, exposure, index)
    count_open(account, position, row(strategies, order.strategy, strategy_row_dtype), 1)
    return index


@leaf
def apply_report(report, pool, rows, buckets, account, positions, exposures, strategies, fills, undo, counters, now):
    """Apply one report. report: report_dtype record in place; everything else: risk's own state, lifted by the caller."""
    counters.reports += 1
    if report.instrument >= positions.count:
        counters.reports_unknown += 1
        return
    kind = report.exec_type + 0
    leaves, px = report.leaves_qty + 0, report.px
    if not believable(kind, px, report.qty + 0, leaves):
        counters.reports_impossible += 1
        account.lost = 1
        return
    position = row(positions, report.instrument, position_dtype)
    exposure = row(exposures, report.instrument, exposure_dtype)
    index = find_order(rows, buckets, report.cl_ord_id)
    ended = 0
    keep(undo, report.seq, report.instrument + 0, position, index, rows)

    if kind == FILL or kind == BROKEN:
        if kind == FILL and seen_before(fills, undo, report.venue_id, report.cl_ord_id):
            counters.fills_repeated += 1
            return
        qty = report.qty + 0
        sign = 1 if kind == FILL else -1
        if report.flags & REPORT_SELL:
            position.sold_qty += sign * qty
            position.sold_cash += sign * qty * px
        else:
            position.bought_qty += sign * qty
            position.bought_cash += sign * qty * px
        if kind == FILL:
            position.fills += 1
            position.last_fill_px = px
            counters.fills += 1
        else:
            position.broken += 1
            position.fills -= 1
        remark(account, position, exposure, 0, now)
        if index == 0:
            if kind == FILL:
                counters.reports_unknown += 1
            return
        if kind == BROKEN:
            return
        row(rows, index, risk_order_dtype).executed += qty
    elif kind == NEW or kind == REPLACED:
        position.orders += 1
        if index == 0:
            if leaves == 0:
                return
            index = adopt(pool, rows, buckets, account, position, exposure, strategies, report)
            if index == 0:
                counters.reports_unknown += 1
                return
            counters.adopted += 1
        elif kind == REPLACED and row(rows, index, risk_order_dtype).orig != 0:
            row(rows, index, risk_order_dtype).orig = 0
            count_open(account, position, row(strategies, row(rows, index, risk_order_dtype).strategy, strategy_row_dtype), 1)
        order = row(rows, index, risk_order_dtype)
        if px > 0 and px != order.px:
            order.px = px
            widen_own(exposure, order)
        if kind == REPLACED:
            before = find_order(rows, buckets, (report.cl_ord_id & ~SEQUENCE) | report.orig_seq)
            if before != 0:
                replaced = row(rows, before, risk_order_dtype)
                order.executed = replaced.executed
                ended = before
                if replaced.successor == index:
                    replaced.successor = 0
        elif leaves > order.hold_qty and order.hold_qty > 0:
            counters.excess_leaves += 1
    elif index == 0:
        counters.reports_unknown += 1
        return
    elif kind == REJECTED or kind == DENIED or kind == REPLACE_REJECTED:
        order = row(rows, index, risk_order_dtype)
        if order.orig != 0:
            ended = index
            order = row(rows, order.orig, risk_order_dtype)
            order.successor = 0
        elif kind == REPLACE_REJECTED:
            ended = order.successor + 0
            order.successor = 0
        elif leaves == 0:
            ended = index
        widen_own(exposure, order)  # it stays, at its price
        index = 0
    elif kind == UNKNOWN:
        order = row(rows, index, risk_order_dtype)
        order.status = LOST
        widen_own(exposure, order)  # a cancel that was under way may not have arrived
        return
    elif kind == CANCEL_PENDING:
        row(rows, index, risk_order_dtype).status = PENDING_CANCEL
        return
    elif kind == CANCEL_REJECTED:
        order = row(rows, index, risk_order_dtype)
        order.status = LIVE
        widen_own(exposure, order)
        return
    elif kind != CANCELED and kind != MODIFIED:
        return

    if index != 0:
        order = row(rows, index, risk_order_dtype)
        if order.status != PENDING_CANCEL:
            order.status = PARTIALLY_FILLED if kind == FILL else LIVE
        set_hold(account, position, order, leaves, leaves * order.px)
        if leaves != 0:
            if order.successor != 0:
                refresh(rows, account, position, index)
            index = 0
    for _ in range(2):
        end_orders(rows, buckets, pool, account, positions, exposures, strategies, ended)
        ended = index
