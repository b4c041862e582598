"""The book engine: order-by-order books with price-time priority, for every followed instrument.

    slots: [ px, level | px, level | … ]  then  book.tops[side]: [ px, level | … × LANES ]       sorted, the best last, asks negated
                                                                       │
                              levels: [ px, total, orders ]  ◀── order, order, order              in the queue by their turn

One code path serves both sides: an ask's price is negated in its level, so that better is always greater and the best is always
last. An order carries the row of its level, so executions, cancels and deletes search nothing; only a new price does, from the best
backwards, where almost all of the flow is. How deep an order goes in is a coin toss to the branch predictor, so LANES levels are
compared and moved at once, without a loop. The LANES best are a line of the book itself, at an address known from the instrument
alone. The rest has a block of entries: where the top was not deep enough, LANES of those are compared, then it is halved. A level
that opens in the top pushes the top's worst to the end of the rest, one that closes there pulls it back. What is empty has the
lowest price there is, in the top and in LANES entries below each block:

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
from hftd.core.layout import layout, offset_of
from hftd.core.libc import memmove
from hftd.core.memory import address_of, load32, load64, record_at, row, span, span_dtype, store64
from hftd.feed.memory import LANES, SHARES_AT, SIDE_ROOM, book_dtype, free_level_dtype, level_dtype, slot_dtype
from hftd.feed.moves import close_slot, count_above, open_slot, put_slot, take_slot
from hftd.feed.orders import enter_order, find_order, head_dtype, leave_order, resting_dtype
from hftd.shm.pool import give_row, pool_dtype, reset_arena, take_row
from hftd.shm.seqlock import begin_write, end_write

SLOT_BYTES = slot_dtype.itemsize
LOWEST = -(1 << 31)
LOW = LANES
"""Entries of the lowest price that all sides without a block share."""
TOPS_AT, TOP_BYTES = offset_of(book_dtype, "tops"), SLOT_BYTES * LANES
BEST_AT = TOP_BYTES - SLOT_BYTES + offset_of(slot_dtype, "level")
"""Of a top: where the row of its best level is."""
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
def shares_of(level):
    """Return the shares of all orders of a level."""
    return level.held >> SHARES_AT


@leaf
def owner_of(level):
    """Return the instrument of a level."""
    return level.held & ((1 << SHARES_AT) - 1)


@leaf
def side_of(level):
    """Return the Side of a level."""
    return 1 if level.px < 0 else 0


@leaf
def last_word(px):
    """Return the greatest word that a slot of price `px` can be."""
    return (px << 32) | 0xFFFFFFFF


@leaf
def top_of(book, which):
    """Return the address of the LANES best slots of a side. which: Side."""
    return address_of(book) + TOPS_AT + TOP_BYTES * which


@leaf
def end_of_rest(t, side):
    """Return the address one after the best entry of a side's rest: of what does not stand in its top. side: side_dtype record."""
    return t.slots.base + SLOT_BYTES * (side.start + side.count - LANES)


@leaf
def find_place(t, side, top_at, px):
    """Return how many levels of a side are better than `px`, and the address of the slot of the first that is not.

    side: side_dtype record; top_at: its `top_of`. Below the worst level stands the lowest price there is.
    """
    word = last_word(px)
    better = count_above(top_at, word)
    at = top_at + SLOT_BYTES * (LANES - 1 - better)
    if better == LANES:
        rest_at = end_of_rest(t, side)
        deeper = count_above(rest_at - SLOT_BYTES * LANES, word)
        if deeper == LANES:
            low, place = -1, side.count - 2 * LANES - 1  # the first that is not better lies in this range
            while low < place:
                middle = (low + place + 1) >> 1
                if row(t.slots, side.start + middle, slot_dtype).px > px:
                    place = middle - 1
                else:
                    low = middle
            deeper = side.count - LANES - 1 - place
        better += deeper
        at = rest_at - SLOT_BYTES * (deeper + 1)
    return better, at


@leaf
def open_level(engine, t, side, top_at, better, px, instrument):
    """Make a level of price `px` that `better` levels of a side are better than; return its row, LEVELS_FULL or SLOTS_FULL.

    side: side_dtype record; top_at: its `top_of`.
    """
    if side.count == side.room + LANES and not grow_side(engine, side):
        return SLOTS_FULL
    index = take_row(engine.levels, t.levels, free_level_dtype)
    if index == 0:
        return LEVELS_FULL
    level = row(t.levels, index, level_dtype)
    level.px = px
    level.orders = 0
    level.held = instrument
    word = (px << 32) | index
    deeper = better - LANES
    rest_at = end_of_rest(t, side)
    if better < LANES:
        store64(rest_at, load64(top_at))              # where the top is not full: the lowest price over the lowest price
        put_slot(top_at, LANES - 1 - better, word)
    else:
        at = rest_at - SLOT_BYTES * deeper
        if deeper <= LANES:
            open_slot(rest_at - TOP_BYTES, LANES - deeper)
        else:
            memmove(at + SLOT_BYTES, at, SLOT_BYTES * deeper)
        store64(at, word)
    side.count += 1
    side.best = index if better == 0 else side.best
    return index


