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
FEW, SPARSE = 500, 0.2
"""Fewer samples, or values more densely taken, say nothing of a clock's step."""


def spread(ticks: np.ndarray, seed: int = 1) -> np.ndarray:
    """Return samples as floats, those of one step of the clock laid evenly over it, in an order of no meaning.

    A step is a cluster of neighbouring values with nothing for 4 ticks or more around it. A clock that counts singly leaves no such
    pattern in its common values, and the samples stay as they are.
    """
    values = np.asarray(ticks, float)
    common = np.unique(np.asarray(ticks)[values <= np.percentile(values, 99)]) if len(values) >= FEW else np.zeros(0)
    if len(common) < 2 or len(common) > SPARSE * (common[-1] - common[0] + 1):
        return values
    found = np.unique(ticks)
    cluster = np.concatenate([[0], np.cumsum(np.diff(found) > 3)])
    owner = cluster[np.searchsorted(found, ticks)]
    centres = np.bincount(owner, weights=values) / np.bincount(owner)
    step = float(np.median(np.diff(centres[: cluster[np.searchsorted(found, common[-1])] + 1])))
    random = np.random.default_rng(seed)
    for index, centre in enumerate(centres):
        here = np.flatnonzero(owner == index)
        values[here] = centre + step * random.permutation((np.arange(len(here)) + 0.5) / len(here) - 0.5)
    return values


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
