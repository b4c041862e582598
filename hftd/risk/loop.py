"""The risk turn: apply what the venue said, then judge what the strategies want, each in its turn.

    ring.report ─▶ apply ─▶ positions, open orders, exposure
    ring.intent.0..N ─▶ judge ─▶ ring.order (approved, counted, sealed with `check`) or ring.deny (with the reason)

Reports go first, since they release exposure. Strategies are served round robin, the first place moving on each turn, at most BATCH
intents of each, so that none starves another. A sent order counts at once: what `judge` approves is in the sums before the
record is committed. Cancels pass whatever the state, the rate or the loss; orders that only shrink a position pass whatever the
rate, the open value, the loss or the age of the data.

Order of the checks: codes - kill, run state, session - strategy - id - instrument - (replace: the order meant) - quantity - price -
notional - round lot - auction collar - trading state - collar - short sale - self cross - position - and, unless the order only
shrinks the position: market-wide breaker, book state, age of the data, rate, open orders, gross, loss. The first that denies is
the reason.

A sale that could leave the account short, every other open sale counted as filled, is marked so here, whatever the strategy said:
only risk knows the account's position.
"""

from functools import cache

from hftd.core.atomics import fence_release, load_acquire, load_relaxed, store_relaxed, store_release, tsc
from hftd.core.bind import bind
from hftd.core.duty import duty_cycle
from hftd.core.jit import leaf
from hftd.core.memory import load64, record_at, row, span, store64
from hftd.msg.check import order_check
from hftd.msg.enums import BookState, DenyReason, ExecType, IntentKind, OrdStatus
from hftd.msg.ids import strategy_of
from hftd.msg.records import (
    INSTRUMENT_ROUND_LOTS,
    INSTRUMENT_SHORT_RESTRICTED,
    INSTRUMENT_TEST,
    INTENT_ANY_STATE,
    INTENT_SHORT,
    instrument_dtype,
    intent_dtype,
    order_dtype,
    position_dtype,
    quote_dtype,
    report_dtype,
)
from hftd.risk import checks
from hftd.risk.checks import BUY, OK, SELL
from hftd.risk.handle import risk_agent_dtype
from hftd.risk.memory import (
    DENIED_AT,
    STRATEGY_ON,
    STRATEGY_OVERRUN,
    account_dtype,
    exposure_dtype,
    limits_dtype,
    risk_counters_dtype,
    risk_order_dtype,
    strategy_row_dtype,
    undo_dtype,
)
from hftd.risk.orders import count_open, excess_qty, find_order, link_order, set_hold, tighten_own
from hftd.risk.rate import advance_window, count_message
from hftd.risk.reports import apply_report, remark
from hftd.shm.control import STRATEGIES_MAX, run_dtype
from hftd.shm.histogram import histogram_dtype, record_value
from hftd.shm.pool import most_used, take_row
from hftd.shm.ring import claim, commit, detach_slowest, done, poll, publish, publish_new, ready, room, step_over, take

BATCH = 16
"""Intents of one strategy judged in a turn."""

REPORTS = 64
"""Reports applied in a turn."""

DEPTH_MAX = 8
"""Replacements of one order that may be under way at once."""

NEW, REPLACE, CANCEL, CANCEL_ALL = (
    int(IntentKind.NEW), int(IntentKind.REPLACE), int(IntentKind.CANCEL), int(IntentKind.CANCEL_ALL),
)  # fmt: skip
DENIED, CANCEL_REJECTED = int(ExecType.DENIED), int(ExecType.CANCEL_REJECTED)
RECOVERING = int(BookState.RECOVERING)
PENDING_NEW, PENDING_CANCEL = int(OrdStatus.PENDING_NEW), int(OrdStatus.PENDING_CANCEL)
UNKNOWN_INSTRUMENT, UNKNOWN_ORDER, NOT_OPEN, BAD_FIELD = (
    int(DenyReason.UNKNOWN_INSTRUMENT), int(DenyReason.UNKNOWN_ORDER), int(DenyReason.NOT_OPEN), int(DenyReason.BAD_FIELD),
)  # fmt: skip
NOT_READY, NOT_TRADING, NO_REFERENCE_PRICE, RING_FULL, ORDER_TABLE_FULL, SELF_CROSS = (
    int(DenyReason.NOT_READY), int(DenyReason.NOT_TRADING), int(DenyReason.NO_REFERENCE_PRICE), int(DenyReason.RING_FULL),
    int(DenyReason.ORDER_TABLE_FULL), int(DenyReason.SELF_CROSS),
)  # fmt: skip
SEQUENCE = 0xFFFFFFFF
HISTOGRAM_BYTES = histogram_dtype.itemsize


