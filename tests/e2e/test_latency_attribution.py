"""The daemon measures itself: rehearsed before it is ready, every order by stage, and who held a slow one up."""

import json
import os
import signal
import time
import xml.etree.ElementTree as ElementTree

import pytest

from tests.support.daemon import exchange_of, hftd, name_of, nothing_left, pids_of, running, until, write_config

SYMBOLS = ["ALFA", "BRVO", "CHRL", "DLTA"]
HELD_S = 0.3


@pytest.fixture
def exchange(tmp_path):
    with exchange_of(tmp_path, "--seconds", "180", "--seed", "11", "--wait-login", "60") as made:
        yield made


def latency(name, *arguments):
    answer = hftd("latency", "-n", name, "--json", *arguments)
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


def orders(name):
    return {row["stage"]: row["count"] for row in latency(name)["stages"]}["tick_to_trade"]


def test_rehearsed_measured_and_attributed(tmp_path, exchange):
    sections = {"daemon": {"tail_us": 200_000, "keep_warm": "on"}, "feed": {"stamps": "kernel"}}
    with running(tmp_path, exchange, SYMBOLS, **sections) as (name, _):
        status = json.loads(hftd("status", "-n", name, "--json").stdout)
        rehearsed = {row["agent"]: row for row in status["rehearsal"]}
        assert set(rehearsed) == {"feed", "risk", "strategy.market_maker", "gateway"}
        for row in rehearsed.values():
            assert row["verdict"] in ("met", "MISSED") and row["measured"] > 0 and 0 < row["p50_ns"] <= row["max_ns"]
        assert rehearsed["gateway"]["orders"] > 0 and rehearsed["gateway"]["sunk_bytes"] > 0
        assert all(row["compiled"] == 0 for row in status["agents"])
        assert "rehearsal, before ready" in hftd("status", "-n", name, "--all").stdout

        until(lambda: orders(name) > 5, 30, "orders")
        before = orders(name)
        risk = next(row["pid"] for row in status["agents"] if row["agent"] == "risk")
        found = None
        for _ in range(20):                       # until an order was on its way while risk stood still
            os.kill(risk, signal.SIGSTOP)
            time.sleep(HELD_S)
            os.kill(risk, signal.SIGCONT)
            until(lambda before=before: orders(name) > before, 20, "orders after risk went on")
            before = orders(name)
            slow = latency(name)["slow"]
            found = next((row for row in slow["worst"] if row["role"] == "risk"), None)
            if found:
                break
        assert found, slow
        assert found["stage"] == "risk" and found["cause"] in ("SWITCHED", "WAITED", "PARKED", "HOST", "COLD")
        assert found["overlap_ns"] > 50_000_000 and found["total_ns"] >= 200_000_000
        assert found["stages_ns"]["risk"] >= found["overlap_ns"]

        facts = latency(name, "--plot", str(tmp_path / "latency.svg"))
        ElementTree.fromstring((tmp_path / "latency.svg").read_text())
        assert facts["arrival"]["stamps"] == "kernel" and facts["arrival"]["receives"] > 0 and facts["stamping_ns"] > 0
        meters = {row["agent"]: row for row in facts["pauses"]}
        assert meters["risk"]["longest_ns"] > 250_000_000
        assert "slow orders" in hftd("latency", "-n", name).stdout
        pids = pids_of(name)
    ledger = exchange.end()
    assert ledger["open_orders"] == 0 and pids
    said = [json.loads(line) for line in (tmp_path / "log" / "hftd.jsonl").read_text().splitlines()]
    missed = {row["agent"] for row in said if row["event"].startswith("rehearsal:")}
    assert missed == {name for name, row in rehearsed.items() if row["verdict"] == "MISSED"}


SLOW = """
from hftd.strategy import layout

state = layout("slow_state", 8, [("sum", "i8")])


def on_book(ctx, book):
    for i in range(200_000):
        ctx.state.sum += (i ^ ctx.state.sum) % 7
"""


def test_refusing_to_start_on_a_missed_budget_says_which_and_by_how_much(tmp_path, exchange):
    """A strategy that thinks for a hundred microseconds: refused in one line, and nothing stays behind."""
    (tmp_path / "slow.py").write_text(SLOW)
    config = write_config(tmp_path, exchange, SYMBOLS, daemon={"ready_budget": "refuse"}, strategy=["slow.py"])
    answer = hftd("start", "-c", str(config))
    assert answer.returncode == 1 and "daemon.ready_budget: refused: " in answer.stderr
    assert "ns in rehearsal, its budget is" in answer.stderr and answer.stderr.strip().count("\n") < 40
    until(lambda: nothing_left(name_of(config)), 10, "the daemon to go")
