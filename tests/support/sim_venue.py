"""The exchange as a process of its own, and clients of it made of plain sockets: nothing of hftd's protocols is used here."""

import json
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

from tests.support.data import ROOT


def free_ports(count: int) -> list[int]:
    """Ports free now for TCP and UDP."""
    found: list[int] = []
    while len(found) < count:
        with socket.socket() as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            tcp.bind(("127.0.0.1", 0))
            port = tcp.getsockname()[1]
            try:
                udp.bind(("127.0.0.1", port))
            except OSError:
                continue
            if port not in found:
                found.append(port)
    return found


class Venue:
    """`python -m hftd.sim` with ports of its own; a context manager that leaves no process behind."""

    def __init__(self, directory: Path, *arguments: str):
        self.ouch, self.request, self.glimpse, self.port_a, self.port_b = free_ports(5)
        self.group = f"239.193.{self.ouch % 250 + 1}.{self.request % 250 + 1}"
        self.ledger, self.log = directory / "ledger.json", directory / "venue.log"
        self._output = self.log.open("w")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "hftd.sim", "--line-a", f"{self.group}:{self.port_a}", "--line-b", f"{self.group}:{self.port_b}",
             "--ouch-port", str(self.ouch), "--request-port", str(self.request), "--glimpse-port", str(self.glimpse), "--ledger",
             str(self.ledger), *arguments],
            stdout=self._output, stderr=self._output, stdin=subprocess.DEVNULL, cwd=ROOT,
        )  # fmt: skip

    def __enter__(self) -> "Venue":
        deadline = time.monotonic() + 90
        while "ready" not in self.log.read_text():
            assert self.process.poll() is None and time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.01)
        return self

    def __exit__(self, *_) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._output.close()

    def end(self) -> dict:
        """Stop it with SIGTERM (where it has not ended by itself) and return its ledger."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(20) == 0, self.log.read_text()
        return json.loads(self.ledger.read_text())

    def wait(self, seconds: float = 30) -> dict:
        """Wait for it to end by itself and return its ledger."""
        assert self.process.wait(seconds) == 0, self.log.read_text()
        return json.loads(self.ledger.read_text())


class Soup:
    """A SoupBinTCP client."""

    def __init__(self, port: int, user: str = "HFTD01", sequence: int = 1, password: str = "", session: str = ""):
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.sock.settimeout(8)
        self.bytes = b""
        body = f"{user:<6}{password:<10}{session:<10}{sequence:>20}".encode()
        self.sock.sendall(struct.pack(">HB", len(body) + 1, ord("L")) + body)
        answer = self.packet()
        self.answer = answer[:2].decode()
        self.next = int(answer[11:31]) if answer[:1] == b"A" else 0

    def __enter__(self) -> "Soup":
        return self

    def __exit__(self, *_) -> None:
        self.sock.close()

    def packet(self) -> bytes:
        """Type byte and payload of the next packet; empty when the server closed."""
        while len(self.bytes) < 2 or len(self.bytes) < 2 + int.from_bytes(self.bytes[:2], "big"):
            try:
                got = self.sock.recv(1 << 16)
            except ConnectionResetError:
                got = b""
            if not got:
                return b""
            self.bytes += got
        size = int.from_bytes(self.bytes[:2], "big") + 2
        whole, self.bytes = self.bytes[2:size], self.bytes[size:]
        return whole

    def message(self) -> bytes:
        """The next sequenced message; empty at the end of the session or of the connection."""
        while True:
            packet = self.packet()
            if packet[:1] == b"S":
                self.next += 1
                return packet[1:]
            if packet[:1] in (b"", b"Z"):
                return b""

    def send(self, message: bytes, kind: str = "U") -> None:
        self.sock.sendall(struct.pack(">HB", len(message) + 1, ord(kind)) + message)


class Line:
    """A listener to one multicast line."""

    def __init__(self, venue: Venue, port: int):
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        self.sock.bind((venue.group, port))
        self.sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP,
                             socket.inet_aton(venue.group) + socket.inet_aton("127.0.0.1"))  # fmt: skip
        self.sock.settimeout(5)
        self.messages: dict[int, bytes] = {}
        self.heartbeats = self.duplicates = self.late = 0
        self.highest = 1
        self.ended = 0

    def close(self) -> None:
        self.sock.close()

    def read(self, until) -> None:
        """Receive packets until `until()`."""
        while not until():
            self.take(self.sock.recv(2048))

    def take(self, data: bytes) -> None:
        """Note what one packet says."""
        assert len(data) <= 1400
        session, sequence, count = struct.unpack_from(">10sQH", data)
        assert session == b"HFTD000001"
        if count in (0, 0xFFFF):
            assert len(data) == 20
            self.heartbeats += count == 0
            self.ended = self.ended or (sequence if count else 0)
            return
        self.late += sequence < self.highest
        at = 20
        for number in range(sequence, sequence + count):
            (size,) = struct.unpack_from(">H", data, at)
            self.duplicates += number in self.messages
            assert self.messages.setdefault(number, data[at + 2 : at + 2 + size]) == data[at + 2 : at + 2 + size]
            at += 2 + size
        assert at == len(data)
        self.highest = max(self.highest, sequence + count)


def request(venue: Venue, sequence: int, count: int, session: bytes = b"HFTD000001", extra: bytes = b"") -> bytes:
    """Ask for a retransmission; the answer, or nothing within a moment."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.5)
        sock.sendto(session + struct.pack(">QH", sequence, count) + extra, ("127.0.0.1", venue.request))
        try:
            return sock.recv(4096)
        except TimeoutError:
            return b""
