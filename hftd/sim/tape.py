"""What the exchange says: ITCH messages onto the tape, OUCH messages onto an account's stream.

Both are written straight into the bytes that will be sent, framing included, and indexed by number; nothing is copied again.
Every message carries `x.ts`, the stamp of what is happening now, which never goes back.
"""

from hftd.core.jit import hot, leaf
from hftd.core.layout import offset_of
from hftd.core.memory import address_of, copy_bytes, record_at, row, span, store8, store16, store64, swap16, swap32, swap64
from hftd.sim.memory import account_dtype, fill_log_dtype, order_dtype, order_log_dtype, symbol_dtype
from hftd.venues.nasdaq import itch50 as itch
from hftd.venues.nasdaq import ouch50 as ouch

SEQUENCED = ord("S")
_ACCEPTED_ID = offset_of(ouch.out_order_accepted_dtype, "cl_ord_id")
_REPLACED_ID = offset_of(ouch.out_order_replaced_dtype, "cl_ord_id")
_REJECTED_ID = offset_of(ouch.out_rejected_dtype, "cl_ord_id")
_ORDER_ID = offset_of(order_dtype, "cl_ord_id")
ID_SIZE = 14
ORDER_LOG_SIZE = order_log_dtype.itemsize
FILL_LOG_SIZE = fill_log_dtype.itemsize


@leaf
def reserve(stream, size):
    """Return the address of `size` fresh bytes at the end of `stream`, which become its next message.

    Where there is no room the bytes are scratch behind the end, and `overflow` says that the session is void.
    """
    at = stream.base + stream.capacity
    if stream.tail + size <= stream.capacity and stream.count < stream.rows:
        at = stream.base + stream.tail
        store64(stream.index + 8 * stream.count, stream.tail)
        stream.tail += size
        stream.count += 1
    else:
        stream.overflow += 1
    return at


@leaf
def grow(growing, size):
    """Return the address of a fresh row of `size` bytes; row 0 (scratch) where there is none left."""
    growing.count += 1
    if growing.count >= growing.rows:
        growing.count -= 1
        growing.overflow += 1
        return growing.base
    return growing.base + growing.count * size


# ---------------------------------------------------------------- ITCH


@hot
def publish(x, kind, locate, size):
    """Return the address of a fresh ITCH message of `size` bytes with its header written."""
    at = reserve(x.tape, size + 2)
    store16(at, swap16(size))
    head = record_at(at + 2, itch.header_dtype)
    head.type = kind
    head.locate = swap16(locate)
    head.tracking = 0
    itch.set_stamp(head, x.ts)
    x.published += 1
    return at + 2


@hot
def publish_copy(x, source, size):
    """Publish a message of history as it stands."""
    at = reserve(x.tape, size + 2)
    store16(at, swap16(size))
    copy_bytes(at + 2, source, size)
    x.published += 1


@hot
def note_admin(x, position):
    """Remember a message of reference data, for snapshots. position: its offset in the tape."""
    store64(grow(x.admin, 8), position)


@hot
def publish_add(x, index):
    """A: order `index` has joined the book."""
    order = row(span(x.orders.rows), index, order_dtype)
    message = record_at(publish(x, itch.ADD_ORDER, order.locate, 36), itch.add_order_dtype)
    message.ref = swap64(order.ref)
    message.side = 83 if order.side else 66
    message.shares = swap32(order.left)
    message.stock = row(span(x.symbols), order.locate, symbol_dtype).stock
    message.price = swap32(order.px)


@hot
def publish_executed(x, locate, ref, shares, match):
    """E: shares of a resting order traded at its price."""
    message = record_at(publish(x, itch.ORDER_EXECUTED, locate, 31), itch.order_executed_dtype)
    message.ref = swap64(ref)
    message.shares = swap32(shares)
    message.match = swap64(match)


@hot
def publish_cancel(x, locate, ref, shares):
    """X: shares of a resting order are gone."""
    message = record_at(publish(x, itch.ORDER_CANCEL, locate, 23), itch.order_cancel_dtype)
    message.ref = swap64(ref)
    message.shares = swap32(shares)


@hot
def publish_delete(x, locate, ref):
    """D: a resting order is gone."""
    message = record_at(publish(x, itch.ORDER_DELETE, locate, 19), itch.order_delete_dtype)
    message.ref = swap64(ref)


