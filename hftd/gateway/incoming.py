"""From the wire to the order table, the positions and the report ring.

    bytes -> whole packets -> venue event -> the order's row -> what it means (order_state.py) -> position row -> reports

One sequenced message is applied whole or, after a crash in its middle, applied again from where it began: the images of every row
it may touch are kept before (`begin`), and reports already published are not published twice. A message is not taken from the
buffer while the report ring has no room: the venue waits in the socket, and a consumer that stays too slow is given up.

A fill is booked by match number, once. Followers of an order that ends without having been replaced end with it, and are
reported before it, so that to a reader the original was still open when its replacement failed.
"""

from hftd.core.atomics import fence_release, store_relaxed, tsc
from hftd.core.jit import hot, leaf
from hftd.core.layout import offset_of
from hftd.core.memory import address_of, copy_bytes, load32, record_at, row, span, store32
from hftd.gateway import venue
from hftd.gateway.earlier import book_earlier, booked_already, count_earlier, doubt, find_earlier, keep_earlier
from hftd.gateway.memory import (
    FILL_BROKEN,
    FILL_FOREIGN,
    FILL_FOREIGN_BROKEN,
    FILL_GOOD,
    LINK_DOWN,
    LINK_REPLAY,
    UNDO_ROWS,
    earlier_dtype,
    fill_dtype,
    gateway_counters_dtype,
    order_row_dtype,
    session_dtype,
)
from hftd.gateway.order_state import (
    CONTRADICTION,
    MARK_ACCEPTED,
    MARK_CANCEL_SENT,
    MARK_FOREIGN,
    MARK_REPLACE_SENT,
    MARK_UNKNOWN,
    PENDING_NEW,
    REJECTED,
    REPEAT,
    SAY_CANCEL_PENDING,
    SAY_CANCELED,
    SAY_FILL,
    SAY_MODIFIED,
    SAY_NEW,
    SAY_REJECTED,
    SAY_REPLACED,
    SAY_RESTATED,
    accept,
    cancel,
    cancel_rejected,
    execute,
    finish,
    is_open,
    lose,
    modify,
    reject,
    replace,
    unmark,
)
from hftd.gateway.order_table import (
    close_order,
    enter_fill,
    enter_id,
    enter_ref,
    find_fill,
    find_id,
    find_ref,
    link_open,
    recount,
    take_order,
    want_cancel,
)
from hftd.gateway.outgoing import sweep, time_value
from hftd.gateway.reports import count_fill, note, report, report_order, room_for_reports
from hftd.msg.enums import DenyReason, ExecType, LogCode, Reason
from hftd.msg.records import REPORT_REMOVED, position_dtype
from hftd.shm.ring import detach_slowest, publish
from hftd.venues.nasdaq.ouch_decode import decode_message, id_of_wire_text
from hftd.venues.nasdaq.soup_link import MALFORMED, NONE, next_packet, receive_bytes, unread_packet
from hftd.venues.nasdaq.soupbintcp import DEBUG, END_OF_SESSION, SEQUENCED, SERVER_HEARTBEAT

PACKETS = 64
"""Most packets applied in one turn."""

_ACCEPTED, _REPLACED, _CANCELED, _EXECUTED = venue.ACCEPTED, venue.REPLACED, venue.CANCELED, venue.EXECUTED
_BROKEN, _REJECTED, _PENDING, _CANCEL_REJECTED = venue.BROKEN, venue.REJECTED, venue.CANCEL_PENDING, venue.CANCEL_REJECTED
_REPRICED, _MODIFIED, _RESTATED, _NEXT_REF = venue.REPRICED, venue.MODIFIED, venue.RESTATED, venue.NEXT_REF
_SYSTEM, _MASS_CANCEL, _DISABLED, _ENABLED = venue.SYSTEM, venue.MASS_CANCEL, venue.DISABLED, venue.ENABLED
_UNKNOWN_TYPE, _SHORT, _NOTHING = venue.UNKNOWN_TYPE, venue.SHORT, venue.NOTHING
_SAY_REPLACE_REJECTED, _SAY_BROKEN, _SAY_UNKNOWN, _SAY_DENIED = (int(ExecType[n]) for n in (
    "REPLACE_REJECTED", "BROKEN", "UNKNOWN", "DENIED"))  # fmt: skip
