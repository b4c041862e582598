"""The rate window: exact to a slice, never more than the limit in any second."""

from random import Random

import numpy as np
import pytest

from hftd.core.jit import hot
from hftd.core.memory import records
from hftd.risk.memory import SLICES, account_dtype, slice_dtype
from hftd.risk.rate import advance_window, count_message

HZ = 6400
SLICE = HZ // 64


@hot
def at_time(account, slices, now, rate_max):
    """Send a message at `now` if the window lets it. Returns 1 when it was sent."""
    advance_window(account, slices, now)
    if account.window_total >= rate_max:
        return 0
    count_message(account, slices)
    return 1


@pytest.fixture
def window():
    account, slices = records(account_dtype, 1), records(slice_dtype, SLICES)
    account[0]["slice_ticks"] = account[0]["window_end"] = SLICE

    def send(now, rate_max=10):
        return at_time(account[0], slices.ctypes.data, now, rate_max)

    send.total = lambda: int(account[0]["window_total"])
    send.keep = (account, slices)
    return send


def test_the_limit_is_the_limit(window):
    """Ten pass, the eleventh does not."""
    assert [window(0) for _ in range(12)] == [1] * 10 + [0] * 2


def test_a_message_leaves_after_a_second_and_at_most_a_slice_more(window):
    """Sent at the slice's first tick: still counted at one second, gone at one second and a slice."""
    for _ in range(10):
        window(0)
    assert window(HZ - 1) == 0
    assert window(HZ) == 0, "the slice is still in the window"
    assert window(HZ + SLICE) == 1


def test_a_message_at_the_end_of_a_slice_counts_a_whole_second(window):
    """The last tick of a slice: not gone before a full second has passed."""
    for _ in range(10):
        window(SLICE - 1)
    assert window(SLICE - 1 + HZ) == 0
    assert window(SLICE + HZ) == 1


@pytest.mark.parametrize("pause", [2 * HZ, 3 * HZ + 1, 1000 * HZ, 1 << 50])
def test_a_long_pause_empties_it(window, pause):
    """However long, in bounded steps."""
    for _ in range(10):
        window(5)
    assert window(5 + pause) == 1 and window.total() == 1


@pytest.mark.parametrize("seed", range(6))
def test_no_second_has_more_than_the_limit(window, seed):
    """Random bursts and pauses: in any second at most `rate_max`; and never denied when a second and a slice had fewer."""
    rng, now, sent, attempts = Random(seed), 0, [], []
    for _ in range(3000):
        now += rng.choice([0, 0, 0, 1, 3, 40, SLICE, rng.randint(0, 2 * HZ)])
        passed = window(now, 20)
        attempts.append((now, passed))
        if passed:
            sent.append(now)
    times = np.array(sent)
    for at, passed in attempts:
        inside = np.count_nonzero((times > at - HZ) & (times <= at))
        assert inside <= 20
        if not passed:
            assert np.count_nonzero((times > at - HZ - SLICE) & (times <= at)) >= 20
