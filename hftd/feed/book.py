"""The book engine: order-by-order books with price-time priority, for every followed instrument.

    book.sides[side] ─▶ slots: [ px, level | px, level | … | px, level ]      sorted, the best at the end, asks negated
                                               │
                levels: [ px, total, orders ]  ◀── order, order, order                    in the queue by their turn

One code path serves both sides: an ask's price is negated in its level, so that better is always greater and the best is always
last. An order carries the row of its level, so executions, cancels and deletes search nothing; only a new price does, from the best
backwards, where almost all of the flow is. How deep an order goes in is a coin toss to the branch predictor, so LANES levels are
compared and moved at once, without a loop; where that was not deep enough as many again are compared, and the rest is found by
halving. Each block of entries therefore has LANES of the lowest price below it and LANES spare ones above:

    block:   | LANES × lowest price | start: worst … best | free | LANES spare |

A level's queue is its orders by the turn in which they came (`queue_of`); nothing links them. Links between neighbours are two more
lines of memory, each in a page of its own, for every order that leaves, and one for every order that comes. And no message asks who
stands next to whom: the venue says itself which order is filled. Who does ask, asks rarely, and goes through the store for it.

Storage is fixed: orders, levels and side arrays come from pools made at start. A side that outgrows its block takes one twice as
large and gives the old one back to its size class. A full pool refuses the order: counted by the caller, and the book is STALE.

Invariants, which the naive twin in the tests checks after every message: a level's total and count are those of its queue; no level
is empty; a side is strictly ascending; every order is found under its reference and stands in one queue.
After PEERS' measurements of charles-cooper/itch-order-book and itch-book; turned down: queues linked from order to order (above),
queues as arrays inside the levels (whether an order stands in the level's own line is one more coin toss), trees (pointer chasing),
a price ladder (memory by price range, and venues with eight decimals).
"""

from collections import namedtuple

from hftd.core.apart import apart
from hftd.core.jit import hot, leaf
from hftd.core.layout import layout
from hftd.core.libc import memmove
from hftd.core.memory import load64, row, span, span_dtype, store64
from hftd.feed.memory import LANES, SIDE_ROOM, book_dtype, level_dtype, slot_dtype
from hftd.feed.moves import count_above, move_slots
from hftd.feed.orders import enter_order, find_order, head_dtype, leave_order, resting_dtype
from hftd.shm.pool import give_row, pool_dtype, reset_arena, take_row
from hftd.shm.seqlock import begin_write, end_write

SLOT_BYTES = slot_dtype.itemsize
LOWEST = -(1 << 31)
LOW = 2 * LANES
"""Slots of the lowest price that all empty sides share: looking ahead reads as many below a best slot."""
BLOCK_CLASSES = 32
block_class_dtype = layout("block_class", 8, [("free", "i8")])  # first free block of the class: its first entry + 1; 0: none

engine_dtype = layout("engine", 256, [
    ("orders", pool_dtype),                       # resting_dtype rows, private
    ("levels", pool_dtype),                       # level_dtype rows, segment `books`
    ("heads", span_dtype),                        # head_dtype, a power of two, private
    ("slots", span_dtype),                        # slot_dtype, segment `books`
    ("blocks", span_dtype),                       # block_class_dtype by size class, private
    ("books", span_dtype),                        # book_dtype, segment `books`
    ("mask", "i8"),                               # heads - 1
    ("slots_fresh", "i8"),                        # first entry of `slots` never handed out
    ("newest", "i8"),                             # the greatest reference added so far
    ("turn", "i8"),                               # orders added so far
    ("pad", ("i8", (4,))),
])  # fmt: skip

Tables = namedtuple("Tables", "heads orders levels slots books mask")
"""The engine's spans in registers: lift them once, above the loop."""

ORDERS_FULL, LEVELS_FULL, SLOTS_FULL, DUPLICATE = -1, -2, -3, -4
"""What `add_order` returns instead of a level."""


