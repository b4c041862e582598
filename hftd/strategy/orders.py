"""The strategy's own orders and positions: intents out, reports in. Nobody else's word is needed, and none is believed blindly.

An order's row is `sequence & (rows - 1)`. The table has twice the rows that may be open, a new order takes the next sequence
number whose row is free, and a finished order stays readable until its row is needed again. Open orders of one side of one
instrument form a list (newest first), so that "all my bids" costs no search.

`held` is what an order counts for in the position row's open quantity: its open shares; for a replacement under way, the shares
by which it is larger than the order it replaces, since only one of the two can be alive.

Queue position is an estimate: shares at our price when our order joined, less what left from before us since. An order stands
before ours when its reference number is older (references grow with time at the venue); a level event says which reference made
it. Where the market data is faster than the report, whoever stands at the price by then counts as before us; until the book shows
the order it is unknown (-1).
"""

from hftd.core.atomics import fence_release, load_acquire, store_relaxed, tsc
from hftd.core.jit import hot, leaf
from hftd.core.layout import offset_of
from hftd.core.memory import address_of, copy_bytes, record_at, row, span
from hftd.msg.enums import (
    TERMINAL_FROM,
    TERMINAL_TO,
    BookState,
    DenyReason,
    ExecType,
    IntentKind,
    OrdStatus,
    RunState,
    Side,
    Tif,
    TradingState,
)
from hftd.msg.ids import make_id, sequence_of
from hftd.msg.records import (
    INTENT_ANY_STATE,
    REPORT_REMOVED,
    REPORT_SELL,
    intent_dtype,
    position_dtype,
    report_dtype,
)
from hftd.shm.control import run_dtype
from hftd.shm.ring import claim, commit, room
from hftd.strategy.levels import find_level, level_at
from hftd.strategy.memory import SUMS_KEPT, strategy_counters_dtype, undo_dtype
from hftd.strategy.records import book_dtype, order_row_dtype

BUY, SELL = int(Side.BUY), int(Side.SELL)
DAY, IOC = int(Tif.DAY), int(Tif.IOC)

_NEW, _REPLACE, _CANCEL = int(IntentKind.NEW), int(IntentKind.REPLACE), int(IntentKind.CANCEL)
_CANCEL_ALL = int(IntentKind.CANCEL_ALL)

PENDING_NEW, LIVE, PARTIALLY_FILLED = int(OrdStatus.PENDING_NEW), int(OrdStatus.LIVE), int(OrdStatus.PARTIALLY_FILLED)
PENDING_REPLACE, PENDING_CANCEL = int(OrdStatus.PENDING_REPLACE), int(OrdStatus.PENDING_CANCEL)
FILLED, CANCELED, REJECTED = int(OrdStatus.FILLED), int(OrdStatus.CANCELED), int(OrdStatus.REJECTED)
UNKNOWN = int(OrdStatus.UNKNOWN)

X_NEW, X_FILL, X_CANCELED, X_REPLACED = int(ExecType.NEW), int(ExecType.FILL), int(ExecType.CANCELED), int(ExecType.REPLACED)
X_REJECTED, X_DENIED, X_CANCEL_REJECTED = int(ExecType.REJECTED), int(ExecType.DENIED), int(ExecType.CANCEL_REJECTED)
X_CANCEL_PENDING, X_REPLACE_REJECTED = int(ExecType.CANCEL_PENDING), int(ExecType.REPLACE_REJECTED)
X_BROKEN, X_RESTATED, X_UNKNOWN, X_MODIFIED = (
    int(ExecType.BROKEN), int(ExecType.RESTATED), int(ExecType.UNKNOWN), int(ExecType.MODIFIED)
)  # fmt: skip

D_KILLED, D_NOT_READY, D_STOPPING = int(DenyReason.KILLED), int(DenyReason.NOT_READY), int(DenyReason.STOPPING)
D_SESSION_DOWN, D_RING_FULL = int(DenyReason.SESSION_DOWN), int(DenyReason.RING_FULL)
D_ORDER_TABLE_FULL, D_UNKNOWN_INSTRUMENT = int(DenyReason.ORDER_TABLE_FULL), int(DenyReason.UNKNOWN_INSTRUMENT)
D_UNKNOWN_ORDER, D_NOT_OPEN, D_BAD_FIELD = int(DenyReason.UNKNOWN_ORDER), int(DenyReason.NOT_OPEN), int(DenyReason.BAD_FIELD)
D_STRATEGY_DISABLED = int(DenyReason.STRATEGY_DISABLED)
D_BOOK_NOT_LIVE, D_NOT_TRADING = int(DenyReason.BOOK_NOT_LIVE), int(DenyReason.NOT_TRADING)

