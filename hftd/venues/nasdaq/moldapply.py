"""A MoldUDP64 packet taken up: its framing walked before a message of it is believed, what is new in it applied and published.

Live packets come here from `moldfeed.py`, those that waited for their turn from `moldgap.py`, in the order of their messages either
way.
"""

from hftd.core.apart import apart
from hftd.core.atomics import tsc
from hftd.core.jit import hot, leaf
from hftd.core.memory import load8, load16, record_at, row, span, swap16
from hftd.feed.state import DOES_EMIT, SINK_RING, kind_dtype, listed_dtype
from hftd.shm.histogram import histogram_dtype, record_value
from hftd.shm.ring import publish
from hftd.venues.nasdaq.itchfeed import apply_messages
from hftd.venues.nasdaq.itchmend import keep
from hftd.venues.nasdaq.moldudp64 import HEADER


@leaf
def fills(agent, at, end, sequence, count):
    """Check that `count` framed messages fill the bytes from `at` to `end`, and note each instrument's last one with an effect."""
    if count == 1:                                # most packets of a live line: no call for them
        if at + 2 > end or at + 2 + swap16(load16(at)) != end:
            return False
        note_last(span(agent.listed), span(agent.kinds), at + 2, end, sequence)
        return True
    return walk(agent, at, end, sequence, count)


@hot
def walk(agent, at, end, sequence, count):
    """Check, and note, as `fills` does, message by message."""
    apart()
    listing, kinds = span(agent.listed), span(agent.kinds)
    for i in range(count):
        if at + 2 > end:
            return False
        message = at + 2
        at = message + swap16(load16(at))
        if at > end:
            return False
        note_last(listing, kinds, message, at, sequence + i)
    return at == end


@leaf
def note_last(listing, kinds, message, end, sequence):
    """Note that the message from `message` to `end`, if it has an effect, is so far the packet's last one of its instrument."""
    if end - message >= 3 and row(kinds, load8(message), kind_dtype).does & DOES_EMIT != 0:
        row(listing, swap16(load16(message + 1)), listed_dtype).last = sequence & 0xFFFFFFFF


@leaf
def apply_packet(agent, at, length, sequence, count):
    """Apply what is new in a checked packet whose first message is not beyond the expected one, and publish."""
    start = at + HEADER
    while sequence < agent.expected:
        start += 2 + swap16(load16(start))
        sequence += 1
        count -= 1
    if agent.mending != 0:
        keep(agent, start, at + length, sequence)
    told = agent.md.tail
    apply_messages(agent, start, at + length, sequence, count)
    agent.expected = sequence + count
    if agent.sink == SINK_RING:
        publish(agent.md)
    if agent.histograms_at != 0:
        ticks = agent.emitted if agent.md.tail != told else tsc() - agent.ts_recv
        record_value(record_at(agent.histograms_at, histogram_dtype), agent.histograms_at, ticks)
