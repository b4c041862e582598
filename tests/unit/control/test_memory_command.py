"""`hftd memory`: the map is that of the segments, all of it has a writer, and a process's memory is what the kernel tells."""

import json
import mmap

import pytest

from hftd.cli.main import main
from hftd.control import memorymap
from hftd.control.config import build
from hftd.shm import map as shared
from hftd.shm.segment import Segment, size_of

CONFIG = build({"strategy": [{"file": "a.py"}, {"file": "b.py", "enabled": False}, {"file": "c.py", "name": "third"}]}, "c.toml")


@pytest.fixture
def file(tmp_path):
    """A configuration file."""
    path = tmp_path / "c.toml"
    path.write_text('[daemon]\nname = "mapped"\n[universe]\nmax = 8\n[rings]\nmd = 1024\n[[strategy]]\nfile = "a.py"\n')
    return str(path)


def test_map_is_what_a_start_would_make():
    """Every segment, every part, at the offset where Segment puts it; parts do not overlap and fill no more than the segment."""
    found = {room.name: room for room in memorymap.rooms(CONFIG)}
    assert list(found) == list(shared.segments(CONFIG))
    for name, parts in shared.segments(CONFIG).items():
        made = Segment(name, parts, mmap.mmap(-1, size_of(parts)))
        room = found[name]
        assert room.size == made.size
        assert [(place.name, place.offset) for place in room.places[1:]] == [(part.name, made.offset(part.name)) for part in parts]
        ends = [place.offset + place.bytes for place in room.places]
        assert all(end <= place.offset for end, place in zip(ends, room.places[1:])) and ends[-1] <= room.size
        assert (room.places[0].name, room.places[0].offset) == ("header", 0)


def test_every_segment_has_one_writer_who_exists():
    """One writer a ring and a table; readers are roles of this configuration."""
    roles = {"supervisor", *(name for _, _, name in shared.agents(CONFIG))}
    assert {"strategy.a", "strategy.third"} <= roles and "strategy.b" not in roles
    for room in memorymap.rooms(CONFIG):
        if room.name != "control":
            assert len(room.writers) == 1 and room.writers[0] in roles, room.name
            assert set(room.readers) <= roles - set(room.writers) or room.name.startswith(("recorder", "ring.log.4")), room.name
    with pytest.raises(KeyError):
        memorymap.users(CONFIG, "nosuch")


def test_roles_and_segments_agree():
    """What a role writes, seen from both sides; nobody writes a segment that no role claims."""
    found = memorymap.rooms(CONFIG)
    rows = {row["role"]: row for row in memorymap.by_role(CONFIG, found)}
    assert "ring.intent.2" in rows["strategy.third"]["writes"] and "ring.intent.2" in rows["risk"]["reads"]
    assert {name for row in rows.values() for name in row["writes"]} == {room.name for room in found}
    assert rows["gateway"]["write_bytes"] == sum(room.size for room in found if "gateway" in room.writers)


def test_consumers_of_each_ring_are_those_of_the_map():
    """The readers named here are those that shm/map.py's table names."""
    assert memorymap.users(CONFIG, "ring.report")[1] == ("strategy.a", "strategy.third", "risk", "recorder")
    assert memorymap.users(CONFIG, "ring.order") == (("risk",), ("gateway", "recorder"))
    assert memorymap.users(CONFIG, "ring.log.2") == (("risk",), ("recorder",))


def test_layouts_are_each_record_once():
    """Fields with offsets; a record that stands in several segments is told once."""
    texts = memorymap.layouts(memorymap.rooms(CONFIG))
    assert len(texts) == len(set(texts))
    order = next(text for text in texts if text.startswith("orders / orders"))
    assert "cl_ord_id" in order and "(128 bytes)" in order
    assert sum("ring.md / control" in text for text in texts) == 1
    assert not any("ring.report / control" in text for text in texts)


