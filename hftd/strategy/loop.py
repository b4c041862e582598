"""One turn of a strategy: reports and denials first, then a batch of market events, then the timer; callbacks in between.

    ring.report, ring.deny ->  apply_report  -> on_report        the order table and positions are up to date before the callback
    ring.md                ->  books, status -> on_book, on_trade, on_state, on_notice
    intents                ->  ring.intent.K                     each is visible to risk as soon as its callback wrote it

`strategy_turn` is a template: `program.py` clones it with a file's compiled callbacks, layouts and switches in its slots.

An event is read from the ring in place. Should the feed have given up on us, it may be writing there already: so we look at our
place after each event, and where it was lost the event is not used: the turn cancels everything, returns -OVERRUN, and cold code
makes the books anew.
"""

from hftd.core.atomics import fence_acquire, store_relaxed, tsc
from hftd.core.clock import utc_ns
from hftd.core.jit import hot, leaf
from hftd.core.memory import record_at, row, span
from hftd.msg.enums import BookState, EventKind, Reason, TradingState
from hftd.msg.ids import strategy_of
from hftd.msg.records import (
    FLAG_END_OF_PACKET,
    FLAG_SELL,
    FLAG_SNAPSHOT,
    FLAG_STATE_SHIFT,
    SLOT,
    instrument_dtype,
    intent_dtype,
    market_event_dtype,
    report_dtype,
    status_dtype,
)
from hftd.msg.status import apply_session, apply_status
from hftd.shm.histogram import histogram_dtype, record_value
from hftd.shm.ring import detached, done, poll, publish, publish_new, ready, room, step_over, take
from hftd.strategy.api import Context
from hftd.strategy.levels import NO_ROOM, apply_level, clear_levels, refresh
from hftd.strategy.memory import H_DECISION, H_ON_BOOK, strategy_counters_dtype, word_dtype
from hftd.strategy.orders import apply_report, cancel_everything, follow_queue, price_bit
from hftd.strategy.records import book_dtype, strategy_agent_dtype  # noqa: F401  (the handle's layout is looked for here)

BATCH = 64
"""Market events in a turn, at most: between batches the reports are looked at."""

HISTOGRAM = histogram_dtype.itemsize

SAMPLE = 63
"""One on_book call in SAMPLE + 1 is timed: reading the counter twice would cost as much as a callback."""

TIMERS = 1000
"""on_timer calls between two events, at most."""

LEVEL, TRADE, HIDDEN_TRADE = int(EventKind.LEVEL), int(EventKind.TRADE), int(EventKind.HIDDEN_TRADE)
STATUS, CLEAR, BOOK_STATE, DIRECTORY = (
    int(EventKind.STATUS), int(EventKind.CLEAR), int(EventKind.BOOK_STATE), int(EventKind.DIRECTORY)
)  # fmt: skip
SYSTEM, BREAKER_LEVELS, BROKEN, IMBALANCE_PRICES, LISTING_LIMITS = (
    int(EventKind.SYSTEM), int(EventKind.BREAKER_LEVELS), int(EventKind.BROKEN), int(EventKind.IMBALANCE_PRICES),
    int(EventKind.LISTING_LIMITS),
)  # fmt: skip
ALL = -1
LIVE, STALE, RECOVERING, EMPTY = int(BookState.LIVE), int(BookState.STALE), int(BookState.RECOVERING), int(BookState.EMPTY)
UNKNOWN_TRADING = int(TradingState.UNKNOWN)
OVERRUN, BROKEN_INVARIANT = int(Reason.OVERRUN), int(Reason.BROKEN_INVARIANT)

# slots: filled by program.py
on_start = on_book = on_trade = on_report = on_timer = on_state = on_notice = None
make_context = fire_timer = tell_states = None
PARAMS = STATE = INSTRUMENT_STATE = None
EVERY_EVENT = ANY_STATE = 0
HAS_BOOK = HAS_TRADE = HAS_REPORT = HAS_STATE = HAS_TIMER = HAS_NOTICE = 1


