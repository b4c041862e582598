"""ITCH 5.0 into books and events: one function for every message, whether it came by packet or from a file.

`apply_run` walks messages framed by two bytes of length, which is how both MoldUDP64 and Nasdaq's files frame them, so there is one
compiled code path for live, replay and bench. The caller has checked that the framing adds up. While many orders are live, the
lines that later messages will need are fetched ahead, in three stages.

Order messages fall into two acts, in this order, and each act is compiled once:
    take   E C X D U    shares off an order, found by its reference; all of it for D and U
    add    A F U        an order to the back of its price level
then follow the events and the quote. Everything else is rare and lives in `apply_rare`.

A message that contradicts a book (unknown or double reference, more shares than are left) is counted, put in the error log, and
taints that book; what can be done safely is done: too large an execution takes what is left, a double reference leaves the first
order alone, a U whose new half is refused still takes the old one out. A message with a side, size or price that cannot be changes
nothing. A store that is full makes the book STALE: it is known to lack an order.

STATUS events: qty is the TradingState; ref holds the reason's four ASCII bytes as on the wire, then bit 32 for a short sale
restriction in force and bit 33 for an operational halt. SYSTEM events (also market-wide breakers): qty is the event code, or 'W'
with the level in ref; they carry instrument 0 and concern all.
"""

from hftd.core.jit import hot, leaf
from hftd.core.memory import load8, load16, load64, prefetch, record_at, row, span, swap16, swap32, swap64
from hftd.feed.apart import apart
from hftd.feed.book import (
    DUPLICATE,
    LEVELS_FULL,
    ORDERS_FULL,
    SLOT_BYTES,
    add_order,
    best,
    reduce_order,
    tables,
)
from hftd.feed.events import BOOK_STATE, LEVEL, emit, make_room, note, set_state, update_quote
from hftd.feed.memory import book_dtype, feed_counters_dtype, level_dtype, type_count_dtype
from hftd.feed.orders import find_order, head_dtype, resting_dtype, slot_of
from hftd.feed.state import (
    DOES_ADD,
    DOES_EMIT,
    DOES_TAKE,
    SINK_RING,
    kind_dtype,
    listed_dtype,
    standing_dtype,
)
from hftd.msg.enums import BookState, EventKind, LogCode, TradingState
from hftd.msg.records import (
    FLAG_END_OF_PACKET,
    FLAG_SELL,
    INSTRUMENT_ANNOUNCED,
    INSTRUMENT_SHORT_RESTRICTED,
    INSTRUMENT_TEST,
    instrument_dtype,
    quote_dtype,
)
from hftd.shm.seqlock import begin_write, end_write
from hftd.venues.nasdaq.itch50 import (
    ADD_ORDER,
    ADD_ORDER_MPID,
    BROKEN_TRADE,
    CROSS_TRADE,
    MESSAGES,
    MWCB_LEVELS,
    MWCB_STATUS,
    NOII,
    OPERATIONAL_HALT,
    ORDER_CANCEL,
    ORDER_DELETE,
    ORDER_EXECUTED,
    ORDER_EXECUTED_PRICE,
    ORDER_REPLACE,
    REG_SHO_RESTRICTION,
    STOCK_DIRECTORY,
    SYSTEM_EVENT,
    TRADE,
    TRADING_ACTION,
    add_order_dtype,
    broken_trade_dtype,
    cross_trade_dtype,
    mwcb_status_dtype,
    noii_dtype,
    operational_halt_dtype,
    order_cancel_dtype,
    order_executed_price_dtype,
    order_replace_dtype,
    reg_sho_restriction_dtype,
    stamp,
    stock_directory_dtype,
    trade_dtype,
    trading_action_dtype,
)

CROWDED = 1 << 16
"""Live orders from which on the store outgrows the cache, so that lines are asked for some messages ahead."""

STAGE = 8
"""Messages between the stages of looking ahead: slot, then order or book, then level or top of the side, then the message."""

