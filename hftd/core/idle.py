"""What an agent does with a turn that found no work: spin, yield or park.

    SPIN   `pause` and go on: the lowest latency, one core for itself ("dedicated")
    PARK   spin for a while, then give the core away, then sleep: for machines with fewer cores than agents ("shared")

`idle_dtype` is private to the agent. Spinning more agents than there are cores is refused at start, not here.
"""

from hftd.core.atomics import pause
from hftd.core.jit import leaf
from hftd.core.layout import layout
from hftd.core.libc import nanosleep, sched_yield
from hftd.core.memory import address_of

SPIN, PARK = 0, 1

idle_dtype = layout("idle", 64, [
    ("park_s", "i8"),                             # struct timespec handed to nanosleep: seconds, always 0
    ("park_ns", "i8"),                            # nanoseconds slept when parked
    ("mode", "i8"),                               # SPIN or PARK
    ("spins", "i8"),                              # PARK: empty turns before the core is given away
    ("yields", "i8"),                             # PARK: empty turns after that before sleeping
    ("empty", "i8"),                              # empty turns in a row
    ("parks", "i8"),                              # times slept
    ("pad0", "i8"),
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


def set_idle(state, mode: int, spins: int = 200, yields: int = 50, park_ns: int = 50_000) -> None:
    """Fill an idle_dtype record."""
    state["mode"], state["spins"], state["yields"] = mode, spins, yields
    state["park_s"], state["park_ns"], state["empty"] = 0, park_ns, 0
