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
from hftd.shm.counters import DOC, values
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
        with contextlib.suppress(OSError):            # nobody there, gone again, no descriptor left: no reason to end
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


class Families:
    """Metrics by name, so that the text has all lines of one together, as its format wants: help, type, samples."""

    def __init__(self) -> None:
        self._families: dict[str, tuple[str, str, list[str]]] = {}

    def add(self, name: str, text: str, value: int, kind: str = "gauge", end: str = "", **labels: str) -> None:
        """Add a sample. text: help, '' where there is none. end: behind the family's name in the sample's, as `_count`."""
        inside = ",".join(f'{label}="{_escaped(value)}"' for label, value in labels.items())
        samples = self._families.setdefault(name, (text, kind, []))[2]
        samples.append(f"{name}{end}{{{inside}}} {value}" if inside else f"{name}{end} {value}")

    def __str__(self) -> str:
        lines: list[str] = []
        for name, (text, kind, samples) in self._families.items():
            if text:
                lines.append(f"# HELP {name} {_escaped(text, quote=False)}")
            lines.append(f"# TYPE {name} {kind}")
            lines += samples
        return "\n".join(lines) + "\n"


def _escaped(text: str, quote: bool = True) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quote else text


def render(config: Config, memory: shared.Memory) -> str:
    """Return all metrics as Prometheus text."""
    made = Families()
    control = memory["control"]
    run, mult = control["run"][0], int(snapshot(control["clock"][0])["mult"])
    made.add("hftd_run_state", "RunState of the daemon", int(run["state"]))
    made.add("hftd_killed", "1 while the kill switch is set", int(int(run["kill"]) != 0))
    made.add("hftd_session_up", "1 while the venue session is logged in", int(run["session_up"]))
    running = (AgentState.RUNNING, AgentState.DEGRADED)
    for role, index, name in shared.agents(config):
        mark = control["marks"][shared.mark_of(role, index)]
        made.add("hftd_agent_up", "1 while the agent runs", int(int(mark["state"]) in running), agent=name)
        for what, text in (("cycles", "turns of the duty cycle"), ("busy", "turns that found work"), ("starts", "times started")):
            made.add(f"hftd_agent_{what}_total", text, int(mark[what]), "counter", agent=name)
    for segment in memory.names():
        parts, kind = memory[segment].parts, segment.split(".")[0]
        if "counters" in parts and kind != "ring":
            found = values(memory[segment]["counters"][0])
            told = next((texts for texts in DOC.values() if texts.keys() == found.keys()), {})
            for name, value in found.items():
                made.add(f"hftd_{kind}_{name}", told.get(name, ""), value, "untyped", segment=segment)
        if kind == "ring" and not segment.startswith("ring.log"):
            ring = memory[segment]["control"][0]
            made.add("hftd_ring_records", "records written", int(ring["tail"]), "untyped", ring=segment[5:])
            made.add("hftd_ring_full", "times the writer found no room", int(ring["full"]), "untyped", ring=segment[5:])
        if "histograms" in parts:
            for index, histogram in enumerate(memory[segment]["histograms"]):
                _summary(made, histogram, mult, segment=segment, histogram=str(index))
    return str(made)


def _summary(made: Families, of, mult: int, **labels: str) -> None:
    """Add a histogram of ticks, in ns; nothing where it is empty."""
    text, count = "where the time goes; hftd latency names the histograms", int(of["count"])
    if not count:
        return
    for point, ticks in zip(POINTS, percentiles(of, POINTS)):
        made.add("hftd_latency_ns", text, ticks * mult >> 32, "summary", **labels, quantile=f"{point / 100:g}")
    made.add("hftd_latency_ns", text, int(of["total"]) * mult >> 32, "summary", "_sum", **labels)
    made.add("hftd_latency_ns", text, count, "summary", "_count", **labels)