_BAD_MESSAGE, _ORDER_REJECTED, _DETACHED = (int(LogCode[n]) for n in (
    "VENUE_BAD_MESSAGE", "ORDER_REJECTED", "CONSUMER_DETACHED"))  # fmt: skip
_RECONNECT, _SESSION_END, _LOGIN = int(Reason.RECONNECT), int(Reason.SESSION_END), int(Reason.LOGIN)
_SESSION_DOWN = int(DenyReason.SESSION_DOWN)
_ROW, _POSITION, _EARLIER = order_row_dtype.itemsize, position_dtype.itemsize, earlier_dtype.itemsize
_UNDO_ROWS_AT = offset_of(session_dtype, "undo_rows")
_FOREIGN_INSTRUMENT = 0xFFFF


# ---------------------------------------------------------------- one message, whole


@leaf
def keep_position(agent, instrument):
    """Keep the image of a position row, in the place of the one that may be kept already."""
    session = record_at(agent.session_at, session_dtype)
    session.undo_instrument = -1
    fence_release()
    if instrument < span(agent.table.positions).count:
        copy_bytes(agent.undo_position_at, agent.table.positions.base + instrument * _POSITION, _POSITION)
        fence_release()
        session.undo_instrument = instrument


@leaf
def begin(agent, index):
    """Keep the images of every row that a message about row `index` may change."""
    session, rows, undo = record_at(agent.session_at, session_dtype), span(agent.table.rows), span(agent.undo)
    session.undo_tail = agent.reports.tail - agent.skip_reports
    session.undo_fills = session.fills_next
    session.undo_broken = 0
    order = row(rows, index, order_row_dtype)
    if order.prev != 0:
        index = order.prev * 1
    if order.marks & MARK_FOREIGN and order.count != 0:
        keep_earlier(agent, order.count - 1)
    else:
        keep_position(agent, order.instrument * 1)
    for i in range(UNDO_ROWS):
        store32(agent.session_at + _UNDO_ROWS_AT + 4 * i, index)
        if index != 0:
            order = row(rows, index, order_row_dtype)
            copy_bytes(undo.base + i * _ROW, address_of(order), _ROW)
            index = order.follow * 1
    fence_release()
    store_relaxed(session, "undo_seq", session.next_seq)
    fence_release()


@hot
def undo_half(agent):
    """Take back what a predecessor had applied of one message when it died; that message will come again.

    Returns 1 where something was taken back. Call before the indexes are rebuilt, and before anything is reported: what was told
    of the message is kept in the session, since we may die as well before it has come again.
    """
    session, rows, undo = record_at(agent.session_at, session_dtype), span(agent.table.rows), span(agent.undo)
    fills = span(agent.table.fills)
    if session.undo_seq == 0 or session.undo_seq != session.next_seq:
        session.undo_seq = 0
        if session.told_seq == session.next_seq:
            agent.skip_next = session.told
        return 0
    for i in range(UNDO_ROWS):
        index = load32(agent.session_at + _UNDO_ROWS_AT + 4 * i)
        if index > 0 and index < rows.count:
            copy_bytes(rows.base + index * _ROW, undo.base + i * _ROW, _ROW)
    positions = span(agent.table.positions).count
    if session.undo_instrument >= positions:
        copy_bytes(agent.earlier.base + (session.undo_instrument - positions) * _EARLIER, agent.undo_position_at, _EARLIER)
    elif session.undo_instrument >= 0:
        copy_bytes(agent.table.positions.base + session.undo_instrument * _POSITION, agent.undo_position_at, _POSITION)
    if session.undo_broken > 0:
        fill = row(fills, session.undo_broken - 1, fill_dtype)
        fill.state = FILL_FOREIGN if fill.state == FILL_FOREIGN or fill.state == FILL_FOREIGN_BROKEN else FILL_GOOD
    row(fills, session.undo_fills & (fills.count - 1), fill_dtype).state = 0
    session.fills_next = session.undo_fills
    agent.skip_next = max(agent.reports.tail - session.undo_tail, 0)
    session.told, session.told_seq = agent.skip_next, session.next_seq
    fence_release()
    session.undo_seq = 0
    return 1


