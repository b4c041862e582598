"""The synthetic market: a flow of adds, deletes, replaces, takers and prints made from a seed, in the proportions of real days.

It acts through the same matching engine as everybody: its takers hit what rests first in price and time, an account's order or
its own, and that is the only way in which it reacts to accounts. Without accounts a seed gives the same bytes every time,
at whatever pace they are played. The numbers that shape it are one record, `calibration_dtype`, filled from `calibration.py`.

What walks is each symbol's fair price, by half ticks, when news comes; the book follows it: orders on its wrong side are deleted
or taken, and nobody adds there. Adds stand at, inside or behind the best price of their side, never across. A side keeps at
least `levels` prices; a live-order target holds the depth; a pull back towards the first price keeps a long run sane.
"""

import math

from hftd.core.jit import hot, leaf
from hftd.core.memory import record_at, row, span, swap32, swap64
from hftd.sim.book import best_px, half_of, list_order, new_order, reduce, rest, retire
from hftd.sim.chance import below, chance, uniform
from hftd.sim.matching import execute, sweep, would_take
from hftd.sim.memory import LIVE_MAX, calibration_dtype, level_dtype, order_dtype, size_dtype, slot_dtype, symbol_dtype
from hftd.sim.tape import publish, publish_add, publish_cancel, publish_delete, publish_replace
from hftd.venues.nasdaq import itch50 as itch

SEED_LEVELS, SEED_ORDERS = 14, 3
SEED_STEPS = 2 * SEED_LEVELS * SEED_ORDERS
"""Orders that stand in each book before the opening."""

MILLION = 1_000_000
MPID = int.from_bytes(b"SIMU", "little")


@leaf
def table_of(x):
    """The calibration."""
    return record_at(x.table, calibration_dtype)


@hot
def size_of_order(x):
    """Draw an order's size."""
    table = table_of(x)
    at = below(x, MILLION)
    i = 0
    while i < table.size_rows - 1 and record_at(table.sizes + 16 * i, size_dtype).parts <= at:
        i += 1
    size = record_at(table.sizes + 16 * i, size_dtype).shares
    if size < 0:  # an odd size between 1 and that
        size = 1 + below(x, -size)
    return size


@hot
def place(x, locate, side, px, shares, mpid):
    """Publish and rest an order of the market; mpid: four bytes in wire order, 0 for an A."""
    symbol = row(span(x.symbols), locate, symbol_dtype)
    if symbol.live_count >= LIVE_MAX:
        return
    if would_take(x, locate, side, px):  # an account's order stands in the way of a seed
        shares = sweep(x, locate, side, px, shares, 0, 0)
        if shares == 0:
            return
    index = new_order(x, x.ref_next, locate, side, px, shares)
    if index == 0:
        return
    x.ref_next += 1
    list_order(x, index)
    if mpid == 0:
        publish_add(x, index)
    else:
        message = record_at(publish(x, itch.ADD_ORDER_MPID, locate, 40), itch.add_order_mpid_dtype)
        message.ref = swap64(row(span(x.orders.rows), index, order_dtype).ref)
        message.side = 83 if side else 66
        message.shares = swap32(shares)
        message.stock = symbol.stock
        message.price = swap32(px)
        message.attribution = mpid
    rest(x, index)


@hot
def sow(x, number):
    """Put seed order `number` of the day (from 0) into its book."""
    locate = 1 + number % x.live_symbols
    step = number // x.live_symbols
    side = step & 1
    away = 1 + (step >> 1) % SEED_LEVELS
    symbol = row(span(x.symbols), locate, symbol_dtype)
    px = symbol.base_px - away * symbol.tick if side == 0 else symbol.base_px + away * symbol.tick
    place(x, locate, side, px, size_of_order(x), 0)


@hot
def add_price(x, locate, side):
    """Draw the price of an add: closing a wide spread, inside it, at the best, or behind; never across. 0: no sound price."""
    table = table_of(x)
    symbol = row(span(x.symbols), locate, symbol_dtype)
    tick = symbol.tick
    toward = 1 if side == 0 else -1
    own = best_px(x, locate, side)
    opposite = best_px(x, locate, 1 - side)
    if own == 0:
        own = symbol.base_px - toward * tick if opposite == 0 else opposite - toward * 2 * tick
    room = 4 if opposite == 0 else (opposite - own) * toward // tick - 1  # ticks between the two bests
    at = below(x, MILLION)
    px = own
    if (symbol.fair - own) * toward <= 0:  # the best is beyond what the market thinks: nobody joins it
        return symbol.fair // tick * tick - toward * tick * (1 + below(x, 3)) if own > 3 * tick else own
    if room >= table.spread and chance(x, 600_000):
        px = own + toward * tick * (1 + below(x, room))
        if (symbol.fair - px) * toward <= 0:
            px = own
    elif at < table.inside and room >= 1 and (symbol.fair - own) * toward > tick:
        px = own + toward * tick
    elif at >= table.inside + table.touch:
        px = own - toward * tick * (1 + int(-math.log(uniform(x)) * table.reach))
    return px if px >= tick else 0


