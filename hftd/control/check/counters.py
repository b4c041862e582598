"""What went wrong already: switches and faults of the running daemon, packets dropped, time stolen."""

import time
from collections.abc import Container
from typing import Any

from hftd.control import noise
from hftd.control.check.files import Host
from hftd.control.check.rows import WARN, Row, boot, graded

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
        isolate = boot(f"isolcpus={after['cores'].get(pid, '')}")
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
