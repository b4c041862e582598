"""Placing a role: what is asked, in order; what came of it, in shared memory and in words; what a refusal does."""

import dataclasses
import errno
import os
import resource

import numpy as np
import pytest

from hftd.control import placing
from hftd.control.config import ConfigError, build, role_placement
from hftd.control.placing import PlacementError, Placing, asked, in_words, shown, since_warm, words
from hftd.core import memory, placement
from hftd.core.placement import HUGE, Item, Why
from hftd.msg.enums import LogCode
from hftd.shm import segment
from hftd.shm.placed import HELD_ROWS, AskState, held_dtype, note_warm, placed_dtype
from tests.support.forked import forked

CORE = min(os.sched_getaffinity(0))


def config(strict: bool = True, lock: bool = False, **keys):
    made = build({"daemon": {"lock_memory": lock}, "placement": {"strict": strict, **keys}}, "c.toml")
    assert dataclasses.is_dataclass(made)
    return made


def rows(count: int = 1) -> np.ndarray:
    return np.zeros(count, placed_dtype)


def granted(row) -> dict[str, str]:
    return {one["item"]: f"{one['state']} {one['got']}" for one in asked(row)}


class Told:
    """An agent that keeps its log records."""

    def __init__(self):
        self.lines: list[tuple] = []

    def log(self, code, *values):
        self.lines.append((code, values))


def test_what_is_asked_for_is_had_and_written_down():
    """Core, timer slack, pages, present memory, node: each OBTAINED, for every agent of the process, and logged."""
    def work():
        made, held = rows(2), np.zeros(HELD_ROWS, held_dtype)
        one = Placing(config(timer_slack_ns=2000), "feed", list(made), CORE, spin=True, spare=True)
        one.before()
        store = memory.block(2 * HUGE + 4096, huge=True, name="store", count=9)
        one.after([], held)
        agent = Told()
        one.log(agent)
        store[0] = 1
        return (granted(made[0]) == granted(made[1]), granted(made[0]), held[0]["name"].decode(), int(held[0]["count"]),
                [int(code) for code, _ in agent.lines], os.sched_getaffinity(0) == {CORE})  # fmt: skip

    same, got, name, count, codes, pinned = forked(work)
    assert same and pinned and (name, count) == ("store", 9)
    assert got["core"] == f"OBTAINED {CORE}" and got["slack"] == "OBTAINED 2000 ns" and got["prefault"].startswith("OBTAINED")
    assert got["pages"].split()[0] in ("OBTAINED", "PARTLY")
    assert got["node"].split()[0] in ("OBTAINED", "PARTLY"), "asked for with the core"
    assert set(codes) <= {int(LogCode.PLACED), int(LogCode.NOT_PLACED)} and len(codes) == len(got)


def powerless():
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))
    resource.setrlimit(resource.RLIMIT_RTPRIO, (0, 0))
    if os.getuid() == 0:
        os.setuid(65534)


def test_a_refusal_ends_the_start_and_says_what_mends_it():
    """With placement.strict, which is the default: file, key, what was asked, why, remedy."""
    def work():
        powerless()
        try:
            Placing(config(lock=True), "risk", list(rows()), None, spin=True, spare=True).before()
        except PlacementError as error:
            return str(error)
        return ""

    assert forked(work) == (
        "c.toml: daemon.lock_memory: refused to risk: Operation not permitted: "
        "raise the limit (LimitMEMLOCK=infinity, ulimit -l) or grant CAP_IPC_LOCK"
    )


def test_without_strict_a_refusal_is_shown_and_the_role_runs():
    """Each thing that was refused, with its reason; what was not, as before."""
    def work():
        powerless()
        made, held = rows(), np.zeros(HELD_ROWS, held_dtype)
        placement.lost_to_throttling = lambda: 0
        one = Placing(config(strict=False, lock=True, policy="fifo"), "risk", list(made), 4000, spin=True, spare=True)
        one.before()
        one.after([], held)
        return [(row["item"], row["state"], row["why"]) for row in asked(made[0])]

    found = {item: (state, why) for item, state, why in forked(work)}
    assert found["core"][0] == "REFUSED" and "choose another" in found["core"][1]
    assert found["lock"][0] == "REFUSED" and "CAP_IPC_LOCK" in found["lock"][1]
    assert found["policy"][0] == "REFUSED" and "CAP_SYS_NICE" in found["policy"][1]
    assert found["slack"] == ("OBTAINED", "")


