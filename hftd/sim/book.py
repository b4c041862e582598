"""The books of the exchange: orders in time at each price, prices in order on each side, and who may be found by reference.

A half-book is a list of levels from the best price outward; a level is a list of orders from the oldest on. Finding a price
walks from the best, which is where nearly everything happens. An order that an execution emptied in a replay stays in `refs`
as a ghost (left 0, in no level) while history still speaks of it.
"""

from hftd.core.jit import hot, leaf
from hftd.core.memory import record_at, row, span
from hftd.shm.pool import give_row, take_row
from hftd.sim.memory import (
    SOURCE_SYNTHETIC,
    account_dtype,
    cell_dtype,
    half_dtype,
    level_dtype,
    order_dtype,
    slot_dtype,
    symbol_dtype,
)

_MIX = -7046029254386353131  # 2**64 / golden ratio, as an int64: multiplies a key's bits into the high ones


@leaf
def home(key, mask):
    """Where `key` would like to lie."""
    return ((key * _MIX) >> 24) & mask


@leaf
def cell(cells, i):
    """Cell `i` of a table."""
    return record_at(cells.base + (i << 4), cell_dtype)


@hot
def find(table, key):
    """Return the value of `key` in `table` (a span_dtype record of cells), or 0. Keys and values are never 0."""
    cells = span(table)
    mask = cells.count - 1
    i = home(key, mask)
    while cell(cells, i).key != 0:
        if cell(cells, i).key == key:
            return cell(cells, i).value
        i = (i + 1) & mask
    return 0


@hot
def put(table, key, value):
    """Set `key` to `value`. The table is never full: it has twice the rows of the pool it points into."""
    cells = span(table)
    mask = cells.count - 1
    i = home(key, mask)
    while cell(cells, i).key != 0 and cell(cells, i).key != key:
        i = (i + 1) & mask
    cell(cells, i).key = key
    cell(cells, i).value = value


@hot
def erase(table, key):
    """Take `key` out, closing the gap so that no search is ever cut short."""
    cells = span(table)
    mask = cells.count - 1
    i = home(key, mask)
    while cell(cells, i).key != key:
        if cell(cells, i).key == 0:
            return
        i = (i + 1) & mask
    j = (i + 1) & mask
    while cell(cells, j).key != 0:
        if ((j - home(cell(cells, j).key, mask)) & mask) >= ((j - i) & mask):
            cell(cells, i).key = cell(cells, j).key
            cell(cells, i).value = cell(cells, j).value
            i = j
        j = (j + 1) & mask
    cell(cells, i).key = 0
    cell(cells, i).value = 0


@leaf
def own_key(a, user_ref):
    """Key of an account's order in `owns`."""
    return (a << 32) | user_ref


@leaf
def half_of(x, locate, side):
    """One side of one book."""
    return row(span(x.halves), 2 * locate + side, half_dtype)


@leaf
def reaches(side, px, level_px):
    """Whether an order of `side` at `px` would trade with the other side's level at `level_px`."""
    return level_px <= px if side == 0 else level_px >= px


@hot
def best_px(x, locate, side):
    """Best price of a side, 0 where it is empty."""
    at = half_of(x, locate, side).best
    if at == 0:
        return 0
    return row(span(x.levels.rows), at, level_dtype).px


@hot
def level_at(x, locate, side, px):
    """Return the row of the level at `px`, made where it is missing; 0 when the pool is empty (counted)."""
    levels = span(x.levels.rows)
    half = half_of(x, locate, side)
    before = 0
    at = half.best
    while at != 0:
        level = row(levels, at, level_dtype)
        if level.px == px:
            return at
        if (level.px < px) == (side == 0):
            break
        before = at
        at = level.next
    made = take_row(x.levels, levels, level_dtype)
    if made == 0:
        x.orphans += 1
        return 0
    level = row(levels, made, level_dtype)
    level.px = px
    level.qty = 0
    level.orders = 0
    level.own = 0
    level.head = 0
    level.tail = 0
    level.next = at
    level.prev = before
    level.locate = locate
    level.side = side
    if before != 0:
        row(levels, before, level_dtype).next = made
    else:
        half.best = made
    if at != 0:
        row(levels, at, level_dtype).prev = made
    half.levels += 1
    return made


@hot
def rest(x, index):
    """Put order `index` at the back of its level."""
    orders = span(x.orders.rows)
    order = row(orders, index, order_dtype)
    at = level_at(x, order.locate, order.side, order.px)
    if at == 0:
        return
    level = row(span(x.levels.rows), at, level_dtype)
    order.level = at
    order.next = 0
    order.prev = level.tail
    if level.tail != 0:
        row(orders, level.tail, order_dtype).next = index
    else:
        level.head = index
    level.tail = index
    level.qty += order.left
    level.orders += 1
    half = half_of(x, order.locate, order.side)
    half.orders += 1
    if order.account != 0:
        level.own += 1
        half.own += 1
        row(span(x.symbols), order.locate, symbol_dtype).opened = 1
        x.touched = 1


