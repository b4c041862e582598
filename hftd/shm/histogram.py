"""Log-linear histograms of non-negative integers (ticks): single writer, three significant digits, fixed memory.

Values below 2048 have a bucket each; above, every power of two is split into 1024 buckets, so a bucket is never wider than
0.1 % of its value. Values of 2**37 and more (52 s at 2.6 GHz) share the last; negative ones count as 0. After HdrHistogram (Tene).
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from hftd.core.jit import INTERPRETED, leaf
from hftd.core.layout import layout
from hftd.core.memory import load64, store64

HALF = 1024
SHIFTS = 26
BUCKETS = (SHIFTS + 2) * HALF

histogram_dtype = layout("histogram", 8 * (BUCKETS + 16), [
    ("count", "i8"),
    ("total", "i8"),                              # sum of all values
    ("smallest", "i8"),
    ("largest", "i8"),
    ("pad", ("i8", (12,))),
    ("buckets", ("i8", (BUCKETS,))),
])  # fmt: skip
BUCKETS_AT = 128


def _log2(typingctx, value):
    """Index of the highest bit of a positive int64."""

    def codegen(context, builder, signature, args):
        word = ir.IntType(64)
        return builder.sub(word(63), builder.ctlz(args[0], ir.IntType(1)(1)))

    return types.int64(types.int64), codegen


log2 = (lambda value: int(value).bit_length() - 1) if INTERPRETED else intrinsic(_log2)


@leaf
def bucket_of(value):
    """Return the bucket of a value; negative values count as 0."""
    if value < 2 * HALF:
        return max(value, 0)
    shift = log2(value) - 10
    if shift > SHIFTS:
        return BUCKETS - 1
    return shift * HALF + (value >> shift)


@leaf
def record_value(histogram, at, value):
    """Count `value` in the histogram (a histogram_dtype record that lies at address `at`). One writer."""
    value = max(value, 0)
    if histogram.count == 0 or value < histogram.smallest:
        histogram.smallest = value
    if value > histogram.largest:
        histogram.largest = value
    histogram.count += 1
    histogram.total += value
    bucket = at + BUCKETS_AT + 8 * bucket_of(value)
    store64(bucket, load64(bucket) + 1)


def value_of(bucket: int) -> int:
    """Return the lowest value that falls into a bucket."""
    if bucket < 2 * HALF:
        return bucket
    shift = bucket // HALF - 1
    return (bucket - shift * HALF) << shift


def percentiles(histogram: np.ndarray, points: tuple[float, ...]) -> list[int]:
    """Return the values at `points` (0..100) of a histogram_dtype record; zeros where it is empty."""
    buckets = np.array(histogram["buckets"])
    total = int(buckets.sum())
    if total == 0:
        return [0 for _ in points]
    running = np.cumsum(buckets)
    found = [int(np.searchsorted(running, max(1, np.ceil(total * point / 100 - 1e-6)))) for point in points]
    return [min(value_of(bucket), int(histogram["largest"])) for bucket in found]
