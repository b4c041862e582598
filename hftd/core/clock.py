"""Time: the invariant time stamp counter in hot code, nanoseconds for people and wires.

A calibration ties the counter to the UTC and monotonic clocks: `ns = origin_ns + (ticks - origin) * mult / 2**32`. The
multiplication is split so that it never overflows: the high and low halves of both factors are multiplied apart. Good for
centuries; the supervisor refreshes it, since crystals drift by parts in a million.
"""

import time
from pathlib import Path

import numpy as np

from hftd.core.atomics import tsc
from hftd.core.jit import INTERPRETED, hot, leaf
from hftd.core.layout import layout

TRIES = 1000
"""Looks at a clock that is being refreshed, each of some 100 ns: a refresh is three stores."""

clock_dtype = layout("clock", 64, [
    ("tsc_origin", "i8"),                         # ticks
    ("utc_origin_ns", "i8"),                      # UTC at tsc_origin
    ("mono_origin_ns", "i8"),                     # CLOCK_MONOTONIC at tsc_origin
    ("mult", "i8"),                               # ns per tick, times 2**32
    ("inverse", "i8"),                            # ticks per ns, times 2**32
    ("hz", "i8"),                                 # ticks per second, for people
    ("version", "i8"),                            # odd while the supervisor writes new origins
    ("pad0", "i8"),
])  # fmt: skip


@leaf
def scale(amount, mult):
    """Return amount * mult / 2**32, rounded down, for amount and mult >= 0: exact as long as the result fits 63 bits.

    Both are split at 32 bits, and one low half once more at 16: the product of two low halves would not fit a signed word.
    """
    low, mult_low = amount & 0xFFFFFFFF, mult & 0xFFFFFFFF
    lowest = ((low >> 16) * mult_low + (((low & 0xFFFF) * mult_low) >> 16)) >> 16
    return (amount >> 32) * mult + low * (mult >> 32) + lowest


@leaf
def ticks_to_ns(clock, ticks):
    """Nanoseconds in `ticks` (>= 0) of the time stamp counter. clock: clock_dtype record."""
    return scale(ticks, clock.mult)


@leaf
def ns_to_ticks(clock, ns):
    """Ticks in `ns` (>= 0) nanoseconds. clock: clock_dtype record."""
    return scale(ns, clock.inverse)


@leaf
def utc_ns(clock, ticks):
    """UTC nanoseconds at the counter reading `ticks`, which may lie before the origin."""
    apart = ticks - clock.tsc_origin
    if apart < 0:
        return clock.utc_origin_ns - scale(-apart, clock.mult)
    return clock.utc_origin_ns + scale(apart, clock.mult)


@hot
def _read():
    return tsc()


def now_ticks() -> int:
    """Read the counter from cold code."""
    return int(_read())


def calibrate(clock, spin_s: float = 0.02, hz: int = 0) -> None:
    """Measure the counter against the system's clocks for `spin_s` seconds, and fill `clock` (clock_dtype record).

    With `hz`, only the origins are measured anew: a refresh against drift.
    """
    hz = hz or (1_000_000_000 if INTERPRETED else _measure_hz(spin_s))
    ticks, utc, mono = _together()
    clock["tsc_origin"], clock["utc_origin_ns"], clock["mono_origin_ns"] = ticks, utc, mono
    clock["hz"] = hz
    clock["mult"] = (1_000_000_000 << 32) // hz
    clock["inverse"] = (hz << 32) // 1_000_000_000


def refresh(clock) -> int:
    """Measure the origins anew, against drift; one writer. Readers in cold code take a `snapshot`.

    Returns by how many ns the clocks have moved against each other since the last time, the largest of UTC against monotonic time
    and monotonic time against the counter: a few microseconds in a second are drift, a millisecond is a step.
    """
    fresh = np.zeros(1, clock_dtype)[0]
    calibrate(fresh, hz=int(clock["hz"]))
    stepped = moved(clock, fresh)
    clock["version"] += 1
    for field in ("tsc_origin", "utc_origin_ns", "mono_origin_ns"):
        clock[field] = fresh[field]
    clock["version"] += 1
    return stepped


def moved(before, after) -> int:
    """Return by how many ns the clocks moved against each other between two calibrations: the largest of both pairs, signed."""
    ticks = int(after["tsc_origin"]) - int(before["tsc_origin"])
    mono = int(after["mono_origin_ns"]) - int(before["mono_origin_ns"])
    utc = int(after["utc_origin_ns"]) - int(before["utc_origin_ns"])
    return max(utc - mono, mono - (ticks * int(before["mult"]) >> 32), key=abs)


def snapshot(clock) -> np.void:
    """Return a consistent copy of a calibration that another process refreshes.

    Where that process died at it nobody waits for ever: the copy then has origins of two moments, a second's drift apart.
    """
    for _ in range(TRIES):
        before = int(clock["version"])
        copy = clock.copy()
        if before & 1 == 0 and int(clock["version"]) == before:
            break
    return copy


def new_clock() -> np.ndarray:
    """Return a calibrated clock record of this process's own."""
    made = np.zeros(1, clock_dtype)
    calibrate(made[0])
    return made


def _together() -> tuple[int, int, int]:
    best = None
    for _ in range(16):
        before = now_ticks()
        utc, mono = time.time_ns(), time.monotonic_ns()
        after = now_ticks()
        if best is None or after - before < best[0]:
            best = (after - before, (before + after) // 2, utc, mono)
    return best[1:]


def _measure_hz(spin_s: float) -> int:
    first = _together()
    time.sleep(spin_s)
    last = _together()
    return (last[0] - first[0]) * 1_000_000_000 // max(last[2] - first[2], 1)


def tsc_is_invariant() -> bool:
    """Tell whether this CPU's counter ticks at one rate in every power state (Linux's constant_tsc and nonstop_tsc)."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "constant_tsc" in flags and "nonstop_tsc" in flags
