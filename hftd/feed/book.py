"""The book engine: order-by-order books with price-time priority, for every followed instrument.

    book.sides[side] ─▶ slots: [ px, level | px, level | … | px, level ]   sorted, the best at the end, asks negated
                                               │
                        levels: [ px, total, orders, oldest ──▶ order ◀──▶ order ◀──▶ order ── youngest ]

One code path serves both sides: an ask's price is negated in its level and slot, so that better is always greater and the best is
always last. Orders carry the row of their level, so executions, cancels and deletes search nothing; only a new price does, from
the best backwards, where almost all of the flow is, and by halving where it is further than SCAN levels away. How deep an order
goes in is a coin toss to the branch predictor, so SCAN levels are compared and moved at once, without a loop: each block of
entries has SCAN entries of the lowest price below it and SCAN spare ones above. For the same reason row 0 of the orders takes
the writes that concern no order.

    block in slots:   | SCAN × lowest price | start: worst … best | free | SCAN spare |

Storage is fixed: orders, levels and side arrays come from pools made at start. A side that outgrows its block takes one twice as
large and gives the old one back to its size class. A full pool refuses the order: counted by the caller, and the book is STALE.

Invariants, which the naive twin in the tests checks after every message: a level's total and count are those of its queue; no
level is empty; a side is strictly ascending; every order is found under its reference and stands in one queue.
After PEERS' measurements of charles-cooper/itch-order-book and itch-book; turned down: trees (pointer chasing), a price ladder
(memory by price range, and venues with eight decimals).
"""

from collections import namedtuple

from hftd.core.jit import hot, leaf
from hftd.core.layout import layout
from hftd.core.libc import memmove
from hftd.core.memory import row, span, span_dtype
from hftd.feed.apart import apart
from hftd.feed.memory import SIDE_ROOM, book_dtype, level_dtype, slot_dtype
from hftd.feed.moves import move128
from hftd.feed.orders import enter_order, find_order, head_dtype, leave_order, resting_dtype
from hftd.shm.pool import give_row, pool_dtype, take_row

SCAN = 8
"""Levels compared at once, from the best; and moved at once, where a level comes or goes."""
LOWEST = -(1 << 63)


SLOT_BYTES = slot_dtype.itemsize
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
    ("pad", ("i8", (6,))),
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


@leaf
def find_place(t, side, px):
    """Return the position of the last level of a side that is not better than `px`; -1 when all are. side: side_dtype record."""
    last = side.start + side.count - 1
    better = 0
    for i in range(SCAN):
        better += 1 if row(t.slots, last - i, slot_dtype).px > px else 0
    place = side.count - 1 - better
    if better == SCAN:
        low = -1                                      # not better, as far as we know
        while low < place:
            middle = (low + place + 1) >> 1
            if row(t.slots, side.start + middle, slot_dtype).px > px:
                place = middle - 1
            else:
                low = middle
    return place


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
    level.next = 0
    level.last = 0
    level.orders = 0
    level.instrument = instrument
    level.side = which
    at = t.slots.base + (side.start + place + 1) * SLOT_BYTES
    better = side.count - place - 1
    if better <= SCAN:
        move128(at + SLOT_BYTES, at)
    else:
        memmove(at + SLOT_BYTES, at, better * SLOT_BYTES)
    slot = row(t.slots, side.start + place + 1, slot_dtype)
    slot.px = px
    slot.level = index
    side.count += 1
    return index


@hot
def grow_side(engine, side):
    """Move a side to a block twice as large. False when there is none."""
    apart()
    slots = span(engine.slots)
    blocks = span(engine.blocks)
    wanted, size = 0, SIDE_ROOM
    while size <= side.room:
        wanted += 1
        size += size
    at = -1
    for size_class in range(wanted, blocks.count):
        block = row(blocks, size_class, block_class_dtype)
        if block.free != 0:
            at = block.free - 1
            block.free = row(slots, at, slot_dtype).level
            size = SIDE_ROOM << size_class
            break
    if at < 0:
        if engine.slots_fresh + size + 2 * SCAN > slots.count:
            return False
        at = engine.slots_fresh + SCAN
        engine.slots_fresh += size + 2 * SCAN
        for i in range(SCAN):
            row(slots, at - 1 - i, slot_dtype).px = LOWEST
    if side.room > 0:
        memmove(slots.base + at * SLOT_BYTES, slots.base + side.start * SLOT_BYTES, side.count * SLOT_BYTES)
        given, old_class = SIDE_ROOM, 0
        while given < side.room:
            given += given
            old_class += 1
        block = row(blocks, old_class, block_class_dtype)
        row(slots, side.start, slot_dtype).level = block.free
        block.free = side.start + 1
    side.start = at
    side.room = size
    return True


