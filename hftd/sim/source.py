"""When what happens: the flow's next event, its due time and its stamp, and the venue's clock between two events.

Two clocks. `elapsed` is real ns since the flow began: an event is performed when it is due. The stamp is the venue's, ns since
midnight: an event's is given (history) or drawn (synthetic); what an account does in between is stamped by interpolation, so that
stamps never go back and never pass the next event's, however much a recorded day is compressed.
"""

from hftd.core.jit import hot
from hftd.core.memory import load16, load64, record_at, swap16
from hftd.sim.flow import SEED_STEPS, gap, happen, sow
from hftd.sim.memory import (
    PHASE_CLOSE,
    PHASE_FLOW,
    PHASE_OPEN,
    PHASE_PLAY,
    PHASE_SOW,
    SOURCE_REPLAY,
    SOURCE_SYNTHETIC,
)
from hftd.sim.once import once
from hftd.sim.replay import history
from hftd.venues.nasdaq import itch50 as itch

BATCH = 256
"""Events performed before accounts are listened to again."""

SECOND = 1_000_000_000
SEED_GAP = 1000  # ns between seed orders


@hot
def plan_play(x):
    """The next event is the message at `position`."""
    x.next_ts = itch.stamp(record_at(x.data + x.position + 2, itch.header_dtype))
    if x.source == SOURCE_REPLAY:
        if x.due != 0:
            x.next_due = load64(x.due + 8 * x.number)
        elif x.rate > 0:
            x.next_due = x.number * SECOND // x.rate


@hot
def plan(x):
    """Find the next event: its stamp and when it is due; or that there is none."""
    if x.source == SOURCE_REPLAY:
        if x.position >= x.data_size:
            x.done = 1
        else:
            plan_play(x)
        return
    if x.phase == PHASE_PLAY:
        if x.position < x.cut_1:
            plan_play(x)
            return
        x.phase = PHASE_SOW
    if x.phase == PHASE_SOW:
        if x.seeded < SEED_STEPS * x.live_symbols:
            x.next_ts = x.seed_ts + x.seeded * SEED_GAP
            return
        x.phase = PHASE_OPEN
    if x.phase == PHASE_OPEN:
        if x.position < x.cut_2:
            plan_play(x)
            return
        x.phase = PHASE_FLOW
        x.next_ts = x.open_ts
    if x.phase == PHASE_FLOW:
        after = x.next_ts + gap(x)
        if after <= x.until_ts and (x.until_count == 0 or x.flow_events < x.until_count):
            x.next_ts = after
            if x.speed > 0.0:
                x.next_due = int((after - x.open_ts) / x.speed)
            elif x.rate > 0:
                x.next_due = x.flow_events * SECOND // x.rate
            return
        x.phase = PHASE_CLOSE
    if x.position < x.data_size:
        plan_play(x)
    else:
        x.done = 1


@hot
def advance(x, elapsed):
    """Set the venue's clock to what it says `elapsed` ns after the start; it never goes back nor past the next event."""
    now = x.next_ts
    if x.done == 1:
        now = x.last_ts + max(elapsed - x.last_due, 0)
    elif elapsed < x.next_due and x.next_due > x.last_due:
        part = (elapsed - x.last_due) / (x.next_due - x.last_due)
        now = x.last_ts + int(part * (x.next_ts - x.last_ts))
    x.ts = max(x.ts, now)


@once
def follow(x, elapsed):
    """Perform what is due, a bounded number of events. Returns how many."""
    work = 0
    while x.done == 0 and x.next_due <= elapsed and work < BATCH:
        x.ts = max(x.ts, x.next_ts)
        x.last_ts = x.ts
        x.last_due = x.next_due
        if x.phase == PHASE_SOW:
            sow(x, x.seeded)
            x.seeded += 1
        elif x.phase == PHASE_FLOW:
            happen(x)
        else:
            at = x.data + x.position
            size = swap16(load16(at))
            if x.source == SOURCE_SYNTHETIC:
                itch.set_stamp(record_at(at + 2, itch.header_dtype), x.ts)
            history(x, at + 2, size)
            x.position += 2 + size
            x.number += 1
        plan(x)
        work += 1
    return work
