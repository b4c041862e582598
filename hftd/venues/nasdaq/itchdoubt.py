"""What goes wrong with ITCH messages: counted, put in the error log, and, where a book may be wrong, the book is not trusted.

    a message the book contradicts (unknown or double reference, more shares than are left)   taint
    a best bid above the best offer while the instrument trades                                taint
    a book locked, or crossed in a halt or an auction, where orders gather                     counted only
    a side, size, price or length that cannot be; an unknown type                              counted only: it moved nothing
    a store that is full                                                                       STALE: an order is missing

What a tainted book does is `feed.on_taint`: "stale", and it is STALE until a snapshot has mended it (`itchmend.py`), or "note": it
stays LIVE, and who reads it sees its `taints`. Other instruments go on.
"""

from hftd.core.apart import apart
from hftd.core.jit import hot, leaf
from hftd.core.memory import load8, load16, record_at, row, span, swap16
from hftd.feed.book import DUPLICATE, LEVELS_FULL, ORDERS_FULL
from hftd.feed.events import BOOK_STATE, emit, make_room, note, set_state
from hftd.feed.memory import LACKS_ORDER, LACKS_TRUST, book_dtype, feed_counters_dtype
from hftd.feed.state import MEND_WANTED, SINK_RING, kind_dtype, listed_dtype
from hftd.msg.enums import BookState, LogCode, TradingState
from hftd.msg.records import FLAG_END_OF_PACKET, quote_dtype

STALE, TRADING = int(BookState.STALE), int(TradingState.TRADING)
BOOK_TAINTED, CAPACITY, BAD_MESSAGE = int(LogCode.BOOK_TAINTED), int(LogCode.CAPACITY), int(LogCode.FEED_BAD_MESSAGE)

UNKNOWN_REF, DUPLICATE_REF, OVERFILL, CROSSED = 1, 2, 3, 4
"""Why a book is tainted: detail `b` of a BOOK_TAINTED error; `a` is the instrument."""


@hot
def taint(agent, instrument, why, end):
    """Count a message that instrument's book contradicts. end: FLAG_END_OF_PACKET when this is its last in the packet, else 0."""
    apart()
    counters = record_at(agent.counters_at, feed_counters_dtype)
    book = row(span(agent.engine.books), instrument, book_dtype)
    book.taints += 1
    if why == UNKNOWN_REF:
        counters.unknown_refs += 1
    elif why == DUPLICATE_REF:
        counters.duplicate_refs += 1
    elif why == OVERFILL:
        counters.overfills += 1
    note(agent, BOOK_TAINTED, instrument, why)
    doubt(agent, instrument)
    if end != 0:
        tell_state(agent, book, instrument, end)


@hot
def doubt(agent, instrument):
    """Trust a book no more, where the configuration says so: STALE, and to be mended where there is a snapshot server."""
    apart()
    book = row(span(agent.engine.books), instrument, book_dtype)
    if agent.on_taint == 0 or book.lacking & LACKS_TRUST != 0:
        return
    book.lacking |= LACKS_TRUST
    record_at(agent.counters_at, feed_counters_dtype).distrusted += 1
    if book.state != STALE:
        set_state(agent, instrument, STALE, 1)
    if agent.snapshot_from > 0 and agent.mending == 0:
        agent.mending = MEND_WANTED


@hot
def refuse_field(agent, instrument, kind, end):
    """Count a message with a side, size or price that cannot be."""
    apart()
    record_at(agent.counters_at, feed_counters_dtype).bad_fields += 1
    note(agent, BAD_MESSAGE, kind, instrument)
    if end != 0:
        tell_state(agent, row(span(agent.engine.books), instrument, book_dtype), instrument, end)


@hot
def refuse_order(agent, instrument, why):
    """Count an order that a book did not take: a double reference taints, a full store makes the book STALE."""
    apart()
    counters = record_at(agent.counters_at, feed_counters_dtype)
    if why == DUPLICATE:
        taint(agent, instrument, DUPLICATE_REF, 0)
        return
    if why == ORDERS_FULL:
        counters.orders_full += 1
    elif why == LEVELS_FULL:
        counters.levels_full += 1
    else:
        counters.slots_full += 1
    note(agent, CAPACITY, why, instrument)
    row(span(agent.engine.books), instrument, book_dtype).lacking |= LACKS_ORDER
    set_state(agent, instrument, STALE, 1)


@leaf
def tell_state(agent, book, instrument, end):
    """Publish the book's state, so that a refused message still ends its packet for the instrument."""
    if agent.sink == SINK_RING:
        make_room(agent, 1)
        emit(agent, book, instrument, BOOK_STATE, 0, book.state, 0, 0, end)


@hot
def refuse_length(agent, at, length):
    """Count a message of an unknown type, or of a known type and another length."""
    apart()
    counters = record_at(agent.counters_at, feed_counters_dtype)
    if row(span(agent.kinds), load8(at), kind_dtype).length == 0:
        counters.unknown_types += 1
        return
    counters.bad_lengths += 1
    note(agent, BAD_MESSAGE, load8(at), length)
    if length >= 3:
        listed = row(span(agent.listed), swap16(load16(at + 1)), listed_dtype)
        if listed.instrument > 0 and listed.last == agent.wire_seq & 0xFFFFFFFF:
            instrument = listed.instrument - 1
            tell_state(agent, row(span(agent.engine.books), instrument, book_dtype), instrument, FLAG_END_OF_PACKET)


@hot
def note_crossed(agent, instrument, gap):
    """Count a book whose best bid stands above (gap > 0) or at (0) the best offer; crossed while it trades, it is tainted."""
    apart()
    counters = record_at(agent.counters_at, feed_counters_dtype)
    row(span(agent.engine.books), instrument, book_dtype).taints += 1
    note(agent, BOOK_TAINTED, instrument, CROSSED)
    if gap == 0:
        counters.locked += 1
        return
    counters.crossed += 1
    if row(span(agent.quotes), instrument, quote_dtype).trading == TRADING:
        doubt(agent, instrument)
