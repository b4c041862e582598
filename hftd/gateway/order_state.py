"""The states of an order, and what each message of the venue does to them. Pure: one or two rows in, one or two rows changed.

A row's `status` is what people and other processes see; it follows from `marks`, the facts behind it:

    ACCEPTED         the venue acknowledged it                 UNKNOWN    the connection broke while it was open
    CANCEL_SENT      our cancel is on its way                  FOREIGN    it belongs to an earlier instance
    REPLACE_SENT     a replacement is on its way               REPLACED   finished: its replacement carries on
    CANCEL_WANTED    a cancel is to be sent when it can be

so that a fact that ends (the replacement was rejected, the connection is back) leaves the right status behind, whatever came in
between. Rules kept here, tested against a plain twin (tests/naive/orders.py):

- leaves + cum <= qty, and leaves is 0 exactly when the order is finished.
- An execution always counts, also of an order that is finished already: what traded, traded.
- Nothing but the venue's word finishes an order that may have reached it. A replacement whose original is finished without
  having been replaced is finished too: the venue ignores a replace of a dead order in silence, and its messages are in sequence.
- A message that does not fit changes nothing and is counted (the result is CONTRADICTION).
- A replaced order hands its executed shares on: qty is the total of the whole chain.

Each function returns the ExecType to be reported, REPEAT where the row told us so before, or CONTRADICTION.
"""

from hftd.core.jit import leaf
from hftd.msg.enums import TERMINAL_FROM, TERMINAL_TO, ExecType, OrdStatus

MARK_ACCEPTED, MARK_CANCEL_SENT, MARK_REPLACE_SENT, MARK_UNKNOWN = 1, 2, 4, 8
MARK_CANCEL_WANTED, MARK_FOREIGN, MARK_REPLACED = 16, 32, 64

REPEAT, CONTRADICTION = 0, -1

NONE, PENDING_NEW, LIVE, PARTIALLY_FILLED = (int(OrdStatus[n]) for n in ("NONE", "PENDING_NEW", "LIVE", "PARTIALLY_FILLED"))
PENDING_REPLACE, PENDING_CANCEL, FILLED = (int(OrdStatus[n]) for n in ("PENDING_REPLACE", "PENDING_CANCEL", "FILLED"))
CANCELED, REJECTED, UNKNOWN = (int(OrdStatus[n]) for n in ("CANCELED", "REJECTED", "UNKNOWN"))

SAY_NEW, SAY_FILL, SAY_CANCELED, SAY_REPLACED = (int(ExecType[n]) for n in ("NEW", "FILL", "CANCELED", "REPLACED"))
SAY_REJECTED, SAY_MODIFIED, SAY_RESTATED = (int(ExecType[n]) for n in ("REJECTED", "MODIFIED", "RESTATED"))
SAY_CANCEL_REJECTED, SAY_CANCEL_PENDING = int(ExecType.CANCEL_REJECTED), int(ExecType.CANCEL_PENDING)


@leaf
def is_open(order):
    """Tell whether an order may still trade."""
    return order.status != NONE and not (order.status >= TERMINAL_FROM and order.status <= TERMINAL_TO)


@leaf
def open_status(marks, cum):
    """Return the status of an open order from the facts."""
    if marks & MARK_UNKNOWN:
        return UNKNOWN
    if marks & MARK_CANCEL_SENT:
        return PENDING_CANCEL
    if marks & MARK_REPLACE_SENT:
        return PENDING_REPLACE
    if not marks & MARK_ACCEPTED:
        return PENDING_NEW
    return PARTIALLY_FILLED if cum > 0 else LIVE


@leaf
def mark(order, marks):
    """Add facts to an open order."""
    order.marks |= marks
    order.status = open_status(order.marks, order.cum)


@leaf
def unmark(order, marks):
    """Take facts away from an open order."""
    order.marks &= ~marks
    order.status = open_status(order.marks, order.cum)


@leaf
def finish(order, status):
    """End an order: nothing of it is open any more."""
    order.leaves = 0
    order.marks &= ~MARK_UNKNOWN
    order.status = status


@leaf
def accept(order, qty, px, venue_id, dead):
    """The venue accepted a new order of `qty` at `px`. dead: it is finished at once (then the caller reports CANCELED, too)."""
    if order.marks & MARK_ACCEPTED:
        return REPEAT
    if not is_open(order) or order.prev != 0:
        return CONTRADICTION
    order.qty, order.leaves, order.px, order.venue_id = qty, qty, px, venue_id
    mark(order, MARK_ACCEPTED)
    if dead:
        finish(order, CANCELED)
    return SAY_NEW


@leaf
def execute(order, qty):
    """`qty` shares traded. Always counts; of a finished order it only raises `cum`."""
    if is_open(order):
        order.cum += qty
        order.leaves = max(order.leaves - qty, 0)
        if order.leaves == 0:
            finish(order, FILLED)
        else:
            mark(order, MARK_ACCEPTED)
    else:
        order.cum += qty
    return SAY_FILL


@leaf
def cancel(order, qty):
    """`qty` shares left the order without trading: all that were open, or some.

    Some is never the answer to a cancel of ours, which asks for all: that one is still on its way.
    """
    if not is_open(order):
        return CONTRADICTION
    order.leaves = max(order.leaves - qty, 0)
    if order.leaves == 0:
        finish(order, CANCELED)
    else:
        order.qty = order.cum + order.leaves
    return SAY_CANCELED


@leaf
def modify(order, leaves):
    """The venue changed what is open to `leaves` shares."""
    if not is_open(order):
        return CONTRADICTION
    order.leaves = leaves
    order.qty = order.cum + leaves
    if leaves == 0:
        finish(order, CANCELED)
    else:
        mark(order, MARK_ACCEPTED)
    return SAY_MODIFIED


@leaf
def replace(original, order, leaves, px, venue_id, dead):
    """`order` took the place of `original`; `leaves` shares of it are open. dead: it is finished at once."""
    if order.marks & MARK_ACCEPTED:
        return REPEAT
    if not is_open(order) or not is_open(original):
        return CONTRADICTION
    order.cum = original.cum
    order.leaves, order.qty, order.px, order.venue_id = leaves, original.cum + leaves, px, venue_id
    finish(original, CANCELED)
    original.marks |= MARK_REPLACED
    mark(order, MARK_ACCEPTED)
    if dead or leaves == 0:
        finish(order, CANCELED)
    return SAY_REPLACED


@leaf
def reject(order):
    """The venue refused a new order or a replacement."""
    if not is_open(order) or order.marks & MARK_ACCEPTED:
        return CONTRADICTION
    finish(order, REJECTED)
    return SAY_REJECTED


@leaf
def cancel_rejected(order):
    """The venue refused our cancel: the order goes on."""
    if not is_open(order):
        return CONTRADICTION
    unmark(order, MARK_CANCEL_SENT)
    return SAY_CANCEL_REJECTED


@leaf
def lose(order):
    """The connection broke: nobody knows, until the venue says."""
    mark(order, MARK_UNKNOWN)