RESTING_BYTES, BOOK_BYTES, LEVEL_BYTES = resting_dtype.itemsize, book_dtype.itemsize, level_dtype.itemsize
PX_MAX = 0x77359400
"""200,000.0000: the highest price ITCH 5.0 allows."""

SCALE = 10_000
TICK = 100
"""Price increment at and above one dollar, venue scale; below it is 1."""

BUY, SELL = ord("B"), ord("S")
YES, NO_TEST, THIS_MARKET = ord("Y"), ord("0"), ord("Q")
TEST_SYMBOL = ord("T")
CODE_TRADING, CODE_HALTED, CODE_PAUSED, CODE_QUOTE_ONLY = ord("T"), ord("H"), ord("P"), ord("Q")

TRADE_EVENT, HIDDEN, STATUS = int(EventKind.TRADE), int(EventKind.HIDDEN_TRADE), int(EventKind.STATUS)
SYSTEM, BROKEN, DIRECTORY = int(EventKind.SYSTEM), int(EventKind.BROKEN), int(EventKind.DIRECTORY)
IMBALANCE = int(EventKind.IMBALANCE)
STALE = int(BookState.STALE)
TRADING, HALTED, PAUSED, QUOTE_ONLY = (
    int(TradingState.TRADING), int(TradingState.HALTED), int(TradingState.PAUSED), int(TradingState.QUOTE_ONLY),
)  # fmt: skip
BOOK_TAINTED, CAPACITY, BAD_MESSAGE = int(LogCode.BOOK_TAINTED), int(LogCode.CAPACITY), int(LogCode.FEED_BAD_MESSAGE)

STATUS_SHORT, STATUS_OPERATIONAL = 1 << 32, 1 << 33

UNKNOWN_REF, DUPLICATE_REF, OVERFILL, CROSSED = 1, 2, 3, 4
"""Why a book is tainted: detail `b` of a BOOK_TAINTED error; `a` is the instrument."""


# ---------------------------------------------------------------- what goes wrong, out of the way of what goes right


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
    if end != 0:
        tell_state(agent, book, instrument, end)


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
    row(span(agent.engine.books), instrument, book_dtype).lacking = 1
    set_state(agent, instrument, STALE, 1)


@leaf
def tell_state(agent, book, instrument, end):
    """Publish the book's state, so that a refused message still ends its packet for the instrument."""
    if agent.sink == SINK_RING:
        make_room(agent, 1)
        emit(agent, book, instrument, BOOK_STATE, 0, book.state, 0, 0, end)


@hot
def refuse_length(agent, kind, length, known):
    """Count a message of an unknown type, or of a known type and another length."""
    apart()
    counters = record_at(agent.counters_at, feed_counters_dtype)
    if known == 0:
        counters.unknown_types += 1
    else:
        counters.bad_lengths += 1
        note(agent, BAD_MESSAGE, kind, length)


@hot
def note_crossed(agent, instrument, gap):
    """Count a book whose best bid stands above (gap > 0) or at (0) the best offer."""
    apart()
    counters = record_at(agent.counters_at, feed_counters_dtype)
    if gap == 0:
        counters.locked += 1
    else:
        counters.crossed += 1
    row(span(agent.engine.books), instrument, book_dtype).taints += 1
    note(agent, BOOK_TAINTED, instrument, CROSSED)


# ---------------------------------------------------------------- which instruments


