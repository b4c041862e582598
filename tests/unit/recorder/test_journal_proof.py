"""A journal proves what it says: a turned bit, an exchanged entry, a file that was changed or taken out is found, and said."""

import hashlib
import json
import os
import zlib

import numpy as np
import pytest

from hftd import __version__
from hftd.cli.main import main
from hftd.core.clock import clock_dtype
from hftd.msg.records import order_dtype
from hftd.recorder import manifest
from hftd.recorder.crashed import left_open, seal
from hftd.recorder.journal import HEADER, JournalError, Stream, Writer, journal_dtype, read_journal, stream_code
from hftd.recorder.manifest import sources_digest
from hftd.recorder.taps import ENTRY
from hftd.recorder.verify import files_of, verify
from tests.support.recorder_booth import Booth
from tests.support.risk_desk import Desk

EPOCH = 1_700_000_000_123_000_000


def written(directory, number: int = 1, count: int = 6, end: bool = True) -> Writer:
    """Return a journal of some orders."""
    clock = np.zeros(1, clock_dtype)[0]
    clock["mult"] = 1 << 31
    made = Writer(directory, "unit", EPOCH, number, clock, {0x100: "ring.order"}, size=HEADER + 20 * ENTRY)
    for at in range(count):
        record = np.zeros(1, order_dtype)
        record["cl_ord_id"], record["seq"] = 100 * number + at, at + 1
        made.append(stream_code(Stream.ORDER), 0, record.tobytes())
    if end:
        made.seal()
    return made


def problems(directory) -> list[str]:
    return [problem for one in verify(files_of([str(directory)])) for problem in one.problems]


@pytest.mark.parametrize("end", ["sealed", "crashed"])
def test_any_bit_that_is_turned_is_found(tmp_path, end):
    """Every byte of header and entries, another bit each; none of them is believed, and a whole file is."""
    path = written(tmp_path, end=end == "sealed").path
    if end == "crashed":
        seal(left_open(tmp_path, "unit")[0][0])
    data = path.read_bytes()
    assert problems(tmp_path) == [] and len(data) == HEADER + 6 * ENTRY
    for at in range(len(data)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :])
        try:
            reader = read_journal(path)
            list(reader)
            assert reader.problem, f"byte {at}"
        except JournalError:
            assert at < 24


def test_a_turned_bit_in_an_open_files_header_is_found_but_where_it_changes(tmp_path):
    """State, counts and what is filled in at the end are not in its checksum while it is open; clock, names and times are."""
    path = written(tmp_path, end=False).path
    data = path.read_bytes()
    assert read_journal(path).problem == ""
    for name in ("capacity", "epoch", "number", "created_utc_ns", "clock", "instance", "text", "begun_crc"):
        at = journal_dtype.fields[name][1]
        path.write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
        reader = read_journal(path)
        assert "header" in reader.problem, name
        assert len(list(reader)) == 6 and "header" in reader.problem


def test_an_entry_that_was_exchanged_with_its_checksum_is_found(tmp_path):
    path = written(tmp_path).path
    data = bytearray(path.read_bytes())
    at = HEADER + 2 * ENTRY
    data[at + 20] ^= 255
    data[at : at + 4] = zlib.crc32(data[at + 4 : at + ENTRY]).to_bytes(4, "little")
    path.write_bytes(data)
    assert read_journal(path).whole() == 6
    assert problems(tmp_path) == ["digest is wrong: an entry was exchanged, its checksum with it"]


def test_a_file_cut_at_an_entry_or_with_bytes_behind_it_is_found(tmp_path):
    path = written(tmp_path).path
    data = path.read_bytes()
    path.write_bytes(data[:-ENTRY])
    assert problems(tmp_path) == ["1 of 6 entries are missing at the end"]
    path.write_bytes(data + b"\0" * 7)
    assert problems(tmp_path) == ["7 bytes are behind the last entry"]


def test_a_file_of_a_run_that_is_changed_or_taken_out_is_found(tmp_path, tmp_path_factory):
    """The next one has the digest it had; one made anew with other entries, sound by itself, is another."""
    paths = [written(tmp_path, number).path for number in (1, 2, 3)]
    assert problems(tmp_path) == []
    other = written(tmp_path_factory.mktemp("other"), 1, count=5).path.read_bytes()
    first = paths[0].read_bytes()
    paths[0].write_bytes(other)
    assert problems(tmp_path) == [f"the file before it, {paths[0].name}, was changed or exchanged since"]
    paths[0].write_bytes(first)
    middle = paths[1].read_bytes()
    paths[1].unlink()
    assert problems(tmp_path) == ["file 2 of its run is missing before it"]
    paths[1].write_bytes(middle)
    paths[0].unlink()
    assert problems(tmp_path) == ["file 1 of its run is missing before it"]
    paths[0].write_bytes(first)
    (tmp_path / "copy.journal").write_bytes(first)
    assert "has number 1 of its run" in problems(tmp_path)[0]


