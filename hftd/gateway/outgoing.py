"""From risk's ring to the wire.

    take -> checksum -> refusals (kill switch, latch, session …) -> row in the order table -> message in the send buffer
         -> one send() for all that were ready -> stamps and histograms

The order's row is written before its bytes leave, so that whatever happens next, the gateway knows what may be at the venue. The
kill switch is read for each order. What the socket does not take at once waits in the send buffer; while that is full, orders
wait in the ring, and risk denies when the ring is full. A cancel is never refused for lack of room: it is noted (`want_cancel`)
and goes when there is some.

A cancel goes to the whole chain of an order and its pending replacements: the venue takes messages in sequence and ignores a
cancel of a dead or unknown order, so one of them meets the live one, however the replacement ended.
"""

from hftd.core.atomics import load_acquire, tsc
from hftd.core.jit import hot, leaf
from hftd.core.memory import load16, load64, record_at, row, span, store64
from hftd.gateway.memory import LINK_CLEANING, LINK_UP, gateway_counters_dtype, order_row_dtype, session_dtype
from hftd.gateway.order_state import (
    MARK_CANCEL_SENT,
    MARK_CANCEL_WANTED,
    MARK_FOREIGN,
    MARK_REPLACE_SENT,
    MARK_UNKNOWN,
    PENDING_NEW,
    is_open,
    mark,
)
from hftd.gateway.order_table import (
    enter_id,
    enter_ref,
    find_id,
    link_open,
    next_free_ref,
    recount,
    take_order,
    unwant_cancel,
    want_cancel,
    warm_next,
)
from hftd.gateway.reports import note, refuse, room_for_reports
from hftd.gateway.tails import go_on, hold, keep_tail
from hftd.msg.check import order_check
from hftd.msg.enums import DenyReason, IntentKind, LogCode, Side, Tif
from hftd.msg.records import instrument_dtype, order_dtype
from hftd.shm.control import run_dtype
from hftd.shm.histogram import histogram_dtype, record_value
from hftd.shm.pauses import HELD, SOCKET
from hftd.shm.ring import done, poll, publish, step_over
from hftd.venues.nasdaq.ouch_encode import (
    IMAGE,
    IMAGES_PER_INSTRUMENT,
    PX_MAX,
    QTY_MAX,
    encode_cancel,
    encode_order,
    encode_replace,
    image_index,
    make_image,
)
from hftd.venues.nasdaq.soup_link import flush, tx_add, tx_at, tx_room

BATCH = 64
"""Most orders sent with one send()."""

REPLACE_DEPTH = 3
"""Most replacements of one order that may be under way at once."""

_OK, _KILLED, _STOPPING, _SESSION_DOWN, _NOT_READY, _CHECKSUM, _BAD_FIELD = (int(DenyReason[n]) for n in (
    "OK", "KILLED", "STOPPING", "SESSION_DOWN", "NOT_READY", "CHECKSUM", "BAD_FIELD"))  # fmt: skip
_UNKNOWN_INSTRUMENT, _DUPLICATE_ID, _TABLE_FULL, _UNKNOWN_ORDER, _NOT_OPEN = (int(DenyReason[n]) for n in (
    "UNKNOWN_INSTRUMENT", "DUPLICATE_ID", "ORDER_TABLE_FULL", "UNKNOWN_ORDER", "NOT_OPEN"))  # fmt: skip
_NEW, _REPLACE, _CANCEL, _CANCEL_ALL = (int(IntentKind[n]) for n in ("NEW", "REPLACE", "CANCEL", "CANCEL_ALL"))
_SELL, _IOC = int(Side.SELL), int(Tif.IOC)
_REFUSED = int(LogCode.GATEWAY_REFUSED)
_BUY_CODE, _SELL_CODE, _SHORT_CODE = (ord(code) for code in "BST")
_HISTOGRAM = histogram_dtype.itemsize
SATURATED = (1 << 32) - 1


@leaf
def refusal(agent):
    """Return why nothing new may be sent now, 0 when it may. Reads the kill switch itself."""
    session = record_at(agent.session_at, session_dtype)
    if load_acquire(record_at(agent.run_at, run_dtype), "kill") != 0:
        return _KILLED
    if session.state != LINK_UP:
        return _SESSION_DOWN
    if session.latched != 0:
        return _CHECKSUM
    if agent.stopping != 0:
        return _STOPPING
    if session.risk_dead != 0 or session.disabled != 0:
        return _NOT_READY
    return _OK