_READY, _STOPPING = int(RunState.READY), int(RunState.STOPPING)
_BOOK_LIVE = int(BookState.LIVE)
_TRADING, _STATE_UNKNOWN = int(TradingState.TRADING), int(TradingState.UNKNOWN)

_UNDO_SUMS, _SUMS_BYTES = offset_of(undo_dtype, "sums"), 8 * len(SUMS_KEPT)

QTY_MAX = 999_999
PX_MAX = 1 << 40
"""Bounds of the intent's fields; risk has the real limits."""


# ---------------------------------------------------------------- rows


@leaf
def order_row(agent, cl_ord_id):
    """Return the row of an order, or row 0 (id 0, status NONE) where there is none of that id."""
    orders = span(agent.orders)
    index = sequence_of(cl_ord_id) & (orders.count - 1)
    found = row(orders, index, order_row_dtype)
    if found.id != cl_ord_id or cl_ord_id <= 0:
        return row(orders, 0, order_row_dtype)
    return found


@leaf
def hold(agent, order, qty):
    """Let `order` count for `qty` open shares in its position row."""
    position = row(span(agent.positions), order.instrument, position_dtype)
    shares, cash = qty - order.held_qty, qty * order.px - order.held_cash
    if order.side == BUY:
        position.open_buy_qty += shares
        position.open_buy_cash += cash
    else:
        position.open_sell_qty += shares
        position.open_sell_cash += cash
    order.held_qty, order.held_cash = order.held_qty + shares, order.held_cash + cash


@leaf
def price_bit(px):
    """Return the number of a price's bit in `side.own`, 0..62."""
    return min(((px * 0x1E3779B97F4A7C15) >> 58) & 63, 62)


@leaf
def enlist(agent, order, index):
    """Put an order at the head of its side's list of open orders."""
    orders = span(agent.orders)
    side = row(span(agent.books), order.instrument, book_dtype).sides[order.side]
    first = side.first
    order.next, order.prev, order.open = first, 0, 1
    if first != 0:
        row(orders, first, order_row_dtype).prev = index
    side.first = index
    side.own |= 1 << price_bit(order.px)
    agent.open_orders += 1
    row(span(agent.positions), order.instrument, position_dtype).open_orders += 1


@leaf
def finish(agent, order, status):
    """Make an order terminal: out of its list, nothing held."""
    order.status = status
    if order.open == 0:
        return
    orders = span(agent.orders)
    hold(agent, order, 0)
    if order.prev != 0:
        row(orders, order.prev, order_row_dtype).next = order.next
    else:
        side = row(span(agent.books), order.instrument, book_dtype).sides[order.side]
        side.first = order.next
        if order.next == 0:
            side.own = 0
    if order.next != 0:
        row(orders, order.next, order_row_dtype).prev = order.prev
    order.open, order.next, order.prev, order.leaves_qty = 0, 0, 0, 0
    agent.open_orders -= 1
    row(span(agent.positions), order.instrument, position_dtype).open_orders -= 1


@leaf
def fresh_row(agent):
    """Return the index of a row for a new order and step `agent.sequence` to its number; 0 when the table is full."""
    orders = span(agent.orders)
    if agent.open_orders >= agent.open_max:
        return 0
    sequence = agent.sequence
    for _ in range(orders.count):
        sequence += 1
        index = sequence & (orders.count - 1)
        if index != 0 and row(orders, index, order_row_dtype).open == 0:
            agent.sequence = sequence
            return index
    return 0


@leaf
def settled(order):
    """Return the status of an order that waits for no answer."""
    if order.venue_id == 0:
        return PENDING_NEW
    return LIVE if order.cum_qty == 0 else PARTIALLY_FILLED