@leaf
def tables(engine):
    """Lift an engine_dtype record's spans into registers."""
    return Tables(
        span(engine.heads), span(engine.orders.rows), span(engine.levels.rows), span(engine.slots), span(engine.books), engine.mask
    )


# ---------------------------------------------------------------- a side: levels by price


@leaf
def last_word(px):
    """Return the greatest word that a slot of price `px` can be."""
    return (px << 32) | 0xFFFFFFFF


@leaf
def find_place(t, side, px):
    """Return the position of the last level of a side that is not better than `px`; -1 when all are. side: side_dtype record."""
    top_at, word = t.slots.base + SLOT_BYTES * (side.start + side.count), last_word(px)
    better = count_above(top_at - SLOT_BYTES * LANES, word)
    if better == LANES:
        better += count_above(top_at - SLOT_BYTES * 2 * LANES, word)
    place = side.count - 1 - better
    if better == 2 * LANES:
        low = -1                                      # not better, as far as we know
        while low < place:
            middle = (low + place + 1) >> 1
            if row(t.slots, side.start + middle, slot_dtype).px > px:
                place = middle - 1
            else:
                low = middle
    return place


@leaf
def shift_entries(t, at, by, better):
    """Move the `better` entries from position `at` on by `by` places, 1 or -1."""
    slots = t.slots.base + SLOT_BYTES * at
    if better <= LANES:
        move_slots(slots + SLOT_BYTES * by, slots)
    else:
        memmove(slots + SLOT_BYTES * by, slots, SLOT_BYTES * better)


@leaf
def open_level(engine, t, side, place, px, instrument, which):
    """Make a level of price `px` just above position `place` of a side; return its row, LEVELS_FULL or SLOTS_FULL.

    side: side_dtype record; which: Side.
    """
    if side.count == side.room and not grow_side(engine, side):
        return SLOTS_FULL
    index = take_row(engine.levels, t.levels, level_dtype)
    if index == 0:
        return LEVELS_FULL
    level = row(t.levels, index, level_dtype)
    level.px = px
    level.qty = 0
    level.orders = 0
    level.instrument = instrument
    level.side = which
    at = side.start + place + 1
    better = side.count - place - 1
    shift_entries(t, at, 1, better)
    store64(t.slots.base + SLOT_BYTES * at, (px << 32) | index)
    side.count += 1
    side.best = index if better == 0 else side.best
    return index


@leaf
def close_level(engine, t, side, index):
    """Take the empty level `index` out of its side and give its row back; the row's px and zero total stay readable."""
    place = find_place(t, side, row(t.levels, index, level_dtype).px)
    at = side.start + place
    better = side.count - 1 - place
    shift_entries(t, at + 1, -1, better)
    side.count -= 1
    if better == 0:
        side.best = row(t.slots, at - 1, slot_dtype).level * 1 if place > 0 else 0
    give_row(engine.levels, t.levels, index, level_dtype)


@hot
def grow_side(engine, side):
    """Move a side to a block twice as large. False when there is none."""
    apart()
    slots, blocks = span(engine.slots), span(engine.blocks)
    wanted, size = 0, SIDE_ROOM
    while size <= side.room:
        wanted += 1
        size += size
    at = -1
    for size_class in range(wanted, blocks.count):
        block = row(blocks, size_class, block_class_dtype)
        if block.free != 0:
            at = block.free - 1
            block.free = load64(slots.base + SLOT_BYTES * at) >> 32
            size = SIDE_ROOM << size_class
            break
    if at < 0:
        if engine.slots_fresh + size + 2 * LANES > slots.count:
            return False
        at = engine.slots_fresh + LANES
        engine.slots_fresh += size + 2 * LANES
        for i in range(LANES):
            row(slots, at - 1 - i, slot_dtype).px = LOWEST
    if side.room > 0:
        memmove(slots.base + SLOT_BYTES * at, slots.base + SLOT_BYTES * side.start, SLOT_BYTES * side.count)
        given, old_class = SIDE_ROOM, 0
        while given < side.room:
            given += given
            old_class += 1
        block = row(blocks, old_class, block_class_dtype)
        store64(slots.base + SLOT_BYTES * side.start, block.free << 32)  # as a px: looking ahead may take it for a slot, of level 0
        block.free = side.start + 1
    side.start = at
    side.room = size
    return True


