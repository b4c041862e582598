"""History, played into a book in which accounts' orders stand too.

Without an account's order in the way every message goes out as the bytes it came in. With one:

    A F U   that would trade with accounts' resting orders do so first; what is left joins the book, and history's later words
            about the order are held to it. While the symbol is halted or paused nothing trades: they join the book as they came
    E       the historical aggressor first meets accounts' orders that are ahead by price, then time; the historical order
            gets what is left. When history says that an order is gone and shares of it are left here, they are deleted
    C       auctions and the like: accounts' orders take no part; the historical order gives what it has
    X D     of shares that an account took already: capped, or dropped
    P Q B   and all the rest: as they came. A hidden trade says nothing about its aggressor's limit, so it fills nobody

`order.left` is what is open here, `order.hist` what history believes. An order that accounts emptied stays findable (a ghost)
until history is done with it. left < hist: accounts took some of it. left > hist: accounts stood ahead of it. An unknown
reference goes out as it came. Every historical execution of n shares ends as: accounts' fills + this order's + `capped` = n.
"""

from hftd.core.jit import hot, leaf
from hftd.core.memory import load8, load16, load64, record_at, row, span, swap16, swap32, swap64
from hftd.sim.book import find, half_of, new_order, put, reaches, reduce, rest, retire
from hftd.sim.matching import TRADING, execute, sweep
from hftd.sim.memory import level_dtype, order_dtype, symbol_dtype
from hftd.sim.tape import (
    note_admin,
    publish_add,
    publish_cancel,
    publish_copy,
    publish_delete,
    publish_executed,
    publish_replace,
)
from hftd.venues.nasdaq import itch50 as itch

STOCK_AT, TRADING_STATE_AT = 11, 19


@leaf
def length_of(kind):
    """Length of an order message of history; 0 for any other type."""
    size = 0
    if kind == itch.ADD_ORDER:
        size = 36
    elif kind == itch.ADD_ORDER_MPID:
        size = 40
    elif kind == itch.ORDER_EXECUTED:
        size = 31
    elif kind == itch.ORDER_EXECUTED_PRICE:
        size = 36
    elif kind == itch.ORDER_CANCEL:
        size = 23
    elif kind == itch.ORDER_DELETE:
        size = 19
    elif kind == itch.ORDER_REPLACE:
        size = 35
    return size


@hot
def forget(x, index):
    """History is done with order `index`: publish its end where shares of it are left, and give its row back."""
    order = row(span(x.orders.rows), index, order_dtype)
    if order.left > 0:
        publish_delete(x, order.locate, order.ref)
        x.altered += 1
    retire(x, index)


@hot
def settle(x, index):
    """After history took shares of order `index`: end it where history says it is gone; keep a ghost where it is not."""
    order = row(span(x.orders.rows), index, order_dtype)
    if order.hist <= 0:
        forget(x, index)


@hot
def add(x, at, size):
    """A, F: a historical order comes in."""
    message = record_at(at, itch.add_order_dtype)
    locate = swap16(message.locate)
    side = 0 if message.side == 66 else 1
    shares = swap32(message.shares)
    px = swap32(message.price)
    ref = swap64(message.ref)
    old = find(x.refs, ref)
    if old != 0:
        forget(x, old)  # a reference used twice: the file is not sound; the newer one counts
        x.bad += 1
    left = shares
    if half_of(x, locate, 1 - side).own > 0 and row(span(x.symbols), locate, symbol_dtype).state == TRADING:
        left = sweep(x, locate, side, px, shares, 0, 1)
    index = new_order(x, ref, locate, side, px, left)
    if index == 0:
        return
    row(span(x.orders.rows), index, order_dtype).hist = shares
    if left == shares:
        publish_copy(x, at, size)
        rest(x, index)
    elif left > 0:
        was = message.shares
        message.shares = swap32(left)
        publish_copy(x, at, size)
        message.shares = was
        x.altered += 1
        rest(x, index)
    else:
        x.dropped += 1


@hot
def fill_ahead(x, index, qty):
    """Give up to `qty` shares of a historical execution of order `index` to accounts' orders ahead of it. Returns what is left."""
    orders = span(x.orders.rows)
    levels = span(x.levels.rows)
    order = row(orders, index, order_dtype)
    side = order.side
    px = order.px
    at = half_of(x, order.locate, side).best
    while qty > 0 and at != 0:
        level = row(levels, at, level_dtype)
        if level.px != px and (level.px < px) == (side == 0):
            break
        same = level.px == px
        behind = level.next
        ahead = level.head if level.own > 0 else 0
        while qty > 0 and ahead != 0:
            resting = row(orders, ahead, order_dtype)
            if same and resting.arrival >= order.arrival:
                break
            after = resting.next
            if resting.account != 0:
                given = min(qty, resting.left)
                publish_executed(x, order.locate, resting.ref, given, x.match_next)
                execute(x, ahead, given, 0, 1 - side)
                qty -= given
            ahead = after
        if same:
            break
        at = behind
    return qty


@hot
def executed(x, at, size, index):
    """E, C: order `index` traded in history."""
    order = row(span(x.orders.rows), index, order_dtype)
    message = record_at(at, itch.order_executed_dtype)
    shares = swap32(message.shares)
    rest_of_it = shares
    if size == 31 and half_of(x, order.locate, order.side).own > 0:
        rest_of_it = fill_ahead(x, index, shares)
    given = min(rest_of_it, order.left)
    x.capped += rest_of_it - given
    order.hist -= shares
    if given == shares:
        publish_copy(x, at, size)
    elif given > 0:
        was = message.shares
        message.shares = swap32(given)
        publish_copy(x, at, size)
        message.shares = was
        x.altered += 1
    else:
        x.dropped += 1
    if given > 0:
        symbol = row(span(x.symbols), order.locate, symbol_dtype)
        symbol.last_px = order.px
        symbol.last_qty = given
        symbol.trades += 1
        symbol.shares += given
        x.flow_trades += 1
        reduce(x, index, given)
    settle(x, index)