@leaf
def since(now, ts):
    """Ticks from `ts` to `now`, held within a u4."""
    apart = now - ts
    if apart < 0:
        return 0
    return apart if apart < SEQUENCE else SEQUENCE


# ---------------------------------------------------------------- judging


@leaf
def judge(agent, intent, place, gate, account, rows, buckets, now):
    """Return why an order or replace may not be sent, or OK. Leaves extra_qty, extra_cash and orig in the handle."""
    if gate != OK:
        return gate
    strategy = row(span(agent.strategies), place, strategy_row_dtype)
    reason = checks.check_strategy(strategy)
    if reason != OK:
        return reason
    reason = checks.check_id(intent.cl_ord_id, strategy.last_id)
    if reason != OK:
        return reason
    strategy.last_id = intent.cl_ord_id

    all_limits = span(agent.limits)
    index = intent.instrument + 0
    if index >= all_limits.count:
        return UNKNOWN_INSTRUMENT
    limits = row(all_limits, index, limits_dtype)
    if load_acquire(limits, "armed") == 0:
        return UNKNOWN_INSTRUMENT
    position = row(span(agent.positions), index, position_dtype)
    exposure = row(span(agent.exposures), index, exposure_dtype)
    instrument = row(span(agent.instruments), index, instrument_dtype)
    if load_relaxed(instrument, "symbol") != limits.symbol:
        return UNKNOWN_INSTRUMENT                     # limits and position are another symbol's
    side, px, qty = intent.side + 0, intent.px, intent.qty + 0

    # what it adds, and (replace) to what
    open_qty, notional_qty, agent.orig, agent.short = qty, qty, 0, 0
    marked = intent.flags & INTENT_SHORT
    if intent.kind == REPLACE:
        before = find_order(rows, buckets, (intent.cl_ord_id & ~SEQUENCE) | intent.orig_seq)
        if before == 0:
            return UNKNOWN_ORDER
        order = row(rows, before, risk_order_dtype)
        if order.successor != 0 or order.depth >= DEPTH_MAX:
            return NOT_OPEN
        if order.side != side or order.instrument != index:
            return BAD_FIELD
        agent.orig = before
        marked = order.marked + 0
        # the chain from the standing order to this one: what it has traded, holds and costs at worst
        executed, held_qty, held_cash, worst_px = 0, 0, 0, px
        link = before
        while link != 0:
            order = row(rows, link, risk_order_dtype)
            held_qty += order.hold_qty
            held_cash += order.hold_cash
            worst_px = max(worst_px, order.px)
            executed = order.executed + 0
            link = order.orig + 0
        reason = checks.check_qty(max(qty - executed, 1) if qty > 0 else 0, limits.qty_max)
        if reason != OK or qty > checks.QTY_MAX:
            return checks.ORDER_QTY
        notional_qty = max(qty - executed, 0)
        open_qty = excess_qty(qty, executed, held_qty)
        reason = checks.check_price(px, limits.tick)
        if reason != OK:
            return reason
        agent.extra_cash = max(worst_px * (held_qty + open_qty) - held_cash, 0)
    else:
        reason = checks.check_qty(qty, limits.qty_max)
        if reason != OK:
            return reason
        reason = checks.check_price(px, limits.tick)
        if reason != OK:
            return reason
        agent.extra_cash = px * qty
    agent.extra_qty = open_qty
    reason = checks.check_notional(px, notional_qty, limits.notional_max)
    if reason != OK:
        return reason

    # against the market
    quote = agent.quote
    if not checks.read_quote(row(span(agent.quotes), index, quote_dtype), quote):
        counters = record_at(agent.counters_at, risk_counters_dtype)
        counters.quotes_torn += 1
        return NO_REFERENCE_PRICE
    flags = load_relaxed(instrument, "flags")
    if flags & INSTRUMENT_TEST != 0:
        return NOT_TRADING
    reason = checks.check_lot(flags & INSTRUMENT_ROUND_LOTS, notional_qty, load_relaxed(instrument, "lot"))
    if reason != OK:
        return reason
    reason = checks.check_luld(px, quote.collar_low + 0, quote.collar_high + 0)
    if reason != OK:
        return reason
    reason = checks.check_trading(quote.trading)
    if reason != OK:
        return reason
    reason = checks.check_collar(px, quote.bid_px, quote.ask_px, quote.last_px, limits.collar_bps)
    if reason != OK:
        return reason
    mark = checks.mark_of(quote.bid_px, quote.ask_px, quote.last_px, limits.collar_bps)
    if mark != exposure.mark_px and quote.state != RECOVERING:
        remark(account, position, exposure, mark, now)

    # against what we have
    net = position.bought_qty - position.sold_qty + exposure.carried_qty
    working = position.open_buy_qty if side == BUY else position.open_sell_qty
    if side == SELL:
        after = net - working - open_qty
        reason = checks.check_short(flags & INSTRUMENT_SHORT_RESTRICTED, marked, after, px, quote.bid_px)
        if reason != OK:
            return reason
        reason = checks.check_mark(agent.orig, marked, open_qty, after)
        if reason != OK:
            return reason
        agent.short = 1 if marked != 0 or (after < 0 and agent.orig == 0) else 0
    if account.self_cross != 0 and checks.check_self_cross(side, px, exposure.own_bid_px, exposure.own_ask_px) != OK:
        tighten_own(rows, exposure)
        if checks.check_self_cross(side, px, exposure.own_bid_px, exposure.own_ask_px) != OK:
            return SELF_CROSS
    if checks.reduces(net, working, open_qty, side):
        return OK
    reason = checks.check_position(net, working, open_qty, side, limits.position_max)
    if reason != OK:
        return reason
    reason = checks.check_breaker(quote.breaker)
    if reason != OK:
        return reason
    if intent.flags & INTENT_ANY_STATE == 0:
        reason = checks.check_book(quote.state)
        if reason != OK:
            return reason
    reason = checks.check_stale(now - agent.feed_seen, limits.stale_ticks)
    if reason != OK:
        return reason
    reason = checks.check_rate(account.window_total, account.rate_max)
    if reason != OK:
        return reason
    reason = checks.check_open_orders(account.open_orders, 1 if agent.orig == 0 else 0, account.open_orders_max)
    if reason != OK:
        return reason
    reason = checks.check_gross(account.open_cash, account.held_cash, agent.extra_cash, account.gross_max)
    if reason != OK:
        return reason
    return checks.check_loss(account.pnl, account.loss_max, account.loss_latched)


