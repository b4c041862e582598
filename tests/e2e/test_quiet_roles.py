"""A role that spins, by itself, seen from outside: no page fault, no wait, no thread and no system call once it is warm."""

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from hftd.control.config import build
from hftd.control.placing import Placing, asked, since_warm
from hftd.control.supervisor import AGENTS
from hftd.control.warm import kernels
from hftd.core import clock as clocks
from hftd.core.agent import alive
from hftd.core.jit import INTERPRETED
from hftd.msg.enums import Role, RunState
from hftd.shm import map as shared
from hftd.shm.placed import HELD_ROWS
from tests.support.daemon import until

pytestmark = [pytest.mark.skipif(INTERPRETED, reason="the machine code's loop"), pytest.mark.timeout(300)]

STRACE = shutil.which("strace")


def load(config) -> None:
    """Compile or load what the two roles run, as a start does before it forks."""
    for kernel in kernels(config):
        if kernel.name.startswith(("strategy", "risk", "clock", "log", "feed, ticks")):
            kernel.make().compile(kernel.signature)


@pytest.fixture(scope="module")
def memory():
    """A daemon's shared memory, READY, with nobody in it."""
    config = build({
        "daemon": {"name": f"quiet{os.getpid()}", "layout": "shared"}, "strategy": [{"file": "market_maker.py"}],
        "universe": {"max": 8}, "feed": {"orders_max": 1024, "levels_max": 1024}, "gateway": {"orders_max": 1024},
    }, "c.toml")  # fmt: skip
    load(config)
    made = shared.create(config, 1)
    try:
        clocks.calibrate(made["control"]["clock"][0])
        made["control"]["run"][0]["state"] = int(RunState.READY)
        yield config, made
    finally:
        made.unlink()


@pytest.fixture(params=[(Role.RISK, "risk"), (Role.STRATEGY, "strategy.market_maker")], ids=lambda one: one[1])
def spinning(request, memory):
    """One role, spinning in a process of its own, warm; yields (pid, its record)."""
    role, name = request.param
    config, made = memory
    mark = shared.mark_of(role)
    row = made["control"]["placed"][mark]
    held = made["control"]["held"][mark * HELD_ROWS : (mark + 1) * HELD_ROWS]
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            import gc

            gc.disable()
            placing = Placing(config, name, [row], min(os.sched_getaffinity(0)), spin=True, spare=True)
            placing.before()
            agent = AGENTS[role](config, made, 0)
            agent.on_open = lambda: placing.after([made[one] for one in made.names()], held)
            code = agent.serve(spin=True)
        finally:
            os._exit(code)
    try:
        until(lambda: (int(row["warm_utc_ns"]) and int(row["pid"]) == pid) or not alive(pid), 60, f"{name} to be warm")
        assert alive(pid), f"{name} ended"
        yield pid, row, made["control"]["marks"][mark]
    finally:
        os.kill(pid, signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_role_that_spins_meets_no_fault_and_waits_for_nothing(spinning):
    """By the kernel's own counters: no wait and no thread at all; no fault in the quietest of some stretches of turns.

    A loop that faulted by itself would do so in each; the kernel moving a page of ours (compaction) is another's doing.
    """
    pid, row, mark = spinning
    faults = []
    for _ in range(8):
        before, turns = since_warm(row, pid), int(mark["cycles"])
        until(lambda turns=turns: int(mark["cycles"]) > turns + 400_000, 60, "turns")
        found = since_warm(row, pid)
        faults.append((found["minor"] - before["minor"], found["major"] - before["major"]))
        if faults[-1] == (0, 0):
            break
    assert min(faults) == (0, 0), faults
    assert found["voluntary"] == 0 and found["threads"] == 1 and found["collector"] is False, found
    assert int(mark["compiled"]) == 0
    assert {one["item"]: one["state"] for one in asked(row)}["prefault"] == "OBTAINED"


@pytest.mark.skipif(STRACE is None, reason="strace is not installed")
def test_role_that_spins_makes_no_system_call_but_its_meters(spinning):
    """Watched by strace for a second: one question a slice for the kernel's counts (core/agent.py: the meter), and no other."""
    pid, _, mark = spinning
    watching = subprocess.Popen([STRACE, "-c", "-f", "-p", str(pid)], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    try:
        traced = re.compile(r"^TracerPid:\s+[1-9]", re.M)
        status = Path(f"/proc/{pid}/status")
        until(lambda: traced.search(status.read_text()) or watching.poll() is not None, 20, "strace")
        if watching.poll() is not None:
            pytest.skip(f"strace may not look: {watching.stderr.read().strip()[:100]}")
        turns, end = int(mark["cycles"]), time.monotonic() + 1.0
        until(lambda: time.monotonic() > end and int(mark["cycles"]) > turns + 100_000, 60, "a second of turns")
    finally:
        watching.send_signal(signal.SIGINT)
        said = watching.communicate(timeout=20)[1]
    rows = [line.split() for line in said.splitlines()]
    counted = {words[-1]: int(words[3]) for words in rows if len(words) in (5, 6) and words[3].isdigit()}
    assert set(counted) <= {"getrusage", "total"}, said
