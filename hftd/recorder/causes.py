"""Why an order was slow: its stages laid against the pauses of the roles. Cold.

    order    |--- feed ---|- strategy -|-- risk --|------ gateway ------|= send() =|
    pauses        feed: …     strategy: …  risk: ███████ (2 involuntary switches)      -> SWITCHED, risk, overlap

The gateway keeps the stamps of slow orders (gateway/tails.py), each role when it paused (shm/pauses.py); a role completes a pause
at the end of its slice, so an order is looked at when it is DELAY_S old. A cause counts where the pause covers a quarter of the
order's time; else the longest stage is named. Nothing here is a guess by time of day: no overlap, no cause. A role keeps so many
pauses and no more (long ones for longer): where those of the order's time that could be a cause were overwritten, that is said, and
not that there was none.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from hftd.gateway.memory import TAILS, tail_dtype
from hftd.msg.enums import Cause, Role
from hftd.recorder.memory import NEWEST, WORST, slow_dtype
from hftd.shm import pauses

STAGES = ("feed", "strategy", "risk", "gateway", "send")
DELAY_S = 0.25
AT_ONCE = 16
"""Orders gone into at one look; in a flood the slowest of them."""

SHARE = 4
"""A pause is the cause where it covers at least 1/SHARE of the order's time."""

BURST = 8
"""Records from which on a long turn was a burst of work."""

CARRIED = tuple(name for name in tail_dtype.names or () if name != "pad")


@dataclass(frozen=True)
class Found:
    """A cause: in which stage (index), which mark paused (-1: none), how many ticks of the stage, and its work."""

    cause: Cause
    stage: int
    mark: int = -1
    overlap: int = 0
    work: int = 0


def spans(order) -> list[tuple[int, int]]:
    """Return begin and end of each stage of a slow order, in ticks."""
    begin = int(order["ts_recv"])
    ends = [int(order[name]) for name in ("t_feed", "t_strategy", "t_risk", "t_sent")]
    ends.append(ends[-1] + int(order["t_call"]))
    return [(begin + max(a, 0), begin + b) for a, b in zip([0, *ends], ends)]


def marks_of(order, fused: bool) -> tuple[int, ...]:
    """Return the mark of the loop that does each stage. A fused process has one meter, the gateway's."""
    gateway = int(Role.GATEWAY)
    if fused:
        return int(Role.FEED), gateway, gateway, gateway, gateway
    return int(Role.FEED), int(Role.STRATEGY) + int(order["strategy"]), int(Role.RISK), gateway, gateway


