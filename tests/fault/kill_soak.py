"""The whole daemon on the simulated exchange, a busy strategy in it, and one role after another killed or stopped at random.

    python -m tests.fault.kill_soak --seconds 120 [--seed 1] [--every 0.4] [--roles risk,gateway] [--small] [--stop] [--keep]

--small: rings at their minimum. --stop: roles are stopped for up to 2.5 s as well, so that consumers are too slow. --keep: the
exchange leaves orders open when a connection ends.

At the end the positions of gateway, risk and strategies must be the exchange's, nothing may be held any more, and every order the
gateway remembers must have traded what the exchange says. A risk or strategy that was given up by a ring knows that its position is
wrong: it must not be ready, and is not compared. Exit status 1 where it fails.
"""

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

from hftd.control.demo import COMPARED, books
from hftd.msg.enums import AgentState, OrdStatus, Role, RunState
from hftd.shm import map as shared
from hftd.shm import segment
from hftd.sim.options import SYNTHETIC_SYMBOLS
from tests.support.daemon import Exchange, name_of, nothing_left, until, write_config
from tests.support.data import ROOT

SYMBOLS = list(SYNTHETIC_SYMBOLS)[:4]
BUSY = Path(__file__).with_name("busy.py")
BOOT = """import sys
sys.argv = ["hftd", "start", "--foreground", "-c", {config!r}]
import hftd.control.supervisor as supervisor
supervisor.RESTARTS = 1 << 30
from hftd.__main__ import run
run()
"""
OPEN = ("open_orders", "open_buy_qty", "open_sell_qty", "open_buy_cash", "open_sell_cash")


def sections(options, work: Path, name: str) -> dict:
    """Return the configuration: wide limits, so that much is sent."""
    small = {"md": 1024, "intent": 64, "order": 64, "report": 64, "log": 64}
    return {
        "daemon": {"layout": options.layout, "name": name, "run_dir": str(work), "stop_timeout_s": 10.0},
        "risk": {"message_rate_max": 1_000_000, "position_max": 50_000, "gross_notional_max": 5e9, "loss_max": 1e12},
        "rings": small if options.small else {},
        "strategy": [str(BUSY)],
    }


def disturb(options, memory, config, rng: random.Random) -> Counter:
    """Kill or stop roles until the time is over; return how often which."""
    done: Counter = Counter()
    wanted = [one for one in shared.agents(config) if any(one[2].startswith(role) for role in options.roles.split(","))]
    marks, end = memory["control"]["marks"], time.monotonic() + options.seconds
    while time.monotonic() < end:
        time.sleep(rng.uniform(0.2, 1.8) * options.every)
        role, index, name = rng.choice(wanted)
        pid, stop = int(marks[shared.mark_of(role, index)]["pid"]), options.stop and rng.random() < 0.4
        if pid == 0:
            continue
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP if stop else signal.SIGKILL)
            done["stopped " + name if stop else "killed " + name] += 1
            if stop:
                time.sleep(rng.choice((0.05, 0.3, 1.5, 2.5)))
                os.kill(pid, signal.SIGCONT)
    return done


def compare(memory, ledger: dict, doubtful: set[str]) -> list[str]:
    """Return what contradicts the exchange's ledger. doubtful: who knows that reports went by unread."""
    wrong = [] if ledger["open_orders"] == 0 else [f"exchange: {ledger['open_orders']} orders open"]
    rows = {row["symbol"]: {key: int(row[key]) for key in COMPARED} for row in ledger["positions"] if row["symbol"] in SYMBOLS}
    venue = {symbol: row for symbol, row in rows.items() if any(row.values())}
    for who in {"orders", "risk", "strategy.0"} - doubtful:
        found = books(memory, [who])
        wrong += [f"{who} {symbol}: {found.get(symbol)} for {venue.get(symbol)}" for symbol in sorted({*found, *venue})
                  if found.get(symbol) != venue.get(symbol)]  # fmt: skip
    for who in {"orders", "risk"} - doubtful:
        wrong += [f"{who}: {key} is not 0" for key in OPEN if np.any(memory[who]["positions"][key])]
    if "risk" not in doubtful and np.any(memory["risk"]["orders"]["id"]):
        wrong.append("risk holds orders")
    log = {row["user_ref"]: row for row in ledger["order_log"]}
    for row in np.asarray(memory["orders"]["orders"]):
        entry = log.get(int(row["user_ref"]))
        if entry is None or int(row["status"]) == OrdStatus.NONE:
            continue
        traded, before = entry["filled"], entry
        while before["orig_user_ref"] in log:
            before = log[before["orig_user_ref"]]
            traded += before["filled"]
        if (traded, entry["symbol"]) != (int(row["cum"]), SYMBOLS[int(row["instrument"])]):
            wrong.append(f"order {int(row['user_ref'])}: {int(row['cum'])} traded, the exchange says {traded} {entry['symbol']}")
    return wrong


def play(options, work: Path) -> list[str]:
    """Run one soak; return what is wrong."""
    exchange = Exchange(work, "--seconds", str(options.seconds + 120), "--seed", str(options.seed), "--rate", str(options.rate),
                        "--linger", "20", *(["--no-cancel-on-disconnect"] if options.keep else []))  # fmt: skip
    daemon, name = None, f"k{os.getpid()}-{options.seed}"
    try:
        exchange.await_ready()
        path = write_config(work, exchange, SYMBOLS, **sections(options, work, name))
        assert name_of(path) == name
        with (work / "daemon.log").open("w") as log:
            command = [sys.executable, "-c", BOOT.format(config=str(path))]
            daemon = subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT)
        until(lambda: "is trading" in (work / "daemon.log").read_text() or daemon.poll() is not None, 300, "the daemon")
        assert daemon.poll() is None, (work / "daemon.log").read_text()
        config, memory = shared.attach(name)
        done = disturb(options, memory, config, random.Random(options.seed))
        time.sleep(4)                             # who was killed last comes back, orders flow, doubt is told
        marks = memory["control"]["marks"]
        risk, strategy = marks[int(Role.RISK)], marks[int(Role.STRATEGY)]
        doubtful = {"risk"} if not int(risk["ready"]) else set()
        doubtful |= {"strategy.0"} if int(strategy["state"]) == AgentState.DEGRADED else set()
        alive = int(memory["control"]["run"][0]["state"]) == RunState.READY
        daemon.send_signal(signal.SIGTERM)
        code = daemon.wait(60)
        wrong = [] if code == 0 and alive else [f"the daemon ended with {code}: {(work / 'daemon.log').read_text()[-2000:]}"]
        fills = int(memory["orders"]["counters"][0]["fills"])
        sys.stdout.write(f"seed {options.seed}: {fills} fills, {dict(done)}, doubtful: {sorted(doubtful) or 'nobody'}\n")
        return wrong + compare(memory, exchange.end(), doubtful) + ([] if fills else ["nothing traded"])
    finally:
        for process in (daemon, exchange.process):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
        until(lambda: nothing_left(name) or not all(segment.unlink(one) for one in segment.existing(name)), 20, "the rest")


def main() -> int:
    """Play what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--every", type=float, default=0.4, help="seconds between two, on average")
    parser.add_argument("--roles", default="recorder,feed,strategy,risk,gateway")
    parser.add_argument("--layout", default="shared", choices=("shared", "fused", "dedicated"))
    parser.add_argument("--rate", type=int, default=5000, help="market data messages a second")
    for name in ("small", "stop", "keep"):
        parser.add_argument(f"--{name}", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        wrong = play(options, Path(work))
    sys.stdout.write(("\n".join(wrong) or "every record agrees") + "\n")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