@hot
def publish_replace(x, locate, ref, new_ref, shares, px):
    """U: a resting order is gone and another one of the same side stands at the back of its level."""
    message = record_at(publish(x, itch.ORDER_REPLACE, locate, 35), itch.order_replace_dtype)
    message.orig_ref = swap64(ref)
    message.new_ref = swap64(new_ref)
    message.shares = swap32(shares)
    message.price = swap32(px)


# ---------------------------------------------------------------- OUCH


@hot
def respond(x, a, kind, size):
    """Return the address of a fresh OUCH message of `size` bytes to account `a`, type and stamp written."""
    account = row(span(x.accounts), a, account_dtype)
    at = reserve(account.stream, size + 3)
    store16(at, swap16(size + 1))
    store8(at + 2, SEQUENCED)
    message = record_at(at + 3, ouch.out_account_query_response_dtype)
    message.type = kind
    message.ts = swap64(x.ts)
    return at + 3


@hot
def say_accepted(x, index, price, qty):
    """A: the order was accepted, at `price` for `qty` shares."""
    order = row(span(x.orders.rows), index, order_dtype)
    message = record_at(respond(x, order.account, ouch.OUT_ORDER_ACCEPTED, 64), ouch.out_order_accepted_dtype)
    message.user_ref_num = swap32(order.user_ref)
    message.side = order.side_code
    message.qty = swap32(qty)
    message.symbol = row(span(x.symbols), order.locate, symbol_dtype).stock
    message.price = swap64(price)
    message.tif = order.tif
    message.display = order.display
    message.ref = swap64(order.ref)
    message.capacity = order.capacity
    message.iso = order.iso
    message.cross_type = order.cross_type
    message.order_state = 76
    message.appendage_length = 0
    copy_bytes(address_of(message) + _ACCEPTED_ID, address_of(order) + _ORDER_ID, ID_SIZE)


@hot
def say_replaced(x, index, orig_user_ref, price, qty):
    """U: order `index` took the place of `orig_user_ref`, with `qty` shares outstanding."""
    order = row(span(x.orders.rows), index, order_dtype)
    message = record_at(respond(x, order.account, ouch.OUT_ORDER_REPLACED, 68), ouch.out_order_replaced_dtype)
    message.orig_user_ref_num = swap32(orig_user_ref)
    message.user_ref_num = swap32(order.user_ref)
    message.side = order.side_code
    message.qty = swap32(qty)
    message.symbol = row(span(x.symbols), order.locate, symbol_dtype).stock
    message.price = swap64(price)
    message.tif = order.tif
    message.display = order.display
    message.ref = swap64(order.ref)
    message.capacity = order.capacity
    message.iso = order.iso
    message.cross_type = order.cross_type
    message.order_state = 76
    message.appendage_length = 0
    copy_bytes(address_of(message) + _REPLACED_ID, address_of(order) + _ORDER_ID, ID_SIZE)


@hot
def say_canceled(x, a, user_ref, qty, reason):
    """C: `qty` shares of an order are gone."""
    message = record_at(respond(x, a, ouch.OUT_ORDER_CANCELED, 18), ouch.out_order_canceled_dtype)
    message.user_ref_num = swap32(user_ref)
    message.qty = swap32(qty)
    message.reason = reason


@hot
def say_executed(x, a, user_ref, qty, px, flag, match):
    """E: `qty` shares traded at `px`; flag 'A' added, 'R' removed."""
    message = record_at(respond(x, a, ouch.OUT_ORDER_EXECUTED, 36), ouch.out_order_executed_dtype)
    message.user_ref_num = swap32(user_ref)
    message.qty = swap32(qty)
    message.price = swap64(px)
    message.liquidity_flag = flag
    message.match = swap64(match)
    message.appendage_length = 0


@hot
def say_rejected(x, a, user_ref, reason, cl_ord_id):
    """J: the order was refused. cl_ord_id: address of its 14 bytes."""
    message = record_at(respond(x, a, ouch.OUT_REJECTED, 29), ouch.out_rejected_dtype)
    message.user_ref_num = swap32(user_ref)
    message.reason = swap16(reason)
    copy_bytes(address_of(message) + _REJECTED_ID, cl_ord_id, ID_SIZE)
    row(span(x.accounts), a, account_dtype).rejected += 1


@leaf
def order_log_row(x, index):
    """Row `index` of the order log."""
    return record_at(x.order_log.base + index * ORDER_LOG_SIZE, order_log_dtype)


@leaf
def new_fill(x):
    """A fresh row of the fill log."""
    return record_at(grow(x.fill_log, FILL_LOG_SIZE), fill_log_dtype)
