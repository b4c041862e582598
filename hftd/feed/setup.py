"""The feed agent's cold side: sockets, memory, and what the loop comes back to Python for.

Each line is a UDP socket bound to a multicast group (joined on the configured interface) or to a unicast address; requests for
missed messages leave by a socket of their own, to which servers answer. A feed that starts again, or a session that changes over,
begins with empty books and message 1: strategies are told to clear theirs, and everything is asked for again, or made up for by a
snapshot where much is missing and a server for it is configured (`venues/nasdaq/glimpse.py`).
"""

import ipaddress
import socket
import struct
from contextlib import suppress

from hftd.control.config import ConfigError, NotThere, host_port, password
from hftd.core.agent import Agent
from hftd.core.clock import ns_to_ticks
from hftd.core.jit import hot
from hftd.core.memory import address, block, row, set_span, span
from hftd.feed.build import Build, own_tables, private, shared, sizes_of
from hftd.feed.events import CLEAR, emit, make_room
from hftd.feed.loop import kernel
from hftd.feed.memory import LINE_A, LINE_B, LINE_R, book_dtype
from hftd.feed.state import (
    BATCH,
    MEND_BYTES,
    PACKET_ROOM,
    SERVERS_MAX,
    SINK_RING,
    SNAPSHOT_WANTED,
    ticket_dtype,
    waiting_dtype,
)
from hftd.feed.view import read_book
from hftd.msg.enums import AgentState, BookState, LogCode, Reason, Role
from hftd.msg.status import BREAKER
from hftd.shm.errlog import ROWS
from hftd.shm.ring import open_producer, publish
from hftd.venues.nasdaq.glimpse import PAUSE_S, Spin
from hftd.venues.nasdaq.itchrare import SYSTEM, tell_all
from hftd.venues.nasdaq.moldfeed import CONTROL_ROOM, SCM_TIMESTAMPNS
from hftd.venues.nasdaq.moldudp64 import session_to_ints

MSGHDR = 64
SNAPSHOT_FROM = 8
"""Missing messages, per packet of the queue, from which on a snapshot is asked for at once: while fewer are sent again, the queue
holds what comes meanwhile, in packets of as many messages."""
SILENCE_S = 3.0
"""Silence of our session after which another one is taken, where the configuration names none."""


@hot
def clear_event(agent, instrument):
    """Tell strategies that an instrument's book is void."""
    make_room(agent, 1)
    emit(agent, row(span(agent.engine.books), instrument, book_dtype), instrument, CLEAR, 0, 0, 0, 0, 0)
    publish(agent.md)


@hot
def breaker_event(agent, level):
    """Let a market-wide breaker fall on every instrument, and tell strategies."""
    tell_all(agent, SYSTEM, 0, BREAKER, level)
    publish(agent.md)


@hot
def ticks_of(clock, ns):
    """Return `ns` nanoseconds in ticks. clock: clock_dtype record."""
    return ns_to_ticks(clock, ns)


def line_socket(text: str, interface: str, receive_buffer: int, where: str) -> socket.socket:
    """Return a non-blocking UDP socket that receives a line: a multicast group, joined, or a unicast address.

    Raises NotThere where the address cannot be bound or the group not joined.
    """
    host, port = host_port(text, where)
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        with suppress(OSError):
            made.setsockopt(socket.SOL_SOCKET, getattr(socket, "SO_RCVBUFFORCE", 33), receive_buffer)
        group = ipaddress.ip_address(socket.gethostbyname(host))
        if group.is_multicast:                        # several receivers of one host may share a group, not a unicast port
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((str(group), port))
        if group.is_multicast:
            with suppress(OSError):
                made.setsockopt(socket.IPPROTO_IP, getattr(socket, "IP_MULTICAST_ALL", 49), 0)
            made.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group.packed + socket.inet_aton(interface))
    except OSError as error:
        made.close()
        raise NotThere(f"{where}: {text} on interface {interface}: {error.strerror or error}") from None
    return made


def socket_address(host: str, port: int) -> bytes:
    """Return a struct sockaddr_in."""
    return struct.pack("=H", socket.AF_INET) + struct.pack("!H", port) + socket.inet_aton(host) + bytes(8)


def waiting_tables(packets: int) -> dict:
    """Return what lists the packets that wait beyond a gap: name -> dtype and rows."""
    return {"order": (waiting_dtype, packets), "tickets": (ticket_dtype, packets)}


def large_blocks(config) -> list[int]:
    """Return the bytes of each block of the feed's that asks for large pages."""
    feed = config.feed
    own = own_tables(config.instruments, feed.orders_max, feed.prints_max)
    return [sum(sizes_of(own)), sum(sizes_of(waiting_tables(feed.queue_packets))), feed.queue_packets * PACKET_ROOM]


