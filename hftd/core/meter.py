"""What the kernel did to a role while it paused: read between slices, written beside the pause. Cold.

    begin()  before a slice: what the thread's counters say        end()  after it: where the loop noted a pause, what moved since

A pause within the slice in which involuntary switches were counted was one; likewise faults. Where there are more pauses than
switches the longest have them. The recorder joins pauses and slow orders (`recorder/causes.py`).
"""

import resource

import numpy as np

from hftd.core import clock as clocks
from hftd.core.idle import SPIN
from hftd.shm import pauses

NS = 1_000_000_000
FIELDS = ("involuntary", "voluntary", "minor", "major")


class Meter:
    """The hiccup meter of one loop. waiting: its idle_dtype record; control: the segment; at: its mark."""

    def __init__(self, waiting, control, at: int, clock, threshold_us: int):
        hz = int(clock["hz"])
        self.waiting = waiting
        meters = np.asarray(control["meters"]).view(np.ndarray)
        self.meter = meters[at : at + 1]
        self.rows = np.asarray(control["pauses"]).view(np.ndarray)[at * pauses.ROWS : (at + 1) * pauses.ROWS]
        self.meter_at = control.address("meters") + at * pauses.meter_dtype.itemsize
        self.pauses_at = control.address("pauses") + at * pauses.ROWS * pauses.pause_dtype.itemsize
        self._counts = self.meter["shorts"], self.meter["longs"]
        self._seen = self._noted()
        self._last = self._cold = (0, 0, 0, 0)
        self._parks = int(waiting["parks"])
        now = clocks.now_ticks()
        threshold = hz * threshold_us // 1_000_000
        self.meter["threshold"], self.meter["long"] = threshold, threshold * pauses.LONG
        self.meter["since"] = int(self.meter["since"][0]) or now
        waiting["meter_at"], waiting["pauses_at"] = self.meter_at, self.pauses_at
        waiting["park_ticks"] = int(waiting["park_ns"]) * hz // NS
        waiting["pause_ticks"], waiting["turned"] = threshold, now
        self._last = usage()

    def begin(self) -> None:
        """Read the counters before a slice."""
        now = usage()
        self._cold = minus(now, self._last)
        self._last = now

    def end(self) -> None:
        """After a slice: complete the pauses it noted."""
        noted = self._noted()
        if noted != self._seen:
            self._complete(noted)

    def note(self, begin: int, end: int, kind: int, work: int = 0) -> None:
        """Note a pause from cold code. begin, end: ticks."""
        pauses.note_wait(self.meter_at, self.pauses_at, begin, end, kind, work)

    def _noted(self) -> tuple[int, int]:
        """Return how many pauses were noted, short and long ones."""
        return int(self._counts[0][0]), int(self._counts[1][0])

    def _complete(self, noted: tuple[int, int]) -> None:
        now = usage()
        moved = minus(now, self._last)
        self._last = now
        parks = int(self.waiting["parks"])
        if int(self.waiting["mode"]) != SPIN:     # each sleep is a voluntary switch, and no news
            moved = (moved[0], max(moved[1] - (parks - self._parks), 0), *moved[2:])
        self._parks = parks
        new = np.concatenate([pauses.rows_of(noted[long], self._seen[long], bool(long)) for long in range(2)])
        self._seen = noted
        kinds = self.rows["kind"][new]
        complete(self.rows, new[kinds == pauses.COLD], self._cold)
        complete(self.rows, new[kinds != pauses.COLD], moved)


def complete(rows: np.ndarray, which: np.ndarray, moved: tuple[int, ...]) -> None:
    """Write what the counters moved by beside the pauses `which`; the longest first where there is not enough for all."""
    order = which[np.argsort(rows["begin"][which] - rows["end"][which], kind="stable")]
    for name, total in zip(FIELDS, moved):
        for rank, at in enumerate(order):
            rows[name][at] = total // len(order) + (1 if rank < total % len(order) else 0)


def usage() -> tuple[int, int, int, int]:
    """Return this thread's involuntary and voluntary switches, minor and major faults, ever."""
    found = resource.getrusage(resource.RUSAGE_THREAD)
    return found.ru_nivcsw, found.ru_nvcsw, found.ru_minflt, found.ru_majflt


def minus(now: tuple[int, ...], before: tuple[int, ...]) -> tuple[int, ...]:
    """Return what came between two readings."""
    return tuple(a - b for a, b in zip(now, before))
