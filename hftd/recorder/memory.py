"""What the recorder keeps in shared memory: its counters, and one line for each tap, so that a lag is seen before it is a loss."""

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
    ("journal_failed", "times a journal file could not be made: disk full, or no permission"),
    ("unjournaled", "records that found no journal"),
    ("lines", "log lines written"),
    ("lines_held", "log lines left out since there were too many of a kind in one second"),
    ("log_failed", "log lines that could not be written"),
    ("ledger_saves", "times the day's positions and loss were written"),
    ("scrapes", "metrics requests answered"),
])  # fmt: skip


def parts(config: Config) -> list[Part]:
    """Return the parts of the recorder's segment."""
    return [Part("counters", recorder_counters_dtype, 1), Part("taps", tap_dtype, TAPS_MAX)]
