"""The host of one agent: plain Python that sets up, enters the compiled duty cycle, and handles the reason it came back for.

A subclass gives `kernel` (the bound duty cycle), fills `self.handle` in `open`, and answers reasons in `on_reason`. The host calls
`cold` between slices, at most every millisecond: look at a file descriptor, a time-out, a request; never anything long. A slice is
bounded, so signals and the run state are seen within a millisecond.
"""

import os
import signal
import time
from collections.abc import Callable

import numpy as np

from hftd.core import clock as clocks
from hftd.core.idle import PARK, SPIN, idle_dtype, set_idle
from hftd.core.jit import hot
from hftd.core.keepwarm import KeepWarm
from hftd.core.memory import records
from hftd.core.meter import Meter
from hftd.msg.enums import AgentState, LogCode, Reason, Role, RunState
from hftd.msg.records import log_dtype
from hftd.shm import ring
from hftd.shm.errlog import ROWS
from hftd.shm.placed import note_warm

SPIN_TURNS = 200_000
"""Turns in a slice of a spinning agent: at a few ns each, about a millisecond."""

PARK_TURNS = 2_000

PAUSE_SPIN_US, PAUSE_PARK_US = 10, 200
"""What counts as a pause where `daemon.pause_us` does not say: of a loop that spins, and of one that parks."""

WARM_NS = 500_000_000
"""After READY, until every page that the loops of Python and of machine code use has been touched."""

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGABRT)
"""Each tells a child to stop in good order. SIGABRT is what systemd's watchdog sends the whole group when the supervisor hangs."""


class Agent:
    """One role in one process (or one of three in the fused process)."""

    role: Role
    index = 0

    def __init__(self, config, memory, index: int = 0):
        self.config, self.memory, self.index = config, memory, index
        control = memory["control"]
        at = int(self.role) + index
        self.run = control["run"][0]
        self.clock = control["clock"][0]
        self.mark = control["marks"][at]
        self.placed = control["placed"][at]
        self.errors = control["errors"][at * ROWS : (at + 1) * ROWS]
        self.errors_at = control.address("errors") + at * ROWS * self.errors.dtype.itemsize
        self.waiting = records(idle_dtype, 1)[0]
        self.stopping = False
        self.exit_code = 0
        self.meter: Meter | None = None
        self.keep_warm: KeepWarm | None = None
        self.on_open: Callable[[], None] | None = None  # what the process does when this agent has opened all it owns
        self.warm_at_ns = 0                           # when warm-up ends; 0: the daemon is not ready yet; -1: it has ended
        self._log = records(ring.producer_dtype, 1)[0]
        self._log_record = records(log_dtype, 1)
        ring.open_producer(self._log, memory[f"ring.log.{at}"])
        self.handle: np.void

    # ------------------------------------------------------------ what a role supplies

    def kernel(self):
        """Return the compiled duty cycle of this role (made before the fork, so that it only loads here)."""
        raise NotImplementedError(f"{type(self).__name__}.kernel")

    def open(self) -> None:
        """Fill `self.handle` and open what the role owns."""

    def cold(self, now_ns: int) -> None:
        """Do cold work between slices. now_ns: CLOCK_MONOTONIC."""

    def on_reason(self, reason: int) -> None:
        """Handle a Reason other than SLICE and STOP."""

    def stop(self) -> bool:
        """Called between slices while the daemon is stopping; True when this agent has nothing more to do.

        The gateway goes first: it cancels, waits until every order is terminal, and logs out. The others serve it until then.
        """
        gateway = self.memory["control"]["marks"][int(Role.GATEWAY)]
        return int(gateway["pid"]) == 0 or not alive(int(gateway["pid"]))

    def close(self) -> None:
        """Give back what `open` took."""

    # ------------------------------------------------------------ the host

    def ready(self, yes: bool = True) -> None:
        """Say in the mark whether this agent can do its part."""
        self.mark["ready"] = int(yes)

    def log(self, code: LogCode, a: int = 0, b: int = 0, c: int = 0, d: int = 0) -> None:
        """Write a log record from cold code."""
        record = self._log_record[0]
        record["ts"], record["code"], record["role"] = clocks.now_ticks(), int(code), int(self.role) + self.index
        record["a"], record["b"], record["c"], record["d"] = a, b, c, d
        push_log(self._log, self._log_record.ctypes.data)

    def prepare(self, spin: bool) -> None:
        """Take the mark, choose how to idle, and open."""
        self.mark["kind"], self.mark["index"], self.mark["pid"] = int(self.role), self.index, os.getpid()
        self.mark["state"], self.mark["ready"] = int(AgentState.STARTING), 0
        self.mark["started_utc_ns"] = time.time_ns()
        set_idle(self.waiting, SPIN if spin else PARK)
        self.open()
        if self.on_open is not None:
            self.on_open()
        if int(self.mark["state"]) == AgentState.STARTING:    # else opening found that it cannot do its part
            self.mark["state"] = int(AgentState.RUNNING)

    def open_meter(self, spin: bool) -> Meter:
        """Open the hiccup meter of this agent's loop; from now on it notes pauses."""
        threshold = self.config.daemon.pause_us or (PAUSE_SPIN_US if spin else PAUSE_PARK_US)
        self.meter = Meter(self.waiting, self.memory["control"], int(self.role) + self.index, self.clock, threshold)
        return self.meter

    def watch_warm(self) -> None:
        """Some slices after READY, note the counters of this process: faults and switches after that are worth a question."""
        now = time.monotonic_ns()
        if self.warm_at_ns == 0 and self.run["state"] == RunState.READY:
            self.warm_at_ns = now + WARM_NS
        elif 0 < self.warm_at_ns < now:
            self.warm_at_ns = -1
            note_warm(self.placed)
            note_warm(self.placed)                    # again: the first time touched pages of its own

    def serve(self, spin: bool) -> int:
        """Run until the daemon stops or its supervisor is gone; return a process exit code.

        The kernel sends a signal when the supervisor dies (`die_with_parent`): nothing has to be asked in the loop.
        """
        stopped = Flag(*STOP_SIGNALS)
        self.prepare(spin)
        kernel = self.kernel()
        turns = SPIN_TURNS if spin else PARK_TURNS
        meter = self.open_meter(spin)
        try:
            while True:
                meter.begin()
                reason = kernel(self.handle, self.mark, self.waiting, turns)
                meter.end()
                if reason not in (Reason.SLICE, Reason.STOP):
                    self.mark["reason"] = reason
                    self.on_reason(reason)
                now = time.monotonic_ns()
                self.cold(now)
                if self.keep_warm is not None:
                    self.keep_warm.turn(now)
                if self.warm_at_ns >= 0:
                    self.watch_warm()
                if self.stopping or stopped or self.run["state"] >= RunState.STOPPING:
                    self.stopping = True
                    self.mark["state"] = int(AgentState.STOPPING)
                    if self.stop():
                        return self.exit_code
        finally:
            self.close()
            self.mark["state"] = int(AgentState.STOPPED)
            self.mark["pid"] = 0


def alive(pid: int) -> bool:
    """Tell whether a process exists and is not a zombie."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


class Flag:
    """A signal that was received; True once it was."""

    def __init__(self, *numbers: int):
        self.number = 0
        for number in numbers:
            signal.signal(number, self._set)

    def _set(self, number, frame):
        self.number = number

    def __bool__(self) -> bool:
        return self.number != 0


@hot
def push_log(producer, source):
    """Append one log record from cold code. producer: producer_dtype record; source: address of a log_dtype record."""
    return ring.push(producer, source)

