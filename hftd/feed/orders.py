"""The order store: every resting order of the followed instruments, found by the venue's reference number.

    heads  [ slot_of(ref) ]  ──▶  orders[row]  ──chain──▶  orders[row] …      rows from a pool, the last freed used first
           4 bytes a slot         32 bytes a row: ref, shares left, level, turn

References rise through the day, and most orders die young. So `slot_of` keeps neighbours in number neighbours in memory: sixteen
fresh orders share a line of `heads`, and the pool hands out the row freed last, which is still in the cache. Each block of 2**16
numbers is turned by a multiple of a large odd number, so that references that share their low bits (a venue that counts in steps,
a few symbols out of a whole market) do not share a slot. A chain is as long as the live orders of one slot: with four times as many
slots as orders, one or two.

Only the functions below know this; `feed/book.py` would work over any other store. Turned down, for now: an array indexed by the
reference itself (a day's worth of references is gigabytes, all to be touched before the open), open addressing (live orders stand
densely in number, so a block that comes round again probes through whole runs of them).
"""

import numpy as np

from hftd.core.jit import leaf
from hftd.core.layout import layout
from hftd.core.memory import row

head_dtype = layout("head", 4, [("order", "u4")])

resting_dtype = layout("resting", 32, [
    ("ref", "i8"),                                # the venue's order reference number
    ("qty", "u4"),                                # shares left; 0: the row is free
    ("level", "u4"),                              # row of the level it stands in
    ("turn", "u4"),                               # how many orders came before it: its place in the level's queue
    ("chain", "u4"),                              # the next order of its slot
    ("mpid", "u4"),                               # four ASCII bytes of who is behind it, as on the wire; 0: not said
    ("next", "u4"),                               # while free: next free row
])  # fmt: skip

BLOCK_BITS = 16
TURN = 0x1E3779B97F4A7C15
"""Odd: 2**61 over the golden ratio, so that successive blocks spread evenly over the slots."""


@leaf
def slot_of(ref, mask):
    """Return the slot of a reference. mask: slots - 1."""
    return (ref + (ref >> BLOCK_BITS) * TURN) & mask


@leaf
def find_order(t, ref):
    """Return the row of the order `ref`, or 0. t: Tables (feed/book.py)."""
    index = row(t.heads, slot_of(ref, t.mask), head_dtype).order * 1
    while index != 0:
        order = row(t.orders, index, resting_dtype)
        if order.ref == ref:
            break
        index = order.chain * 1
    return index


@leaf
def enter_order(t, ref, index):
    """Make row `index` findable under `ref`, which must not be in the store."""
    head = row(t.heads, slot_of(ref, t.mask), head_dtype)
    order = row(t.orders, index, resting_dtype)
    order.ref = ref
    order.chain = head.order
    head.order = index


@leaf
def leave_order(t, ref, index):
    """Make row `index`, which holds `ref`, findable no more."""
    head = row(t.heads, slot_of(ref, t.mask), head_dtype)
    order = row(t.orders, index, resting_dtype)
    if head.order == index:
        head.order = order.chain
    else:
        before = row(t.orders, head.order, resting_dtype)
        while before.chain != index:
            before = row(t.orders, before.chain, resting_dtype)
        before.chain = order.chain


# ---------------------------------------------------------------- cold


def queue_of(orders: np.ndarray, level: int) -> np.ndarray:
    """Return the rows of the orders of level `level`, the oldest first: who is filled before whom.

    orders: resting_dtype, the store's rows that were ever in use. Takes as long as they are many.
    """
    found = np.flatnonzero((orders["level"] == level) & (orders["qty"] > 0))
    return found[np.argsort(orders["turn"][found])]
