"""Mending: a book that is not trusted is made anew from a snapshot, while all others go on.

    taint ─▶ STALE ─▶ snapshot asked for ─────────────▶ snapshot is here ─▶ emptied, snapshot's orders, kept messages ─▶ LIVE
                      its messages are applied and kept                      in one step, CLEAR and LEVEL events

A snapshot (GLIMPSE) is of all books as of one message; only the distrusted ones are taken from it. What the line brought for them
since it was asked for is kept in a private buffer and applied behind it, so that nothing is missing and nothing comes twice.

Given up, and tried again after the usual pause: a snapshot that ends before the kept messages begin or beyond what we have for
longer than WAITS time-outs; more messages than the buffer holds. A gap calls it off: recovery goes first, and if that takes a
snapshot, all books are made anew anyway. A book that is contradicted again while it is mended stays STALE and has another turn.
"""

from hftd.core.apart import apart
from hftd.core.jit import hot
from hftd.core.memory import copy_bytes, load16, load64, record_at, row, span, store64, swap16
from hftd.feed.book import best, remove_order, tables
from hftd.feed.events import CLEAR, emit, make_room, set_state
from hftd.feed.memory import LACKS_MENDING, LACKS_ORDER, LACKS_TRUST, book_dtype, feed_counters_dtype, level_dtype
from hftd.feed.state import (
    MEND_FETCHING,
    MEND_NONE,
    MEND_WANTED,
    SINK_RING,
    SNAPSHOT_FAILED,
    SNAPSHOT_NONE,
    SNAPSHOT_WANTED,
    listed_dtype,
)
from hftd.msg.enums import BookState, Reason
from hftd.msg.records import FLAG_SNAPSHOT, quote_dtype
from hftd.shm.ring import publish, room
from hftd.shm.seqlock import begin_write, end_write
from hftd.venues.nasdaq.itchfeed import apply_run

WAITS = 50
"""Time-outs (feed.gap_timeout_ms) after which a snapshot that does not fit is given up."""

EVENTS = 4
"""Events one message may cause, at most."""

RECOVERING, LIVE, STALE = int(BookState.RECOVERING), int(BookState.LIVE), int(BookState.STALE)
SNAPSHOT = int(Reason.SNAPSHOT)


@hot
def lacks(agent, message, length, what):
    """Tell whether the message at address `message` is about a book that lacks `what`."""
    if length < 3:
        return False
    instrument = row(span(agent.listed), swap16(load16(message + 1)), listed_dtype).instrument - 1
    return instrument >= 0 and row(span(agent.engine.books), instrument, book_dtype).lacking & what != 0


@hot
def keep(agent, at, end, seq):
    """Keep those of the framed messages from `at` to `end`, numbered from `seq`, that are about distrusted books."""
    apart()
    log = span(agent.mend_log)
    while at < end:
        length = swap16(load16(at))
        if agent.mend_tail >= 0 and lacks(agent, at + 2, length, LACKS_TRUST):
            if agent.mend_tail + 10 + length > log.count:
                agent.mend_tail = -1
            else:
                store64(log.base + agent.mend_tail, seq)
                copy_bytes(log.base + agent.mend_tail + 8, at, length + 2)
                agent.mend_tail += 10 + length
        at += 2 + length
        seq += 1


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
            wanted += row(span(agent.engine.books), index, book_dtype).lacking & LACKS_TRUST
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
        count += 1 if lacks(agent, at + 2, length, LACKS_TRUST) else 0
        at += 2 + length
    count += agent.mend_tail // 20
    return room(agent.md, min(EVENTS * count + EVENTS, (agent.md.mask + 1) >> 1))


@hot
def empty(agent, instrument):
    """Take every order out of a book, and say that it is void."""
    t = tables(agent.engine)
    book = row(t.books, instrument, book_dtype)
    begin_write(book)
    for which in range(2):
        while book.sides[which].count > 0:
            remove_order(agent.engine, t, row(t.levels, best(book, which), level_dtype).next * 1)
    end_write(book)
    set_state(agent, instrument, RECOVERING, 0)
    quote = row(span(agent.quotes), instrument, quote_dtype)
    begin_write(quote)
    quote.bid_px = 0
    quote.bid_qty = 0
    quote.ask_px = 0
    quote.ask_qty = 0
    end_write(quote)
    if agent.sink == SINK_RING:
        make_room(agent, 1)
        emit(agent, book, instrument, CLEAR, 0, 0, 0, 0, 0)


@hot
def make_anew(agent, now):
    """Empty the distrusted books, fill them from the snapshot and from what was kept, and trust them again."""
    apart()
    counters = record_at(agent.counters_at, feed_counters_dtype)
    books = span(agent.engine.books)
    agent.ts_recv = now
    agent.flags = FLAG_SNAPSHOT
    agent.wire_seq = agent.snapshot_seq - 1
    for index in range(agent.used):
        book = row(books, index, book_dtype)
        if book.lacking & LACKS_TRUST != 0:
            book.lacking = LACKS_MENDING              # a store that was full has room again, or will say so again
            empty(agent, index)
    at, seq, taken = agent.snapshot_at, agent.snapshot_seq, 0
    while at < agent.snapshot_end:
        length = swap16(load16(at))
        if lacks(agent, at + 2, length, LACKS_MENDING):
            taken += apply_run(agent, at, at + 2 + length, seq)
        at += 2 + length
        seq += 1
    counters.snapshot_messages += taken
    at, end = agent.mend_log.base, agent.mend_log.base + agent.mend_tail
    while at < end:
        length = swap16(load16(at + 8))
        if load64(at) >= agent.snapshot_next:
            taken += apply_run(agent, at + 8, at + 10 + length, load64(at))
        at += 10 + length
    counters.messages -= taken                        # the line's own were counted when they came
    agent.flags = 0
    agent.snapshot = SNAPSHOT_NONE
    agent.mending = MEND_NONE
    for index in range(agent.used):
        book = row(books, index, book_dtype)
        if book.lacking & LACKS_MENDING != 0:
            book.lacking &= ~LACKS_MENDING
            if book.lacking == 0:
                counters.mended += 1
                set_state(agent, index, LIVE, 1)
            else:
                set_state(agent, index, STALE, 1)
                if book.lacking & LACKS_ORDER == 0:
                    agent.mending = MEND_WANTED
    if agent.sink == SINK_RING:
        publish(agent.md)