@leaf
def close_level(engine, t, side, top_at, index):
    """Take the empty level `index` out of its side and give its row back; the row's zero total stays readable."""
    better, at = find_place(t, side, top_at, row(t.levels, index, level_dtype).px)
    deeper = better - LANES
    rest_at = end_of_rest(t, side)
    if better < LANES:
        take_slot(top_at, LANES - 1 - better, load64(rest_at - SLOT_BYTES))  # the lowest price where there is no rest
        if better == 0:
            side.best = load32(top_at + BEST_AT)
    elif deeper < LANES:
        close_slot(rest_at - TOP_BYTES, LANES - 1 - deeper)
    else:
        memmove(at, at + SLOT_BYTES, SLOT_BYTES * deeper)
    side.count -= 1
    give_row(engine.levels, t.levels, index, free_level_dtype)


@hot
def grow_side(engine, side):
    """Move the rest of a side, which fills its block, to one twice as large. False when there is none."""
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
            store64(slots.base + SLOT_BYTES * (at - 1 - i), LOWEST << 32)
    if side.room > 0:
        memmove(slots.base + SLOT_BYTES * at, slots.base + SLOT_BYTES * side.start, SLOT_BYTES * side.room)
        given, old_class = SIDE_ROOM, 0
        while given < side.room:
            given += given
            old_class += 1
        block = row(blocks, old_class, block_class_dtype)
        store64(slots.base + SLOT_BYTES * side.start, block.free << 32)  # as a px: for who looks ahead it is of level 0
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
    top_at = top_of(book, which)
    better, at = find_place(t, side, top_at, signed)
    slot = record_at(at, slot_dtype)
    found = slot.level if slot.px == signed else 0
    if found == 0:
        found = open_level(engine, t, side, top_at, better, signed, instrument)
        if found < 0:
            row(t.orders, index, resting_dtype).qty = 0
            give_row(engine.orders, t.orders, index, resting_dtype)
            return found, 0
    level = row(t.levels, found, level_dtype)
    order = row(t.orders, index, resting_dtype)
    held = level.held + (qty << SHARES_AT)
    if held >> 63 != 0:                               # 2**47 shares at one price: no venue means that
        order.qty = 0
        give_row(engine.orders, t.orders, index, resting_dtype)
        return LEVELS_FULL, 0
    order.qty = qty
    order.level = found
    order.turn = engine.turn
    order.mpid = mpid
    engine.turn += 1
    level.held = held
    level.orders += 1
    enter_order(t, ref, index)
    book.orders += 1
    return found, 1 if side.best == found else 0


@leaf
def remove_order(engine, t, index):
    """Take order `index` out of its level, and the level out of its side where it was the last.

    Returns top: 1 when its level is, or was, the best of its side. The level's row stays readable until the next order is added:
    total and count after the change, but where it is empty its px no more.
    """
    order = row(t.orders, index, resting_dtype)
    found = order.level * 1
    level = row(t.levels, found, level_dtype)
    book, which = row(t.books, owner_of(level), book_dtype), side_of(level)
    side = book.sides[which]
    top = 1 if side.best == found else 0
    level.held -= order.qty << SHARES_AT
    order.qty = 0
    left = level.orders - 1
    level.orders = left
    book.orders -= 1
    leave_order(t, order.ref, index)
    give_row(engine.orders, t.orders, index, resting_dtype)
    if left == 0:
        close_level(engine, t, side, top_of(book, which), found)
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
        for i in range(2 * LANES):
            store64(address_of(book) + TOPS_AT + SLOT_BYTES * i, LOWEST << 32)
        end_write(book)
    for size_class in range(engine.blocks.count):
        row(span(engine.blocks), size_class, block_class_dtype).free = 0
    engine.slots_fresh = LOW + LANES
    for i in range(LOW):
        store64(t.slots.base + SLOT_BYTES * i, LOWEST << 32)
    reset_arena(engine.orders)
    reset_arena(engine.levels)
    engine.newest = -(1 << 63)
    engine.turn = 0