@hot
def canceled(x, at, size, index):
    """X: history takes shares off order `index`."""
    order = row(span(x.orders.rows), index, order_dtype)
    message = record_at(at, itch.order_cancel_dtype)
    shares = swap32(message.shares)
    order.hist -= shares
    gone = shares
    if order.left < order.hist + shares:
        gone = order.left - max(min(order.left, order.hist), 0)  # what accounts took counts as canceled first
    gone = min(gone, order.left)
    if gone == shares:
        publish_copy(x, at, size)
        reduce(x, index, gone)
    elif gone > 0:
        publish_cancel(x, order.locate, order.ref, gone)
        reduce(x, index, gone)
        x.altered += 1
    else:
        x.dropped += 1
    settle(x, index)


@hot
def deleted(x, at, size, index):
    """D: order `index` ends in history."""
    order = row(span(x.orders.rows), index, order_dtype)
    if order.left > 0:
        publish_copy(x, at, size)
    else:
        x.dropped += 1
    retire(x, index)


@hot
def replaced(x, at, size, index):
    """U: order `index` gives way to another. Shares that accounts took of the old one are missing from the new one."""
    orders = span(x.orders.rows)
    order = row(orders, index, order_dtype)
    message = record_at(at, itch.order_replace_dtype)
    new_ref = swap64(message.new_ref)
    shares = swap32(message.shares)
    px = swap32(message.price)
    locate, side, ref, had = order.locate, order.side, order.ref, order.left
    wanted = max(shares - max(order.hist - order.left, 0), 0)
    retire(x, index)
    old = find(x.refs, new_ref)
    if old != 0:
        forget(x, old)
        x.bad += 1
    left = wanted
    crossing = False
    opposite = half_of(x, locate, 1 - side)
    trading = row(span(x.symbols), locate, symbol_dtype).state == TRADING
    if trading and wanted > 0 and opposite.own > 0 and opposite.best != 0:
        crossing = meets_own(x, locate, side, px)
    if crossing:
        if had > 0:
            publish_delete(x, locate, ref)
        left = sweep(x, locate, side, px, wanted, 0, 1)
        x.altered += 1
    made = new_order(x, new_ref, locate, side, px, left)
    if made == 0:
        return
    row(orders, made, order_dtype).hist = shares
    if crossing:
        if left > 0:
            publish_add(x, made)
    elif left == shares and had > 0:
        publish_copy(x, at, size)
    elif left > 0 and had > 0:
        publish_replace(x, locate, ref, new_ref, left, px)
        x.altered += 1
    elif left > 0:
        publish_add(x, made)
        x.altered += 1
    elif had > 0:
        publish_delete(x, locate, ref)
        x.altered += 1
    else:
        x.dropped += 1
    if left > 0:
        rest(x, made)


@hot
def meets_own(x, locate, side, px):
    """Whether an order of `side` at `px` would reach a resting order of an account."""
    levels = span(x.levels.rows)
    at = half_of(x, locate, 1 - side).best
    met = False
    while at != 0 and not met:
        level = row(levels, at, level_dtype)
        if not reaches(side, px, level.px):
            break
        met = level.own > 0
        at = level.next
    return met


@hot
def announce(x, at, size, kind):
    """Reference data: learn symbols and trading states, and remember the message for snapshots."""
    locate = swap16(load16(at + 1))
    if kind == itch.STOCK_DIRECTORY and size == 39 and 0 < locate < span(x.symbols).count:
        stock = load64(at + STOCK_AT)
        row(span(x.symbols), locate, symbol_dtype).stock = stock
        put(x.stocks, stock, locate)
    elif kind == itch.TRADING_ACTION and size == 25 and 0 < locate < span(x.symbols).count:
        row(span(x.symbols), locate, symbol_dtype).state = load8(at + TRADING_STATE_AT)
    note_admin(x, x.tape.tail)
    publish_copy(x, at, size)


@hot
def history(x, at, size):
    """Play one message of history, `size` bytes at `at`. x.ts is its stamp."""
    kind = load8(at) if size > 0 else 0
    wanted = length_of(kind)
    if wanted == 0 or wanted != size:
        if wanted != 0:
            x.bad += 1
        admin = kind == itch.STOCK_DIRECTORY or kind == itch.TRADING_ACTION or kind == itch.SYSTEM_EVENT
        if admin or kind == itch.REG_SHO_RESTRICTION or kind == itch.OPERATIONAL_HALT:
            announce(x, at, size, kind)
        else:
            publish_copy(x, at, size)
        return
    if swap16(load16(at + 1)) >= span(x.symbols).count:
        x.bad += 1
        publish_copy(x, at, size)
        return
    if kind == itch.ADD_ORDER or kind == itch.ADD_ORDER_MPID:
        add(x, at, size)
        return
    index = find(x.refs, swap64(load64(at + 11)))
    if index == 0:
        publish_copy(x, at, size)
    elif kind == itch.ORDER_EXECUTED or kind == itch.ORDER_EXECUTED_PRICE:
        executed(x, at, size, index)
    elif kind == itch.ORDER_DELETE:
        deleted(x, at, size, index)
    elif kind == itch.ORDER_CANCEL:
        canceled(x, at, size, index)
    else:
        replaced(x, at, size, index)