@leaf
def awaiting(order):
    """Return the status of an order that waits for no answer about itself, but perhaps for one about its replacement."""
    return PENDING_REPLACE if order.next_id != 0 else settled(order)


# ---------------------------------------------------------------- intents


@leaf
def may_trade(agent):
    """Return 0 where orders may leave, else the DenyReason: the daemon's state, the kill switch and the session."""
    run = record_at(agent.run_at, run_dtype)
    state = load_acquire(run, "state")
    if agent.disabled != 0:
        return D_STRATEGY_DISABLED
    if load_acquire(run, "kill") != 0:
        return D_KILLED
    if state >= _STOPPING:
        return D_STOPPING
    if state != _READY:
        return D_NOT_READY
    if load_acquire(run, "session_up") == 0:
        return D_SESSION_DOWN
    return 0


@leaf
def send(agent, kind, cl_ord_id, orig, instrument, side, px, qty, tif, flags, ts_recv, t_feed):
    """Write one intent. The caller has made sure of `room`."""
    slot = claim(agent.intents, intent_dtype)
    slot.ts_recv, slot.cl_ord_id, slot.px, slot.qty = ts_recv, cl_ord_id, px, qty
    slot.orig_seq = sequence_of(orig)
    slot.instrument, slot.kind, slot.side, slot.tif, slot.flags = instrument, kind, side, tif, flags
    slot.strategy, slot.t_feed = agent.index, t_feed
    apart = tsc() - ts_recv
    slot.t_strategy = min(max(apart, 0), 0xFFFFFFFF)
    slot.pad0 = 0
    commit(agent.intents, slot)
    counters = record_at(agent.counters_at, strategy_counters_dtype)
    store_relaxed(counters, "intents", counters.intents + 1)


@leaf
def refuse(agent, reason):
    """Count a refusal and return what the strategy gets: the reason, negative."""
    counters = record_at(agent.counters_at, strategy_counters_dtype)
    store_relaxed(counters, "refused", counters.refused + 1)
    store_relaxed(counters, "last_refusal", reason)
    return -reason


@hot
def submit_order(agent, instrument, side, px, qty, tif, any_state, ts_recv, t_feed, now_ns):
    """Send a new order. Returns its cl_ord_id (> 0), or a negative DenyReason; then nothing was sent."""
    if instrument < 0 or instrument >= agent.books.count:
        return refuse(agent, D_UNKNOWN_INSTRUMENT)
    book = row(span(agent.books), instrument, book_dtype)
    if book.subscribed == 0:
        return refuse(agent, D_UNKNOWN_INSTRUMENT)
    if (side != BUY and side != SELL) or (tif != DAY and tif != IOC) or px <= 0 or px > PX_MAX or qty <= 0 or qty > QTY_MAX:
        return refuse(agent, D_BAD_FIELD)
    if any_state == 0 and book.state != _BOOK_LIVE:
        return refuse(agent, D_BOOK_NOT_LIVE)
    if any_state == 0 and book.trading != _TRADING and book.trading != _STATE_UNKNOWN:
        return refuse(agent, D_NOT_TRADING)
    reason = may_trade(agent)
    if reason != 0:
        return refuse(agent, reason)
    if not room(agent.intents, 1):
        return refuse(agent, D_RING_FULL)
    index = fresh_row(agent)
    if index == 0:
        return refuse(agent, D_ORDER_TABLE_FULL)
    order = row(span(agent.orders), index, order_row_dtype)
    cl_ord_id = make_id(agent.index, agent.epoch, agent.sequence)
    order.id, order.status, order.px, order.qty, order.leaves_qty, order.cum_qty = cl_ord_id, PENDING_NEW, px, qty, qty, 0
    order.instrument, order.side, order.tif, order.orig_id, order.next_id = instrument, side, tif, 0, 0
    order.venue_id, order.ahead_qty, order.ahead_ref, order.sent_ns = 0, -1, 0, now_ns
    order.held_qty, order.held_cash, order.shown = 0, 0, 0
    enlist(agent, order, index)
    hold(agent, order, qty)
    flags = INTENT_ANY_STATE if any_state != 0 else 0
    send(agent, _NEW, cl_ord_id, 0, instrument, side, px, qty, tif, flags, ts_recv, t_feed)
    return cl_ord_id


