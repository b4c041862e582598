"""What the gateway tells the others: one ExecutionReport for each thing that happened, in the order it happened.

`report` needs room in the ring: whoever calls it has looked (`room_for_reports`) before touching an order, so that a report is
never dropped and an order never moves unseen. Orders of an earlier instance are nobody's here and are not reported.
"""

from hftd.core.jit import hot, leaf
from hftd.core.memory import record_at, row, span
from hftd.gateway.memory import gateway_counters_dtype
from hftd.gateway.order_state import MARK_FOREIGN
from hftd.msg.enums import ExecType, IntentKind, LogCode, Side
from hftd.msg.records import REPORT_SELL, position_dtype, report_dtype
from hftd.shm.errlog import note_error
from hftd.shm.ring import claim, commit, room

REPORTS_PER_MESSAGE = 8
"""Most reports that one message of the venue, or one order, may cause."""

_SELL, _BUY = int(Side.SELL), int(Side.BUY)
_DENIED, _CANCEL_REJECTED = int(ExecType.DENIED), int(ExecType.CANCEL_REJECTED)
_CANCEL, _CANCEL_ALL = int(IntentKind.CANCEL), int(IntentKind.CANCEL_ALL)
_ORDER_DENIED = int(LogCode.ORDER_DENIED)


@hot
def room_for_reports(agent):
    """Tell whether one more message may be applied."""
    return room(agent.reports, REPORTS_PER_MESSAGE)


@hot
def note(agent, code, a, b, now):
    """Count an error in our log of distinct errors (shm/errlog.py)."""
    note_error(span(agent.errors), code, a, b, now)


@hot
def report(agent, say, cl_ord_id, instrument, side, px, qty, leaves, venue_id, orig_seq, flags, ts_event, ts_recv):
    """Publish one ExecutionReport; fields as in report_dtype. Consumers that poll the tail see it after the batch's `publish`."""
    if agent.skip_reports > 0:  # published by our predecessor before it died in the middle of this message
        agent.skip_reports -= 1
        return
    slot = claim(agent.reports, report_dtype)
    slot.ts_recv = ts_recv
    slot.ts_event = ts_event
    slot.cl_ord_id = cl_ord_id
    slot.px = px
    slot.venue_id = venue_id
    slot.qty = qty
    slot.leaves_qty = leaves
    slot.orig_seq = orig_seq
    slot.instrument = instrument
    slot.exec_type = say
    slot.flags = flags | (REPORT_SELL if side == _SELL else 0)
    commit(agent.reports, slot)
    record_at(agent.counters_at, gateway_counters_dtype).reports += 1


@leaf
def report_order(agent, order, say, qty, venue_id, orig_seq, ts_event, ts_recv):
    """Report something about `order` at its own price, with what is open of it now."""
    if not order.marks & MARK_FOREIGN:
        report(agent, say, order.cl_ord_id, order.instrument * 1, order.side * 1, order.px, qty, order.leaves * 1, venue_id,
               orig_seq, 0, ts_event, ts_recv)  # fmt: skip


@hot
def refuse(agent, order, reason, now):
    """Answer an Order of risk's that is not sent. A cancel is told CANCEL_REJECTED: the order it meant may well be open."""
    counters = record_at(agent.counters_at, gateway_counters_dtype)
    note(agent, _ORDER_DENIED, reason, order.cl_ord_id, now)
    if order.kind == _CANCEL_ALL:
        return
    say = _DENIED
    if order.kind == _CANCEL:
        say = _CANCEL_REJECTED
        counters.cancels_refused += 1
    else:
        counters.denied += 1
    report(agent, say, order.cl_ord_id, order.instrument * 1, order.side * 1, order.px, order.qty * 1, 0, reason,
           order.orig_seq * 1, 0, 0, order.ts_recv)  # fmt: skip


@leaf
def add_trade(sums, side, px, qty, sign):
    """Add an execution (sign 1) to a record of what was bought and sold, or take a voided one out (sign -1)."""
    if side == _BUY:
        sums.bought_qty += sign * qty
        sums.bought_cash += sign * qty * px
    else:
        sums.sold_qty += sign * qty
        sums.sold_cash += sign * qty * px
    sums.fills += sign
    if sign > 0:
        sums.last_fill_px = px
    else:
        sums.broken += 1


@hot
def count_fill(agent, instrument, side, px, qty, sign):
    """Add an execution to the position row (sign 1), or take a voided one out (sign -1)."""
    positions = span(agent.table.positions)
    if instrument >= positions.count:
        return
    add_trade(row(positions, instrument, position_dtype), side, px, qty, sign)
