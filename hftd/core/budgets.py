"""What each part of the path may take: the one table. `hftd bench`, `hftd latency` and `hftd demo` measure against it.

    COMPONENTS    one operation by itself, as `hftd bench` times it: the median must stay below
    STAGES        what an order's stamps show in a running daemon (`hftd latency`), the hop over the ring included

A stage's budget is the component's own: the hop is not added to it. Stages are judged where roles spin on cores of their own.
"""

from dataclasses import dataclass

COMPONENTS = {
    "ring": 10.0,
    "pool": 50.0,
    "parse": 50.0,
    "book": 100.0,
    "packet": 200.0,                              # the system call left out
    "strategy": 500.0,
    "limits": 50.0,
    "risk": 200.0,
    "order": 300.0,                               # order to bytes: creation and routing
    "encode": 10.0,
    "submission": 1000.0,                         # beyond send() itself
    "position": 100.0,
    "tick_to_order": 100.0,                       # packet bytes to intent, feed and strategy in one process
    "tick_to_trade": 600.0,                       # packet bytes to bytes handed to send()
}
"""Nanoseconds for one operation."""


@dataclass(frozen=True)
class Budget:
    """What a stage may take, in ns; 0: no budget. why: what it is."""

    p50: float = 0.0
    p99: float = 0.0
    why: str = ""


STAGES = {
    "feed": Budget(COMPONENTS["packet"], 0.0, "packet to published event, parsed and booked, the system call left out"),
    "strategy": Budget(COMPONENTS["strategy"], 0.0, "published event to intent"),
    "risk": Budget(COMPONENTS["risk"], 0.0, "intent to order, every check"),
    "gateway": Budget(COMPONENTS["submission"], 0.0, "order to the call of send(): hand-over"),
    "tick_to_trade": Budget(COMPONENTS["tick_to_trade"], 2000.0, "packet to send(): feed on one core, the rest fused on another"),
    "send": Budget(why="the system call"),
    "answer": Budget(why="network and venue"),
}
"""By the names of the gateway's histograms."""