@hot
def replace_order(agent, cl_ord_id, px, qty, any_state, ts_recv, t_feed, now_ns):
    """Replace an open order by one at `px` with `qty` open shares. Returns the new id, or a negative DenyReason."""
    old = order_row(agent, cl_ord_id)
    if old.id == 0:
        return refuse(agent, D_UNKNOWN_ORDER)
    if old.open == 0 or old.status == PENDING_CANCEL or old.status == PENDING_REPLACE or old.status == UNKNOWN:
        return refuse(agent, D_NOT_OPEN)
    if px <= 0 or px > PX_MAX or qty <= 0 or qty > QTY_MAX or old.tif == IOC:
        return refuse(agent, D_BAD_FIELD)
    book = row(span(agent.books), old.instrument, book_dtype)
    if any_state == 0 and book.state != _BOOK_LIVE:
        return refuse(agent, D_BOOK_NOT_LIVE)
    reason = may_trade(agent)
    if reason != 0:
        return refuse(agent, reason)
    if not room(agent.intents, 1):
        return refuse(agent, D_RING_FULL)
    index = fresh_row(agent)
    if index == 0:
        return refuse(agent, D_ORDER_TABLE_FULL)
    order = row(span(agent.orders), index, order_row_dtype)
    new_id = make_id(agent.index, agent.epoch, agent.sequence)
    total = qty + old.cum_qty
    order.id, order.status, order.px, order.qty, order.leaves_qty = new_id, PENDING_NEW, px, total, qty
    order.instrument, order.side, order.tif, order.orig_id, order.next_id = old.instrument, old.side, old.tif, cl_ord_id, 0
    order.cum_qty, order.venue_id, order.ahead_qty, order.ahead_ref, order.sent_ns = old.cum_qty, 0, -1, 0, now_ns
    order.held_qty, order.held_cash, order.shown = 0, 0, 0
    enlist(agent, order, index)
    hold(agent, order, max(qty - old.leaves_qty, 0))
    old.status, old.next_id = PENDING_REPLACE, new_id
    flags = INTENT_ANY_STATE if any_state != 0 else 0
    send(agent, _REPLACE, new_id, cl_ord_id, old.instrument, old.side, px, total, old.tif, flags, ts_recv, t_feed)
    return new_id


@hot
def cancel_order(agent, cl_ord_id, ts_recv, t_feed):
    """Ask for an order's cancel. Returns 0, or a negative DenyReason. A cancel may leave at any time, ready or not."""
    order = order_row(agent, cl_ord_id)
    if order.id == 0:
        return refuse(agent, D_UNKNOWN_ORDER)
    if order.open == 0 or order.status == PENDING_CANCEL:
        return refuse(agent, D_NOT_OPEN)
    if not room(agent.intents, 1):
        return refuse(agent, D_RING_FULL)
    if order.status != UNKNOWN:
        order.status = PENDING_CANCEL
    send(agent, _CANCEL, cl_ord_id, 0, order.instrument, order.side, order.px, 0, order.tif, 0, ts_recv, t_feed)
    return 0


@hot
def cancel_everything(agent, ts_recv, t_feed):
    """Ask for the cancel of every open order of this strategy, with one intent. Returns 0, or -RING_FULL."""
    if not room(agent.intents, 1):
        return refuse(agent, D_RING_FULL)
    orders = span(agent.orders)
    if agent.open_orders > 0:
        for index in range(1, orders.count):
            order = row(orders, index, order_row_dtype)
            if order.open != 0 and order.status != UNKNOWN:
                order.status = PENDING_CANCEL
    send(agent, _CANCEL_ALL, make_id(agent.index, agent.epoch, 0), 0, 0, 0, 0, 0, 0, 0, ts_recv, t_feed)
    return 0


@hot
def cancel_instrument(agent, instrument, ts_recv, t_feed):
    """Ask for the cancel of every open order on one instrument, one intent each. Returns how many, or a negative DenyReason."""
    if instrument < 0 or instrument >= agent.books.count:
        return refuse(agent, D_UNKNOWN_INSTRUMENT)
    book, asked = row(span(agent.books), instrument, book_dtype), 0
    for side in range(2):
        index = book.sides[side].first
        while index != 0:
            order = row(span(agent.orders), index, order_row_dtype)
            if order.status != PENDING_CANCEL:
                done = cancel_order(agent, order.id, ts_recv, t_feed)
                if done < 0:
                    return done
                asked += 1
            index = order.next
    return asked