# ---------------------------------------------------------------- what each message does


@hot
def fail_followers(agent, order, ts_event, stamp):
    """End the pending replacements of an order that ends, or that stays while they fail: none of them can come about any more."""
    rows = span(agent.table.rows)
    counters = record_at(agent.counters_at, gateway_counters_dtype)
    index = order.follow * 1
    before = order.cl_ord_id & 0xFFFFFFFF
    order.follow = 0
    while index != 0:
        failed = row(rows, index, order_row_dtype)
        after = failed.follow * 1
        failed.follow = 0
        if is_open(failed):
            finish(failed, REJECTED)
            counters.replaces_lost += 1
            report_order(agent, failed, _SAY_REPLACE_REJECTED, failed.qty * 1, 0, before, ts_event, stamp)
            recount(agent.table, index)
            close_order(agent.table, index)
        before = failed.cl_ord_id & 0xFFFFFFFF
        index = after


@leaf
def contradiction(agent, event, code, now):
    """Count and note a message that does not fit."""
    record_at(agent.counters_at, gateway_counters_dtype).contradictions += 1
    note(agent, _BAD_MESSAGE, 100 + code, event.user_ref, now)


@leaf
def answered(agent, order, stamp):
    """Stamp the first answer to an order, and count how long it took."""
    if order.ts_answer == 0:
        order.ts_answer = stamp
        if order.ts_sent > 0 and stamp > order.ts_sent:
            time_value(agent, 6, stamp - order.ts_sent)


@hot
def adopt(agent, event):
    """Take an order of an earlier instance, found in the venue's replay, into the table: to be cancelled. Returns its row or 0."""
    table = agent.table
    session, counters = record_at(agent.session_at, session_dtype), record_at(agent.counters_at, gateway_counters_dtype)
    index = take_order(table)
    counters.foreign_orders += 1
    if index == 0:
        counters.table_full += 1
        return 0
    order = row(span(table.rows), index, order_row_dtype)
    named = id_of_wire_text(event.id_text)
    order.cl_ord_id = named if named != 0 and find_id(table, named) == 0 else 0
    order.user_ref = event.user_ref
    order.qty, order.leaves, order.px = event.qty, event.qty, event.px
    order.instrument, order.strategy, order.side = _FOREIGN_INSTRUMENT, 0xFFFF, event.sell
    order.tif, order.rules = 0, 0
    order.marks = MARK_FOREIGN
    if not booked_already(agent):
        order.count = find_earlier(agent, event.symbol)
    order.status = PENDING_NEW
    if order.cl_ord_id != 0:
        enter_id(table, index, order)
    enter_ref(table, index, event.user_ref)
    link_open(table, index, order)
    if order.count != 0:
        count_earlier(agent, order.count - 1)
    session.foreign_open += 1
    return index


@hot
def on_accepted(agent, event, index, stamp):
    """A: the venue has the order."""
    order = row(span(agent.table.rows), index, order_row_dtype)
    counters = record_at(agent.counters_at, gateway_counters_dtype)
    say = accept(order, event.qty, event.px, event.venue_id, event.dead)
    if say == REPEAT:
        counters.repeats += 1
        return
    if say == CONTRADICTION:
        contradiction(agent, event, _ACCEPTED, stamp)
        return
    answered(agent, order, stamp)
    if not order.marks & MARK_FOREIGN:
        counters.accepted += 1
        row(span(agent.table.positions), order.instrument * 1, position_dtype).orders += 1
        report(agent, SAY_NEW, order.cl_ord_id, order.instrument * 1, order.side * 1, order.px, event.qty, event.qty,
               event.venue_id, 0, 0, event.ts_event, stamp)  # fmt: skip
    if not is_open(order):
        fail_followers(agent, order, event.ts_event, stamp)
        report_order(agent, order, SAY_CANCELED, event.qty, 0, 0, event.ts_event, stamp)
        close_order(agent.table, index)
    recount(agent.table, index)