@leaf
def bad_field(order):
    """Return BAD_FIELD where a value is not one the venue takes, else 0."""
    if order.qty < 1 or order.qty > QTY_MAX or order.px < 1 or order.px > PX_MAX or order.side > _SELL or order.tif > _IOC:
        return _BAD_FIELD
    return _OK


@hot
def make_images(agent, instrument):
    """Make the images of an instrument that was announced by now. False where it was not."""
    images, instruments = span(agent.images), span(agent.instruments)
    facts = row(instruments, instrument, instrument_dtype)
    if facts.symbol == 0:
        return False
    base = images.base + instrument * IMAGES_PER_INSTRUMENT * IMAGE
    make_image(base, facts.symbol, _BUY_CODE, agent.capacity, agent.firm)
    make_image(base + IMAGE, facts.symbol, _SELL_CODE, agent.capacity, agent.firm)
    make_image(base + 3 * IMAGE, facts.symbol, _SHORT_CODE, agent.capacity, agent.firm)
    return True


@leaf
def fill_row(order_row, order, user_ref):
    """Copy an Order of risk's into a fresh row of the table."""
    order_row.cl_ord_id = order.cl_ord_id
    order_row.px = order.px
    order_row.ts_recv = order.ts_recv
    order_row.count = order.seq
    order_row.user_ref = user_ref
    order_row.qty = order.qty
    order_row.leaves = order.qty
    order_row.instrument = order.instrument
    order_row.strategy = order.strategy
    order_row.side = order.side
    order_row.tif = order.tif
    order_row.rules = order.flags


@leaf
def seen_before(agent, order, index):
    """Return 0 where row `index` has this very Order of risk's already (read again after a restart), else DUPLICATE_ID."""
    known = row(span(agent.table.rows), index, order_row_dtype)
    if known.count == order.seq and not known.marks & MARK_FOREIGN:
        record_at(agent.counters_at, gateway_counters_dtype).order_repeats += 1
        return _OK
    return _DUPLICATE_ID


@leaf
def may_enter(agent, order):
    """Tell whether an order or replacement may be sent, by what they have in common; else `agent.reason` says why not.

    The table is asked first: what is in it may be at the venue, whatever forbids it now.
    """
    known = find_id(agent.table, order.cl_ord_id)
    if known != 0:
        agent.reason = seen_before(agent, order, known)
        return False
    agent.reason = refusal(agent)
    if agent.reason == 0:
        agent.reason = bad_field(order)
    return agent.reason == 0


@leaf
def next_ref(agent):
    """Give out the next UserRefNum."""
    session = record_at(agent.session_at, session_dtype)
    user_ref = next_free_ref(agent.table, session.next_ref)
    if user_ref != session.next_ref:
        record_at(agent.counters_at, gateway_counters_dtype).ref_skips += user_ref - session.next_ref
    session.next_ref = user_ref + 1
    return user_ref


@leaf
def enter_order(agent, order):
    """Send a new order. Returns its row; 0 where nothing was sent, with `agent.reason` why (0: it was seen before)."""
    table, images = agent.table, span(agent.images)
    if not may_enter(agent, order):
        return 0
    instrument = order.instrument * 1
    if instrument >= span(agent.instruments).count:
        agent.reason = _UNKNOWN_INSTRUMENT
        return 0
    image = images.base + image_index(instrument, order.side, order.flags) * IMAGE
    if load16(image) == 0 and not make_images(agent, instrument):
        agent.reason = _UNKNOWN_INSTRUMENT
        return 0
    index = take_order(table)
    if index == 0:
        record_at(agent.counters_at, gateway_counters_dtype).table_full += 1
        agent.reason = _TABLE_FULL
        return 0
    user_ref = next_ref(agent)
    made = row(span(table.rows), index, order_row_dtype)
    fill_row(made, order, user_ref)
    made.status = PENDING_NEW
    enter_id(table, index, made)
    enter_ref(table, index, user_ref)
    link_open(table, index, made)
    link = agent.link
    tx_add(link, encode_order(tx_at(link), image, agent.image_size, user_ref, order.qty, order.px, order.tif, order.flags,
                              order.cl_ord_id))  # fmt: skip
    return index