@hot
def learn(agent, locate, stock):
    """Tie the venue's `locate` to the instrument of symbol `stock`; return its listing: index + 1, or -1 when it is not followed.

    With a chosen list only its symbols are followed; without, every symbol gets the next row until the table is full.
    """
    apart()
    instruments = span(agent.instruments)
    listed = row(span(agent.listed), locate, listed_dtype)
    found = -1
    for index in range(agent.used):
        if row(instruments, index, instrument_dtype).symbol == stock:
            found = index
            break
    if found < 0 and agent.chosen == 0:
        if agent.used < instruments.count:
            found = agent.used
            agent.used += 1
            instrument = row(instruments, found, instrument_dtype)
            instrument.symbol = stock
            instrument.tick = TICK
            instrument.scale = SCALE
            instrument.lot = 100
        else:
            record_at(agent.counters_at, feed_counters_dtype).instruments_full += 1
    if found < 0:
        listed.instrument = -1
        return -1
    instrument = row(instruments, found, instrument_dtype)
    if instrument.locate != locate and instrument.locate >= 0:
        row(span(agent.listed), instrument.locate, listed_dtype).instrument = -1
    instrument.locate = locate
    if instrument.flags & INSTRUMENT_ANNOUNCED == 0:
        instrument.flags |= INSTRUMENT_ANNOUNCED
        set_state(agent, found, agent.state, 1)
    listed.instrument = found + 1
    return found + 1


# ---------------------------------------------------------------- everything that does not touch a book


@leaf
def trading_state(code):
    """Return the TradingState of a trading action's code."""
    if code == CODE_TRADING:
        return TRADING
    if code == CODE_PAUSED:
        return PAUSED
    if code == CODE_QUOTE_ONLY:
        return QUOTE_ONLY
    return HALTED                                     # halted, or a code we do not know: not to be traded


@hot
def apply_rare(agent, at, kind, does, instrument, end):
    """Apply a message that touches no order. instrument: index, or -1 when it concerns none of ours."""
    apart()
    counters = record_at(agent.counters_at, feed_counters_dtype)
    event = px = qty = ref = orders = flags = 0
    about = max(instrument, 0)
    if kind == SYSTEM_EVENT:
        event, qty = SYSTEM, load8(at + 11)
    elif kind == MWCB_STATUS:
        counters.breakers += 1
        breach = record_at(at, mwcb_status_dtype)
        event, qty, ref = SYSTEM, MWCB_STATUS, breach.breached_level
    elif kind == MWCB_LEVELS:
        counters.breakers += 1
    elif instrument < 0 or does & DOES_EMIT == 0:
        counters.notices += 1
    elif kind == TRADE or kind == CROSS_TRADE:
        if kind == TRADE:
            trade = record_at(at, trade_dtype)
            px, qty, ref = swap32(trade.price), swap32(trade.shares), swap64(trade.match)
            flags = FLAG_SELL if trade.side == SELL else 0
        else:
            cross = record_at(at, cross_trade_dtype)
            px, qty, ref = swap32(cross.price), swap64(cross.shares), swap64(cross.match)
        event = HIDDEN
        if qty < 0 or qty > 1 << 40:
            refuse_field(agent, instrument, kind, end)
            return
        counters.hidden_trades += 1
        counters.hidden_volume += qty
        counters.volume += qty
        quote = row(span(agent.quotes), instrument, quote_dtype)
        if qty > 0:
            begin_write(quote)
            quote.last_px = px
            quote.last_qty = qty
            quote.volume += qty
            quote.ts_event = agent.ts_event
            quote.ts_recv = agent.ts_recv
            end_write(quote)
    elif kind == BROKEN_TRADE:
        counters.broken += 1
        event, ref = BROKEN, swap64(record_at(at, broken_trade_dtype).match)
    elif kind == NOII:
        counters.imbalances += 1
        noii = record_at(at, noii_dtype)
        event, px, qty, ref = IMBALANCE, swap32(noii.near_price), swap64(noii.paired_shares), swap64(noii.imbalance_shares)
        if noii.imbalance_direction == SELL:
            flags, ref = FLAG_SELL, -ref
    elif kind == STOCK_DIRECTORY:
        counters.directory += 1
        directory = record_at(at, stock_directory_dtype)
        row_of = row(span(agent.instruments), instrument, instrument_dtype)
        lot = swap32(directory.round_lot_size)
        row_of.lot = lot if lot > 0 else 100
        if directory.authenticity == TEST_SYMBOL:
            row_of.flags |= INSTRUMENT_TEST
        event, qty, ref = DIRECTORY, row_of.locate, row_of.lot
    else:                                             # H, h, Y: what may be done with the instrument
        counters.status_changes += 1
        standing = row(span(agent.standings), instrument, standing_dtype)
        row_of = row(span(agent.instruments), instrument, instrument_dtype)
        if kind == TRADING_ACTION:
            action = record_at(at, trading_action_dtype)
            standing.trading = trading_state(action.trading_state)
            standing.reason = action.reason
        elif kind == OPERATIONAL_HALT:
            halt = record_at(at, operational_halt_dtype)
            if halt.market_code == THIS_MARKET:
                standing.halted = 1 if halt.operational_halt_action == CODE_HALTED else 0
        elif record_at(at, reg_sho_restriction_dtype).reg_sho_action == NO_TEST:
            row_of.flags &= ~INSTRUMENT_SHORT_RESTRICTED
        else:
            row_of.flags |= INSTRUMENT_SHORT_RESTRICTED
        event, qty, ref = STATUS, standing.trading, standing.reason
        if standing.halted != 0:
            qty = HALTED
            ref |= STATUS_OPERATIONAL
        if row_of.flags & INSTRUMENT_SHORT_RESTRICTED != 0:
            ref |= STATUS_SHORT
        quote = row(span(agent.quotes), instrument, quote_dtype)
        begin_write(quote)
        quote.trading = qty
        end_write(quote)
    if event != 0 and agent.sink == SINK_RING:
        make_room(agent, 1)
        emit(agent, row(span(agent.engine.books), about, book_dtype), about, event, px, qty, orders, ref, flags | end)


