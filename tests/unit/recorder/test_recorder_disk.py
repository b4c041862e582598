"""A disk that is full, fails, or is taken away: counted, said once, and the recorder goes on; what comes back is used again."""

import errno
import faulthandler
import json
import os
import shutil
import signal

import pytest

from hftd.msg.enums import ExecType, LogCode
from hftd.recorder.journal import HEADER, Stream, Writer
from hftd.recorder.logs import RotatingFile
from hftd.recorder.taps import ENTRY
from hftd.risk import ledger
from tests.support.disk import files_of_at_most
from tests.support.recorder_booth import Booth
from tests.support.risk_desk import Desk

NONE, AGAIN = "no journal is written", "a journal is written again"


def second(booth) -> None:
    """Let the recorder do what it does each second."""
    booth.agent._next_second = 0
    booth.turn()


def denials(booth) -> list[int]:
    """Return the sequences of the denials that the journals hold."""
    return [int(entry.record["seq"]) for reader in booth.journals() for entry in reader if entry.stream == Stream.DENY]


def test_no_room_for_a_journal(tmp_path, monkeypatch):
    """Said once, each record counted; tried again each minute, and when there is room, said and written."""
    monkeypatch.setattr(Writer.__init__, "__defaults__", (1 << 20,))
    desk = Desk(tmp_path)
    with files_of_at_most(1 << 19):
        booth = Booth(desk)
        for _ in range(3):
            booth.desk.reason(qty=0)
            booth.agent.target.next_try = 0
            second(booth)
        assert booth.events().count(NONE) == 1 and "MiB are needed" in next(line["why"] for line in booth.lines() if "why" in line)
        assert booth.count("unjournaled") == booth.count("entries") == 6 and booth.count("journal_failed") == 4
        assert list(booth.agent.directory.glob("*journal*")) == []
    second(booth)
    assert AGAIN not in booth.events()
    booth.agent.target.next_try = 0
    second(booth)
    booth.desk.reason(qty=0)
    booth.turn()
    booth.agent.supervisor = os.getpid()
    booth.agent.close()
    assert [line["unjournaled"] for line in booth.lines() if line["event"] == AGAIN] == [6]
    assert denials(booth) == [4] and booth.count("entries") == 8 and booth.count("unjournaled") == 6


def test_a_flood_tries_no_more_often(tmp_path, monkeypatch):
    """Private memory that fills in one slice is emptied and counted; the disk is left alone until its minute is over."""
    monkeypatch.setattr(Writer.__init__, "__defaults__", (1 << 20,))
    desk = Desk(tmp_path, rings={"log": 4096})
    with files_of_at_most(1 << 19):
        booth = Booth(desk)
        for number in range(3000):
            desk.agent.log(LogCode.KILL, number)
        booth.turn(100)
        assert booth.count("journal_failed") == 1
        assert booth.count("unjournaled") == booth.count("entries") == 3000
    booth.agent.supervisor = os.getpid()
    booth.agent.close()


def test_room_ends_at_a_file_change(tmp_path, monkeypatch):
    """What the full file holds stays; what comes after is counted."""
    monkeypatch.setattr(Writer.__init__, "__defaults__", (HEADER + 20 * ENTRY,))
    booth = Booth(Desk(tmp_path))
    booth.turn()
    with files_of_at_most(HEADER):
        for _ in range(15):
            booth.desk.reason(qty=0)
        booth.turn(4)
    (reader,) = booth.journals()
    taken = sum(entry.stream not in (Stream.SYMBOL, Stream.CLOCK) for entry in reader)
    assert reader.state == "SEALED" and reader.problem == ""
    assert taken + booth.count("unjournaled") == booth.count("entries") == 30
    booth.agent.supervisor = os.getpid()
    booth.agent.close()


