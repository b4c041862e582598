"""What an agent does with a turn that found no work: spin, yield or park.

    SPIN   `pause` and go on: the lowest latency, one core for itself ("dedicated")
    PARK   spin for a while, then give the core away, then sleep: for machines with fewer cores than agents ("shared")

`idle_dtype` is private to the agent. Spinning more agents than there are cores is refused at start, not here.

It also keeps when the last turn began: a loop that finds more than `pause_ticks` since then was not running, or was long about it,
and notes that (`shm/pauses.py`).
"""

from hftd.core.apart import apart
from hftd.core.atomics import pause, tsc
from hftd.core.jit import hot, leaf
from hftd.core.layout import layout
from hftd.core.libc import nanosleep, sched_yield
from hftd.core.memory import address_of
from hftd.shm.pauses import COLD, NEVER, TURN, note_pause
from hftd.shm.pauses import PARK as PARKED

SPIN, PARK = 0, 1

idle_dtype = layout("idle", 128, [
    ("park_s", "i8"),                             # struct timespec handed to nanosleep: seconds, always 0
    ("park_ns", "i8"),                            # nanoseconds slept when parked
    ("mode", "i8"),                               # SPIN or PARK
    ("spins", "i8"),                              # PARK: empty turns before the core is given away
    ("yields", "i8"),                             # PARK: empty turns after that before sleeping
    ("empty", "i8"),                              # empty turns in a row
    ("parks", "i8"),                              # times slept
    ("turned", "i8"),                             # ticks: when the last turn began
    ("pause_ticks", "i8"),                        # what is longer than this between two turns is a pause
    ("park_ticks", "i8"),                         # park_ns in ticks: sleeping as long as asked is none
    ("meter_at", "i8"),                           # address of the role's meter
    ("pauses_at", "i8"),                          # and of its rows
    ("pad", ("i8", (4,))),
])  # fmt: skip


@leaf
def idle(state, work):
    """Take note of a turn that found `work` (0: none) and wait as the mode says. state: idle_dtype record."""
    if work != 0:
        state.empty = 0
        return
    state.empty += 1
    if state.mode == SPIN or state.empty < state.spins:
        pause()
    elif state.empty < state.spins + state.yields:
        sched_yield()
    else:
        state.parks += 1
        nanosleep(address_of(state), 0)


@leaf
def parked_out(state):
    """Tell whether a parking agent has slept often enough that its host should look around: every 16 sleeps, about 2 ms."""
    return state.mode != SPIN and state.empty > state.spins + state.yields and state.empty & 15 == 0


@leaf
def slept(state):
    """Tell whether the last turn ended in a sleep."""
    return state.mode != SPIN and state.empty > 0 and state.empty >= state.spins + state.yields


@hot
def resume(state):
    """A slice begins: where much time passed since the last turn, it was the role's own Python. (Before the loop: a first turn
    unlike the others would be compiled twice.)"""
    apart()
    now = tsc()
    if now - state.turned > state.pause_ticks:
        note_pause(state.meter_at, state.pauses_at, state.turned, now, COLD, 0)
    state.turned = now


@hot
def note_gap(state, now, work):
    """Note that more than `pause_ticks` lie between the last turn, which did `work` things, and now."""
    apart()
    begin, kind = state.turned, TURN
    if slept(state):
        kind = PARKED
        begin += state.park_ticks
        if now - begin <= state.pause_ticks:
            return
    note_pause(state.meter_at, state.pauses_at, begin, now, kind, work)


def set_idle(state, mode: int, spins: int = 200, yields: int = 50, park_ns: int = 50_000) -> None:
    """Fill an idle_dtype record; pauses are noted once a meter was opened for it (`core/meter.py`)."""
    if not int(state["meter_at"]):
        state["pause_ticks"] = NEVER
    state["mode"], state["spins"], state["yields"] = mode, spins, yields
    state["park_s"], state["park_ns"], state["empty"] = 0, park_ns, 0
