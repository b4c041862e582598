"""What a daemon that died as a whole left in its rings: put into its journal before the shared memory goes. Cold.

    rings of the dead daemon ──(read only)──▶ its open journal, and further files of the same run where that is full

All processes killed at once (`kill -9`, the kernel short of memory) take with them what the recorder had not read yet; but the
rings outlive them. Whoever takes the memory away (`hftd start`, `hftd clean`) comes here first. What was taken already is found
as a recorder that is started anew finds it (`crashed.resume`, on copies: nothing is written to the memory), so being killed here,
too, loses nothing and writes nothing twice. What was overwritten in the ring is counted. The files stay OPEN: the next recorder
seals them, and tells of entries that have no line in the log.
"""

import contextlib
import os
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hftd.control.config import Config, log_dir
from hftd.core import clock as clocks
from hftd.core.agent import alive
from hftd.errors import HftdError
from hftd.msg.records import INSTRUMENT_ANNOUNCED, SEQ_OFFSET, SLOT
from hftd.recorder import crashed
from hftd.recorder.journal import HEADER, Stream, Writer, free_number, journal_dtype, stream_code
from hftd.recorder.manifest import digest_of
from hftd.recorder.setup import streams
from hftd.recorder.taps import ENTRY, entry_dtype
from hftd.shm import map as shared
from hftd.shm import ring, segment
from hftd.shm.map import PLACE_RECORDER


@dataclass
class Salvaged:
    """What became of a dead daemon's rings: entries put into `paths`, records that were overwritten before."""

    entries: int = 0
    lost: int = 0
    paths: list[Path] = field(default_factory=list)

    def __str__(self) -> str:
        where = ", ".join(map(str, self.paths))
        text = f"{self.entries:,} records were still in its rings, and are in {where}" if self.entries else ""
        lost = f"{self.lost:,} records were overwritten before anybody read them" if self.lost else ""
        return "; ".join(part for part in (text, lost) if part)


def told(instance: str) -> str:
    """Salvage, and return what is to be said of it, '' where there was nothing: the memory goes in any case."""
    try:
        text = str(salvage(instance))
    except (HftdError, OSError, ValueError) as error:
        return f"what a dead {instance!r} left in shared memory cannot be put into its journal: {error}"
    return f"a dead {instance!r} left shared memory behind: {text}" if text else ""


def salvage(instance: str) -> Salvaged:
    """Put what a dead daemon's rings still hold into its journal. The caller is about to remove the instance's shared memory.

    Does nothing where a process of that daemon lives (who only looks at its memory is none), and where no journal was kept. Raises
    SegmentError where the memory is not whole or another version's, ConfigError, JournalError and OSError where the journal cannot
    be written.
    """
    found = Salvaged()
    config, memory = shared.attach(instance, stale_ok=True)
    if _living(instance, config, memory):
        return found
    epoch = int(memory["control"]["run"][0]["epoch"])
    if not config.recorder.journal or not epoch:
        return found
    directory = log_dir(config)
    left, _ = crashed.left_open(directory, instance)
    mine = [file for file in left if file.epoch == epoch]
    rows = np.concatenate([np.zeros(0, entry_dtype), *(file.rows for file in mine)])
    taken = [_taken(memory, at, name, code, rows, found) for at, (name, code) in enumerate(streams(config).items())]
    new = np.concatenate(taken)
    if mine and not mine[-1].missing and len(mine[-1].rows) == mine[-1].entries:
        new = new[_extend(mine[-1], new, found) :]
    while len(new):
        new = new[_further(config, memory, directory, epoch, new, found) :]
    return found


def _living(instance: str, config: Config, memory) -> bool:
    """Tell whether the supervisor or an agent lives: a number that another program has by now is none."""
    marks = memory["control"]["marks"]
    pids = {int(marks[shared.mark_of(role, index)]["pid"]) for role, index, _ in shared.agents(config)} - {0, os.getpid()}
    for pid in pids:
        with contextlib.suppress(OSError):
            if alive(pid) and Path(f"/proc/{pid}/comm").read_text().startswith("hftd"):
                return True
    return bool(segment.holder(segment.full_name(instance, "control")))