@hot
def add(x, locate):
    """A, F: somebody adds an order; a thin side first."""
    table = table_of(x)
    symbol = row(span(x.symbols), locate, symbol_dtype)
    side = below(x, 2)
    for which in range(2):
        half = half_of(x, locate, which)
        if half.levels < table.levels:
            worst = deepest(x, locate, which)
            px = worst - symbol.tick if which == 0 else worst + symbol.tick
            if half.levels > 0 and px >= symbol.tick:
                place(x, locate, which, px, size_of_order(x), 0)
                return
            side = which
    px = add_price(x, locate, side)
    if px > 0:
        mpid = MPID if chance(x, table.attributed) else 0
        place(x, locate, side, px, size_of_order(x), mpid)


@hot
def deepest(x, locate, side):
    """Worst price of a side, 0 where it is empty."""
    levels = span(x.levels.rows)
    at = half_of(x, locate, side).best
    px = 0
    while at != 0:
        px = row(levels, at, level_dtype).px
        at = row(levels, at, level_dtype).next
    return px


@hot
def pick(x, locate, young):
    """Draw a live order of the market: one of the newest in `young` of a million cases. 0: none, or its level is needed."""
    symbol = row(span(x.symbols), locate, symbol_dtype)
    if symbol.live_count == 0:
        return 0
    at = below(x, symbol.live_count)
    if chance(x, young):
        at = max(symbol.live_count - 1 - below(x, 6), 0)
    index = record_at(symbol.live + 8 * at, slot_dtype).order
    order = row(span(x.orders.rows), index, order_dtype)
    if half_of(x, locate, order.side).levels <= table_of(x).levels:
        if row(span(x.levels.rows), order.level, level_dtype).orders == 1:
            return 0
    return index