class FeedAgent(Agent):
    """Receives market data, keeps the books, publishes events."""

    role = Role.FEED

    def kernel(self):
        """Return the feed's duty cycle."""
        return kernel()

    def open(self) -> None:
        """Join the lines, make the private memory, and start as new: empty books, message 1."""
        feed, path = self.config.feed, self.config.path
        market = ("instruments", "quotes", "statuses", "session", "counters", "histograms", "types")
        tables = {name: shared(self.memory["market"], name) for name in market}
        tables |= {name: shared(self.memory["books"], name) for name in ("books", "levels", "slots")}
        self.build = Build(tables, feed.orders_max, self.config.universe.symbols, SINK_RING, feed.prints_max)
        self.handle = agent = self.build.agent
        open_producer(agent["md"], self.memory["ring.md"])
        set_span(agent["errors"], self.errors_at, ROWS)
        self._packets(agent, feed)
        self._recovery(agent, feed)
        agent["on_taint"] = int(feed.on_taint == "stale")
        if feed.session:
            agent["session_a"], agent["session_b"] = session_to_ints(feed.session)
            agent["session_known"] = agent["session_fixed"] = 1
        self.sockets: list[socket.socket] = []
        self._line(LINE_A, feed.line_a, "line_a", path)
        if feed.line_b:
            self._line(LINE_B, feed.line_b, "line_b", path)
        asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        asking.setblocking(False)
        asking.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, feed.receive_buffer)
        self._keep(LINE_R, asking)
        self.spin = self._snapshots(agent, feed)
        self._seen = dict.fromkeys(("gaps", "recovered", "snapshots", "given_up", "sessions", "session_ends"), 0)
        for name in self._seen:
            self._seen[name] = int(self.build.counters[name])
        if int(agent["md"]["tail"]) > 0:              # somebody may hold books of a feed before us
            for index in range(self.config.instruments):
                clear_event(agent, index)
        if self.build.half_told:                      # its predecessor died at telling it
            breaker_event(agent, self.build.half_told)
        self.run["instruments"] = agent["used"]

    def _line(self, line: int, text: str, key: str, path: str) -> None:
        feed = self.config.feed
        made = line_socket(text, feed.interface, feed.receive_buffer, f"{path}: feed.{key}")
        if feed.stamps == "kernel":
            made.setsockopt(socket.SOL_SOCKET, SCM_TIMESTAMPNS, 1)
            self.handle["lines"][line]["stamped"] = 1
        self._keep(line, made)

    def _keep(self, line: int, made: socket.socket) -> None:
        self.sockets.append(made)
        self.handle["lines"][line]["fd"] = made.fileno()

    def _packets(self, agent, feed) -> None:
        """Lay out the receive buffers with their headers, and the queue of packets that wait."""
        size = BATCH * (PACKET_ROOM + 16 + 2 * (MSGHDR + 16) + CONTROL_ROOM + 8) + 16
        self._receive = block(size, name="receive buffers", count=BATCH)
        buffers = address(self._receive)
        vectors = buffers + BATCH * PACKET_ROOM
        headers = vectors + BATCH * 16
        named = headers + BATCH * MSGHDR
        senders = named + BATCH * MSGHDR
        controls = senders + BATCH * 16
        agent["time_at"], agent["per_ns"] = controls + BATCH * CONTROL_ROOM, self.clock["inverse"]
        agent["arrivals_at"] = agent["time_at"] + 16
        told = (controls, CONTROL_ROOM) if feed.stamps == "kernel" else (0, 0)
        for i in range(BATCH):
            struct.pack_into("=QQ", self._receive, vectors - buffers + 16 * i, buffers + i * PACKET_ROOM, PACKET_ROOM)
            struct.pack_into("=QQQQQQII", self._receive, headers - buffers + MSGHDR * i,
                             0, 0, vectors + 16 * i, 1, told[0] + i * told[1], told[1], 0, 0)  # fmt: skip
            struct.pack_into("=QQQQQQII", self._receive, named - buffers + MSGHDR * i,
                             senders + 16 * i, 16, vectors + 16 * i, 1, 0, 0, 0, 0)  # fmt: skip
        agent["buffers_at"] = buffers
        for line in (LINE_A, LINE_B, LINE_R):         # only of answers is it asked who sent them
            agent["lines"][line]["headers_at"] = named if line == LINE_R else headers
        waiting = private(**waiting_tables(feed.queue_packets))
        self._order, self._tickets = waiting["order"], waiting["tickets"]
        self._tickets.rows["buffer"] = range(feed.queue_packets)
        self._queue = block(feed.queue_packets * PACKET_ROOM, huge=True, name="packet queue", count=feed.queue_packets)
        set_span(agent["order"], self._order.base, feed.queue_packets)
        set_span(agent["free_buffers"], self._tickets.base, feed.queue_packets)
        agent["queue_at"], agent["free_count"] = address(self._queue), feed.queue_packets

    def _recovery(self, agent, feed) -> None:
        """Prepare the servers' addresses, the request and the time limits."""
        servers = [host_port(text, f"{self.config.path}: feed.request") for text in feed.request[:SERVERS_MAX]]
        self._servers = block(4096, name="servers", count=len(servers))
        at = address(self._servers)
        for i, (host, port) in enumerate(servers):
            try:
                self._servers[16 * i : 16 * i + 16] = socket_address(socket.gethostbyname(host), port)
            except OSError as error:
                raise NotThere(f"{self.config.path}: feed.request: {host}:{port}: {error.strerror or error}") from None
        agent["servers"], agent["servers_at"], agent["request_at"] = len(servers), at, at + 16 * SERVERS_MAX
        agent["reorder_packets"] = feed.reorder_packets
        agent["reorder"] = ticks_of(self.clock, feed.reorder_ms * 1_000_000)
        agent["timeout"] = ticks_of(self.clock, feed.gap_timeout_ms * 1_000_000)
        agent["silence"] = ticks_of(self.clock, int(SILENCE_S * 1e9))
        agent["tries_max"] = feed.gap_retries

    def _snapshots(self, agent, feed) -> Spin | None:
        """Prepare to fetch snapshots, where a server is configured and there are lines."""
        if not feed.glimpse or int(agent["lines"][LINE_A]["fd"]) < 0:
            return None
        where = f"{self.config.path}: feed.glimpse"
        host, port = host_port(feed.glimpse, where)
        try:
            address_of_server = (socket.gethostbyname(host), port)
        except OSError as error:
            raise NotThere(f"{where}: {host}:{port}: {error.strerror or error}") from None
        user = feed.glimpse_user or self.config.gateway.username
        pause = ticks_of(self.clock, int(PAUSE_S * 1e9))
        try:
            made = Spin(agent, self.build.counters, address_of_server, user, password(self.config), feed.orders_max, pause)
        except ValueError as error:
            raise ConfigError(f"{where}_user: {error}") from None
        agent["snapshot_from"] = SNAPSHOT_FROM * feed.queue_packets
        self._kept = block(MEND_BYTES)
        set_span(agent["mend_log"], address(self._kept), MEND_BYTES)
        return made

    def cold(self, now_ns: int) -> None:
        """Say whether the books can be trusted, and log what changed since the last slice."""
        agent, counters = self.handle, self.build.counters
        behind = bool(agent["behind"])
        counters["events"] = agent["md"]["tail"]
        if self.spin is not None and (self.spin.busy or agent["snapshot"] == SNAPSHOT_WANTED):
            self.spin.turn(now_ns)
        heard = int(agent["last_heard"]) > 0           # by this process: before that it cannot know that it is behind
        self.ready(heard and not behind and int(agent["state"]) == int(BookState.LIVE))
        if not self.stopping:
            self.mark["state"] = int(AgentState.DEGRADED if behind or agent["state"] != BookState.LIVE else AgentState.RUNNING)
        self.run["instruments"] = agent["used"]
        for name, code in (("gaps", LogCode.FEED_GAP), ("recovered", LogCode.FEED_RECOVERED), ("snapshots", LogCode.FEED_RECOVERED),
                           ("given_up", LogCode.FEED_GAP), ("sessions", LogCode.FEED_SESSION),
                           ("session_ends", LogCode.FEED_END)):  # fmt: skip
            if int(counters[name]) != self._seen[name]:
                first = self._seen[name] == 0
                self._seen[name] = int(counters[name])
                if name != "session_ends" or first:
                    self.log(code, int(agent["expected"]), int(agent["highest"]), int(counters[name]), int(name == "given_up"))

    def on_reason(self, reason: int) -> None:
        """Change over to another session: clear every book, start at message 1."""
        if reason == Reason.SESSION_END:
            agent = self.handle
            announced = self.build.announced
            self._tickets.rows["buffer"] = range(self._tickets.count)
            self.build.reset(int(BookState.LIVE))
            agent["last_heard"] = agent["ts_recv"]    # what is left of the old session is no third one
            agent["session_a"], agent["session_b"] = int(agent["next_a"]), int(agent["next_b"])
            self.build.counters["sessions"] += 1
            for index in announced:
                clear_event(agent, index)

    def close(self) -> None:
        """Leave the groups and close the sockets."""
        if getattr(self, "spin", None) is not None:
            self.spin.close()
        for made in getattr(self, "sockets", ()):
            made.close()


__all__ = ["FeedAgent", "line_socket", "read_book"]
