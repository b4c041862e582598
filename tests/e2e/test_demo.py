"""The demonstration, as a newcomer runs it: exit code, summary, four records that agree, memory."""

import json
import os
import signal
import subprocess
import sys

import psutil
import pytest

from hftd.core.agent import alive
from hftd.shm import segment
from tests.support.daemon import hftd, until
from tests.support.data import ROOT, shared_data

FILES = {
    "itch50-aapl-20200130/aapl_20200130.itch.gz": 10_000,
    "itch50-start-of-day-20191230/first1000_20191230.itch.gz": 1_000,
    "lobster-goog-20120621/goog_20120621_level10.itch.gz": 154_188,
    "lobster-aapl-goog-20120621/aapl_goog_20120621.itch.gz": 318_163,
}


def demo(tmp_path, *arguments):
    out = tmp_path / "summary.json"
    answer = hftd("demo", "--json", str(out), *arguments, timeout=170)
    assert answer.returncode == 0, f"{answer.stdout[-2000:]}\n{answer.stderr[-2000:]}"
    return json.loads(out.read_text()), answer.stdout


def test_synthetic_session_trades_and_every_record_agrees(tmp_path):
    facts, text = demo(tmp_path, "--seconds", "6")
    assert facts["ledger_agrees"] and facts["clean_stop"]
    assert facts["messages"] > 10_000
    assert facts["orders"] > 20 and facts["fills"] > 0
    assert facts["memory_total_mib"] < 1536
    assert {"exchange", "feed", "risk", "gateway", "recorder", "supervisor"} <= set(facts["memory_mib"])
    assert facts["latency_ns"]["tick_to_trade"]["count"] > 0
    assert "agree to the share and the cent" in text


@pytest.mark.parametrize("name", FILES)
def test_recorded_session_arrives_whole_and_every_record_agrees(tmp_path, name):
    facts, _ = demo(tmp_path, "--seconds", "8", "--data", str(shared_data(name)))
    assert facts["ledger_agrees"] and facts["clean_stop"]
    assert facts["messages"] >= FILES[name]
    if "start-of-day" not in name:
        assert facts["orders"] > 0


def test_fused_layout_agrees_too(tmp_path):
    facts, text = demo(tmp_path, "--seconds", "5", "--layout", "fused", "--strategy", "market_maker.py")
    assert facts["layout"] == "fused" and facts["ledger_agrees"]
    assert "NOT independent" in text


def hear_ctrl_c():
    """A shell that starts the tests in the background has them, and all they start, ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Begun:
    """A demonstration that a test began, and everything that it started so far."""

    def __init__(self, directory):
        environment = {**os.environ, "TMPDIR": str(directory)}
        command = [sys.executable, "-m", "hftd", "demo", "--seconds", "120"]
        self.directory = directory
        self.process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                        preexec_fn=hear_ctrl_c)  # fmt: skip
        self.name = f"demo-{self.process.pid}"
        self.pids: set[int] = set()

    def look(self):
        """Take note of the processes that there are; return their names."""
        found = psutil.Process(self.process.pid).children(recursive=True)
        self.pids |= {one.pid for one in found}
        names = set()
        for one in found:
            try:
                names.add(one.name() if "sim" not in one.cmdline() else "exchange")
            except psutil.NoSuchProcess:
                continue
        return names

    def left(self):
        """Return what is still there: processes, shared memory, files."""
        return [pid for pid in self.pids if alive(pid)] + segment.existing(self.name) + list(self.directory.glob("hftd-demo-*"))

    def end(self):
        """Leave nothing, whatever came of the test."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
        for pid in self.pids:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)
        for entry in segment.existing(self.name):
            segment.unlink(entry)


WHEN = {
    "the exchange comes up": lambda names: "exchange" in names,
    "the daemon comes up": lambda names: "hftd:feed" in names,
    "it trades": lambda names: {"exchange", "hftd", "hftd:feed", "hftd:risk", "hftd:gateway", "hftd:recorder"} <= names,
}


@pytest.fixture
def begun(tmp_path):
    made = Begun(tmp_path)
    yield made
    made.end()


@pytest.mark.parametrize(("when", "number"), [
    *((when, signal.SIGTERM) for when in WHEN), ("it trades", signal.SIGHUP), ("it trades", signal.SIGINT),
])  # fmt: skip
def test_a_signal_ends_everything_that_was_started(begun, when, number):
    """Whenever it comes: no process, no shared memory, no file; the exit code is the signal's."""
    until(lambda: WHEN[when](begun.look()), 150, when)
    begun.look()
    begun.process.send_signal(number)
    begun.process.communicate(timeout=60)
    assert begun.process.returncode == 128 + number
    assert begun.left() == []
    assert len(begun.pids) >= 1


def test_processes_of_a_demonstration_that_was_killed_end_too(begun):
    """SIGKILL leaves nobody who could end them: they end with their parent, the daemon cancelling first; its directory stays."""
    until(lambda: WHEN["it trades"](begun.look()), 150, "trading")
    until(lambda: bool(segment.existing(begun.name)), 30, "shared memory")
    begun.look()
    begun.process.kill()
    until(lambda: not [one for one in begun.left() if not str(one).startswith(str(begun.directory))], 40, "the rest to end")


def test_the_script_is_replaced_by_the_program_it_starts():
    """So that a signal to it is one to the demonstration."""
    last = (ROOT / "scripts/demo").read_text().strip().splitlines()[-1]
    assert last == 'exec "$PYTHON" -m hftd demo "$@"'
