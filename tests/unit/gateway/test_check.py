"""The checksum between risk and gateway: the same compiled and interpreted, and moved by every field."""

import numpy as np
import pytest

from hftd.core.jit import hot
from hftd.core.memory import records
from hftd.msg.check import order_check
from hftd.msg.records import order_dtype

FIELDS = ("cl_ord_id", "px", "qty", "orig_seq", "instrument", "kind", "side", "tif", "flags", "strategy")
VALUES = {"cl_ord_id": (3 << 56) | (0xABCDEF << 32) | 77, "px": 1_234_500, "qty": 100, "orig_seq": 5, "instrument": 9, "kind": 1,
          "side": 1, "tif": 0, "flags": 2, "strategy": 3}  # fmt: skip


@hot
def compiled_check(order, count):
    """order_check, callable from a test."""
    return order_check(order, count)


def order(**changes):
    """Return an order record with ordinary values, `changes` on top."""
    made = records(order_dtype, 1)
    for name, value in {**VALUES, **changes}.items():
        made[0][name] = value
    return made


def test_equals_plain_python():
    """The compiled sum is the sum plain Python makes of the same formula, over the edges of every field."""

    class Plain:
        pass

    rng = np.random.default_rng(7)
    for _ in range(300):
        plain = Plain()
        made = records(order_dtype, 1)
        for name in FIELDS:
            info = np.iinfo(order_dtype.fields[name][0])
            value = int(rng.choice([info.min, info.max, int(rng.integers(info.min, info.max, dtype=info.dtype, endpoint=True))]))
            made[0][name] = value
            setattr(plain, name, value)
        count = int(rng.integers(1, 1 << 40))
        assert compiled_check(made[0], count) == plain_check(plain, count)


def plain_check(order, count):
    """The formula without Numba: a twin written out."""
    low = (1 << 32) - 1

    def step(state, word, factor):
        mixed = (((state & low) ^ (word & low)) * factor) & low
        return mixed ^ (mixed >> 15)

    one, two, three = 0x45EBCA6B, 0x42B2AE35, 0x27D4EB2F
    codes = order.instrument | order.kind << 16 | order.side << 24
    rules = order.tif | order.flags << 8 | order.strategy << 16
    a = step(step(step(count >> 32, count, one), order.cl_ord_id, two), order.cl_ord_id >> 32, three)
    b = step(step(step(0x9E3779B9, order.px, two), order.px >> 32, three), order.qty, one)
    c = step(step(step(0x7F4A7C15, order.orig_seq, three), codes, one), rules, two)
    return step(step(a, b, three), c, two)


@pytest.mark.parametrize("field", FIELDS)
def test_every_bit_of_every_field_counts(field):
    """Flipping any single bit of any field changes the sum."""
    base = compiled_check(order()[0], 1)
    kind = order_dtype.fields[field][0]
    for bit in range(8 * kind.itemsize):
        raw = VALUES[field] ^ (1 << bit)
        if kind.kind == "i" and raw >> (8 * kind.itemsize - 1):
            raw -= 1 << 8 * kind.itemsize
        assert compiled_check(order(**{field: raw})[0], 1) != base


def test_count_matters():
    """The same order is not good twice."""
    sums = {compiled_check(order()[0], count) for count in range(1, 2000)}
    assert len(sums) == 1999


def test_result_fits_the_field():
    """The sum is 0..2**32-1."""
    for count in range(100):
        assert 0 <= compiled_check(order()[0], count) < 1 << 32
