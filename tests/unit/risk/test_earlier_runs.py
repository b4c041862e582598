"""hftd/risk/earlier.py and hftd/gateway/earlier.py: what earlier runs of the day traded is the venue's word, whatever was saved.

A real gateway replays a real session over TCP; a real risk agent stands over the same memory.
"""

import json
import os
from pathlib import Path

import pytest

from hftd.control.status import carried, positions
from hftd.msg.records import INSTRUMENT_ANNOUNCED
from hftd.risk import kill, ledger
from hftd.risk.setup import RiskAgent
from tests.support.gateway_desk import PX, SELL, GatewayDesk, Line


class Run:
    """One run of one instance: gateway and risk in one memory, the day's ledger begun as the supervisor does."""

    def __init__(self, tmp_path, line: Line, **risk):
        self.line = line
        self.desk = GatewayDesk(tmp_path, line, up=False, here=False, daemon={
            "name": f"earlier{os.getpid()}", "run_dir": str(tmp_path), "stop_timeout_s": 0.5}, risk=risk)  # fmt: skip
        self.memory, self.config = self.desk.memory, self.desk.config
        for at, row in enumerate(self.memory["market"]["instruments"][:3]):
            row["tick"], row["lot"], row["scale"], row["locate"], row["flags"] = 100, 100, 10_000, at + 1, INSTRUMENT_ANNOUNCED
        kill.load_latch(self.config, self.memory)
        ledger.begin(self.config, self.memory)
        self.start_risk()
        assert not int(self.risk.mark["ready"]), "not before the venue has told"
        self.desk.start()
        self.desk.until(self.desk.up)
        self.turn()

    def start_risk(self) -> None:
        self.risk = RiskAgent(self.config, self.memory)
        self.risk.prepare(spin=True)
        self.risk_kernel = self.risk.kernel()
        self.now = 0

    def turn(self) -> None:
        self.desk.step()
        self.now += 20_000_000
        assert self.risk_kernel(self.risk.handle, self.risk.mark, self.risk.waiting, 4) == 0
        self.risk.cold(self.now)

    def fill(self, order: int, qty: int, px: int = PX) -> int:
        """The venue fills; returns the match number."""
        before = self.desk.row(order)["cum"]
        match = self.line.exchange.fill(self.ref(order), qty, px)
        self.desk.until(lambda: self.desk.row(order)["cum"] == before + qty)
        self.turn()
        return match

    def ref(self, order: int) -> int:
        return int(self.desk.row(order)["user_ref"])

    def held(self, symbol: str = "AAA") -> int:
        return next((row["position"] for row in positions(self.memory) if row["symbol"] == symbol), 0)

    def save(self) -> None:
        """What the recorder does once a second."""
        ledger.save(self.config, self.memory)

    def die(self) -> None:
        """Everything dies at once."""
        self.desk.crash()
        self.line.hang_up()

    def carried_qty(self, instrument: int = 0) -> int:
        """Shares that every check counts on top of this run's."""
        return int(self.memory["risk"]["exposures"][instrument]["carried_qty"])


def traded(tmp_path, line: Line) -> tuple[Path, dict]:
    """A run that bought 100 and died; return its ledger's file, and what that holds."""
    run = Run(tmp_path, line)
    run.fill(run.desk.live(qty=100), 100)
    run.save()
    run.die()
    path = ledger.path_of(run.config)
    return path, json.loads(path.read_text())


@pytest.fixture
def line():
    made = Line()
    yield made
    made.close()


def test_fills_after_the_last_save_and_while_down_are_carried(tmp_path, line):
    """Sequence A: 100 saved, 30 not saved, 20 while nobody was there: the next run holds 150, and so does the one after it."""
    run = Run(tmp_path, line)
    order = run.desk.live(qty=300)
    run.fill(order, 100)
    assert run.held() == 100
    run.save()
    run.fill(order, 30, PX + 100)
    ref = run.ref(order)
    run.die()
    line.exchange.fill(ref, 20, PX)

    run = Run(tmp_path, line)
    assert line.exchange.live() == [] and run.held() == run.carried_qty() == 150
    assert run.desk.position()["bought_qty"] == 0, "this run traded nothing"
    account = run.memory["risk"]["account"][0]
    assert int(account["pnl"]) == 150 * int(run.memory["risk"]["exposures"][0]["mark_px"]) - 120 * PX - 30 * (PX + 100)
    assert "corrected" in carried(run.config, run.memory)["earlier"]
    assert int(run.risk.mark["ready"]) and not int(run.desk.run["kill"])
    again = run.desk.live(qty=10, side=SELL, cl_ord_id=order + 9)
    run.fill(again, 10)
    assert run.held() == 140
    run.save()
    run.die()

    run = Run(tmp_path, line)
    assert run.held() == 140
    assert carried(run.config, run.memory)["earlier"] == "", "the ledger was right"
    run.die()


