"""ITCH 5.0 into books and events: one function for every message, whether it came by packet or from a file.

`apply_run` walks messages framed by two bytes of length, which is how both MoldUDP64 and Nasdaq's files frame them, so there is one
code path for live, replay and bench; `apply_one` is it for a packet's only message. The caller has checked that the framing adds
up. While many orders are live, the lines that later messages will need are fetched ahead (`itchahead.py`).

Order messages have a function each: `apply_add` (A, F), `apply_delete` (D), `apply_cut` (E, C, X), `apply_replace` (U); each
changes the book, then the quote where its top may have changed, then publishes events. Everything else is rare and lives in
`itchrare.py`, what goes wrong in `itchdoubt.py`.

A message that contradicts a book (unknown or double reference, more shares than are left) is counted, put in the error log, and
taints that book; what can be done safely is done: too large an execution takes what is left, a double reference leaves the first
order alone, a U whose new half is refused still takes the old one out. A message with a side, size or price that cannot be changes
nothing. A store that is full makes the book STALE: it is known to lack an order.
"""

from hftd.core.apart import apart
from hftd.core.jit import hot, leaf
from hftd.core.layout import offset_of
from hftd.core.memory import load8, load16, load32, load64, record_at, row, span, swap16, swap32, swap64
from hftd.feed.book import add_order, best, owner_of, remove_order, shares_of, side_of, tables
from hftd.feed.events import BOOK_STATE, LEVEL, emit, end_change, make_room, update_quote
from hftd.feed.memory import PX_LIMIT, SHARES_AT, book_dtype, feed_counters_dtype, level_dtype, type_count_dtype
from hftd.feed.orders import find_order, resting_dtype
from hftd.feed.prints import remember_print
from hftd.feed.state import DOES_ADD, DOES_EMIT, DOES_TAKE, SINK_RING, kind_dtype, listed_dtype
from hftd.msg.enums import EventKind
from hftd.msg.records import FLAG_END_OF_PACKET, FLAG_SELL, quote_dtype
from hftd.shm.pool import most_used
from hftd.shm.seqlock import begin_write, end_write
from hftd.venues.nasdaq.itch50 import (
    ADD_ORDER,
    ADD_ORDER_MPID,
    BROKEN_TRADE,
    CROSS_TRADE,
    DIRECT_LISTING,
    IPO_QUOTING,
    LULD_COLLAR,
    MESSAGES,
    NOII,
    OPERATIONAL_HALT,
    ORDER_CANCEL,
    ORDER_DELETE,
    ORDER_EXECUTED,
    ORDER_EXECUTED_PRICE,
    ORDER_REPLACE,
    PARTICIPANT_POSITION,
    REG_SHO_RESTRICTION,
    RPII,
    STOCK_DIRECTORY,
    TRADE,
    TRADING_ACTION,
    add_order_dtype,
    add_order_mpid_dtype,
    header_dtype,
    order_cancel_dtype,
    order_delete_dtype,
    order_executed_dtype,
    order_executed_price_dtype,
    order_replace_dtype,
    stamp,
)
from hftd.venues.nasdaq.itchahead import GROUP, LONG, LOOKED, SHORT, SHORTEST, fetch, fetch_few, look_at_group, look_on
from hftd.venues.nasdaq.itchdoubt import OVERFILL, UNKNOWN_REF, note_crossed, refuse_field, refuse_length, refuse_order, taint
from hftd.venues.nasdaq.itchrare import BUY, PX_MAX, SELL, YES, apply_rare, learn

STRETCH = 4096
"""Messages of a run after which it is asked anew whether to look ahead."""

assert PX_MAX < PX_LIMIT

MPID_AT = offset_of(add_order_mpid_dtype, "attribution")

TRADE_EVENT = int(EventKind.TRADE)


@leaf
def find_taken(agent, t, instrument, ref, end):
    """Return the row of the order `ref` of an instrument's book; 0, and the book is tainted, when it has no such order."""
    index = find_order(t, ref)
    if index != 0:
        if owner_of(row(t.levels, row(t.orders, index, resting_dtype).level, level_dtype)) == instrument:
            return index
    taint(agent, instrument, UNKNOWN_REF, end)
    return 0


@leaf
def valid(which, qty, px):
    """Say whether an order can be: it has a side, a size and a price."""
    return which < 2 and qty != 0 and px != 0 and px <= PX_MAX


