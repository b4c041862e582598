"""What stands beside the stages in `hftd latency`: from when they are measured, which roles paused, and why orders were slow.

All of it is read from shared memory: the recorder has found the causes (recorder/causes.py), the roles noted their pauses
(shm/pauses.py), the feed knows when packets arrived.
"""

from typing import Any

import numpy as np

from hftd.control.config import Config
from hftd.control.status import symbols
from hftd.core import clock as clocks
from hftd.feed.memory import HISTOGRAMS as FEED_HISTOGRAMS
from hftd.msg import ids
from hftd.msg.enums import CAUSE_TEXT, Cause, IntentKind, Role
from hftd.recorder.causes import STAGES, spans
from hftd.recorder.memory import WORST
from hftd.shm import map as shared
from hftd.shm.histogram import percentiles
from hftd.shm.pauses import summary

POINTS = (50.0, 99.0, 99.9, 99.99)
ARRIVAL = {
    "kernel": "the kernel's stamp of the packet: what it waited in the socket is in the feed's stage",
    "tsc": "the return of the receive call: what it waited in the socket before is left out (feed.stamps = \"kernel\")",
}


def arrival(config: Config, memory: shared.Memory) -> dict[str, Any]:
    """Return from when stages are measured, and how long packets lay in the socket (with `tsc`: at most), in ns."""
    waits = memory["market"]["histograms"][FEED_HISTOGRAMS.index("wait")]
    scale = 1e9 / int(memory["control"]["clock"][0]["hz"])
    values = percentiles(waits, POINTS)
    return {
        "stamps": config.feed.stamps,
        "text": ARRIVAL[config.feed.stamps],
        "exact": config.feed.stamps == "kernel",
        "receives": int(waits["count"]),
        **{f"p{point:g}": round(value * scale, 1) for point, value in zip(POINTS, values)},
        "max": round(int(waits["largest"]) * scale, 1),
    }


def stamping_ns(memory: shared.Memory) -> int | None:
    """Return what counting one order's stages takes, as measured at rehearsal; None where there was none."""
    return int(memory["control"]["rehearsals"][int(Role.GATEWAY)]["stamping_ns"]) or None


def paused(config: Config, memory: shared.Memory) -> list[dict[str, Any]]:
    """Return each loop's pauses in sum. In a fused process the gateway's meter is that of all three."""
    control, now = memory["control"], clocks.now_ticks()
    hz = int(control["clock"][0]["hz"])
    made = []
    for mark, name in [(0, "supervisor"), *((shared.mark_of(role, index), name) for role, index, name in shared.agents(config))]:
        found = summary(control["meters"][mark], hz, now)
        if found["kinds"] or found["threshold_ns"]:
            made.append({"agent": name, **found})
    return made


def slow_orders(config: Config, memory: shared.Memory) -> dict[str, Any]:
    """Return the slow orders with their causes: `worst` since the start, slowest first, and `newest`, youngest first."""
    rows = np.asarray(memory["recorder"]["slow"]).view(np.ndarray).copy()
    hz, known = int(memory["control"]["clock"][0]["hz"]), symbols(memory)
    names = {shared.mark_of(role, index): name for role, index, name in shared.agents(config)} | {0: "supervisor"}
    worst = [row for row in rows[:WORST] if int(row["number"])]
    newest = [row for row in rows[WORST:] if int(row["number"])]
    worst.sort(key=lambda row: -(int(row["t_sent"]) + int(row["t_call"])))
    newest.sort(key=lambda row: -int(row["number"]))
    return {
        "count": int(memory["orders"]["counters"][0]["slow_orders"]),
        "looked_for": int(memory["recorder"]["counters"][0]["slow_told"]),
        "worst": [_order(row, hz, known, names) for row in worst],
        "newest": [_order(row, hz, known, names) for row in newest],
    }


def _order(row: np.void, hz: int, known: list[str], names: dict[int, str]) -> dict[str, Any]:
    scale = 1e9 / hz
    at, cause, mark = int(row["instrument"]), Cause(int(row["cause"])), int(row["mark"])
    return {
        "id": ids.text(int(row["cl_ord_id"])),
        "symbol": known[at] if at < len(known) else "?",
        "kind": IntentKind(int(row["kind"])).name,
        "utc_ns": int(row["utc_ns"]),
        "total_ns": round(int(row["t_sent"]) * scale),
        "stages_ns": {name: round((end - begin) * scale) for name, (begin, end) in zip(STAGES, spans(row))},
        "cause": cause.name,
        "text": CAUSE_TEXT[cause],
        "stage": STAGES[int(row["stage"])],
        "role": names.get(mark, "") if mark >= 0 else "",
        "overlap_ns": round(int(row["overlap"]) * scale),
        "work": int(row["work"]),
    }