def test_command_prints_the_map_of_a_configuration(file, capsys):
    """Roles, then each segment with writer, readers and parts; --layouts adds the fields."""
    assert main(["memory", "-c", file, "--layouts"]) == 0
    said = capsys.readouterr().out
    assert "mapped: roles" in said
    assert "ring.intent.0" in said and "written by strategy.a, read by risk, recorder" in said
    assert "order_row" in said or "cl_ord_id" in said
    assert "segments" in said


def test_command_gives_json(file, capsys):
    """The same for programs; bytes add up."""
    assert main(["memory", "-c", file, "--json", "--layouts"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["name"] == "mapped" and said["running"] is False
    assert said["shared_bytes"] == sum(one["bytes"] for one in said["segments"])
    ring = next(one for one in said["segments"] if one["segment"] == "ring.md")
    slots = next(part for part in ring["parts"] if part["part"] == "slots")
    assert (slots["count"], slots["record"], slots["bytes"]) == (1024, 64, 65536)
    assert all(part["offset"] + part["bytes"] <= ring["bytes"] for part in ring["parts"])
    assert {"name": "tail", "offset": 0, "bytes": 8} in next(part for part in ring["parts"] if part["part"] == "control")["fields"]


def test_no_daemon_is_said_in_one_line(capsys):
    """Without -c it is the running one that is meant."""
    assert main(["memory", "-n", "no-such-daemon"]) == 3
    assert capsys.readouterr().err.startswith("hftd: no daemon called 'no-such-daemon' is running")


SMAPS = """7f0000000000-7f0000200000 rw-s 00000000 00:1a 5    /dev/shm/hftd.mapped.ring.md
Size:               2048 kB
Rss:                2048 kB
Pss:                1024 kB
Private_Dirty:         0 kB
ShmemPmdMapped:     {pmd} kB
Locked:             {locked} kB
7f0000300000-7f0000301000 rw-s 00000000 00:1a 6    /dev/shm/hftd.mapped2.ring.md
Rss:                   4 kB
7f0000400000-7f0000500000 rw-p 00000000 00:00 0
Rss:                1024 kB
Private_Dirty:      1024 kB
AnonHugePages:      1024 kB
"""


@pytest.mark.parametrize(("pmd", "locked", "words"), [
    (2048, 0, "2 MiB, 100 %"), (1024, 2048, "2 MiB, 50 %, locked"), (0, 0, "4 KiB"),
])  # fmt: skip
def test_pages_of_a_segment_are_read_from_the_process_that_writes_it(tmp_path, pmd, locked, words):
    """By instance and name; another instance's and private memory are not taken for it."""
    (tmp_path / "proc/9").mkdir(parents=True)
    (tmp_path / "proc/9/smaps").write_text(SMAPS.format(pmd=pmd, locked=locked))
    found = memorymap.mapped(9, "mapped", tmp_path)
    assert list(found) == ["ring.md"]
    assert (found["ring.md"]["mapped"], found["ring.md"]["rss"], found["ring.md"]["pss"]) == (2 << 20, 2 << 20, 1 << 20)
    assert memorymap.pages(found["ring.md"]) == words


def test_memory_of_a_process(tmp_path):
    """Unique memory is what is private, clean and dirty; a process that cannot be read says nothing."""
    (tmp_path / "proc/9").mkdir(parents=True)
    text = "00-01 ---p 0 00:00 0 [rollup]\nRss: 100 kB\nPss: 60 kB\nPrivate_Clean: 10 kB\nPrivate_Dirty: 30 kB\nSwap: 2 kB\n"
    (tmp_path / "proc/9/smaps_rollup").write_text(text)
    made = memorymap.totals(9, tmp_path)
    assert (made["rss"], made["pss"], made["uss"], made["swap"]) == (100 << 10, 60 << 10, 40 << 10, 2 << 10)
    assert memorymap.totals(10, tmp_path) is None
    assert memorymap.mapped(10, "mapped", tmp_path) == {}
    assert memorymap.pages(None) == "-"
