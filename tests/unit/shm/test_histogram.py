"""hftd/shm/histogram.py: buckets without gaps, percentiles within 0.1 %."""

import numpy as np
import pytest

from hftd.core.jit import hot
from hftd.core.memory import address_of, records
from hftd.shm import histogram as h


@hot
def _record(histogram, value):
    h.record_value(histogram, address_of(histogram), value)


@hot
def _bucket(value):
    return h.bucket_of(value)


@pytest.fixture
def made():
    """An empty histogram."""
    return records(h.histogram_dtype, 1)[0]


def test_every_bucket_starts_where_the_one_before_ends():
    """value_of is the lowest value of its bucket, and one less belongs to the bucket before."""
    for bucket in [*range(1, 4200), *range(4200, h.BUCKETS, 97), h.BUCKETS - 1]:
        lowest = h.value_of(bucket)
        assert _bucket(lowest) == bucket and _bucket(lowest - 1) == bucket - 1
        assert h.value_of(bucket) - h.value_of(bucket - 1) <= max(1, lowest / 1000)


def test_the_ends_have_buckets(made):
    """Negative counts as zero, the enormous shares the last; nothing is written outside."""
    for value in (-5, 0, 2**37 - 1, 2**37, 2**62):
        _record(made, value)
    buckets = np.array(made["buckets"])
    assert (buckets[0], buckets[h.BUCKETS - 1], buckets.sum()) == (2, 3, 5)
    assert (int(made["count"]), int(made["smallest"]), int(made["largest"])) == (5, 0, 2**62)
    assert int(made["total"]) == 2**37 - 1 + 2**37 + 2**62


def test_an_empty_histogram_has_zero_percentiles(made):
    """No division, no surprise."""
    assert h.percentiles(made, (0.0, 50.0, 99.9, 100.0)) == [0, 0, 0, 0]


def test_one_value_is_every_percentile(made):
    """Within the width of its bucket, and never above what was seen."""
    _record(made, 1_234_567)
    assert all(1_234_567 * 0.999 <= value <= 1_234_567 for value in h.percentiles(made, (0.0, 50.0, 100.0)))