@hot
def leave(x, index):
    """Take order `index` out of its level, and the level out of its side when it was the last; the order's row stays."""
    orders = span(x.orders.rows)
    levels = span(x.levels.rows)
    order = row(orders, index, order_dtype)
    at = order.level
    if at == 0:
        return
    level = row(levels, at, level_dtype)
    half = half_of(x, order.locate, order.side)
    if order.prev != 0:
        row(orders, order.prev, order_dtype).next = order.next
    else:
        level.head = order.next
    if order.next != 0:
        row(orders, order.next, order_dtype).prev = order.prev
    else:
        level.tail = order.prev
    order.level = 0
    order.next = 0
    order.prev = 0
    level.qty -= order.left
    level.orders -= 1
    half.orders -= 1
    if order.account != 0:
        level.own -= 1
        half.own -= 1
    if level.orders == 0:
        if level.prev != 0:
            row(levels, level.prev, level_dtype).next = level.next
        else:
            half.best = level.next
        if level.next != 0:
            row(levels, level.next, level_dtype).prev = level.prev
        half.levels -= 1
        give_row(x.levels, levels, at, level_dtype)


@hot
def reduce(x, index, qty):
    """Take `qty` open shares off order `index`; at 0 it leaves its level. The row stays."""
    order = row(span(x.orders.rows), index, order_dtype)
    if qty >= order.left:
        leave(x, index)
        order.left = 0
    else:
        order.left -= qty
        if order.level != 0:
            row(span(x.levels.rows), order.level, level_dtype).qty -= qty


@hot
def new_order(x, ref, locate, side, px, qty):
    """Return the row of a fresh order of the market, known by `ref` but in no level; 0 when the pool is empty (counted)."""
    orders = span(x.orders.rows)
    index = take_row(x.orders, orders, order_dtype)
    if index == 0:
        x.orphans += 1
        return 0
    order = row(orders, index, order_dtype)
    order.ref = ref
    order.px = px
    order.left = qty
    order.hist = 0
    order.next = 0
    order.prev = 0
    order.level = 0
    order.account = 0
    order.locate = locate
    order.side = side
    order.slot = 0
    order.own_next = 0
    order.own_prev = 0
    order.log = 0
    order.user_ref = 0
    x.arrivals += 1
    order.arrival = x.arrivals
    order.executed = 0
    order.canceled = 0
    order.ioc = 0
    order.post_only = 0
    put(x.refs, ref, index)
    return index


@hot
def adopt(x, index):
    """Enter order `index` among its account's open orders."""
    orders = span(x.orders.rows)
    order = row(orders, index, order_dtype)
    account = row(span(x.accounts), order.account, account_dtype)
    order.own_prev = 0
    order.own_next = account.own
    if account.own != 0:
        row(orders, account.own, order_dtype).own_prev = index
    account.own = index
    account.own_count += 1
    put(x.owns, own_key(order.account, order.user_ref), index)


@hot
def retire(x, index):
    """Order `index` is finished: out of the book, out of every table, its row given back."""
    orders = span(x.orders.rows)
    order = row(orders, index, order_dtype)
    leave(x, index)
    erase(x.refs, order.ref)
    if order.account != 0:
        account = row(span(x.accounts), order.account, account_dtype)
        if order.own_prev != 0:
            row(orders, order.own_prev, order_dtype).own_next = order.own_next
        else:
            account.own = order.own_next
        if order.own_next != 0:
            row(orders, order.own_next, order_dtype).own_prev = order.own_prev
        account.own_count -= 1
        erase(x.owns, own_key(order.account, order.user_ref))
    elif x.source == SOURCE_SYNTHETIC:
        unlist(x, index)
    give_row(x.orders, orders, index, order_dtype)


@hot
def unlist(x, index):
    """Take a synthetic order out of its symbol's list of live orders: the last one moves into its place."""
    orders = span(x.orders.rows)
    order = row(orders, index, order_dtype)
    symbol = row(span(x.symbols), order.locate, symbol_dtype)
    symbol.live_count -= 1
    moved = record_at(symbol.live + 8 * symbol.live_count, slot_dtype).order
    record_at(symbol.live + 8 * order.slot, slot_dtype).order = moved
    row(orders, moved, order_dtype).slot = order.slot


@hot
def list_order(x, index):
    """Enter a synthetic order into its symbol's list of live orders. The caller has checked that there is room."""
    order = row(span(x.orders.rows), index, order_dtype)
    symbol = row(span(x.symbols), order.locate, symbol_dtype)
    order.slot = symbol.live_count
    record_at(symbol.live + 8 * order.slot, slot_dtype).order = index
    symbol.live_count += 1
