"""What the kernel's receive stamps cost: one datagram through recvmmsg() and the feed, with `feed.stamps` one way and the other.

    a socket ──UDP, loopback──▶ the feed's own receive()        a heartbeat: nothing is decoded, nothing published

Both feeds take turns, a batch each, so that whatever else the machine does meets both alike.
"""

import socket
import struct

import numpy as np

from hftd.bench.registry import BenchError, Lab, Samples, benchmark
from hftd.control import config as configuration
from hftd.core import clock as clocks
from hftd.core.atomics import tsc
from hftd.core.jit import hot
from hftd.core.libc import sendto
from hftd.core.memory import address, block, store64
from hftd.feed.memory import LINE_A
from hftd.feed.setup import FeedAgent, socket_address
from hftd.strategy.harness import private_memory
from hftd.venues.nasdaq.moldfeed import receive

BATCH = 100
DESTINATION, PACKET = 0, 64
HEARTBEAT = b"BENCHSTAMP" + struct.pack(">QH", 1, 0)


@hot
def _receives(agent, fd, at, size, samples, n):
    """Send a datagram and receive it, `n` times; samples: address of n int64, ticks of the receiving."""
    for i in range(n):
        sendto(fd, at + PACKET, size, 0, at + DESTINATION, 16)
        begun = tsc()
        receive(agent, LINE_A)
        store64(samples + 8 * i, tsc() - begun)


def _feed(stamps: str) -> tuple[FeedAgent, int]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = configuration.build({
        "universe": {"symbols": ["BENA"], "max": 1},
        "feed": {"line_a": f"127.0.0.1:{port}", "request": [], "orders_max": 1024, "levels_max": 1024, "queue_packets": 64,
                 "stamps": stamps},
    })  # fmt: skip
    memory = private_memory(config)
    clocks.calibrate(memory["control"]["clock"][0], 0.005)
    agent = FeedAgent(config, memory)
    agent.prepare(True)
    return agent, port


@benchmark("stamps", about="receive one datagram, the system call included")
def stamps(lab: Lab) -> list[Samples]:
    """A row for each way; what the kernel's stamp costs is their difference."""
    rounds = lab.count(200, 4)
    feeds = {kind: _feed(kind) for kind in ("tsc", "kernel")}
    found = {kind: np.zeros((rounds, BATCH), np.int64) for kind in feeds}
    memory = block(4096)
    memory[PACKET : PACKET + len(HEARTBEAT)] = HEARTBEAT
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        try:
            for at in range(-2, rounds):
                for kind, (agent, port) in feeds.items():
                    memory[DESTINATION : DESTINATION + 16] = socket_address("127.0.0.1", port)
                    samples = found[kind][max(at, 0)]
                    _receives(agent.handle, out.fileno(), address(memory), len(HEARTBEAT), samples.ctypes.data, BATCH)
            for kind, (agent, _) in feeds.items():
                counted = agent.build.counters
                if int(counted["heartbeats"]) != (rounds + 2) * BATCH or int(counted["unstamped"]):
                    raise BenchError(f"stamps: {kind}: {int(counted['heartbeats'])} of {(rounds + 2) * BATCH} datagrams came, "
                                     f"{int(counted['unstamped'])} without a stamp")  # fmt: skip
        finally:
            for agent, _ in feeds.values():
                agent.close()
    plain = lab.median_ns(found["tsc"].ravel())
    return [
        Samples(found[kind].ravel(), name=f"stamps: {kind}",
                note="" if kind == "tsc" else f"{lab.median_ns(found[kind].ravel()) - plain:+.0f} ns")
        for kind in feeds
    ]  # fmt: skip
