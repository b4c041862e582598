"""What a process asks of the kernel: a core, a scheduling class, memory that is near, large, present and locked, prompt timers.

Each function asks for one thing and returns why it was refused: 0 where it was not, else an errno (above 0) or a `Why` (below 0).
Nothing raises: the caller decides whether a refusal ends the start (control/placing.py), and writes it down (shm/placed.py).
Words for reasons are control/placing.py's, since this module is part of every kernel's digest.
All of it is cold, goes through the C library by ctypes, and needs no package.

Turned down: libnuma (a library for three system calls), `taskset`, `chrt` and `numactl` around the daemon (they place all roles
alike, and nobody learns what was refused).
"""

import ctypes
import errno
import mmap
import os
import weakref
from enum import IntEnum
from pathlib import Path

MCL_CURRENT, MCL_FUTURE = 1, 2
PR_SET_TIMERSLACK, PR_GET_TIMERSLACK = 29, 30
SYS_MBIND, SYS_SET_MEMPOLICY, SYS_GET_MEMPOLICY = 237, 238, 239
MPOL_PREFERRED, MPOL_BIND = 1, 2
MPOL_F_NODE, MPOL_F_ADDR = 1, 2
MPOL_MF_MOVE = 2
MADV_HUGEPAGE, MADV_POPULATE_WRITE, MADV_COLLAPSE = 14, 23, 25
NODES_MAX = 1024
MAP_FIXED = 0x10
FAILED = ctypes.c_void_p(-1).value
HUGE = 2 << 20
"""Bytes of a large page."""

RT_RUNTIME = Path("/proc/sys/kernel/sched_rt_runtime_us")
RT_PERIOD = Path("/proc/sys/kernel/sched_rt_period_us")
LATENCY_DEVICE = Path("/dev/cpu_dma_latency")
NODES = Path("/sys/devices/system/node")

POLICIES = {"other": os.SCHED_OTHER, "fifo": os.SCHED_FIFO, "rr": os.SCHED_RR}
PAGES = ("none", "advise", "reserved")
"""Kinds of pages: 4 KiB; 2 MiB where the kernel grants them on request (THP); 2 MiB out of those reserved (hugetlb)."""


class Item(IntEnum):
    """What can be asked for; also its place in a role's record."""

    CORE = 0
    POLICY = 1  # asked, got: policy << 8 | priority
    NODE = 2
    PAGES = 3  # asked, got: index into PAGES
    LOCK = 4
    PREFAULT = 5  # got: bytes of shared memory made present
    SLACK = 6  # ns
    LATENCY = 7  # the supervisor's: /dev/cpu_dma_latency, us


class Why(IntEnum):
    """Reasons for a refusal that are no errno."""

    THROTTLED = -1  # SCHED_FIFO on a loop that spins, with real-time throttling on
    NO_SPARE_CORE = -2  # SCHED_FIFO on a loop that spins, and no core left for anybody else
    NO_NODE = -3
    FEW_PAGES = -4  # not enough reserved pages: others were used
    NOT_ALL_LARGE = -5  # the kernel found no large pages for a part


_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


# ---------------------------------------------------------------- cores and time


def pin(core: int) -> int:
    """Run on one core only."""
    try:
        os.sched_setaffinity(0, {core})
    except OSError as error:
        return error.errno or errno.EINVAL
    return 0


def lost_to_throttling() -> int:
    """Return the ms of each second that the kernel takes from a spinning real-time loop; 0 where throttling is off.

    The kernel throttles a loop that spins for the whole period even where the share is 100 % (as measured): at least 50 ms.
    """
    try:
        runtime, period = int(RT_RUNTIME.read_text()), int(RT_PERIOD.read_text())
    except (OSError, ValueError):
        return 0
    return 0 if runtime < 0 else max((period - runtime) * 1000 // max(period, 1), 50)


def real_time_refused(spin: bool, spare: bool) -> int:
    """Return why SCHED_FIFO (or RR) must not be given to a role. spare: a core is left for everything else."""
    if not spin:
        return 0
    if lost_to_throttling():
        return Why.THROTTLED
    return 0 if spare else Why.NO_SPARE_CORE


def schedule(policy: str, priority: int) -> int:
    """Take a scheduling class. Done last, when there is nothing left to set up."""
    try:
        os.sched_setscheduler(0, POLICIES[policy], os.sched_param(priority if policy != "other" else 0))
    except OSError as error:
        return error.errno or errno.EPERM
    return 0


def scheduled() -> int:
    """Return this process's policy << 8 | priority."""
    return os.sched_getscheduler(0) << 8 | os.sched_getparam(0).sched_priority


def timer_slack(ns: int) -> tuple[int, int]:
    """Let this process's sleeps end at most `ns` late on the kernel's account (50 us by default); return (why, ns as they are)."""
    why = ctypes.get_errno() if _libc.prctl(PR_SET_TIMERSLACK, ctypes.c_ulong(ns), 0, 0, 0) else 0
    return why, _libc.prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0)


def hold_latency(us: int = 0) -> tuple[int, int]:
    """Ask that no core falls into a sleep it leaves later than after `us`; return (why, descriptor that must stay open)."""
    try:
        handle = os.open(LATENCY_DEVICE, os.O_WRONLY | os.O_CLOEXEC)
    except OSError as error:
        return error.errno or errno.ENOENT, -1
    try:
        os.write(handle, us.to_bytes(4, "little", signed=True))
    except OSError as error:
        os.close(handle)
        return error.errno or errno.EIO, -1
    return 0, handle


