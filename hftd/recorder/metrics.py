"""The metrics endpoint: Prometheus text over plain HTTP, without a thread. `poll` is called between slices and never blocks.

Everything comes from shared memory, so a scrape costs the recorder some microseconds and the hot processes nothing. One request a
connection, then it is closed; a client that sends no request within two seconds, or more than 4 KiB, is dropped. Bind it to an
address that only the scraper reaches: there is no authentication, and nothing can be changed through it.
"""

import contextlib
import socket
from typing import Any

from hftd.control.config import Config, host_port
from hftd.core.clock import snapshot
from hftd.errors import HftdError
from hftd.msg.enums import AgentState
from hftd.shm import map as shared
from hftd.shm.counters import values
from hftd.shm.histogram import percentiles

CLIENTS = 8
REQUEST_BYTES = 4096
PATIENCE_NS = 2_000_000_000
POINTS = (50.0, 99.0, 99.9)


class MetricsError(HftdError):
    """The endpoint cannot be opened, and why."""


class Endpoint:
    """A listening socket and the clients that wait for an answer."""

    def __init__(self, config: Config, memory: shared.Memory):
        self.config, self.memory = config, memory
        self.scrapes = 0
        self._clients: dict[socket.socket, list[Any]] = {}
        host, port = host_port(config.recorder.metrics, "recorder.metrics")
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.setblocking(False)
        try:
            self._socket.bind((host, port))
            self._socket.listen(CLIENTS)
        except OSError as error:
            self._socket.close()
            raise MetricsError(f"{config.path}: recorder.metrics: {config.recorder.metrics}: {error.strerror}") from None

    def poll(self, now_ns: int) -> None:
        """Take new clients, read requests, write answers: whatever is possible without waiting."""
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while len(self._clients) < CLIENTS:
                client, _ = self._socket.accept()
                client.setblocking(False)
                self._clients[client] = [b"", b"", now_ns + PATIENCE_NS]
        for client, state in list(self._clients.items()):
            if not self._serve(client, state) or now_ns > state[2]:
                client.close()
                del self._clients[client]

    def _serve(self, client: socket.socket, state: list[Any]) -> bool:
        """Go on with one client; False when it is done with."""
        try:
            if not state[1]:
                data = client.recv(REQUEST_BYTES)
                state[0] += data
                if not data or len(state[0]) > REQUEST_BYTES:
                    return False
                if b"\r\n\r\n" not in state[0]:
                    return True
                state[1] = self._answer(state[0])
            state[1] = state[1][client.send(state[1]) :]
            return bool(state[1])
        except BlockingIOError:
            return True
        except OSError:
            return False

    def _answer(self, request: bytes) -> bytes:
        words = request.split(b"\r\n", 1)[0].split()
        if len(words) != 3 or words[0] != b"GET" or words[1].split(b"?")[0] not in (b"/metrics", b"/"):
            return b"HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        self.scrapes += 1
        body = render(self.config, self.memory).encode()
        head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nConnection: close\r\n"
        head += f"Content-Length: {len(body)}\r\n\r\n"
        return head.encode() + body

    def close(self) -> None:
        """Close everything."""
        for client in self._clients:
            client.close()
        self._socket.close()


def render(config: Config, memory: shared.Memory) -> str:
    """Return all metrics as Prometheus text."""
    lines: list[str] = []
    control = memory["control"]
    run, clock = control["run"][0], snapshot(control["clock"][0])
    _gauge(lines, "hftd_run_state", "RunState of the daemon", [("", int(run["state"]))])
    _gauge(lines, "hftd_killed", "1 while the kill switch is set", [("", int(int(run["kill"]) != 0))])
    _gauge(lines, "hftd_session_up", "1 while the venue session is logged in", [("", int(run["session_up"]))])
    agents = [(name, control["marks"][shared.mark_of(role, index)]) for role, index, name in shared.agents(config)]
    running = (AgentState.RUNNING, AgentState.DEGRADED)
    up = [(f'agent="{name}"', int(int(mark["state"]) in running)) for name, mark in agents]
    _gauge(lines, "hftd_agent_up", "1 while the agent runs", up)
    for field, text in (("cycles", "turns of the duty cycle"), ("busy", "turns that found work"), ("starts", "times started")):
        _counter(lines, f"hftd_agent_{field}", text, [(f'agent="{name}"', int(mark[field])) for name, mark in agents])
    for segment in memory.names():
        parts = memory[segment].parts
        label = f'segment="{segment}"'
        if "counters" in parts and not segment.startswith("ring."):
            block = memory[segment]["counters"][0]
            for name, value in values(block).items():
                lines.append(f"hftd_{segment.split('.')[0]}_{name}{{{label}}} {value}")
        if segment.startswith("ring.") and not segment.startswith("ring.log"):
            ring = memory[segment]["control"][0]
            lines.append(f'hftd_ring_records{{ring="{segment[5:]}"}} {int(ring["tail"])}')
            lines.append(f'hftd_ring_full{{ring="{segment[5:]}"}} {int(ring["full"])}')
        if "histograms" in parts:
            for index, histogram in enumerate(memory[segment]["histograms"]):
                count = int(histogram["count"])
                if count:
                    mult = int(clock["mult"])
                    which = f'{label},histogram="{index}"'
                    for point, ticks in zip(POINTS, percentiles(histogram, POINTS)):
                        lines.append(f'hftd_latency_ns{{{which},quantile="{point / 100:g}"}} {ticks * mult >> 32}')
                    lines.append(f"hftd_latency_ns_count{{{which}}} {count}")
    return "\n".join(lines) + "\n"


def _gauge(lines: list[str], name: str, text: str, samples: list[tuple[str, int]], kind: str = "gauge") -> None:
    lines.append(f"# HELP {name} {text}")
    lines.append(f"# TYPE {name} {kind}")
    lines.extend(f"{name}{{{label}}} {value}" if label else f"{name} {value}" for label, value in samples)


def _counter(lines: list[str], name: str, text: str, samples: list[tuple[str, int]]) -> None:
    _gauge(lines, f"{name}_total", text, samples, "counter")
