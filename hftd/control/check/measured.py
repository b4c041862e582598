"""What a core really does: the spin test, timers and hops of noise.py, judged."""

from collections.abc import Callable
from itertools import pairwise

from hftd.control import noise
from hftd.control.check.files import Host
from hftd.control.check.rows import FAIL, INFO, NO_SPARE, PASS, WARN, Plan, Row, boot, cores_of, graded, text_of

NOISE_CORES_MAX = 32
HOT_IDLE_GAP_US, HOT_LOST_PERCENT, LOST_FAIL_PERCENT = 50.0, 0.1, 10.0
TIMER_P99_US = 50.0
HOP_NS = 200.0


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
            apart = boot(f"isolcpus={found.core}") if spare else NO_SPARE
            remedy = f"other programs ran here: {apart if hot else 'more cores, or fewer programs beside hftd'}"
        elif found.stolen_ms >= 1:
            remedy = "the hypervisor took the core: have vCPUs pinned, or use bare metal"
        elif found.interrupts.get("LOC", 0) > 10:
            core = found.core
            remedy = f"the tick: {boot(f'isolcpus={core} nohz_full={core} rcu_nocbs={core}') if spare and hot else NO_SPARE}"
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
