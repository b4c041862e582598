"""Driving a strategy over recorded market events, with a paper venue that answers its orders: compiled, in one process.

    events -> ring.md -> strategy_turn -> ring.intent -> paper venue -> ring.report -> strategy_turn

The paper venue is simple and says so: an order takes what the strategy's own book shows, level by level; what rests is filled when
a print happens at its price or beyond, up to the print's size, without regard to the queue; nothing it does moves the book, and an
answer takes no time. It serves tests, benchmarks and a first look at an idea. `hftd sim` is the exchange with a real queue.
"""

from hftd.core.atomics import tsc
from hftd.core.jit import hot, leaf
from hftd.core.layout import layout
from hftd.core.memory import address_of, copy_bytes, record_at, row, span, span_dtype
from hftd.msg.enums import EventKind, ExecType, IntentKind, Side, Tif
from hftd.msg.ids import make_id
from hftd.msg.records import (
    REPORT_REMOVED,
    REPORT_SELL,
    SLOT,
    intent_dtype,
    market_event_dtype,
    report_dtype,
)
from hftd.shm.histogram import histogram_dtype, record_value
from hftd.shm.ring import claim, commit, consumer_dtype, done, poll, producer_dtype, publish, room, step_over
from hftd.strategy.levels import level_at
from hftd.strategy.records import book_dtype

NEW, REPLACE, CANCEL, CANCEL_ALL = (
    int(IntentKind.NEW), int(IntentKind.REPLACE), int(IntentKind.CANCEL), int(IntentKind.CANCEL_ALL)
)  # fmt: skip
X_NEW, X_FILL, X_CANCELED, X_REPLACED = int(ExecType.NEW), int(ExecType.FILL), int(ExecType.CANCELED), int(ExecType.REPLACED)
X_CANCEL_REJECTED, X_REPLACE_REJECTED = int(ExecType.CANCEL_REJECTED), int(ExecType.REPLACE_REJECTED)
TRADE, HIDDEN_TRADE = int(EventKind.TRADE), int(EventKind.HIDDEN_TRADE)
BUY, IOC = int(Side.BUY), int(Tif.IOC)
IDLE = 3
"""Turns after the last event, so that the last answers are heard."""

HISTOGRAM = histogram_dtype.itemsize
FULL = -1
OURS = 1 << 48
"""The paper venue's references start here."""

paper_order_dtype = layout("paper_order", 64, [
    ("id", "i8"),                                 # cl_ord_id; 0: row is free
    ("px", "i8"),
    ("leaves", "i8"),
    ("executed", "i8"),                           # of the chain
    ("instrument", "i8"),
    ("side", "i8"),
    ("venue_id", "i8"),
    ("pad0", "i8"),
])  # fmt: skip

tape_dtype = layout("tape", 384, [
    ("md", producer_dtype),
    ("reports", producer_dtype),
    ("intents", consumer_dtype),
    ("events", span_dtype),                       # market_event_dtype: what is played
    ("sent", span_dtype),                         # intent_dtype: every intent, copied, as long as there is room
    ("rests", span_dtype),                        # paper_order_dtype
    ("next", "i8"),                               # event to play next
    ("intents_sent", "i8"),
    ("orders", "i8"),
    ("fills", "i8"),
    ("filled_qty", "i8"),
    ("matches", "i8"),                            # match numbers handed out
    ("references", "i8"),
    ("high", "i8"),                               # rows of `rests` in use, at most
    ("bought_qty", "i8"), ("sold_qty", "i8"), ("bought_cash", "i8"), ("sold_cash", "i8"),
    ("reason", "i8"),                             # why the last play ended early: a Reason, or FULL; 0: it did not
    ("now", "i8"),                                # ticks: the latest moment so far
    ("paper", "i8"),                              # 1: the paper venue answers
    ("timed_at", "i8"),                           # two histogram_dtype: ticks of turns that sent nothing, and that did; 0: no
    ("pad", ("i8", (2,))),
])  # fmt: skip

turn = None


