"""The daemon's life against an exchange that runs apart: start, look, stop, and the supervisor's death."""

import functools
import gc
import json
import os
import signal
import subprocess
import sys

import pytest

from hftd.cli.main import main
from hftd.core.agent import alive
from hftd.shm import map as shared
from hftd.shm import segment
from hftd.sim.options import SYNTHETIC_SYMBOLS
from tests.support.daemon import exchange_of, hftd, name_of, nothing_left, pids_of, put_away, running, until, write_config
from tests.support.data import ROOT

SYMBOLS = list(SYNTHETIC_SYMBOLS)[:4]


@pytest.fixture
def exchange(tmp_path):
    with exchange_of(tmp_path, "--seconds", "120", "--seed", "3") as made:
        yield made


def test_start_under_a_latched_kill_switch_says_so(tmp_path, exchange):
    """Up, and not trading: by whom, when, why, and which command lifts it; lifted, the next start trades."""
    with running(tmp_path, exchange, SYMBOLS) as (name, config):
        done = hftd("kill", "-n", name, "--by", "anna", "--why", "looks wrong")
        assert done.returncode == 0 and done.stdout.startswith(f"hftd: {name}: killed: ")
        assert hftd("stop", "-n", name).returncode == 0
        again = hftd("start", "-c", str(config))
        assert again.returncode == 0 and f"hftd: {name} is up, and KILLED: it sends nothing (pid " in again.stdout
        assert "is trading" not in again.stdout
        assert f"hftd: {name}: KILLED by anna at 20" in again.stderr
        assert f"looks wrong; lift it with: hftd kill --clear -n {name} --by NAME" in again.stderr
        assert "KILLED by anna at 20" in hftd("status", "-n", name).stdout
        until(lambda: "the kill switch is set by anna" in (tmp_path / "log/hftd.jsonl").read_text(), 10, "the log to name her")
        assert hftd("kill", "-n", name, "--clear", "--by", "bert").returncode == 0
        assert hftd("stop", "-n", name).returncode == 0
        last = hftd("start", "-c", str(config))
        assert f"hftd: {name} is trading (pid " in last.stdout and "KILLED" not in last.stdout + last.stderr


def status(name):
    return json.loads(hftd("status", "-n", name, "--json").stdout)


def trading(name):
    return sum(row["orders"] for row in json.loads(hftd("positions", "-n", name, "--json").stdout)) > 3


def test_start_look_and_stop_leave_no_order_and_nothing_behind(tmp_path, exchange):
    with running(tmp_path, exchange, SYMBOLS) as (name, config):
        pids = pids_of(name)
        until(lambda: trading(name), 30, "orders")
        facts = status(name)
        assert facts["state"] == "READY"
        assert facts["session_up"] and not facts["killed"]
        assert all(row["alive"] and row["ready"] for row in facts["agents"])
        assert not any(row["compiled"] for row in facts["agents"]), "a child never compiles"
        for row in facts["agents"]:
            states = {one["item"]: one["state"] for one in row["placement"]}
            assert states["prefault"] == states["slack"] == "OBTAINED", row
        until(lambda: all(row["since_warm"] for row in status(name)["agents"]), 10, "warm-up to end")
        assert {row["since_warm"]["threads"] for row in status(name)["agents"]} == {1}
        told = json.loads(hftd("memory", "-n", name, "--json").stdout)
        blocks = {row["role"]: {one["name"]: one for one in row.get("private", [])} for row in told["roles"]}
        assert blocks["feed"]["packet queue"]["count"] == 8192 and blocks["strategy.market_maker"]["levels"]["bytes"] > 1 << 20
        assert all("node" in one["pages"] for one in told["segments"])
        log = [json.loads(line) for line in (tmp_path / "log/hftd.jsonl").read_text().splitlines()]
        placed = [line for line in log if line.get("code") == "PLACED"]
        assert {(line["agent"], line["item"]) for line in placed} >= {("feed", "prefault"), ("risk", "slack")}
        book = json.loads(hftd("book", SYMBOLS[0], "-n", name, "--json").stdout)
        assert book["bids"] and book["asks"] and book["bids"][0][0] < book["asks"][0][0]
        rows = json.loads(hftd("orders", "-n", name, "--json").stdout)
        assert rows and {row["symbol"] for row in rows} <= set(SYMBOLS)
        again = hftd("start", "-c", str(config))
        assert again.returncode == 1 and "is running" in again.stderr and again.stderr.count("\n") == 1
        stopped = hftd("stop", "-n", name)
        assert stopped.returncode == 0, stopped.stderr
        until(lambda: nothing_left(name, pids), 5, "processes and memory to go")
    ledger = exchange.end()
    assert ledger["open_orders"] == 0
    assert sum(row["orders"] for row in ledger["positions"]) > 3


def test_killed_supervisor_takes_orders_processes_and_memory_with_it(tmp_path, exchange):
    with running(tmp_path, exchange, SYMBOLS) as (name, _):
        until(lambda: trading(name), 30, "orders")
        pids = pids_of(name)
        supervisor = int((tmp_path / name / "pid").read_text())
        os.kill(supervisor, signal.SIGKILL)
        until(lambda: nothing_left(name, [supervisor, *pids]), 20, "the children to cancel and go")
    ledger = exchange.end()
    assert ledger["open_orders"] == 0