def _taken(memory, at: int, name: str, code: int, rows: np.ndarray, found: Salvaged) -> np.ndarray:
    """Return the entries (not numbered yet) of what a ring holds and no journal has."""
    one = memory[name]
    control, slots = one["control"][0], np.asarray(one["slots"]).view(np.ndarray)
    tap, place = memory["recorder"]["taps"][at].copy(), control["consumers"][PLACE_RECORDER].copy()
    tap["stream"] = code
    crashed.resume(tap, place, rows)
    begin, end = int(place["head"]), ring.written_up_to(one)
    numbers = np.arange(max(begin, int(control["reach"]) - len(slots)), end)
    there = slots[numbers & (len(slots) - 1)].copy()
    good = there["seq"] == numbers + 1
    found.lost += max(end - begin, 0) - int(np.count_nonzero(good))
    made = np.zeros(int(np.count_nonzero(good)), entry_dtype)
    made["stream"] = code
    made["record"] = np.ascontiguousarray(there[good]).view(np.uint8).reshape(-1, SLOT)
    return made


def _sealed(entries: np.ndarray, first: int) -> bytes:
    """Return entries as they lie in a file, numbered from `first`, with their checksums."""
    entries["number"] = np.arange(first, first + len(entries))
    raw = bytearray(entries.tobytes())
    for at in range(0, len(raw), ENTRY):
        raw[at : at + 4] = zlib.crc32(memoryview(raw)[at + 4 : at + ENTRY]).to_bytes(4, "little")
    return bytes(raw)


def _extend(file: crashed.Left, new: np.ndarray, found: Salvaged) -> int:
    """Append to a file that was left open what has room in it; return how many. First the entries, then their count."""
    handle = os.open(file.path, os.O_RDWR | os.O_NOFOLLOW)
    try:
        head = bytearray(os.pread(handle, HEADER, 0))
        header = np.frombuffer(head, journal_dtype, 1)[0]
        count = max(min(len(new), int(header["capacity"]) - file.entries), 0)
        if count:
            write_all(handle, _sealed(new[:count].copy(), file.entries), HEADER + file.entries * ENTRY)
            os.fsync(handle)
            header["entries"] = file.entries + count
            write_all(handle, bytes(head), 0)
            os.fsync(handle)
            found.entries += count
            found.paths.append(file.path)
    finally:
        os.close(handle)
    return count


def _further(config: Config, memory, directory: Path, epoch: int, new: np.ndarray, found: Salvaged) -> int:
    """Begin another file of the run with its instruments, append what has room, and return how many that were."""
    control, instruments = memory["control"], memory["market"]["instruments"]
    names = {code: name for name, code in streams(config).items()}
    symbols = np.flatnonzero(np.asarray(instruments["flags"]) & INSTRUMENT_ANNOUNCED)
    writer = Writer(directory, config.daemon.name, epoch, free_number(directory, config.daemon.name, epoch),
                    clocks.snapshot(control["clock"][0]), names, run=digest_of(directory, config.daemon.name, epoch))  # fmt: skip
    for at in symbols:
        writer.append(stream_code(Stream.SYMBOL), int(at), instruments[at : at + 1].tobytes())
    count = min(len(new), writer.capacity - writer.count)
    for row in new[:count]:
        writer.append(int(row["stream"]), 0, row["record"].tobytes())
    writer.flush()
    found.entries += count
    found.paths.append(writer.path)
    return count


def write_all(handle: int, data: bytes, at: int) -> None:
    """Write `data` at an offset, all of it. Raises OSError."""
    done = 0
    while done < len(data):
        done += os.pwrite(handle, data[done:], at + done)


assert SEQ_OFFSET + 8 == SLOT