@leaf
def enter(agent, intent, index, account, rows, buckets):
    """Enter an approved order or replace in row `index` of the table: from now on it counts."""
    account.entering = index
    fence_release()
    order = row(rows, index, risk_order_dtype)
    order.id, order.px, order.instrument, order.side = intent.cl_ord_id, intent.px, intent.instrument, intent.side
    order.qty, order.strategy, order.status = intent.qty, intent.strategy, PENDING_NEW
    order.hold_qty, order.hold_cash, order.executed, order.successor, order.depth = 0, 0, 0, 0, 0
    order.orig, order.marked = agent.orig, agent.short
    position = row(span(agent.positions), intent.instrument, position_dtype)
    if agent.orig != 0:
        before = row(rows, agent.orig, risk_order_dtype)
        before.successor = index
        order.depth = before.depth + 1 if before.orig != 0 else 1
    else:
        count_open(account, position, row(span(agent.strategies), intent.strategy, strategy_row_dtype), 1)
    set_hold(account, position, order, agent.extra_qty, agent.extra_cash)
    link_order(rows, buckets, row(span(agent.exposures), intent.instrument, exposure_dtype), index)


@leaf
def pass_on(agent, intent, now):
    """Write an approved intent to the order ring, stamped and sealed. There is room."""
    orders = agent.orders
    order = claim(orders, order_dtype)
    order.ts_recv, order.cl_ord_id, order.px = intent.ts_recv, intent.cl_ord_id, intent.px
    order.qty, order.orig_seq, order.instrument = intent.qty, intent.orig_seq, intent.instrument
    order.kind, order.side, order.tif = intent.kind, intent.side, intent.tif
    order.flags, order.strategy = (intent.flags & ~INTENT_SHORT) | (INTENT_SHORT if agent.short != 0 else 0), intent.strategy
    order.check = order_check(order, orders.tail + 1)
    order.t_feed, order.t_strategy = intent.t_feed, intent.t_strategy
    order.t_risk = since(now, intent.ts_recv)
    commit(orders, order)


