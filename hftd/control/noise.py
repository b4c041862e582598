"""What takes a core away from a loop that owns it, measured: the truth behind a host's configuration.

    spin     one core at a time: read the time stamp counter over and over; every gap above a microsecond was somebody else's
    timers   ask for a sleep of 100 us, and see how much later it ends: what a parked role pays to wake up
    hops     two pinned processes pass a cache line back and forth: what any message between two cores costs at least

A core is borrowed at the priority that everybody has: no real-time class, no other setting is changed, and the affinity is given
back. Each measurement is bounded. What the kernel itself counted meanwhile (interrupts of that core, switches, time stolen by a
hypervisor) stands beside the gaps, since a gap that nobody owns up to can only be the hypervisor's or the firmware's.
"""

import ctypes
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hftd.core import clock as clocks
from hftd.core.atomics import tsc
from hftd.core.jit import hot
from hftd.core.layout import layout
from hftd.core.libc import nanosleep
from hftd.core.memory import record_at, records, store64
from hftd.shm.histogram import histogram_dtype, percentiles, record_value

GAP_NS = 1_000
"""A gap between two readings above this was not the loop's own: the loop takes about ten nanoseconds."""

SLEEP_NS = 100_000
SLEEPS = 500
TRIPS = 20_000
PR_SET_TIMERSLACK, PR_GET_TIMERSLACK = 29, 30

spin_dtype = layout("noise_spin", 64, [
    ("histogram_at", "i8"),                       # every time between two readings
    ("threshold", "i8"),                          # ticks: longer is a gap
    ("gaps", "i8"),
    ("lost", "i8"),                               # ticks in gaps
    ("longest", "i8"),                            # ticks
    ("ticks", "i8"),                              # how long the test took
    ("readings", "i8"),
    ("pad", "i8"),
])  # fmt: skip

sleep_dtype = layout("noise_sleep", 16, [("seconds", "i8"), ("ns", "i8")])


@hot
def _spin(state, duration):
    """Read the counter for `duration` ticks. state: spin_dtype record."""
    at = state.histogram_at
    histogram = record_at(at, histogram_dtype)
    begun = tsc()
    last = begun
    while last - begun < duration:
        now = tsc()
        gap = now - last
        record_value(histogram, at, gap)
        if gap > state.threshold:
            state.gaps += 1
            state.lost += gap
            if gap > state.longest:
                state.longest = gap
        last = now
        state.readings += 1
    state.ticks = last - begun


@hot
def _oversleep(wish_at, samples, n):
    """Sleep `n` times; samples: address of n int64, the ticks each took."""
    for i in range(n):
        begun = tsc()
        nanosleep(wish_at, 0)
        store64(samples + 8 * i, tsc() - begun)


@dataclass(frozen=True)
class Spin:
    """A core's noise; times in ns."""

    core: int
    seconds: float
    gaps: int
    gaps_per_s: float
    longest: float
    lost_percent: float
    p50: float
    p99: float
    p999: float
    involuntary: int  # switches of the test itself while it ran
    stolen_ms: float  # by the hypervisor, as the kernel counts it
    interrupts: dict[str, float] = field(default_factory=dict)  # what the kernel counted on this core, per second, most first

    def as_dict(self) -> dict[str, Any]:
        """The figures for JSON."""
        return asdict(self)