@hot
def news(x, locate):
    """Move the fair price by a half tick or two, back towards the first price when it is far from it."""
    symbol = row(span(x.symbols), locate, symbol_dtype)
    away = (symbol.fair - symbol.base_px) * 10_000 // symbol.base_px  # basis points
    up = below(x, 1000) < 500 - max(min(away // 2, 400), -400)
    step = (1 + below(x, 2)) * symbol.tick // 2
    symbol.fair += step if up else -step


@hot
def stale(x, locate):
    """Row of an order of the market that leads a best price on the wrong side of fair; 0: there is none, or it is needed."""
    symbol = row(span(x.symbols), locate, symbol_dtype)
    found = 0
    for side in range(2):
        half = half_of(x, locate, side)
        if half.best != 0 and half.levels > table_of(x).levels:
            level = row(span(x.levels.rows), half.best, level_dtype)
            if (level.px >= symbol.fair) == (side == 0):
                head = level.head
                if row(span(x.orders.rows), head, order_dtype).account == 0:
                    found = head
    return found


@hot
def remove(x, locate):
    """D: somebody deletes an order. Returns False where none could be spared."""
    index = stale(x, locate) if chance(x, table_of(x).stale) else 0
    if index == 0:
        index = pick(x, locate, table_of(x).young)
    if index == 0:
        return False
    publish_delete(x, locate, row(span(x.orders.rows), index, order_dtype).ref)
    retire(x, index)
    return True


@hot
def shift(x, locate):
    """U: somebody moves an order by a few ticks, or changes its size."""
    index = pick(x, locate, table_of(x).young)
    if index == 0:
        return False
    order = row(span(x.orders.rows), index, order_dtype)
    symbol = row(span(x.symbols), locate, symbol_dtype)
    toward = 1 if order.side == 0 else -1
    px = order.px + toward * symbol.tick * (below(x, 5) - 2)
    opposite = best_px(x, locate, 1 - order.side)
    if px < symbol.tick or (opposite != 0 and (opposite - px) * toward < symbol.tick):
        px = order.px
    shares = size_of_order(x)
    side, ref = order.side, order.ref
    retire(x, index)
    made = new_order(x, x.ref_next, locate, side, px, shares)
    if made == 0:
        publish_delete(x, locate, ref)
        return True
    publish_replace(x, locate, ref, x.ref_next, shares, px)
    x.ref_next += 1
    list_order(x, made)
    rest(x, made)
    return True


@hot
def shrink(x, locate):
    """X: somebody cancels a part."""
    index = pick(x, locate, 0)
    if index == 0:
        return False
    order = row(span(x.orders.rows), index, order_dtype)
    if order.left < 2:
        return False
    gone = 1 + below(x, order.left - 1)
    publish_cancel(x, locate, order.ref, gone)
    reduce(x, index, gone)
    return True


@hot
def take(x, locate):
    """E, C: a marketable order comes in and trades by price and time."""
    table = table_of(x)
    symbol = row(span(x.symbols), locate, symbol_dtype)
    middle = (best_px(x, locate, 0) + best_px(x, locate, 1)) // 2
    push = (symbol.fair - middle) * 800 // symbol.tick
    side = 0 if below(x, 2000) < 1000 + max(min(symbol.lean + push, 950), -950) else 1
    half = half_of(x, locate, 1 - side)
    if half.best == 0:
        return False
    level = row(span(x.levels.rows), half.best, level_dtype)
    head = row(span(x.orders.rows), level.head, order_dtype)
    qty = size_of_order(x)
    if chance(x, 450_000):
        qty = head.left
    reach = level.px
    if half.levels > table.levels:
        if chance(x, 150_000):
            reach = level.px + symbol.tick if side == 0 else level.px - symbol.tick
    else:
        qty = min(qty, level.qty - 1)
    if qty < 1:
        return False
    if head.account == 0 and chance(x, table.priced):
        priced(x, locate, level.head, min(qty, head.left), side)
        return True
    sweep(x, locate, side, reach, qty, 0, 0)
    return True


@hot
def priced(x, locate, index, shares, side):
    """C: a resting order of the market trades at a better price than its own, or in a print that does not count."""
    table = table_of(x)
    order = row(span(x.orders.rows), index, order_dtype)
    message = record_at(publish(x, itch.ORDER_EXECUTED_PRICE, locate, 36), itch.order_executed_price_dtype)
    message.ref = swap64(order.ref)
    message.shares = swap32(shares)
    message.match = swap64(x.match_next)
    message.printable = 78 if chance(x, table.unprinted) else 89
    message.price = swap32(order.px + 50 if side == 0 else order.px - 50)
    execute(x, index, shares, 0, side)


@hot
def print_hidden(x, locate):
    """P: a trade against an order that nobody saw, at or inside the spread."""
    symbol = row(span(x.symbols), locate, symbol_dtype)
    bid, ask = best_px(x, locate, 0), best_px(x, locate, 1)
    if bid == 0 or ask == 0:
        return False
    px = bid + (ask - bid) * below(x, 3) // 2
    message = record_at(publish(x, itch.TRADE, locate, 44), itch.trade_dtype)
    message.ref = 0
    message.side = 66
    message.shares = swap32(size_of_order(x))
    message.stock = symbol.stock
    message.price = swap32(px)
    message.match = swap64(x.match_next)
    symbol.last_match = x.match_next
    x.match_next += 1
    return True


@hot
def void(x, locate):
    """B: the last hidden print is broken."""
    symbol = row(span(x.symbols), locate, symbol_dtype)
    if symbol.last_match == 0:
        return False
    message = record_at(publish(x, itch.BROKEN_TRADE, locate, 19), itch.broken_trade_dtype)
    message.match = swap64(symbol.last_match)
    symbol.last_match = 0
    return True


@hot
def happen(x):
    """One event of the market at x.ts."""
    table = table_of(x)
    if x.active == 0:
        x.active = 1 + min(below(x, x.live_symbols), below(x, x.live_symbols))  # some symbols are busier than others
    locate = x.active
    symbol = row(span(x.symbols), locate, symbol_dtype)
    if below(x, 500) == 0:
        symbol.lean = below(x, 1201) - 600
    if chance(x, table.news):
        news(x, locate)
    short = (table.depth - symbol.live_count) * (table.add + table.delete) // (2 * table.depth)
    adds = max(min(table.add + short // 2, table.add + table.delete), 0)
    at = below(x, MILLION)
    done = False
    if at < table.add + table.delete:
        done = at >= adds and remove(x, locate)
    elif at < table.add + table.delete + table.replace:
        done = shift(x, locate)
    elif at < table.add + table.delete + table.replace + table.execute:
        done = take(x, locate)
    elif at < table.add + table.delete + table.replace + table.execute + table.cancel:
        done = shrink(x, locate)
    elif at >= MILLION - table.broken:
        done = void(x, locate)
    elif at >= MILLION - table.broken - table.hidden:
        done = print_hidden(x, locate)
    if not done:
        add(x, locate)
    x.flow_events += 1


@hot
def gap(x):
    """Draw the ns until the next event: short inside a burst of one symbol, long between bursts."""
    table = table_of(x)
    mean = table.gap_quiet
    if chance(x, table.burst):
        mean = table.gap_burst
    else:
        x.active = 0
    return 1 + int(-math.log(uniform(x)) * mean)