@hot
def announce(agent, instrument, lot):
    """An instrument was announced: take its tick and lot, and find out whether this strategy follows it."""
    book = row(span(agent.books), instrument, book_dtype)
    facts = row(span(agent.instruments), instrument, instrument_dtype)
    if facts.tick > 0:
        book.tick = facts.tick
    book.lot = lot if lot > 0 else facts.lot
    wanted = span(agent.wanted)
    if wanted.count > 0:
        followed = 0
        for i in range(wanted.count):
            if load_symbol(wanted.base, i) == facts.symbol:
                followed = 1
        if followed == 0 or book.subscribed == 0:
            book.subscribed = followed            # one that found no room (2) stays so: announcing it again mends nothing
    return book.subscribed


@leaf
def in_copy(book, kind, at, wire_seq):
    """Tell whether our copy of the feed's book has the event at ring sequence `at`; a later one ends the asking.

    What was published before the copy was taken is in it. Of what was not, the copy has the messages up to its own number: the feed
    publishes a packet at once. A BOOK_STATE may be about a later moment than the message whose number it bears.
    """
    if at < book.skip_before:
        return True
    ahead = (wire_seq - book.skip_to) & 0xFFFFFFFF
    if kind != CLEAR and (ahead == 0 or ahead >= 0x80000000):
        return kind != BOOK_STATE or ahead != 0
    book.skip_to = -1
    return False


@hot
def take_notice(agent, index, kind, px, qty, ref, orders, ts_event, at):
    """Take up what is neither a level nor a plain print; return 1 where on_notice is to be told, with `agent.notice` filled.

    at: the event's ring sequence.
    """
    told = 0
    if kind == SYSTEM or kind == BREAKER_LEVELS:
        breach = apply_session(agent.session, kind, px, qty, ref)
        if breach != 0:
            statuses, books = span(agent.statuses), span(agent.books)
            for i in range(statuses.count):
                status = row(statuses, i, status_dtype)
                if at >= row(books, i, book_dtype).skip_before:
                    status.breaker = max(status.breaker, breach)
        told, index = 1, ALL
    elif apply_status(row(span(agent.statuses), index, status_dtype), kind, px, qty, ref, orders) != 0:
        told = 0 if kind == HIDDEN_TRADE or kind == IMBALANCE_PRICES or kind == LISTING_LIMITS else 1
    elif kind != HIDDEN_TRADE and kind != CLEAR and kind != BOOK_STATE and kind != DIRECTORY:
        told = 1
    notice = agent.notice
    notice.kind, notice.instrument, notice.px, notice.qty, notice.ref, notice.orders = kind, index, px, qty, ref, orders
    notice.ts_event = ts_event
    return told


@hot
def give_up(agent, now):
    """Cancel everything, since market events were lost. Returns 1, or 0 where ring.intent has no room; then nothing was done."""
    if not room(agent.intents, 1):
        return 0
    counters = record_at(agent.counters_at, strategy_counters_dtype)
    store_relaxed(counters, "overruns", counters.overruns + 1)
    cancel_everything(agent, now, 0)
    publish(agent.intents)
    return 1


@leaf
def load_symbol(base, index):
    """Return entry `index` of the list of symbols at `base`."""
    return record_at(base + 8 * index, word_dtype).value


def context(agent, ts_recv, t_feed):
    """Return the `ctx` for handling what came in at `ts_recv` ticks."""
    return Context(
        record_at(agent.params_at, PARAMS), record_at(agent.state_at, STATE), utc_ns(agent.clock, ts_recv), agent.venue_ns,
        agent, record_at(agent.states_at, INSTRUMENT_STATE), ANY_STATE, ts_recv, t_feed,
    )  # fmt: skip


@leaf
def decided(agent, before, t_feed):
    """Publish what a callback sent, and count how long after the feed's publication that was, by the last intent's own stamp."""
    intents = agent.intents
    if intents.tail != before:
        publish_new(intents)
        at = agent.histograms_at + H_DECISION * HISTOGRAM
        last = record_at(intents.slots.base + ((intents.tail - 1) & intents.mask) * SLOT, intent_dtype)
        record_value(record_at(at, histogram_dtype), at, last.t_strategy * 1 - t_feed)


