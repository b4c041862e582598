"""`hftd check`: what keeps this host from being fast, each thing with the command that mends it. Reads only, needs no root.

    configuration   what the kernel, the firmware and the card were told: files under /proc and /sys, ethtool's questions
    counters        what went wrong already: switches and faults of the running daemon, packets dropped, time stolen
    noise           what a core really does, measured (noise.py): gaps, timers, core to core

A row is PASS, WARN (costs latency), FAIL (something that was asked for cannot be had, or what hftd relies on is not so) or INFO
(nothing to judge, or not readable here). What is wanted depends on the layout: isolation matters to cores that a role spins on.

Every reader takes its files from `root`, so that a test can show it any machine. Turned down: calling `ethtool`, `tuned`, `lscpu`:
they are not everywhere, and they read the same files.
"""

import array
import ctypes
import fcntl
import os
import socket
import struct
import time
from collections.abc import Callable, Container, Iterable
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from hftd.control import noise
from hftd.control.config import Config, ConfigError
from hftd.control.host import place

PASS, WARN, FAIL, INFO = "PASS", "WARN", "FAIL", "INFO"
MIB = 1 << 20
NOISE_CORES_MAX = 32
DEEP_US = 10
"""A core that sleeps deeper than this wakes up too late."""

HOT_IDLE_GAP_US, HOT_LOST_PERCENT, LOST_FAIL_PERCENT = 50.0, 0.1, 10.0
TIMER_P99_US = 50.0
HOP_NS = 200.0


@dataclass(frozen=True)
class Row:
    """One thing that was looked at. figures: for programs."""

    area: str
    what: str
    state: str
    found: str
    wanted: str = ""
    remedy: str = ""
    figures: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The row for JSON."""
        return asdict(self)


def graded(ok: Any, area: str, what: str, found: str, wanted: str, remedy: str = "", bad: str = WARN,
           figures: dict | None = None) -> Row:  # fmt: skip
    """Return a row that passes where `ok`, and else says what mends it."""
    return Row(area, what, PASS if ok else bad, found, wanted, "" if ok else remedy, figures or {})


@dataclass(frozen=True)
class Plan:
    """What the configuration wants of the host."""

    layout: str
    why: str
    spin: bool
    hot: dict[int, list[str]]  # core -> roles that spin on it
    allowed: tuple[int, ...]  # cores this process may use
    roles: int = 0  # hot roles there are
    shared_bytes: int = 0  # shared memory the instance needs; 0: not known
    name: str = ""

    @property
    def spare(self) -> bool:
        """Whether the hot cores can be set apart: others are left for everything else, core 0 among them."""
        return 0 not in self.hot and bool(set(self.allowed) - set(self.hot))

    @property
    def cores(self) -> tuple[int, ...]:
        """The cores a measurement is about."""
        return tuple(sorted(self.hot)) or self.allowed


def plan_of(config: Config) -> Plan:
    """Return what a configuration wants. Raises ConfigError where its layout cannot be had."""
    from hftd.shm.map import segments
    from hftd.shm.segment import size_of

    chosen = place(config)
    hot: dict[int, list[str]] = {}
    for role, core in chosen.cores.items():
        hot.setdefault(core, []).append(role)
    return Plan(
        chosen.layout,
        chosen.why,
        chosen.spin,
        hot if chosen.spin else {},
        tuple(sorted(os.sched_getaffinity(0))),
        3 + sum(row.enabled for row in config.strategy),
        sum(size_of(parts) for parts in segments(config).values()),
        config.daemon.name,
    )


def cores_of(text: str) -> set[int]:
    """Return the cores of a list as the kernel writes it: `0-3,8`. What is no list is empty."""
    found: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        low, _, high = part.partition("-")
        if not low.isdigit() or not (high or low).isdigit():
            return set()
        found.update(range(int(low), int(high or low) + 1))
    return found


def cores_of_mask(text: str) -> set[int]:
    """Return the cores of a hexadecimal mask: `ff,00000003`."""
    try:
        mask = int(text.strip().replace(",", "") or "0", 16)
    except ValueError:
        return set()
    return {core for core in range(mask.bit_length()) if mask >> core & 1}


def text_of(cores: Iterable[int]) -> str:
    """Return cores as a list that the kernel reads: `0-3,8`."""
    wanted = sorted(set(cores))
    runs: list[list[int]] = []
    for core in wanted:
        if runs and core == runs[-1][1] + 1:
            runs[-1][1] = core
        else:
            runs.append([core, core])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)


def _size(count: float) -> str:
    return f"{count / MIB:,.0f} MiB" if count >= MIB else f"{count / 1024:,.0f} KiB"


NO_SPARE = "a core for everything else, and hot roles off core 0, which keeps the kernel's own work: daemon.cores"


def _boot(arguments: str) -> str:
    return f"""sed -i 's/^GRUB_CMDLINE_LINUX="/&{arguments} /' /etc/default/grub && update-grub && reboot"""


def _chosen(text: str) -> str:
    """The word in brackets of `always [madvise] never`."""
    return text.partition("[")[2].partition("]")[0] or text


class Host:
    """The files of a machine under `root`, and the questions only a living one answers."""

    def __init__(self, root: Path = Path("/")):
        self.root = Path(root)
        self.live = self.root == Path("/")

    def read(self, path: str) -> str:
        """Return a file's text, '' where it cannot be read."""
        try:
            return (self.root / path).read_text().strip()
        except (OSError, UnicodeDecodeError):
            return ""

    def number(self, path: str) -> int | None:
        """Return a file's number, None where there is none."""
        text = self.read(path)
        return int(text) if text.lstrip("-").isdigit() else None

    def names(self, path: str) -> list[str]:
        """Return the entries of a directory, sorted; none where it cannot be read."""
        try:
            return sorted(entry.name for entry in (self.root / path).iterdir())
        except OSError:
            return []

    def flags(self) -> set[str]:
        """Return the processor's flags."""
        for line in self.read("proc/cpuinfo").splitlines():
            if line.startswith("flags"):
                return set(line.partition(":")[2].split())
        return set()

    def boot(self) -> dict[str, str]:
        """Return the kernel's command line."""
        return {word.partition("=")[0]: word.partition("=")[2] for word in self.read("proc/cmdline").split()}

    def limit(self, name: str) -> int | None:
        """Return a soft limit of this process by its name in /proc/self/limits, None where it is unlimited or not known."""
        for line in self.read("proc/self/limits").splitlines():
            if line.startswith(name):
                word = line[26:].split()[0]
                return int(word) if word.isdigit() else None
        return None

    def capable(self, bit: int) -> bool:
        """Tell whether this process has a capability."""
        for line in self.read("proc/self/status").splitlines():
            if line.startswith("CapEff"):
                return bool(int(line.split()[1], 16) >> bit & 1)
        return False

    def roles(self) -> list[tuple[int, str]]:
        """Return (pid, name) of every running process of a daemon; the supervisor and this command are not among them."""
        found = []
        for entry in self.names("proc"):
            if entry.isdigit() and (name := self.read(f"proc/{entry}/comm")).startswith("hftd:"):
                found.append((int(entry), name.removeprefix("hftd:")))
        return sorted(found)

    def facts(self, pid: int) -> dict[str, str]:
        """Return /proc/PID/status as a dict."""
        lines = (line.partition(":") for line in self.read(f"proc/{pid}/status").splitlines())
        return {name: value.strip() for name, _, value in lines}


