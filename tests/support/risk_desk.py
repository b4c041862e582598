"""A desk for tests of risk: real shared memory, a RiskAgent and its loop; the test plays strategies, feed and gateway."""

import itertools
import os
import time
from typing import Any

import numpy as np

from hftd.control.config import build
from hftd.core import clock as clocks
from hftd.core.agent import push_log
from hftd.core.memory import records
from hftd.msg.enums import BookState, DenyReason, IntentKind, RunState, Side, TradingState
from hftd.msg.ids import make_id
from hftd.msg.records import INSTRUMENT_ANNOUNCED, intent_dtype, order_dtype, report_dtype
from hftd.risk import ledger
from hftd.risk.memory import DENIED_AT
from hftd.risk.setup import RiskAgent
from hftd.shm import map as shared
from hftd.shm import ring

PX = 100_0000
_, NEW, REPLACE, CANCEL, CANCEL_ALL = (int(kind) for kind in IntentKind)
BUY, SELL = int(Side.BUY), int(Side.SELL)
_numbers = itertools.count()

SMALL = {
    "universe": {"symbols": ["AAA", "BBB", "CCC"], "max": 4},
    "strategy": [{"file": "a.py", "name": "a"}, {"file": "b.py", "name": "b"}],
    "gateway": {"orders_max": 64},
    "feed": {"orders_max": 1024, "levels_max": 1024},
    "rings": {"md": 1024, "intent": 256, "order": 256, "report": 256, "log": 64},
}


def small_config(run_dir, **sections: dict[str, Any]):
    """Return a small configuration with `sections` laid over it."""
    data = {key: (dict(value) if isinstance(value, dict) else list(value)) for key, value in SMALL.items()}
    data["daemon"] = {"name": f"t{os.getpid()}-{next(_numbers)}", "run_dir": str(run_dir)}
    for section, values in sections.items():
        data[section] = {**data.get(section, {}), **values} if isinstance(values, dict) else values
    return build(data)


