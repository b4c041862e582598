"""The histogram against NumPy: every percentile within 0.1 %, whatever the distribution."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hftd.core.jit import hot
from hftd.core.layout import layout
from hftd.core.memory import load64, records
from hftd.shm import histogram as h

POINTS = (0.0, 1.0, 25.0, 50.0, 90.0, 99.0, 99.9, 99.99, 100.0)
holder_dtype = layout("held", h.histogram_dtype.itemsize, [("all", h.histogram_dtype)])


@hot
def _record_all(held, at, source, count):
    for i in range(count):
        h.record_value(held, at, load64(source + 8 * i))


def _recorded(values) -> np.ndarray:
    made, source = records(h.histogram_dtype, 1), np.ascontiguousarray(values, dtype=np.int64)
    _record_all(made[0], made.ctypes.data, source.ctypes.data, len(source))
    return made[0]


def _compare(values) -> None:
    made, values = _recorded(values), np.asarray(values, dtype=np.int64)
    ordered = np.sort(values)
    for point, ours in zip(POINTS, h.percentiles(made, POINTS), strict=True):
        rank = max(1, math.ceil(Fraction(str(point)) * len(values) / 100))  # numpy's own rounds 99.9 % of 200_000 up by one
        exact = int(ordered[rank - 1])
        assert exact * 0.999 - 1 < ours <= exact, (point, ours, exact)
    assert int(made["count"]) == len(values) and int(made["total"]) == int(values.sum())
    assert int(made["smallest"]) == values.min() and int(made["largest"]) == values.max()


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(st.integers(0, 5000), st.integers(0, 2**37 - 1)), min_size=1, max_size=200))
def test_percentiles_of_any_values(values):
    """Small ones are exact, large ones within a thousandth, never above."""
    _compare(values)


@pytest.mark.parametrize("name", ["uniform", "lognormal", "bimodal", "exponential"])
def test_percentiles_of_latencies(name):
    """Two hundred thousand samples of the shapes latencies have."""
    rng = np.random.default_rng(11)
    n = 200_000
    made = {
        "uniform": lambda: rng.integers(0, 10**7, n),
        "lognormal": lambda: rng.lognormal(7, 1.5, n),
        "bimodal": lambda: np.where(rng.random(n) < 0.99, rng.normal(900, 40, n), rng.normal(250_000, 9000, n)),
        "exponential": lambda: rng.exponential(30_000, n),
    }[name]()
    _compare(np.maximum(made, 0).astype(np.int64))
