"""A feed agent on real loopback sockets, stepped from the test: nothing sleeps, nothing runs beside it.

`Exchange` holds the session's messages, sends them as packets on two lines, and answers retransmission requests when asked to.
"""

import contextlib
import itertools
import os
import socket
import struct
import time
from typing import NamedTuple

import numpy as np

from hftd.control import config as configuration
from hftd.core import clock as clocks
from hftd.feed.setup import FeedAgent
from hftd.msg.records import FLAG_END_OF_PACKET, FLAG_SELL, FLAG_STATE_SHIFT, market_event_dtype
from hftd.shm import map as shared
from hftd.shm import ring, segment
from tests.support.itch_messages import packet

_names = itertools.count()


def udp(port: int = 0) -> socket.socket:
    """Return a non-blocking UDP socket bound to loopback."""
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind(("127.0.0.1", port))
    made.setblocking(False)
    return made


class Told(NamedTuple):
    """What a market event says. side: 1, of the selling side; end: the packet has no more of this instrument."""

    kind: int
    instrument: int
    side: int
    px: int
    qty: int
    orders: int
    ref: int
    end: bool


class Live:
    """A FeedAgent with its shared memory, two unicast lines and a retransmission server."""

    def __init__(self, symbols=(), session: str = "", servers: int = 1, md: int = 1 << 15, rows: int = 8,
                 strategy=(), **feed):  # fmt: skip
        probe = [udp(), udp()]
        ports = [one.getsockname()[1] for one in probe]
        self.servers, self.out = [udp() for _ in range(servers)], udp()
        for one in probe:
            one.close()
        self.config = configuration.build({
            "daemon": {"name": f"feedtest{os.getpid() % 100_000}n{next(_names)}"},
            "universe": {"symbols": list(symbols), "max": rows},
            "feed": {"line_a": f"127.0.0.1:{ports[0]}", "line_b": f"127.0.0.1:{ports[1]}", "session": session,
                     "request": [f"127.0.0.1:{one.getsockname()[1]}" for one in self.servers],
                     "orders_max": 4096, "levels_max": 2048, "queue_packets": 64, "gap_timeout_ms": 5000, "gap_retries": 3,
                     "reorder_ms": 0, **feed},
            "rings": {"md": md}, "strategy": list(strategy),
        })  # fmt: skip
        self.lines = [("127.0.0.1", port) for port in ports]
        self.session, self.messages = "SESSION001", []
        self.said = self.seen = 0
        self.requests: list[tuple[int, int, int]] = []
        self.memory = shared.create(self.config, 1)
        clocks.calibrate(self.memory["control"]["clock"][0], 0.002)
        self.agent = FeedAgent(self.config, self.memory)
        try:
            self.agent.prepare(False)
        except BaseException:                         # a port that was free a moment ago is not
            self.agent.close()
            for one in (*self.servers, self.out):
                one.close()
            self.memory.unlink()
            raise

    def close(self) -> None:
        """Give everything back."""
        self.agent.close()
        for one in (*self.servers, self.out):
            one.close()
        self.memory.unlink()
        assert not segment.existing(self.config.daemon.name)

    # ------------------------------------------------------------ the exchange

    def send(self, data: bytes, line: int = 0) -> None:
        """Send one datagram on a line."""
        self.out.sendto(data, self.lines[line])

    def publish(self, first: int, count: int, line: int = 0) -> None:
        """Send messages `first`..`first + count - 1` (from 1) of the session, at most 40 a packet."""
        for at in range(first, first + count, 40):
            self.send(packet(self.session, at, *self.messages[at - 1 : min(at + 39, first + count - 1)]), line)

    def control(self, sequence: int, count: int = 0, line: int = 0) -> None:
        """Send a heartbeat (count 0) or an end of session (0xFFFF)."""
        self.send(self.session.encode().ljust(10) + struct.pack(">QH", sequence, count), line)

    def after(self, *messages: bytes) -> list[Told]:
        """Say messages, as the session's next packet; return the events they caused."""
        self.send(packet(self.session, self.said + 1, *messages))
        self.said += len(messages)
        self.until(lambda: self.expected() == self.said + 1)
        events = self.events()[self.seen :]
        self.seen += len(events)
        return [
            Told(*(int(e[name]) for name in ("kind", "instrument")), int(e["flags"]) & FLAG_SELL,
                 *(int(e[name]) for name in ("px", "qty", "orders", "ref")), bool(e["flags"] & FLAG_END_OF_PACKET))
            for e in events
        ]  # fmt: skip

    def answer(self, server: int = 0, keep=lambda first: True) -> int:
        """Answer the requests that wait at a server; return how many were. `keep(first)` False: stay silent."""
        done = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                data, origin = self.servers[server].recvfrom(64)
                first, count = struct.unpack(">QH", data[10:20])
                assert data[:10] == self.session.encode().ljust(10) and len(data) == 20
                self.requests.append((server, first, count))
                done += 1
                if keep(first):
                    self.servers[server].sendto(packet(self.session, first, *self.messages[first - 1 : first - 1 + count]), origin)
        return done

    # ------------------------------------------------------------ the feed

    def step(self, turns: int = 4) -> None:
        """Let the feed run a few turns, with the cold work between slices."""
        reason = self.agent.kernel()(self.agent.handle, self.agent.mark, self.agent.waiting, turns)
        if reason > 1:
            self.agent.on_reason(reason)
        self.agent.cold(time.monotonic_ns())

    def until(self, done, step=None, limit_s: float = 20.0) -> None:
        """Step until `done()` holds; fails after `limit_s` seconds."""
        end = time.monotonic() + limit_s
        while not done():
            assert time.monotonic() < end, self.counters()
            self.step()
            if step:
                step()

    def expected(self) -> int:
        """Return the number of the next message the feed wants."""
        return int(self.agent.handle["expected"])

    def counters(self) -> dict[str, int]:
        """Return the counters that are not zero."""
        block = self.agent.build.counters
        return {name: int(block[name]) for name in block.dtype.names if name != "pad" and block[name]}

    def counter(self, name: str) -> int:
        """Return one counter."""
        return int(self.agent.build.counters[name])

    def ready(self) -> bool:
        """Tell whether the agent says that it can do its part."""
        return bool(self.agent.mark["ready"])

    def state(self, instrument: int = 0) -> int:
        """Return the BookState in a quote cell."""
        return int(self.memory["market"]["quotes"]["state"][instrument])

    def events(self) -> np.ndarray:
        """Return every event that was published (the ring must not have wrapped)."""
        md = self.memory["ring.md"]
        tail = int(np.asarray(md["control"])["tail"][0])
        assert tail <= md.parts["slots"].count
        return np.asarray(md["slots"]).view(market_event_dtype)[:tail].copy()

    def consumer(self, place: int) -> None:
        """Attach a gating consumer that never reads."""
        held = np.zeros(1, ring.consumer_dtype)
        ring.open_consumer(held[0], self.memory["ring.md"], place)


def state_of(event) -> int:
    """Return the BookState in an event's flags."""
    return (int(event["flags"]) >> FLAG_STATE_SHIFT) & 3