def test_killed_as_a_whole_its_rings_are_in_the_journal_before_the_memory_goes(tmp_path, exchange):
    """kill -9 of every process, the recorder far behind: `clean` removes the memory, and each record of the rings is journaled."""
    with running(tmp_path, exchange, SYMBOLS) as (name, _):
        until(lambda: trading(name), 30, "orders")
        pids = [int((tmp_path / name / "pid").read_text()), *pids_of(name)]
        recorder = next(row["pid"] for row in status(name)["agents"] if row["agent"] == "recorder")
        def unread(ring):
            return int(ring["tail"]) - int(ring["consumers"][shared.PLACE_RECORDER]["head"])

        _, memory = shared.attach(name)
        os.kill(recorder, signal.SIGSTOP)
        report = memory["ring.report"]["control"][0]
        until(lambda: unread(report) > 20, 30, "unread reports")
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        until(lambda: not any(alive(pid) for pid in pids), 10, "all to be dead")
        tails = {kind: int(memory[f"ring.{kind.lower()}"]["control"][0]["tail"]) for kind in ("ORDER", "REPORT", "DENY")}
        assert min(int(memory[f"ring.{kind.lower()}"]["control"][0]["capacity"]) - tail for kind, tail in tails.items()) > 0
        memory = report = None
        gc.collect()
        cleaned = hftd("clean")
        assert cleaned.returncode == 0 and f"a dead {name!r} left shared memory behind: " in cleaned.stderr
        assert "records were still in its rings" in cleaned.stderr and segment.existing(name) == []
    checked = hftd("journal", "--json", str(tmp_path / "log"))
    files = json.loads(checked.stdout)["files"]
    assert checked.returncode == 0 and {kind: sum(file["streams"].get(kind, 0) for file in files) for kind in tails} == tails
    exchange.end()


def test_stop_with_a_gateway_that_hangs_says_so_and_ends_the_others_in_order(tmp_path, exchange, capsys):
    """That all was in order would be a lie. The recorder is not killed with it: it seals what there is."""
    with running(tmp_path, exchange, SYMBOLS, daemon={"stop_timeout_s": 0.5}) as (name, _):
        until(lambda: trading(name), 30, "orders")
        pids = pids_of(name)
        os.kill(next(row["pid"] for row in status(name)["agents"] if row["agent"] == "gateway"), signal.SIGSTOP)
        assert main(["stop", "-n", name]) == 1, "here, not in a process of its own: a busy host starts none before the hang is seen"
        said = capsys.readouterr()
        assert "no order is open" not in said.out
        assert f"hftd: {name} stopped, but its gateway died or had to be killed, and another one was started " in said.err
        assert nothing_left(name, pids)
    assert "recorder ended" in (tmp_path / "log/hftd.jsonl").read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_start_that_is_given_up_does_not_trade(tmp_path, exchange, number):
    """Ctrl-C, or a closed terminal, while the roles come up in a session of their own: they end before the command does."""
    config = write_config(tmp_path, exchange, SYMBOLS)
    name = name_of(config)
    command = [sys.executable, "-m", "hftd", "start", "-c", str(config)]
    heard = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)     # whoever runs us in the background has it ignored
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    try:
        with subprocess.Popen(command, **pipes, text=True, cwd=ROOT, preexec_fn=heard) as start:
            until(lambda: segment.existing(name), 90, "the daemon's memory")
            start.send_signal(number)
            _, said = start.communicate(timeout=30)
        assert start.returncode == 130 and said.endswith("hftd: interrupted\n")
        assert nothing_left(name)
    finally:
        put_away(name)
    assert (tmp_path / "log/supervisor.log").read_text() == "hftd: stopped before it was ready\n"


def test_daemon_whose_output_nobody_reads_trades(tmp_path, exchange):
    """A journal that is started anew, `| head`: what it would say is lost, no more."""
    config = write_config(tmp_path, exchange, SYMBOLS)
    name = name_of(config)
    read_end, write_end = os.pipe()
    os.close(read_end)
    command = [sys.executable, "-m", "hftd", "start", "--foreground", "-c", str(config)]
    with subprocess.Popen(command, stdout=write_end, stderr=subprocess.DEVNULL, cwd=ROOT) as daemon:
        try:
            os.close(write_end)
            until(lambda: segment.existing(name) and hftd("status", "-n", name).stdout.find("READY") > 0, 90, "READY")
            daemon.send_signal(signal.SIGTERM)
            assert daemon.wait(30) == 0
        finally:
            put_away(name)
    assert nothing_left(name)


def test_kill_switch_cancels_everything_and_lasts_until_it_is_cleared(tmp_path, exchange):
    with running(tmp_path, exchange, SYMBOLS) as (name, _):
        until(lambda: trading(name), 30, "orders")
        assert hftd("kill", "-n", name, "--by", "tester", "--why", "test").returncode == 0
        until(lambda: not json.loads(hftd("orders", "-n", name, "--open", "--json").stdout), 10, "open orders to end")
        accepted = sum(row["orders"] for row in json.loads(hftd("positions", "-n", name, "--json").stdout))
        assert status(name)["killed"]
        assert hftd("kill", "-n", name, "--clear", "--by", "tester").returncode == 0
        until(
            lambda: sum(row["orders"] for row in json.loads(hftd("positions", "-n", name, "--json").stdout)) > accepted,
            20, "orders after the switch was cleared",
        )  # fmt: skip


def test_commands_without_a_daemon_say_so():
    for command in ("status", "orders", "positions", "stop"):
        answer = hftd(command, "-n", "nobody")
        assert answer.returncode == 3
        assert answer.stderr == "hftd: no daemon called 'nobody' is running; start one with: hftd start\n"
