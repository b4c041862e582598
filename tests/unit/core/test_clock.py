"""hftd/core/clock.py: exact integer scaling over years, and a calibration that agrees with the system's clocks."""

import time

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hftd.core import clock as c
from hftd.core.jit import hot
from hftd.core.memory import records

YEARS = 20 * 366 * 86_400


@hot
def _all(clock, ticks, ns):
    return c.scale(ticks, clock.mult), c.ticks_to_ns(clock, ticks), c.ns_to_ticks(clock, ns), c.utc_ns(clock, ticks)


def _clock(hz, origin=0, utc=1_700_000_000_000_000_000):
    made = records(c.clock_dtype, 1)[0]
    made["hz"], made["mult"], made["inverse"] = hz, (10**9 << 32) // hz, (hz << 32) // 10**9
    made["tsc_origin"], made["utc_origin_ns"] = origin, utc
    return made


frequencies = st.integers(800_000_000, 6_000_000_000)


@settings(max_examples=300, deadline=None)
@given(frequencies, st.integers(0, YEARS), st.integers(0, 10**9))
def test_scaling_is_exact_and_never_overflows(hz, seconds, rest):
    """Twenty years of uptime at any frequency: the result is the rounded-down exact product, both ways."""
    clock = _clock(hz)
    ticks, ns = seconds * hz + rest, seconds * 10**9 + rest
    mult, inverse = int(clock["mult"]), int(clock["inverse"])
    scaled, to_ns, to_ticks, _ = _all(clock, ticks, ns)
    assert scaled == to_ns == ticks * mult >> 32
    assert to_ticks == ns * inverse >> 32
    assert abs(to_ns - ticks * 10**9 // hz) <= 2 + ticks * 10**9 // hz // 10**8


@settings(max_examples=200, deadline=None)
@given(frequencies, st.integers(0, 2**61), st.integers(0, 2**20))
def test_scaling_is_monotone(hz, ticks, step):
    """More ticks are never fewer nanoseconds."""
    clock = _clock(hz)
    limit = min(ticks, 2**62 * hz // 10**9 // 2)
    assert _all(clock, limit, 0)[0] <= _all(clock, limit + step, 0)[0]


def test_the_wrap_of_the_low_half_is_seamless():
    """Where the low 32 bits roll over (every 1.65 s at 2.6 GHz) nothing jumps."""
    clock = _clock(2_600_000_000)
    for turn in (1, 2, 1000, 2**20):
        at = turn << 32
        before, after = _all(clock, at - 1, at - 1), _all(clock, at, at)
        assert all(0 <= new - old <= 3 for old, new in zip(before, after, strict=True))


def test_stamps_before_the_origin_are_earlier():
    """A record stamped just before a refresh of the calibration still gets its right time."""
    clock = _clock(2_000_000_000, origin=10**12)
    utc = int(clock["utc_origin_ns"])
    assert _all(clock, 10**12, 0)[3] == utc
    assert _all(clock, 10**12 - 2_000, 0)[3] == utc - 1_000
    assert _all(clock, 10**12 + 2_000, 0)[3] == utc + 1_000


def test_a_calibration_agrees_with_the_system_clock():
    """Right after it, UTC by the counter is UTC; hz is a processor's."""
    clock = records(c.clock_dtype, 1)[0]
    c.calibrate(clock)
    assert 5e8 < int(clock["hz"]) < 1e10
    for _ in range(5):
        ours, theirs = _all(clock, c.now_ticks(), 0)[3], time.time_ns()
        assert -1_000_000 < theirs - ours < 50_000_000


def test_a_refresh_keeps_the_rate_and_moves_the_origin():
    """The version comes back even, and a snapshot is a copy."""
    clock = records(c.clock_dtype, 1)[0]
    c.calibrate(clock)
    before = c.snapshot(clock)
    c.refresh(clock)
    after = c.snapshot(clock)
    assert int(after["version"]) == int(before["version"]) + 2
    assert int(after["tsc_origin"]) > int(before["tsc_origin"]) and int(after["mult"]) == int(before["mult"])
    assert int(before["tsc_origin"]) != int(clock["tsc_origin"])


def test_a_clock_whose_writer_died_at_it_stops_nobody():
    """The recorder, who gives back the memory of a daemon that was killed, copies it too."""
    clock = c.new_clock()[0]
    clock["version"] += 1
    assert int(c.snapshot(clock)["hz"]) == int(clock["hz"])


def test_drift_is_no_step_and_a_step_shows_its_size_and_sign():
    """Ten seconds at 1 GHz; UTC, monotonic time and the counter moved against one another."""
    second = 1_000_000_000
    before = _clock(second, 5 * second)
    before["mono_origin_ns"] = 77

    def after(utc=10 * second, mono=10 * second, ticks=10 * second):
        made = before.copy()
        made["utc_origin_ns"] += utc
        made["mono_origin_ns"] += mono
        made["tsc_origin"] += ticks
        return c.moved(before, made)

    assert after() == 0
    assert abs(after(utc=10 * second + 4000)) == 4000
    assert after(utc=9 * second) == -second
    assert after(mono=10 * second + 3_000_000, utc=10 * second + 3_000_000) == 3_000_000
    assert after(ticks=7 * second) == 3 * second
    made = c.new_clock()[0]
    assert abs(c.refresh(made)) < second // 2


def test_new_clock_is_a_record_array():
    """A tool's own clock."""
    made = c.new_clock()
    assert made.dtype == np.dtype(c.clock_dtype) and int(made["hz"][0]) > 0
