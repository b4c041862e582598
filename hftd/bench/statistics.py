"""What a set of samples says: percentiles, how sure the median is, what lies outside, and ratios of pairs. Cold.

The interval of the median is a bootstrap over blocks of samples taken one after the other, since neighbours in time are alike (a
clock that changed, a neighbour that woke up): whole blocks are drawn with replacement, and the interval is the middle 95 per cent
of the medians so found. An outlier is a sample above p75 + 10 (p75 - p25): counted and shown, never removed.

Some processors count time in steps (on one, 26 ticks each 10 ns). A sample says only between which steps it began and ended, so
`spread` lays the samples of one value evenly over its step before percentiles are taken: the grouped median of the textbooks.
"""

import numpy as np

BLOCKS, RESAMPLES = 50, 200
FENCE = 10.0
FEW, BULK, WIDTH = 500, 95, 3
"""Samples and per cent of them that say something of a clock's step; ticks of a step by which its readings differ (rounding)."""


def step_of(ticks: np.ndarray) -> float:
    """Return by how much the clock moves at once, by its samples; 1 where they do not show that it moves in steps.

    They show it where nearly all of them lie in clusters of at most WIDTH ticks, at multiples of one distance.
    """
    if len(ticks) < FEW:
        return 1.0
    found = np.unique(ticks[ticks <= np.percentile(ticks, BULK)])
    edges = np.flatnonzero(np.diff(found) > WIDTH)
    first, last = found[np.r_[0, edges + 1]], found[np.r_[edges, len(found) - 1]]
    gaps = np.diff((first + last) / 2)
    if len(gaps) < 2 or (last - first).max() > WIDTH:
        return 1.0
    turns = np.round(gaps / gaps.min())
    step = float(gaps.sum() / turns.sum())
    return step if (np.abs(gaps - turns * step) <= WIDTH / 2).all() else 1.0


def spread(ticks: np.ndarray, seed: int = 1) -> np.ndarray:
    """Return samples as floats; where the clock moves in steps, those of one step laid evenly over it, in no meant order."""
    values = np.asarray(ticks, float)
    step = step_of(values)
    if step == 1.0:
        return values
    owner = np.round(values / step).astype(np.int64)
    random = np.random.default_rng(seed)
    for index in np.unique(owner):
        here = np.flatnonzero(owner == index)
        values[here] = values[here].mean() + step * random.permutation((np.arange(len(here)) + 0.5) / len(here) - 0.5)
    return np.clip(values, np.min(ticks), np.max(ticks))  # nothing is said to be faster than what was read


def median_interval(values: np.ndarray, seed: int = 1) -> tuple[float, float]:
    """Return the 95 per cent interval of the median. values: in the order they were taken."""
    if len(values) < 2:
        return (float(values[0]), float(values[0])) if len(values) else (0.0, 0.0)
    blocks = min(BLOCKS, len(values))
    block = np.arange(len(values)) * blocks // len(values)
    order = np.argsort(values, kind="stable")
    ordered, owner = values[order], block[order]
    random = np.random.default_rng(seed)
    medians = np.empty(RESAMPLES)
    for i in range(RESAMPLES):
        drawn = np.bincount(random.integers(0, blocks, blocks), minlength=blocks)
        reached = np.cumsum(drawn[owner])
        medians[i] = ordered[np.searchsorted(reached, reached[-1] / 2)]
    low, high = np.percentile(medians, [2.5, 97.5])
    return float(low), float(high)


def outliers(values: np.ndarray) -> int:
    """Return how many samples lie above the fence."""
    if not len(values):
        return 0
    low, high = np.percentile(values, [25, 75])
    return int((values > high + FENCE * max(high - low, 1e-9)).sum())


def paired_ratio(before: np.ndarray, after: np.ndarray, seed: int = 1) -> tuple[float, float, float]:
    """Return the geometric mean of after / before over rounds, and its 95 per cent bootstrap interval (the range, of two)."""
    logs = np.log(np.asarray(after, float) / np.asarray(before, float))
    if len(logs) < 3:
        return float(np.exp(logs.mean())), float(np.exp(logs.min())), float(np.exp(logs.max()))
    random = np.random.default_rng(seed)
    means = logs[random.integers(0, len(logs), (2000, len(logs)))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(np.exp(logs.mean())), float(np.exp(low)), float(np.exp(high))
