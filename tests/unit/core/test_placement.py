"""What is asked of the kernel: each thing is granted and seen to be, or the reason for its refusal comes back."""

import errno
import mmap
import os
import resource
from pathlib import Path

import numpy as np
import posix_ipc
import pytest

from hftd.core import memory, placement
from hftd.core.placement import HUGE, Why
from tests.support.forked import forked


def smaps(address: int) -> dict[str, int]:
    """Return what the kernel says of the mapping that an address lies in: KiB by name."""
    found: dict[str, int] = {}
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        words = line.split()
        if "-" in words[0] and not words[0].endswith(":"):
            low, _, high = words[0].partition("-")
            inside = int(low, 16) <= address < int(high, 16)
        elif inside and len(words) > 2 and words[1].isdigit():
            found[words[0].rstrip(":")] = int(words[1])
    return found


def test_a_core_is_taken_or_the_reason_told():
    """The affinity is what was asked for; a core that is not there is EINVAL."""
    core = min(os.sched_getaffinity(0))

    assert forked(lambda: (placement.pin(core), os.sched_getaffinity(0) == {core})) == (0, True)
    assert forked(lambda: placement.pin(4000)) == errno.EINVAL


def test_a_scheduling_class_is_taken_or_the_reason_told():
    """A right to SCHED_FIFO shows; without it (no capability, no limit) it is EPERM and nothing changes."""
    def asked():
        return placement.schedule("fifo", 7), placement.scheduled()

    def powerless():
        resource.setrlimit(resource.RLIMIT_RTPRIO, (0, 0))
        if os.getuid() == 0:
            os.setuid(65534)
        return asked()

    why, got = forked(asked)
    assert (why, got) in ((0, os.SCHED_FIFO << 8 | 7), (errno.EPERM, 0))
    assert forked(powerless) == (errno.EPERM, 0)
    assert forked(lambda: (placement.schedule("other", 20), placement.scheduled())) == (0, 0)


@pytest.mark.parametrize(("runtime", "period", "lost"), [
    ("-1", "1000000", 0), ("950000", "1000000", 50), ("1000000", "1000000", 50), ("500000", "1000000", 500), ("", "", 0),
])  # fmt: skip
def test_throttling_costs_a_spinning_loop_at_least_50_ms_each_second(monkeypatch, tmp_path, runtime, period, lost):
    """Even with the whole period allowed the kernel throttles a loop that never sleeps; only -1 does not."""
    for name, text in (("RT_RUNTIME", runtime), ("RT_PERIOD", period)):
        (tmp_path / name).write_text(text)
        monkeypatch.setattr(placement, name, tmp_path / name)
    assert placement.lost_to_throttling() == lost
    assert placement.real_time_refused(spin=True, spare=True) == (Why.THROTTLED if lost else 0)
    assert placement.real_time_refused(spin=True, spare=False) == (Why.THROTTLED if lost else Why.NO_SPARE_CORE)
    assert placement.real_time_refused(spin=False, spare=False) == 0


def test_timer_slack_is_what_was_asked_for():
    """The kernel's own word for it, not ours."""
    assert forked(lambda: placement.timer_slack(1234)) == (0, 1234)


def test_latency_device_is_held_open_or_the_reason_told(monkeypatch, tmp_path):
    """What is written is 0 us in four bytes; a device that is not there is ENOENT."""
    device = tmp_path / "cpu_dma_latency"
    monkeypatch.setattr(placement, "LATENCY_DEVICE", device)
    assert placement.hold_latency() == (errno.ENOENT, -1)
    device.write_bytes(b"")
    why, handle = placement.hold_latency()
    assert why == 0 and device.read_bytes() == bytes(4)
    os.close(handle)


def test_memory_comes_from_the_node_that_was_asked_for():
    """Of a process and of a range, as the kernel says where the page is; a node that is not there is told."""
    node = min(placement.nodes())

    def bound():
        why = placement.prefer_node(node, must=True)
        made = memory.block(1 << 16)
        return why, placement.node_at(memory.address(made))

    why, got = forked(bound)
    assert (why, got) == (0, node) or why in (errno.EPERM, errno.ENOSYS)
    made = mmap.mmap(-1, 1 << 16)
    if placement.bind_node(memory.address(made), 1 << 16, node, must=True) == 0:
        memory.prefault(made)
        assert placement.node_at(memory.address(made)) == node
    assert placement.prefer_node(1000, must=True) == Why.NO_NODE
    assert placement.bind_node(memory.address(made), 1 << 16, 1000, must=False) == Why.NO_NODE


def test_populated_memory_meets_no_page_fault():
    """Writing to every page afterwards costs none; the content is what it was."""
    made = mmap.mmap(-1, 4 << 20)
    made[:5] = b"hello"
    at = memory.address(made)
    if placement.populate(at, len(made)):
        pytest.skip("this kernel does not populate on request")
    view = np.frombuffer(made, np.uint8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    view[:: mmap.PAGESIZE] |= 0
    after = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    assert made[:5] == b"hello"
    assert after - before < 64, "a fault for each of 1,024 pages was to be avoided"


def test_block_on_large_pages_tells_what_it_got():
    """As many bytes on 2 MiB pages as the kernel counts there, and none where none were asked for."""
    memory.blocks.clear()
    large = memory.block(3 * HUGE + 5000, huge=True, name="large", count=7)
    memory.set_pages("none")
    try:
        small = memory.block(2 * HUGE, huge=True, name="small")
    finally:
        memory.set_pages("advise")
    told, plain = memory.blocks
    memory.blocks.clear()
    assert (told.name, told.address, told.bytes, told.count) == ("large", memory.address(large), len(large), 7)
    assert told.large == 0 or smaps(told.address)["AnonHugePages"] * 1024 >= told.large
    assert bool(told.large) == bool(told.pages)
    assert (plain.large, plain.pages) == (0, 0) and smaps(memory.address(small))["AnonHugePages"] == 0


def test_reserved_pages_are_used_or_others_are_and_it_is_told():
    """Where too few are reserved, the block still is there, on pages of another kind."""
    memory.blocks.clear()
    memory.set_pages("reserved")
    try:
        made = memory.block(HUGE + 1, huge=True, name="store")
    finally:
        memory.set_pages("advise")
    told = memory.blocks.pop()
    made[HUGE] = 1
    if told.pages == 2:
        assert told.large == len(made) == 2 * HUGE and smaps(told.address)["KernelPageSize"] == 2048
    else:
        assert placement.reserved(HUGE + 1) is None


def test_shared_memory_is_mapped_where_large_pages_can_begin(tmp_path):
    """Aligned; as large as asked; the same memory as the file; gone with its last array."""
    name = f"/hftd-test-{os.getpid()}-map"
    size = 2 * HUGE + mmap.PAGESIZE
    shared = posix_ipc.SharedMemory(name, posix_ipc.O_CREX, size=size, mode=0o600)
    try:
        content = placement.map_shared(shared.fd, size)
        view = np.frombuffer(content, np.uint8)
        at = view.ctypes.data
        assert at % HUGE == 0 and len(view) == size
        got = placement.fill_large(at, size)
        assert got in (0, HUGE, 2 * HUGE)
        assert smaps(at)["ShmemPmdMapped"] * 1024 >= got
        view[-1], view[HUGE] = 7, 9
        with mmap.mmap(shared.fd, size) as other:
            assert (other[size - 1], other[HUGE]) == (7, 9)
        half = view[:HUGE]
        del content, view
        assert half[0] == 0 and smaps(at)
        del half
        assert not smaps(at)
    finally:
        shared.close_fd()
        posix_ipc.unlink_shared_memory(name)