# ---------------------------------------------------------------- queue position


@leaf
def level_qty(book, side, px):
    """Return the shares displayed at `px` on one side; 0 where there is no such level."""
    mine = book.sides[side]
    key = -px if side else px
    at = find_level(mine.base, mine.count, key)
    if at < mine.count and level_at(mine.base, at).key == key:
        return level_at(mine.base, at).qty
    return 0


@hot
def follow_queue(agent, book, side, px, before, after, ref):
    """Let our orders at `px` know that their level went from `before` to `after` shares because of order `ref`.

    Called where `side.own` says that there may be one; its bits are made anew on the way.
    """
    mine = book.sides[side]
    index, own = mine.first, 0
    while index != 0:
        order = row(span(agent.orders), index, order_row_dtype)
        own |= 1 << price_bit(order.px)
        if order.px == px:
            if order.venue_id == ref and ref != 0:
                order.shown = 1
                if after > before:
                    order.ahead_qty, order.ahead_ref = before, book.newest_ref
                elif after < before:
                    order.ahead_qty = 0
            elif order.ahead_qty > 0 and after < before and ref <= order.ahead_ref:
                order.ahead_qty = max(order.ahead_qty - (before - after), 0)
        index = order.next
    mine.own = own
    return 0


# ---------------------------------------------------------------- reports


@leaf
def restore(agent, cl_ord_id):
    """An order whose replacement failed waits for nothing any more."""
    old = order_row(agent, cl_ord_id)
    if old.open != 0:
        old.next_id = 0
        if old.status == PENDING_REPLACE:
            old.status = settled(old)


@leaf
def leave_open(agent, order, leaves):
    """Take the venue's word for an order's open shares."""
    order.leaves_qty = leaves
    if order.open == 0:
        return
    if order.orig_id != 0:
        return                                    # a replacement under way holds its excess only
    hold(agent, order, leaves)
    executed, link = order.cum_qty, order.next_id
    while link != 0:                              # what the chain has executed, its replacements have executed
        successor = order_row(agent, link)
        if successor.open == 0 or successor.orig_id == 0:
            break
        successor.cum_qty = executed
        open_qty = max(successor.qty - executed, 0)
        successor.leaves_qty = open_qty
        hold(agent, successor, max(open_qty - leaves, 0))
        leaves, link = max(open_qty, leaves), successor.next_id


@leaf
def keep_fill(agent, seq, position):
    """Keep what execution report `seq` changes in a position row (`StrategyAgent.take_back`)."""
    undo = record_at(agent.undo_at, undo_dtype)
    copy_bytes(agent.undo_at + _UNDO_SUMS, address_of(position), _SUMS_BYTES)
    undo.fills = position.fills
    fence_release()
    undo.seq = seq
    fence_release()


@leaf
def keep_order(agent, seq, position):
    """Keep what the report of an accepted order changes in a position row."""
    undo = record_at(agent.undo_at, undo_dtype)
    undo.orders = position.orders
    fence_release()
    undo.seq = seq
    fence_release()