@hot
def on_executed(agent, event, index, stamp):
    """E: shares traded. Counted once by match number, whatever state the order is in."""
    table = agent.table
    order = row(span(table.rows), index, order_row_dtype)
    counters = record_at(agent.counters_at, gateway_counters_dtype)
    if find_fill(table, event.venue_id, event.user_ref) != 0:
        counters.repeats += 1
        return
    before = is_open(order)
    if before and event.qty > order.leaves:
        contradiction(agent, event, _EXECUTED, stamp)
    execute(order, event.qty)
    answered(agent, order, stamp)
    if order.marks & MARK_FOREIGN:
        enter_fill(table, event.venue_id, order, event.px, event.qty, event.ts_event, FILL_FOREIGN)
        counters.foreign_fills += 1
        if order.count > 0:
            book_earlier(agent, order.count - 1, order.side * 1, event.px, event.qty, 1)
        else:
            doubt(agent)  # only counts where it is new: a repeat has no row on purpose
    else:
        enter_fill(table, event.venue_id, order, event.px, event.qty, event.ts_event, FILL_GOOD)
        count_fill(agent, order.instrument * 1, order.side * 1, event.px, event.qty, 1)
        counters.fills += 1
        counters.filled_qty += event.qty
        counters.late_fills += 0 if before else 1
        if before and not is_open(order):
            fail_followers(agent, order, event.ts_event, stamp)
        report(agent, SAY_FILL, order.cl_ord_id, order.instrument * 1, order.side * 1, event.px, event.qty, order.leaves * 1,
               event.venue_id, 0, REPORT_REMOVED if event.removed else 0, event.ts_event, stamp)  # fmt: skip
    recount(table, index)
    if before and not is_open(order):
        close_order(table, index)


@hot
def on_canceled(agent, event, index, stamp):
    """C, D (self-match), M: shares left the order, or the venue changed what is open."""
    table = agent.table
    order = row(span(table.rows), index, order_row_dtype)
    if event.kind == _CANCELED:
        record_at(agent.counters_at, gateway_counters_dtype).canceled += 1
        say = cancel(order, event.qty)
        order.reason = event.reason
    else:
        say = modify(order, event.qty)
    if say == CONTRADICTION:
        contradiction(agent, event, event.kind, stamp)
        return
    answered(agent, order, stamp)
    if not is_open(order):
        fail_followers(agent, order, event.ts_event, stamp)
    report_order(agent, order, say, event.qty, event.reason if say == SAY_CANCELED else order.venue_id, 0, event.ts_event, stamp)
    recount(table, index)
    if not is_open(order):
        close_order(table, index)


@hot
def on_replaced(agent, event, index, stamp):
    """U: the replacement took its original's place."""
    table = agent.table
    rows = span(table.rows)
    counters = record_at(agent.counters_at, gateway_counters_dtype)
    order = row(rows, index, order_row_dtype)
    first = find_ref(table, event.orig_ref)
    if first == 0:
        if order.marks & MARK_FOREIGN and accept(order, event.qty, event.px, event.venue_id, event.dead) > 0:
            if not is_open(order):
                close_order(table, index)
            return
        contradiction(agent, event, _REPLACED, stamp)
        return
    original = row(rows, first, order_row_dtype)
    say = replace(original, order, event.qty, event.px, event.venue_id, event.dead)
    if say == REPEAT:
        counters.repeats += 1
        return
    if say == CONTRADICTION:
        contradiction(agent, event, _REPLACED, stamp)
        return
    answered(agent, order, stamp)
    original.follow, order.prev = 0, 0
    if not order.marks & MARK_FOREIGN:
        counters.replaced += 1
        row(span(table.positions), order.instrument * 1, position_dtype).orders += 1
        report(agent, SAY_REPLACED, order.cl_ord_id, order.instrument * 1, order.side * 1, order.px, order.qty * 1, event.qty,
               event.venue_id, original.cl_ord_id & 0xFFFFFFFF, 0, event.ts_event, stamp)  # fmt: skip
    recount(table, first)
    close_order(table, first)
    if not is_open(order):
        fail_followers(agent, order, event.ts_event, stamp)
        report_order(agent, order, SAY_CANCELED, event.qty, 0, 0, event.ts_event, stamp)
        close_order(table, index)
    recount(table, index)


