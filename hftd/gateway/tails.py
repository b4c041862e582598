"""Slow orders: the stamps of those that took longer than `daemon.tail_us`, kept as they leave. Rarely called.

    tails   one tail_dtype row each, a ring of TAILS; the gateway writes, the recorder finds out why (recorder/causes.py)

Which roles paused meanwhile is not looked at here: that takes time, and on this core no order may wait for it. Orders that find no
room to answer in, or no room in the socket, stay in risk's ring; since when is noted, and told as a pause when they go on.
"""

from hftd.core.apart import apart
from hftd.core.atomics import fence_release, store_relaxed, store_release
from hftd.core.jit import hot
from hftd.core.memory import record_at, row, span
from hftd.gateway.memory import TAILS, gateway_counters_dtype, tail_dtype
from hftd.shm.pauses import note_wait


@hot
def keep_tail(agent, order, fed, decided, approved, sent, call, batch):
    """Keep the stamps of a slow order. fed … sent: ticks from its cause to each hop; call: ticks of send(); batch: orders in it."""
    apart()
    counters = record_at(agent.counters_at, gateway_counters_dtype)
    tail = row(span(agent.tails), counters.slow_orders & (TAILS - 1), tail_dtype)
    store_relaxed(tail, "number", 0)
    fence_release()                               # what follows must not be seen before it
    tail.cl_ord_id, tail.ts_recv = order.cl_ord_id, order.ts_recv
    tail.t_feed, tail.t_strategy, tail.t_risk = fed, decided, approved
    tail.t_sent, tail.t_call, tail.batch = sent, call, batch
    tail.instrument, tail.strategy, tail.kind = order.instrument, order.strategy, order.kind
    store_release(tail, "number", counters.slow_orders + 1)
    counters.slow_orders += 1


@hot
def hold(agent, now, why):
    """Orders wait, and not for us: note since when. why: a kind of pause, HELD or SOCKET."""
    apart()
    if agent.held_since == 0:
        agent.held_since, agent.held_why = now, why


@hot
def go_on(agent, now):
    """Orders are taken again: tell how long they were held up."""
    apart()
    note_wait(agent.meter_at, agent.pauses_at, agent.held_since, now, agent.held_why, 0)
    agent.held_since = 0
