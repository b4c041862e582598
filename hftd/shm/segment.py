"""A segment of POSIX shared memory with named, line-aligned parts.

    byte 0   header (segment_dtype): magic, version, schema hash, size, owner pid, epoch
         4096   part 0 | part 1 | …   each an array of one record type, starting on a page where it is large, else on two lines

The schema hash is over the names, layouts and counts of all parts, so that a process of another version or another
configuration cannot attach. Names are `/hftd.<instance>.<segment>`, mode 0600. Whoever creates writes the header last; who
attaches checks all of it and raises SegmentError with what to do.
"""

import contextlib
import errno
import hashlib
import mmap
import os
from dataclasses import dataclass

import numpy as np
import posix_ipc

from hftd.core import placement
from hftd.core.jit import INTERPRETED
from hftd.core.layout import PAIR, layout
from hftd.core.memory import address, prefault
from hftd.core.twin import RecordArray
from hftd.errors import HftdError

MAGIC = 0x6D656D6474666800  # "\0hftdmem"
VERSION = 1
HEADER = 4096

segment_dtype = layout("segment", 64, [
    ("magic", "i8"),
    ("version", "i8"),
    ("schema", "i8"),                             # first 8 bytes of the SHA-256 of all parts' layouts
    ("size", "i8"),                               # bytes, header included
    ("owner_pid", "i8"),
    ("epoch", "i8"),                              # utc ns at creation
    ("uid", "i8"),
    ("pad0", "i8"),
])  # fmt: skip


class SegmentError(HftdError):
    """A segment is missing, stale, foreign or different."""


@dataclass(frozen=True)
class Part:
    """One array of records in a segment."""

    name: str
    dtype: np.dtype
    count: int


