"""A pool: preallocated rows with an intrusive free list. O(1), no allocation, LIFO so that a warm row is used again.

The caller's record type names the field that links free rows (an i4 or i8 called `next`); row 0 is never handed out, so 0 means
none. An arena is a pool whose rows are only ever given back all at once: `reset_arena`.
"""

from hftd.core.jit import leaf
from hftd.core.layout import layout
from hftd.core.memory import row, span_dtype

pool_dtype = layout("pool", 64, [
    ("rows", span_dtype),
    ("free", "i8"),                               # head of the free list; 0: empty
    ("fresh", "i8"),                              # first row never handed out yet
    ("used", "i8"),                               # rows handed out
    ("peak", "i8"),                               # most rows handed out at once before the last reset: `most_used` has it all
    ("refused", "i8"),                            # times the pool was empty
    ("pad0", "i8"),
])  # fmt: skip


@leaf
def take_row(pool, rows, dtype):
    """Return the index of a row to use, or 0 when none is left (counted). rows: the pool's Span, lifted by the caller."""
    index = pool.free
    if index != 0:
        pool.free = row(rows, index, dtype).next
    elif pool.fresh < rows.count:
        index = pool.fresh
        pool.fresh += 1
    else:
        pool.refused += 1
        return 0
    pool.used += 1
    return index


@leaf
def give_row(pool, rows, index, dtype):
    """Give row `index` back. It must have been taken, once."""
    row(rows, index, dtype).next = pool.free
    pool.free = index
    pool.used -= 1


@leaf
def most_used(pool):
    """Return the most rows that were ever handed out at once: a fresh one is taken only where all others are in use."""
    return max(pool.peak, pool.fresh - 1)


@leaf
def reset_arena(pool):
    """Give everything back at once."""
    pool.peak = most_used(pool)
    pool.free = 0
    pool.fresh = 1
    pool.used = 0


def open_pool(pool, base: int, count: int) -> None:
    """Fill a pool_dtype record for `count` rows at address `base`; count includes row 0, which is never used."""
    pool["rows"]["base"], pool["rows"]["count"] = base, count
    pool["free"], pool["fresh"], pool["used"], pool["peak"], pool["refused"] = 0, 1, 0, 0, 0