CAP_NET_ADMIN, CAP_IPC_LOCK, CAP_SYS_NICE = 12, 14, 23

# ---------------------------------------------------------------- processor


def processor(host: Host, plan: Plan) -> list[Row]:
    """Cores, what else runs on them, and how fast they wake up."""
    rows: list[Row | None] = [_layout(plan), *_isolation(host, plan), *_siblings(host, plan)]
    rows += [_governor(host, plan), _idle(host, plan)]
    rows += [_irqs(host, plan), _workqueues(host, plan), _watchdog(host), _quota(host), *_real_time(host, plan)]
    return [row for row in rows if row]


def _layout(plan: Plan) -> Row:
    if plan.spin:
        where = "; ".join(f"core {core}: {', '.join(roles)}" for core, roles in sorted(plan.hot.items()))
        return Row("processor", "layout", PASS, f"{plan.layout}: {where}", "a core for each hot role", "")
    return Row("processor", "layout", WARN, f"{plan.layout}: {plan.why}",
               f"{plan.roles + 1} cores: one for each hot role, one for the rest",
               'a host with more cores; or daemon.layout = "fused" with one strategy on two cores')  # fmt: skip


def _isolation(host: Host, plan: Plan) -> list[Row]:
    cores = set(plan.hot)
    listed = text_of(cores)
    isolated = cores_of(host.read("sys/devices/system/cpu/isolated"))
    quiet = cores_of(host.read("sys/devices/system/cpu/nohz_full"))
    elsewhere = host.boot().get("rcu_nocbs")
    spared = set(range(4096)) if elsewhere in ("all", "") else cores_of(elsewhere or "")
    made = []
    for what, got, argument in (
        ("isolated cores", isolated, f"isolcpus={listed}"),
        ("cores without tick (nohz_full)", quiet, f"nohz_full={listed}"),
        ("RCU callbacks elsewhere (rcu_nocbs)", spared | quiet, f"rcu_nocbs={listed}"),
    ):
        found = "all" if len(got) > 1024 else text_of(got) or "none"
        if not cores:
            made.append(Row("processor", what, INFO, found, "matters to roles that spin; none does in this layout"))
        elif cores <= got:
            made.append(Row("processor", what, PASS, found, listed))
        else:
            made.append(Row("processor", what, WARN, found, listed, _boot(argument) if plan.spare else NO_SPARE))
    return made


def _siblings(host: Host, plan: Plan) -> list[Row]:
    threads = {core: cores_of(host.read(f"sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list")) for core in plan.cores}
    pairs = {core: others - {core} for core, others in threads.items() if others - {core}}
    if not any(threads.values()):
        return [Row("processor", "SMT siblings", INFO, "not readable here", "no sibling in use")]
    if not pairs:
        return [Row("processor", "SMT siblings", PASS, "none", "no sibling in use")]
    said = "; ".join(f"{core} with {text_of(others)}" for core, others in sorted(pairs.items()))
    both = [core for core, others in pairs.items() if others & set(plan.hot)] if plan.hot else []
    if both:
        return [Row("processor", "SMT siblings", FAIL, f"two roles on one physical core: {said}", "one role a physical core",
                    "echo off > /sys/devices/system/cpu/smt/control; or choose others in daemon.cores")]  # fmt: skip
    remedy = "echo off > /sys/devices/system/cpu/smt/control"
    return [Row("processor", "SMT siblings", WARN if plan.hot else INFO, said, "siblings of hot cores off or idle", remedy)]


