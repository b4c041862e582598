"""The duty cycle: the loop every agent runs, and the only place where compiled code waits.

A role supplies `turn(agent, now)`: one bounded step of its work, which returns how many things it did, or a negative Reason. The
loop stamps the mark's heartbeat, notes a pause where much time passed since the turn before, counts, idles, and returns to Python
at the end of a slice or with the reason. There is no call from compiled code into Python: the host handles the reason in plain
Python and re-enters.

`bind(duty_cycle, "feed", turn=feed_turn)` makes the loop of one role; `fused_cycle` calls several in turn in one process.
"""

from hftd.core.atomics import store_relaxed, store_release, tsc
from hftd.core.idle import idle, note_gap, parked_out, resume

turn = None
turn_a = turn_b = turn_c = None


def duty_cycle(agent, mark, waiting, turns):
    """Run up to `turns` turns. agent: the role's handle record; mark: mark_dtype record; waiting: idle_dtype record.

    Returns 0 (Reason.SLICE) after `turns` turns, or the Reason a turn gave.
    """
    work = 0
    resume(waiting)
    for _ in range(turns):
        now = tsc()
        store_relaxed(mark, "heartbeat", now)
        if now - waiting.turned > waiting.pause_ticks:
            note_gap(waiting, now, work)
        waiting.turned = now
        work = turn(agent, now)
        store_relaxed(mark, "cycles", mark.cycles + 1)
        if work < 0:
            return -work
        if work > 0:
            store_relaxed(mark, "busy", mark.busy + 1)
        idle(waiting, work)
        if parked_out(waiting):
            break
    return 0


def fused_cycle(agent_a, mark_a, agent_b, mark_b, agent_c, mark_c, waiting, turns):
    """Run strategy, risk and gateway turns in one loop. Returns 0, or a byte for each: the Reason it gave, 0 where it gave none.

    After a pause two may have one in the same turn, say OVERRUN and RECONNECT: a reason is given once, and must not be lost.
    """
    work = 0
    resume(waiting)
    for _ in range(turns):
        now = tsc()
        if now - waiting.turned > waiting.pause_ticks:
            note_gap(waiting, now, work)
        waiting.turned = now
        store_relaxed(mark_a, "heartbeat", now)
        store_relaxed(mark_b, "heartbeat", now)
        store_release(mark_c, "heartbeat", now)
        a = turn_a(agent_a, now)
        b = turn_b(agent_b, now)
        c = turn_c(agent_c, now)
        store_relaxed(mark_a, "cycles", mark_a.cycles + 1)
        store_relaxed(mark_b, "cycles", mark_b.cycles + 1)
        store_relaxed(mark_c, "cycles", mark_c.cycles + 1)
        if (a | b | c) < 0:
            return max(-a, 0) | max(-b, 0) << 8 | max(-c, 0) << 16
        if a > 0:
            store_relaxed(mark_a, "busy", mark_a.busy + 1)
        if b > 0:
            store_relaxed(mark_b, "busy", mark_b.busy + 1)
        if c > 0:
            store_relaxed(mark_c, "busy", mark_c.busy + 1)
        work = a + b + c
        idle(waiting, work)
        if parked_out(waiting):
            break
    return 0
