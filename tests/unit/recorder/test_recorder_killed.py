"""The recorder killed at any store of its turn and at any system call: nothing is twice, nothing is missing and not counted."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from hftd.core.clock import clock_dtype
from hftd.core.files import replace_file
from hftd.core.jit import INTERPRETED
from hftd.msg.enums import ExecType, LogCode
from hftd.msg.records import order_dtype
from hftd.recorder import crashed
from hftd.recorder.journal import HEADER, Stream, Writer, read_journal, stream_code
from hftd.recorder.logs import RotatingFile
from hftd.recorder.setup import streams
from hftd.recorder.taps import ENTRY
from hftd.shm.map import PLACE_RECORDER
from tests.support.recorder_booth import Booth
from tests.support.risk_desk import Desk
from tests.support.stepped import bytes_of, calls, different, put_back, states

FSYNC, RENAME, FTRUNCATE = 74, 82, 77
EPOCH = 1_700_000_000_123_000_000


class Scene:
    """A booth whose journal files are small, and what a restart has to make of it."""

    def __init__(self, tmp_path, monkeypatch, entries: int = 60, **sections):
        monkeypatch.setattr(Writer.__init__, "__defaults__", (HEADER + entries * ENTRY,))
        self.desk = Desk(tmp_path, rings={"report": 64, "intent": 256, "order": 256, "log": 64}, **sections)
        self.booth = Booth(self.desk)
        self.booth.turn()
        memory = self.desk.memory
        self.rings = list(streams(self.desk.config))
        self.watched = bytes_of(memory["recorder"], "counters", "taps")
        for name in self.rings:
            self.watched += bytes_of(memory[name], "control")
        self.directory = self.booth.agent.directory
        self.monkeypatch = monkeypatch

    def check(self) -> None:
        """Restart, let it catch up, and compare what was published with what was journaled and what was counted."""
        self.booth.start()
        self.booth.turn(8)
        self.booth.agent._next_errors = 0
        self.booth.turn()
        seen: dict[int, list[int]] = {}
        for path in sorted(self.directory.glob("*.journal")):
            reader = read_journal(path)
            for entry in reader:
                if entry.stream not in (Stream.SYMBOL, Stream.CLOCK):
                    seen.setdefault(stream_code(entry.stream, entry.index), []).append(int(entry.record["seq"]))
            assert reader.problem == "" and reader.state in ("OPEN", "SEALED", "CRASHED")
        lost = 0
        for at, name in enumerate(self.rings):
            tap, tail = self.booth.agent.taps[at], int(self.desk.memory[name]["control"][0]["tail"])
            mine = seen.get(int(tap["stream"]), [])
            assert mine == sorted(set(mine)), f"{name}: a record is in the journal twice"
            assert int(tap["entries"]) == len(mine), name
            assert len(mine) + int(tap["lost"]) == tail, f"{name}: records are missing and not counted"
            assert int(self.desk.memory[name]["control"][0]["consumers"][PLACE_RECORDER]["head"]) == tail
            lost += int(tap["lost"])
        assert self.booth.count("lost") == lost
        assert self.booth.count("entries") == sum(map(len, seen.values()))
        assert (lost > 0) == ("records were overwritten before they were read" in self.booth.events())

    def fill(self, reports: int = 0) -> None:
        for number in range(reports):
            self.desk.report(ExecType.NEW, number, qty=1, leaves=0)
            if number % 32 == 31:
                self.desk.step()
        self.desk.reason(qty=0)
        self.desk.agent.log(LogCode.KILL, 5, int.from_bytes(b"anna", "little"))
        self.desk.step()


@pytest.mark.skipif(INTERPRETED, reason="machine code only")
@pytest.mark.parametrize("reports", [3, 100])
def test_killed_after_any_store_of_a_turn(tmp_path, monkeypatch, reports):
    """In time, and lapped by the gateway: no record twice, every loss counted once, and said."""
    scene = Scene(tmp_path, monkeypatch)
    scene.fill(reports)
    agent = scene.booth.agent
    mapped = np.frombuffer(agent.target.writer.map, np.uint8)
    watched = [mapped, *scene.watched]
    before = [array.tobytes() for array in watched]
    images = states(agent.kernel(), (agent.handle, agent.mark, agent.waiting, 1), watched)
    path, log = agent.target.writer.path, scene.directory / "hftd.jsonl"
    lines = log.read_bytes()
    assert len(images) > 30
    images = images[:: 1 + len(images) // 120] + images[-25:]
    for image in images:
        for left in scene.directory.glob("*.journal*"):
            left.unlink()
        put_back(scene.watched, image[1:])
        path.write_bytes(image[0])
        log.write_bytes(lines)
        scene.check()
        told = [line["event"] for line in scene.booth.lines()]
        assert told.count("order denied") == 1 and told.count("the kill switch is set by anna") == 1
    put_back(watched, before)
    scene.booth.agent.supervisor = os.getpid()
    scene.booth.agent.close()


def test_killed_at_any_system_call_of_a_restart(tmp_path, monkeypatch):
    """The recorder that takes over from a dead one dies as well, anywhere; the third one knows all the same."""
    scene = Scene(tmp_path, monkeypatch)
    agent = scene.booth.agent
    scene.fill(70)
    kernel, was = agent.kernel(), [array.tobytes() for array in scene.watched]
    kernel(agent.handle, agent.mark, agent.waiting, 1)
    put_back(scene.watched, was)                      # killed before its first count: entries are there, the heads are old
    found = different(calls(scene.booth.start, scene.directory, scene.watched))
    assert len(found) > 10
    for call in found:
        call.lay(scene.directory, scene.watched)
        scene.check()
        assert not list(scene.directory.glob("*.new"))
    scene.booth.agent.supervisor = os.getpid()
    scene.booth.agent.close()


def test_killed_at_any_system_call_of_a_file_change_and_the_end(tmp_path, monkeypatch):
    """A full file is sealed, the next one begun; later all is closed: every file can be read, and nothing is twice or missing."""
    scene = Scene(tmp_path, monkeypatch, entries=20)
    for _ in range(4):
        scene.fill(6)
    agent = scene.booth.agent
    agent.supervisor = os.getpid()

    def live() -> None:
        scene.booth.turn(4)
        agent.close()

    found = different(calls(live, scene.directory, scene.watched))
    assert sum(1 for call in found if any(name.endswith("-0002.journal") for name in call.files)) > 10
    for call in found:
        call.lay(scene.directory, scene.watched)
        scene.check()
    scene.booth.agent.supervisor = os.getpid()
    scene.booth.agent.close()


def write_some(directory: Path, number: int, count: int = 5) -> Writer:
    """Return a journal of some orders, left open."""
    writer = Writer(directory, "unit", EPOCH, number, np.zeros(1, clock_dtype)[0], {0x100: "ring.order"}, size=HEADER + 20 * ENTRY)
    for at in range(count):
        record = np.zeros(1, order_dtype)
        record["seq"] = at + 1
        writer.append(stream_code(Stream.ORDER), 0, record.tobytes())
    return writer


def test_killed_while_a_dead_ones_journal_is_sealed(tmp_path):
    """With half an entry at its end: cut before it is called CRASHED, so that it is cut after all."""
    writer = write_some(tmp_path, 1)
    at = HEADER + 5 * ENTRY
    writer.map[at : at + 40] = b"x" * 40
    assert "checksum" in _read(writer.path)[1]
    found = different(calls(lambda: [crashed.seal(left) for left in crashed.left_open(tmp_path, "unit")[0]], tmp_path))
    assert len(found) >= 3
    for call in found:
        call.lay(tmp_path)
        for left in crashed.left_open(tmp_path, "unit")[0]:
            crashed.seal(left)
        reader = read_journal(writer.path)
        assert [int(entry.record["seq"]) for entry in reader] == [1, 2, 3, 4, 5]
        assert (reader.state, reader.problem, writer.path.stat().st_size) == ("CRASHED", "", at)


def _read(path: Path) -> tuple[int, str]:
    reader = read_journal(path)
    return len(list(reader)), reader.problem


def test_a_journal_has_its_name_when_its_header_is_whole(tmp_path):
    """Killed while it is made: no reader meets half a file, and what never got its name is removed at the next start."""
    (tmp_path / "unit-2-20231114T221320.123-0001.journal.new").write_bytes(b"")
    found = calls(lambda: write_some(tmp_path, 1).seal(), tmp_path)
    order = [call.number for call in found if call.number in (FSYNC, RENAME, FTRUNCATE)]
    assert order == [RENAME, FSYNC, FTRUNCATE, FSYNC]
    for call in different(found):
        call.lay(tmp_path)
        for path in tmp_path.glob("*.journal"):
            assert _read(path)[1] == ""
        left, bad = crashed.left_open(tmp_path, "unit")
        assert not bad and len(left) <= 1
        assert [path.name for path in tmp_path.glob("*.new")] == ["unit-2-20231114T221320.123-0001.journal.new"]


def test_what_was_damaged_is_told(tmp_path):
    """Entries behind a bad one, as a loss of power leaves them: how many the header knows of; other instances are left alone."""
    writer = write_some(tmp_path, 1)
    writer.map[HEADER + 2 * ENTRY] = writer.map[HEADER + 2 * ENTRY] ^ 1
    ((left,), bad) = crashed.left_open(tmp_path, "unit")
    assert (left.entries, left.missing, bad) == (2, 3, [])
    assert crashed.left_open(tmp_path, "uni") == ([], [])


def test_a_daemon_that_died_as_a_whole_has_entries_that_were_not_told(tmp_path):
    """Another run's journal: how many of its last entries may have no line in the log is said; here they are told no more."""
    booth = Booth(Desk(tmp_path))
    booth.turn()
    old = write_some(booth.agent.directory, 1)
    name = booth.desk.config.daemon.name
    old.header["instance"][:] = 0
    old.header["instance"][: len(name)] = list(name.encode())
    old.path.rename(old.path.with_name(old.path.name.replace("unit-", f"{name}-")))
    old.header["told"] = 3
    booth.start()
    assert [line.get("untold") for line in booth.lines() if "left open by a crash" in line["event"]] == [2, None]
    booth.agent.supervisor = os.getpid()
    booth.agent.close()