@leaf
def enter(agent, t, book, instrument, which, ref, qty, px, mpid):
    """Add an order. Returns (level, top) as `add_order` does; level is 0 when the order was refused, and that has been counted."""
    level, top = add_order(agent.engine, t, instrument, which, ref, qty, px, mpid)
    if level < 0:
        refuse_order(agent, instrument, level)
        return 0, 0
    if top != 0:
        quote = row(span(agent.quotes), instrument, quote_dtype)
        gap = px - quote.ask_px if which == 0 else quote.bid_px - px
        if gap >= 0 and best(book, 1 - which) != 0:
            note_crossed(agent, instrument, gap)
    return level, top


@leaf
def tell_top(agent, t, book, instrument, which):
    """Bring the quote of an instrument up to date on one side."""
    quote = row(span(agent.quotes), instrument, quote_dtype)
    begin_write(quote)
    update_quote(agent, t, book, which, quote)
    end_write(quote)
    agent.touched = instrument + 1


@leaf
def tell_level(agent, book, instrument, which, px, qty, orders, ref, end):
    """Publish what a level holds now. The caller has made room."""
    emit(agent, book, instrument, LEVEL, px, qty, orders, ref, end | (FLAG_SELL if which == 1 else 0))


@leaf
def price_of(level):
    """Return the px of a level record, venue scale, whichever side it is of."""
    return abs(level.px)


@leaf
def apply_add(agent, t, at, kind, book, instrument, end):
    """A, F: an order to the back of its level. Returns 1 when the book changed."""
    add = record_at(at, add_order_dtype)
    ref, qty, px = swap64(add.ref), swap32(add.shares), swap32(add.price)
    which = 0 if add.side == BUY else 1 if add.side == SELL else 2
    if not valid(which, qty, px):
        refuse_field(agent, instrument, kind, end)
        return 0
    begin_write(book)
    found, top = enter(agent, t, book, instrument, which, ref, qty, px, load32(at + MPID_AT) if kind == ADD_ORDER_MPID else 0)
    end_change(agent, book)
    if top != 0:
        tell_top(agent, t, book, instrument, which)
    if agent.sink == SINK_RING:
        make_room_for(agent)
        if found != 0:
            level = row(t.levels, found, level_dtype)
            tell_level(agent, book, instrument, which, px, shares_of(level), level.orders * 1, ref, end)
        elif end != 0:
            emit(agent, book, instrument, BOOK_STATE, 0, book.state, 0, 0, end)
    return 1 if found != 0 else 0


@leaf
def apply_delete(agent, t, at, book, instrument, end):
    """D: an order leaves. Returns 1 when the book changed."""
    ref = swap64(record_at(at, order_delete_dtype).ref)
    index = find_taken(agent, t, instrument, ref, end)
    if index == 0:
        return 0
    level = row(t.levels, row(t.orders, index, resting_dtype).level, level_dtype)
    which, px = side_of(level), price_of(level)
    begin_write(book)
    top = remove_order(agent.engine, t, index)
    end_change(agent, book)
    if top != 0:
        tell_top(agent, t, book, instrument, which)
    if agent.sink == SINK_RING:
        make_room_for(agent)
        tell_level(agent, book, instrument, which, px, shares_of(level), level.orders * 1, ref, end)
    return 1


@leaf
def apply_cut(agent, t, at, kind, book, instrument, end):
    """E, C, X: shares off an order, all of it perhaps; E and C print them. Returns 1 when the book changed."""
    cut = record_at(at, order_cancel_dtype)
    ref, asked = swap64(cut.ref), swap32(cut.shares)
    index = find_taken(agent, t, instrument, ref, end)
    if index == 0:
        return 0
    if asked == 0:
        refuse_field(agent, instrument, kind, end)
        return 0
    order = row(t.orders, index, resting_dtype)
    found = order.level * 1
    level = row(t.levels, found, level_dtype)
    which, px = side_of(level), price_of(level)
    if asked > order.qty:
        taint(agent, instrument, OVERFILL, 0)
    begin_write(book)
    if asked < order.qty:
        order.qty -= asked
        level.held -= asked << SHARES_AT
        top = 1 if book.sides[which].best == found else 0
    else:
        top = remove_order(agent.engine, t, index)
    printed = 0
    if kind != ORDER_CANCEL:
        counters = record_at(agent.counters_at, feed_counters_dtype)
        printed, print_px = asked, px
        if kind == ORDER_EXECUTED_PRICE:
            executed = record_at(at, order_executed_price_dtype)
            print_px = swap32(executed.price)
            if executed.printable != YES:
                printed = 0
                counters.non_printable += 1
            elif print_px == 0 or print_px > PX_MAX:  # the shares are gone; a price that cannot be is nobody's last price
                printed = 0
                refuse_field(agent, instrument, kind, 0)
        if printed != 0:
            counters.trades += 1
            counters.volume += printed
            quote = row(span(agent.quotes), instrument, quote_dtype)
            begin_write(quote)
            update_quote(agent, t, book, which, quote)
            quote.last_px = print_px
            quote.last_qty = printed
            quote.volume += printed
            match = swap64(record_at(at, order_executed_dtype).match)  # C has it in the same place
            remember_print(agent, quote, instrument, match, print_px, printed, 0)
            end_write(quote)
            agent.touched = instrument + 1
    else:
        print_px = 0
    end_change(agent, book)                           # with the print in the quote: a copy has both or neither
    if top != 0 and printed == 0:
        tell_top(agent, t, book, instrument, which)
    if agent.sink == SINK_RING:
        make_room_for(agent)
        if printed != 0:
            emit(agent, book, instrument, TRADE_EVENT, print_px, printed, 0, ref, FLAG_SELL if which == 1 else 0)
        tell_level(agent, book, instrument, which, px, shares_of(level), level.orders * 1, ref, end)
    return 1