# ---------------------------------------------------------------- orders


@leaf
def apply_message(agent, t, listing, kinds, types, at, length, seq):
    """Apply one message of `length` bytes at address `at`, number `seq` of its session.

    t: Tables; listing, kinds, types: the agent's spans, lifted. Returns 1 when it changed a book, else 0. What it did is in the
    books, the counters, the events, and agent.touched (the instrument whose top may have changed).
    """
    kind = load8(at)
    rule = row(kinds, kind, kind_dtype)
    agent.touched = 0
    if length != rule.length:
        refuse_length(agent, kind, length, rule.length)
        return 0
    count = row(types, kind, type_count_dtype)
    count.count += 1
    does = rule.does
    head = record_at(at, add_order_dtype)
    locate = swap16(head.locate)
    listed = row(listing, locate, listed_dtype)
    followed = listed.instrument
    if followed == 0 or kind == STOCK_DIRECTORY:
        if rule.stock_at != 0 and locate != 0:
            followed = learn(agent, locate, load64(at + rule.stock_at))
    instrument = followed - 1
    if does & (DOES_ADD | DOES_TAKE) == 0:
        if followed > 0 or locate == 0:
            agent.ts_event = stamp(head)
            agent.wire_seq = seq
            last = followed > 0 and listed.last == seq & 0xFFFFFFFF
            apply_rare(agent, at, kind, does, max(instrument, -1), FLAG_END_OF_PACKET if last else 0)
        else:
            record_at(agent.counters_at, feed_counters_dtype).skipped += 1
        return 0
    if followed <= 0:
        record_at(agent.counters_at, feed_counters_dtype).skipped += 1
        return 0

    agent.ts_event = stamp(head)
    agent.wire_seq = seq
    end = FLAG_END_OF_PACKET if listed.last == seq & 0xFFFFFFFF else 0
    book = row(t.books, instrument, book_dtype)
    ref = swap64(head.ref)
    which = px = top = print_qty = 0
    taken_px = taken_qty = taken_orders = taken = 0

    if does & DOES_TAKE != 0:
        index = find_order(t, ref)
        if index == 0:
            taint(agent, instrument, UNKNOWN_REF, end)
            return 0
        order = row(t.orders, index, resting_dtype)
        level = row(t.levels, order.level, level_dtype)
        if level.instrument != instrument:
            taint(agent, instrument, UNKNOWN_REF, end)
            return 0
        which = level.side
        taken_px = -level.px if which != 0 else level.px
        amount = order.qty
        if kind != ORDER_DELETE and kind != ORDER_REPLACE:
            asked = swap32(record_at(at, order_cancel_dtype).shares)
            if asked == 0:
                refuse_field(agent, instrument, kind, end)
                return 0
            if kind != ORDER_CANCEL:
                print_qty, px = asked, taken_px
            if asked > amount:
                taint(agent, instrument, OVERFILL, 0)
            else:
                amount = asked
        begin_write(book)
        top = reduce_order(agent.engine, t, index, amount)
        taken = 1
        taken_qty = level.qty
        taken_orders = level.orders
    else:
        begin_write(book)

    added = 0
    added_px = 0
    if does & DOES_ADD != 0:
        if kind == ORDER_REPLACE:
            replace = record_at(at, order_replace_dtype)
            ref, qty, added_px = swap64(replace.new_ref), swap32(replace.shares), swap32(replace.price)
        else:
            qty, added_px = swap32(head.shares), swap32(head.price)
            which = 0 if head.side == BUY else 1 if head.side == SELL else 2
        if qty == 0 or added_px == 0 or added_px > PX_MAX or which > 1:
            refuse_field(agent, instrument, kind, 0)
        else:
            added, best_now = add_order(agent.engine, t, instrument, which, ref, qty, added_px)
            if added < 0:
                refuse_order(agent, instrument, added)
                added = 0
            elif best_now != 0:
                top = 1
                other = best(t, book.sides[1 - which])
                if other != 0:
                    gap = row(t.levels, added, level_dtype).px + row(t.levels, other, level_dtype).px
                    if gap >= 0:
                        note_crossed(agent, instrument, gap)
    book.wire_seq = seq
    end_write(book)
    changed = 1 if taken + added != 0 else 0

    counters = record_at(agent.counters_at, feed_counters_dtype)
    if print_qty != 0:
        if kind == ORDER_EXECUTED_PRICE:
            executed = record_at(at, order_executed_price_dtype)
            if executed.printable == YES:
                px = swap32(executed.price)
            else:
                print_qty = 0
                counters.non_printable += 1
        if print_qty != 0:
            counters.trades += 1
            counters.volume += print_qty
    if top + print_qty > 0:
        quote = row(span(agent.quotes), instrument, quote_dtype)
        begin_write(quote)
        update_quote(agent, t, book, which, quote)
        if print_qty != 0:
            quote.last_px = px
            quote.last_qty = print_qty
            quote.volume += print_qty
        end_write(quote)
        agent.touched = followed
    if agent.sink == SINK_RING:
        side = FLAG_SELL if which == 1 else 0
        taken_end = end if added == 0 else 0
        make_room_for(agent)
        if added != 0 and taken != 0 and taken_px == added_px:
            taken = 0
        if print_qty != 0:
            emit(agent, book, instrument, TRADE_EVENT, px, print_qty, 0, ref, side)
        if taken != 0:
            emit(agent, book, instrument, LEVEL, taken_px, taken_qty, taken_orders, swap64(head.ref), side | taken_end)
        if added != 0:
            level = row(t.levels, added, level_dtype)
            emit(agent, book, instrument, LEVEL, added_px, level.qty, level.orders, ref, side | end)
        elif taken == 0 and end != 0:
            emit(agent, book, instrument, BOOK_STATE, 0, book.state, 0, 0, end)
    return changed