@hot
def replace_order(agent, order):
    """Send a replacement. Returns its row; 0 where nothing was sent, with `agent.reason` why (0: it was seen before)."""
    table = agent.table
    rows = span(table.rows)
    if not may_enter(agent, order):
        return 0
    first = find_id(table, (order.cl_ord_id & ~0xFFFFFFFF) | order.orig_seq)
    if first == 0:
        agent.reason = _UNKNOWN_ORDER
        return 0
    original = row(rows, first, order_row_dtype)
    if not is_open(original) or original.marks & (MARK_CANCEL_SENT | MARK_CANCEL_WANTED | MARK_REPLACE_SENT | MARK_UNKNOWN):
        agent.reason = _NOT_OPEN
        return 0
    depth, back = 1, original.prev * 1
    while back != 0:
        depth += 1
        back = row(rows, back, order_row_dtype).prev * 1
    if depth > REPLACE_DEPTH:
        agent.reason = _NOT_OPEN
        return 0
    if original.instrument != order.instrument or original.side != order.side:
        agent.reason = _BAD_FIELD
        return 0
    index = take_order(table)
    if index == 0:
        record_at(agent.counters_at, gateway_counters_dtype).table_full += 1
        agent.reason = _TABLE_FULL
        return 0
    user_ref = next_ref(agent)
    made = row(rows, index, order_row_dtype)
    fill_row(made, order, user_ref)
    made.prev = first
    made.cum = original.cum
    made.leaves = max(order.qty * 1 - original.cum, 0)
    made.status = PENDING_NEW
    original.follow = index
    mark(original, MARK_REPLACE_SENT)
    enter_id(table, index, made)
    enter_ref(table, index, user_ref)
    link_open(table, index, made)
    link = agent.link
    tx_add(link, encode_replace(tx_at(link), original.user_ref * 1, user_ref, order.qty, order.px, order.tif, order.flags,
                                order.cl_ord_id))  # fmt: skip
    return index


@leaf
def write_cancel(agent, order):
    """Write the cancel of an open order to the send buffer, which has room."""
    link = agent.link
    unwant_cancel(agent.table, order)
    mark(order, MARK_CANCEL_SENT)
    tx_add(link, encode_cancel(tx_at(link), order.user_ref * 1, 0))
    record_at(agent.counters_at, gateway_counters_dtype).cancels_sent += 1


@leaf
def can_cancel(agent):
    """Tell whether a cancel can be written now."""
    session = record_at(agent.session_at, session_dtype)
    return (session.state == LINK_UP or session.state == LINK_CLEANING) and tx_room(agent.link) >= IMAGE


@hot
def cancel_order(agent, cl_ord_id):
    """Cancel one of our orders, what it is to replace and what is to replace it: now, or as soon as can be.

    Returns 0, or why not: UNKNOWN_ORDER, NOT_OPEN.
    """
    rows = span(agent.table.rows)
    index = find_id(agent.table, cl_ord_id)
    if index == 0:
        return _UNKNOWN_ORDER
    if not is_open(row(rows, index, order_row_dtype)):
        return _NOT_OPEN
    while row(rows, index, order_row_dtype).prev != 0:
        index = row(rows, index, order_row_dtype).prev * 1
    done_here = 0
    while index != 0:
        order = row(rows, index, order_row_dtype)
        if is_open(order) and not order.marks & MARK_CANCEL_SENT:
            done_here += 1
            if can_cancel(agent):
                write_cancel(agent, order)
            else:
                want_cancel(agent.table, order)
        index = order.follow * 1
    if done_here == 0:
        record_at(agent.counters_at, gateway_counters_dtype).cancels_repeated += 1
    return _OK


@hot
def sweep(agent, strategy):
    """Note that every open order of a strategy is to be cancelled; -1: of all; -2: of earlier instances only."""
    rows = span(agent.table.rows)
    index = agent.table.open_first
    while index != 0:
        order = row(rows, index, order_row_dtype)
        foreign = order.marks & MARK_FOREIGN != 0
        if strategy == -1 or (strategy == -2 and foreign) or (strategy >= 0 and not foreign and order.strategy == strategy):
            if not order.marks & (MARK_CANCEL_SENT | MARK_CANCEL_WANTED):
                want_cancel(agent.table, order)
        index = order.open_next * 1
    record_at(agent.counters_at, gateway_counters_dtype).cancel_sweeps += 1


@hot
def write_cancels(agent):
    """Write the cancels that are wanted to the send buffer, newest order first, as many as fit. Returns how many."""
    rows = span(agent.table.rows)
    index, written = agent.table.open_first, 0
    while index != 0 and agent.table.wanted > 0 and can_cancel(agent):
        order = row(rows, index, order_row_dtype)
        if order.marks & MARK_CANCEL_WANTED:
            write_cancel(agent, order)
            written += 1
        index = order.open_next * 1
    return written


