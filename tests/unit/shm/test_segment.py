"""hftd/shm/segment.py: memory that is missing, stale, foreign or different is refused, with what to do."""

import os
import subprocess
import sys

import numpy as np
import posix_ipc
import pytest

from hftd.core.layout import PAIR, layout
from hftd.errors import HftdError
from hftd.shm import segment
from hftd.shm.segment import Part, SegmentError

cell_dtype = layout("cell", 16, [("a", "i8"), ("b", "i8")])
other_dtype = layout("other", 16, [("a", "i8"), ("c", "i8")])
PARTS = [Part("few", cell_dtype, 3), Part("many", cell_dtype, 1000), Part("last", cell_dtype, 1)]
NAME = segment.full_name(f"test{os.getpid()}", "seg")


@pytest.fixture
def made():
    """A segment, removed afterwards."""
    yield segment.create(NAME, PARTS, epoch=77)
    segment.unlink(NAME)


def test_what_one_writes_the_other_reads(made):
    """Parts lie on pairs of lines, large ones on pages; the header says whose it is."""
    made["few"][2]["b"], made["last"][0]["a"] = 5, 6
    seen = segment.attach(NAME, PARTS, read_only=True)
    assert int(seen["few"][2]["b"]) == 5 and int(seen["last"][0]["a"]) == 6
    assert seen.offset("few") % PAIR == 0 and seen.offset("many") % 4096 == 0 and seen.size == segment.size_of(PARTS)
    head = seen.header[0]
    assert (int(head["owner_pid"]), int(head["epoch"]), int(head["uid"])) == (os.getpid(), 77, os.getuid())
    assert seen.address("last") - seen.address("few") == seen.offset("last") - seen.offset("few")
    assert os.stat(f"/dev/shm{NAME}").st_mode & 0o777 == 0o600


def test_new_memory_is_zero_and_a_read_only_view_cannot_be_written(made):
    """All parts, and a store through a read-only mapping is an error of the tool, not of the daemon."""
    assert not any(np.asarray(made[part.name]).view(np.uint8).any() for part in PARTS)
    seen = segment.attach(NAME, PARTS, read_only=True)
    with pytest.raises(ValueError, match="read-only"):
        seen["few"]["a"][0] = 1


def test_a_name_that_is_taken_is_refused(made):
    """Two daemons of one name."""
    with pytest.raises(SegmentError, match="exists already; is the daemon running"):
        segment.create(NAME, PARTS, 1)


def test_missing_memory_is_refused():
    """Before the daemon, or after it."""
    with pytest.raises(SegmentError, match="does not exist; is the daemon running"):
        segment.attach(NAME + "x", PARTS)


@pytest.mark.parametrize("parts", [
    PARTS[:2],
    [Part("few", other_dtype, 3), *PARTS[1:]],
    [Part("few", cell_dtype, 4), *PARTS[1:]],
    [Part("some", cell_dtype, 3), *PARTS[1:]],
])  # fmt: skip
def test_another_schema_is_refused(made, parts):
    """A part less, a field renamed, a count changed, a part renamed."""
    with pytest.raises(SegmentError, match="another version or configuration; stop that daemon first"):
        segment.attach(NAME, parts)


def test_another_version_and_a_half_made_segment_are_refused(made):
    """The magic is written last, so that a creator's crash leaves nothing that looks whole."""
    made.header["version"][0] = segment.VERSION + 1
    with pytest.raises(SegmentError, match="another version"):
        segment.attach(NAME, PARTS)
    made.header["magic"][0] = 0
    with pytest.raises(SegmentError, match="is not hftd's; `hftd clean`"):
        segment.attach(NAME, PARTS)


def test_memory_of_another_program_is_refused():
    """Too small for a header, whatever is in it."""
    shared = posix_ipc.SharedMemory(NAME, posix_ipc.O_CREX, size=100)
    try:
        with pytest.raises(SegmentError, match="is not hftd's"):
            segment.attach(NAME, PARTS)
    finally:
        shared.close_fd()
        segment.unlink(NAME)


def test_stale_memory_is_refused_unless_asked_for(made):
    """Its owner died without cleaning up; a post-mortem may look."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    made.header["owner_pid"][0] = child.pid
    with pytest.raises(SegmentError, match=f"is stale: its owner, pid {child.pid}, is gone; `hftd clean` removes it"):
        segment.attach(NAME, PARTS)
    assert segment.attach(NAME, PARTS, stale_ok=True).size == made.size


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to give memory away")
def test_foreign_memory_is_refused(made):
    """Another user's segment under our name is not read as ours; root may look, not write."""
    os.chown(f"/dev/shm{NAME}", 65534, 65534)
    with pytest.raises(SegmentError, match="belongs to uid 65534; run as the user"):
        segment.attach(NAME, PARTS)
    assert segment.attach(NAME, PARTS, read_only=True).size == made.size


def test_too_large_a_segment_is_one_sentence_and_leaves_no_name():
    """An exabyte does not fit; nothing stays behind."""
    with pytest.raises(SegmentError, match="MiB are needed in /dev/shm"):
        segment.create(NAME, [Part("huge", cell_dtype, 1 << 56)], 1)
    assert not os.path.exists(f"/dev/shm{NAME}")


def test_unlink_and_existing_tell_what_is_there(made):
    """By instance, and gone after the first unlink; errors are ones a person can mend."""
    assert segment.existing(f"test{os.getpid()}") == [NAME] and NAME in segment.existing()
    assert segment.unlink(NAME) and not segment.unlink(NAME)
    assert issubclass(SegmentError, HftdError | RuntimeError)
