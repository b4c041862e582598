"""The exchange's loop: listen, let the flow happen, answer, publish, serve requests; and wait when there is nothing to do.

One thread does it all, in an order that is always the same, so that what the tape says is what happened. It returns to Python after
a slice, or early when cold code has work: a connection to accept or to close, a store to enlarge.
"""

from hftd.core.atomics import pause, tsc
from hftd.core.clock import ticks_to_ns
from hftd.core.idle import SPIN
from hftd.core.jit import hot, leaf
from hftd.core.libc import nanosleep, poll, sched_yield
from hftd.core.memory import address_of, record_at, row, span
from hftd.sim.memory import OWN_BYTES, account_dtype, pollfd_dtype
from hftd.sim.once import once
from hftd.sim.session import listen, tell
from hftd.sim.source import advance, follow
from hftd.sim.wire import answer, flush

SLICE, COLD = 0, 1

MARGIN = 1 << 20  # bytes a stream has left before it is enlarged: but for canceling all that is open, a turn cannot write so much
MARGIN_ROWS = 1 << 14
NEAR_NS = 1_500_000  # nearer than this, poll's milliseconds are too coarse
LAST_NS = 80_000  # nearer than this, sleeping would be late


@leaf
def elapsed_ns(x, now):
    """Real ns since the flow began; -1 while it waits."""
    if x.holding == 1:
        return -1
    return ticks_to_ns(x.clock, max(now - x.start, 0))


@leaf
def short(stream, own):
    """Whether a stream should be enlarged before the next turn. own: open orders of accounts, which may all be canceled in it."""
    return stream.capacity - stream.tail < MARGIN + OWN_BYTES * own or stream.rows - stream.count < MARGIN_ROWS + own


@once
def cold_wanted(x):
    """Whether cold code has work."""
    wanted = x.closing == 1
    wanted = wanted or x.order_log.rows - x.order_log.count < MARGIN_ROWS or x.fill_log.rows - x.fill_log.count < MARGIN_ROWS
    wanted = wanted or x.admin.rows - x.admin.count < MARGIN_ROWS
    own = 0
    for a in range(1, x.account_count):
        account = row(span(x.accounts), a, account_dtype)
        own += account.own_count
        wanted = wanted or short(account.stream, account.own_count)
    return wanted or short(x.tape, own)


@once
def wait(x, now):
    """Give the core away until something is due or comes in. Returns 1 when a listening socket or a log-in wants cold code."""
    state = x.idle
    state.empty += 1
    if state.mode == SPIN or state.empty < state.spins:
        pause()
        return 0
    ahead = NEAR_NS
    if x.holding == 0 and x.done == 0:
        ahead = x.next_due - elapsed_ns(x, now)
    if ahead < LAST_NS:
        sched_yield()
        return 0
    x.sleeps += 1
    if ahead < NEAR_NS:
        state.park_ns = ahead - LAST_NS // 2
        nanosleep(address_of(state), 0)
        return 0
    poll(x.polls, x.poll_count, 1)
    for i in range(x.poll_cold):
        if record_at(x.polls + 8 * i, pollfd_dtype).revents != 0:
            return 1
    return 0


@hot
def cycle(x, until):
    """Run until the time stamp counter reaches `until`. Returns SLICE, or COLD when cold code has work before that."""
    while True:
        now = tsc()
        if now >= until:
            return SLICE
        elapsed = elapsed_ns(x, now)
        advance(x, elapsed)
        work = 0
        for a in range(1, x.account_count):
            work += listen(x, a, now)
        if x.holding == 0 and x.done == 0:
            work += follow(x, elapsed)
        for a in range(1, x.account_count):
            work += tell(x, a, now)
        work += flush(x, now)
        work += answer(x)
        x.turns += 1
        if cold_wanted(x):
            return COLD
        if work > 0:
            x.idle.empty = 0
        elif wait(x, now) == 1:
            return COLD
