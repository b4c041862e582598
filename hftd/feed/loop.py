"""The feed's loop: receive, sequence, decode, update books, publish; and, while messages are missing, catch up.

One turn takes at most a batch of datagrams from each line. Nothing here knows a wire format: the venue's folder does
(`venues/nasdaq/moldfeed.py` for packets, `moldgap.py` for what is missing, `itchfeed.py` for messages).
"""

from functools import cache

from hftd.core.bind import bind
from hftd.core.duty import duty_cycle
from hftd.core.jit import leaf
from hftd.feed.memory import LINE_A, LINE_R
from hftd.venues.nasdaq.itchmend import mend
from hftd.venues.nasdaq.moldfeed import count_wait, receive
from hftd.venues.nasdaq.moldgap import catch_up

LINES = LINE_R + 1


@leaf
def feed_turn(agent, now):
    """One turn. agent: feed_agent_dtype record. Returns datagrams handled and steps of recovery, or -Reason."""
    work = 0
    before, agent.turned = agent.turned, now
    for line in range(LINES):                         # one call: what is inlined twice is compiled twice
        if agent.lines[line].fd >= 0 and (line != LINE_R or agent.behind != 0):
            work += receive(agent, line)
    if agent.mending != 0:
        work += mend(agent, now)
    if work > 0 and before != 0 and agent.lines[LINE_A].stamped == 0:
        count_wait(agent, agent.ts_recv - before)     # the lines were last looked at after that turn began
    if agent.behind != 0:
        work += catch_up(agent, now)
    if agent.reason != 0:
        reason = agent.reason
        agent.reason = 0
        return -reason
    return work


@cache
def kernel():
    """Return the compiled duty cycle of the feed."""
    return bind(duty_cycle, "feed", turn=feed_turn)