@leaf
def deny(agent, intent, place, reason):
    """Write a denial. A strategy that does not empty its denials is detached and switched off; its orders are cancelled."""
    denies = agent.denies
    while not room(denies, 1):
        slow = detach_slowest(denies)
        if slow < 0:
            return
        if slow < STRATEGIES_MAX:
            strategy = row(span(agent.strategies), slow, strategy_row_dtype)
            strategy.state = STRATEGY_OVERRUN
            store_relaxed(strategy, "cancel_wanted", 1)
            counters = record_at(agent.counters_at, risk_counters_dtype)
            counters.deny_overruns += 1
    report = claim(denies, report_dtype)
    report.ts_recv, report.ts_event, report.cl_ord_id, report.px = intent.ts_recv, 0, intent.cl_ord_id, intent.px
    report.venue_id, report.qty, report.leaves_qty, report.orig_seq = reason, intent.qty, 0, intent.orig_seq
    report.instrument = intent.instrument
    report.exec_type = DENIED if intent.kind < CANCEL else CANCEL_REJECTED
    report.flags = intent.side
    commit(denies, report)


# ---------------------------------------------------------------- the turn


@leaf
def cancel_wanted(agent, place, now):
    """Send one CANCEL_ALL for a strategy that cold code, or an overrun, wants stopped. False where the order ring is full."""
    if not room(agent.orders, 1):
        return False
    orders = agent.orders
    order = claim(orders, order_dtype)
    order.ts_recv, order.cl_ord_id, order.px, order.qty, order.orig_seq, order.instrument = now, 0, 0, 0, 0, 0
    order.kind, order.side, order.tif, order.flags, order.strategy = CANCEL_ALL, 0, 0, 0, place
    order.check = order_check(order, orders.tail + 1)
    order.t_feed = order.t_strategy = order.t_risk = 0
    commit(orders, order)
    return True


@leaf
def sweep(agent, account, now):
    """Revalue the next instrument that has a position: prices move without us. One a turn, only when there is nothing else.

    A book that is RECOVERING values nothing: it is told again from the morning on, or is made anew order by order.
    """
    index = account.marked_at
    all_limits = span(agent.limits)
    account.marked_at = index + 1 if index + 1 < all_limits.count else 0
    position = row(span(agent.positions), index, position_dtype)
    exposure = row(span(agent.exposures), index, exposure_dtype)
    if position.bought_qty == 0 and position.sold_qty == 0 and exposure.carried_qty == 0:
        return
    quote = agent.quote
    if checks.read_quote(row(span(agent.quotes), index, quote_dtype), quote) and quote.state != RECOVERING:
        bps = row(all_limits, index, limits_dtype).collar_bps
        mark = checks.mark_of(quote.bid_px, quote.ask_px, quote.last_px, bps)
        remark(account, position, exposure, mark, now)