@contextmanager
def on_cores(cores: set[int]) -> Iterator[None]:
    """Run here, on these cores only; the affinity is given back."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def _prompt() -> Iterator[None]:
    """Take timers without slack: the machine is to be measured, not the 50 us the kernel grants itself for convenience."""
    libc = ctypes.CDLL(None, use_errno=True)
    before = libc.prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0)
    libc.prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0)
    try:
        yield
    finally:
        libc.prctl(PR_SET_TIMERSLACK, max(before, 1), 0, 0, 0)


def interrupts(text: str, core: int) -> dict[str, int]:
    """Return the interrupts of one core by name, from the text of /proc/interrupts: devices by their last word."""
    lines = text.splitlines()
    columns = [int(word[3:]) for word in lines[0].split() if word.startswith("CPU")] if lines else []
    found: dict[str, int] = {}
    if core not in columns:
        return found
    at = 1 + columns.index(core)
    for line in lines[1:]:
        words = line.split()
        if len(words) > len(columns) and words[at].isdigit():
            name = words[0].rstrip(":")
            name = f"{words[-1]} (irq {name})" if name.isdigit() else name
            found[name] = found.get(name, 0) + int(words[at])
    return found


def stolen_ms(text: str, core: int) -> float:
    """Return the milliseconds a hypervisor took from a core so far, from the text of /proc/stat."""
    for line in text.splitlines():
        words = line.split()
        if words and words[0] == f"cpu{core}" and len(words) > 8:
            return int(words[8]) * 1000.0 / os.sysconf("SC_CLK_TCK")
    return 0.0


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def spin(core: int, seconds: float, clock, root: Path = Path("/")) -> Spin:
    """Measure one core. clock: a calibrated clock_dtype record. Raises OSError where the core may not be used."""
    hz = int(clock["hz"])
    histogram, state = records(histogram_dtype, 1), records(spin_dtype, 1)[0]
    state["histogram_at"], state["threshold"] = histogram.ctypes.data, GAP_NS * hz // 1_000_000_000
    with on_cores({core}):
        _spin(state, hz // 1000)                  # compiled, and its pages touched
        histogram[:] = np.zeros(1, histogram_dtype)
        for name in ("gaps", "lost", "longest", "readings"):
            state[name] = 0
        before = resource.getrusage(resource.RUSAGE_SELF)
        counted, stolen = interrupts(_read(root / "proc/interrupts"), core), stolen_ms(_read(root / "proc/stat"), core)
        _spin(state, int(seconds * hz))
        after = resource.getrusage(resource.RUSAGE_SELF)
        later, taken = interrupts(_read(root / "proc/interrupts"), core), stolen_ms(_read(root / "proc/stat"), core)
    took = int(state["ticks"]) / hz
    scale = 1e9 / hz
    p50, p99, p999 = (value * scale for value in percentiles(histogram[0], (50.0, 99.0, 99.9)))
    new = {name: (count - counted.get(name, 0)) / took for name, count in later.items() if count > counted.get(name, 0)}
    return Spin(
        core=core, seconds=took, gaps=int(state["gaps"]), gaps_per_s=int(state["gaps"]) / took,
        longest=int(state["longest"]) * scale, lost_percent=100.0 * int(state["lost"]) / max(int(state["ticks"]), 1),
        p50=p50, p99=p99, p999=p999, involuntary=after.ru_nivcsw - before.ru_nivcsw, stolen_ms=taken - stolen,
        interrupts=dict(sorted(new.items(), key=lambda item: -item[1])),
    )  # fmt: skip


def timers(core: int, clock, n: int = SLEEPS) -> np.ndarray:
    """Return by how many ns each of `n` sleeps of 100 us on a core ended too late, sorted."""
    wish, samples = records(sleep_dtype, 1), np.zeros(n, np.int64)
    wish["ns"] = SLEEP_NS
    with on_cores({core}), _prompt():
        _oversleep(wish.ctypes.data, samples.ctypes.data, 1)
        _oversleep(wish.ctypes.data, samples.ctypes.data, n)
    return np.sort(samples * (1e9 / int(clock["hz"])) - SLEEP_NS)


def hop(first: int, second: int, clock, n: int = TRIPS) -> np.ndarray:
    """Return the ns of `n` single trips of a cache line from one core to another, sorted: half of each round trip, two lines.

    Raises BenchError where the other side did not answer in time.
    """
    from hftd.bench import cores as bench

    with on_cores({first, second}):               # the benchmark takes the two cores it is allowed
        trips = bench._line_trips(n, 1, 128)
    return np.sort(trips * (0.5e9 / int(clock["hz"])))


def point(values: np.ndarray, percent: float) -> float:
    """Return a percentile of sorted values."""
    return float(values[min(int(len(values) * percent / 100), len(values) - 1)]) if len(values) else 0.0


def new_clock():
    """Return a calibrated clock record."""
    return clocks.new_clock()[0]
