"""What a recorder that was killed left behind: its open journal, what it had taken from each ring, what it had not told yet.

A turn stores in this order: entries, their count, `tap.entries`, `tap.lost`, the ring's head (loop.py). So at every instant one of
these holds for each ring, and `resume` knows what was taken and what was lost, whichever store was the last:

    head = entries + lost                nothing of a turn is counted: what the journal has beyond the head is not taken again
    head < entries + lost                the records are counted, the losses before them may not be: up to the last one journaled
    a head that was stored               all is counted

Its own stores come in the same order, so that it may be killed too; the journal is sealed after them, since it is what they are
made from. Sealing cuts first and says CRASHED then, and is done anew where it was not.
"""

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hftd.msg.records import SEQ_OFFSET
from hftd.recorder.journal import (
    CRASHED,
    HEADER,
    MAGIC,
    OPEN,
    SCHEMA,
    UNBORN,
    VERSION,
    JournalError,
    digest_before,
    end_header,
    journal_dtype,
    read_journal,
)
from hftd.recorder.taps import ENTRY, entry_dtype


@dataclass(frozen=True)
class Left:
    """A journal file that was left open. `rows`: its whole entries, none where another version wrote it; `entries`: how many."""

    path: Path
    epoch: int
    entries: int
    missing: int
    """Entries that the header counts beyond the first bad one: after a loss of power, or damage."""
    told: int
    rows: np.ndarray


def left_open(directory: Path, instance: str) -> tuple[list[Left], list[str]]:
    """Return the files that a dead recorder of this instance left open, oldest first, and why others cannot be read.

    The caller is the only recorder of the instance (the daemon's lock). Files that never got their names are removed.
    """
    found, bad = [], []
    unborn = re.compile(re.escape(instance) + r"-\d{8}T\d{6}\.\d{3}-\d{4,}\.journal" + re.escape(UNBORN))
    for path in sorted(directory.glob(f"{instance}-*.journal*")):
        try:
            if unborn.fullmatch(path.name):
                path.unlink()
            elif path.name.endswith(".journal"):
                left = _look(path, instance)
                found += [left] if left else []
        except (OSError, JournalError) as error:
            bad.append(f"{path}: {error}")
    return found, bad


def _look(path: Path, instance: str) -> Left | None:
    with path.open("rb") as file:
        head = file.read(HEADER)
    if len(head) < HEADER:                            # it got its name with a whole header: somebody cut it since
        raise JournalError("is shorter than a header: cut from outside, its records are lost; move it away")
    header = np.frombuffer(head, journal_dtype, 1)[0]
    if int(header["magic"]) != MAGIC or int(header["state"]) != OPEN:
        return None
    if _instance(header) != instance:
        return None
    promised, rows = int(header["entries"]), np.zeros(0, entry_dtype)
    if int(header["version"]) != VERSION or int(header["schema"]) != SCHEMA:
        whole = max(min(promised, (path.stat().st_size - HEADER) // ENTRY), 0)
    else:
        reader = read_journal(path)
        whole = reader.whole()
        rows = reader.rows(whole)
    return Left(path, int(header["epoch"]), whole, max(promised - whole, 0), int(header["told"]), rows)


def resume(tap, place, rows: np.ndarray) -> None:
    """Set a ring's counts and its head to what the dead recorder had taken.

    tap: tap_dtype record, its stream set. place: the recorder's ring_consumer_dtype record. rows: the open journal's entries.
    """
    head, entries, lost = (int(value) for value in (place["head"], tap["entries"], tap["lost"]))
    mine = rows["record"][rows["stream"] == int(tap["stream"])]
    seqs = np.ascontiguousarray(mine[:, SEQ_OFFSET : SEQ_OFFSET + 8]).view("<i8")[:, 0]
    beyond = seqs[seqs > head]
    counted = entries + lost
    if counted == head:
        entries += len(beyond)
    start = max(head, counted, int(beyond.max(initial=0)))
    tap["entries"] = entries
    tap["lost"] = start - entries
    place["head"] = start


def seal(left: Left) -> None:
    """Cut the file behind its last good entry, then call it CRASHED. Raises OSError."""
    size = HEADER + left.entries * ENTRY
    with left.path.open("r+b", buffering=0) as file:
        file.truncate(size)
        os.fsync(file.fileno())
        head = bytearray(file.read(HEADER))
        entries = hashlib.sha256()
        while data := file.read(1 << 20):
            entries.update(data)
        header = np.frombuffer(head, journal_dtype, 1)[0]
        header["entries"] = left.entries
        if int(header["version"]) != VERSION:         # of its header only these words are where we know them
            header["state"] = CRASHED
            os.pwrite(file.fileno(), head, 0)
            os.fsync(file.fileno())
            return
        before = digest_before(left.path.parent, _instance(header), left.epoch, int(header["number"]))
        end_header(head, entries, CRASHED, before)
        os.pwrite(file.fileno(), head, 0)
        os.fsync(file.fileno())


def _instance(header) -> str:
    return bytes(header["instance"]).rstrip(b"\0").decode("utf-8", "replace")
