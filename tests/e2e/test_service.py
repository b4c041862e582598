"""The service in a real systemd: ready when trading, restarted when it crashed or hung, and cancelling first however it ends.

One box for the whole file, and in it the units as they are shipped. The exchange does not cancel on disconnect here, so that an
order which is closed in its ledger was closed by the daemon. Each test leaves the service trading; the last but one stops it.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hftd.core import cache
from tests.support.data import ROOT
from tests.support.systemd_box import Box, missing

PYTHON = "/opt/hftd/.venv/bin/python"
UNITS = ("hftd.service", "hftd-sim.service")
LEDGER = "/var/lib/hftd-sim/ledger.json"
PASSWORD = "Xq7tv3"

pytestmark = pytest.mark.timeout(600)  # where nothing is compiled yet, the first test waits for it

USED = """
import sys
from hftd.cli.main import main
from hftd.control.demo import free_ports
from hftd.core import cache
used, path = set(), cache.SealedCache.path
def noted(*args):
    found = path(*args)
    used.add(found.name)
    return found
cache.SealedCache.path = noted
sys.stdout = sys.stderr
line, ouch, request = free_ports(3)
code = main(["warm", "-c", "config/hftd.toml"]) or main([
    "sim", "--line-a", f"239.192.99.9:{line}", "--ouch-port", str(ouch), "--request-port", str(request), "--glimpse-port", "0",
    "--messages", "10", "--linger", "0", "--end-seconds", "0"])
print(*used, file=sys.__stdout__)
sys.exit(code)
"""


def kernels_used() -> list[Path]:
    """Compile (or find) what daemon and exchange run, here, and return the files of the cache."""
    done = subprocess.run([sys.executable, "-c", USED], cwd=ROOT, capture_output=True, text=True, timeout=560)
    assert done.returncode == 0, done.stderr
    return [cache.directory() / name for name in done.stdout.split()]


@pytest.fixture(scope="module")
def box():
    reason = missing()
    if reason:
        pytest.skip(reason)
    if not (ROOT / ".venv/bin/python").exists():
        pytest.skip("the service runs from the checkout's .venv, and there is none: scripts/test makes it")
    kernels = kernels_used()
    with Box() as made:
        install(made, kernels)
        yield made


def install(box: Box, kernels: list[Path]) -> None:
    """Do what systemd/README.md says, and bring compiled kernels along."""
    box.run("systemd-sysusers", "/opt/hftd/systemd/hftd.sysusers")
    etc, system = box.path("/etc/hftd"), box.path("/etc/systemd/system")
    etc.mkdir()
    text = (ROOT / "config/hftd.toml").read_text()
    assert "\n[gateway]\n" in text
    (etc / "hftd.toml").write_text(text.replace("\n[gateway]\n", '\n[gateway]\npassword_file = "password"\n'))
    (etc / "password").write_text(PASSWORD)
    (etc / "password").chmod(0o600)
    for folder in ("hftd", "private/hftd-sim"):
        into = box.path("/var/cache") / folder
        into.mkdir(parents=True, mode=0o700)
        for kernel in kernels:
            shutil.copy(kernel, into)
    box.path("/var/cache/private").chmod(0o700)
    # an interpreter under /root or /home is no interpreter of a service's; this test's may lie there
    home = "ProtectHome=read-only\n" if sys.base_prefix.startswith(("/root", "/home")) else ""
    sim = f"{PYTHON} -m hftd sim --ledger {LEDGER} --user HFTD01:{PASSWORD} --no-cancel-on-disconnect --rate 1000 --symbols 4"
    for unit, lines in zip(UNITS, (f"{home}WatchdogSec=4\nRestartSec=100ms\n", f"{home}ExecStart=\nExecStart={sim}\n")):
        shutil.copy(ROOT / "systemd" / unit, system)
        (system / f"{unit}.d").mkdir()
        (system / f"{unit}.d/test.conf").write_text(f"[Service]\n{lines}")
    box.run("systemctl", "daemon-reload")


def hftd(box: Box, *arguments: str, check: bool = True) -> subprocess.CompletedProcess:
    """Run the command line as the service's user, without the service's capabilities and environment."""
    drop = ("setpriv", "--reuid=hftd", "--regid=hftd", "--clear-groups", "--bounding-set=-all")
    home = ("env", "--chdir=/opt/hftd", "HOME=/var/lib/hftd", "HFTD_CACHE_DIR=/var/cache/hftd")
    return box.run(*drop, *home, PYTHON, "-m", "hftd", *arguments, check=check)


def segments(box: Box) -> list[str]:
    return sorted(name for name in os.listdir(box.path("/dev/shm")) if name.startswith("hftd."))


def processes(box: Box) -> dict[int, str]:
    """Return pid -> name of the processes of the service's user."""
    listed = box.run("ps", "-u", "hftd", "-o", "pid=,comm=", check=False).stdout
    return {int(pid): name for pid, name in (line.split(None, 1) for line in listed.splitlines())}


