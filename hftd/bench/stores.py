"""Four order stores over the same messages: which one finds, enters and drops references fastest, and what memory it takes.

    chained    slots of 4 bytes by low bits of the reference, rows from a pool (feed/orders.py: the one in use)
    open       open addressing: 16 bytes an entry, linear probing from a multiplicative hash, deletion shifts back
    direct     an array by the reference itself: no search at all, and as long as the day's references
    pages      a directory by reference / 4096, pages of 4096 entries from a pool, given back when they are empty

Each keeps an order's shares by its reference and nothing else, so the figures are of the store alone. All memory is made and
touched before the clock runs.
"""

from hftd.core.bind import bind
from hftd.core.jit import leaf
from hftd.core.layout import layout
from hftd.core.memory import (
    Span,
    load8,
    load16,
    load32,
    load64,
    row,
    span,
    span_dtype,
    store64,
    swap16,
    swap32,
    swap64,
)
from hftd.venues.nasdaq.itch50 import (
    ADD_ORDER,
    ADD_ORDER_MPID,
    ORDER_CANCEL,
    ORDER_DELETE,
    ORDER_EXECUTED,
    ORDER_EXECUTED_PRICE,
    ORDER_REPLACE,
)

PAGE_BITS = 12
PAGE = 1 << PAGE_BITS
MIX_BITS = 30
MIX = 0x2545F491 & ((1 << MIX_BITS) - 1) | 1
"""Odd, and small enough that a product of two halves stays an int64."""

entry_dtype = layout("store_entry", 16, [("ref", "i8"), ("qty", "i8")])  # qty 0: nobody
link_dtype = layout("store_link", 24, [("ref", "i8"), ("qty", "i8"), ("next", "i8")])
word_dtype = layout("store_word", 8, [("value", "i8")])
head_dtype = layout("store_head", 4, [("value", "u4")])

LINK, ENTRY = link_dtype.itemsize, entry_dtype.itemsize

store_dtype = layout("store", 96, [
    ("rows", span_dtype),                         # entry_dtype or link_dtype
    ("heads", span_dtype),                        # chained: head_dtype; pages: page + 1 by reference / PAGE
    ("counts", span_dtype),                       # pages: orders in each page
    ("mask", "i8"),
    ("free", "i8"),                               # chained, pages: first free row or page; 0: none
    ("fresh", "i8"),                              # first never used
    ("pad", ("i8", (3,))),
])  # fmt: skip


# ---------------------------------------------------------------- chained


@leaf
def chain_slot(store, ref):
    """Return the address of a reference's slot."""
    return store.heads.base + 4 * ((ref + (ref >> 16) * 0x1E3779B97F4A7C15) & store.mask)


@leaf
def chain_put(store, ref, qty):
    """Enter an order."""
    rows, head = span(store.rows), row(Span(chain_slot(store, ref), 1), 0, head_dtype)
    index = store.free * 1
    if index != 0:
        store.free = row(rows, index, link_dtype).next
    else:
        index = store.fresh * 1
        store.fresh += 1
    order = row(rows, index, link_dtype)
    order.ref = ref
    order.qty = qty
    order.next = head.value
    head.value = index


@leaf
def chain_seek(store, ref):
    """Return the address of an order's entry, 0: there is none."""
    rows = span(store.rows)
    index = row(Span(chain_slot(store, ref), 1), 0, head_dtype).value * 1
    while index != 0 and row(rows, index, link_dtype).ref != ref:
        index = row(rows, index, link_dtype).next
    return rows.base + LINK * index if index != 0 else 0


@leaf
def chain_drop(store, ref, at):
    """Drop the order whose entry is at an address."""
    rows, head = span(store.rows), row(Span(chain_slot(store, ref), 1), 0, head_dtype)
    index = (at - rows.base) // LINK
    order = row(rows, index, link_dtype)
    if head.value == index:
        head.value = order.next
    else:
        before = row(rows, head.value, link_dtype)
        while before.next != index:
            before = row(rows, before.next, link_dtype)
        before.next = order.next
    order.next = store.free
    store.free = index


# ---------------------------------------------------------------- open addressing


@leaf
def open_home(store, ref):
    """Return the entry where a reference is looked for first."""
    mixed = (ref ^ (ref >> MIX_BITS)) & ((1 << MIX_BITS) - 1)
    return ((mixed * MIX) >> 4) & store.mask


@leaf
def open_put(store, ref, qty):
    """Enter an order."""
    rows, at = span(store.rows), open_home(store, ref)
    while row(rows, at, entry_dtype).qty != 0:
        at = (at + 1) & store.mask
    entry = row(rows, at, entry_dtype)
    entry.ref = ref
    entry.qty = qty