def test_real_time_class_is_given_where_it_does_no_harm():
    """As the kernel has it afterwards; and not at all to a role that parks."""
    def work(spin):
        made, held = rows(), np.zeros(HELD_ROWS, held_dtype)
        placement.lost_to_throttling = lambda: 0
        one = Placing(config(strict=False, policy="fifo", priority=3), "feed", list(made), None, spin=spin, spare=True)
        one.before()
        one.after([], held)
        return granted(made[0]).get("policy", ""), placement.scheduled() >> 8

    got, policy = forked(lambda: work(True))
    assert (got, policy) == ("OBTAINED fifo 3", os.SCHED_FIFO) or got.startswith("REFUSED")
    assert forked(lambda: work(False)) == ("", 0)


def test_throttling_refuses_a_spinning_role_even_without_strict():
    """It runs, in the ordinary class, and what it lacks is told."""
    def work():
        made, held = rows(), np.zeros(HELD_ROWS, held_dtype)
        placement.lost_to_throttling = lambda: 50
        one = Placing(config(strict=False, policy="rr"), "feed", list(made), None, spin=True, spare=True)
        one.before()
        one.after([], held)
        return [row for row in asked(made[0]) if row["item"] == "policy"], placement.scheduled()

    (row,), scheduled = forked(work)
    assert scheduled == 0 and (row["state"], row["asked"], row["got"]) == ("REFUSED", "rr 20", "other")
    assert "sched_rt_runtime_us=-1" in row["why"]


def test_reserved_pages_that_are_not_there_are_told(monkeypatch):
    """The block is there all the same."""
    def work():
        placement.reserved = lambda size: None
        made, held = rows(), np.zeros(HELD_ROWS, held_dtype)
        one = Placing(config(strict=False, huge_pages="reserved"), "feed", list(made), None, spin=False, spare=True)
        one.before()
        memory.block(2 * HUGE, huge=True, name="store")
        one.after([], held)
        return [(row["state"], row["asked"], row["why"]) for row in asked(made[0]) if row["item"] == "pages"], int(held[0]["bytes"])

    ((state, wish, why),), size = forked(work)
    assert (state, wish, size) == ("REFUSED", "2 MiB (reserved)", 2 * HUGE) and "vm.nr_hugepages" in why


@pytest.mark.parametrize("why", [0, errno.EINVAL, errno.ENOMEM])
def test_shared_memory_is_present_when_a_role_is_ready(why):
    """By the kernel, or, where it cannot be asked, by reading; want of memory is refused."""
    def work():
        segment.unlink(name)
        made = segment.create(name, [segment.Part("a", np.dtype("i8"), 1 << 18)], 1)
        try:
            if why:
                placement.populate = lambda address, size: why
            row = rows()
            one = Placing(config(strict=False), "feed", list(row), None, spin=False, spare=True)
            one.before()
            one.after([made], np.zeros(HELD_ROWS, held_dtype))
            return granted(row[0])["prefault"]
        finally:
            segment.unlink(name)

    name = f"/hftd-test-{os.getpid()}-present"
    assert forked(work) == ("REFUSED no" if why == errno.ENOMEM else "OBTAINED 2.0 MiB")


def test_node_that_is_not_there_is_refused():
    """With its key; memory would have come from wherever."""
    def work():
        made, held = rows(), np.zeros(HELD_ROWS, held_dtype)
        one = Placing(config(node=999), "feed", list(made), None, spin=False, spare=True)
        one.before()
        try:
            one.after([], held)
        except PlacementError as error:
            return str(error)
        return ""

    assert forked(work).startswith("c.toml: placement.node: 999 refused to feed: no node: this host has no such NUMA node")