@hot
def apply_report(agent, report):
    """Apply one report or denial to orders and positions, and fill `agent.fill`, the view that on_report is given.

    report: report_dtype record. Returns 1, or 0 where it names an instrument that is not in the table (counted).
    """
    counters = record_at(agent.counters_at, strategy_counters_dtype)
    kind, instrument, cl_ord_id = report.exec_type * 1, report.instrument * 1, report.cl_ord_id
    px, qty, leaves, venue_id = report.px, report.qty * 1, report.leaves_qty * 1, report.venue_id
    if instrument >= agent.books.count:
        store_relaxed(counters, "bad_reports", counters.bad_reports + 1)
        return 0
    book = row(span(agent.books), instrument, book_dtype)
    position = row(span(agent.positions), instrument, position_dtype)
    side = SELL if report.flags & REPORT_SELL else BUY
    order = order_row(agent, cl_ord_id)
    known = order.id != 0
    orig_id, reason = 0, 0
    if not known:
        store_relaxed(counters, "foreign_reports", counters.foreign_reports + 1)

    if kind == X_NEW or kind == X_REPLACED:
        keep_order(agent, report.seq, position)
        position.orders += 1
        if known:
            orig_id = order.orig_id
            order.venue_id, order.px = venue_id, px
            book.sides[order.side].own |= 1 << price_bit(px)
            if kind == X_REPLACED and orig_id != 0:
                old = order_row(agent, orig_id)
                order.cum_qty = old.cum_qty
                order.qty = old.cum_qty + leaves
                old.next_id = 0
                finish(agent, old, CANCELED)
            if order.status == PENDING_NEW or order.status == UNKNOWN:
                order.status = settled(order)
            order.orig_id = 0
            leave_open(agent, order, leaves)
            if leaves == 0:
                finish(agent, order, CANCELED)
            elif book.newest_ref >= venue_id and order.tif == DAY:
                order.shown = 1                   # the market data was faster than the report
                order.ahead_qty, order.ahead_ref = max(level_qty(book, side, px) - leaves, 0), venue_id
    elif kind == X_FILL:
        keep_fill(agent, report.seq, position)
        position.fills += 1
        position.last_fill_px = px
        if side == BUY:
            position.bought_qty += qty
            position.bought_cash += px * qty
        else:
            position.sold_qty += qty
            position.sold_cash += px * qty
        store_relaxed(counters, "fills", counters.fills + 1)
        if known:
            order.cum_qty += qty
            leave_open(agent, order, leaves)
            if leaves == 0:
                finish(agent, order, FILLED)
            elif order.status == LIVE or order.status == PENDING_NEW or order.status == UNKNOWN:
                order.status = PARTIALLY_FILLED
    elif kind == X_CANCELED:
        if known:
            leave_open(agent, order, leaves)
            if leaves == 0:
                finish(agent, order, CANCELED)
    elif kind == X_REJECTED or kind == X_DENIED or kind == X_REPLACE_REJECTED:
        reason = venue_id
        if kind == X_DENIED:
            store_relaxed(counters, "denied", counters.denied + 1)
            store_relaxed(counters, "last_denial", reason)
        else:
            store_relaxed(counters, "rejected", counters.rejected + 1)
        if known and order.open != 0:
            orig_id = order.orig_id
            if order.venue_id == 0:               # of UNKNOWN ones: the venue never got it
                finish(agent, order, REJECTED)
                if orig_id != 0:
                    restore(agent, orig_id)
            else:
                order.status = awaiting(order)    # it was the cancel that was refused
    elif kind == X_CANCEL_REJECTED:
        reason = venue_id
        if known and order.status == PENDING_CANCEL:
            order.status = awaiting(order)
    elif kind == X_BROKEN:
        keep_fill(agent, report.seq, position)
        position.broken += 1
        position.fills -= 1
        if side == BUY:
            position.bought_qty -= qty
            position.bought_cash -= px * qty
        else:
            position.sold_qty -= qty
            position.sold_cash -= px * qty
        store_relaxed(counters, "broken", counters.broken + 1)
    elif kind == X_RESTATED:
        if known and venue_id != 0:
            order.venue_id, order.ahead_qty = venue_id, -1
            order.shown = 1 if book.newest_ref >= venue_id else 0
    elif kind == X_UNKNOWN:
        if known and order.open != 0:
            order.status = UNKNOWN
    elif kind == X_MODIFIED:
        if known:
            leave_open(agent, order, leaves)
            if leaves == 0:
                finish(agent, order, CANCELED)
            elif order.status == UNKNOWN:         # the session is back, and the venue has said what is open
                order.status = awaiting(order)

    view = agent.fill
    view.id, view.kind, view.instrument, view.side, view.px, view.qty = cl_ord_id, kind, instrument, side, px, qty
    view.leaves_qty, view.cum_qty, view.status = leaves, order.cum_qty, order.status
    view.orig_id, view.reason, view.venue_id, view.ts_event = orig_id, reason, venue_id, report.ts_event
    view.removed = 1 if report.flags & REPORT_REMOVED else 0
    view.position = position.bought_qty - position.sold_qty
    return 1


assert report_dtype.itemsize == 64
assert TERMINAL_FROM == FILLED and TERMINAL_TO == REJECTED
