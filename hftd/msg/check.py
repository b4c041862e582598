"""The checksum by which the gateway knows that an order went through risk, whole and in its turn.

Risk computes it over every field that reaches the venue and over its running count of approved orders (the sequence the ring
gives the record), and stores it in `order.check`; the gateway computes it again from what it read. An order that was altered,
repeated, skipped, or written by anybody else does not match, and the gateway stops: orders out equal orders approved.

Not cryptography: the enemy is a defect. Each step (exclusive or, odd multiplication, shift) is a bijection of 32 bits, so a change
in any one word always changes the result; several changes at once escape with a chance of 2**-32. Three lanes run side by side,
since a chain of nine multiplications would take three times as long. No step overflows an int64: Numba tells LLVM that signed
arithmetic never does, so a sum that relied on wrapping would be whatever the optimiser likes.
"""

from hftd.core.jit import leaf

_LOW = 0xFFFFFFFF
_A, _B, _C = 0x45EBCA6B, 0x42B2AE35, 0x27D4EB2F  # odd, and below 2**31: a product of 63 bits never overflows


@leaf
def _step(state, word, factor):
    mixed = ((state ^ (word & _LOW)) * factor) & _LOW
    return mixed ^ (mixed >> 15)


@leaf
def order_check(order, count):
    """Return the 32-bit checksum (0..2**32-1) of an order_dtype record that is number `count` of its ring.

    Risk: `count` is the sequence `commit` will give the slot, the producer's tail + 1. Gateway: the slot's own `seq`.
    """
    cl_ord_id, px = order.cl_ord_id, order.px
    codes = order.instrument + order.kind * 0x10000 + order.side * 0x1000000
    rules = order.tif + order.flags * 0x100 + order.strategy * 0x10000
    a = _step(_step(_step(count >> 32, count, _A), cl_ord_id, _B), cl_ord_id >> 32, _C)
    b = _step(_step(_step(0x9E3779B9, px, _B), px >> 32, _C), order.qty * 1, _A)
    c = _step(_step(_step(0x7F4A7C15, order.orig_seq * 1, _C), codes, _A), rules, _B)
    return _step(_step(a, b, _C), c, _B)