@leaf
def apply_replace(agent, t, at, book, instrument, end):
    """U: an order leaves, and one with another reference, size and price joins the back of its level. Returns 1."""
    replace = record_at(at, order_replace_dtype)
    old, ref, qty, px = swap64(replace.orig_ref), swap64(replace.new_ref), swap32(replace.shares), swap32(replace.price)
    index = find_taken(agent, t, instrument, old, end)
    if index == 0:
        return 0
    order = row(t.orders, index, resting_dtype)
    mpid = order.mpid * 1
    level = row(t.levels, order.level, level_dtype)
    which, old_px = side_of(level), price_of(level)
    begin_write(book)
    top = remove_order(agent.engine, t, index)
    old_qty, old_orders = shares_of(level), level.orders * 1
    found = 0
    if valid(which, qty, px):
        found, new_top = enter(agent, t, book, instrument, which, ref, qty, px, mpid)
        top |= new_top
    else:
        refuse_field(agent, instrument, ORDER_REPLACE, 0)
    end_change(agent, book)
    if top != 0:
        tell_top(agent, t, book, instrument, which)
    if agent.sink == SINK_RING:
        make_room_for(agent)
        if found == 0 or old_px != px:
            tell_level(agent, book, instrument, which, old_px, old_qty, old_orders, old, end if found == 0 else 0)
        if found != 0:
            now = row(t.levels, found, level_dtype)
            tell_level(agent, book, instrument, which, px, shares_of(now), now.orders * 1, ref, end)
    return 1


@leaf
def apply_message(agent, t, listing, kinds, types, at, length, seq):
    """Apply one message of `length` bytes at address `at`, number `seq` of its session.

    t: Tables; listing, kinds, types: the agent's spans, lifted. Returns 1 when it changed a book, else 0. What it did is in the
    books, the counters, the events, and agent.touched (the instrument whose top may have changed).
    """
    kind = load8(at)
    rule = row(kinds, kind, kind_dtype)
    agent.touched = 0
    agent.wire_seq = seq
    if length != rule.length:
        refuse_length(agent, at, length)
        return 0
    count = row(types, kind, type_count_dtype)
    count.count += 1
    does = rule.does
    head = record_at(at, header_dtype)
    locate = swap16(head.locate)
    listed = row(listing, locate, listed_dtype)
    followed = listed.instrument * 1
    if followed == 0 or kind == STOCK_DIRECTORY:
        if rule.stock_at != 0 and locate != 0:
            followed = learn(agent, locate, load64(at + rule.stock_at))
    if followed <= 0 and (does & (DOES_ADD | DOES_TAKE) != 0 or locate != 0):
        record_at(agent.counters_at, feed_counters_dtype).skipped += 1
        return 0
    agent.ts_event = stamp(head)
    end = FLAG_END_OF_PACKET if followed > 0 and listed.last == seq & 0xFFFFFFFF else 0
    if does & (DOES_ADD | DOES_TAKE) == 0:
        apply_rare(agent, at, kind, does, max(followed - 1, -1), end)
        return 0
    instrument = followed - 1
    book = row(t.books, instrument, book_dtype)
    if does & DOES_TAKE == 0:
        return apply_add(agent, t, at, kind, book, instrument, end)
    if kind == ORDER_DELETE:
        return apply_delete(agent, t, at, book, instrument, end)
    if kind == ORDER_REPLACE:
        return apply_replace(agent, t, at, book, instrument, end)
    return apply_cut(agent, t, at, kind, book, instrument, end)