def schema_of(parts: list[Part]) -> int:
    """Return the hash that tells one set of parts from another."""
    text = "|".join(f"{part.name}:{part.count}:{part.dtype.itemsize}:{part.dtype!s}" for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little", signed=True)


def _offsets(parts: list[Part]) -> tuple[list[int], int]:
    at, starts = HEADER, []
    for part in parts:
        size = part.count * part.dtype.itemsize
        align = mmap.PAGESIZE if size >= mmap.PAGESIZE else PAIR
        at = -(-at // align) * align
        starts.append(at)
        at += size
    return starts, -(-at // mmap.PAGESIZE) * mmap.PAGESIZE


def size_of(parts: list[Part]) -> int:
    """Return the bytes a segment of these parts takes."""
    return _offsets(parts)[1]


class Segment:
    """An attached segment. `segment["name"]` is the array of that part; `address("name")` where it lies here."""

    def __init__(self, name: str, parts: list[Part], memory):
        self.name = name
        self.large = 0
        """Bytes of it on 2 MiB pages, as its maker saw them."""
        self.parts = {part.name: part for part in parts}
        self.memory = memory
        starts, self.size = _offsets(parts)
        self._start = dict(zip(self.parts, starts, strict=True))
        self.base = address(memory)

    def __getitem__(self, part: str) -> np.ndarray:
        wanted, start = self.parts[part], self._start[part]
        array = np.frombuffer(self.memory, dtype=wanted.dtype, count=wanted.count, offset=start)
        return array.view(RecordArray) if INTERPRETED else array

    def address(self, part: str) -> int:
        """Return where the part's first record lies in this process."""
        return self.base + self._start[part]

    def offset(self, part: str) -> int:
        """Return the part's offset in the segment."""
        return self._start[part]

    @property
    def header(self) -> np.ndarray:
        """The header record, as a view."""
        return np.frombuffer(self.memory, dtype=segment_dtype, count=1)


def full_name(instance: str, segment: str) -> str:
    """Return the POSIX name of a segment of an instance."""
    return f"/hftd.{instance}.{segment}"


def create(name: str, parts: list[Part], epoch: int, touch: bool = True, node: int = -1, must: bool = False,
           large: bool = False) -> Segment:  # fmt: skip
    """Create, size, map and (with `touch`) prefault a new segment. Raises SegmentError where the name is taken.

    node: the NUMA node its pages come from, -1: any; `must`: from no other. large: ask for 2 MiB pages.
    """
    size, got = size_of(parts), 0
    try:
        shared = posix_ipc.SharedMemory(name, posix_ipc.O_CREX, mode=0o600, size=size)
    except posix_ipc.ExistentialError:
        raise SegmentError(f"shared memory {name} exists already; is the daemon running? `hftd clean` shows it") from None
    except OSError as error:
        raise SegmentError(f"shared memory {name}: {error.strerror}; {size >> 20} MiB are needed in /dev/shm") from None
    try:
        memory = placement.map_shared(shared.fd, size)
        at = address(memory)
        if node >= 0:                             # the policy is the segment's: it comes before the first page
            placement.bind_node(at, size, node, must)
        if touch:
            room = os.fstatvfs(shared.fd)
            if room.f_blocks and room.f_bavail * room.f_frsize < size:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            got = placement.fill_large(at, size) if large else 0
            os.posix_fallocate(shared.fd, 0, size)
    except OSError as error:
        posix_ipc.unlink_shared_memory(name)
        raise SegmentError(f"shared memory {name}: {error.strerror}; {size >> 20} MiB are needed in /dev/shm") from None
    finally:
        shared.close_fd()
    if touch:
        prefault(memory)
    made = Segment(name, parts, memory)
    made.large = got
    header = made.header[0]
    header["version"], header["schema"], header["size"] = VERSION, schema_of(parts), size
    header["owner_pid"], header["epoch"], header["uid"] = os.getpid(), epoch, os.getuid()
    header["magic"] = MAGIC
    return made


def attach(name: str, parts: list[Part], read_only: bool = False, stale_ok: bool = False) -> Segment:
    """Map an existing segment. Raises SegmentError where it is missing, foreign, stale, of another version or other parts.

    Foreign: of another user (root may look, not write). Stale: its owner is dead; `stale_ok` is for looking at what a crash left.
    """
    try:
        shared = posix_ipc.SharedMemory(name, 0, read_only=read_only)
    except posix_ipc.ExistentialError:
        raise SegmentError(f"shared memory {name} does not exist; is the daemon running? try: hftd status") from None
    except posix_ipc.PermissionsError:
        raise SegmentError(f"shared memory {name} belongs to another user; run as the user that started the daemon") from None
    try:
        facts = os.fstat(shared.fd)
        size = facts.st_size
        if facts.st_uid != os.geteuid() and not (read_only and os.geteuid() == 0):
            raise SegmentError(f"shared memory {name} belongs to uid {facts.st_uid}; run as the user that started the daemon")
        if size < HEADER:
            raise SegmentError(f"shared memory {name} is not hftd's; `hftd clean` removes what a crash left behind")
        memory = mmap.mmap(shared.fd, size, prot=mmap.PROT_READ if read_only else mmap.PROT_READ | mmap.PROT_WRITE)
    finally:
        shared.close_fd()
    head = np.frombuffer(memory, dtype=segment_dtype, count=1)[0]
    if int(head["magic"]) != MAGIC:
        raise SegmentError(f"shared memory {name} is not hftd's; `hftd clean` removes what a crash left behind")
    if int(head["version"]) != VERSION or int(head["schema"]) != schema_of(parts) or int(head["size"]) != size_of(parts):
        raise SegmentError(f"shared memory {name} was made by another version or configuration; stop that daemon first")
    owner_pid = int(head["owner_pid"])
    if not stale_ok and not _exists(owner_pid):
        raise SegmentError(f"shared memory {name} is stale: its owner, pid {owner_pid}, is gone; `hftd clean` removes it")
    return Segment(name, parts, memory)


def _exists(pid: int) -> bool:
    """Tell whether a process lives (a zombie does not)."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def unlink(name: str) -> bool:
    """Remove a segment's name; True where it was there."""
    with contextlib.suppress(posix_ipc.ExistentialError):
        posix_ipc.unlink_shared_memory(name)
        return True
    return False


def users(name: str) -> list[int]:
    """Return the pids of the processes that have a segment mapped.

    The kernel shows no one the maps of a process with more capabilities than his own (a service's): a process of the segment's user
    that is called hftd counts, since what cannot be seen must not be taken away.
    """
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/maps") as maps:
                    if f"/dev/shm{name}\n" in maps.read():
                        found.append(int(entry))
            except PermissionError:
                if _may_hold(entry, name):
                    found.append(int(entry))
            except OSError:
                continue
    return found


def _may_hold(pid: str, name: str) -> bool:
    with contextlib.suppress(OSError):
        same_user = os.stat(f"/proc/{pid}").st_uid == os.stat(f"/dev/shm{name}").st_uid
        with open(f"/proc/{pid}/comm") as comm:
            return same_user and comm.read().startswith("hftd")
    return False


def owner(name: str) -> int:
    """Return the pid of the process that made a segment, 0 where it is gone. Raises SegmentError for another user's."""
    try:
        with open(f"/dev/shm{name}", "rb") as file:
            start = file.read(segment_dtype.itemsize)
    except FileNotFoundError:
        return 0
    except OSError:
        raise SegmentError(f"shared memory {name} belongs to another user; choose another daemon.name") from None
    if len(start) < segment_dtype.itemsize:
        return 0
    head = np.frombuffer(start, dtype=segment_dtype)[0]
    pid = int(head["owner_pid"]) if int(head["magic"]) == MAGIC else 0
    return pid if pid and _exists(pid) else 0


def holder(name: str) -> int:
    """Return the pid of the running daemon that made a segment, 0 where it is gone. Raises SegmentError for another user's."""
    pid = owner(name)
    with contextlib.suppress(OSError), open(f"/proc/{pid}/comm") as comm:
        return pid if pid and comm.read().startswith("hftd") else 0
    return 0


def held_by(name: str) -> list[int]:
    """Return the pids of the daemon's processes that have a segment mapped: its roles, and the supervisor; no tool that looks."""
    found = []
    for pid in users(name):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/comm") as comm:
            if pid != os.getpid() and comm.read().startswith("hftd"):
                found.append(pid)
    return found


def existing(instance: str | None = None) -> list[str]:
    """Return the names of hftd's segments on this machine, of one instance or of all."""
    prefix = f"hftd.{instance}." if instance else "hftd."
    try:
        return sorted(f"/{entry}" for entry in os.listdir("/dev/shm") if entry.startswith(prefix))
    except OSError:
        return []


def instances() -> list[str]:
    """Return the instances that have a control segment, those included whose daemon is gone."""
    return sorted({entry.split(".")[1] for entry in existing() if entry.endswith(".control")})