# ---------------------------------------------------------------- log, ledger, latches


def test_the_log_loses_no_line_at_any_system_call(tmp_path):
    """Over rotations: every line that was flushed is in one of the files, once, and each line is whole."""
    def live() -> None:
        file = RotatingFile(tmp_path / "x.jsonl", size=60, kept=9)
        for number in range(12):
            file.write(json.dumps({"number": number}))
            file.flush()
            file.sync()
        file.close()

    most = 0
    for call in different(calls(live, tmp_path)):
        oldest = sorted(call.files, key=lambda name: -int(name.rpartition(".")[2].replace("jsonl", "0")))
        text = [call.files[name] for name in oldest]
        numbers = [json.loads(line)["number"] for line in b"".join(text).splitlines()]
        assert numbers == list(range(len(numbers))) and len(numbers) >= most
        most = len(numbers)
    assert most == 12


@pytest.mark.parametrize("torn", [b'{"number": 1, "ev', b"x" * 200_000])
def test_a_line_that_was_cut_off_takes_no_other_with_it(tmp_path, torn):
    """Whoever died in a write: the rest of a line goes, the next line begins a new one."""
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"number": 0}\n' + torn)
    file = RotatingFile(path)
    assert file.torn == len(torn)
    file.write('{"number": 2}')
    file.close()
    assert [json.loads(line)["number"] for line in path.read_text().splitlines()] == [0, 2]


def test_a_replaced_file_is_whole_at_any_system_call(tmp_path):
    """The old one or the new one, through to the disk before it gets its name, and the name after it."""
    path = tmp_path / "risk.json"
    path.write_bytes(b"old")
    found = calls(lambda: replace_file(path, b"new" * 10_000), tmp_path)
    assert {call.files["risk.json"] for call in found} == {b"old", b"new" * 10_000}
    assert [call.number for call in found if call.number in (FSYNC, RENAME)] == [FSYNC, RENAME, FSYNC]


def test_the_recorder_sees_the_ledger_through_to_the_disk(tmp_path):
    """Each second's save, not only the last: a ledger that a loss of power left empty would stop the next start."""
    booth = Booth(Desk(tmp_path))
    booth.desk.report(ExecType.FILL, 1 << 40, qty=70, venue_id=1)
    booth.desk.step()
    numbers = [call.number for call in calls(booth.agent._save_ledger, tmp_path)]
    rename = numbers.index(RENAME)
    assert FSYNC in numbers[:rename] and FSYNC in numbers[rename:]
    booth.agent.supervisor = os.getpid()
    booth.agent.close()
