"""Loops that benchmarks time: the whole check of an order, and the whole turn from intent ring to order ring and back.

`check_many` judges one intent again and again, its id one higher each time: every check up to the last, nothing written for it.
`turn_many` sends intents through `risk_turn`, takes the orders as the gateway would, and lets the venue reject each, so that
nothing piles up: a push, a turn, a pop, a report and a second turn each time.
"""

from hftd.core.jit import hot
from hftd.core.memory import record_at, span
from hftd.msg.enums import ExecType
from hftd.msg.records import intent_dtype, order_dtype, report_dtype
from hftd.risk.loop import judge, risk_turn
from hftd.risk.memory import account_dtype, strategy_row_dtype
from hftd.shm.ring import claim, commit, done, poll, publish, step_over

REJECTED = int(ExecType.REJECTED)


@hot
def check_many(agent, intent, now, count):
    """Judge `intent` (an intent_dtype record of strategy 0) `count` times. Returns how often it was denied."""
    account = record_at(agent.account_at, account_dtype)
    rows, buckets = span(agent.pool.rows), span(agent.buckets)
    strategy = record_at(agent.strategies.base, strategy_row_dtype)
    denied = 0
    for _ in range(count):
        intent.cl_ord_id = strategy.last_id + 1
        if judge(agent, intent, 0, 0, account, rows, buckets, now) != 0:
            denied += 1
    return denied


@hot
def turn_many(agent, intents, orders, reports, template, now, count):
    """Send `count` intents like `template` through whole turns. Returns how many came out as orders.

    intents: producer_dtype record of strategy 0's ring; orders: consumer_dtype record of the order ring (the gateway's place);
    reports: producer_dtype record of the report ring; template: intent_dtype record whose cl_ord_id is the last one used.
    """
    passed = 0
    for _ in range(count):
        template.cl_ord_id += 1
        intent = claim(intents, intent_dtype)
        intent.ts_recv, intent.cl_ord_id, intent.px, intent.qty = now, template.cl_ord_id, template.px, template.qty
        intent.orig_seq, intent.instrument, intent.kind, intent.side = 0, template.instrument, template.kind, template.side
        intent.tif, intent.flags, intent.strategy, intent.t_feed, intent.t_strategy = 0, 0, 0, 0, 0
        commit(intents, intent)
        publish(intents)
        risk_turn(agent, now)
        there, at, number = poll(orders)
        if there:
            order = record_at(at, order_dtype)
            step_over(orders, number)
            report = claim(reports, report_dtype)
            report.cl_ord_id, report.px, report.qty, report.leaves_qty = order.cl_ord_id, order.px, order.qty, 0
            report.instrument, report.exec_type, report.flags, report.orig_seq = order.instrument, REJECTED, order.side, 0
            commit(reports, report)
            publish(reports)
            done(orders)
            passed += 1
            risk_turn(agent, now)
    return passed
