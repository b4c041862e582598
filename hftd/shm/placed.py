"""What each role asked of the kernel, and what came of it; and which private memory it holds: in the control segment, for anybody.

    placed   one record an agent (and the supervisor's): an `ask` for each Item, and the counters as of the end of warm-up
    held     HELD_ROWS an agent: its named blocks of private memory; the supervisor's are the segments of shared memory

The owner writes its record before it is ready, `warm` once after READY. What the kernel counts since then (faults, switches) is
read from /proc by whoever asks, so that a role need not count for them: `hftd status` answers when the role is wedged.
"""

import gc
import os
import resource
import time
from enum import IntEnum

import numpy as np

from hftd.core.layout import PAIR, layout
from hftd.core.placement import Item


class AskState(IntEnum):
    """What became of something that can be asked for."""

    NOT_ASKED = 0
    OBTAINED = 1
    PARTLY = 2
    REFUSED = 3


ask_dtype = layout("ask", 32, [
    ("state", "i8"),                              # AskState
    ("asked", "i8"),                              # in the item's unit (core/placement.py: Item)
    ("got", "i8"),
    ("why", "i8"),                                # errno, or a placement.Why below 0; 0: not refused
])  # fmt: skip

placed_dtype = layout("placed", 3 * PAIR, [
    ("asks", (ask_dtype, (len(Item),))),
    ("minor", "i8", 2 * PAIR),                    # page faults when warm-up was over
    ("major", "i8"),
    ("voluntary", "i8"),                          # switches of context likewise
    ("involuntary", "i8"),
    ("warm_utc_ns", "i8"),                        # when that was; 0: not yet
    ("pid", "i8"),                                # whose counters they are
    ("collector", "i8"),                          # 1: Python's collector of cycles is on
    ("pad", ("i8", (9,))),
])  # fmt: skip

HELD_ROWS = 64

held_dtype = layout("held", 72, [
    ("name", "S24"),
    ("address", "i8", 24),                        # in its owner
    ("bytes", "i8"),
    ("count", "i8"),                              # records in it; 0: plain bytes
    ("large", "i8"),                              # bytes of it on 2 MiB pages
    ("pages", "i8"),                              # index into placement.PAGES: what was obtained
    ("node", "i8"),                               # NUMA node of its first page; -1: not known
])  # fmt: skip


def note(row, item: Item, asked: int, got: int, why: int = 0, partly: bool = False) -> AskState:
    """Write down what came of one thing. row: placed_dtype record."""
    state = (AskState.PARTLY if partly else AskState.REFUSED) if why else AskState.OBTAINED
    ask = row["asks"][int(item)]
    ask["asked"], ask["got"], ask["why"], ask["state"] = asked, got, why, int(state)
    return state


def hold(rows: np.ndarray, blocks) -> None:
    """Write down private memory. rows: held_dtype[HELD_ROWS] of one owner; blocks: tuples of its fields, in order."""
    rows[:] = np.zeros(len(rows), held_dtype)
    for row, values in zip(rows, blocks):
        for field, value in zip(held_dtype.names or (), values):
            row[field] = value


def note_warm(row) -> None:
    """Write down this process's counters: its warm-up is over. row: placed_dtype record."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    row["minor"], row["major"] = used.ru_minflt, used.ru_majflt
    row["voluntary"], row["involuntary"] = used.ru_nvcsw, used.ru_nivcsw
    row["pid"], row["collector"], row["warm_utc_ns"] = os.getpid(), int(gc.isenabled()), time.time_ns()