@leaf
def make_room_for(agent):
    """Make room for the most events one message can cause."""
    if agent.md.limit - agent.md.tail < 4:
        make_room(agent, 4)


@hot
def apply_run(agent, at, end, seq):
    """Apply the framed messages from address `at` up to `end`, numbered from `seq`; return how many they were.

    Framing: two bytes of length, big-endian, then the message. A message of length 0 is legal and empty. The caller has checked
    that the lengths add up.
    """
    apart()
    t = tables(agent.engine)
    listing, kinds, types = span(agent.listed), span(agent.kinds), span(agent.types)
    begun = seq
    updates = 0
    while at < end:
        pause = seq + STRETCH
        crowded = agent.engine.orders.used >= agent.crowded
        all_of_it = crowded and agent.used >= agent.many
        streams = crowded and end - at > LONG
        far, looked = at, 0
        while streams and looked < LOOKED:            # the looks start as far apart as they stay
            far = look_on(agent, far, end, looked, all_of_it)
            looked += 1
        if crowded and not streams:
            if end - at > SHORT:
                look_at_group(agent, at, end, all_of_it)
                pause = seq + GROUP
            else:
                fetch_few(agent, at, end)
        while at < end and seq < pause:
            if streams:
                far = look_on(agent, far, end, looked, all_of_it)
                looked += 1
            length = swap16(load16(at))
            if length != 0:
                updates += apply_message(agent, t, listing, kinds, types, at + 2, length, seq)
            at += 2 + length
            seq += 1
    count_run(agent, seq - begun, updates)
    return seq - begun


@hot
def apply_one(agent, at, seq):
    """Apply one framed message, as `apply_run` would, but without what a loop prepares for the messages that follow."""
    apart()
    t = tables(agent.engine)
    listing, kinds, types = span(agent.listed), span(agent.kinds), span(agent.types)
    length = swap16(load16(at))
    updates = 0
    if length + 2 >= SHORTEST and agent.engine.orders.used >= agent.crowded:
        fetch(agent, t, listing, at)
    if length != 0:
        updates = apply_message(agent, t, listing, kinds, types, at + 2, length, seq)
    count_run(agent, 1, updates)


@leaf
def apply_messages(agent, at, end, seq, count):
    """Apply `count` framed messages, whichever way is the shorter."""
    if count == 1:
        apply_one(agent, at, seq)
    else:
        apply_run(agent, at, end, seq)


@leaf
def count_run(agent, messages, updates):
    """Count what was applied, and what it left."""
    counters = record_at(agent.counters_at, feed_counters_dtype)
    counters.messages += messages
    counters.book_updates += updates
    counters.orders_live = agent.engine.orders.used
    counters.orders_peak = most_used(agent.engine.orders)
    counters.levels_live = agent.engine.levels.used
    counters.levels_peak = most_used(agent.engine.levels)


# ---------------------------------------------------------------- cold

STOCK_AT = {kind: layout.fields["stock"][1] for kind, layout in MESSAGES.items() if "stock" in layout.names}
"""Offset of the symbol in each type that has one."""

_DOES = {
    ADD_ORDER: DOES_ADD | DOES_EMIT,
    ADD_ORDER_MPID: DOES_ADD | DOES_EMIT,
    ORDER_REPLACE: DOES_ADD | DOES_TAKE | DOES_EMIT,
    ORDER_EXECUTED: DOES_TAKE | DOES_EMIT,
    ORDER_EXECUTED_PRICE: DOES_TAKE | DOES_EMIT,
    ORDER_CANCEL: DOES_TAKE | DOES_EMIT,
    ORDER_DELETE: DOES_TAKE | DOES_EMIT,
    **dict.fromkeys(
        (TRADE, CROSS_TRADE, BROKEN_TRADE, NOII, STOCK_DIRECTORY, TRADING_ACTION, OPERATIONAL_HALT, REG_SHO_RESTRICTION,
         PARTICIPANT_POSITION, IPO_QUOTING, LULD_COLLAR, RPII, DIRECT_LISTING), DOES_EMIT
    ),
}


def fill_kinds(table) -> None:
    """Fill the 256 kind_dtype rows of an agent."""
    for kind, layout in MESSAGES.items():
        table[kind]["length"] = layout.itemsize
        table[kind]["does"] = _DOES.get(kind, 0)
        table[kind]["stock_at"] = STOCK_AT.get(kind, 0)
