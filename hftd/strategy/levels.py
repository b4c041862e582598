"""A strategy's own level books: sorted arrays, best last, preallocated, made from MarketEvents alone.

    side   base ->  | worst | … | second best | best |  room for more
                      row 0                     row count - 1

Changes cluster at the best prices, so the search starts there and little has to move. Levels are kept by `key` (px of a bid,
-px of an ask), so that one piece of code serves both sides. Blocks hold 16, 32, 64, … levels and come from one arena; a full
block is copied to one of twice the size and given back for others to use. When the arena is used up the level is refused, which
the caller must take for a book that is no longer right (`arena.refused`).

Turned down: a price-indexed array (Nasdaq has bids at $0.0001 and asks at $199,999), a tree (pointers cost more than the move).
"""

from hftd.core.jit import hot, leaf
from hftd.core.layout import offset_of
from hftd.core.memory import address_of, copy_bytes, load64, record_at, store64
from hftd.strategy.records import arena_dtype, level_dtype, side_dtype

FIRST_ROOM = 16
NEAR = 8
"""Levels looked at one by one from the best before the search halves."""

LEVEL = level_dtype.itemsize
FREE = offset_of(arena_dtype, "free")
CLASSES = 28
NO_ROOM = -1


@leaf
def level_at(base, index):
    """Return level `index` of the block at `base` as a level_dtype record."""
    return record_at(base + index * LEVEL, level_dtype)


@leaf
def find_level(base, count, key):
    """Return the index of the worst level whose key is >= `key`; count where there is none."""
    at = count
    nearest = max(count - NEAR, 0)
    while at > nearest and level_at(base, at - 1).key >= key:
        at -= 1
    if at > nearest or nearest == 0:
        return at
    low, high = 0, at
    while low < high:
        middle = (low + high) >> 1
        if level_at(base, middle).key >= key:
            high = middle
        else:
            low = middle + 1
    return low


@hot
def grow(arena, side):
    """Move a side to a block of twice the size. Returns 0, or NO_ROOM where the arena is used up (counted)."""
    room = side.room * 2 if side.room > 0 else FIRST_ROOM
    kind, size = 0, FIRST_ROOM
    while size < room:
        size *= 2
        kind += 1
    if kind >= CLASSES:
        arena.refused += 1
        return NO_ROOM
    head = address_of(arena) + FREE + 8 * kind
    block = load64(head)
    if block != 0:
        store64(head, load64(block))
    else:
        block = arena.fresh
        if block + room * LEVEL > arena.end:
            arena.refused += 1
            return NO_ROOM
        arena.fresh = block + room * LEVEL
        arena.used += room * LEVEL
    if side.room > 0:
        copy_bytes(block, side.base, side.count * LEVEL)
        old = head - 8
        store64(side.base, load64(old))
        store64(old, side.base)
    side.base, side.room = block, room
    return 0


@hot
def make_room(arena, side_at, rows):
    """Let the side_dtype record at `side_at` hold `rows` levels. Returns 0, or a negative number where the arena is used up."""
    side = record_at(side_at, side_dtype)
    while side.room < rows:
        if grow(arena, side) != 0:
            return -1
    return 0


@leaf
def refresh(book):
    """Copy the best levels into the book's own fields."""
    bids, asks = book.sides[0], book.sides[1]
    if bids.count > 0:
        best = level_at(bids.base, bids.count - 1)
        book.bid_px, book.bid_qty = best.key, best.qty
    else:
        book.bid_px, book.bid_qty = 0, 0
    if asks.count > 0:
        best = level_at(asks.base, asks.count - 1)
        book.ask_px, book.ask_qty = -best.key, best.qty
    else:
        book.ask_px, book.ask_qty = 0, 0


@leaf
def apply_level(arena, book, side, px, qty, orders):
    """Set the level at `px` to `qty` shares in `orders` orders; 0 shares removes it.

    arena: arena_dtype record; book: book_dtype record; side: 0 bids, 1 asks. Returns the shares the level had before, or
    NO_ROOM; then the book is not right any more. `refresh` is the caller's to call.
    """
    mine = book.sides[side]
    key = -px if side else px
    count, base = mine.count, mine.base
    at = find_level(base, count, key)
    before = 0
    if at < count and level_at(base, at).key == key:
        level = level_at(base, at)
        before = level.qty
        if qty > 0:
            level.qty, level.orders = qty, orders
        else:
            count -= 1
            for i in range(at, count):
                to, source = level_at(base, i), level_at(base, i + 1)
                to.key, to.qty, to.orders = source.key, source.qty, source.orders
            mine.count = count
    elif qty > 0:
        if count == mine.room:
            if grow(arena, mine) != 0:
                return NO_ROOM
            base = mine.base
        for i in range(count, at, -1):
            to, source = level_at(base, i), level_at(base, i - 1)
            to.key, to.qty, to.orders = source.key, source.qty, source.orders
        level = level_at(base, at)
        level.key, level.qty, level.orders = key, qty, orders
        mine.count = count + 1
    return before


@leaf
def clear_levels(book):
    """Empty both sides; their blocks stay."""
    bids, asks = book.sides[0], book.sides[1]
    bids.count = 0
    asks.count = 0
    refresh(book)


def open_arena(arena, base: int, size: int) -> None:
    """Fill an arena_dtype record for `size` zeroed bytes at `base`."""
    arena["fresh"], arena["end"], arena["refused"], arena["used"] = base, base + size, 0, 0
    arena["free"] = 0