# ---------------------------------------------------------------- orders in and out


@leaf
def add_order(engine, t, instrument, which, ref, qty, px, mpid):
    """Enter an order at the back of its price level.

    which: Side; px: venue scale (not negated); mpid: as resting_dtype has it. Returns (level, top): the level's row, or a negative
    code when it was refused and nothing changed; top is 1 when the level is the best of its side.
    """
    if ref > engine.newest:
        engine.newest = ref
    elif find_order(t, ref) != 0:
        return DUPLICATE, 0
    signed = px if which == 0 else -px
    book = row(t.books, instrument, book_dtype)
    side = book.sides[which]
    index = take_row(engine.orders, t.orders, resting_dtype)
    if index == 0:
        return ORDERS_FULL, 0
    place = find_place(t, side, signed)
    slot = row(t.slots, side.start + place, slot_dtype)  # below the worst one stands the lowest price there is
    found = slot.level if slot.px == signed else 0
    if found == 0:
        found = open_level(engine, t, side, place, signed, instrument, which)
        if found < 0:
            row(t.orders, index, resting_dtype).qty = 0
            give_row(engine.orders, t.orders, index, resting_dtype)
            return found, 0
    level = row(t.levels, found, level_dtype)
    order = row(t.orders, index, resting_dtype)
    order.qty = qty
    order.level = found
    order.turn = engine.turn
    order.mpid = mpid
    engine.turn += 1
    level.qty += qty
    level.orders += 1
    enter_order(t, ref, index)
    book.orders += 1
    return found, 1 if side.best == found else 0


@leaf
def remove_order(engine, t, index):
    """Take order `index` out of its level, and the level out of its side where it was the last.

    Returns top: 1 when its level is, or was, the best of its side. The level's row stays readable until the next order is added:
    px, total and count after the change.
    """
    order = row(t.orders, index, resting_dtype)
    found = order.level * 1
    level = row(t.levels, found, level_dtype)
    book = row(t.books, level.instrument, book_dtype)
    side = book.sides[level.side]
    top = 1 if side.best == found else 0
    level.qty -= order.qty
    order.qty = 0
    left = level.orders - 1
    level.orders = left
    book.orders -= 1
    leave_order(t, order.ref, index)
    give_row(engine.orders, t.orders, index, resting_dtype)
    if left == 0:
        close_level(engine, t, side, found)
    return top


@leaf
def best(book, which):
    """Return the row of the best level of a side, or 0 when it is empty. which: Side."""
    return book.sides[which].best * 1


@leaf
def clear_books(engine):
    """Empty every book and every pool. Readers see each version move."""
    t = tables(engine)
    for index in range(t.heads.count):
        row(t.heads, index, head_dtype).order = 0
    for index in range(t.books.count):
        book = row(t.books, index, book_dtype)
        begin_write(book)
        book.orders = 0
        for which in range(2):
            side = book.sides[which]
            side.start = LOW
            side.count = 0
            side.room = 0
            side.best = 0
        end_write(book)
    for size_class in range(engine.blocks.count):
        row(span(engine.blocks), size_class, block_class_dtype).free = 0
    engine.slots_fresh = LOW + LANES
    for i in range(LOW):
        row(t.slots, i, slot_dtype).px = LOWEST
    reset_arena(engine.orders)
    reset_arena(engine.levels)
    engine.newest = -(1 << 63)
    engine.turn = 0