def test_the_directory_is_removed(booth):
    """The log and the journal go on when it is there again; until then all is counted, and the recorder lives."""
    booth.desk.reason(qty=0)
    booth.turn()
    shutil.rmtree(booth.agent.directory)
    second(booth)
    booth.desk.reason(qty=0)
    second(booth)
    assert booth.count("log_failed") > 0 and booth.agent.target.writer is None
    booth.agent.directory.mkdir()
    booth.agent.target.next_try = 0
    second(booth)
    booth.desk.reason(qty=0)
    booth.turn(2)
    assert denials(booth) == [3]
    assert {AGAIN, "log lines were not written, or not seen through to the disk", "order denied"} <= set(booth.events())
    assert booth.count("unjournaled") >= 4


def test_the_journal_file_is_removed(booth):
    """Seen within a second, told with what was in it, and another begun."""
    booth.desk.reason(qty=0)
    booth.turn()
    booth.agent.target.writer.path.unlink()
    second(booth)
    booth.desk.reason(qty=0)
    booth.turn()
    told = [line["entries"] for line in booth.lines() if line["event"] == "the journal file was removed: what was in it is lost"]
    assert told == [booth.count("unjournaled")] and denials(booth) == [2]


@pytest.mark.parametrize("size", [0, 100, HEADER, HEADER + ENTRY + 7])
def test_the_journal_file_is_cut(booth, size):
    """Seen within a second, told with what was lost, and another begun; the map behind the file's end is not touched any more."""
    booth.desk.reason(qty=0)
    booth.turn()
    target = booth.agent.target
    path, entries = target.writer.path, target.writer.count
    os.truncate(path, size)
    target.each_second(0)
    lost = entries - max(size - HEADER, 0) // ENTRY
    assert booth.count("unjournaled") == lost
    second(booth)
    told = [line["entries"] for line in booth.lines() if "was cut short" in line["event"]]
    assert told == [lost]
    booth.desk.reason(qty=0)
    booth.turn()
    os.unlink(path)
    assert denials(booth) == [2]


def test_a_recorder_that_died_of_a_cut_file_is_followed_by_one_that_says_so(tmp_path):
    """A store behind a file's end kills (SIGBUS): the next recorder tells of the file, whatever is left of it."""
    booth = Booth(Desk(tmp_path))
    booth.desk.reason(qty=0)
    booth.turn()
    path = booth.agent.target.writer.path
    pid = os.fork()
    if pid == 0:
        faulthandler.disable()
        os.truncate(path, 0)
        booth.turn()
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGBUS
    booth.start()
    (line,) = [line for line in booth.lines() if "cannot be sealed" in line["event"]]
    assert str(path) in line["why"] and "shorter than a header" in line["why"]
    path.unlink()
    booth.agent.supervisor = os.getpid()
    booth.agent.close()


def test_a_log_that_is_emptied_and_a_full_disk(tmp_path):
    """Rotated from outside by truncation: no hole of zeros where half a line is taken out, and no rotation before its time."""
    file = RotatingFile(tmp_path / "x.jsonl", size=1000)
    for number in range(9):
        file.write(f'{{"number": {number}, "pad": "{"x" * 60}"}}')
    file.flush()
    os.truncate(file.path, 0)
    with files_of_at_most(150):
        file.write('{"number": 9}')
        file.write(f'{{"number": 10, "pad": "{"x" * 500}"}}')
        file.flush()
    assert file.path.read_bytes() == b'{"number": 9}\n' and file.failed == 1
    file.sync()
    for number in range(11, 16):
        file.write(f'{{"number": {number}, "pad": "{"x" * 60}"}}')
    file.close()
    assert [json.loads(line)["number"] for line in file.path.read_text().splitlines()] == [9, 11, 12, 13, 14, 15]