@hot
def on_rejected(agent, event, index, stamp):
    """J: the venue refused an order, or a replacement: then the original goes on."""
    table = agent.table
    rows = span(table.rows)
    counters = record_at(agent.counters_at, gateway_counters_dtype)
    order = row(rows, index, order_row_dtype)
    if reject(order) == CONTRADICTION:
        contradiction(agent, event, _REJECTED, stamp)
        return
    answered(agent, order, stamp)
    order.reason = event.reason
    counters.rejected += 1
    note(agent, _ORDER_REJECTED, event.reason, order.cl_ord_id, stamp)
    fail_followers(agent, order, event.ts_event, stamp)
    if order.prev != 0:
        first = order.prev * 1
        original = row(rows, first, order_row_dtype)
        original.follow = 0
        unmark(original, MARK_REPLACE_SENT)
        report_order(agent, order, _SAY_REPLACE_REJECTED, order.qty * 1, event.reason, original.cl_ord_id & 0xFFFFFFFF,
                     event.ts_event, stamp)  # fmt: skip
        recount(table, first)
    else:
        report_order(agent, order, SAY_REJECTED, order.qty * 1, event.reason, 0, event.ts_event, stamp)
    recount(table, index)
    close_order(table, index)


@hot
def on_broken(agent, event, index, stamp):
    """B: an execution is void."""
    table = agent.table
    counters = record_at(agent.counters_at, gateway_counters_dtype)
    found = find_fill(table, event.venue_id, event.user_ref)
    if found == 0:
        contradiction(agent, event, _BROKEN, stamp)
        counters.broken_unknown += 1
        doubt(agent)
        return
    fill = row(span(table.fills), found - 1, fill_dtype)
    if fill.state == FILL_FOREIGN:
        counters.foreign_broken += 1
        if fill.earlier != 0:
            keep_earlier(agent, fill.earlier - 1)
        record_at(agent.session_at, session_dtype).undo_broken = found
        fence_release()
        fill.state = FILL_FOREIGN_BROKEN
        if fill.earlier != 0:
            book_earlier(agent, fill.earlier - 1, fill.side * 1, fill.px, fill.qty * 1, -1)
        else:
            doubt(agent)
        return
    if fill.state != FILL_GOOD:
        counters.repeats += 1
        return
    keep_position(agent, fill.instrument * 1)
    record_at(agent.session_at, session_dtype).undo_broken = found
    fence_release()
    fill.state = FILL_BROKEN
    counters.broken += 1
    count_fill(agent, fill.instrument * 1, fill.side * 1, fill.px, fill.qty * 1, -1)
    leaves = 0
    if index != 0:
        leaves = row(span(table.rows), index, order_row_dtype).leaves * 1
    report(agent, _SAY_BROKEN, fill.cl_ord_id, fill.instrument * 1, fill.side * 1, fill.px, fill.qty * 1, leaves,
           event.venue_id, 0, 0, event.ts_event, stamp)  # fmt: skip


@hot
def on_other(agent, event, index, stamp):
    """P, I, T, R: the order's terms or the fate of a cancel."""
    order = row(span(agent.table.rows), index, order_row_dtype)
    if not is_open(order):
        contradiction(agent, event, event.kind, stamp)
        return
    say = SAY_RESTATED
    if event.kind == _PENDING:
        say = SAY_CANCEL_PENDING
    elif event.kind == _CANCEL_REJECTED:
        say = cancel_rejected(order)
    else:
        if event.kind == _REPRICED:
            order.px = event.px
        if event.venue_id != 0:
            order.venue_id = event.venue_id
    report_order(agent, order, say, order.qty * 1, order.venue_id if say == SAY_RESTATED else 0, 0, event.ts_event, stamp)
    recount(agent.table, index)


