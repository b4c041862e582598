"""Every component of the path, run a fixed number of times between two requests to callgrind. Hot, and the child's main.

    python -m hftd.bench.counted            compiles into the cache, runs, checks results; prints repetitions and call sites
    valgrind --tool=callgrind … the same    the same, and callgrind dumps the instructions of each component under its name

`instructions.py` starts both with the compiler's target pinned, so that the figures are those of any machine. The stages run over
the rig (`rig.py`): one better bid, the order it causes, the venue's two answers, then an execution, a replacement and a deletion.
"""

import json
import sys
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np

from hftd.bench import core, flow, path
from hftd.bench.requests import DUMP_AS, NOTHING, START, STOP, TOGGLE, ZERO, ask, request, words
from hftd.bench.rig import ADD, DELETE, EXECUTE, PX, REPLACE, Rig, answer, write_packet
from hftd.core.atomics import store_release_at, tsc
from hftd.core.bind import bind
from hftd.core.certify import ALLOWED, certify
from hftd.core.jit import hot, leaf
from hftd.core.libc import MSG_DONTWAIT, recv
from hftd.core.memory import address, block, records
from hftd.feed.replay import decode_run
from hftd.gateway.incoming import receive_messages
from hftd.gateway.outgoing import send_orders
from hftd.risk.loop import risk_turn
from hftd.shm import histogram, pool, ring
from hftd.venues.nasdaq.moldfeed import handle_packet

N, ORDERS, MESSAGES = 2000, 200, 2000
STAGES = (
    "empty", "packet, add", "strategy", "risk", "order", "answer", "risk, reports", "strategy, reports",
    "packet, execute", "packet, replace", "packet, delete",
)  # fmt: skip
"""Regions of `counted_path`, in its order; the first holds nothing, and is what bracketing costs."""

body: Any = None
turn: Any = None


def counted(state, toggle, n):
    """Call body(state, k) `n` times, counted."""
    request(toggle)
    for k in range(n):
        body(state, k)
    request(toggle)


@hot
def counted_decode(at, end, toggle):
    """Decode framed messages, counted."""
    request(toggle)
    total = decode_run(at, end)
    request(toggle)
    return total


@leaf
def mark(toggle, which, stage):
    """Begin or end the region `stage`, if it is the one that is counted."""
    if which == stage:
        request(toggle)


def counted_path(feed, strategy, risk, gateway, rig, toggle, which, n):
    """Let `n` better bids go the whole way, region `which` counted. Returns the orders that arrived."""
    arrived = 0
    for _ in range(n):
        mark(toggle, which, 0)
        mark(toggle, which, 0)
        store_release_at(rig.risk_mark_at, tsc())
        now = tsc()
        before = gateway.table.open_count
        size = write_packet(rig, ADD, rig.ref, PX + 100)
        feed.ts_recv = now
        mark(toggle, which, 1)
        handle_packet(feed, rig.packet_at, size, 0)
        mark(toggle, which, 1)
        mark(toggle, which, 2)
        turn(strategy, now)
        mark(toggle, which, 2)
        mark(toggle, which, 3)
        risk_turn(risk, now)
        mark(toggle, which, 3)
        mark(toggle, which, 4)
        send_orders(gateway, now)
        mark(toggle, which, 4)
        if gateway.table.open_count != before + 1:
            return arrived
        answer(gateway.link, rig, gateway.link.tx_base)
        recv(rig.peer, rig.scratch_at, 4096, MSG_DONTWAIT)
        mark(toggle, which, 5)
        receive_messages(gateway, now)
        mark(toggle, which, 5)
        mark(toggle, which, 6)
        risk_turn(risk, now)
        mark(toggle, which, 6)
        mark(toggle, which, 7)
        turn(strategy, now)
        mark(toggle, which, 7)
        size = write_packet(rig, EXECUTE, rig.ref, 0)
        mark(toggle, which, 8)
        handle_packet(feed, rig.packet_at, size, 0)
        mark(toggle, which, 8)
        size = write_packet(rig, REPLACE, rig.ref, PX)
        mark(toggle, which, 9)
        handle_packet(feed, rig.packet_at, size, 0)
        mark(toggle, which, 9)
        size = write_packet(rig, DELETE, rig.ref + 1, 0)
        mark(toggle, which, 10)
        handle_packet(feed, rig.packet_at, size, 0)
        mark(toggle, which, 10)
        turn(strategy, now)
        risk_turn(risk, now)
        rig.ref += 2
        arrived += 1
    return arrived


# ---------------------------------------------------------------- cold


