"""Pauses: the times at which a role did not run although it should have. The hiccup meter of every loop, always on.

Each turn of a duty cycle reads the time stamp counter anyway; the distance from the turn before is compared with a threshold, and
what is longer is noted here. The role alone writes its meter and its rows; anybody may read them. `kind` is what the loop knows
itself; what the kernel did meanwhile is added by cold code at the end of the slice (`core/meter.py`), so no hot loop makes a system
call for it. Rows are two rings, long pauses apart from short ones: a role that is woken late all the time would else
overwrite a pause of 300 ms within one. A reader copies them, reads the counts again, and leaves out what was overwritten meanwhile.

    COLD      between two slices: the role's own Python          PARK     woken later than it had asked for
    TURN      within a slice: one turn, or what interrupted it   JOURNAL  the recorder waited for the disk
    HELD      orders waited for room in the report ring          CLOCK    the system's clocks moved against each other
    SOCKET    orders waited for the socket to take bytes
"""

from typing import NamedTuple

import numpy as np

from hftd.core.apart import apart
from hftd.core.atomics import store_release
from hftd.core.jit import hot, leaf
from hftd.core.layout import PAIR, layout, offset_of
from hftd.core.memory import load64, record_at, store64

COLD, TURN, PARK, HELD, SOCKET, JOURNAL, CLOCK = range(7)
KINDS = ("cold", "turn", "park", "held", "socket", "journal", "clock")

STOOD = (COLD, TURN, PARK)
"""Kinds in which the loop did not turn: no two at once. Meanwhile orders may be held, or a disk be waited for."""

SHORTS = 512
"""Short pauses kept of each role, a power of two: at one between any two slices, half a second and more."""

LONGS = 256
"""Long pauses kept of each role, a power of two: with LONG times 200 us, 1.6 seconds of nothing else."""

ROWS = SHORTS + LONGS
"""Pauses kept of each role."""

LONG = 32
"""So many times the threshold, and a pause is long."""

NEVER = 1 << 62
"""A threshold that nothing passes."""

pause_dtype = layout("pause", 64, [
    ("begin", "i8"),                              # ticks: start of the turn that took so long, or of the wait
    ("end", "i8"),                                # ticks: start of the next
    ("kind", "i8"),                               # COLD, TURN, …
    ("work", "i8"),                               # TURN: things done in the turn; CLOCK: nanoseconds moved
    ("involuntary", "i8"),                        # context switches while the role could have run; -1: not told yet
    ("voluntary", "i8"),                          # context switches because it waited
    ("minor", "i8"),                              # page faults without a disk
    ("major", "i8"),                              # and with one
])  # fmt: skip

meter_dtype = layout("meter", 2 * PAIR, [
    ("shorts", "i8"),                             # short pauses noted; the newest lies in row (shorts - 1) & (SHORTS - 1)
    ("longs", "i8"),                              # long ones; the newest lies in row SHORTS + ((longs - 1) & (LONGS - 1))
    ("threshold", "i8"),                          # ticks: shorter ones are not noted
    ("long", "i8"),                               # ticks: from this length on a pause is long; 0: none is
    ("longest", "i8"),                            # ticks
    ("since", "i8"),                              # ticks: when the meter was first opened: a restarted role goes on with the sums
    ("pad", ("i8", (10,))),
    ("counts", ("i8", (8,)), PAIR),               # by kind
    ("ticks", ("i8", (8,))),                      # lost, by kind
])  # fmt: skip

_COUNTS, _TICKS = offset_of(meter_dtype, "counts"), offset_of(meter_dtype, "ticks")
_PAUSE = pause_dtype.itemsize


