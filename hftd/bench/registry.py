"""What a benchmark is: a named row with its budget, a check of its result, a compiled timed region, and many samples.

    @benchmark("pool", budget=50, about="…")
    def pool(lab):                      # lab: where data, counts and progress come from
        …set up, run once, check the result (BenchError where it is wrong)…
        return Samples(ticks, per=64)   # one sample: 64 operations between two readings of the counter

A sample is the time between two readings of the time stamp counter, less what two readings in a row cost (measured in the same
run), divided by the operations in between. `per=1` are single operations. A budget is met where the median meets it; the tail is
shown beside it. `limit` is what the machine itself needs for the same thing, measured in the same run.
"""

import math
import mmap
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hftd.bench import statistics
from hftd.core import clock as clocks
from hftd.core.atomics import tsc
from hftd.core.bind import bind
from hftd.core.jit import hot
from hftd.core.memory import prefault, store64
from hftd.errors import HftdError


class BenchError(HftdError):
    """A benchmark cannot run here, or its result was wrong."""


class Skip(HftdError):
    """A benchmark has no meaning on this machine; why."""


@dataclass(frozen=True)
class Row:
    """One line of the result. Times in `unit`; `limit` and `budget` in the same; None: there is none."""

    name: str
    unit: str
    n: int
    min: float
    p50: float
    p99: float
    p999: float
    max: float
    budget: float | None = None
    limit: float | None = None
    about: str = ""
    note: str = ""
    beyond: bool = False
    """The budget is for what hftd adds to the limit: a system call is not ours to make faster."""
    low: float = 0.0
    high: float = 0.0
    """95 per cent interval of the median (statistics.py says how)."""
    outliers: int = 0
    """Samples above p75 + 10 (p75 - p25); they are in every figure."""
    failed: str = ""
    """Why there is no figure: the benchmark's result was wrong, or it could not run to its end."""

    @property
    def met(self) -> bool | None:
        """Whether the median is within the budget; None where there is no budget or no result."""
        if self.budget is None or self.n == 0:
            return None
        return self.p50 - (self.limit or 0.0 if self.beyond else 0.0) <= self.budget

    def as_dict(self) -> dict[str, Any]:
        """The row for JSON."""
        return {**asdict(self), "met": self.met}


@dataclass(frozen=True)
class Samples:
    """What was measured. name: of a row of its own, where a benchmark gives several; limit in ns."""

    ticks: np.ndarray
    per: int = 1
    name: str = ""
    limit: float | None = None
    budget: float | None = None
    note: str = ""
    beyond: bool = False


@dataclass
class Lab:
    """What a benchmark works with."""

    quick: bool = False
    data: Path | None = None
    seed: int = 7
    clock: np.ndarray = field(default_factory=clocks.new_clock)
    limits: dict[str, float] = field(default_factory=dict)
    _made: dict[str, Any] = field(default_factory=dict)

    def count(self, full: int, quick: int) -> int:
        """How many samples to take."""
        return quick if self.quick else full

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """Make something that several benchmarks need, once per run."""
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]

    @property
    def ns_per_tick(self) -> float:
        """Of the time stamp counter."""
        return 1e9 / float(self.clock["hz"][0])

    @property
    def overhead(self) -> float:
        """Ticks between two readings in a row: the mean of many, the slowest tenth left out.

        Not the smallest: where the counter moves in steps (AMD: about 10 ns), the smallest is no step at all.
        """
        return self.once("overhead", lambda: float(np.sort(_pairs())[: 4096 * 9 // 10].mean()))

    def median_ns(self, ticks: np.ndarray) -> float:
        """Return the median of single samples as a row shows it: less the clock's overhead, its steps laid out."""
        return float(np.median(np.maximum(statistics.spread(ticks) - self.overhead, 0.0))) * self.ns_per_tick


@hot
def _back_to_back(samples, n):
    for i in range(n):
        begun = tsc()
        store64(samples + 8 * i, tsc() - begun)


def _pairs() -> np.ndarray:
    made = room_for(4096)
    _back_to_back(made.ctypes.data, 8)
    _back_to_back(made.ctypes.data, len(made))
    return made


def room_for(*shape: int) -> np.ndarray:
    """Return int64 zeros for samples, shared and touched: no sample pays for a page, nor for a copy of one behind a fork."""
    made = mmap.mmap(-1, 8 * math.prod(shape))
    prefault(made)
    return np.frombuffer(made, np.int64).reshape(shape)


# ---------------------------------------------------------------- the usual timed region

body: Any = None


def timed(state, samples, n, per):
    """Take `n` samples of `per` calls of body(state, k) each. samples: address of n int64."""
    for i in range(n):
        begun = tsc()
        for j in range(per):
            body(state, i * per + j)
        store64(samples + 8 * i, tsc() - begun)


_bound: dict[str, Any] = {}


def measure(name: str, leaf, state, n: int, per: int) -> np.ndarray:
    """Time a leaf `(state, k)`; `state` is a record. The first tenth of the work is done once before, untimed."""
    if name not in _bound:
        _bound[name] = bind(timed, f"bench_{name}", body=leaf)
    samples = room_for(n)
    _bound[name](state, samples.ctypes.data, max(n // 10, 1), per)
    _bound[name](state, samples.ctypes.data, n, per)
    return samples


# ---------------------------------------------------------------- the registry


@dataclass(frozen=True)
class Benchmark:
    """A registered benchmark."""

    name: str
    run: Callable[[Lab], Any]
    budget: float | None
    unit: str
    about: str


_registry: dict[str, Benchmark] = {}


def benchmark(name: str, budget: float | None = None, unit: str = "ns", about: str = ""):
    """Register a function `(lab) -> Samples` or a list of them."""

    def register(function):
        _registry[name] = Benchmark(name, function, budget, unit, about)
        return function

    return register


def registered() -> dict[str, Benchmark]:
    """Every benchmark, in the order of the modules."""
    from hftd.bench import core, cores, market, path, stamps, trade, warm  # noqa: F401

    return _registry


def row_of(bench: Benchmark, samples: Samples, lab: Lab) -> Row:
    """Return the row of one set of samples."""
    read, values = (np.maximum(ticks - lab.overhead, 0.0) * lab.ns_per_tick / samples.per
                    for ticks in (samples.ticks, statistics.spread(samples.ticks)))  # fmt: skip
    points = [read.min(), *np.percentile(values, [50, 99, 99.9]), read.max()] if len(values) else [0.0] * 5
    points = [round(float(point), 2) for point in points]
    low, high = statistics.median_interval(values)
    budget = samples.budget if samples.budget is not None else (bench.budget if not samples.name else None)
    return Row(
        samples.name or bench.name, bench.unit, len(values) * samples.per, points[0], points[1], points[2], points[3], points[4],
        budget, None if samples.limit is None else round(samples.limit, 2), bench.about, samples.note, samples.beyond,
        round(low, 2), round(high, 2), statistics.outliers(values),
    )  # fmt: skip
