"""Placing a role: what the configuration asks of the kernel, asked in the right order, and what came of it, in words for people.

    in the child, before its agents are made    core, NUMA node, locked memory, timer slack, kind of pages
    after they have opened what they own        shared memory mapped, pages and node as obtained, scheduling class; then the log

What came of each goes into the role's record in shared memory (shm/placed.py) and, by a log record, into the log. A refusal ends
the start where `placement.strict` says so; else the role runs without, and `hftd status --all` shows what it lacks and why.
"""

import errno
import mmap
import os
from typing import Any

import numpy as np

from hftd.control.config import Config, role_placement
from hftd.core import memory as private
from hftd.core import placement
from hftd.core.placement import HUGE, PAGES, POLICIES, Item, Why, lost_to_throttling
from hftd.errors import WRONG, HftdError
from hftd.msg.enums import LogCode
from hftd.shm.placed import HELD_ROWS, AskState, hold, note

POLICY_KEY = "placement.policy"
KEYS = {
    Item.CORE: "daemon.cores", Item.POLICY: POLICY_KEY, Item.NODE: "placement.node", Item.PAGES: "placement.huge_pages",
    Item.LOCK: "daemon.lock_memory", Item.PREFAULT: "placement.prefault", Item.SLACK: "placement.timer_slack_ns",
    Item.LATENCY: "placement.cpu_dma_latency",
}  # fmt: skip
"""The key that asks for each item."""

REMEDY = {
    (Item.CORE, errno.EINVAL): "the core is not one of those this process may use (cpuset, taskset, CPUAffinity=): choose another",
    (Item.POLICY, Why.THROTTLED): "real-time throttling would take a spinning loop off its core for {lost} ms each second: "
                                  "sysctl kernel.sched_rt_runtime_us=-1, or placement.policy = \"other\"",
    (Item.POLICY, Why.NO_SPARE_CORE): "no core would be left for supervisor, recorder and kernel: a host with more cores, or "
                                      "placement.policy = \"other\"",
    (Item.POLICY, errno.EPERM): "grant CAP_SYS_NICE, or LimitRTPRIO= (ulimit -r) of at least the priority; in a cpu control group "
                                "also cpu.rt_runtime_us",
    (Item.NODE, Why.NO_NODE): "this host has no such NUMA node; `hftd check` shows those it has",
    (Item.NODE, errno.EPERM): "a container's filter forbids it: allow mbind and set_mempolicy (CAP_SYS_NICE)",
    (Item.PAGES, Why.FEW_PAGES): "too few reserved pages were free: sysctl vm.nr_hugepages=N, `hftd check` says how many",
    (Item.PAGES, Why.NOT_ALL_LARGE): "the kernel had no large pages for a part: echo madvise > "
                                     "/sys/kernel/mm/transparent_hugepage/enabled, echo 1 > /proc/sys/vm/compact_memory",
    (Item.LOCK, errno.EPERM): "raise the limit (LimitMEMLOCK=infinity, ulimit -l) or grant CAP_IPC_LOCK",
    (Item.LOCK, errno.ENOMEM): "raise the limit (LimitMEMLOCK=infinity, ulimit -l) or grant CAP_IPC_LOCK",
    (Item.LATENCY, errno.ENOENT): "the kernel has no power management that could be held back: remove the key",
    (Item.LATENCY, errno.EACCES): "give the daemon's user the device: DeviceAllow=/dev/cpu_dma_latency rw, and its group in a udev "
                                  "rule",
    (Item.LATENCY, errno.EPERM): "give the daemon's user the device: DeviceAllow=/dev/cpu_dma_latency rw",
}  # fmt: skip
"""What mends a refusal."""


class PlacementError(HftdError):
    """Something that was asked for cannot be had, and what mends it: the host, or the configuration."""

    exit_code = WRONG


def words(item: int, why: int) -> str:
    """Say why something was refused, and what mends it; '' for 0."""
    if not why:
        return ""
    reason = os.strerror(why) if why > 0 else Why(why).name.lower().replace("_", " ")
    remedy = REMEDY.get((Item(item), why), "")
    return f"{reason}: {remedy.format(lost=lost_to_throttling() or 50)}" if remedy else reason