@leaf
def report(tape, kind, order, px, qty, ts_recv, orig, removed):
    """Send one execution report about a paper order."""
    slot = claim(tape.reports, report_dtype)
    slot.ts_recv, slot.ts_event, slot.cl_ord_id, slot.px, slot.qty = ts_recv, 0, order.id, px, qty
    slot.leaves_qty, slot.orig_seq, slot.instrument, slot.exec_type = order.leaves, orig & 0xFFFFFFFF, order.instrument, kind
    slot.venue_id = order.venue_id
    if kind == X_FILL:
        tape.matches += 1
        slot.venue_id = tape.matches
    slot.flags = (0 if order.side == BUY else REPORT_SELL) | (REPORT_REMOVED if removed else 0)
    commit(tape.reports, slot)
    publish(tape.reports)


@leaf
def fill(tape, order, px, qty, ts_recv, removed):
    """Trade `qty` shares of a paper order at `px`."""
    order.leaves -= qty
    order.executed += qty
    tape.fills += 1
    tape.filled_qty += qty
    if order.side == BUY:
        tape.bought_qty += qty
        tape.bought_cash += px * qty
    else:
        tape.sold_qty += qty
        tape.sold_cash += px * qty
    report(tape, X_FILL, order, px, qty, ts_recv, 0, removed)


@leaf
def find_rest(tape, cl_ord_id):
    """Return the row of a resting order, 0 where there is none."""
    rests = span(tape.rests)
    for i in range(1, tape.high + 1):
        if row(rests, i, paper_order_dtype).id == cl_ord_id:
            return i
    return 0


@leaf
def free_rest(tape):
    """Return a free row, 0 where the paper venue is full."""
    rests = span(tape.rests)
    for i in range(1, rests.count):
        if row(rests, i, paper_order_dtype).id == 0:
            if i > tape.high:
                tape.high = i
            return i
    return 0


@hot
def take_book(tape, agent, order, ts_recv):
    """Let an incoming order trade with the levels that the strategy's own book shows."""
    book = row(span(agent.books), order.instrument, book_dtype)
    against = book.sides[1 if order.side == BUY else 0]
    at = against.count - 1
    while at >= 0 and order.leaves > 0:
        level = level_at(against.base, at)
        px = -level.key if order.side == BUY else level.key
        if (order.side == BUY and px > order.px) or (order.side != BUY and px < order.px):
            break
        fill(tape, order, px, min(level.qty, order.leaves), ts_recv, 1)
        at -= 1
    return 0


@leaf
def drop(tape, order, ts_recv):
    """Cancel what is open of a paper order, and free its row."""
    left = order.leaves
    order.leaves = 0
    report(tape, X_CANCELED, order, order.px, left, ts_recv, 0, 0)
    order.id = 0


@leaf
def refuse(tape, intent, orig):
    """Say that a replacement did not come about. orig: id of the order that was to be replaced."""
    gone = row(span(tape.rests), 0, paper_order_dtype)
    gone.id, gone.leaves, gone.instrument, gone.side = intent.cl_ord_id, 0, intent.instrument, intent.side
    report(tape, X_REPLACE_REJECTED, gone, intent.px, 0, intent.ts_recv, orig, 0)
    gone.id = 0


@hot
def answer(tape, agent, intent, strategy, epoch):
    """Let the paper venue act on one intent. Returns 0, or -1 where it has no room."""
    if not room(tape.reports, 64):
        return -1
    rests = span(tape.rests)
    kind, cl_ord_id, ts_recv = intent.kind * 1, intent.cl_ord_id, intent.ts_recv
    if kind == NEW or kind == REPLACE:
        executed, orig = 0, 0
        if kind == REPLACE:
            orig = make_id(strategy, epoch, intent.orig_seq * 1)
            old = find_rest(tape, orig)
            if old == 0:
                refuse(tape, intent, orig)
                return 0
            before = row(rests, old, paper_order_dtype)
            executed = before.executed
            if intent.qty * 1 <= executed:        # nothing of the total is left to be open: the original goes, as at the venue
                refuse(tape, intent, orig)
                drop(tape, before, ts_recv)
                return 0
            before.id = 0
        index = free_rest(tape)
        if index == 0:
            return -1
        order = row(rests, index, paper_order_dtype)
        tape.orders += 1
        tape.references += 1
        order.id, order.px, order.executed = cl_ord_id, intent.px, executed
        order.instrument, order.side = intent.instrument, intent.side
        order.leaves, order.venue_id = intent.qty - executed, OURS + tape.references
        report(tape, X_NEW if kind == NEW else X_REPLACED, order, intent.px, intent.qty, ts_recv, orig, 0)
        take_book(tape, agent, order, ts_recv)
        if order.leaves > 0 and intent.tif == IOC:
            drop(tape, order, ts_recv)
        if order.leaves == 0:
            order.id = 0
        return 0
    for i in range(1, tape.high + 1):
        order = row(rests, i, paper_order_dtype)
        if order.id != 0 and (kind == CANCEL_ALL or order.id == cl_ord_id):
            drop(tape, order, ts_recv)
    return 0