def test_latency_is_held_by_the_supervisor_or_refused(monkeypatch, tmp_path):
    """Open while the descriptor is; with strict the start ends."""
    device = tmp_path / "cpu_dma_latency"
    monkeypatch.setattr(placement, "LATENCY_DEVICE", device)
    made = rows()
    assert placing.hold_latency(config(), made[0]) == -1 and granted(made[0]) == {}
    with pytest.raises(PlacementError, match=r"placement\.cpu_dma_latency: .*No such file"):
        placing.hold_latency(config(cpu_dma_latency=True), made[0])
    assert placing.hold_latency(config(strict=False, cpu_dma_latency=True), made[0]) == -1
    assert granted(made[0])["latency"].startswith("REFUSED")
    device.write_bytes(b"")
    handle = placing.hold_latency(config(cpu_dma_latency=True), made[0])
    assert granted(made[0]) == {"latency": "OBTAINED 0 us"}
    os.close(handle)


def test_counters_since_warm_up_are_the_kernels():
    """Nothing before the end of warm-up; then faults and switches of that process, and only of that one."""
    made = rows()
    row = made[0]
    assert since_warm(row, os.getpid()) is None
    note_warm(row)
    before = since_warm(row, os.getpid())
    assert before is not None and before["threads"] >= 1 and 0 <= before["minor"] < 1000
    fresh = np.ones(4 << 20, np.uint8)
    after = since_warm(row, os.getpid())
    assert after is not None and after["minor"] >= before["minor"] and len(fresh)
    assert since_warm(row, os.getpid() + 1) is None


def test_words_of_every_refusal_say_what_mends_it():
    """Each remedy is one line; a reason without one is the kernel's own word."""
    for item, why in placing.REMEDY:
        assert "\n" not in words(item, int(why)) and len(words(item, int(why))) > 40
    assert words(Item.SLACK, errno.EINVAL) == "Invalid argument" and words(Item.SLACK, 0) == ""
    assert words(Item.POLICY, int(Why.NO_SPARE_CORE)).startswith("no spare core: ")
    assert in_words(int(Item.POLICY), os.SCHED_FIFO << 8 | 9, 0, errno.EPERM)["asked"] == "fifo 9"
    assert "why" not in in_words(int(Item.SLACK), 1000, 1000, 0)
    assert [shown(Item.LOCK, value) for value in (0, 1)] == ["no", "yes"]
    assert AskState.NOT_ASKED == 0


def test_a_role_has_its_own_keys_then_those_of_all_strategies_then_everybodys():
    """The nearest wins, key by key."""
    made = build({
        "strategy": [{"file": "a.py"}, {"file": "b.py"}],
        "placement": {"policy": "fifo", "priority": 9, "role": {
            "strategy": {"priority": 5, "node": 0}, "strategy.b": {"core": 3, "node": 1}, "recorder": {"policy": "other"}}},
    }, "c.toml")  # fmt: skip
    wished = {name: dataclasses.astuple(role_placement(made, name)) for name in ("feed", "strategy.a", "strategy.b", "recorder")}
    assert wished == {
        "feed": (-1, "fifo", 9, -1, "advise"),
        "strategy.a": (-1, "fifo", 5, 0, "advise"),
        "strategy.b": (3, "fifo", 5, 1, "advise"),
        "recorder": (-1, "other", 9, -1, "advise"),
    }


@pytest.mark.parametrize(("role", "words_of"), [
    ({"feeed": {}}, "placement.role.feeed: no such role; did you mean feed?"),
    ({"feed": 3}, "placement.role.feed: must be a table of keys, was 3"),
    ({"feed": {"cores": 3}}, "placement.role.feed.cores: unknown key; did you mean core?"),
    ({"feed": {"core": "3"}}, "placement.role.feed.core: must be an integer, was '3'"),
    ({"feed": {"policy": "batch"}}, "placement.role.feed.policy: must be one of other, fifo, rr, was 'batch'"),
    ({"feed": {"priority": 99}}, "placement.role.feed.priority: must be 1 to 98, was 99"),
])  # fmt: skip
def test_mistakes_of_a_role_are_named(role, words_of):
    """File, key, value, what would be right."""
    with pytest.raises(ConfigError) as raised:
        build({"placement": {"role": role}}, "c.toml")
    assert str(raised.value) == f"c.toml: {words_of}"
