"""How sure a median is, what lies outside, and ratios of pairs."""

import numpy as np
import pytest

from hftd.bench.statistics import median_interval, outliers, paired_ratio, spread


def test_interval_holds_the_median_of_what_the_samples_come_from():
    """Of 100 sets drawn from a known distribution at least 85 intervals hold its median (95 are expected)."""
    random, held = np.random.default_rng(5), 0
    for seed in range(100):
        low, high = median_interval(random.lognormal(3, 0.5, 2000), seed)
        held += low <= np.exp(3) <= high
    assert held >= 85


def test_interval_is_wide_where_the_machine_drifted():
    """The same values, mixed or one after the other: blocks see that the second half was slower."""
    values = np.concatenate([np.full(1000, 100.0), np.full(1000, 200.0)])
    values += np.random.default_rng(1).normal(0, 1, 2000)
    mixed = np.random.default_rng(2).permutation(values)
    drifted, steady = median_interval(values), median_interval(np.concatenate([values[:1000], values[:1000]]))
    assert drifted[1] - drifted[0] > 50
    assert steady[1] - steady[0] < 1
    assert median_interval(mixed)[0] >= drifted[0] - 5


@pytest.mark.parametrize(("values", "wanted"), [([], (0.0, 0.0)), ([7.0], (7.0, 7.0)), ([3.0] * 10, (3.0, 3.0))])
def test_interval_of_few_or_equal_values(values, wanted):
    """No division by nothing."""
    assert median_interval(np.array(values)) == wanted


def test_outliers_lie_above_ten_times_the_middle_half():
    """p25 = 25, p75 = 75 of 0..100: the fence is 575."""
    values = np.arange(101.0)
    assert outliers(values) == 0
    assert outliers(np.append(values, [500.0, 600.0, 1e9])) == 2
    assert outliers(np.array([])) == 0


def test_ratio_of_pairs_forgets_what_both_suffered():
    """Rounds differ by ten times, each pair by 10 per cent: the ratio is 1.1, and surely above 1.03."""
    before = np.array([100.0, 1000.0, 300.0, 120.0, 90.0])
    ratio, low, high = paired_ratio(before, before * 1.1)
    assert ratio == pytest.approx(1.1) and low == pytest.approx(1.1) and high == pytest.approx(1.1)
    ratio, low, high = paired_ratio(before, before * np.array([0.5, 2.0, 1.0, 0.8, 1.3]))
    assert low < 1 < high
    assert paired_ratio([100.0, 100.0], [110.0, 130.0])[1:] == (pytest.approx(1.1), pytest.approx(1.3))


def test_the_flow_of_the_benchmarks_is_sound_to_the_last_message():
    """Not one message of it is refused: a benchmark of refusals would say nothing."""
    from hftd.bench.flow import make_flow
    from tests.support.feed_books import Feed

    made, feed = make_flow(2000, 7), Feed(instruments=16, levels=4096, orders=4096)
    assert feed.apply_framed(made.data) == made.messages
    assert not any(feed.counter(name) for name in ("bad_lengths", "unknown_types", "bad_fields", "unknown_refs", "crossed"))
    assert feed.counter("directory") == len(made.symbols)


def test_a_clock_that_counts_in_steps_still_tells_the_median():
    """True durations of 80 to 120 ticks, measured by a clock that moves 25.96 at once: the median is told to a tick or two."""
    random = np.random.default_rng(3)
    begun, took = random.uniform(0, 1e6, 40_000), random.normal(100, 8, 40_000)
    step = 2596 / 100
    stepped = np.floor(np.floor((begun + took) / step) * step) - np.floor(np.floor(begun / step) * step)
    assert abs(np.median(stepped) - 100) > 3
    assert np.median(spread(stepped)) == pytest.approx(100, abs=2)
    assert np.sort(spread(stepped)).mean() == pytest.approx(stepped.mean(), abs=0.1)


def tailed(*parts: np.ndarray) -> np.ndarray:
    """Samples of a clock that counts singly, and one in fifty far out."""
    random = np.random.default_rng(4)
    far = random.uniform(1500, 20_000, sum(map(len, parts)) // 50)
    return random.permutation(np.concatenate([*parts, far])).astype(np.int64)


NORMAL = np.random.default_rng(4).normal


@pytest.mark.parametrize("ticks", [
    NORMAL(100, 8, 4000).astype(np.int64), np.array([26] * 1000), np.array([26, 52, 78] * 100), np.zeros(0, np.int64),
    tailed(NORMAL(700, 30, 8000), NORMAL(900, 30, 12_000)), tailed(NORMAL(1000, 40, 20_000)), tailed(NORMAL(50, 1, 20_000)),
    np.repeat([100, 130, 171], 1000),
])  # fmt: skip
def test_samples_of_a_clock_that_counts_singly_stay_as_they_are(ticks):
    """Two modes, a narrow one, a long tail, too few samples, distances that differ: none of it is a step."""
    assert (spread(ticks) == ticks).all()