@hot
def on_odd(agent, event, kind, size, stamp):
    """What is not about one of our orders: order entry on or off, unknown orders, unknown or short messages."""
    counters, session = record_at(agent.counters_at, gateway_counters_dtype), record_at(agent.session_at, session_dtype)
    code, detail = 0, event.user_ref
    if kind == _DISABLED or kind == _ENABLED:
        session.disabled = 1 if kind == _DISABLED else 0
        code = 300 + kind
    elif kind > 0 and kind < _NEXT_REF:
        counters.unknown_refs += 1
        if kind == _EXECUTED:
            counters.orphan_fills += 1
            doubt(agent)
        code = 200 + kind
    elif kind == _SHORT or kind == _NOTHING:
        counters.short_messages += 1
        code, detail = 1, size
    elif kind == _UNKNOWN_TYPE:
        counters.unknown_types += 1
        code, detail = 2, size
    if code != 0:
        note(agent, _BAD_MESSAGE, code, detail, stamp)


@leaf
def apply_message(agent, at, size, stamp):
    """Apply one sequenced message of `size` bytes at address `at`. Returns 0, or a negative Reason."""
    counters, session = record_at(agent.counters_at, gateway_counters_dtype), record_at(agent.session_at, session_dtype)
    event = agent.event
    kind = decode_message(at, size, event)
    result, index = 0, 0
    counters.messages += 1
    agent.skip_reports = agent.skip_next
    agent.skip_next = 0
    if kind > 0 and kind < _NEXT_REF:
        index = find_ref(agent.table, event.user_ref)
        if index == 0 and session.state == LINK_REPLAY and (kind == _ACCEPTED or kind == _REPLACED):
            index = adopt(agent, event)
        if index != 0 or kind == _BROKEN:
            begin(agent, index)
        if index != 0:
            row(span(agent.table.rows), index, order_row_dtype).ts_event = event.ts_event
    if kind == _BROKEN:
        on_broken(agent, event, index, stamp)
    elif index != 0 and kind == _EXECUTED:
        on_executed(agent, event, index, stamp)
    elif index != 0 and kind == _ACCEPTED:
        on_accepted(agent, event, index, stamp)
    elif index != 0 and (kind == _CANCELED or kind == _MODIFIED):
        on_canceled(agent, event, index, stamp)
    elif index != 0 and kind == _REPLACED:
        on_replaced(agent, event, index, stamp)
    elif index != 0 and kind == _REJECTED:
        on_rejected(agent, event, index, stamp)
    elif index != 0:
        on_other(agent, event, index, stamp)
    elif kind == _NEXT_REF:
        if session.next_seq > session.answers_from:
            session.queries_seen += 1
            agent.answers += 1
        if agent.barrier == 0 and agent.answers >= agent.answers_needed:
            agent.barrier = event.qty
            result = -_LOGIN
    else:
        on_odd(agent, event, kind, size, stamp)
    fence_release()
    store_relaxed(session, "next_seq", session.next_seq + 1)
    fence_release()
    session.undo_seq = 0
    agent.skip_reports = 0
    return result


# ---------------------------------------------------------------- the socket


@leaf
def unplug_link(agent):
    """Stop using the socket; the host closes it and connects again."""
    agent.link.fd = -1
    record_at(agent.session_at, session_dtype).state = LINK_DOWN


@hot
def stalled(agent, now):
    """The report ring is full: wait for its readers, but not for ever. The slowest is given up and its orders cancelled."""
    counters = record_at(agent.counters_at, gateway_counters_dtype)
    counters.report_stalls += 1
    if agent.stalled_at == 0:
        agent.stalled_at = now
    elif now - agent.stalled_at > agent.patience_ticks:
        who = detach_slowest(agent.reports)
        agent.stalled_at = now
        counters.consumers_detached += 1
        note(agent, _DETACHED, who, 0, now)
        sweep(agent, who if who < 16 else -1)