def _governor(host: Host, plan: Plan) -> Row:
    found = {core: host.read(f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_governor") for core in plan.cores}
    named = sorted(set(filter(None, found.values())))
    if not named:
        return Row("processor", "frequency governor", INFO, "none: a virtual machine, or the firmware decides", "performance")
    ok = named == ["performance"]
    remedy = "for g in /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor; do echo performance > $g; done"
    return graded(ok, "processor", "frequency governor", ", ".join(named), "performance", remedy)


def _idle(host: Host, plan: Plan) -> Row:
    driver = host.read("sys/devices/system/cpu/cpuidle/current_driver") or "none"
    deep: dict[str, int] = {}
    for core in plan.cores:
        at = f"sys/devices/system/cpu/cpu{core}/cpuidle"
        for state in host.names(at):
            latency = host.number(f"{at}/{state}/latency") or 0
            if latency > DEEP_US and host.number(f"{at}/{state}/disable") == 0:
                deep[host.read(f"{at}/{state}/name") or state] = latency
    if not deep:
        return Row("processor", "idle states", PASS, f"driver {driver}: none deeper than {DEEP_US} us",
                   f"none deeper than {DEEP_US} us")  # fmt: skip
    said = ", ".join(f"{name} {latency} us" for name, latency in sorted(deep.items(), key=lambda item: item[1]))
    remedy = f"cpupower idle-set -D {DEEP_US}  (for good: {_boot('processor.max_cstate=1 intel_idle.max_cstate=0')})"
    return Row("processor", "idle states", WARN, f"driver {driver}: {said}", f"none deeper than {DEEP_US} us", remedy)


def _irqs(host: Host, plan: Plan) -> Row | None:
    landing: dict[str, set[int]] = {}
    lines = {line.split(":")[0].strip(): line.split() for line in host.read("proc/interrupts").splitlines() if ":" in line}
    for number in host.names("proc/irq"):
        if not number.isdigit() or number == "0":
            continue
        where = cores_of(
            host.read(f"proc/irq/{number}/effective_affinity_list") or host.read(f"proc/irq/{number}/smp_affinity_list")
        )
        if where & set(plan.hot):
            landing[number] = where & set(plan.hot)
    if not plan.hot:
        return Row("processor", "interrupts on hot cores", INFO, "no role spins",
                   "matters to roles that spin; none does in this layout")  # fmt: skip
    if not landing:
        return Row("processor", "interrupts on hot cores", PASS, "none may land there", "none")
    rest = text_of(set(plan.allowed) - set(plan.hot))
    said = ", ".join(f"{number} {lines[number][-1] if number in lines else ''}".strip() for number in sorted(landing, key=int)[:6])
    more = f" and {len(landing) - 6} more" if len(landing) > 6 else ""
    if not rest:
        return Row("processor", "interrupts on hot cores", WARN, f"{said}{more}", "none", NO_SPARE)
    each = " ".join(sorted(landing, key=int))
    remedy = f"systemctl stop irqbalance; for i in {each}; do echo {rest} > /proc/irq/$i/smp_affinity_list; done"
    return Row("processor", "interrupts on hot cores", WARN, f"{said}{more}", f"on {rest} only", remedy)


def _workqueues(host: Host, plan: Plan) -> Row | None:
    mask = host.read("sys/devices/virtual/workqueue/cpumask")
    if not mask or not plan.hot:
        return None
    on = cores_of_mask(mask) & set(plan.hot)
    rest = set(plan.allowed) - set(plan.hot)
    bits = f"{sum(1 << core for core in rest):x}"
    remedy = "" if not on else f"echo {bits} > /sys/devices/virtual/workqueue/cpumask" if rest else NO_SPARE
    return Row("processor", "kernel workqueues", WARN if on else PASS,
               f"may run on {text_of(on)}" if on else "off the hot cores", "off the hot cores", remedy)  # fmt: skip


def _watchdog(host: Host) -> Row | None:
    on = host.number("proc/sys/kernel/nmi_watchdog")
    if on is None:
        return None
    return graded(not on, "processor", "NMI watchdog", "on" if on else "off", "off", "sysctl kernel.nmi_watchdog=0")


def _groups(host: Host) -> tuple[str, str]:
    """This process's control group in the unified hierarchy: (path, where it is mounted)."""
    path = next((line[3:] for line in host.read("proc/self/cgroup").splitlines() if line.startswith("0::")), "")
    mount = "sys/fs/cgroup"
    for line in host.read("proc/mounts").splitlines():
        words = line.split()
        if len(words) > 2 and words[2] == "cgroup2":
            mount = words[1].lstrip("/")
    return path.strip("/"), mount


def _quota(host: Host) -> Row | None:
    path, mount = _groups(host)
    while True:
        text = host.read(f"{mount}/{path}/cpu.max" if path else f"{mount}/cpu.max")
        if text and not text.startswith("max"):
            quota, _, period = text.partition(" ")
            throttled = dict(line.split() for line in host.read(f"{mount}/{path}/cpu.stat").splitlines() if len(line.split()) == 2)
            return Row("processor", "CPU quota", FAIL,
                       f"{int(quota) / int(period or 100000):.2f} cores, throttled "
                       f"{throttled.get('nr_throttled', '0')} times: a spinning loop is stopped when it is used up", "none",
                       f"echo max > /{mount}/{path}/cpu.max  (systemd: CPUQuota=)")  # fmt: skip
        if not path:
            return Row("processor", "CPU quota", PASS, "none", "none")
        path = path.rpartition("/")[0]


def _real_time(host: Host, plan: Plan) -> list[Row]:
    runtime = host.number("proc/sys/kernel/sched_rt_runtime_us")
    period = host.number("proc/sys/kernel/sched_rt_period_us") or 1_000_000
    users = [name for pid, name in host.roles() if _policy(host, pid) in (1, 2)]
    rows = []
    if runtime is not None:
        lost = 0 if runtime < 0 else max(period - runtime, 0) * 1000 / period
        wanted = "-1 where a role spins under SCHED_FIFO"
        if runtime < 0:
            rows.append(Row("processor", "real-time throttling", PASS, "off (-1)", wanted))
        else:
            said = f"{runtime} of {period} us: a spinning SCHED_FIFO loop loses {lost or 50:.0f} ms each second"
            state = FAIL if users else INFO
            said += f"; it hits {', '.join(users)}" if users else "; no role uses it now"
            rows.append(Row("processor", "real-time throttling", state, said, wanted, "sysctl kernel.sched_rt_runtime_us=-1"))
    highest = host.limit("Max realtime priority")
    if host.capable(CAP_SYS_NICE):
        rows.append(Row("processor", "real-time priority", INFO, "allowed (CAP_SYS_NICE)", "only where asked for"))
    elif highest is not None:
        remedy = "" if highest else 'LimitRTPRIO=99 in the unit, or: echo "$USER - rtprio 99" >> /etc/security/limits.conf'
        rows.append(Row("processor", "real-time priority", INFO, f"up to {highest}" if highest else "not allowed",
                        "only where asked for", remedy))  # fmt: skip
    return rows


def _policy(host: Host, pid: int) -> int:
    words = host.read(f"proc/{pid}/stat").rpartition(")")[2].split()
    return int(words[38]) if len(words) > 38 and words[38].isdigit() else 0


# ---------------------------------------------------------------- memory


def memory(host: Host, plan: Plan, config: Config) -> list[Row]:
    """Pages: large, present, locked, near."""
    rows = []
    enabled = _chosen(host.read("sys/kernel/mm/transparent_hugepage/enabled"))
    if enabled:
        ok = enabled == "madvise"
        why = {
            "always": "always: khugepaged moves pages under a running loop",
            "never": "never: order store and queues lie on 4 KiB pages",
        }
        rows.append(graded(ok, "memory", "transparent huge pages", why.get(enabled, enabled), "madvise",
                           "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled"))  # fmt: skip
    shared = _chosen(host.read("sys/kernel/mm/transparent_hugepage/shmem_enabled"))
    if shared:
        ok = shared in ("advise", "always", "within_size", "force")
        rows.append(graded(ok, "memory", "huge pages in shared memory", shared, "advise",
                           "echo advise > /sys/kernel/mm/transparent_hugepage/shmem_enabled", bad=INFO))  # fmt: skip
    reserved, free = host.number("proc/sys/vm/nr_hugepages"), _meminfo(host).get("HugePages_Free", 0)
    if reserved is not None:
        rows.append(Row("memory", "reserved 2 MiB pages", INFO, f"{reserved}, {free} free", "only where asked for"))
    rows.append(_lock(host, config))
    rows += [_swap(host, config), *_shm(host, plan)]
    rows += _numa(host, plan, config)
    return [row for row in rows if row]


def _meminfo(host: Host) -> dict[str, int]:
    """/proc/meminfo: KiB, or a count where it has no unit."""
    found = {}
    for line in host.read("proc/meminfo").splitlines():
        name, _, value = line.partition(":")
        words = value.split()
        if words and words[0].isdigit():
            found[name] = int(words[0])
    return found


def _lock(host: Host, config: Config) -> Row:
    limit = host.limit("Max locked memory")
    asked = config.daemon.lock_memory
    wanted = "unlimited" if asked else "unlimited, for daemon.lock_memory = true"
    if host.capable(CAP_IPC_LOCK):
        return Row("memory", "locked memory", PASS, "unlimited (CAP_IPC_LOCK)", wanted)
    if limit is None:
        return Row("memory", "locked memory", PASS, "unlimited", wanted)
    return Row("memory", "locked memory", FAIL if asked else INFO, _size(limit), wanted,
               'LimitMEMLOCK=infinity in the unit, or: echo "$USER - memlock unlimited" >> /etc/security/limits.conf')  # fmt: skip


def _swap(host: Host, config: Config) -> Row:
    lines = [line.split() for line in host.read("proc/swaps").splitlines()[1:]]
    if not lines:
        return Row("memory", "swap", PASS, "none", "none")
    used = sum(int(words[3]) for words in lines if len(words) > 3) * 1024
    said = f"{len(lines)} areas, {_size(used)} used"
    if config.daemon.lock_memory:
        return Row("memory", "swap", PASS, f"{said}; every role locks its memory", "none, or daemon.lock_memory = true")
    return Row("memory", "swap", WARN, said, "none, or daemon.lock_memory = true", "swapoff -a")


def _shm(host: Host, plan: Plan) -> list[Row]:
    options = ""
    for line in host.read("proc/mounts").splitlines():
        words = line.split()
        if len(words) > 3 and words[1] == "/dev/shm":
            options = words[3] if words[2] == "tmpfs" else f"{words[2]} {words[3]}"
    try:
        facts = os.statvfs(host.root / "dev/shm")
    except OSError:
        return [Row("memory", "/dev/shm", FAIL, "is missing", "a tmpfs", "mount -t tmpfs -o size=1g,mode=1777 tmpfs /dev/shm")]
    free, size = facts.f_bavail * facts.f_frsize, facts.f_blocks * facts.f_frsize
    ours = 0
    for entry in host.names("dev/shm"):
        if plan.name and entry.startswith(f"hftd.{plan.name}."):
            ours += (host.root / "dev/shm" / entry).stat().st_size
    enough = free + ours >= plan.shared_bytes
    wanted = f"{_size(plan.shared_bytes)} for this configuration" if plan.shared_bytes else "a tmpfs"
    remedy = "" if enough else f"mount -o remount,size={-(-(size - free - ours + plan.shared_bytes) // MIB) + 64}m /dev/shm"
    rows = [graded(enough, "memory", "/dev/shm", f"{_size(free)} free of {_size(size)} ({options or 'not a mount of its own'})",
                   wanted, remedy, bad=FAIL)]  # fmt: skip
    available = _meminfo(host).get("MemAvailable", 0) * 1024
    if available:
        few = available + ours < 2 * plan.shared_bytes
        rows.append(graded(not few, "memory", "available memory", _size(available), f"{_size(2 * plan.shared_bytes)} at least",
                           "a smaller feed.orders_max, feed.levels_max, rings.md; or more memory", bad=FAIL))  # fmt: skip
    return rows


def _nodes(host: Host) -> dict[int, set[int]]:
    at = "sys/devices/system/node"
    names = [name for name in host.names(at) if name.startswith("node") and name[4:].isdigit()]
    return {int(name[4:]): cores_of(host.read(f"{at}/{name}/cpulist")) for name in names}


def _numa(host: Host, plan: Plan, config: Config) -> list[Row]:
    nodes = _nodes(host)
    if len(nodes) < 2:
        return [Row("memory", "NUMA", PASS, "one node", "roles and card on one node")]
    rows = []
    used = {node for node, cores in nodes.items() if cores & set(plan.cores)}
    said = "; ".join(f"node {node}: cores {text_of(cores & set(plan.cores))}" for node, cores in nodes.items() if node in used)
    apart = len(used) > 1
    best = max(nodes, key=lambda node: len(nodes[node] & set(plan.allowed)))
    near = sorted(nodes[best] & set(plan.allowed))[: max(plan.roles, 1)]
    rows.append(graded(not apart, "memory", "NUMA", said, "roles on one node", f"daemon.cores = {near}"))
    balancing = host.number("proc/sys/kernel/numa_balancing")
    if balancing is not None:
        rows.append(graded(not balancing, "memory", "NUMA balancing",
                           "on: pages are unmapped to see who uses them" if balancing else "off", "off",
                           "sysctl kernel.numa_balancing=0"))  # fmt: skip
    return rows


# ---------------------------------------------------------------- clock


@dataclass(frozen=True)
class ClockState:
    """What adjtimex says. Times in us."""

    synchronised: bool
    max_error: int
    estimated_error: int


def adjtimex() -> ClockState | None:
    """Ask the kernel how good its clock is; None where it does not say."""
    place = ctypes.create_string_buffer(256)  # struct timex with modes = 0: read only
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(place)
    except (OSError, AttributeError):
        return None
    if state < 0:
        return None
    _, _, _, most, estimated, status = struct.unpack_from("<i4xqqqqi", place, 0)
    return ClockState(state != 5 and not status & 0x40, most, estimated)


def clock(host: Host, ask: Callable[[], ClockState | None] | None = None) -> list[Row]:
    """The time stamp counter, and how far the clock may be from the truth."""
    flags = host.flags()
    missing = sorted({"constant_tsc", "nonstop_tsc"} - flags)
    rows = [graded(not missing, "clock", "time stamp counter", f"lacks {', '.join(missing)}" if missing else "invariant",
                   "constant_tsc, nonstop_tsc", "another host: hftd stamps with the counter", bad=FAIL)]  # fmt: skip
    source = host.read("sys/devices/system/clocksource/clocksource0/current_clocksource")
    if source:
        ok = source == "tsc"
        trusted = "tsc" in host.read("sys/devices/system/clocksource/clocksource0/available_clocksource").split()
        remedy = "echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource" if trusted else _boot("tsc=reliable")
        rows.append(graded(ok, "clock", "clock source", source, "tsc", remedy))
    state = ask() if ask else (adjtimex() if host.live else None)
    daemon = next((name for name in ("chronyd", "ntpd", "systemd-timesyn", "ptp4l", "phc2sys") if name in _programs(host)), "")
    by = f" by {daemon}" if daemon else ""
    if state is None:
        rows.append(Row("clock", "synchronised", INFO, "not readable here", "within 100 us of UTC"))
    elif not state.synchronised:
        said = f"no; {daemon} runs" if daemon else "no; nothing disciplines the clock"
        remedy = f"systemctl restart {daemon}" if daemon else "apt-get install chrony && systemctl enable --now chrony"
        rows.append(Row("clock", "synchronised", WARN, said, "within 100 us of UTC", remedy))
    else:
        ok = state.estimated_error <= 100
        said = f"yes{by}: estimated error {state.estimated_error} us, at most {state.max_error} us"
        rows.append(graded(ok, "clock", "synchronised", said, "within 100 us of UTC",
                           "chronyc sources -v  (a server near by, or PTP with the card's clock)",
                           figures={"estimated_error_us": state.estimated_error, "max_error_us": state.max_error}))  # fmt: skip
    return rows


def _programs(host: Host) -> set[str]:
    return {host.read(f"proc/{entry}/comm") for entry in host.names("proc") if entry.isdigit()}


# ---------------------------------------------------------------- network


def interface_of(address: str) -> str:
    """Return the name of the interface that has an IPv4 address, '' where none has."""
    import psutil

    for name, found in psutil.net_if_addrs().items():
        if any(one.family == socket.AF_INET and one.address == address for one in found):
            return name
    if address.startswith("127."):
        return "lo"
    return ""


class Card:
    """Ethtool's questions, which need no rights. Each answer is None where the driver has none."""

    def __init__(self, name: str):
        self.name = name

    def ask(self, command: int, size: int) -> tuple[int, ...] | None:
        """Return the answer to an ethtool command as 32-bit words, the command first."""
        words = array.array("I", [command] + [0] * (size - 1))
        request = struct.pack("16sP8x", self.name.encode()[:15], words.buffer_info()[0])
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
                fcntl.ioctl(asking, 0x8946, request)
        except OSError:
            return None
        return tuple(words)

    def rings(self) -> tuple[int, int] | None:
        """Receive ring: (entries now, entries at most)."""
        words = self.ask(0x10, 9)
        return (words[5], words[1]) if words and words[1] else None

    def coalescing(self) -> tuple[int, int, bool] | None:
        """Interrupts on receive: (wait in us, wait in packets, adaptive)."""
        words = self.ask(0x0E, 23)
        return (words[1], words[2], bool(words[10])) if words else None

    def merging(self) -> list[str] | None:
        """The offloads that hold packets back to merge them, those that are on."""
        gro, flags = self.ask(0x2B, 2), self.ask(0x25, 2)
        if gro is None and flags is None:
            return None
        return [*(["gro"] if gro and gro[1] else []), *(["lro"] if flags and flags[1] & 0x8000 else [])]


def network(host: Host, plan: Plan, config: Config, interface: str | None = None, card: Card | None = None) -> list[Row]:
    """The feed's interface: buffers, rings, offloads, where it is attached."""
    rows = []
    wanted, most = config.feed.receive_buffer, host.number("proc/sys/net/core/rmem_max")
    if most is not None:
        forced = host.capable(CAP_NET_ADMIN)
        ok = most >= wanted or forced
        said = f"net.core.rmem_max {_size(most)}" + (", passed by with CAP_NET_ADMIN" if forced and most < wanted else "")
        rows.append(graded(ok, "network", "receive buffer", said, f"feed.receive_buffer {_size(wanted)}",
                           f"sysctl net.core.rmem_max={wanted}"))  # fmt: skip
    name = interface if interface is not None else (interface_of(config.feed.interface) if host.live else "")
    if not name:
        said = f"none has feed.interface {config.feed.interface}"
        rows.append(Row("network", "interface", FAIL, said, "one that receives the feed", "ip -4 -brief address"))
        return rows
    at = f"sys/class/net/{name}"
    flags = int(host.read(f"{at}/flags") or "0", 16)
    up, multicast = bool(flags & 1), bool(flags & 0x1000) or name == "lo"
    remedy = "" if up and multicast else f"ip link set {name} up multicast on"
    said = f"{name}: {'up' if up else 'DOWN'}, {'multicast' if multicast else 'NO multicast'}, mtu {host.read(f'{at}/mtu') or '?'}"
    rows.append(graded(up and multicast, "network", "interface", said, "up, multicast", remedy, bad=FAIL))
    if name == "lo":
        rows.append(Row("network", "card", INFO, "loopback: no card, no rings, no offloads", "a card of one's own for a real feed"))
        return rows
    return rows + _card(host, plan, name, card or Card(name))


def _card(host: Host, plan: Plan, name: str, card: Card) -> list[Row]:
    rows = []
    unread = "not readable here"
    rings = card.rings()
    if rings is None:
        rows.append(Row("network", "receive ring of the card", INFO, unread, "as large as it can be"))
    else:
        ok = rings[0] >= rings[1]
        rows.append(graded(ok, "network", "receive ring of the card", f"{rings[0]} of {rings[1]}", "as large as it can be",
                           f"ethtool -G {name} rx {rings[1]}"))  # fmt: skip
    waits = card.coalescing()
    if waits is None:
        rows.append(Row("network", "interrupt coalescing", INFO, unread, "0 us, not adaptive"))
    else:
        ok = waits[0] == 0 and not waits[2]
        rows.append(graded(ok, "network", "interrupt coalescing",
                           f"{waits[0]} us, {waits[1]} packets{', adaptive' if waits[2] else ''}", "0 us, not adaptive",
                           f"ethtool -C {name} adaptive-rx off rx-usecs 0 rx-frames 0"))  # fmt: skip
    merging = card.merging()
    if merging is None:
        rows.append(Row("network", "merging offloads", INFO, unread, "gro, lro off"))
    else:
        remedy = f"ethtool -K {name} {' '.join(f'{one} off' for one in merging)}" if merging else ""
        rows.append(Row("network", "merging offloads", WARN if merging else PASS, f"{', '.join(merging)} on" if merging else "off",
                        "gro, lro off", remedy))  # fmt: skip
    node = host.number(f"sys/class/net/{name}/device/numa_node")
    nodes = _nodes(host)
    if node is not None and node >= 0 and len(nodes) > 1:
        feed = {core for core, roles in plan.hot.items() if "feed" in roles} or set(plan.cores)
        ok = feed <= nodes.get(node, set())
        near = sorted(nodes.get(node, set()) & set(plan.allowed))[: max(plan.roles, 1)]
        rows.append(graded(ok, "network", "NUMA node of the card", f"node {node}, feed on {text_of(feed)}",
                           f"feed on {text_of(nodes.get(node, set()))}", f"daemon.cores = {near}"))  # fmt: skip
    return rows


# ---------------------------------------------------------------- the machine


def machine(host: Host) -> list[Row]:
    """What cannot be mended from here, and should be known."""
    rows = []
    at = "sys/devices/system/cpu/vulnerabilities"
    active = sorted(name for name in host.names(at) if host.read(f"{at}/{name}").startswith("Mitigation"))
    if host.names(at):
        said = ", ".join(active) or "none active"
        rows.append(Row("machine", "kernel mitigations", INFO, said, "a choice: they make each system call dearer",
                        f"{_boot('mitigations=off')}  (a host of one's own only)" if active else ""))  # fmt: skip
    if "hypervisor" in host.flags():
        rows.append(Row("machine", "virtual machine", INFO, "yes: the hypervisor may take a core without a word", "bare metal"))
    return rows


# ---------------------------------------------------------------- counters


COUNTED = ("voluntary_ctxt_switches", "nonvoluntary_ctxt_switches", "minor", "major")


def sample(host: Host) -> dict[str, Any]:
    """Read every counter, with the time."""
    roles: dict[tuple[int, str], dict[str, int]] = {}
    cores: dict[int, str] = {}                    # pid -> where it may run
    for pid, name in host.roles():
        facts = host.facts(pid)
        cores[pid] = facts.get("Cpus_allowed_list", "")
        words = host.read(f"proc/{pid}/stat").rpartition(")")[2].split()
        if len(words) < 10:
            continue
        roles[(pid, name)] = {
            **{key: int(facts.get(key, "0") or 0) for key in COUNTED[:2]},
            "minor": int(words[7]),
            "major": int(words[9]),
        }
    snmp = [line.split() for line in host.read("proc/net/snmp").splitlines() if line.startswith("Udp:")]
    udp = dict(zip(snmp[0][1:], map(int, snmp[1][1:]))) if len(snmp) == 2 else {}
    softnet = [line.split() for line in host.read("proc/net/softnet_stat").splitlines()]
    return {
        "at": time.monotonic(),
        "roles": roles,
        "cores": cores,
        "udp": udp,
        "sockets": sockets(host),
        "dropped": sum(int(words[1], 16) for words in softnet if len(words) > 2),
        "squeezed": sum(int(words[2], 16) for words in softnet if len(words) > 2),
        "softnet": bool(softnet),
        "steal": {core: noise.stolen_ms(host.read("proc/stat"), core) for core in _cores(host)},
    }


def _cores(host: Host) -> list[int]:
    words = [line.split()[0] for line in host.read("proc/stat").splitlines() if line.startswith("cpu")]
    return [int(word[3:]) for word in words if word[3:].isdigit()]


def sockets(host: Host) -> list[tuple[str, int]]:
    """Return (local address, packets dropped) of each UDP socket."""
    found = []
    for line in host.read("proc/net/udp").splitlines()[1:]:
        words = line.split()
        if len(words) > 12 and words[-1].isdigit():
            address, _, port = words[1].partition(":")
            parts = [str(one) for one in reversed(bytes.fromhex(address))]
            found.append((f"{'.'.join(parts)}:{int(port, 16)}", int(words[-1])))
    return found


def counters(before: dict[str, Any], after: dict[str, Any], ports: Container[int] = (), spin: bool = True) -> list[Row]:
    """Judge two samples: what happened while we looked, and what has happened since the start.

    ports: of the feed. spin: the roles own their cores; where they yield, the kernel counts each yield as an involuntary switch.
    """
    larger = "sysctl net.core.rmem_max=67108864, and feed.receive_buffer up to that"
    took = max(after["at"] - before["at"], 1e-9)
    rows = []
    for (pid, name), now in after["roles"].items():
        old = before["roles"].get((pid, name), now)
        new = {key: now[key] - old[key] for key in COUNTED}
        bad = new["nonvoluntary_ctxt_switches"] or new["major"] or new["minor"]
        isolate = _boot(f"isolcpus={after['cores'].get(pid, '')}")
        rate = {key: f"{now[key]:,} ({new[key] / took:.0f}/s now)" for key in COUNTED}
        said = (f"{rate['nonvoluntary_ctxt_switches']} involuntary switches, {rate['minor']} minor faults, "
                f"{rate['major']} major")  # fmt: skip
        figures = {"total": now, "during": new}
        if not spin or name == "recorder":
            wanted, remedy = "no major fault; it parks, and yields its core", "daemon.lock_memory = true"
            rows.append(graded(not new["major"], "counters", f"{name} (pid {pid})", said, wanted, remedy, figures=figures))
            continue
        remedy = "daemon.lock_memory = true" if not new["nonvoluntary_ctxt_switches"] else f"a core of its own: {isolate}"
        wanted = "no involuntary switch and no fault after warm-up"
        rows.append(graded(not bad, "counters", f"{name} (pid {pid})", said, wanted, remedy, figures=figures))
    if after["udp"]:
        lost = {key: after["udp"].get(key, 0) for key in ("RcvbufErrors", "InErrors", "MemErrors")}
        new_lost = after["udp"].get("RcvbufErrors", 0) - before["udp"].get("RcvbufErrors", 0)
        said = f"{lost['RcvbufErrors']:,} since boot for want of buffer ({new_lost} now), {lost['InErrors']:,} errors"
        remedy = f"{larger}; a core for the feed"
        rows.append(graded(not lost["RcvbufErrors"], "counters", "UDP drops", said, "0", remedy, figures=lost))
    for address, dropped in after["sockets"]:
        if dropped and int(address.rpartition(":")[2]) in ports:
            rows.append(Row("counters", f"UDP socket {address}", WARN, f"{dropped:,} packets dropped", "0", larger))
    if after["softnet"]:
        dropped, squeezed = after["dropped"], after["squeezed"]
        rows.append(graded(not dropped, "counters", "network backlog",
                           f"{dropped:,} packets dropped, {squeezed:,} times out of budget since boot", "0 dropped",
                           "sysctl net.core.netdev_max_backlog=10000 net.core.netdev_budget=600"))  # fmt: skip
    stolen = {core: after["steal"][core] - before["steal"].get(core, 0.0) for core in after["steal"]}
    if any(after["steal"].values()):
        share = 100 * sum(stolen.values()) / (took * 1000 * max(len(stolen), 1))
        rows.append(graded(not share > 0.1, "counters", "stolen by the hypervisor",
                           f"{share:.2f} % now, {sum(after['steal'].values()) / 1000:,.0f} s since boot", "0",
                           "vCPUs pinned to cores of their own, by the host's operator"))  # fmt: skip
    return rows


# ---------------------------------------------------------------- noise


def taken_cores(host: Host) -> dict[int, str]:
    """Return the cores on which a running daemon's roles live: measuring there would take them away from it."""
    found: dict[int, str] = {}
    for pid, name in host.roles():
        for core in cores_of(host.facts(pid).get("Cpus_allowed_list", "")):
            found.setdefault(core, name)
    return found


def measured(host: Host, plan: Plan, seconds: float, progress: Callable[[str], None] | None = None) -> list[Row]:
    """Measure each core by itself, then pairs of cores. Rows come with figures."""
    taken = taken_cores(host)
    cores = [core for core in plan.cores if core in plan.allowed and core not in taken][:NOISE_CORES_MAX]
    rows, tell = [], progress or (lambda what: None)
    if len(cores) < len(plan.cores):
        left = sorted(set(plan.cores) - set(cores))
        who = sorted({taken[core] for core in left if core in taken})
        said = f"core {text_of(left)}: " + (f"used by the running daemon ({', '.join(who)})" if who else "not measured")
        rows.append(Row("noise", "cores left out", INFO, said, "a quiet machine", "hftd stop; hftd check" if who else ""))
    ticking = noise.new_clock() if cores else None
    for core in cores:
        tell(f"core {core}: spinning {seconds:g} s")
        found = noise.spin(core, seconds, ticking, host.root)
        rows.append(judge_spin(found, core in plan.hot, plan.spare))
    for core in cores[:1]:
        tell(f"core {core}: timers")
        rows.append(_timer_row(core, noise.timers(core, ticking)))
    for first, second in _pairs(plan, cores):
        tell(f"core {first} to {second}")
        rows.append(_hop_row(first, second, ticking))
    return rows


def judge_spin(found: noise.Spin, hot: bool, spare: bool = True) -> Row:
    """Say what a core's noise means, and whose it is as far as that can be told. spare: whether the core can be set apart."""
    quiet = found.longest <= HOT_IDLE_GAP_US * 1000 and found.lost_percent <= HOT_LOST_PERCENT
    state = PASS if quiet else FAIL if hot and found.lost_percent > LOST_FAIL_PERCENT else WARN
    top = [f"{name} {rate:.0f}/s" for name, rate in list(found.interrupts.items())[:3]]
    said = (
        f"{found.gaps_per_s:.0f} gaps > 1 us/s, longest {_time(found.longest)}, {found.lost_percent:.2f} % lost; loop p50 "
        f"{found.p50:.0f}, p99 {found.p99:.0f}, p99.9 {found.p999:.0f} ns; {found.involuntary} switches"
        f"{f', {found.stolen_ms:.0f} ms stolen' if found.stolen_ms else ''}{'; ' + ', '.join(top) if top else ''}"
    )
    remedy = ""
    if not quiet:
        if found.involuntary:
            apart = _boot(f"isolcpus={found.core}") if spare else NO_SPARE
            remedy = f"other programs ran here: {apart if hot else 'more cores, or fewer programs beside hftd'}"
        elif found.stolen_ms >= 1:
            remedy = "the hypervisor took the core: have vCPUs pinned, or use bare metal"
        elif found.interrupts.get("LOC", 0) > 10:
            core = found.core
            remedy = f"the tick: {_boot(f'isolcpus={core} nohz_full={core} rcu_nocbs={core}') if spare and hot else NO_SPARE}"
        elif found.interrupts:
            remedy = "interrupts: see the rows above for who sends them"
        else:
            remedy = "neither a switch nor an interrupt: the hypervisor or the firmware (SMI)"
    wanted = f"longest < {HOT_IDLE_GAP_US:.0f} us, < {HOT_LOST_PERCENT} % lost"
    return Row("noise", f"core {found.core}", state, said, wanted, remedy, found.as_dict())


def _time(ns: float) -> str:
    return f"{ns:.0f} ns" if ns < 1e3 else f"{ns / 1e3:.1f} us" if ns < 1e6 else f"{ns / 1e6:.2f} ms"


def _timer_row(core: int, late) -> Row:
    p50, p99, most = noise.point(late, 50), noise.point(late, 99), float(late[-1])
    ok = p99 <= TIMER_P99_US * 1000
    said = f"a sleep of 100 us ends {_time(p50)} late (p50), p99 {_time(p99)}, longest {_time(most)}"
    return graded(ok, "noise", f"timers on core {core}", said, f"p99 < {TIMER_P99_US:.0f} us",
                  "shallow idle states (above); a layout that spins does not sleep at all",
                  figures={"p50": p50, "p99": p99, "max": most, "n": len(late)})  # fmt: skip


def _pairs(plan: Plan, cores: list[int]) -> list[tuple[int, int]]:
    """Cores that messages travel between: neighbours in the order of the roles, or of the list."""
    order = list(plan.hot) if plan.hot else cores
    pairs = [(a, b) for a, b in pairwise(order) if a in cores and b in cores]
    return list(dict.fromkeys(pairs))[:8]


def _hop_row(first: int, second: int, ticking) -> Row:
    from hftd.errors import HftdError

    try:
        trips = noise.hop(first, second, ticking)
    except HftdError as error:
        return Row("noise", f"core {first} to {second}", WARN, f"not measured: {error}", f"p50 < {HOP_NS:.0f} ns",
                   "a quiet machine")  # fmt: skip
    p50, p99, most = noise.point(trips, 50), noise.point(trips, 99), float(trips[-1])
    ok = p50 <= HOP_NS
    said = f"one way p50 {p50:.0f} ns, p99 {p99:.0f}, longest {_time(most)}"
    return graded(ok, "noise", f"core {first} to {second}", said, f"p50 < {HOP_NS:.0f} ns",
                  "cores of one socket and one cache in daemon.cores",
                  figures={"min": float(trips[0]), "p50": p50, "p99": p99, "max": most, "n": len(trips)})  # fmt: skip


# ---------------------------------------------------------------- all of it


def check(
    config: Config,
    seconds: float = 1.0,
    root: Path = Path("/"),
    plan: Plan | None = None,
    measure: bool = True,
    progress: Callable[[str], None] | None = None,
) -> list[Row]:
    """Look at everything and return the rows. seconds: of each core's spin test; plan: instead of the configuration's."""
    host, refused = Host(root), []
    if plan is None:
        try:
            plan = plan_of(config)
        except ConfigError as error:
            refused = [Row("processor", "layout", FAIL, str(error), "a layout this host can have", "daemon.layout, daemon.cores")]
            plan = Plan(config.daemon.layout, "refused", False, {}, tuple(sorted(os.sched_getaffinity(0))))
    before = sample(host)
    found = processor(host, plan)
    rows = [
        *refused,
        *(found[1:] if refused else found),
        *memory(host, plan, config),
        *clock(host),
        *network(host, plan, config),
        *machine(host),
    ]
    made = measured(host, plan, seconds, progress) if measure else []
    if before["roles"] and measure and progress:
        progress("counters")
    while before["roles"] and measure and time.monotonic() - before["at"] < seconds:
        time.sleep(0.02)                          # a rate needs time; the cores of a running daemon are not measured
    ports = {int(line.rpartition(":")[2]) for line in (config.feed.line_a, config.feed.line_b) if line}
    return [*rows, *counters(before, sample(host), ports, plan.spin), *made]


def failed(rows: Iterable[Row]) -> bool:
    """Tell whether anything is wrong that must not be."""
    return any(row.state == FAIL for row in rows)