class Counter:
    """Runs regions and has callgrind dump each under its name."""

    def __init__(self) -> None:
        self.toggle, self.nothing = words(TOGGLE), words(NOTHING)
        self.calls: dict[str, int] = {}
        self.times: dict[str, int] = {}

    def count(self, name: str, times: int, run: Callable[[int], None]) -> None:
        """Run once uncounted, then counted. run: takes the address of the request that brackets the `times` operations."""
        self.times[name] = times
        run(self.nothing.ctypes.data)
        label = np.frombuffer(name.encode() + b"\0", np.uint8)
        for made in (words(ZERO), words(START)):
            ask(made.ctypes.data)
        run(self.toggle.ctypes.data)
        for made in (words(DUMP_AS, label.ctypes.data), words(STOP)):
            ask(made.ctypes.data)

    def leaf(self, name: str, function, state) -> None:
        """Count N calls of a leaf `(state, k)`."""
        kernel = bind(counted, f"counted_{name.replace(' ', '_')}", body=function)
        self.count(name, N, lambda toggle: kernel(state, toggle, N))
        self.certificate(name, kernel)

    def certificate(self, name: str, kernel) -> None:
        """Keep how many places of a kernel call."""
        dispatcher = getattr(kernel, "dispatcher", kernel)
        self.calls[name] = certify(dispatcher, dispatcher.signatures[0], ALLOWED, lines=False).sites


def _leaves(counter: Counter) -> None:
    state = records(core.number_dtype, 1)
    kept = records(histogram.histogram_dtype, 1)
    state["at"] = kept.ctypes.data
    counter.leaf("histogram", core._record, state[0])
    cell = records(core.quote_pair_dtype, 1)
    cell["cell"]["version"] = 2
    counter.leaf("seqlock", core._read_cell, cell[0])
    rows, free = records(core.pool_row_dtype, 1024), records(pool.pool_dtype, 1)
    pool.open_pool(free[0], rows.ctypes.data, len(rows))
    counter.leaf("pool", core._take_give, free[0])
    memory, ends = core.private_ring(1024), records(core.ring_pair_dtype, 1)
    ring.open_producer(ends[0]["p"], memory)
    ring.open_consumer(ends[0]["c"], memory, 0)
    counter.leaf("ring", core._push_take, ends[0])
    if int(ends[0]["c"]["next"]) != 2 * N or int(ends[0]["c"]["lost"]):
        sys.exit(f"ring: {int(ends[0]['c']['next'])} of {2 * N} records came")
    limits = records(path.limits_dtype, 1)
    limits["qty_max"], limits["notional_max"], limits["position_max"], limits["rate_max"] = 1000, 1 << 40, 1 << 30, 1000
    limits["gross_max"], limits["bps"] = 1 << 50, 500
    counter.leaf("limits", path._limits, limits[0])
    bytes_out, image = block(4096), records(path.encode_dtype, 1)
    image["image"], image["out"] = address(bytes_out), address(bytes_out) + 128
    path._image(address(bytes_out), int.from_bytes(b"BENA    ", "little"))
    counter.leaf("encode", path._encode, image[0])


def _decode(counter: Counter) -> None:
    data = np.frombuffer(flow.make_flow(MESSAGES, 7).data, np.uint8)
    at = data.ctypes.data
    counter.count("parse", MESSAGES, lambda toggle: counted_decode(at, at + len(data), toggle))
    counter.certificate("parse", counted_decode)


def _stages(counter: Counter) -> None:
    with tempfile.TemporaryDirectory(prefix="hftd-bench-") as directory:
        rig = Rig(directory)
        try:
            rig.gateway.handle["tail_ticks"] = 1 << 62    # no order is slow: that would depend on how long valgrind takes
            kernel = rig.strategy.program.bind(counted_path, "counted_path")

            def run(toggle: int, which: int) -> None:
                arrived = int(kernel(*rig.parts, toggle, which, ORDERS))
                if arrived != ORDERS:
                    sys.exit(f"order {arrived + 1} of {ORDERS} did not reach the venue; {rig.why()}")

            for which, name in enumerate(STAGES):
                counter.count(name, ORDERS, lambda toggle, which=which: run(toggle, which))  # type: ignore[misc]
            rig.check(2 * ORDERS * len(STAGES))
            counter.certificate("path", kernel)
        finally:
            rig.close()


def main() -> None:
    """Run everything; print how often, and the kernels' call sites."""
    counter = Counter()
    _leaves(counter)
    _decode(counter)
    _stages(counter)
    sys.stdout.write(json.dumps({"times": counter.times, "calls": counter.calls}) + "\n")


if __name__ == "__main__":
    main()
