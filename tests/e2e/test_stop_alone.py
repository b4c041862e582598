"""Stops that find something missing: no gateway to cancel, no answer of the venue, a daemon that only compiles, a dead one."""

import json
import os
import re
import signal
import subprocess
import sys

import pytest

from hftd.cli.instances import starting
from hftd.cli.main import main
from hftd.shm import segment
from hftd.sim.options import SYNTHETIC_SYMBOLS
from tests.support.daemon import exchange_of, hftd, name_of, nothing_left, pids_of, running, until, write_config
from tests.support.data import ROOT

SYMBOLS = list(SYNTHETIC_SYMBOLS)[:4]
AN_ORDER = re.compile(r"(buy|sell) \d+ [A-Z]+ at \d+\.\d+ \(\d+-[0-9a-f]+-\d+, venue order \d+\)")


@pytest.fixture
def exchange(tmp_path):
    """A venue that leaves orders open when a connection ends: whatever is gone, hftd cancelled."""
    with exchange_of(tmp_path, "--seconds", "120", "--seed", "3", "--no-cancel-on-disconnect") as made:
        yield made


def gateway(name):
    agents = json.loads(hftd("status", "-n", name, "--json").stdout)["agents"]
    return next(row["pid"] for row in agents if row["agent"] == "gateway")


def orders_open(name):
    return json.loads(hftd("orders", "-n", name, "--open", "--json").stdout)


def test_a_daemon_that_ends_for_its_gateway_s_death_starts_another_to_cancel(tmp_path, exchange):
    with running(tmp_path, exchange, SYMBOLS, daemon={"restart": False}) as (name, _):
        until(lambda: orders_open(name), 30, "open orders")
        pids, supervisor = pids_of(name), int((tmp_path / name / "pid").read_text())
        os.kill(gateway(name), signal.SIGKILL)
        until(lambda: nothing_left(name, [supervisor, *pids]), 30, "the daemon to cancel and go")
    log = (tmp_path / "log/supervisor.log").read_text()
    assert "no gateway is left, and orders may be open: one is started to cancel them" in log
    assert exchange.end()["open_orders"] == 0


def test_a_stop_with_a_gateway_that_hangs_cancels_all_the_same(tmp_path, exchange, capsys):
    with running(tmp_path, exchange, SYMBOLS, daemon={"stop_timeout_s": 0.5}) as (name, _):
        until(lambda: orders_open(name), 30, "open orders")
        os.kill(gateway(name), signal.SIGSTOP)
        assert main(["stop", "-n", name]) == 1, "here, not in a process of its own: a busy host starts none before the hang is seen"
        said = capsys.readouterr().err
        assert f"hftd: {name} stopped, but its gateway died or had to be killed, and another one was started to cancel" in said
        assert "stayed open" not in said and "only the venue knows" not in said
        assert nothing_left(name)
    assert exchange.end()["open_orders"] == 0


def test_a_stop_at_a_venue_that_does_not_answer_names_what_stays_open(tmp_path, exchange):
    with running(tmp_path, exchange, SYMBOLS, daemon={"stop_timeout_s": 0.5}) as (name, _):
        until(lambda: orders_open(name), 30, "open orders")
        exchange.process.send_signal(signal.SIGSTOP)
        try:
            stopped = hftd("stop", "-n", name)
        finally:
            exchange.process.send_signal(signal.SIGCONT)
        assert stopped.returncode == 1 and AN_ORDER.search(stopped.stderr), stopped.stderr
        log = (tmp_path / "log/supervisor.log").read_text()
        assert "ORDERS MAY LIVE AT THE VENUE, see to them there: " in log and AN_ORDER.search(log)


def test_a_stop_ends_a_daemon_that_compiles_yet(tmp_path, exchange):
    """No shared memory is there to find it by, and its run directory is nobody's default."""
    config = write_config(tmp_path, exchange, SYMBOLS)
    name = name_of(config)
    environment = os.environ | {"HFTD_CACHE_DIR": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "hftd", "start", "-c", str(config)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment) as start:
        until(lambda: starting().get(name) == start.pid or start.poll() is not None, 60, "the lock")
        looked = hftd("status", "-n", name)
        assert looked.returncode == 3 and f"{name} (pid {start.pid}) is being started" in looked.stderr
        killed = hftd("kill", "-n", name)
        assert killed.returncode == 3 and "`hftd stop` ends it" in killed.stderr
        stopped = hftd("stop", "-n", name)
        start.communicate(timeout=30)
    assert stopped.returncode == 0 and stopped.stdout.endswith(f"hftd: {name} gave up before it was up\n"), stopped.stderr
    assert start.returncode == -signal.SIGTERM
    assert nothing_left(name) and name not in starting()


def test_a_stop_of_a_daemon_that_was_killed_whole_says_what_it_left_at_the_venue(tmp_path, exchange):
    with running(tmp_path, exchange, SYMBOLS) as (name, config):
        until(lambda: orders_open(name), 30, "open orders")
        supervisor = int((tmp_path / name / "pid").read_text())
        for pid in [supervisor, *pids_of(name)]:
            os.kill(pid, signal.SIGSTOP)
        for pid in [supervisor, *pids_of(name)]:
            os.kill(pid, signal.SIGKILL)
        until(lambda: not segment.held_by(segment.full_name(name, "control")), 10, "all of them to be gone")
        stopped = hftd("stop", "-n", name)
        assert stopped.returncode == 1 and AN_ORDER.search(stopped.stderr), stopped.stderr
        assert f"{name} is dead, and ORDERS MAY LIVE AT THE VENUE" in stopped.stderr and f"hftd start -c {config}" in stopped.stderr
        assert hftd("start", "-c", str(config)).returncode == 0
        assert hftd("stop", "-n", name).returncode == 0
    assert exchange.end()["open_orders"] == 0
