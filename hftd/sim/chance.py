"""Random numbers that a seed repeats, compiled or interpreted: two small generators added up, all within 32 bits.

`x.random` is an xorshift (period 2**32 - 1), `x.random2` a Weyl-like congruence (period 2**32); their sum repeats after the
product. Good enough to shape a market, not for secrets. Every record with the two fields is a generator.
"""

from hftd.core.jit import hot, leaf

MASK = 0xFFFFFFFF
MILLION = 1_000_000


@hot
def draw(x):
    """Return the next number, 0..2**32-1."""
    a = x.random
    a = a ^ ((a << 13) & MASK)
    a = a ^ (a >> 17)
    a = a ^ ((a << 5) & MASK)
    x.random = a
    b = (x.random2 * 1664525 + 1013904223) & MASK
    x.random2 = b
    return (a + b) & MASK


@leaf
def below(x, n):
    """Return a number 0..n-1, n up to 2**31."""
    return (draw(x) * n) >> 32


@leaf
def chance(x, parts):
    """True in `parts` of a million cases."""
    return below(x, MILLION) < parts


@leaf
def uniform(x):
    """Return a float above 0 and up to 1."""
    return (draw(x) + 1) / 4294967296.0


def seed(record, number: int) -> None:
    """Set the generator's state from a seed."""
    mixed = (number * 0x9E3779B97F4A7C15 + 0x1234567) & (1 << 64) - 1
    record["random"] = (mixed >> 32 ^ mixed) & MASK or 88675123
    record["random2"] = mixed & MASK