class Desk:
    """Risk between a test's hands. `step()` runs one turn."""

    def __init__(self, run_dir, ready: bool = True, unlink: bool = True, utc_ns: int = 0, **sections: dict[str, Any]):
        self.config = small_config(run_dir, **sections)
        self.memory = shared.create(self.config, 1)
        if unlink:
            self.memory.unlink()
        control = self.memory["control"]
        self.clock, self.run = control["clock"][0], control["run"][0]
        clocks.calibrate(self.clock, 0.001)
        self.run["epoch"] = utc_ns or time.time_ns()
        ledger.begin(self.config, self.memory)
        self.announce()
        self.sequence = 0
        self.report_out = records(ring.producer_dtype, 1)[0]
        ring.open_producer(self.report_out, self.memory["ring.report"])
        self.intents_out = {}
        for index in range(len(self.config.strategy)):
            self.intents_out[index] = records(ring.producer_dtype, 1)[0]
            ring.open_producer(self.intents_out[index], self.memory[f"ring.intent.{index}"])
        self.seen = {"order": 0, "deny": 0}
        self.start()
        if ready:
            self.run["state"], self.run["session_up"] = int(RunState.READY), 1

    def start(self) -> None:
        """Start (or, after a crash, start again) the risk agent over the same memory."""
        self.agent = RiskAgent(self.config, self.memory)
        self.agent.prepare(spin=True)
        self.kernel = self.agent.kernel()
        self.step(0)
        self.agent.cold(0)

    # ------------------------------------------------------------ what the test plays

    def announce(self) -> None:
        """Play the venue: announce every configured symbol and give it a book 99.99 x 100.01, trading and live."""
        rows = self.memory["market"]["instruments"]
        for at, symbol in enumerate(self.config.universe.symbols):
            rows[at]["symbol"] = int.from_bytes(symbol.encode().ljust(8), "little")
            rows[at]["tick"], rows[at]["lot"], rows[at]["scale"], rows[at]["locate"] = 100, 100, 10_000, at + 1
            rows[at]["flags"] = INSTRUMENT_ANNOUNCED
            self.quote(at)

    def quote(self, instrument: int = 0, bid: int = PX - 100, ask: int = PX + 100, last: int = PX, **fields: int) -> None:
        """Play the feed: write a quote cell, and count a packet."""
        cell = self.memory["market"]["quotes"][instrument]
        values = {"bid_px": bid, "ask_px": ask, "last_px": last, "bid_qty": 100, "ask_qty": 100}
        values |= {"state": int(BookState.LIVE), "trading": int(TradingState.TRADING)} | fields
        cell["version"] = int(cell["version"]) + 2
        for name, value in values.items():
            cell[name] = value
        counted = self.memory["market"]["counters"][0]
        counted["first_a"] = int(counted["first_a"]) + 1

    def intent(self, kind: int = NEW, side: int = BUY, px: int = PX, qty: int = 100, instrument: int = 0, place: int = 0,
               orig: int = 0, cl_ord_id: int | None = None, **fields: int) -> int:  # fmt: skip
        """Play a strategy: write an intent; return its cl_ord_id."""
        if cl_ord_id is None:
            self.sequence += 1
            cl_ord_id = make_id(place, 1, self.sequence)
        record = np.zeros(1, intent_dtype)
        record["ts_recv"], record["cl_ord_id"], record["px"], record["qty"] = clocks.now_ticks(), cl_ord_id, px, qty
        record["orig_seq"], record["instrument"], record["kind"], record["side"] = orig & 0xFFFFFFFF, instrument, kind, side
        record["strategy"] = place
        for name, value in fields.items():
            record[name] = value
        assert push_log(self.intents_out[place], record.ctypes.data)
        return cl_ord_id

    def report(self, exec_type: int, cl_ord_id: int, px: int = PX, qty: int = 0, leaves: int = 0, instrument: int = 0,
               side: int = BUY, venue_id: int = 0, orig: int = 0) -> None:  # fmt: skip
        """Play the gateway: write a report."""
        record = np.zeros(1, report_dtype)
        record["cl_ord_id"], record["px"], record["qty"], record["leaves_qty"] = cl_ord_id, px, qty, leaves
        record["instrument"], record["exec_type"], record["flags"] = instrument, int(exec_type), side
        record["venue_id"], record["orig_seq"] = venue_id, orig & 0xFFFFFFFF
        assert push_log(self.report_out, record.ctypes.data)

    def step(self, turns: int = 1) -> None:
        """Run turns of the compiled loop."""
        assert self.kernel(self.agent.handle, self.agent.mark, self.agent.waiting, turns) == 0

    # ------------------------------------------------------------ what came out

    def orders(self) -> list:
        """Return the order records written since the last call."""
        return self._new("order", order_dtype)

    def denials(self) -> list:
        """Return the denial records written since the last call."""
        return self._new("deny", report_dtype)

    def _new(self, name: str, dtype) -> list:
        segment = self.memory[f"ring.{name}"]
        slots = np.asarray(segment["slots"]).view(np.ndarray).view(dtype)
        tail = int(segment["control"][0]["tail"])
        found = [slots[at % len(slots)].copy() for at in range(self.seen[name], tail)]
        self.seen[name] = tail
        return found

    def reason(self, **intent: Any) -> DenyReason:
        """Write one intent, run a turn, and return why it was denied (OK: it was passed on)."""
        self.orders(), self.denials()
        self.intent(**intent)
        self.step()
        orders, denials = self.orders(), self.denials()
        self.passed = orders
        assert len(orders) + len(denials) == 1
        return DenyReason(int(denials[0]["venue_id"])) if denials else DenyReason.OK

    def count(self, name: str) -> int:
        """Return one of risk's counters."""
        return int(self.memory["risk"]["counters"][0][name])

    def counted(self, reason: DenyReason) -> int:
        """Return how many intents were denied for `reason`."""
        block = np.asarray(self.memory["risk"]["counters"]).view(np.ndarray).view(np.int64)
        return int(block[DENIED_AT + reason])

    def position(self, instrument: int = 0) -> dict[str, int]:
        """Return a position row as ints."""
        row = self.memory["risk"]["positions"][instrument]
        return {name: int(row[name]) for name in row.dtype.names if name != "pad"}

    @property
    def account(self):
        """The account row."""
        return self.memory["risk"]["account"][0]

    def open_sums(self) -> dict[str, int]:
        """Return every sum that must be 0 when nothing is open."""
        rows = self.memory["risk"]["positions"]
        sums = {name: int(np.sum(rows[name])) for name in
                ("open_buy_qty", "open_sell_qty", "open_buy_cash", "open_sell_cash", "open_orders")}  # fmt: skip
        return {**sums, "cash": int(self.account["open_cash"]), "orders": int(self.account["open_orders"]),
                "rows": int(self.agent.handle["pool"]["used"])}  # fmt: skip