@leaf
def open_seek(store, ref):
    """Return the address of an order's entry, 0: there is none."""
    rows, at = span(store.rows), open_home(store, ref)
    while True:
        entry = row(rows, at, entry_dtype)
        if entry.qty == 0:
            return 0
        if entry.ref == ref:
            return rows.base + ENTRY * at
        at = (at + 1) & store.mask


@leaf
def open_drop(store, ref, at):
    """Drop the order whose entry is at an address: what follows and may stand nearer to its home moves back."""
    rows = span(store.rows)
    hole = (at - rows.base) // ENTRY
    seen = hole
    while True:
        seen = (seen + 1) & store.mask
        entry = row(rows, seen, entry_dtype)
        if entry.qty == 0:
            break
        if (seen - open_home(store, entry.ref * 1)) & store.mask >= (seen - hole) & store.mask:
            moved = row(rows, hole, entry_dtype)
            moved.ref = entry.ref
            moved.qty = entry.qty
            hole = seen
    row(rows, hole, entry_dtype).qty = 0


# ---------------------------------------------------------------- direct


@leaf
def direct_put(store, ref, qty):
    """Enter an order."""
    store64(store.rows.base + 8 * ref, qty)


@leaf
def direct_seek(store, ref):
    """Return the address 8 bytes before an order's shares, 0: there is none."""
    if ref < 0 or ref >= store.rows.count:
        return 0
    at = store.rows.base + 8 * ref
    return at - 8 if load64(at) != 0 else 0


@leaf
def direct_drop(store, ref, at):
    """Drop an order."""
    store64(at + 8, 0)


# ---------------------------------------------------------------- pages


@leaf
def page_put(store, ref, qty):
    """Enter an order, into a page of its own where its neighbours have none."""
    heads, counts = span(store.heads), span(store.counts)
    head = row(heads, ref >> PAGE_BITS, word_dtype)
    if head.value == 0:
        page = store.free * 1
        if page != 0:
            store.free = row(counts, page, word_dtype).value
        else:
            page = store.fresh * 1
            store.fresh += 1
        row(counts, page, word_dtype).value = 0
        head.value = page
    row(counts, head.value, word_dtype).value += 1
    store64(store.rows.base + 8 * (head.value * PAGE + (ref & (PAGE - 1))), qty)


@leaf
def page_seek(store, ref):
    """Return the address 8 bytes before an order's shares, 0: there is none."""
    heads = span(store.heads)
    if ref < 0 or ref >> PAGE_BITS >= heads.count:
        return 0
    at = store.rows.base + 8 * (row(heads, ref >> PAGE_BITS, word_dtype).value * PAGE + (ref & (PAGE - 1)))
    return at - 8 if load64(at) != 0 else 0


@leaf
def page_drop(store, ref, at):
    """Drop an order, and give its page back where it was the last."""
    head = row(span(store.heads), ref >> PAGE_BITS, word_dtype)
    store64(at + 8, 0)
    count = row(span(store.counts), head.value, word_dtype)
    count.value -= 1
    if count.value == 0:
        count.value = store.free
        store.free = head.value
        head.value = 0


# ---------------------------------------------------------------- the walk

put = seek = drop = None


def walk(store, at, end):
    """Keep every order of the framed messages between two addresses; return the sum of the shares that left."""
    total = 0
    while at < end:
        kind, ref = load8(at + 2), swap64(load64(at + 13))
        if kind == ADD_ORDER or kind == ADD_ORDER_MPID:
            put(store, ref, swap32(load32(at + 22)))
        elif kind == ORDER_DELETE or kind == ORDER_REPLACE:
            found = seek(store, ref)
            if found != 0:
                total += load64(found + 8)
                drop(store, ref, found)
                if kind == ORDER_REPLACE:
                    put(store, swap64(load64(at + 21)), swap32(load32(at + 29)))
        elif kind == ORDER_EXECUTED or kind == ORDER_EXECUTED_PRICE or kind == ORDER_CANCEL:
            found = seek(store, ref)
            if found != 0:
                left = load64(found + 8) - swap32(load32(at + 21))
                if left > 0:
                    store64(found + 8, left)
                else:
                    drop(store, ref, found)
        at += 2 + swap16(load16(at))
    return total


WALKS = {
    "chained": bind(walk, "chained", put=chain_put, seek=chain_seek, drop=chain_drop),
    "open": bind(walk, "open", put=open_put, seek=open_seek, drop=open_drop),
    "direct": bind(walk, "direct", put=direct_put, seek=direct_seek, drop=direct_drop),
    "pages": bind(walk, "pages", put=page_put, seek=page_seek, drop=page_drop),
}