def main_pid(box: Box) -> int:
    return int(box.show("hftd", "MainPID")["MainPID"])


def state(box: Box) -> str:
    return box.show("hftd", "ActiveState")["ActiveState"]


def status(box: Box) -> dict:
    return json.loads(hftd(box, "status", "--json").stdout)


def orders(facts: dict) -> int:
    return facts["counters"]["gateway"]["enters_sent"]


def trading(facts: dict) -> dict | None:
    return facts if orders(facts) > 3 else None


def await_trading(box: Box, restarts: int) -> dict:
    """Wait until the service is up after so many restarts and has sent orders; return its status."""
    box.until("active", lambda: state(box) == "active" and int(box.show("hftd", "NRestarts")["NRestarts"]) == restarts, 40, "hftd")
    try:
        return box.until("orders", lambda: trading(status(box)), 20, "hftd")
    except AssertionError as error:
        raise AssertionError(f"{error}\n{hftd(box, 'status').stdout}") from None


# ------------------------------------------------------------ before it runs


@pytest.mark.parametrize("unit", UNITS)
def test_unit_is_clean(box, unit):
    done = box.run("systemd-analyze", "verify", f"/etc/systemd/system/{unit}")
    assert done.stdout + done.stderr == ""


@pytest.mark.parametrize("unit", UNITS)
def test_unit_is_tight(box, unit):
    box.run("systemd-analyze", "security", "--offline=true", "--threshold=40", "--no-pager", f"/etc/systemd/system/{unit}")


def test_unit_lets_numba_work_and_nobody_is_killed_before_his_orders():
    lines = (ROOT / "systemd/hftd.service").read_text().splitlines()
    said = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    assert "MemoryDenyWriteExecute" not in said and "ProcSubset" not in said and "PrivateUsers" not in said
    assert "PrivateDevices" not in said and "RestrictRealtime" not in said, "placement.cpu_dma_latency and policy would be refused"
    assert said["DeviceAllow"].startswith("/dev/cpu_dma_latency") and int(said["LimitRTPRIO"]) >= 98
    assert {"CAP_IPC_LOCK", "CAP_SYS_NICE"} <= set(said["AmbientCapabilities"].split())
    assert "@resources" not in said["SystemCallFilter"]
    assert said["KillMode"] == "control-group" and said["NotifyAccess"] == "main" and said["Type"] == "notify"
    assert float(said["TimeoutStopSec"]) > 20 and float(said["WatchdogSec"]) > 10


def test_wrong_configuration_is_told_once_and_not_tried_again(box):
    path = box.path("/etc/hftd/hftd.toml")
    good = path.read_text()
    path.write_text(good.replace("order_qty_max = 1000", "order_qty_max = -5", 1))
    started = box.run("systemctl", "start", "hftd", check=False)
    path.write_text(good)
    assert started.returncode == 1
    facts = box.show("hftd", "ActiveState", "NRestarts", "ExecMainStatus")
    assert facts == {"ActiveState": "failed", "NRestarts": "0", "ExecMainStatus": "2"}
    said = [line for line in box.journal("hftd").splitlines() if "hftd: /etc" in line]
    assert len(said) == 1
    assert said[0].endswith("hftd: /etc/hftd/hftd.toml: risk.order_qty_max: must be 1 to 999999 shares, was -5")
    assert segments(box) == []
    box.run("systemctl", "reset-failed", "hftd")