@hot
def cross_rests(tape, event):
    """Let resting paper orders trade with a print."""
    rests, left = span(tape.rests), event.qty
    for i in range(1, tape.high + 1):
        order = row(rests, i, paper_order_dtype)
        if order.id == 0 or order.instrument != event.instrument or left <= 0 or not room(tape.reports, 64):
            continue
        if (order.side == BUY and event.px <= order.px) or (order.side != BUY and event.px >= order.px):
            qty = min(left, order.leaves)
            left -= qty
            fill(tape, order, order.px, qty, event.ts_recv, 0)
            if order.leaves == 0:
                order.id = 0
    return 0


@hot
def collect(tape, agent):
    """Keep the intents that wait, and have the paper venue answer them. Returns 0, or -1 where it had no room."""
    sent, outcome = span(tape.sent), 0
    while True:
        there, at, number = poll(tape.intents)
        if not there:
            break
        intent = record_at(at, intent_dtype)
        step_over(tape.intents, number)
        if tape.intents_sent < sent.count:
            copy_bytes(sent.base + tape.intents_sent * SLOT, address_of(intent), SLOT)
        tape.intents_sent += 1
        if tape.paper != 0 and answer(tape, agent, intent, agent.index, agent.epoch) != 0:
            outcome = -1
    done(tape.intents)
    return outcome


@leaf
def feed(tape, event):
    """Publish a copy of one event."""
    slot = claim(tape.md, market_event_dtype)
    slot.ts_recv, slot.ts_event, slot.px, slot.qty, slot.ref = event.ts_recv, event.ts_event, event.px, event.qty, event.ref
    slot.orders, slot.instrument, slot.kind, slot.flags = event.orders, event.instrument, event.kind, event.flags
    slot.t_feed, slot.wire_seq = event.t_feed, event.wire_seq
    commit(tape.md, slot)
    publish(tape.md)


def play(agent, tape, count):
    """Play up to `count` events: each goes into the ring, the strategy takes its turn, the paper venue answers; then idle turns.

    agent: strategy_agent_dtype record; tape: tape_dtype record. Returns how many were played; `tape.reason` says why fewer.
    """
    played, idle = 0, 0
    events = span(tape.events)
    while idle < IDLE:
        if played < count and tape.next < events.count:
            event = row(events, tape.next, market_event_dtype)
            if not room(tape.md, 1):
                tape.reason = FULL
                break
            feed(tape, event)
            tape.next += 1
            played += 1
            tape.now = max(tape.now, event.ts_recv)
            if (event.kind == TRADE or event.kind == HIDDEN_TRADE) and tape.high > 0:
                cross_rests(tape, event)
        else:
            idle += 1
        begun, sent = tsc(), agent.intents.tail
        work = turn(agent, tape.now)
        if tape.timed_at != 0 and idle == 0:
            ticks = tsc() - begun
            at = tape.timed_at + (HISTOGRAM if agent.intents.tail != sent else 0)
            record_value(record_at(at, histogram_dtype), at, ticks)
        if work < 0:
            tape.reason = -work
            break
        if collect(tape, agent) != 0:
            tape.reason = FULL
            break
    return played