@leaf
def note_pause(meter_at, pauses_at, begin, end, kind, work):
    """Note one pause. meter_at, pauses_at: addresses of the role's meter and of its ROWS rows."""
    meter = record_at(meter_at, meter_dtype)
    length = end - begin
    long = 0 < meter.long <= length
    row = SHORTS + (meter.longs & (LONGS - 1)) if long else meter.shorts & (SHORTS - 1)
    pause = record_at(pauses_at + row * _PAUSE, pause_dtype)
    pause.begin, pause.end, pause.kind, pause.work = begin, end, kind, work
    pause.involuntary, pause.voluntary, pause.minor, pause.major = -1, 0, 0, 0
    meter.longest = max(meter.longest, length)
    store64(meter_at + _COUNTS + 8 * kind, load64(meter_at + _COUNTS + 8 * kind) + 1)
    store64(meter_at + _TICKS + 8 * kind, load64(meter_at + _TICKS + 8 * kind) + length)
    if long:
        store_release(meter, "longs", meter.longs + 1)
    else:
        store_release(meter, "shorts", meter.shorts + 1)


@hot
def note_wait(meter_at, pauses_at, begin, end, kind, work):
    """Note a pause from cold code, or from a place that is rarely reached; nothing where there is no meter (0)."""
    apart()
    if meter_at != 0:
        note_pause(meter_at, pauses_at, begin, end, kind, work)


# ---------------------------------------------------------------- cold


class Kept(NamedTuple):
    """The pauses that are kept of a role, and since when (ticks) none is missing: earlier ones were overwritten."""

    rows: np.ndarray                                  # pause_dtype, by their begin
    since: int = 0                                    # of all
    long_since: int = 0                               # of the long ones
    long: int = NEVER                                 # ticks from which on a pause is long

    def whole_since(self, length: int) -> int:
        """Return since when no pause of `length` ticks or more is missing."""
        return self.long_since if length >= self.long else max(self.since, self.long_since)


def rows_of(noted: int, seen: int, long: bool) -> np.ndarray:
    """Return the rows of a ring's pauses that were noted after the first `seen`, as far as they are there, oldest first."""
    first, size = (SHORTS, LONGS) if long else (0, SHORTS)
    return first + (np.arange(max(seen, noted - size, 0), noted) & (size - 1))


def kept(meters: np.ndarray, pauses: np.ndarray, at: int) -> Kept:
    """Return copies of the pauses that are kept of mark `at`."""
    meter = np.asarray(meters).view(np.ndarray)[at]
    rows = np.asarray(pauses).view(np.ndarray)[at * ROWS : (at + 1) * ROWS]
    shorts, since = _still_there(meter, rows, "shorts", False)
    longs, long_since = _still_there(meter, rows, "longs", True)
    both = np.concatenate((shorts, longs))
    return Kept(both[np.argsort(both["begin"], kind="stable")], since, long_since, int(meter["long"]) or NEVER)


def _still_there(meter: np.void, rows: np.ndarray, name: str, long: bool) -> tuple[np.ndarray, int]:
    """Return copies of one ring's pauses, and since when none of them is missing."""
    size = LONGS if long else SHORTS
    before = int(meter[name])
    which = rows_of(before, 0, long)
    copy = rows[which].copy()
    after = int(meter[name])
    copy = copy[np.arange(before - len(which), before) > after - size]   # the row that may be written now is left out too
    if after < size:
        return copy, 0
    return copy, int(copy["begin"][0]) if len(copy) else NEVER


def summary(meter: np.void, hz: int, now: int) -> dict:
    """Return a meter for people: how long it ran, the longest pause, for each kind how many and how much time in all, and the share
    of the time in which the loop did not turn."""
    scale = 1e9 / hz
    kinds = {
        name: {"count": int(meter["counts"][kind]), "ns": round(int(meter["ticks"][kind]) * scale)}
        for kind, name in enumerate(KINDS) if int(meter["counts"][kind])
    }  # fmt: skip
    since = int(meter["since"])
    return {
        "threshold_ns": round(int(meter["threshold"]) * scale) if 0 < int(meter["threshold"]) < NEVER else None,
        "longest_ns": round(int(meter["longest"]) * scale),
        "seconds": round((now - since) / hz, 3) if since else 0.0,
        "stood": round(sum(int(meter["ticks"][kind]) for kind in STOOD) / max(now - since, 1), 6) if since else 0.0,
        "kinds": kinds,
    }
