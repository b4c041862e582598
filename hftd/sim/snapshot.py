"""The book as a late joiner gets it (GLIMPSE 5.0): every displayed order in queue order, onto a stream of SoupBinTCP packets."""

from hftd.core.jit import hot
from hftd.core.memory import copy_bytes, record_at, row, span, store8, store16, swap16, swap32, swap64
from hftd.sim.book import half_of
from hftd.sim.memory import level_dtype, order_dtype, symbol_dtype
from hftd.sim.tape import SEQUENCED, reserve
from hftd.venues.nasdaq import itch50 as itch

ADD_SIZE = 36


@hot
def spin_message(stream, source, size):
    """Put one message, `size` bytes at `source`, on the stream."""
    at = reserve(stream, size + 3)
    store16(at, swap16(size + 1))
    store8(at + 2, SEQUENCED)
    copy_bytes(at + 3, source, size)


@hot
def spin_orders(x, stream):
    """Put an Add Order on `stream` for every order in every book, with the shares it has left now. Returns how many."""
    levels = span(x.levels.rows)
    orders = span(x.orders.rows)
    spun = 0
    for locate in range(span(x.symbols).count):
        for side in range(2):
            level_row = half_of(x, locate, side).best
            while level_row != 0:
                level = row(levels, level_row, level_dtype)
                index = level.head
                while index != 0:
                    order = row(orders, index, order_dtype)
                    at = reserve(stream, ADD_SIZE + 3)
                    store16(at, swap16(ADD_SIZE + 1))
                    store8(at + 2, SEQUENCED)
                    message = record_at(at + 3, itch.add_order_dtype)
                    message.type = itch.ADD_ORDER
                    message.locate = swap16(locate)
                    message.tracking = 0
                    itch.set_stamp(record_at(at + 3, itch.header_dtype), x.ts)
                    message.ref = swap64(order.ref)
                    message.side = 83 if side else 66
                    message.shares = swap32(order.left)
                    message.stock = row(span(x.symbols), locate, symbol_dtype).stock
                    message.price = swap32(level.px)
                    spun += 1
                    index = order.next
                level_row = level.next
    return spun
