"""Any role killed in the middle of trading is back in seconds, and at the end of the day every record still agrees."""

import json
import os
import signal

import pytest

from hftd.control.demo import COMPARED, books
from hftd.shm import map as shared
from hftd.sim.options import SYNTHETIC_SYMBOLS
from tests.support.daemon import Exchange, hftd, running, until

SYMBOLS = list(SYNTHETIC_SYMBOLS)[:4]
ROLES = ("recorder", "feed", "strategy.market_maker", "risk", "gateway")


@pytest.mark.timeout(300)
def test_every_role_dies_in_turn_and_nothing_is_lost(tmp_path):
    exchange = Exchange(tmp_path, "--seconds", "240", "--seed", "3")
    try:
        exchange.await_ready()
        with running(tmp_path, exchange, SYMBOLS) as (name, _):

            def agent(which):
                found = json.loads(hftd("status", "-n", name, "--json").stdout)["agents"]
                return next(row for row in found if row["agent"] == which)

            def orders():
                return sum(row["orders"] for row in json.loads(hftd("positions", "-n", name, "--json").stdout))

            until(lambda: orders() > 3, 40, "orders")
            for role in ROLES:
                pid = agent(role)["pid"]
                os.kill(pid, signal.SIGKILL)
                until(lambda role=role, pid=pid: agent(role)["ready"] and agent(role)["pid"] != pid, 40, f"{role} to be back")
                before = orders()
                until(lambda before=before: orders() > before + 3, 40, f"orders after the death of {role}")
            _, memory = shared.attach(name)
            stopped = hftd("stop", "-n", name)
            assert stopped.returncode == 0, stopped.stderr
        ledger = exchange.end()
    finally:
        if exchange.process.poll() is None:
            exchange.process.kill()
            exchange.process.wait()
    assert ledger["open_orders"] == 0
    venue = {row["symbol"]: {key: int(row[key]) for key in COMPARED} for row in ledger["positions"] if row["symbol"] in SYMBOLS}
    assert sum(row["fills"] for row in venue.values()) > 0
    for who in ("orders", "risk", "strategy.0"):
        assert books(memory, [who]) == {symbol: row for symbol, row in venue.items() if any(row.values())}, who