def shown(item: int, value: int) -> str:
    """Return what was asked for, or got, as people say it."""
    if item == Item.POLICY:
        name = next((name for name, number in POLICIES.items() if number == value >> 8), str(value >> 8))
        return f"{name} {value & 255}" if value & 255 else name
    if item == Item.PAGES:
        return {"none": "4 KiB", "advise": "2 MiB (advised)", "reserved": "2 MiB (reserved)"}[PAGES[value]]
    if item in (Item.LOCK, Item.PREFAULT):
        return f"{value / (1 << 20):,.1f} MiB" if value > 1 else ("no", "yes")[value]
    return {Item.SLACK: f"{value} ns", Item.LATENCY: f"{value} us"}.get(Item(item), str(value))


def in_words(item: int, asked: int, got: int, why: int) -> dict[str, Any]:
    """Return the integers of a log record of placement as what they mean."""
    known = Item(item)
    made = {"item": known.name.lower(), "asked": shown(known, asked), "got": shown(known, got)}
    return {**made, "why": words(known, why)} if why else made


class Placing:
    """One process's placing. rows: its agents' records (placed_dtype), all told the same."""

    def __init__(self, config: Config, name: str, rows: list[np.void], core: int | None, spin: bool, spare: bool):
        self.config, self.name, self.rows, self.core = config, name, rows, core
        self.spin, self.spare = spin, spare
        self.wish = role_placement(config, name)
        self.node_why = 0
        self.told: list[tuple[Item, int, int, int]] = []

    def note(self, item: Item, asked: int, got: int, why: int = 0, partly: bool = False) -> None:
        """Write down what came of one thing. Raises PlacementError where it was refused and must not be."""
        for row in self.rows:
            note(row, item, asked, got, why, partly)
        self.told.append((item, asked, got, why))
        if why and not partly and self.config.placement.strict:
            what = f"{shown(item, asked)} refused to {self.name}" if item != Item.LOCK else f"refused to {self.name}"
            raise PlacementError(f"{self.config.path}: {KEYS[item]}: {what}: {words(item, why)}")

    def before(self) -> None:
        """Ask for what must come before a role's memory is made."""
        for row in self.rows:
            row["asks"]["state"] = int(AskState.NOT_ASKED)
            row["warm_utc_ns"] = 0
        private.blocks.clear()
        keys, wish = self.config.placement, self.wish
        if self.core is not None:
            why = placement.pin(self.core)
            self.note(Item.CORE, self.core, -1 if why else self.core, why)
        node = home(self.config, self.name, self.core)
        if node >= 0:
            self.node_why = placement.prefer_node(node, wish.node >= 0)
        private.set_pages(wish.huge_pages)
        if self.config.daemon.lock_memory:
            why = placement.lock_all()
            self.note(Item.LOCK, 1, int(not why), why)
        if keys.timer_slack_ns:
            why, got = placement.timer_slack(keys.timer_slack_ns)
            self.note(Item.SLACK, keys.timer_slack_ns, got, why)

    def set_aside(self, name: str) -> None:
        """Tell the private blocks made so far as one, called `name`: what a rehearsal plays on."""
        made = list(private.blocks)
        private.blocks.clear()
        if made:
            size, large = sum(one.bytes for one in made), sum(one.large for one in made)
            private.blocks.append(private.Block(name, made[0].address, size, 0, large, min(one.pages for one in made), False))

    def forget(self, name: str) -> None:
        """Take a block that was given back from the map."""
        private.blocks[:] = [one for one in private.blocks if one.name != name]

    def after(self, segments: list[Any], held: np.ndarray) -> None:
        """Ask for the rest. segments: those the role uses; held: the rows that tell its private memory."""
        wish = self.wish
        if self.config.placement.prefault:
            failed = [why for one in segments if (why := map_all(one))]
            present = sum(one.size for one in segments)
            self.note(Item.PREFAULT, present, 0 if failed else present, failed[0] if failed else 0)
        blocks = [(one, placement.node_at(one.address)) for one in private.blocks[:HELD_ROWS]]
        hold(held, [(*one[:6], node) for one, node in blocks])
        self._node([node for _, node in blocks])
        self._pages([one for one, _ in blocks if one.huge and one.bytes >= HUGE])
        if wish.policy != "other" and self.spin:
            asked = POLICIES[wish.policy] << 8 | wish.priority
            why = placement.real_time_refused(self.spin, self.spare) or placement.schedule(wish.policy, wish.priority)
            self.note(Item.POLICY, asked, placement.scheduled(), why)

    def _node(self, found: list[int]) -> None:
        """Compare the nodes that blocks lie on with the one that was asked for."""
        node = home(self.config, self.name, self.core)
        if node < 0:
            return
        elsewhere = [one for one in found if one not in (node, -1)]
        got = elsewhere[0] if elsewhere else next(iter(found), -1) if self.node_why else node
        self.note(Item.NODE, node, got, self.node_why or (errno.ENOMEM if elsewhere else 0), partly=self.wish.node < 0)

    def _pages(self, large: list[private.Block]) -> None:
        """Compare the pages that large blocks lie on with those that were asked for."""
        wished = PAGES.index(self.wish.huge_pages)
        if not wished or not large:
            return
        got = min(one.pages for one in large)
        if wished == PAGES.index("reserved") and got < wished:
            self.note(Item.PAGES, wished, got, Why.FEW_PAGES)
        else:
            short = any(one.large < one.bytes // HUGE * HUGE - HUGE for one in large)
            self.note(Item.PAGES, wished, got, Why.NOT_ALL_LARGE if short else 0, partly=short)

    def log(self, agent: Any) -> None:
        """Say in the log what was asked for and what came of it."""
        for item, asked, got, why in self.told:
            agent.log(LogCode.NOT_PLACED if why else LogCode.PLACED, int(item), asked, got, int(why))


def map_all(segment: Any) -> int:
    """Have every page of a segment mapped here; return why not. A kernel that cannot be asked (before 5.14) maps what is read."""
    why = placement.populate(segment.base, segment.size)
    if why != errno.EINVAL:
        return why
    np.frombuffer(segment.memory, np.uint8)[:: mmap.PAGESIZE].max()
    return 0


def home(config: Config, role: str, core: int | None) -> int:
    """Return the NUMA node that a role's memory is to come from; -1: anywhere."""
    wished = role_placement(config, role).node
    return wished if wished >= 0 or core is None else placement.node_of(core)


def hold_latency(config: Config, row: np.void) -> int:
    """Keep the cores awake where that is asked for; return the descriptor that must stay open, -1 where there is none.

    Raises PlacementError where it is refused and must not be.
    """
    if not config.placement.cpu_dma_latency:
        return -1
    why, handle = placement.hold_latency()
    note(row, Item.LATENCY, 0, 0 if handle >= 0 else -1, why)
    if why and config.placement.strict:
        raise PlacementError(f"{config.path}: {KEYS[Item.LATENCY]}: {placement.LATENCY_DEVICE}: {words(Item.LATENCY, why)}")
    return handle


def since_warm(row: np.void, pid: int) -> dict[str, Any] | None:
    """Return what the kernel counted for a process since its warm-up was over; None where that is not yet, or it is gone.

    Keys: minor, major (page faults), voluntary, involuntary (switches), threads, collector.
    """
    if not int(row["warm_utc_ns"]) or int(row["pid"]) != pid or not pid:
        return None
    try:
        with open(f"/proc/{pid}/stat") as file:
            stat = file.read().rpartition(")")[2].split()
        with open(f"/proc/{pid}/status") as file:
            facts = dict(line.split(":", 1) for line in file if ":" in line)
    except OSError:
        return None
    return {
        "minor": int(stat[7]) - int(row["minor"]),
        "major": int(stat[9]) - int(row["major"]),
        "voluntary": int(facts["voluntary_ctxt_switches"]) - int(row["voluntary"]),
        "involuntary": int(facts["nonvoluntary_ctxt_switches"]) - int(row["involuntary"]),
        "threads": int(facts["Threads"]),
        "collector": bool(row["collector"]),
        "since_utc_ns": int(row["warm_utc_ns"]),
    }


def asked(row: np.void) -> list[dict[str, Any]]:
    """Return what a role asked of the kernel and what came of it, in words and figures."""
    made = []
    for item in Item:
        ask = row["asks"][int(item)]
        state = AskState(int(ask["state"]))
        if state != AskState.NOT_ASKED:
            made.append({
                "item": item.name.lower(), "state": state.name, "asked": shown(item, int(ask["asked"])),
                "got": shown(item, int(ask["got"])), "why": words(item, int(ask["why"])),
            })  # fmt: skip
    return made