@leaf
def risk_turn(agent, now):
    """One step: up to REPORTS reports, up to BATCH intents of each strategy. Returns how many there were."""
    account = record_at(agent.account_at, account_dtype)
    counters = record_at(agent.counters_at, risk_counters_dtype)
    rows, buckets, strategies = span(agent.pool.rows), span(agent.buckets), span(agent.strategies)
    work = 0

    reports = agent.reports
    while work < REPORTS:
        there, at, number = poll(reports)
        if not there:
            break
        report = record_at(at, report_dtype)
        step_over(reports, number)
        apply_report(
            report, agent.pool, rows, buckets, account, span(agent.positions), span(agent.exposures), strategies,
            span(agent.fills), record_at(agent.undo_at, undo_dtype), counters, now,
        )  # fmt: skip
        store_release(account, "report_seq", reports.next)
        work += 1
    if work != 0:
        done(reports)

    gate = checks.check_run(record_at(agent.run_at, run_dtype))
    if gate == OK:
        gate = agent.gate if account.lost == 0 else NOT_READY
    advance_window(account, agent.window_at, now)
    sent = agent.orders.tail
    for step in range(agent.places):
        place = agent.first + step
        if place >= agent.places:
            place -= agent.places
        strategy = row(strategies, place, strategy_row_dtype)
        if load_relaxed(strategy, "cancel_wanted") != 0 and cancel_wanted(agent, place, now):
            store_relaxed(strategy, "cancel_wanted", 0)
            strategy.canceled_all += 1
            counters.cancel_alls += 1
            work += 1
        intents = agent.intents[place]
        if intents.control == 0:
            continue
        taken = 0
        while taken < BATCH and ready(intents):
            full = not room(agent.orders, 1)
            intent = take(intents, intent_dtype)  # by `poll` 50 instructions more: no register is left
            kind = intent.kind + 0
            if full and (kind == CANCEL or kind == CANCEL_ALL):
                intents.next -= 1  # a cancel waits for room, it is never refused for want of it
                break
            taken += 1
            if agent.gate != OK and (kind == NEW or kind == REPLACE) and find_order(rows, buckets, intent.cl_ord_id) != 0:
                continue  # approved before the crash that we catch up with, and read again
            reason = checks.check_codes(kind, intent.side, intent.tif, intent.strategy, place, strategy_of(intent.cl_ord_id))
            index = 0
            agent.short = 0
            if reason == OK and (kind == NEW or kind == REPLACE):
                reason = judge(agent, intent, place, gate, account, rows, buckets, now)
                if reason == OK and full:
                    reason = RING_FULL
                if reason == OK:
                    index = take_row(agent.pool, rows, risk_order_dtype)
                    if index == 0:
                        reason = ORDER_TABLE_FULL
            if reason != OK:
                deny(agent, intent, place, reason)
                counters.denied += 1
                strategy.denied += 1
                at = agent.counters_at + 8 * (DENIED_AT + reason)
                store64(at, load64(at) + 1)
                continue
            if index != 0:
                enter(agent, intent, index, account, rows, buckets)
                count_message(account, agent.window_at)
                strategy.approved += 1
                if kind == NEW:
                    counters.orders += 1
                else:
                    counters.replaces += 1
            elif kind == CANCEL:
                counters.cancels += 1
                strategy.cancels += 1
                index = find_order(rows, buckets, intent.cl_ord_id)
                if index == 0:
                    counters.cancels_unknown += 1
                elif intent.qty == 0:
                    row(rows, index, risk_order_dtype).status = PENDING_CANCEL
            else:
                counters.cancel_alls += 1
                strategy.cancels += 1
            stamp = tsc()
            pass_on(agent, intent, stamp)
            account.entering = 0
            done(intents)  # each by itself: a successor must not read again what was sent
            apart = stamp - intent.ts_recv
            histogram = agent.histograms_at
            record_value(record_at(histogram, histogram_dtype), histogram, apart - intent.t_strategy)
            histogram += HISTOGRAM_BYTES
            record_value(record_at(histogram, histogram_dtype), histogram, apart)
        if taken != 0:
            done(intents)
            counters.intents += taken
            work += taken
    if agent.orders.tail != sent:
        publish_new(agent.orders)
        counters.approved = agent.orders.tail
        counters.orders_peak = most_used(agent.pool)
    publish(agent.denies)
    agent.first = agent.first + 1 if agent.first + 1 < agent.places else 0
    if work == 0:
        sweep(agent, account, now)
    return work


@cache
def kernel():
    """Return the compiled duty cycle of risk."""
    return bind(duty_cycle, "risk", turn=risk_turn)


__all__ = ["STRATEGY_ON", "kernel", "risk_agent_dtype", "risk_turn"]