def test_the_chain_goes_on_over_a_crash(tmp_path):
    """Two files left open, as a salvage leaves them: sealed in their order, each knows the one before it."""
    written(tmp_path, 1)
    kept = [written(tmp_path, number, end=False) for number in (2, 3)]
    assert [one.problems for one in verify(files_of([str(tmp_path)]))] == [[], [], []]
    for left in left_open(tmp_path, "unit")[0]:
        seal(left)
    written(tmp_path, 4)
    found = verify(files_of([str(tmp_path)]))
    assert [(one.state, one.problems) for one in found] == [("SEALED", []), ("CRASHED", []), ("CRASHED", []), ("SEALED", [])]
    assert [one.before for one in found[1:]] == [one.digest for one in found[:-1]] and len(kept) == 2


def test_an_open_file_of_another_version_is_sealed_and_told_no_more(tmp_path):
    """It was refused at each start, for ever. Of its header only the words are touched that lie where they always did."""
    path = written(tmp_path, end=False).path
    data = bytearray(path.read_bytes())
    data[8] = 1
    path.write_bytes(data)
    ((left,), bad) = left_open(tmp_path, "unit")
    assert (left.entries, len(left.rows), bad) == (6, 0, [])
    seal(left)
    after = path.read_bytes()
    assert after[40:] == bytes(data[40 : HEADER + 6 * ENTRY]) and left_open(tmp_path, "unit") == ([], [])


def test_the_command_says_what_is_wrong_and_ends_with_1(tmp_path, capsys):
    path = written(tmp_path).path
    assert main(["journal", str(tmp_path)]) == 0
    digest = bytes(read_journal(path).header["digest"]).hex()
    assert digest in capsys.readouterr().out
    path.write_bytes(path.read_bytes()[:-1])
    assert main(["journal", str(path)]) == 1
    assert capsys.readouterr().err == f"hftd: {path}: 1 of 6 entries are missing at the end\n"
    assert main(["journal", "--json", str(path)]) == 1
    facts = json.loads(capsys.readouterr().out)
    assert not facts["ok"] and facts["files"][0]["streams"] == {"ORDER": 5}
    assert main(["journal", str(tmp_path / "none.journal")]) == 1
    assert "No such file" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main(["journal", str(tmp_path / "empty")]) == 1
    assert "no journal is in it" in capsys.readouterr().err


def test_a_journal_names_what_its_run_was_made_of(tmp_path):
    """Code, strategies, limits: in the run's manifest, whose digest is in each file; a later recorder changes nothing in it."""
    strategy = tmp_path / "mine.py"
    strategy.write_text("x = 1\n")
    booth = Booth(Desk(tmp_path, strategy=[{"file": str(strategy)}]))
    booth.turn()
    (path,) = booth.agent.directory.glob("*.run.json")
    made, text = json.loads(path.read_text()), path.read_bytes()
    assert made["strategies"]["mine"]["sha256"] == hashlib.sha256(b"x = 1\n").hexdigest()
    assert made["sources_sha256"] == sources_digest() and made["version"] == __version__
    assert made["config"]["risk"]["order_qty_max"] == booth.desk.config.risk.order_qty_max
    assert path.stat().st_mode & 0o777 == 0o600
    strategy.write_text("x = 2\n")
    booth.start()
    assert path.read_bytes() == text
    booth.agent.supervisor = os.getpid()
    booth.agent.close()
    assert {(reader.run, reader.version) for reader in booth.journals()} == {(hashlib.sha256(text).hexdigest(), __version__)}
    assert problems(booth.agent.directory) == []
    path.write_bytes(text.replace(b'"numba"', b'"Numba"'))
    assert all(problem.endswith("what the run was made of, was changed since") for problem in problems(booth.agent.directory))
    assert len(problems(booth.agent.directory)) == 2
    path.unlink()
    assert "is not there" in problems(booth.agent.directory)[0]


def test_the_sources_digest_knows_names_and_contents(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.py").write_text("1")
    first = sources_digest(tmp_path)
    (tmp_path / "a.py").write_text("2")
    second = sources_digest(tmp_path)
    (tmp_path / "a.py").rename(tmp_path / "sub" / "a.py")
    assert len({first, second, sources_digest(tmp_path)}) == 3 and sources_digest(tmp_path) == sources_digest(tmp_path)


def test_no_room_for_the_manifest_is_said_and_the_journal_written(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(manifest, "replace_file", full)
    booth = Booth(Desk(tmp_path))
    booth.turn()
    assert any("manifest was not written" in event for event in booth.events())
    (reader,) = booth.journals()
    assert reader.run == "" and problems(booth.agent.directory) == []
    booth.agent.supervisor = os.getpid()
    booth.agent.close()