def test_fill_while_the_old_order_is_being_cancelled_is_carried(tmp_path, line):
    """In CLEANING: before the daemon is ready."""
    run = Run(tmp_path, line)
    order = run.desk.live(qty=100)
    ref = run.ref(order)
    run.save()
    run.die()
    cancel = line.exchange._cancel
    line.exchange._cancel = lambda which, total: (line.exchange.fill(ref, 40, PX), cancel(which, total))
    run = Run(tmp_path, line)
    assert run.held() == run.carried_qty() == 40
    run.die()


def test_broken_trade_of_an_earlier_run_is_taken_out(tmp_path, line):
    """Sequence B, while the next run trades, then between two runs; a break told twice counts once."""
    run = Run(tmp_path, line)
    order = run.desk.live(qty=200)
    ref = run.ref(order)
    first, second = run.fill(order, 100), run.fill(order, 50)
    run.save()
    run.die()

    run = Run(tmp_path, line)
    assert run.held() == 150
    line.exchange.bust(ref, first)
    line.exchange.bust(ref, first)
    run.desk.until(lambda: run.desk.counters.get("repeats", 0) > 0)
    run.turn()
    assert run.held() == run.carried_qty() == 50
    assert run.desk.counters["foreign_broken"] == 1
    assert "corrected" in carried(run.config, run.memory)["earlier"]
    run.save()
    run.die()
    line.exchange.bust(ref, second)

    run = Run(tmp_path, line)
    assert run.held() == run.carried_qty() == 0
    run.die()


def test_break_applied_half_when_the_gateway_died_counts_once(tmp_path, line):
    """The image of the row goes back, the message comes again."""
    run = Run(tmp_path, line)
    order = run.desk.live(qty=200)
    ref, match = run.ref(order), run.fill(order, 100)
    run.save()
    run.die()
    run = Run(tmp_path, line)
    line.exchange.bust(ref, match)
    run.desk.until(lambda: run.desk.counters.get("foreign_broken", 0) == 1)
    # memory as it was the moment before the sequence number was stored
    run.desk.session["next_seq"] -= 1
    run.desk.session["undo_seq"] = int(run.desk.session["next_seq"])
    run.desk.crash()
    line.hang_up()
    run.desk.start()
    run.desk.until(run.desk.up)
    run.turn()
    assert run.desk.counters["foreign_broken"] == 2, "it came again"
    assert run.held() == run.carried_qty() == 0
    run.die()


def test_replay_without_what_the_ledger_holds_pulls_the_kill_switch(tmp_path, line):
    """Another session on the same day: the figures stay, nobody trades until a person lifts it; the next start says so again."""
    traded(tmp_path, line)
    line.close()
    other = Line(session="TESTSESS02")
    try:
        run = Run(tmp_path, other)
        assert run.held() == 100
        assert int(run.desk.run["kill"]) and "another order entry session" in kill.read_latch(run.config)["why"]
        assert "ledger 100, 0, venue 0, 0" in kill.read_latch(run.config)["why"]
        assert "contradict" in carried(run.config, run.memory)["earlier"]
        kill.clear(run.config, run.memory, "somebody")
        run.start_risk()
        run.turn()
        assert not int(run.desk.run["kill"]), "lifted is lifted, as long as nothing new is told"
        run.save()
        run.die()
        run = Run(tmp_path, other)
        assert int(run.desk.run["kill"])
        run.die()
    finally:
        other.close()


def test_ledger_with_more_than_the_venue_told_pulls_the_kill_switch(tmp_path, line):
    path, facts = traded(tmp_path, line)
    facts["instruments"]["AAA"]["bought_qty"] = 101
    path.write_text(json.dumps(facts))
    run = Run(tmp_path, line)
    assert "AAA: the ledger has 101 shares bought" in kill.read_latch(run.config)["why"]
    run.die()


def test_execution_of_an_unknown_order_pulls_the_kill_switch(tmp_path, line):
    """Nothing that traded is passed over in silence."""
    run = Run(tmp_path, line)
    order = run.desk.live(qty=100)
    line.exchange.bust(run.ref(order), 987654)
    run.desk.until(lambda: run.desk.counters.get("broken_unknown", 0) == 1)
    run.turn()
    assert "belong to no order we know" in kill.read_latch(run.config)["why"]
    run.die()


def test_session_of_an_earlier_day_is_not_counted_twice(tmp_path, line):
    """A session that outlived its day: its replay holds yesterday's trades, which the file has already."""
    path, facts = traded(tmp_path, line)
    path.write_text(json.dumps({**facts, "day": "2020-01-02"}))
    (tmp_path / "p.csv").write_text("# close of 2020-01-02\nsymbol,quantity,price\nAAA,100,100\n")
    for _ in range(2):
        run = Run(tmp_path, line, positions=str(tmp_path / "p.csv"))
        assert run.held() == run.carried_qty() == 100
        assert "not compared" in carried(run.config, run.memory)["earlier"] and not int(run.desk.run["kill"])
        run.save()
        run.die()
