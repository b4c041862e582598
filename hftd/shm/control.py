"""The control segment: what the whole daemon is doing, in words anybody may read at any time.

The supervisor writes `run` and `clock`; whoever pulls the kill switch writes `kill`; each agent writes its own mark, error log,
counters, when it did not run (`pauses.py`), and what it asked of the kernel (`placed.py`). `hftd status` reads only this, so it
answers when every process is wedged.
"""

import numpy as np

from hftd.core.clock import clock_dtype
from hftd.core.layout import PAIR, layout
from hftd.msg.enums import Role
from hftd.shm import pauses
from hftd.shm.errlog import ROWS, error_dtype
from hftd.shm.placed import HELD_ROWS, held_dtype, placed_dtype
from hftd.shm.segment import Part

STRATEGIES_MAX = 16
CONFIG_BYTES = 1 << 16
"""Room for the configuration as JSON, so that a tool attaches to what runs and not to what the file says by now."""
MARKS = int(Role.STRATEGY) + STRATEGIES_MAX

run_dtype = layout("run", PAIR * 3, [
    ("state", "i8"),                              # RunState; the supervisor writes it
    ("epoch", "i8"),                              # utc ns of the start: the instance's name in journals
    ("ready_utc_ns", "i8"),
    ("layout", "i8"),                             # index into control.config.LAYOUTS
    ("strategies", "i8"),                         # how many there are
    ("instruments", "i8"),                        # how many rows of the instrument table are in use
    ("pad0", ("i8", (10,))),
    ("kill", "i8", PAIR),                         # 0: off; else the utc ns of the pull. Read by the gateway before each send
    ("kill_by", "i8"),                            # first eight bytes of who pulled it
    ("pad1", ("i8", (14,))),
    ("session_up", "i8", 2 * PAIR),               # 1 while the gateway's session is logged in and reconciled
    ("pad2", ("i8", (15,))),
])  # fmt: skip

mark_dtype = layout("mark", PAIR, [
    ("heartbeat", "i8"),                          # ticks: last turn; its agent writes it
    ("cycles", "i8"),                             # turns of the duty cycle
    ("busy", "i8"),                               # turns that found work: busy/cycles is the utilisation
    ("state", "i8"),                              # AgentState
    ("pid", "i8"),
    ("starts", "i8"),                             # how often it was started; the supervisor writes it
    ("started_utc_ns", "i8"),
    ("core", "i8"),                               # pinned to; -1: not pinned
    ("reason", "i8"),                             # last Reason that brought it back to Python, slices left out
    ("idle_turns", "i8"),                         # turns since work was last found
    ("ready", "i8"),                              # 1 when it can do its part: trading-ready is all of them
    ("kind", "i8"),                               # Role
    ("index", "i8"),                              # of the strategy
    ("compiled", "i8"),                           # kernels compiled after the fork: must stay 0
    ("pad", ("i8", (2,))),
])  # fmt: skip


rehearsal_dtype = layout("rehearsal", PAIR, [
    ("verdict", "i8"),                            # REHEARSED_…
    ("took_ns", "i8"),                            # the whole rehearsal, its memory made and given back
    ("rounds", "i8"),                             # times the tape was played
    ("steps", "i8"),                              # calls of the role's loop
    ("measured", "i8"),                           # turns that were timed, of the later rounds
    ("first_ns", "i8"),                           # the first such turn: nothing was warm
    ("p50_ns", "i8"),
    ("p99_ns", "i8"),
    ("max_ns", "i8"),
    ("budget_ns", "i8"),                          # of the median; 0: none
    ("faults", "i8"),                             # page faults while it was measured
    ("sunk_bytes", "i8"),                         # gateway: bytes of orders that ended in the rehearsal's own socket
    ("stamping_ns", "i8"),                        # gateway: what counting one order's stages takes, after its send()
    ("orders", "i8"),                             # gateway: orders that were encoded
    ("pad", ("i8", (2,))),
])  # fmt: skip

REHEARSED_NOT, REHEARSED_MET, REHEARSED_MISSED, REHEARSED_UNJUDGED = range(4)
REHEARSED_TEXT = ("not rehearsed", "met", "MISSED", "not judged")


def parts() -> list[Part]:
    """Return the parts of the control segment; they do not depend on the configuration, so any version's tools find them."""
    return [
        Part("run", run_dtype, 1),
        Part("clock", clock_dtype, 1),
        Part("marks", mark_dtype, MARKS),
        Part("errors", error_dtype, MARKS * ROWS),
        Part("placed", placed_dtype, MARKS),
        Part("held", held_dtype, MARKS * HELD_ROWS),
        Part("config", np.dtype("u1"), CONFIG_BYTES),
        Part("rehearsals", rehearsal_dtype, MARKS),
        Part("meters", pauses.meter_dtype, MARKS),
        Part("pauses", pauses.pause_dtype, MARKS * pauses.ROWS),
    ]
