"""Publishing: market events into the md ring, and the quote cells.

Every event carries the packet's receive stamp, the venue's stamp and message number, and the book's state. Its END_OF_PACKET flag
is exact for each instrument: the packet's framing is walked before the first message is applied, and the number of each
instrument's last message with an effect is noted; the flag stands on the last event of that message. (A message that is refused
says so with a BOOK_STATE event, so that the flag is never lost.) Outside packets each message ends one.

A full ring never stops the feed: the gating consumer that is furthest behind is detached, counted, and finds out for itself.
"""

from hftd.core.apart import apart
from hftd.core.atomics import tsc
from hftd.core.jit import hot, leaf
from hftd.core.layout import offset_of
from hftd.core.memory import address_of, load64, record_at, row, span, store64
from hftd.feed.book import best, shares_of
from hftd.feed.memory import book_dtype, feed_counters_dtype, level_dtype
from hftd.feed.state import SINK_RING
from hftd.msg.enums import BookState, EventKind
from hftd.msg.records import FLAG_STATE_SHIFT, market_event_dtype, quote_dtype
from hftd.shm.errlog import note_error
from hftd.shm.ring import CONSUMERS, claim, commit, detach_slowest, room
from hftd.shm.seqlock import begin_write, end_write

LEVEL = int(EventKind.LEVEL)
BOOK_STATE = int(EventKind.BOOK_STATE)
CLEAR = int(EventKind.CLEAR)
RECOVERING = int(BookState.RECOVERING)
TICKS_MAX = (1 << 32) - 1
QUOTE_BID = offset_of(quote_dtype, "bid_px")
QUOTE_SIDE = offset_of(quote_dtype, "ask_px") - QUOTE_BID
"""A side of a quote is its price and then its quantity."""


@leaf
def bump(at):
    """Add one to the counter at address `at`; we are its only writer."""
    store64(at, load64(at) + 1)


@hot
def make_room(agent, count):
    """Detach slow consumers until `count` events fit."""
    apart()
    counters = record_at(agent.counters_at, feed_counters_dtype)
    for _ in range(CONSUMERS):
        if room(agent.md, count):
            return
        if detach_slowest(agent.md) < 0:
            return
        counters.detached += 1


@leaf
def emit(agent, book, instrument, kind, px, qty, orders, ref, flags):
    """Append one market event about `instrument`. The caller has made room. flags: FLAG_…, state left out."""
    slot = claim(agent.md, market_event_dtype)
    slot.ts_recv = agent.ts_recv
    slot.ts_event = agent.ts_event
    slot.px = px
    slot.qty = qty
    slot.ref = ref
    slot.orders = orders
    slot.instrument = instrument
    slot.kind = kind
    slot.flags = flags | agent.flags | (book.state << FLAG_STATE_SHIFT)
    agent.emitted = min(tsc() - agent.ts_recv, TICKS_MAX)
    slot.t_feed = agent.emitted
    slot.wire_seq = agent.wire_seq & 0xFFFFFFFF
    commit(agent.md, slot)
    book.events += 1


@leaf
def end_change(agent, book):
    """Close a book to whose version `begin_write` was said: it, its prints and its status stand as of the message at hand."""
    book.wire_seq = agent.wire_seq & 0xFFFFFFFF
    end_write(book)


@leaf
def update_quote(agent, t, book, which, quote):
    """Copy the top of one side of a book to its quote cell; the caller has opened the cell. which: Side."""
    found = best(book, which)
    px = qty = 0
    if found != 0:
        level = row(t.levels, found, level_dtype)
        px = level.px if which == 0 else -level.px
        qty = shares_of(level)
    at = address_of(quote) + QUOTE_BID + which * QUOTE_SIDE
    store64(at, px)
    store64(at + 8, qty)
    quote.ts_event = agent.ts_event
    quote.ts_recv = agent.ts_recv
    quote.events = book.events


@hot
def note(agent, code, a, b):
    """Put an error of the message at hand into our error log."""
    apart()
    errors = span(agent.errors)
    if errors.count > 0:
        note_error(errors, code, a, b, agent.ts_recv)


@hot
def set_state(agent, instrument, state, tell):
    """Give an instrument's book a state, in the book and the quote; with `tell` and a ring, say so in an event."""
    apart()
    book = row(span(agent.engine.books), instrument, book_dtype)
    quote = row(span(agent.quotes), instrument, quote_dtype)
    book.state = state
    begin_write(quote)
    quote.state = state
    end_write(quote)
    if tell != 0 and agent.sink == SINK_RING:
        make_room(agent, 1)
        emit(agent, book, instrument, BOOK_STATE, 0, state, 0, 0, 0)


@hot
def tell_void(agent, instrument):
    """Say that a book is void, after its orders were taken out: RECOVERING, no prices, CLEAR.

    It stands as of the message at hand from now on: what makes it anew may have lower numbers than what it had.
    """
    apart()
    book = row(span(agent.engine.books), instrument, book_dtype)
    begin_write(book)
    end_change(agent, book)
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
