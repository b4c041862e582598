"""The recorder's turn: a few records of every ring into the open journal file, round robin.

The target is memory: a mapped journal file, or private memory where there is no journal. Python looks at the new entries between
slices (`setup.py`) and writes the log lines. A full target ends the slice with RELOAD: Python opens the next file.

The order of the stores tells the next recorder what one that was killed had taken (crashed.py): entries, their count, the tap's
counts, the ring's head last.
"""

from functools import cache

from hftd.core.atomics import store_release, store_release_at
from hftd.core.bind import bind
from hftd.core.duty import duty_cycle
from hftd.core.jit import leaf
from hftd.core.layout import layout
from hftd.core.memory import record_at, row, span, span_dtype
from hftd.msg.enums import Reason
from hftd.recorder.memory import TAPS_MAX, recorder_counters_dtype, tap_dtype
from hftd.recorder.taps import ENTRY, drain
from hftd.shm.ring import consumer_dtype, done

BATCH = 64
"""Records of one ring taken in a turn."""

RELOAD = int(Reason.RELOAD)

recorder_agent_dtype = layout("recorder_agent", 128 + 64 * TAPS_MAX, [
    ("taps", span_dtype),                         # tap_dtype rows, shared
    ("target", span_dtype),                       # entries: address of entry 0, and how many fit
    ("next", "i8"),                               # entries written to the target
    ("limit", "i8"),                              # stop here: Python has not read what lies before
    ("committed_at", "i8"),                       # address of the word that says how many entries are whole
    ("tables_at", "i8"),                          # CRC tables
    ("counters_at", "i8"),
    ("count", "i8"),                              # taps in use
    ("pad", ("i8", (6,))),
    ("consumers", (consumer_dtype, (TAPS_MAX,)), 128),
])  # fmt: skip


@leaf
def recorder_turn(agent, now):
    """One step over all taps. Returns records taken, or -RELOAD when the target is full."""
    taps, target = span(agent.taps), span(agent.target)
    counters = record_at(agent.counters_at, recorder_counters_dtype)
    work = 0
    for index in range(agent.count):
        tap = row(taps, index, tap_dtype)
        consumer = agent.consumers[index]
        number = agent.next
        taken = drain(consumer, tap, agent.tables_at, target.base + number * ENTRY, agent.limit - number, number, BATCH)
        if taken != 0:
            agent.next = number + taken
            store_release_at(agent.committed_at, agent.next)
            store_release(tap, "entries", tap.entries + taken)
            work += taken
        lost = consumer.lost - tap.lost
        if lost != 0:
            store_release(tap, "lost", consumer.lost)
            counters.lost += lost
        if taken != 0 or lost != 0:
            done(consumer)
    counters.entries += work
    if agent.next == agent.limit:
        return -RELOAD
    return work


@cache
def kernel():
    """Return the compiled duty cycle of the recorder."""
    return bind(duty_cycle, "recorder", turn=recorder_turn)
