"""Pages: large, present, locked, near."""

import os

from hftd.control.check.files import CAP_IPC_LOCK, Host
from hftd.control.check.rows import FAIL, INFO, MIB, PASS, WARN, Plan, Row, chosen, cores_of, graded, size_text, text_of
from hftd.control.config import Config


def memory(host: Host, plan: Plan, config: Config) -> list[Row]:
    """Pages: large, present, locked, near."""
    rows = []
    enabled = chosen(host.read("sys/kernel/mm/transparent_hugepage/enabled"))
    if enabled:
        ok = enabled == "madvise"
        why = {
            "always": "always: khugepaged moves pages under a running loop",
            "never": "never: order store and queues lie on 4 KiB pages",
        }
        rows.append(graded(ok, "memory", "transparent huge pages", why.get(enabled, enabled), "madvise",
                           "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled"))  # fmt: skip
    shared = chosen(host.read("sys/kernel/mm/transparent_hugepage/shmem_enabled"))
    if shared:
        ok = shared != "deny"                         # with `never` they are still made on request, which hftd does
        rows.append(graded(ok, "memory", "huge pages in shared memory", shared, "anything but deny",
                           "echo never > /sys/kernel/mm/transparent_hugepage/shmem_enabled", bad=INFO))  # fmt: skip
    rows.append(_reserved(host, plan))
    merging = host.number("sys/kernel/mm/ksm/run")
    if merging is not None:
        rows.append(graded(merging != 1, "memory", "merging of equal pages (KSM)",
                           "on: a write to a merged page is a page fault" if merging == 1 else "off", "off",
                           "echo 2 > /sys/kernel/mm/ksm/run"))  # fmt: skip
    rows.append(_lock(host, config))
    rows += [_swap(host, config), *_shm(host, plan)]
    rows += _numa(host, plan, config)
    return [row for row in rows if row]


def _reserved(host: Host, plan: Plan) -> Row | None:
    """Reserved pages: as many as the roles that ask for them take, those included that a running daemon of ours holds."""
    there, counted = host.number("proc/sys/vm/nr_hugepages"), _meminfo(host)
    if there is None:
        return None
    free = max(counted.get("HugePages_Free", 0) - counted.get("HugePages_Rsvd", 0), 0)
    if not plan.reserved:
        return Row("memory", "reserved 2 MiB pages", INFO, f"{there}, {free} free", "only where asked for")
    ours = _held(host, plan.name) // (2 * MIB)
    needed = sum(count for _, count in plan.reserved)
    short = needed - free - ours
    said = f"{there}, {free} free" + (f", {ours} held by this daemon" if ours else "")
    wanted = f"{needed}: " + ", ".join(f"{count} for {role}" for role, count in plan.reserved) + ", rehearsals included"
    return graded(short <= 0, "memory", "reserved 2 MiB pages", said, wanted, f"sysctl vm.nr_hugepages={there + short}", bad=FAIL,
                  figures={"there": there, "free": free, "held": ours, "needed": needed})  # fmt: skip


def _held(host: Host, name: str) -> int:
    """Return the bytes of reserved pages that the roles of an instance hold."""
    held = 0
    for pid, _ in host.roles():
        if name and f"/dev/shm/hftd.{name}." in host.read(f"proc/{pid}/maps"):
            size = host.facts(pid).get("HugetlbPages", "0").split()[0]
            held += int(size) * 1024 if size.isdigit() else 0
    return held


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
    return Row("memory", "locked memory", FAIL if asked else INFO, size_text(limit), wanted,
               'LimitMEMLOCK=infinity in the unit, or: echo "$USER - memlock unlimited" >> /etc/security/limits.conf')  # fmt: skip


def _swap(host: Host, config: Config) -> Row:
    lines = [line.split() for line in host.read("proc/swaps").splitlines()[1:]]
    if not lines:
        return Row("memory", "swap", PASS, "none", "none")
    used = sum(int(words[3]) for words in lines if len(words) > 3) * 1024
    said = f"{len(lines)} areas, {size_text(used)} used"
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
    wanted = f"{size_text(plan.shared_bytes)} for this configuration" if plan.shared_bytes else "a tmpfs"
    remedy = "" if enough else f"mount -o remount,size={-(-(size - free - ours + plan.shared_bytes) // MIB) + 64}m /dev/shm"
    said = f"{size_text(free)} free of {size_text(size)} ({options or 'not a mount of its own'})"
    rows = [graded(enough, "memory", "/dev/shm", said, wanted, remedy, bad=FAIL)]
    available = _meminfo(host).get("MemAvailable", 0) * 1024
    if available:
        few = available + ours < 2 * plan.shared_bytes
        wanted = f"{size_text(2 * plan.shared_bytes)} at least"
        remedy = "a smaller feed.orders_max, feed.levels_max, rings.md; or more memory"
        rows.append(graded(not few, "memory", "available memory", size_text(available), wanted, remedy, bad=FAIL))
    return rows


def nodes_of(host: Host) -> dict[int, set[int]]:
    """Return the cores of each NUMA node."""
    at = "sys/devices/system/node"
    names = [name for name in host.names(at) if name.startswith("node") and name[4:].isdigit()]
    return {int(name[4:]): cores_of(host.read(f"{at}/{name}/cpulist")) for name in names}


def _numa(host: Host, plan: Plan, config: Config) -> list[Row]:
    nodes = nodes_of(host)
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