@leaf
def close_level(engine, t, side, index):
    """Take the empty level `index` out of its side and give its row back; the row's px and zero total stay readable."""
    place = find_place(t, side, row(t.levels, index, level_dtype).px)
    at = t.slots.base + (side.start + place) * SLOT_BYTES
    better = side.count - 1 - place
    if better <= SCAN:
        move128(at, at + SLOT_BYTES)
    else:
        memmove(at, at + SLOT_BYTES, better * SLOT_BYTES)
    side.count -= 1
    give_row(engine.levels, t.levels, index, level_dtype)


@leaf
def add_order(engine, t, instrument, which, ref, qty, px):
    """Enter an order at the back of its price level.

    which: Side; px: venue scale (not negated). Returns (level, top): the level's row, or a negative code when it was refused and
    nothing changed; top is 1 when the level is the best of its side.
    """
    if find_order(t, ref) != 0:
        return DUPLICATE, 0
    signed = px if which == 0 else -px
    book = row(t.books, instrument, book_dtype)
    side = book.sides[which]
    index = take_row(engine.orders, t.orders, resting_dtype)
    if index == 0:
        return ORDERS_FULL, 0
    place = find_place(t, side, signed)
    found = 0
    if place >= 0:
        slot = row(t.slots, side.start + place, slot_dtype)
        if slot.px == signed:
            found = slot.level
    top = 1 if place == side.count - 1 else 0
    if found == 0:
        found = open_level(engine, t, side, place, signed, instrument, which)
        if found < 0:
            give_row(engine.orders, t.orders, index, resting_dtype)
            return found, 0
    level = row(t.levels, found, level_dtype)
    order = row(t.orders, index, resting_dtype)
    order.qty = qty
    order.level = found
    order.next = 0
    order.prev = level.last
    row(t.orders, level.last, resting_dtype).next = index
    level.next = index if level.last == 0 else level.next
    level.last = index
    level.qty += qty
    level.orders += 1
    enter_order(t, ref, index)
    book.orders += 1
    return found, top


@leaf
def reduce_order(engine, t, index, amount):
    """Take `amount` shares off order `index`: all that it has left takes it out, and its level where it was the last.

    0 < amount <= the order's qty. Returns top: 1 when its level is, or was, the best of its side. The level's row stays readable
    until the next order is added: px, total and count after the change.
    """
    order = row(t.orders, index, resting_dtype)
    found = order.level
    level = row(t.levels, found, level_dtype)
    book = row(t.books, level.instrument, book_dtype)
    side = book.sides[level.side]
    top = 1 if row(t.slots, side.start + side.count - 1, slot_dtype).level == found else 0
    level.qty -= amount
    if amount < order.qty:
        order.qty -= amount
        return top
    older, younger = order.prev, order.next
    row(t.orders, older, resting_dtype).next = younger  # row 0 takes what concerns no order
    row(t.orders, younger, resting_dtype).prev = older
    level.next = younger if older == 0 else level.next
    level.last = older if younger == 0 else level.last
    level.orders -= 1
    book.orders -= 1
    leave_order(t, order.ref, index)
    give_row(engine.orders, t.orders, index, resting_dtype)
    if level.orders == 0:
        close_level(engine, t, side, found)
    return top


@leaf
def best(t, side):
    """Return the row of a side's best level, or 0 when it is empty. side: side_dtype record."""
    if side.count == 0:
        return 0
    return row(t.slots, side.start + side.count - 1, slot_dtype).level


@leaf
def clear_books(engine):
    """Empty every book and every pool. Readers see each version move."""
    t = tables(engine)
    for index in range(t.heads.count):
        row(t.heads, index, head_dtype).order = 0
    for index in range(t.books.count):
        book = row(t.books, index, book_dtype)
        book.version += 1 + (book.version & 1)
        book.orders = 0
        for which in range(2):
            side = book.sides[which]
            side.start = SCAN
            side.count = 0
            side.room = 0
        book.version += 1
    for size_class in range(engine.blocks.count):
        row(span(engine.blocks), size_class, block_class_dtype).free = 0
    engine.slots_fresh = 2 * SCAN
    for i in range(SCAN):
        row(t.slots, i, slot_dtype).px = LOWEST
    engine.orders.free = 0
    engine.orders.fresh = 1
    engine.orders.used = 0
    engine.levels.free = 0
    engine.levels.fresh = 1
    engine.levels.used = 0
