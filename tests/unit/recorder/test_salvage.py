"""A daemon killed as a whole: what its recorder had not read yet is in the journal before the shared memory goes."""

import os
import subprocess
import sys

import numpy as np
import pytest

from hftd.control.supervisor import reclaim
from hftd.msg.enums import ExecType, Role
from hftd.recorder import salvage as salvaging
from hftd.recorder.journal import HEADER, Stream, Writer, read_journal
from hftd.recorder.salvage import salvage, told
from hftd.recorder.taps import ENTRY
from hftd.shm import segment
from hftd.shm.map import mark_of
from tests.support.data import ROOT
from tests.support.recorder_booth import Booth
from tests.support.risk_desk import Desk
from tests.support.stepped import calls, different


@pytest.fixture
def left(tmp_path, monkeypatch):
    """A daemon that is dead: 5 reports journaled, 7 not read yet, its memory there. Files hold 20 entries."""
    monkeypatch.setattr(Writer.__init__, "__defaults__", (HEADER + 20 * ENTRY,))
    desk = Desk(tmp_path, unlink=False, rings={"report": 64})
    booth = Booth(desk)
    booth.turn()
    try:
        publish(desk, 5)
        booth.turn()
        yield booth
    finally:
        for name in segment.existing(desk.config.daemon.name):
            segment.unlink(name)


def publish(desk, count: int) -> None:
    for _ in range(count):
        desk.sequence += 1
        desk.report(ExecType.NEW, desk.sequence, qty=1)
        if desk.sequence % 16 == 0:
            desk.step()


def reports(directory) -> list[int]:
    """Return the orders of the reports in all journals, and see that no file has anything wrong."""
    found = []
    for path in sorted(directory.glob("*.journal")):
        reader = read_journal(path)
        found += [int(entry.record["cl_ord_id"]) for entry in reader if entry.stream == Stream.REPORT]
        assert reader.problem == ""
    return found


def test_what_was_not_read_is_journaled_before_the_memory_goes(left, capsys):
    """Into the open file, then into further ones; said with the file's name; a second time nothing is written twice."""
    instance, directory = left.desk.config.daemon.name, left.agent.directory
    publish(left.desk, 37)
    found = salvage(instance)
    assert (found.entries, found.lost) == (37, 0) and len(found.paths) >= 2
    assert reports(directory) == list(range(1, 43))
    assert salvage(instance).entries == 0
    assert told(instance) == ""
    publish(left.desk, 1)
    assert reclaim(instance)
    assert "1 records were still in its rings" in capsys.readouterr().err
    assert reports(directory) == list(range(1, 44)) and segment.existing(instance) == []


def test_the_next_recorder_seals_what_was_salvaged(left):
    """And says how many of them have no line in the log."""
    publish(left.desk, 3)
    assert salvage(left.desk.config.daemon.name).entries == 3
    left.desk.run["epoch"] = int(left.desk.run["epoch"]) + 1_000_000_000
    left.start()
    (line,) = [line for line in left.lines() if "left open by a crash" in line["event"]]
    assert line["untold"] == 3
    assert reports(left.agent.directory) == list(range(1, 9))
    left.agent.supervisor = os.getpid()
    left.agent.close()


def test_what_was_overwritten_in_the_ring_is_counted(left):
    """A ring of 64 that took 100 more: those that are whole are kept, what may have been half overwritten is not believed."""
    publish(left.desk, 100)
    found = salvage(left.desk.config.daemon.name)
    kept = reports(left.agent.directory)[5:]
    assert found.lost + found.entries == 100 and 48 <= found.entries <= 64
    assert kept == list(range(106 - found.entries, 106))
    assert f"{found.lost} records were overwritten" in str(found)


def test_killed_while_it_salvages(left):
    """At any system call: the next one goes on, and no report is missing or twice."""
    publish(left.desk, 37)
    directory, instance = left.agent.directory, left.desk.config.daemon.name
    found = different(calls(lambda: salvage(instance), directory))
    assert len(found) > 8
    for call in found:
        call.lay(directory)
        salvage(instance)
        assert reports(directory) == list(range(1, 43))


@pytest.mark.parametrize(("called", "entries"), [("hftd:gateway", 0), ("editor", 2)])
def test_a_daemon_that_lives_is_left_alone(left, called, entries):
    """Its supervisor is gone, an agent lives and may still write: nothing is taken. Another program with its number is none."""
    publish(left.desk, 2)
    code = (f"import sys; sys.path.insert(0, {str(ROOT)!r})\nfrom hftd.core.libc import set_name\n"
            f"set_name({called!r}); print('called', flush=True); sys.stdin.read()")  # fmt: skip
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"called\n"
        left.desk.memory["control"]["marks"][mark_of(Role.GATEWAY)]["pid"] = other.pid
        assert salvage(left.desk.config.daemon.name).entries == entries
        other.stdin.close()
    assert salvage(left.desk.config.daemon.name).entries == 2 - entries


def test_no_journal_was_wanted(tmp_path):
    """Then nothing is written now either."""
    desk = Desk(tmp_path, unlink=False, recorder={"journal": False})
    try:
        booth = Booth(desk)
        publish(desk, 2)
        assert salvage(desk.config.daemon.name).entries == 0
        assert list(booth.agent.directory.glob("*.journal")) == []
    finally:
        desk.memory.unlink()


def test_what_cannot_be_salvaged_is_said_and_the_memory_goes(left, monkeypatch, capsys):
    """The disk refuses; or a segment is missing."""
    publish(left.desk, 2)
    instance = left.desk.config.daemon.name

    def refused(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(salvaging, "write_all", refused)
    assert "No space left" in told(instance)
    segment.unlink(segment.full_name(instance, "ring.report"))
    reclaim(instance)
    assert "cannot be put into its journal" in capsys.readouterr().err and segment.existing(instance) == []


def test_entries_salvaged_are_as_the_drain_writes_them(left):
    """To the byte: stream, number, checksum and record."""
    publish(left.desk, 2)
    (path,) = left.agent.directory.glob("*.journal")
    before = path.read_bytes()
    salvage(left.desk.config.daemon.name)
    salvaged = path.read_bytes()
    path.write_bytes(before)
    with path.open("r+b") as file:
        file.write(before)
    left.turn()
    count = int(np.frombuffer(salvaged[32:40], np.int64)[0])
    assert bytes(left.agent.target.writer.map)[HEADER : HEADER + count * ENTRY] == salvaged[HEADER : HEADER + count * ENTRY]
