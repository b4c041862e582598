"""What orders of earlier instances traded in this session, by symbol: the venue's replay tells it from message 1.

The gateway alone books here, each execution once by match number, a voided one out again. Risk takes the sums for what it carries
from earlier runs of the day (risk/earlier.py): they count what filled while nobody was there to see it.

A message that repeats (a replay from 1 in a session that was followed before) is not booked again: `earlier_from`. An execution,
or the break of one, that can be booked nowhere raises `earlier_doubts`: risk then pulls the kill switch.
"""

from hftd.core.atomics import fence_release, store_relaxed
from hftd.core.jit import hot, leaf
from hftd.core.memory import copy_bytes, record_at, row, span
from hftd.gateway.memory import earlier_dtype, session_dtype
from hftd.gateway.reports import add_trade
from hftd.msg.enums import Side

_BUY = int(Side.BUY)
_EARLIER = earlier_dtype.itemsize
_SPREAD = 0x9E3779B97F4A7C1 & 0x7FFFFFFF


@leaf
def booked_already(agent):
    """Tell whether the message that is being applied was booked when it came the first time."""
    session = record_at(agent.session_at, session_dtype)
    return session.next_seq < session.earlier_from


@leaf
def _changed(agent):
    session = record_at(agent.session_at, session_dtype)
    fence_release()
    store_relaxed(session, "earlier_version", session.earlier_version + 1)


@hot
def doubt(agent):
    """Note that something traded, or was voided, that could be booked nowhere."""
    if booked_already(agent):
        return
    record_at(agent.session_at, session_dtype).earlier_doubts += 1
    _changed(agent)


@hot
def find_earlier(agent, symbol):
    """Return 1 + the row of a symbol (eight ASCII bytes), made where there is none yet; 0 where no row is free."""
    rows = span(agent.earlier)
    at = (symbol ^ (symbol >> 29)) * _SPREAD >> 16
    for step in range(rows.count):
        index = (at + step) & (rows.count - 1)
        found = row(rows, index, earlier_dtype)
        if found.symbol == 0:
            found.symbol = symbol
        if found.symbol == symbol:
            return index + 1
    return 0


@leaf
def keep_earlier(agent, index):
    """Keep the image of a row, where otherwise that of a position is kept."""
    session = record_at(agent.session_at, session_dtype)
    session.undo_instrument = -1
    fence_release()
    copy_bytes(agent.undo_position_at, agent.earlier.base + index * _EARLIER, _EARLIER)
    fence_release()
    session.undo_instrument = span(agent.table.positions).count + index


@hot
def book_earlier(agent, index, side, px, qty, sign):
    """Book an execution of an earlier instance's order (sign 1), or take a voided one out (-1)."""
    if booked_already(agent):
        return
    earlier = row(span(agent.earlier), index, earlier_dtype)
    add_trade(earlier, side, px, qty, sign)
    if sign < 0:
        if side == _BUY:
            earlier.broken_bought += qty
        else:
            earlier.broken_sold += qty
    _changed(agent)


@hot
def count_earlier(agent, index):
    """Count an accepted order of an earlier instance."""
    if not booked_already(agent):
        row(span(agent.earlier), index, earlier_dtype).orders += 1