# ------------------------------------------------------------ the life of a service


def test_ready_means_trading(box):
    """Without an exchange the service is starting; with one it is trading, and says so."""
    box.run("systemctl", "start", "--no-block", "hftd")
    box.until("processes", lambda: len(processes(box)) >= 6, 30, "hftd")
    assert state(box) == "activating"
    box.run("systemctl", "start", "hftd-sim")
    facts = await_trading(box, 0)
    assert box.show("hftd", "StatusText")["StatusText"].startswith("trading, layout ")
    assert facts["state"] == "READY" and facts["session_up"]
    assert all(row["ready"] for row in facts["agents"])


def test_person_at_another_shell_reaches_the_daemon(box):
    """The control socket lies where the service's environment put it, and the kill switch works through it."""
    hftd(box, "kill", "--by", "tester", "--why", "a test")
    box.until("no open order", lambda: json.loads(hftd(box, "orders", "--open", "--json").stdout) == [], 10, "hftd")
    assert box.path("/var/lib/hftd/hftd/kill.json").exists()
    before = orders(status(box))
    hftd(box, "kill", "--clear", "--by", "tester")
    box.until("orders again", lambda: orders(status(box)) > before, 10, "hftd")


def test_cleaning_up_spares_what_runs(box):
    """The kernel does not show a process with capabilities to one without; that is no licence to remove its memory."""
    before = segments(box)
    assert before
    hftd(box, "clean")
    assert segments(box) == before
    started = hftd(box, "start", "-c", "/etc/hftd/hftd.toml", check=False)
    assert started.returncode != 0 and "is running" in started.stderr
    assert segments(box) == before


def test_second_stays_away_though_it_has_a_run_directory_of_its_own(box):
    again = ("env", "RUNTIME_DIRECTORY=/tmp/elsewhere", PYTHON, "-m", "hftd", "start", "--foreground", "-c", "/etc/hftd/hftd.toml")
    before, pid = segments(box), main_pid(box)
    drop = ("setpriv", "--reuid=hftd", "--regid=hftd", "--clear-groups")
    done = box.run(*drop, "env", "--chdir=/opt/hftd", "HOME=/tmp", "HFTD_CACHE_DIR=/var/cache/hftd", *again, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"hftd: an instance called 'hftd' is running (pid {pid})")
    assert segments(box) == before and state(box) == "active"


@pytest.mark.parametrize(("how", "restarts"), [("SEGV", 1), ("KILL", 2)])
def test_crash_of_the_supervisor_is_followed_by_a_reconciled_start(box, how, restarts):
    before = processes(box)
    box.run("kill", f"-{how}", str(main_pid(box)))
    facts = await_trading(box, restarts)
    assert facts["state"] == "READY" and facts["session_up"]
    assert not set(before) & set(processes(box)), "a process of the crashed daemon is left"


def test_hang_of_the_supervisor_is_ended_by_the_watchdog(box):
    before = processes(box)
    box.run("kill", "-STOP", str(main_pid(box)))
    await_trading(box, 3)
    assert "Watchdog timeout" in box.journal("hftd", 400)
    assert not set(before) & set(processes(box)), "a process of the hung daemon is left"


def test_stop_cancels_first_and_leaves_nothing(box):
    box.run("systemctl", "stop", "hftd")
    facts = box.show("hftd", "ActiveState", "Result", "ExecMainStatus")
    assert facts == {"ActiveState": "inactive", "Result": "success", "ExecMainStatus": "0"}
    assert processes(box) == {}
    assert segments(box) == []
    assert not box.path("/run/hftd").exists()


def test_exchange_s_ledger_has_no_open_order(box):
    """Four lives, none of which ended by a disconnect that the exchange had to clean up after."""
    box.run("systemctl", "stop", "hftd-sim")
    ledger = json.loads(box.run("cat", LEDGER).stdout)
    counters = ledger["accounts"][0]["counters"]
    assert counters["logins"] >= 4
    assert ledger["orders"] > 12
    assert counters["swept"] == 0
    assert ledger["open_orders"] == 0