# ---------------------------------------------------------------- memory


def lock_all() -> int:
    """Keep every page of this process in memory, those to come included."""
    return ctypes.get_errno() if _libc.mlockall(MCL_CURRENT | MCL_FUTURE) else 0


def nodes() -> dict[int, set[int]]:
    """Return the cores of each NUMA node; node 0 with none where the kernel does not say."""
    found: dict[int, set[int]] = {}
    try:
        for path in NODES.glob("node[0-9]*"):
            found[int(path.name[4:])] = _cores((path / "cpulist").read_text())
    except OSError:
        pass
    return found or {0: set()}


def _cores(text: str) -> set[int]:
    made: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        low, _, high = part.partition("-")
        made.update(range(int(low), int(high or low) + 1))
    return made


def node_of(core: int) -> int:
    """Return the NUMA node of a core, 0 where it is not known."""
    return next((node for node, cores in nodes().items() if core in cores), 0)


def _mask(node: int):
    words_of = (ctypes.c_ulong * (NODES_MAX // 64))()
    words_of[node // 64] = 1 << node % 64
    return words_of


def prefer_node(node: int, must: bool) -> int:
    """Take this process's memory, from now on, from one node; with `must` from no other."""
    if node not in nodes():
        return Why.NO_NODE
    policy = MPOL_BIND if must else MPOL_PREFERRED
    return ctypes.get_errno() if _libc.syscall(SYS_SET_MEMPOLICY, policy, _mask(node), NODES_MAX) else 0


def bind_node(address: int, size: int, node: int, must: bool) -> int:
    """Take the pages of a range from one node, those that are there already included; of shared memory, for every process."""
    if node not in nodes():
        return Why.NO_NODE
    policy = MPOL_BIND if must else MPOL_PREFERRED
    made = _libc.syscall(SYS_MBIND, ctypes.c_void_p(address), ctypes.c_ulong(size), policy, _mask(node), NODES_MAX, MPOL_MF_MOVE)
    return ctypes.get_errno() if made else 0


def node_at(address: int) -> int:
    """Return the node that the page at an address lies on, -1 where the kernel does not say."""
    found = ctypes.c_int(-1)
    place = ctypes.c_void_p(address)
    if _libc.syscall(SYS_GET_MEMPOLICY, ctypes.byref(found), None, 0, place, MPOL_F_NODE | MPOL_F_ADDR):
        return -1
    return found.value


def populate(address: int, size: int) -> int:
    """Have every page of a range present and mapped here, so that no loop meets a page fault; its content is untouched."""
    start = address & -mmap.PAGESIZE
    return ctypes.get_errno() if _libc.madvise(start, address + size - start, MADV_POPULATE_WRITE) else 0


def advise_large(address: int, size: int) -> None:
    """Ask for 2 MiB pages before a range is touched. What comes of it, `collapse` tells."""
    _libc.madvise(address, size, MADV_HUGEPAGE)


def collapse(address: int, size: int) -> int:
    """Turn what is touched of a range into 2 MiB pages, and return the bytes that lie on such pages afterwards.

    Only whole, aligned 2 MiB can; the kernel says for each whether it did.
    """
    first = -(-address // HUGE) * HUGE
    return sum(HUGE for at in range(first, address + size - HUGE + 1, HUGE) if not _libc.madvise(at, HUGE, MADV_COLLAPSE))


def fill_large(address: int, size: int) -> int:
    """Fill a new range of shared memory with 2 MiB pages, whatever the mount says; return the bytes that lie on such pages.

    One page of each 2 MiB is touched, and the rest made around it: a tenth of the time that touching all of them takes.
    """
    for at in range(-(-address // HUGE) * HUGE, address + size - HUGE + 1, HUGE):
        ctypes.c_ubyte.from_address(at).value = 0
    return collapse(address, size)


def map_shared(fd: int, size: int):
    """Map a file of `size` bytes, shared, where large pages can begin; return its bytes. Raises OSError.

    The mapping ends with the last array over the bytes.
    """
    room = _libc.mmap(None, size + HUGE, 0, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
    if room == FAILED:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    start = -(-room // HUGE) * HUGE
    end = start + -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
    made = _libc.mmap(start, size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED | MAP_FIXED, fd, 0)
    if made == FAILED:
        code = ctypes.get_errno()
        _libc.munmap(room, size + HUGE)
        raise OSError(code, os.strerror(code))
    top = -(-(room + size + HUGE) // mmap.PAGESIZE) * mmap.PAGESIZE
    if start > room:
        _libc.munmap(room, start - room)
    if top > end:
        _libc.munmap(end, top - end)
    content = (ctypes.c_ubyte * size).from_address(start)
    weakref.finalize(content, _libc.munmap, start, end - start).atexit = False
    return content


def reserved(size: int) -> mmap.mmap | None:
    """Return private memory on reserved 2 MiB pages, None where too few are free."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40000 | 21 << 26  # MAP_HUGETLB, of 2 MiB
    try:
        return mmap.mmap(-1, -(-size // HUGE) * HUGE, flags=flags)
    except OSError:
        return None
