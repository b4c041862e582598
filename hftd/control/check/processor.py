"""Cores, what else runs on them, and how fast they wake up."""

import os

from hftd.control.check.files import CAP_SYS_NICE, Host
from hftd.control.check.rows import (
    FAIL,
    INFO,
    NO_SPARE,
    PASS,
    WARN,
    Plan,
    Row,
    boot,
    cores_of,
    cores_of_mask,
    graded,
    text_of,
)

DEEP_US = 10
"""A core that sleeps deeper than this wakes up too late."""


def processor(host: Host, plan: Plan) -> list[Row]:
    """Cores, what else runs on them, and how fast they wake up."""
    rows: list[Row | None] = [_layout(plan), *_isolation(host, plan), *_siblings(host, plan)]
    rows += [_governor(host, plan), _idle(host, plan), _awake(host, plan)]
    rows += [_irqs(host, plan), _workqueues(host, plan), _watchdog(host), _statistics(host, plan), _quota(host)]
    rows += _real_time(host, plan)
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
            made.append(Row("processor", what, WARN, found, listed, boot(argument) if plan.spare else NO_SPARE))
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
    if plan.awake:
        said = f"{said}; held back while hftd runs (placement.cpu_dma_latency)"
        return Row("processor", "idle states", PASS, f"driver {driver}: {said}", f"none deeper than {DEEP_US} us")
    for_good = boot("processor.max_cstate=1 intel_idle.max_cstate=0")
    remedy = f"placement.cpu_dma_latency = true; or cpupower idle-set -D {DEEP_US}  (for good: {for_good})"
    return Row("processor", "idle states", WARN, f"driver {driver}: {said}", f"none deeper than {DEEP_US} us", remedy)


def _awake(host: Host, plan: Plan) -> Row:
    device = host.root / "dev/cpu_dma_latency"
    wanted = "may be opened, for placement.cpu_dma_latency = true"
    if os.access(device, os.W_OK):
        return Row("processor", "cpu_dma_latency", PASS, "may be opened", wanted)
    found = "may not be opened" if device.exists() else "is missing"
    if not plan.awake:
        return Row("processor", "cpu_dma_latency", INFO, found, wanted)
    remedy = "remove the key: this kernel manages no sleep states"
    if device.exists():
        remedy = "chgrp hftd /dev/cpu_dma_latency && chmod g+w /dev/cpu_dma_latency  (for good: a udev rule, systemd/README.md)"
    return Row("processor", "cpu_dma_latency", FAIL, found, wanted, remedy)


def _statistics(host: Host, plan: Plan) -> Row | None:
    every = host.number("proc/sys/vm/stat_interval")
    if every is None or not plan.hot:
        return None
    return graded(every >= 60, "processor", "statistics of memory", f"gathered on each core every {every} s", "60 s or more apart",
                  "sysctl vm.stat_interval=120")  # fmt: skip


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
            users = list(dict.fromkeys([*users, *plan.real_time]))
            state = FAIL if users else INFO
            said += f"; it hits {', '.join(users)}" if users else "; no role asks for it"
            rows.append(Row("processor", "real-time throttling", state, said, wanted, "sysctl kernel.sched_rt_runtime_us=-1"))
    highest = host.limit("Max realtime priority")
    if host.capable(CAP_SYS_NICE):
        rows.append(Row("processor", "real-time priority", INFO, "allowed (CAP_SYS_NICE)", "only where asked for"))
    elif highest is not None:
        remedy = "" if highest else 'LimitRTPRIO=99 in the unit, or: echo "$USER - rtprio 99" >> /etc/security/limits.conf'
        state = FAIL if plan.real_time and not highest else INFO
        rows.append(Row("processor", "real-time priority", state, f"up to {highest}" if highest else "not allowed",
                        "only where asked for", remedy))  # fmt: skip
    return rows


def _policy(host: Host, pid: int) -> int:
    words = host.read(f"proc/{pid}/stat").rpartition(")")[2].split()
    return int(words[38]) if len(words) > 38 and words[38].isdigit() else 0