@hot
def receive_messages(agent, now):
    """Take what the venue sent and apply it. Returns the packets applied, or a negative Reason."""
    link = agent.link
    counters = record_at(agent.counters_at, gateway_counters_dtype)
    if receive_bytes(link) < 0:
        unplug_link(agent)
        return -_RECONNECT
    stamp = tsc()
    applied, result = 0, 0
    while applied < PACKETS and result == 0:
        kind = next_packet(link)
        if kind == NONE:
            if link.eof != 0:
                result = -_RECONNECT
            break
        if kind == SEQUENCED:
            if not room_for_reports(agent):
                unread_packet(link)
                stalled(agent, now)
                break
            agent.stalled_at = 0
            result = apply_message(agent, link.packet_at, link.packet_size, stamp)
        elif kind == SERVER_HEARTBEAT:
            link.heartbeats_in += 1
        elif kind == END_OF_SESSION:
            result = -_SESSION_END
        elif kind == MALFORMED:
            note(agent, _BAD_MESSAGE, 3, 0, now)
            result = -_RECONNECT
        elif kind != DEBUG:
            counters.other_packets += 1
        applied += 1
    if applied > 0:
        publish(agent.reports)
    if result == -_RECONNECT or result == -_SESSION_END:
        unplug_link(agent)
    return result if result < 0 else applied


# ---------------------------------------------------------------- a lost connection, and the way back


@hot
def lose_orders(agent, now):
    """Mark every open order UNKNOWN and say so. Returns how many are still to be reported (the ring was full)."""
    rows = span(agent.table.rows)
    index, left, unknown = agent.table.open_first, 0, 0
    while index != 0:
        order = row(rows, index, order_row_dtype)
        unknown += 1
        if not order.marks & MARK_UNKNOWN:
            if room_for_reports(agent):
                lose(order)
                report_order(agent, order, _SAY_UNKNOWN, order.qty * 1, order.venue_id, 0, 0, now)
            else:
                left += 1
        index = order.open_next * 1
    record_at(agent.session_at, session_dtype).unknown_orders = unknown
    publish(agent.reports)
    return left


@hot
def reconcile(agent, now):
    """The venue has told everything up to its answer to our query: settle every UNKNOWN order. Returns 1 when done.

    Its next UserRefNum is `agent.barrier`. An order with a lower number and no answer stays UNKNOWN (counted): that would be a
    message the venue lost. So does every order sent in another session: this one's replay says nothing about it. Returns 0 when
    the report ring was full: call again. An order whose loss could not be told yet is told it first: told later, it would be
    UNKNOWN for good.
    """
    if agent.losing != 0:
        if lose_orders(agent, now) > 0:
            return 0
        agent.losing = 0
    table = agent.table
    rows = span(table.rows)
    counters, session = record_at(agent.counters_at, gateway_counters_dtype), record_at(agent.session_at, session_dtype)
    if session.next_ref < agent.barrier:
        session.next_ref = agent.barrier
    unknown = 0
    for index in range(1, table.fresh):
        order = row(rows, index, order_row_dtype)
        if not is_open(order) or not order.marks & MARK_UNKNOWN:
            continue
        if not room_for_reports(agent):
            publish(agent.reports)
            return 0
        if order.marks & MARK_CANCEL_SENT:  # it may be lost; of an order that never arrived it is not needed any more
            unmark(order, MARK_CANCEL_SENT)
            want_cancel(table, order)
        if agent.same_session == 0:
            unknown += 1
        elif order.marks & MARK_ACCEPTED:
            unmark(order, MARK_UNKNOWN)
            counters.reconciled += 1
            report_order(agent, order, SAY_MODIFIED, order.qty * 1, order.venue_id, 0, 0, now)
        elif order.user_ref < agent.barrier:
            unknown += 1
        else:
            counters.never_arrived += 1
            fail_followers(agent, order, 0, now)
            first = order.prev * 1
            original = row(rows, first, order_row_dtype)
            if first != 0:                            # before the replacement ends: a successor would not look for its original
                original.follow = 0
                unmark(original, MARK_REPLACE_SENT)
            finish(order, REJECTED)
            if first != 0:
                report_order(agent, order, _SAY_REPLACE_REJECTED, order.qty * 1, 0, original.cl_ord_id & 0xFFFFFFFF, 0, now)
                recount(table, first)
            else:
                report_order(agent, order, _SAY_DENIED, order.qty * 1, _SESSION_DOWN, 0, 0, now)
            recount(table, index)
            close_order(table, index)
    session.unknown_orders = unknown
    counters.unresolved += unknown
    publish(agent.reports)
    return 1