@hot
def latch(agent, order, now):
    """An order did not carry risk's sum: refuse it, cancel everything and send nothing new until the gateway is restarted."""
    counters, session = record_at(agent.counters_at, gateway_counters_dtype), record_at(agent.session_at, session_dtype)
    counters.checksum_refused += 1
    note(agent, _REFUSED, _CHECKSUM, order.cl_ord_id, now)
    refuse(agent, order, _CHECKSUM, now)
    if session.latched == 0:
        session.latched = 1
        sweep(agent, -1)


@hot
def time_value(agent, which, value):
    """Count `value` ticks in histogram `which`."""
    at = agent.histograms_at + which * _HISTOGRAM
    record_value(record_at(at, histogram_dtype), at, value)


@hot
def time_batch(agent, count, before, after):
    """Stamp the orders of a batch and count each hop. before, after: ticks around the send()."""
    rows, batch = span(agent.table.rows), agent.batch_at
    for i in range(count):
        order = record_at(load64(batch + 16 * i), order_dtype)
        row(rows, load64(batch + 16 * i + 8), order_row_dtype).ts_sent = before
        cause = order.ts_recv
        if cause > 0 and before > cause:
            whole = before - cause
            fed, decided, approved = order.t_feed * 1, order.t_strategy * 1, order.t_risk * 1
            if approved >= SATURATED:             # some seconds: the first stamp that is full has all the rest
                fed = whole if fed >= SATURATED else fed
                decided = whole if decided >= SATURATED else decided
                approved = whole
            time_value(agent, 0, fed)
            time_value(agent, 1, decided - fed)
            time_value(agent, 2, approved - decided)
            time_value(agent, 3, whole - approved)
            time_value(agent, 4, whole)
            if whole > agent.tail_ticks or after - before > agent.tail_ticks:
                keep_tail(agent, order, fed, decided, approved, whole, after - before, count)
    time_value(agent, 5, after - before)


@hot
def send_orders(agent, now):
    """Take the orders that are ready, write them, and hand them to the socket at once.

    Returns how many were taken, or -1: the connection is lost (the orders are in the table all the same).
    """
    counters = record_at(agent.counters_at, gateway_counters_dtype)
    incoming, link = agent.orders, agent.link
    taken, sent, lost = 0, 0, 0
    while taken < BATCH:
        there, at, number = poll(incoming)
        if not there:
            break
        if tx_room(link) < 2 * IMAGE:
            hold(agent, now, SOCKET)
            break
        if not room_for_reports(agent):
            hold(agent, now, HELD)
            break
        if agent.held_since != 0:
            go_on(agent, now)
        order = record_at(at, order_dtype)
        step_over(incoming, number)
        taken += 1
        kind = order.kind * 1
        if order_check(order, order.seq) != order.check:
            latch(agent, order, now)
            continue
        index, reason = 0, 0
        if kind == _NEW:
            index = enter_order(agent, order)
            reason = agent.reason
            counters.enters_sent += 1 if index != 0 else 0
        elif kind == _REPLACE:
            index = replace_order(agent, order)
            reason = agent.reason
            counters.replaces_sent += 1 if index != 0 else 0
        elif kind == _CANCEL:
            reason = cancel_order(agent, order.cl_ord_id)
        elif kind == _CANCEL_ALL:
            sweep(agent, order.strategy * 1)
        else:
            reason = _BAD_FIELD
        if reason != 0:
            refuse(agent, order, reason, now)
        if index != 0:
            store64(agent.batch_at + 16 * sent, at)
            store64(agent.batch_at + 16 * sent + 8, index)
            sent += 1
    if agent.table.wanted > 0:
        write_cancels(agent)
    if link.tx_head != link.tx_tail and link.fd >= 0:
        before = tsc()
        lost = flush(link, before)
        after = tsc()
        counters.sends += 1
        if sent > 0:
            time_batch(agent, sent, before, after)
    for i in range(sent):
        recount(agent.table, load64(agent.batch_at + 16 * i + 8))
    record_at(agent.session_at, session_dtype).open_orders = agent.table.open_count
    counters.orders_taken += taken
    counters.orders_peak = agent.table.peak
    publish(agent.reports)
    done(incoming)
    warm_next(agent.table)
    return lost if lost < 0 else taken