def timer(agent):
    """Call on_timer for the moment it was set for."""
    counters = record_at(agent.counters_at, strategy_counters_dtype)
    before, due = agent.intents.tail, agent.timer_at
    agent.timer_at = 0
    store_relaxed(counters, "timers", counters.timers + 1)
    on_timer(make_context(agent, due, 0))
    decided(agent, before, 0)


def states(agent, now, lost):
    """Call on_state for every book that is lost now (lost: 1), or is no longer so, since the books were made anew (0)."""
    books, before = span(agent.books), agent.intents.tail
    for i in range(books.count):
        book, change = row(books, i, book_dtype), agent.change
        if book.subscribed != 0 and book.state != STALE and book.state != EMPTY:
            if lost != 0:
                book.state = STALE
            change.instrument, change.book, change.trading = i, book.state, book.trading
            on_state(make_context(agent, now, 0), change)
    decided(agent, before, 0)


def strategy_turn(agent, now):
    """Do one bounded step. Returns how many records were handled, or -Reason.OVERRUN."""
    counters = record_at(agent.counters_at, strategy_counters_dtype)
    work = 0
    if agent.started == 0:
        agent.started = 1
        on_start(make_context(agent, now, 0))
        publish(agent.intents)
        work = 1
    elif HAS_STATE and agent.started == 2:
        agent.started = 1
        tell_states(agent, now, 0)

    for source in range(2):
        consumer = agent.reports if source == 0 else agent.denials
        while True:
            there, slot, number = poll(consumer)
            if not there:
                break
            report = record_at(slot, report_dtype)
            step_over(consumer, number)
            ts_recv = report.ts_recv
            mine = strategy_of(report.cl_ord_id) == agent.index and apply_report(agent, report) != 0
            fence_acquire()
            if detached(consumer) and agent.disabled == 0:
                break                                 # it may have been overwritten while we read: nothing is decided on it
            done(consumer)                        # one by one, before the callback: a restart goes on after what was applied
            if mine:
                store_relaxed(counters, "reports", counters.reports + 1)
                if HAS_REPORT:
                    before = agent.intents.tail
                    on_report(make_context(agent, ts_recv, 0), agent.fill)
                    decided(agent, before, 0)
            work += 1

    books = span(agent.books)
    md = agent.md
    taken = 0
    while taken < BATCH and ready(md):
        event = take(md, market_event_dtype)      # by `poll` 20 instructions more, as in risk's loop
        kind, index, flags = event.kind * 1, event.instrument * 1, event.flags * 1
        px, qty, ref, orders = event.px, event.qty, event.ref, event.orders * 1
        ts_recv, ts_event, t_feed, wire_seq = event.ts_recv, event.ts_event, event.t_feed * 1, event.wire_seq * 1
        fence_acquire()
        if detached(md):
            agent.cut_off = 1
            break
        taken += 1
        if index >= books.count:
            store_relaxed(counters, "bad_reports", counters.bad_reports + 1)
            continue
        if HAS_TIMER and agent.timer_at != 0 and agent.timer_at <= ts_recv:
            for _ in range(TIMERS):               # a replay has no idle turns: what they would have called comes first
                fire_timer(agent)
                if agent.timer_at == 0 or agent.timer_at > ts_recv:
                    break
        book = row(books, index, book_dtype)
        if kind == DIRECTORY:
            announce(agent, index, ref)
        of_all = kind == SYSTEM or kind == BREAKER_LEVELS
        if of_all:
            if md.next <= agent.skip_before:
                continue
        elif book.skip_to >= 0 and in_copy(book, kind, md.next - 1, wire_seq):
            continue
        told = 0
        if kind >= HIDDEN_TRADE:
            told = take_notice(agent, index, kind, px, qty, ref, orders, ts_event, md.next - 1)
            if of_all:
                if HAS_NOTICE:
                    agent.venue_ns = ts_event
                    before = agent.intents.tail
                    on_notice(make_context(agent, ts_recv, t_feed), agent.notice)
                    decided(agent, before, t_feed)
                continue
        if book.subscribed == 0:
            continue
        agent.venue_ns = ts_event
        book.ts_event = ts_event
        book.events += 1
        state, trading = (flags >> FLAG_STATE_SHIFT) & 3, book.trading
        side = flags & FLAG_SELL
        traded = 0
        if kind == LEVEL:
            was = apply_level(agent.arena, book, side, px, qty, orders)
            if was == NO_ROOM:
                store_relaxed(counters, "levels_refused", counters.levels_refused + 1)
                book.subscribed = 2               # no longer right, until it is cleared
            else:
                refresh(book)
                if (book.sides[side].own >> price_bit(px)) & 1 != 0:
                    follow_queue(agent, book, side, px, was, qty, ref)
                if ref > book.newest_ref:
                    book.newest_ref = ref
                book.dirty = 1
        elif kind == TRADE or kind == HIDDEN_TRADE:
            traded = 1
            book.last_px, book.last_qty = px, qty
            book.volume += qty
        elif kind == STATUS:
            trading = qty
        elif kind == BROKEN and qty != 0:
            book.volume -= qty
            if orders != book.last_px:
                book.last_px, book.last_qty = orders, 0
        elif kind == CLEAR:
            clear_levels(book)
            if flags & FLAG_SNAPSHOT == 0:        # not a book made anew: the day's messages begin again, prints included
                book.volume, book.last_px, book.last_qty = 0, 0, 0
            book.subscribed = 1
            book.dirty = 1
        elif kind == BOOK_STATE:
            state = qty
        if book.subscribed == 2:
            state = STALE
        ended = flags & FLAG_END_OF_PACKET
        book.end_of_packet = 1 if ended else 0
        before = agent.intents.tail
        ctx = make_context(agent, ts_recv, t_feed)
        if state != book.state or trading != book.trading:
            book.state, book.trading = state, trading
            book.dirty = 1
            if HAS_STATE:
                change = agent.change
                change.instrument, change.book, change.trading = index, state, trading
                on_state(ctx, change)
        if traded and HAS_TRADE:
            trade = agent.trade
            trade.instrument, trade.px, trade.qty, trade.side, trade.ref = index, px, qty, side, ref
            trade.hidden = 1 if kind == HIDDEN_TRADE else 0
            trade.cross = orders if kind == HIDDEN_TRADE else 0
            trade.ts_event = ts_event
            store_relaxed(counters, "trades", counters.trades + 1)
            on_trade(ctx, trade)
        if HAS_NOTICE and told != 0:
            on_notice(ctx, agent.notice)
        if HAS_BOOK and book.dirty != 0 and (EVERY_EVENT or ended != 0) and (ANY_STATE or state == LIVE):
            book.dirty = 0
            agent.calls += 1
            begun = 0
            if agent.calls & SAMPLE == 0:
                begun = tsc()
            on_book(ctx, book)
            if begun != 0:
                at = agent.histograms_at + H_ON_BOOK * HISTOGRAM
                record_value(record_at(at, histogram_dtype), at, tsc() - begun)
        decided(agent, before, t_feed)
    if taken > 0:
        if agent.cut_off == 0:
            done(md)
        store_relaxed(counters, "events", counters.events + taken)
        store_relaxed(counters, "books", agent.calls)
        work += taken

    if HAS_TIMER and agent.timer_at != 0 and taken == 0 and agent.timer_at <= now:
        fire_timer(agent)
        work += 1

    if agent.disabled == 0 and (detached(agent.reports) or detached(agent.denials)):
        agent.disabled = 1                        # reports were lost: positions and orders can no longer be known from here
        cancel_everything(agent, now, 0)
        publish(agent.intents)
        return -BROKEN_INVARIANT
    if agent.cut_off != 0 or detached(md):
        agent.cut_off = 1
        if give_up(agent, now) == 0:
            return work                               # risk must be told first; until then nothing more of ring.md is read
        if HAS_STATE:
            tell_states(agent, now, 1)
        return -OVERRUN
    return work
