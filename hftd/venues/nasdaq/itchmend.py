"""Mending: a book that is not trusted is made anew from a snapshot, while all others go on.

    taint ─▶ STALE ─▶ snapshot asked for ─────────────▶ snapshot is here ─▶ emptied, snapshot's orders, kept messages ─▶ LIVE
                      its messages are applied and kept                      in one step, CLEAR and LEVEL events

A snapshot (GLIMPSE) is of all books as of one message; only those are taken from it that were distrusted when it was asked for.
What the line has said about their orders since then is kept in a private buffer and applied behind it, so that nothing is missing.
A book that is first contradicted while one is on its way waits for the next: what came between the two was not kept for it.

Only orders are made anew. Trading states, prints, collars were taken up when they came, and an older state from a snapshot must not
come back: what touches no order is neither kept nor taken, and an execution is kept as the cancel it is to the book.

Given up, and tried again after the usual pause: a snapshot that ends before the kept messages begin or beyond what we have for
longer than WAITS time-outs; more messages than the buffer holds. A gap calls it off: recovery goes first, and if that takes a
snapshot, all books are made anew anyway. A book that is contradicted again while it is mended stays STALE and has another turn.
"""

from hftd.core.apart import apart
from hftd.core.jit import hot
from hftd.core.memory import copy_bytes, load8, load16, load64, record_at, row, span, store8, store16, store64, swap16
from hftd.feed.book import owner_of, remove_order, tables
from hftd.feed.events import end_change, set_state, tell_void
from hftd.feed.memory import LACKS_MENDING, LACKS_ORDER, LACKS_TRUST, book_dtype, feed_counters_dtype, level_dtype
from hftd.feed.orders import resting_dtype
from hftd.feed.state import (
    DOES_ADD,
    DOES_TAKE,
    MEND_FETCHING,
    MEND_NONE,
    MEND_WANTED,
    SINK_RING,
    SNAPSHOT_FAILED,
    SNAPSHOT_NONE,
    SNAPSHOT_WANTED,
    kind_dtype,
    listed_dtype,
)
from hftd.msg.enums import BookState, Reason
from hftd.msg.records import FLAG_SNAPSHOT
from hftd.shm.ring import publish, room
from hftd.shm.seqlock import begin_write, end_write
from hftd.venues.nasdaq.itch50 import (
    ORDER_CANCEL,
    ORDER_EXECUTED,
    ORDER_EXECUTED_PRICE,
    order_cancel_dtype,
    order_executed_dtype,
    order_executed_price_dtype,
)
from hftd.venues.nasdaq.itchfeed import apply_run

WAITS = 50
"""Time-outs (feed.gap_timeout_ms) after which a snapshot that does not fit is given up."""

EVENTS = 4
"""Events one message may cause, at most."""

LIVE, STALE = int(BookState.LIVE), int(BookState.STALE)
SNAPSHOT = int(Reason.SNAPSHOT)

CANCEL_SIZE, EXECUTED_SIZE, EXECUTED_PRICE_SIZE = (
    order_cancel_dtype.itemsize, order_executed_dtype.itemsize, order_executed_price_dtype.itemsize,
)  # fmt: skip


@hot
def concerns(agent, message, length):
    """Tell whether the message at address `message` is about an order of a book that is being mended."""
    if length < 3 or row(span(agent.kinds), load8(message), kind_dtype).does & (DOES_ADD | DOES_TAKE) == 0:
        return False
    instrument = row(span(agent.listed), swap16(load16(message + 1)), listed_dtype).instrument - 1
    return instrument >= 0 and row(span(agent.engine.books), instrument, book_dtype).lacking & LACKS_MENDING != 0


@hot
def keep(agent, at, end, seq):
    """Keep those of the framed messages from `at` to `end`, numbered from `seq`, that are about orders of books being mended."""
    apart()
    if agent.mending != MEND_FETCHING:
        return
    log = span(agent.mend_log)
    while at < end:
        length = swap16(load16(at))
        if agent.mend_tail >= 0 and concerns(agent, at + 2, length):
            if agent.mend_tail + 10 + length > log.count:
                agent.mend_tail = -1
            else:
                kept = log.base + agent.mend_tail
                store64(kept, seq)
                copy_bytes(kept + 8, at, length + 2)
                agent.mend_tail += 10 + as_cancel(kept + 8, length)
        at += 2 + length
        seq += 1


@hot
def as_cancel(at, length):
    """Make an execution, framed at `at`, a cancel of as many shares, which begins with the same fields. Returns its length."""
    kind = load8(at + 2)
    if (kind == ORDER_EXECUTED and length == EXECUTED_SIZE) or (kind == ORDER_EXECUTED_PRICE and length == EXECUTED_PRICE_SIZE):
        store16(at, swap16(CANCEL_SIZE))
        store8(at + 2, ORDER_CANCEL)
        return CANCEL_SIZE
    return length