def test_two_daemons_with_one_log_rotate_it_once(tmp_path):
    """Who finds it rotated by the other goes on in the new one: a second turn would push a nearly empty file into the old ones."""
    files = [RotatingFile(tmp_path / "x.jsonl", size=1000) for _ in range(2)]
    for number in range(40):
        for file in files:
            file.write(f'{{"number": {number}, "pad": "{"x" * 40}"}}')
            file.flush()
        if number % 4 == 3:
            for file in files:
                file.sync()
    for file in files:
        file.close()
    old = sorted(tmp_path.glob("x.jsonl.*"))
    assert len(old) >= 3 and min(path.stat().st_size for path in old) > 900


def test_a_disk_that_fails(booth, monkeypatch):
    """EIO for whoever wants to see something through to it: counted, said once, and nobody dies of it."""
    def fails(handle):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    booth.turn()
    monkeypatch.setattr(os, "fsync", fails)
    monkeypatch.setattr(os, "fdatasync", fails)
    monkeypatch.setattr(Writer, "flush", lambda writer: fails(0))
    before = booth.count("log_failed")
    for number in range(3):
        booth.desk.report(ExecType.FILL, (1 << 40) + number, qty=70, venue_id=number + 1)
        booth.desk.step()
        second(booth)
    second(booth)
    events = booth.events()
    assert events.count("the journal may not be on the disk") == 1 and booth.count("journal_failed") >= 3
    assert events.count("the day's ledger was not written") == 1 and booth.count("ledger_failed") >= 3
    assert events.count("log lines were not written, or not seen through to the disk") == 1 and booth.count("log_failed") > before
    booth.agent.target.next_file()
    booth.turn()
    assert "a journal file was not sealed" in booth.events() and NONE in booth.events()
    assert len(booth.journals()) == 1 and not list(booth.agent.directory.glob("*.new"))
    monkeypatch.undo()
    second(booth)
    assert booth.events().count("the day's ledger is written again") == 1
    assert ledger.read(booth.desk.config)["instruments"]["AAA"]["bought_qty"] == 210


def test_a_line_that_finds_no_room_takes_no_other_with_it(tmp_path):
    """Short writes: whole lines stay, half a line goes, and the next one is whole again."""
    path = tmp_path / "x.jsonl"
    file = RotatingFile(path)
    with files_of_at_most(110):
        for number in range(10):
            file.write(json.dumps({"number": number, "pad": "x" * 20}))
        assert file.flush() == 2 and file.failed == 8
        file.write(json.dumps({"number": 10}))
        assert file.flush() == 1
    file.write(json.dumps({"number": 11}))
    file.close()
    assert [json.loads(line)["number"] for line in path.read_text().splitlines()] == [0, 1, 10, 11]


def test_a_log_that_was_moved_away_is_begun_anew(tmp_path):
    """Its lines are in the file that was moved: none is counted as lost. One that was removed took its last second with it."""
    path = tmp_path / "x.jsonl"
    file = RotatingFile(path)
    for number, leave in enumerate((lambda: path.rename(tmp_path / "old"), path.unlink, lambda: None)):
        file.write(f"{number}")
        assert file.flush() == 1
        leave()
        file.sync()
    file.close()
    assert (tmp_path / "old").read_text() == "0\n" and path.read_text() == "2\n" and file.failed == 1


def test_counts_outlive_a_restart(booth):
    """Lines that were held back, or found no room, stay counted."""
    booth.agent.logs.held, booth.agent.logs.file.failed = 7, 5
    booth.turn()
    booth.start()
    booth.turn()
    assert booth.count("lines_held") == 7 and booth.count("log_failed") == 5


def test_a_journal_that_cannot_be_sealed_is_told(booth, monkeypatch):
    """A dead one's file on a disk that fails: the next recorder starts all the same, and says so."""
    booth.desk.reason(qty=0)
    booth.turn()
    with monkeypatch.context() as patch:
        from hftd.recorder import crashed

        patch.setattr(crashed.os, "pwrite", lambda *_: (_ for _ in ()).throw(OSError(errno.EROFS, os.strerror(errno.EROFS))))
        booth.start()
    booth.turn()
    assert "a journal was left open by a crash, and cannot be sealed" in booth.events()
    assert denials(booth) == [1]