def cause_of(order, paused: Callable[[int], pauses.Kept], fused: bool = False) -> Found:
    """Find out why an order was slow. order: tail_dtype record; paused: a mark's pauses, and since when they are all kept."""
    stages, marks = spans(order), marks_of(order, fused)
    whole = stages[-1][1] - stages[0][0]
    best, chosen = Found(Cause.UNKNOWN, 0), None
    for stage, ((begin, end), mark) in enumerate(zip(stages, marks)):
        rows = paused(mark).rows
        overlaps = np.minimum(rows["end"], end) - np.maximum(rows["begin"], begin)
        if len(overlaps) and int(overlaps.max()) > best.overlap:
            chosen = rows[int(overlaps.argmax())]
            best = Found(reason_of(chosen), stage, mark, int(overlaps.max()), int(chosen["work"]))
    if chosen is not None and best.overlap * SHARE >= whole:
        if best.cause == Cause.HOST and STAGES[best.stage] == "send":
            return replace(best, cause=Cause.SYSTEM_CALL)  # its turn is a pause, too; the order's own stamps say where it was
        return best
    longest = max(range(len(stages)), key=lambda stage: stages[stage][1] - stages[stage][0])
    if longest == STAGES.index("send"):
        return Found(Cause.SYSTEM_CALL, longest)
    if longest == STAGES.index("gateway") and int(order["batch"]) > 1:
        return Found(Cause.BATCH, longest, work=int(order["batch"]))
    for cause, mark, kind in ((Cause.CLOCK_STEP, Role.SUPERVISOR, pauses.CLOCK), (Cause.JOURNAL, Role.RECORDER, pauses.JOURNAL)):
        rows = paused(int(mark)).rows
        if np.any((rows["kind"] == kind) & (rows["begin"] < stages[-1][1]) & (rows["end"] > stages[0][0])):
            return Found(cause, longest, int(mark))
    forgotten = [stage for stage, mark in enumerate(marks) if stages[stage][0] < paused(mark).whole_since(whole // SHARE)]
    if forgotten:                                     # nobody can say that no role paused
        guess = longest if longest in forgotten else max(forgotten, key=lambda stage: stages[stage][1] - stages[stage][0])
        return Found(Cause.OVERWRITTEN, guess, marks[guess])
    return Found(Cause.UNKNOWN, longest)


def reason_of(pause) -> Cause:
    """Return what a pause was, by its kind and by what the kernel counted meanwhile."""
    kind = int(pause["kind"])
    if kind == pauses.HELD:
        return Cause.RING_FULL
    if kind == pauses.SOCKET:
        return Cause.SOCKET_FULL
    if int(pause["involuntary"]) > 0:
        return Cause.SWITCHED
    if kind == pauses.PARK:
        return Cause.PARKED
    if kind == pauses.COLD:
        return Cause.COLD
    if int(pause["major"]) > 0 or int(pause["minor"]) > 0:
        return Cause.FAULT
    if int(pause["voluntary"]) > 0:
        return Cause.WAITED
    return Cause.WORK if int(pause["work"]) >= BURST else Cause.HOST


class Causes:
    """Goes through the gateway's slow orders, and keeps the worst and the newest with their causes in the recorder's segment."""

    def __init__(self, memory, counters, clock, fused: bool):
        self.tails = np.asarray(memory["orders"]["tails"]).view(np.ndarray)
        self.told = memory["orders"]["counters"]["slow_orders"]
        self.slow = np.asarray(memory["recorder"]["slow"]).view(np.ndarray)
        self.meters, self.pauses = memory["control"]["meters"], memory["control"]["pauses"]
        self.counters, self.fused = counters, fused
        self.kept = int(counters["slow_told"])
        self.delay = int(DELAY_S * int(clock["hz"]))

    def look(self, now: int, utc_of: Callable[[int], int]) -> int:
        """Go through what is old enough at `now` ticks; return how many causes were looked for. utc_of: ticks to UTC ns."""
        seen, told = int(self.counters["slow_seen"]), int(self.told[0])
        if seen == told:
            return 0
        numbers = np.arange(max(seen, told - TAILS) + 1, told + 1)
        rows = self.tails[(numbers - 1) & (TAILS - 1)].copy()
        good = (rows["number"] == numbers) & (rows["ts_recv"] + rows["t_sent"] < now - self.delay)
        late = np.flatnonzero((rows["number"] == numbers) & ~good)
        upto = int(late[0]) if len(late) else len(rows)
        rows = rows[:upto][good[:upto]]
        self.counters["slow_seen"] = int(numbers[upto - 1]) if upto else max(seen, told - TAILS)
        held: dict[int, pauses.Kept] = {}

        def paused(mark: int) -> pauses.Kept:
            if mark not in held:
                held[mark] = pauses.kept(self.meters, self.pauses, mark)
            return held[mark]

        slowest = np.sort(np.argsort(-(rows["t_sent"] + rows["t_call"]), kind="stable")[:AT_ONCE])
        for order in rows[slowest]:
            self._keep(order, cause_of(order, paused, self.fused), utc_of)
        self.counters["slow_told"] = int(self.counters["slow_told"]) + len(slowest)
        return len(slowest)

    def _keep(self, order, found: Found, utc_of: Callable[[int], int]) -> None:
        made = np.zeros(1, slow_dtype)
        for name in CARRIED:
            made[name] = order[name]
        made["utc_ns"] = utc_of(int(order["ts_recv"]))
        made["cause"], made["stage"], made["mark"] = int(found.cause), found.stage, found.mark
        made["overlap"], made["work"] = found.overlap, found.work
        self.slow[WORST + self.kept % NEWEST] = made[0]
        self.kept += 1
        worst = self.slow[:WORST]
        totals = np.where(worst["number"] > 0, worst["t_sent"] + worst["t_call"], -1)
        weakest = int(totals.argmin())
        if int(order["t_sent"]) + int(order["t_call"]) > int(totals[weakest]):
            worst[weakest] = made[0]
