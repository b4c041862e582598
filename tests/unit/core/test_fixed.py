"""hftd/core/fixed.py: ticks, basis points, and people's prices."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hftd.core import fixed
from hftd.core.jit import hot

prices = st.integers(-(2**50), 2**50)


@hot
def _round(px, tick, bps):
    return fixed.round_down(px, tick), fixed.round_up(px, tick), fixed.bps_of(px, bps)


@settings(max_examples=300, deadline=None)
@given(prices, st.integers(1, 10**6), st.integers(0, 5000))
def test_rounding_brackets_the_price(px, tick, bps):
    """down <= px <= up, both on the grid and less than a tick away, for negative prices too."""
    down, up, part = _round(px, tick, bps)
    assert down % tick == 0 and up % tick == 0
    assert down <= px <= up and up - down in (0, tick)
    assert part == px * bps // 10_000


@settings(max_examples=300, deadline=None)
@given(st.integers(-(2**62), 2**62), st.sampled_from([1, 100, 10_000, 10**8]))
def test_text_and_integer_are_the_same_price(px, scale):
    """What is printed reads back as the same integer and the same number."""
    text = fixed.to_text(px, scale)
    assert fixed.to_fixed(text, scale) == px
    assert Fraction(Decimal(text)) == Fraction(px, scale)


@pytest.mark.parametrize(("text", "px"), [("123.45", 1234500), (7, 70000), (0.1, 1000), ("-0.0001", -1), (Decimal("1e2"), 1000000)])
def test_prices_as_people_write_them(text, px):
    """Strings, integers, floats with a short decimal form."""
    assert fixed.to_fixed(text) == px


@pytest.mark.parametrize("text", ["1.00001", "abc", "", "NaN", "inf", "1e40", "--1"])
def test_what_is_no_price_is_a_value_error(text):
    """Too many decimals, no number, too big: never another exception, never a rounded price."""
    with pytest.raises(ValueError, match="price"):
        fixed.to_fixed(text)


def test_text_has_at_least_two_decimals():
    """Money reads as money."""
    written = {1234500: "123.45", 10000: "1.00", 1: "0.0001", -1: "-0.0001", -15000: "-1.50", 0: "0.00"}
    assert {px: fixed.to_text(px) for px in written} == written
