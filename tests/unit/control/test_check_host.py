"""`hftd check`: machines of files, good and bad, and what is said about each; the measurements, short, on this one."""

import json
import os
from pathlib import Path

import pytest

from hftd.control import check, noise
from hftd.control.check import FAIL, INFO, PASS, WARN, ClockState, Host, Plan, cores_of, cores_of_mask, text_of
from hftd.control.check.files import CAP_IPC_LOCK, CAP_SYS_NICE
from hftd.control.config import build

CONFIG = build({"strategy": [{"file": "a.py"}]}, "c.toml")
HOT = Plan("dedicated", "asked for", True, {2: ["feed"], 3: ["strategy.a"], 4: ["risk"], 5: ["gateway"]}, tuple(range(8)), 4)
PARKED = Plan("shared", "auto: few cores", False, {}, (0, 1), 4)

GOOD = {
    "proc/cpuinfo": "flags\t\t: fpu constant_tsc nonstop_tsc\n",
    "proc/cmdline": "quiet isolcpus=2-5 nohz_full=2-5 rcu_nocbs=2-5",
    "sys/devices/system/cpu/isolated": "2-5",
    "sys/devices/system/cpu/nohz_full": "2-5",
    "sys/devices/system/cpu/cpuidle/current_driver": "intel_idle",
    "proc/irq/24/smp_affinity_list": "0-1",
    "proc/interrupts": "           CPU0       CPU1\n 24:          1          0  PCI-MSI 5-edge      eth0-rx-0\n",
    "sys/devices/virtual/workqueue/cpumask": "c3",
    "proc/sys/kernel/nmi_watchdog": "0",
    "proc/sys/kernel/sched_rt_runtime_us": "-1",
    "proc/sys/kernel/sched_rt_period_us": "1000000",
    "sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never",
    "sys/kernel/mm/transparent_hugepage/shmem_enabled": "always within_size [advise] never deny force",
    "proc/meminfo": "MemAvailable:   16000000 kB\nHugePages_Free:        0\n",
    "proc/swaps": "Filename Type Size Used Priority\n",
    "proc/mounts": "tmpfs /dev/shm tmpfs rw,nosuid,size=8g 0 0\ncgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n",
    "dev/shm/.keep": "",
    "proc/self/cgroup": "0::/a/b\n",
    "sys/fs/cgroup/a/b/cpu.max": "max 100000",
    "proc/self/limits": "Limit                     Soft Limit           Hard Limit           Units     \n"
                        "Max locked memory         unlimited            unlimited            bytes     \n"
                        "Max realtime priority     0                    0                              \n",
    "proc/self/status": "CapEff:\t0000000000000000\n",
    "sys/devices/system/clocksource/clocksource0/current_clocksource": "tsc",
    "sys/devices/system/clocksource/clocksource0/available_clocksource": "tsc acpi_pm",
    "proc/sys/net/core/rmem_max": "67108864",
    "sys/class/net/eth0/flags": "0x1003",
    "sys/class/net/eth0/mtu": "1500",
    "proc/net/snmp": "Udp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors\nUdp: 10 0 0 5 0\n",
    "proc/net/softnet_stat": "00000010 00000000 00000000\n",
    "proc/stat": "cpu  1 2 3 4 5 6 7 0\ncpu0 1 2 3 4 5 6 7 0\ncpu2 1 2 3 4 5 6 7 0\n",
    **{f"sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list": str(core) for core in range(8)},
    **{f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_governor": "performance" for core in range(8)},
}  # fmt: skip


class QuietCard:
    """A card whose settings are right, or those that a test gives."""

    def __init__(self, rings=(4096, 4096), coalescing=(0, 1, False), merging=()):
        self.answers = rings, coalescing, None if merging is None else list(merging)

    def rings(self):
        return self.answers[0]

    def coalescing(self):
        return self.answers[1]

    def merging(self):
        return self.answers[2]

    def stamping(self):
        return True, 0


@pytest.fixture
def machine(tmp_path):
    """Return a function that makes a host of GOOD with some files changed; None removes one."""

    def make(**changes) -> Host:
        for path, text in {**GOOD, **changes.get("files", {})}.items():
            if text is not None:
                (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / path).write_text(text)
            else:
                (tmp_path / path).unlink(missing_ok=True)
        return Host(tmp_path)

    return make


def looked(host: Host, plan: Plan = HOT, config=CONFIG, card=None) -> dict[str, check.Row]:
    """Every row about a host's configuration, by what it is about."""
    good = ClockState(True, 200, 5)
    rows = [*check.processor(host, plan), *check.memory(host, plan, config), *check.clock(host, lambda: good),
            *check.network(host, plan, config, "eth0", card or QuietCard()), *check.machine(host)]  # fmt: skip
    return {row.what: row for row in rows}


def test_host_that_is_set_up_for_it_passes(machine):
    """Nothing is complained about, so a complaint means something."""
    rows = looked(machine())
    assert {what: row.found for what, row in rows.items() if row.state in (WARN, FAIL)} == {}
    assert sum(row.state == PASS for row in rows.values()) >= 18


@pytest.mark.parametrize(("what", "state", "files", "found", "remedy"), [
    ("isolated cores", WARN, {"sys/devices/system/cpu/isolated": "2-3"}, "2-3", "isolcpus=2-5"),
    ("cores without tick (nohz_full)", WARN, {"sys/devices/system/cpu/nohz_full": "(null)"}, "none", "nohz_full=2-5"),
    ("RCU callbacks elsewhere (rcu_nocbs)", WARN, {"proc/cmdline": "quiet", "sys/devices/system/cpu/nohz_full": None}, "none",
     "rcu_nocbs=2-5"),
    ("SMT siblings", WARN, {"sys/devices/system/cpu/cpu2/topology/thread_siblings_list": "2,6"}, "2 with 6", "smt/control"),
    ("SMT siblings", FAIL, {"sys/devices/system/cpu/cpu2/topology/thread_siblings_list": "2-3"}, "two roles on one", "smt/control"),
    ("frequency governor", WARN, {"sys/devices/system/cpu/cpu3/cpufreq/scaling_governor": "powersave"}, "performance, powersave",
     "echo performance"),
    ("idle states", WARN, {"sys/devices/system/cpu/cpu2/cpuidle/state3/latency": "133",
                           "sys/devices/system/cpu/cpu2/cpuidle/state3/name": "C6",
                           "sys/devices/system/cpu/cpu2/cpuidle/state3/disable": "0"}, "C6 133 us", "cpupower idle-set -D"),
    ("interrupts on hot cores", WARN, {"proc/irq/24/smp_affinity_list": "0-7"}, "24 eth0-rx-0", "echo 0-1,6-7 >"),
    ("kernel workqueues", WARN, {"sys/devices/virtual/workqueue/cpumask": "ff"}, "may run on 2-5", "echo c3 >"),
    ("NMI watchdog", WARN, {"proc/sys/kernel/nmi_watchdog": "1"}, "on", "sysctl kernel.nmi_watchdog=0"),
    ("CPU quota", FAIL, {"sys/fs/cgroup/a/b/cpu.max": "150000 100000", "sys/fs/cgroup/a/b/cpu.stat": "nr_throttled 7\n"},
     "1.50 cores, throttled 7 times", "cpu.max"),
    ("CPU quota", FAIL, {"sys/fs/cgroup/a/cpu.max": "50000 100000"}, "0.50 cores", "/sys/fs/cgroup/a/cpu.max"),
    ("real-time throttling", INFO, {"proc/sys/kernel/sched_rt_runtime_us": "950000"}, "loses 50 ms each second",
     "sysctl kernel.sched_rt_runtime_us=-1"),
    ("transparent huge pages", WARN, {"sys/kernel/mm/transparent_hugepage/enabled": "[always] madvise never"}, "khugepaged",
     "echo madvise"),
    ("transparent huge pages", WARN, {"sys/kernel/mm/transparent_hugepage/enabled": "always madvise [never]"}, "4 KiB",
     "echo madvise"),
    ("merging of equal pages (KSM)", WARN, {"sys/kernel/mm/ksm/run": "1"}, "page fault", "echo 2 > /sys/kernel/mm/ksm/run"),
    ("statistics of memory", WARN, {"proc/sys/vm/stat_interval": "1"}, "every 1 s", "sysctl vm.stat_interval=120"),
    ("huge pages in shared memory", INFO, {
        "sys/kernel/mm/transparent_hugepage/shmem_enabled": "always within_size advise never [deny] force"}, "deny", "echo never"),
    ("swap", WARN, {"proc/swaps": "Filename Type Size Used Priority\n/dev/sda2 partition 1000 512 -2\n"}, "512 KiB used",
     "swapoff"),
    ("available memory", PASS, {}, "15,625 MiB", ""),
    ("NUMA", WARN, {"sys/devices/system/node/node0/cpulist": "0-3", "sys/devices/system/node/node1/cpulist": "4-7"},
     "node 0: cores 2-3; node 1: cores 4-5", "daemon.cores = [0, 1, 2, 3]"),
    ("NUMA node of the card", WARN, {"sys/devices/system/node/node0/cpulist": "0-3", "sys/devices/system/node/node1/cpulist": "4-7",
                                     "sys/class/net/eth0/device/numa_node": "1"}, "node 1, feed on 2",
     "daemon.cores = [4, 5, 6, 7]"),
    ("time stamp counter", FAIL, {"proc/cpuinfo": "flags\t: constant_tsc\n"}, "lacks nonstop_tsc", "another host"),
    ("clock source", WARN, {"sys/devices/system/clocksource/clocksource0/current_clocksource": "hpet"}, "hpet", "echo tsc"),
    ("receive buffer", WARN, {"proc/sys/net/core/rmem_max": "212992"}, "208 KiB", "sysctl net.core.rmem_max=8388608"),
    ("interface", FAIL, {"sys/class/net/eth0/flags": "0x1002"}, "DOWN", "ip link set eth0 up"),
    ("interface", FAIL, {"sys/class/net/eth0/flags": "0x3"}, "NO multicast", "multicast on"),
    ("kernel mitigations", INFO, {"sys/devices/system/cpu/vulnerabilities/spectre_v2": "Mitigation: IBRS"}, "spectre_v2",
     "mitigations=off"),
])  # fmt: skip
def test_what_is_wrong_is_found_with_what_mends_it(machine, what, state, files, found, remedy):
    """One file at a time."""
    row = looked(machine(files=files))[what]
    assert (row.state, row.what) == (state, what), row
    assert found in row.found
    assert remedy in row.remedy
    assert "\n" not in row.found + row.remedy


def test_isolation_does_not_matter_where_nobody_spins(machine):
    """No row fails or warns for a core that nobody owns; that roles park is one warning."""
    rows = looked(machine(files={"sys/devices/system/cpu/isolated": "", "proc/irq/24/smp_affinity_list": "0-7"}), PARKED)
    assert [what for what, row in rows.items() if row.state in (WARN, FAIL)] == ["layout"]
    assert "roles park" in rows["isolated cores"].wanted or rows["isolated cores"].state == INFO


def test_host_without_a_core_to_spare_is_not_told_to_isolate_all_of_them(machine):
    """It would have nowhere left for everything else."""
    plan = Plan("fused", "asked for", True, {0: ["feed"], 1: ["strategy.a", "risk", "gateway"]}, (0, 1), 4)
    rows = looked(machine(files={"proc/irq/24/smp_affinity_list": "0-1"}), plan)
    assert rows["isolated cores"].state == WARN and rows["isolated cores"].remedy == check.NO_SPARE
    assert rows["kernel workqueues"].remedy == rows["interrupts on hot cores"].remedy == check.NO_SPARE
    noisy = noise.Spin(0, 1.0, 5, 5.0, 2e6, 2.0, 9.0, 11.0, 12.0, 9, 0.0)
    assert check.NO_SPARE in check.judge_spin(noisy, True, plan.spare).remedy


def test_card_is_judged_and_what_it_does_not_tell_is_no_complaint(machine):
    """Rings, coalescing, offloads; a driver without ethtool gives INFO."""
    rows = looked(machine(), card=QuietCard((512, 4096), (50, 64, True), ["gro", "lro"]))
    assert rows["receive ring of the card"].remedy == "ethtool -G eth0 rx 4096"
    assert rows["interrupt coalescing"].remedy == "ethtool -C eth0 adaptive-rx off rx-usecs 0 rx-frames 0"
    assert rows["merging offloads"].remedy == "ethtool -K eth0 gro off lro off"
    assert all(rows[what].state == WARN for what in ("receive ring of the card", "interrupt coalescing", "merging offloads"))
    rows = looked(machine(), card=QuietCard(None, None, None))
    assert all(rows[what].state == INFO for what in ("receive ring of the card", "interrupt coalescing", "merging offloads"))


def test_locked_memory_fails_only_where_it_is_asked_for(machine):
    """A limit below what `daemon.lock_memory` needs; a capability passes it by."""
    small = GOOD["proc/self/limits"].replace("unlimited            unlimited", "8388608              8388608  ")
    limits = {"proc/self/limits": small}
    asked = build({"daemon": {"lock_memory": True}, "strategy": [{"file": "a.py"}]}, "c.toml")
    assert looked(machine(files=limits))["locked memory"].state == INFO
    assert looked(machine(files=limits), config=asked)["locked memory"].state == FAIL
    able = {**limits, "proc/self/status": f"CapEff:\t{1 << CAP_IPC_LOCK:016x}\n"}
    assert looked(machine(files=able), config=asked)["locked memory"].state == PASS


def test_shared_memory_that_does_not_fit_fails(machine):
    """What this instance has already counts as there."""
    plan = Plan("shared", "", False, {}, (0,), 4, shared_bytes=1 << 60, name="x")
    rows = looked(machine(), plan)
    assert rows["/dev/shm"].state == FAIL
    assert "remount,size=" in rows["/dev/shm"].remedy


@pytest.mark.parametrize(("state", "wanted"), [
    (ClockState(True, 1000, 10), PASS), (ClockState(True, 9000, 900), WARN), (ClockState(False, 0, 0), WARN), (None, INFO),
])  # fmt: skip
def test_clock_is_as_good_as_the_kernel_says(machine, state, wanted):
    """Synchronised and near, synchronised and far, not at all, not known."""
    rows = {row.what: row for row in check.clock(machine(), lambda: state)}
    assert rows["synchronised"].state == wanted


def role(pid: int, name: str, involuntary=0, minor=0, major=0, policy=0, cores="2") -> dict[str, str]:
    """The files of a process."""
    words = ["S", *["0"] * 50]
    words[7], words[9], words[38] = str(minor), str(major), str(policy)
    return {
        f"proc/{pid}/comm": f"hftd:{name}\n",
        f"proc/{pid}/stat": f"{pid} (hftd:{name}) {' '.join(words)}\n",
        f"proc/{pid}/status": f"Cpus_allowed_list:\t{cores}\nvoluntary_ctxt_switches:\t4\n"
                              f"nonvoluntary_ctxt_switches:\t{involuntary}\n",
    }  # fmt: skip


def test_fifo_under_throttling_fails(machine):
    """A role that runs under SCHED_FIFO on a host that takes 50 ms of each second from it."""
    files = {"proc/sys/kernel/sched_rt_runtime_us": "950000", **role(77, "feed", policy=1)}
    row = looked(machine(files=files))["real-time throttling"]
    assert row.state == FAIL
    assert "it hits feed" in row.found


def test_what_placement_asks_for_is_looked_at_before_it_is_refused(machine):
    """SCHED_FIFO under throttling or without the right, reserved pages that are not there, a device that may not be opened."""
    asks = Plan("dedicated", "", True, HOT.hot, tuple(range(8)), 4, real_time=("feed", "risk"),
                reserved=(("feed", 38), ("gateway", 3)), awake=True)  # fmt: skip
    bad = {"proc/sys/kernel/sched_rt_runtime_us": "950000", "proc/sys/vm/nr_hugepages": "0"}
    rows = looked(machine(files=bad), asks)
    for what, found, remedy in [
        ("real-time throttling", "it hits feed, risk", "sched_rt_runtime_us=-1"),
        ("real-time priority", "not allowed", "LimitRTPRIO"),
        ("reserved 2 MiB pages", "0, 0 free", "sysctl vm.nr_hugepages=41"),
        ("cpu_dma_latency", "is missing", "remove the key"),
    ]:  # fmt: skip
        assert (rows[what].state, found in rows[what].found, remedy in rows[what].remedy) == (FAIL, True, True), rows[what]
    able = {
        "proc/sys/vm/nr_hugepages": "64", "proc/meminfo": "MemAvailable:   16000000 kB\nHugePages_Free:       60\n",
        "proc/self/status": f"CapEff:\t{1 << CAP_SYS_NICE:016x}\n", "dev/cpu_dma_latency": "",
        "proc/sys/kernel/sched_rt_runtime_us": "-1",
        "sys/devices/system/cpu/cpu2/cpuidle/state3/latency": "133", "sys/devices/system/cpu/cpu2/cpuidle/state3/disable": "0",
    }  # fmt: skip
    rows = looked(machine(files=able), asks)
    assert {what: row.found for what, row in rows.items() if row.state in (WARN, FAIL)} == {}
    assert "held back" in rows["idle states"].found


def test_plan_says_who_asks_for_what(monkeypatch):
    """By the configuration: roles that spin and ask for a real-time class, for reserved pages; the recorder is no hot role."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    plan = check.plan_of(build({
        "daemon": {"layout": "dedicated", "cores": [2, 3, 4, 5]}, "strategy": [{"file": "a.py"}],
        "placement": {"policy": "fifo", "huge_pages": "reserved", "cpu_dma_latency": True, "role": {
            "recorder": {"core": 1, "huge_pages": "advise"}}},
    }, "c.toml"))  # fmt: skip
    assert plan.real_time == ("feed", "risk", "strategy.a", "gateway") and set(plan.hot) == {2, 3, 4, 5}
    assert "recorder" not in dict(plan.reserved) and dict(plan.reserved)["feed"] > 20 and plan.awake


HUGE_PAGES = "proc/sys/vm/nr_hugepages"


def meminfo(there: int, free: int, promised: int = 0) -> dict[str, str]:
    """What a kernel says with so many reserved pages."""
    lines = ("MemAvailable:   16000000 kB", f"HugePages_Total: {there}", f"HugePages_Free: {free}", f"HugePages_Rsvd: {promised}")
    return {HUGE_PAGES: str(there), "proc/meminfo": "\n".join(lines)}


@pytest.mark.parametrize(("there", "free", "promised", "held"), [(0, 0, 0, 0), (10, 10, 0, 0), (64, 5, 3, 0), (50, 0, 0, 30)])
def test_following_the_remedy_for_reserved_pages_satisfies_it(machine, there, free, promised, held):
    """Whatever others hold or are promised, the number that is printed is enough: the row passes once it was done."""
    asks = Plan("dedicated", "", True, HOT.hot, tuple(range(8)), 4, name="hftd", reserved=(("feed", 38), ("gateway", 3)))
    ours = {"proc/77/comm": "hftd:feed", "proc/77/maps": "7f0 rw-s 0 00:1a 5 /dev/shm/hftd.hftd.ring.md",
            "proc/77/status": f"Name:\thftd:feed\nHugetlbPages:\t{held * 2048} kB\n",
            "proc/78/comm": "hftd:feed", "proc/78/maps": "7f0 rw-s 0 00:1a 5 /dev/shm/hftd.other.ring.md",
            "proc/78/status": "Name:\thftd:feed\nHugetlbPages:\t999999 kB\n"}  # fmt: skip
    row = looked(machine(files={**meminfo(there, free, promised), **ours}), asks)["reserved 2 MiB pages"]
    assert row.state == FAIL and row.wanted.startswith("41: 38 for feed, 3 for gateway")
    command, _, number = row.remedy.partition("=")
    assert command == "sysctl vm.nr_hugepages"
    more = int(number) - there
    after = looked(machine(files={**meminfo(int(number), free + more, promised), **ours}), asks)["reserved 2 MiB pages"]
    assert after.state == PASS and after.remedy == ""
    less = looked(machine(files={**meminfo(int(number) - 1, free + more - 1, promised), **ours}), asks)["reserved 2 MiB pages"]
    assert less.state == FAIL


def test_card_that_stamps_is_told(machine):
    """Its clock's number; one that does not is no complaint."""
    assert looked(machine())["time stamps by the card"].found == "yes, clock /dev/ptp0"


def test_counters_tell_what_happened_while_we_looked(machine):
    """Switches, faults and drops between two samples; the recorder may be interrupted."""
    before = check.sample(machine(files={**role(77, "feed", 5, 100, 1), **role(78, "recorder", 5)}))
    udp = "Udp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors\nUdp: 10 0 3 5 3\n"
    sockets = ("  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt uid timeout inode ref pointer drops\n"
               "  1: 0100007F:7919 00000000:0000 07 00000000:00000000 00:00000000 00000000 0 0 99 2 0 12\n")  # fmt: skip
    after = check.sample(machine(files={**role(77, "feed", 9, 100, 1), **role(78, "recorder", 50), "proc/net/snmp": udp,
                                        "proc/net/udp": sockets, "proc/net/softnet_stat": "10 2 1\n"}))  # fmt: skip
    after["at"] = before["at"] + 2
    rows = {row.what: row for row in check.counters(before, after, {0x7919})}
    assert rows["feed (pid 77)"].state == WARN
    assert "9 (2/s now) involuntary switches" in rows["feed (pid 77)"].found
    assert "isolcpus=2 " in rows["feed (pid 77)"].remedy
    assert {row.what: row.state for row in check.counters(before, after, spin=False)}["feed (pid 77)"] == PASS
    assert rows["recorder (pid 78)"].state == PASS
    assert rows["UDP drops"].state == WARN and rows["UDP drops"].figures["RcvbufErrors"] == 3
    assert rows["UDP socket 127.0.0.1:31001"].found == "12 packets dropped"
    assert "UDP socket 127.0.0.1:31001" not in {row.what for row in check.counters(before, after)}
    assert rows["network backlog"].state == WARN


def test_cores_of_a_running_daemon_are_left_alone(machine):
    """Measuring there would take them from it; nothing else is left to measure here."""
    host = machine(files={**role(77, "feed", cores="0-3"), **role(78, "risk", cores="4,5")})
    rows = check.measured(host, HOT, 1.0)
    assert [row.what for row in rows] == ["cores left out"]
    assert "feed, risk" in rows[0].found


@pytest.mark.parametrize(("changes", "hot", "state", "words"), [
    ({}, True, PASS, ""),
    ({"longest": 2e6, "lost_percent": 2.0, "involuntary": 9}, True, WARN, "isolcpus=3"),
    ({"longest": 2e6, "lost_percent": 2.0, "involuntary": 9}, False, WARN, "fewer programs"),
    ({"longest": 2e6, "lost_percent": 30.0, "involuntary": 9}, True, FAIL, "isolcpus=3"),
    ({"longest": 2e6, "lost_percent": 30.0, "involuntary": 9}, False, WARN, "fewer programs"),
    ({"longest": 2e6, "stolen_ms": 20.0}, True, WARN, "hypervisor"),
    ({"longest": 6e4, "interrupts": {"LOC": 250.0}}, True, WARN, "nohz_full=3"),
    ({"longest": 6e4, "interrupts": {"eth0 (irq 24)": 250.0}}, True, WARN, "interrupts"),
    ({"longest": 6e5}, True, WARN, "firmware"),
])  # fmt: skip
def test_noise_is_put_down_to_whoever_made_it(changes, hot, state, words):
    """By what the kernel counted while the core spun."""
    facts = {"core": 3, "seconds": 1.0, "gaps": 5, "gaps_per_s": 5.0, "longest": 4e3, "lost_percent": 0.01, "p50": 9.0, "p99": 11.0,
             "p999": 12.0, "involuntary": 0, "stolen_ms": 0.0}  # fmt: skip
    row = check.judge_spin(noise.Spin(**{**facts, **changes}), hot)
    assert row.state == state
    assert words in row.remedy


def test_measured_noise_is_of_this_machine():
    """A short spin, a few sleeps, a few trips: plausible figures, affinity as before."""
    before = os.sched_getaffinity(0)
    core, clock = min(before), noise.new_clock()
    found = noise.spin(core, 0.05, clock)
    assert 0.0499 <= found.seconds < 5                # the counter and the clock differ by parts in a million
    assert 0 < found.p50 <= found.p99 <= found.p999 <= found.longest or found.gaps == 0
    assert 0 <= found.lost_percent <= 100
    assert (found.gaps > 0) == (found.longest > noise.GAP_NS)
    late = noise.timers(core, clock, 20)
    assert len(late) == 20 and late[0] >= -1000 and list(late) == sorted(late)
    if len(before) > 1:
        try:
            trips = noise.hop(core, max(before), clock, 200)
        except check_error():
            pytest.skip("the other core was taken away for too long")
        assert len(trips) == 200 and 0 < trips[0] < trips[-1]
    assert os.sched_getaffinity(0) == before


def check_error():
    """What a benchmark raises when the other side did not answer."""
    from hftd.bench.registry import BenchError

    return BenchError


def test_interrupts_and_stolen_time_are_read_by_core():
    """Columns by number, devices by their last word; a core that is not there has none."""
    text = "            CPU0       CPU2\n 24:          1          5  PCI-MSI 5-edge      eth0\nLOC:       7      9   Local timer\n"
    assert noise.interrupts(text, 2) == {"eth0 (irq 24)": 5, "LOC": 9}
    assert noise.interrupts(text, 1) == {}
    assert noise.interrupts("", 0) == {}
    assert noise.stolen_ms("cpu0 1 2 3 4 5 6 7 100 0 0\n", 0) == 100 * 1000 / os.sysconf("SC_CLK_TCK")
    assert noise.stolen_ms("cpu0 1 2 3\n", 0) == 0


@pytest.mark.parametrize(("text", "cores"), [("0-3,8", {0, 1, 2, 3, 8}), ("", set()), ("(null)", set()), ("5\n", {5})])
def test_lists_of_cores(text, cores):
    """As the kernel writes them, there and back."""
    assert cores_of(text) == cores
    assert cores_of(text_of(cores)) == cores
    assert cores_of_mask("1,00000003") == {0, 1, 32}
    assert cores_of_mask("xyz") == set()


def test_everything_is_looked_at_on_this_machine():
    """The whole of it, nothing measured: every row has words, a state, and a remedy where it complains."""
    rows = check.check(CONFIG, measure=False)
    assert {row.area for row in rows} >= {"processor", "memory", "clock", "network", "counters"}
    assert all(row.state in (PASS, WARN, FAIL, INFO) and row.found for row in rows)
    assert all(row.remedy for row in rows if row.state == FAIL)
    json.dumps([row.as_dict() for row in rows])
    assert Path("/proc").is_dir()
