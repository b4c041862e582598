"""The feed's interface: buffers, rings, offloads, where it is attached. The card is asked by ethtool's ioctl: no rights needed."""

import array
import fcntl
import socket
import struct

from hftd.control.check.files import CAP_NET_ADMIN, Host
from hftd.control.check.memory import nodes_of
from hftd.control.check.rows import FAIL, INFO, PASS, WARN, Plan, Row, graded, size_text, text_of
from hftd.control.config import Config


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

    def stamping(self) -> tuple[bool, int] | None:
        """Time stamps: (the card stamps what it receives, number of its clock; -1: it has none)."""
        words = self.ask(0x41, 11)
        return (bool(words[1] & 4), words[2] if words[2] < 1 << 31 else -1) if words else None

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
        said = f"net.core.rmem_max {size_text(most)}" + (", passed by with CAP_NET_ADMIN" if forced and most < wanted else "")
        rows.append(graded(ok, "network", "receive buffer", said, f"feed.receive_buffer {size_text(wanted)}",
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
    stamps = card.stamping()
    if stamps is not None:
        said = "yes" if stamps[0] else "no: packets are stamped by the kernel"
        said += f", clock /dev/ptp{stamps[1]}" if stamps[1] >= 0 else ", no clock of its own"
        rows.append(Row("network", "time stamps by the card", PASS if stamps[0] else INFO, said, "yes, for `hftd record`"))
    merging = card.merging()
    if merging is None:
        rows.append(Row("network", "merging offloads", INFO, unread, "gro, lro off"))
    else:
        remedy = f"ethtool -K {name} {' '.join(f'{one} off' for one in merging)}" if merging else ""
        rows.append(Row("network", "merging offloads", WARN if merging else PASS, f"{', '.join(merging)} on" if merging else "off",
                        "gro, lro off", remedy))  # fmt: skip
    node = host.number(f"sys/class/net/{name}/device/numa_node")
    nodes = nodes_of(host)
    if node is not None and node >= 0 and len(nodes) > 1:
        feed = {core for core, roles in plan.hot.items() if "feed" in roles} or set(plan.cores)
        ok = feed <= nodes.get(node, set())
        near = sorted(nodes.get(node, set()) & set(plan.allowed))[: max(plan.roles, 1)]
        rows.append(graded(ok, "network", "NUMA node of the card", f"node {node}, feed on {text_of(feed)}",
                           f"feed on {text_of(nodes.get(node, set()))}", f"daemon.cores = {near}"))  # fmt: skip
    return rows