@leaf
def make_room_for(agent):
    """Make room for the most events one message can cause."""
    if agent.md.limit - agent.md.tail < 4:
        make_room(agent, 4)


@leaf
def look_up(t, kinds, at, end):
    """Fetch the slot of the reference that the message framed at `at` takes from, or adds; return where the next one is."""
    if at >= end:
        return end
    if at + 21 <= end and row(kinds, load8(at + 2), kind_dtype).does & (DOES_ADD | DOES_TAKE) != 0:
        prefetch(t.heads.base + 4 * slot_of(swap64(load64(at + 13)), t.mask))
    return at + 2 + swap16(load16(at))


@leaf
def look_into(t, listing, kinds, at, end):
    """Fetch the order a message takes from, or the book it adds to."""
    if at >= end:
        return end
    if at + 21 <= end:
        does = row(kinds, load8(at + 2), kind_dtype).does
        if does & DOES_TAKE != 0:
            index = row(t.heads, slot_of(swap64(load64(at + 13)), t.mask), head_dtype).order
            prefetch(t.orders.base + index * RESTING_BYTES)
        if does & DOES_ADD != 0:
            prefetch(t.books.base + max(row(listing, swap16(load16(at + 3)), listed_dtype).instrument - 1, 0) * BOOK_BYTES)
    return at + 2 + swap16(load16(at))


