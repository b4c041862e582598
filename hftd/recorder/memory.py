"""What the recorder keeps in shared memory.

    counters
    taps       one line for each tap, so that a lag is seen before it is a loss
    slow       slow orders with their cause: the worst ones, then a ring of the newest (causes.py)
"""

from hftd.control.config import Config
from hftd.core.layout import layout
from hftd.shm.control import MARKS, STRATEGIES_MAX
from hftd.shm.counters import counters
from hftd.shm.segment import Part

TAPS_MAX = 3 + STRATEGIES_MAX + MARKS
"""Order, report and denial ring; every strategy's intents; every agent's log."""

tap_dtype = layout("tap", 64, [
    ("stream", "i8"),                             # Stream, with the agent's or strategy's index: see recorder/journal.py
    ("entries", "i8"),                            # records taken
    ("lost", "i8"),                               # records overwritten before they were taken
    ("lag", "i8"),                                # records waiting when last looked at
    ("lag_peak", "i8"),
    ("capacity", "i8"),                           # slots of the ring: a lag beyond it is a loss
    ("pad0", "i8"), ("pad1", "i8"),
])  # fmt: skip

recorder_counters_dtype = counters("recorder", [
    ("entries", "records taken from all rings"),
    ("lost", "records overwritten before they were taken"),
    ("journal_entries", "records in the journal"),
    ("journal_files", "journal files begun"),
    ("journal_bytes", "bytes of the journal"),
    ("journal_failed", "times a journal file could not be made, sealed or seen through to the disk"),
    ("unjournaled", "records that found no journal"),
    ("lines", "log lines written"),
    ("lines_held", "log lines left out since there were too many of a kind in one second"),
    ("log_failed", "log lines that could not be written"),
    ("ledger_saves", "times the day's positions and loss were written"),
    ("ledger_failed", "times they could not be written"),
    ("scrapes", "metrics requests answered"),
    ("slow_seen", "slow orders of the gateway gone through"),
    ("slow_told", "of these, those whose cause was looked for; in a flood the slowest are"),
])  # fmt: skip


WORST, NEWEST = 32, 64
"""Slow orders kept: the slowest since the start, and the last ones. Powers of two."""

slow_dtype = layout("slow", 192, [
    ("number", "i8"),                             # of the slow order, from 1; 0: row is free
    ("utc_ns", "i8"),                             # when its cause came in
    ("cl_ord_id", "i8"),
    ("ts_recv", "i8"),                            # ticks
    ("t_feed", "i8"),                             # ticks after ts_recv: as in gateway.memory.tail_dtype
    ("t_strategy", "i8"),
    ("t_risk", "i8"),
    ("t_sent", "i8"),
    ("t_call", "i8"),                             # ticks that send() took
    ("batch", "i8"),
    ("instrument", "i8"),
    ("strategy", "i8"),
    ("kind", "i8"),                               # IntentKind
    ("cause", "i8"),                              # Cause
    ("stage", "i8"),                              # where: index into causes.STAGES
    ("mark", "i8"),                               # of the role that paused; -1: none did
    ("overlap", "i8"),                            # ticks of the stage during which it did
    ("work", "i8"),                               # WORK: records it was busy with
    ("pad", ("i8", (6,))),
])  # fmt: skip


def parts(config: Config) -> list[Part]:
    """Return the parts of the recorder's segment."""
    return [
        Part("counters", recorder_counters_dtype, 1),
        Part("taps", tap_dtype, TAPS_MAX),
        Part("slow", slow_dtype, WORST + NEWEST),
    ]
