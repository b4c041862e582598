"""The exchange's sockets, without its loop."""

import fcntl
import resource
import socket
import time

from hftd.sim.options import Options
from hftd.sim.server import Server


def free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def test_more_than_a_thousand_descriptors_end_nothing():
    """As many connections that never log in: select() refuses descriptors beyond 1023, and the exchange ended with a traceback."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(2048, hard), hard))
    ouch, request, glimpse = free_ports(3)
    server = Server(Options(ouch_port=ouch, request_port=request, glimpse_port=glimpse, fast=True))
    try:
        server.open()
        listener = server.ouch
        server.ouch = server._keep(socket.socket(fileno=fcntl.fcntl(listener.fileno(), fcntl.F_DUPFD_CLOEXEC, 1100)))
        with socket.create_connection(("127.0.0.1", ouch)):
            deadline = time.monotonic() + 10
            while not server.logins and time.monotonic() < deadline:
                server.cold()
            assert [login.kind for login in server.logins] == ["ouch"]
    finally:
        server.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