@leaf
def look_around(t, listing, kinds, at, end):
    """Fetch the level a message takes from, or the top of the side it adds to."""
    if at >= end:
        return end
    if at + 22 <= end:
        does = row(kinds, load8(at + 2), kind_dtype).does
        if does & DOES_TAKE != 0:
            index = row(t.heads, slot_of(swap64(load64(at + 13)), t.mask), head_dtype).order
            prefetch(t.levels.base + row(t.orders, index, resting_dtype).level * LEVEL_BYTES)
        if does & DOES_ADD != 0:
            book = row(t.books, max(row(listing, swap16(load16(at + 3)), listed_dtype).instrument - 1, 0), book_dtype)
            side = book.sides[1 if load8(at + 21) == SELL else 0]
            top = max(side.start + side.count - 1, 0)
            prefetch(t.slots.base + top * SLOT_BYTES)
            prefetch(t.slots.base + max(top - 6, 0) * SLOT_BYTES)
    return at + 2 + swap16(load16(at))


@hot
def apply_run(agent, at, end, seq):
    """Apply the framed messages from address `at` up to `end`, numbered from `seq`; return how many they were.

    Framing: two bytes of length, big-endian, then the message. A message of length 0 is legal and empty. The caller has checked
    that the lengths add up.
    """
    apart()
    t = tables(agent.engine)
    listing, kinds, types = span(agent.listed), span(agent.kinds), span(agent.types)
    first = seq
    updates = 0
    far = middle = near = end if agent.engine.orders.used < CROWDED else at
    if far < end:                                     # the three start as far apart as they stay
        for _ in range(STAGE):
            far = look_up(t, kinds, far, end)
        for _ in range(STAGE):
            middle = look_into(t, listing, kinds, middle, end)
            far = look_up(t, kinds, far, end)
    while at < end:
        if near < end:
            far = look_up(t, kinds, far, end)
            middle = look_into(t, listing, kinds, middle, end)
            near = look_around(t, listing, kinds, near, end)
        length = swap16(load16(at))
        if length != 0:
            updates += apply_message(agent, t, listing, kinds, types, at + 2, length, seq)
        at += 2 + length
        seq += 1
    counters = record_at(agent.counters_at, feed_counters_dtype)
    counters.messages += seq - first
    counters.book_updates += updates
    counters.orders_live = agent.engine.orders.used
    counters.orders_peak = agent.engine.orders.peak
    counters.levels_live = agent.engine.levels.used
    counters.levels_peak = agent.engine.levels.peak
    return seq - first


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
        (TRADE, CROSS_TRADE, BROKEN_TRADE, NOII, STOCK_DIRECTORY, TRADING_ACTION, OPERATIONAL_HALT, REG_SHO_RESTRICTION), DOES_EMIT
    ),
}


def fill_kinds(table) -> None:
    """Fill the 256 kind_dtype rows of an agent."""
    for kind, layout in MESSAGES.items():
        table[kind]["length"] = layout.itemsize
        table[kind]["does"] = _DOES.get(kind, 0)
        table[kind]["stock_at"] = STOCK_AT.get(kind, 0)