@hot
def mend(agent, now):
    """Do what distrusted books ask for, one step; return how much was done. Called while agent.mending is not MEND_NONE."""
    apart()
    counters = record_at(agent.counters_at, feed_counters_dtype)
    if agent.behind != 0 or agent.state != LIVE:
        if agent.mending == MEND_FETCHING:            # recovery goes first
            agent.mending = MEND_WANTED
            agent.snapshot = SNAPSHOT_NONE
        return 0
    if agent.mending == MEND_WANTED:
        if now < agent.snapshot_after:
            return 0
        wanted = 0
        for index in range(agent.used):
            book = row(span(agent.engine.books), index, book_dtype)
            if book.lacking & LACKS_TRUST != 0:
                book.lacking |= LACKS_MENDING
                wanted += 1
        if wanted == 0:
            agent.mending = MEND_NONE
            return 0
        agent.mending = MEND_FETCHING
        agent.mend_tail = 0
        agent.mend_from = agent.expected
        agent.mend_since = now
        agent.snapshot = SNAPSHOT_WANTED
        agent.snapshot_floor = 0
        if agent.reason == 0:
            agent.reason = SNAPSHOT
        return 1
    if agent.snapshot == SNAPSHOT_WANTED:
        return 0
    late = now - agent.mend_since > WAITS * agent.timeout
    if agent.snapshot == SNAPSHOT_NONE:
        agent.mending = MEND_WANTED
    elif agent.snapshot == SNAPSHOT_FAILED:
        agent.mending = MEND_WANTED
        agent.snapshot = SNAPSHOT_NONE
    elif agent.mend_tail < 0 or agent.snapshot_next < agent.mend_from or (agent.snapshot_next > agent.expected and late):
        counters.mend_failures += 1
        agent.mending = MEND_WANTED
        agent.snapshot = SNAPSHOT_NONE
    elif agent.snapshot_next > agent.expected or not (late or has_room_for(agent)):
        return 0
    else:
        make_anew(agent, now)
    return 1


@hot
def has_room_for(agent):
    """Tell whether the ring has room for what mending will say; more than half of it is never waited for."""
    if agent.sink != SINK_RING:
        return True
    at, count = agent.snapshot_at, 0
    while at < agent.snapshot_end:
        length = swap16(load16(at))
        count += 1 if concerns(agent, at + 2, length) else 0
        at += 2 + length
    count += agent.mend_tail // 20
    return room(agent.md, min(EVENTS * count + EVENTS, (agent.md.mask + 1) >> 1))


@hot
def empty_books(agent):
    """Take every order out of the books that are being mended, in one walk through the store, and say that they are void."""
    t = tables(agent.engine)
    left = 0
    for instrument in range(agent.used):
        book = row(t.books, instrument, book_dtype)
        if book.lacking & LACKS_MENDING != 0:
            book.lacking = LACKS_MENDING              # a store that was full has room again, or will say so again
            begin_write(book)
            left += book.orders
    index = 1
    while left > 0 and index < agent.engine.orders.fresh:
        order = row(t.orders, index, resting_dtype)
        if order.qty != 0:
            book = row(t.books, owner_of(row(t.levels, order.level, level_dtype)), book_dtype)
            if book.lacking & LACKS_MENDING != 0:
                remove_order(agent.engine, t, index)
                left -= 1
        index += 1
    for instrument in range(agent.used):
        book = row(t.books, instrument, book_dtype)
        if book.lacking & LACKS_MENDING != 0:
            end_write(book)
            tell_void(agent, instrument)


@hot
def make_anew(agent, now):
    """Empty the books that are being mended, fill them from the snapshot and from what was kept, and trust them again."""
    apart()
    counters = record_at(agent.counters_at, feed_counters_dtype)
    books = span(agent.engine.books)
    agent.ts_recv = now
    agent.flags = FLAG_SNAPSHOT
    agent.wire_seq = agent.snapshot_seq - 1
    empty_books(agent)
    at, seq, taken = agent.snapshot_at, agent.snapshot_seq, 0
    while at < agent.snapshot_end:
        length = swap16(load16(at))
        if concerns(agent, at + 2, length):
            taken += apply_run(agent, at, at + 2 + length, seq)
            if agent.sink == SINK_RING:
                publish(agent.md)                     # a batch that is not published is held by no consumer's place
        at += 2 + length
        seq += 1
    counters.snapshot_messages += taken
    at, end = agent.mend_log.base, agent.mend_log.base + agent.mend_tail
    while at < end:
        length = swap16(load16(at + 8))
        if load64(at) >= agent.snapshot_next:
            taken += apply_run(agent, at + 8, at + 10 + length, load64(at))
            if agent.sink == SINK_RING:
                publish(agent.md)
        at += 10 + length
    counters.messages -= taken                        # the line's own were counted when they came
    agent.flags = 0
    agent.snapshot = SNAPSHOT_NONE
    agent.mending = MEND_NONE
    for index in range(agent.used):
        book = row(books, index, book_dtype)
        again = book.lacking & LACKS_TRUST != 0       # contradicted anew, or for the first time meanwhile
        if book.lacking & LACKS_MENDING != 0:
            book.lacking &= ~LACKS_MENDING
            agent.wire_seq = agent.expected - 1
            begin_write(book)
            end_change(agent, book)                   # what is not about orders it had already: it is as new as all others
            again = again and book.lacking & LACKS_ORDER == 0
            if book.lacking == 0:
                counters.mended += 1
                set_state(agent, index, LIVE, 1)
            else:
                set_state(agent, index, STALE, 1)
        if again:
            agent.mending = MEND_WANTED
    if agent.sink == SINK_RING:
        publish(agent.md)
