"""A strategy at a desk of its own: the tests give it market events and reports, one at a time, and read what it did."""

from pathlib import Path

import numpy as np

from hftd.msg.enums import EventKind
from hftd.msg.records import FLAG_END_OF_PACKET, FLAG_SELL, FLAG_SNAPSHOT, FLAG_STATE_SHIFT, market_event_dtype
from hftd.strategy.harness import Tape
from hftd.strategy.tape import collect

PROBE = Path(__file__).resolve().parents[1] / "unit" / "strategy" / "probe.py"
BUY, SELL, DAY, IOC = 0, 1, 0, 1
PX = 1_000_000
"""$100."""


class Desk(Tape):
    """The probe strategy (or another file), without a paper venue."""

    def __init__(self, file=PROBE, symbols=("AAA", "BBB"), **options):
        super().__init__(file, symbols=list(symbols), paper=False, **options)
        self.clock, self.wire, self.ref = 1000, 0, 100

    def event(self, kind, px=0, qty=0, side=BUY, instrument=0, ref=0, orders=1, end=True, state=0, wire=0,
              snapshot=False):  # fmt: skip
        """Play one market event; return its reference."""
        self.clock += 10
        self.wire = wire or self.wire + 1
        if not ref:
            self.ref += 1
            ref = self.ref
        made = np.zeros(1, market_event_dtype)
        made["ts_recv"], made["ts_event"], made["px"], made["qty"], made["ref"] = self.clock, self.clock + 5, px, qty, ref
        made["orders"], made["instrument"], made["kind"], made["wire_seq"] = orders, instrument, int(kind), self.wire
        flags = (FLAG_SELL if side else 0) | (FLAG_END_OF_PACKET if end else 0) | (state << FLAG_STATE_SHIFT)
        made["flags"] = flags | (FLAG_SNAPSHOT if snapshot else 0)
        self.play(made)
        return ref

    def level(self, side, px, qty, **more):
        """Set a level's total."""
        return self.event(EventKind.LEVEL, px, qty, side, **more)

    def quote(self, bid=PX, ask=PX + 200, qty=100, instrument=0):
        """Make a book of one level a side."""
        self.level(BUY, bid, qty, instrument=instrument, end=False)
        self.level(SELL, ask, qty, instrument=instrument)

    def do(self, what, *values, state=0):
        """Have the probe do one command; return its eight results and keep the intents it sent."""
        asked = self.state()
        for name, value in zip("abcde", values, strict=False):
            asked[name] = value
        for i in range(8):
            asked[f"r{i}"] = -99
        asked["what"] = what
        self.event(EventKind.HIDDEN_TRADE, PX, 1, state=state)
        assert int(self.state()["what"]) == 0, "the command was not run"
        return [int(self.state()[f"r{i}"]) for i in range(8)]

    def submit(self, instrument=0, side=BUY, px=PX, qty=100, tif=DAY, state=0):
        """Send an order; return what submit returned."""
        return self.do(1, instrument, side, px, qty, tif, state=state)[0]

    def last(self):
        """Return the intents that the last command sent, as dicts."""
        return [{name: int(row[name]) for name in row.dtype.names} for row in self.intents()]

    def collect(self):
        """Take up the intents of a turn that ended early."""
        collect(self.tape, self.agent.handle)

    def reopen_feed(self):
        """Let our own end of the market data ring look at its consumers anew."""
        self.tape["md"]["limit"] = self.tape["md"]["tail"]

    def report(self, kind, cl_ord_id, side=BUY, instrument=0, **more):
        """Send a report about an order, and let the strategy see it."""
        self.say(exec_type=int(kind), cl_ord_id=cl_ord_id, flags=side, instrument=instrument, ts_recv=self.clock, **more)
        self.idle(self.clock)

    def accepted(self, **order):
        """Send an order and have it accepted under the next reference; return (id, reference)."""
        made = self.submit(**order)
        assert made > 0
        self.ref += 1
        self.report(1, made, side=order.get("side", BUY), instrument=order.get("instrument", 0), px=order.get("px", PX),
                    qty=order.get("qty", 100), leaves_qty=order.get("qty", 100), venue_id=self.ref)  # fmt: skip
        return made, self.ref

    def order(self, cl_ord_id):
        """Return what the order functions say about an order."""
        names = ("status", "px", "leaves_qty", "cum_qty", "qty", "queue_ahead", "is_open", "is_pending")
        return dict(zip(names, self.do(6, cl_ord_id), strict=True))

    def saw(self, name):
        """Return a field of the probe's state."""
        return self.state()[name].item() if hasattr(self.state()[name], "item") else self.state()[name]
