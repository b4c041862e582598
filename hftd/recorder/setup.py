"""The recorder agent: taps on every ring, the open journal file, log lines, the day's ledger, the metrics endpoint. Goes last.

Its compiled turn only copies (loop.py). Here, between slices and at most every millisecond, Python looks at the entries that are
new: log records, refusals and rejections become lines; the rest needs nothing. It parks a millisecond when there is nothing to
do: its rings hold far more than a millisecond's records, and nobody waits for it.

At the end it waits until every other agent is gone, takes what they left in the rings, seals the journal; and where the supervisor
is gone too, it ends what still runs after a grace time and removes the shared memory, so that nothing of the instance remains.
"""

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from hftd.control.config import LAYOUTS, Config, log_dir
from hftd.core import clock as clocks
from hftd.core.agent import Agent, alive
from hftd.core.idle import PARK, set_idle
from hftd.core.memory import records, set_span
from hftd.msg.enums import AgentState, Reason, Role
from hftd.msg.records import INSTRUMENT_ANNOUNCED, log_dtype, report_dtype
from hftd.recorder import crashed, loop
from hftd.recorder.causes import Causes
from hftd.recorder.journal import Stream, stream_code
from hftd.recorder.logs import LEVEL_OF_EXEC, WORDS_OF_EXEC, Logs, RotatingFile
from hftd.recorder.loop import recorder_agent_dtype
from hftd.recorder.metrics import Endpoint
from hftd.recorder.taps import crc_tables, entry_dtype
from hftd.recorder.target import Target
from hftd.risk import ledger
from hftd.shm import map as shared
from hftd.shm import pauses, ring
from hftd.shm.errlog import ROWS
from hftd.shm.map import PLACE_RECORDER

PARK_NS = 1_000_000
LINES_MAX = 2_000
"""Entries looked at for log lines between two slices; a flood beyond it is in the journal, and its lines are counted as held."""

SECOND = 1_000_000_000
ERRORS_NS = 100_000_000
CLOCK_NS = 60 * SECOND
JOURNAL_S = 0.001
"""The disk took longer than this: a stall."""

GRACE_S = 10.0
"""After the stop's own time-out, and without a supervisor: what still runs is ended."""

QUIET = [int(kind) for kind in WORDS_OF_EXEC if kind not in LEVEL_OF_EXEC]
"""Reports whose lines are at level `debug`."""


class RecorderAgent(Agent):
    """The recorder, in a process of its own."""

    role = Role.RECORDER

    def __init__(self, config: Config, memory, index: int = 0):
        super().__init__(config, memory, index)
        self._handle = records(recorder_agent_dtype, 1, "handle")
        self.handle = self._handle[0]
        self.counters = memory["recorder"]["counters"][0]
        self.taps = memory["recorder"]["taps"]
        self.supervisor = int(memory["control"].header[0]["owner_pid"])
        self.directory = log_dir(config)
        self.names = {shared.mark_of(role, at): name for role, at, name in shared.agents(config)} | {0: "supervisor"}
        self.symbols: dict[int, str] = {}
        self.target = Target(config, self.directory, memory, self.handle, streams(config), self.symbols)
        self.endpoint: Endpoint | None = None
        self._tables = crc_tables()
        self._errors_seen: dict[int, int] = {}
        self._states: dict[int, int] = {}
        fused = LAYOUTS[int(self.run["layout"])] == "fused"
        self.causes = Causes(memory, self.counters, self.clock, fused)
        self._next_second = self._next_errors = self._next_clock = 0
        self._ledger = ""
        self._ledger_fails = False
        self._log_failed, self._next_log_failed = 0, 0.0
        self._alone_since = 0.0
        self._closed = False

    def kernel(self):
        return loop.kernel()

    # ------------------------------------------------------------ open

    def open(self) -> None:
        """Seal what a crash left, join every ring, begin a journal file and the log."""
        set_idle(self.waiting, PARK, spins=0, yields=0, park_ns=PARK_NS)
        config, instance = self.config, self.config.daemon.name
        self.logs = Logs(RotatingFile(self.directory / "hftd.jsonl"), config.recorder.level, instance, self.names, self.symbol)
        self.target.logs = self.logs
        self.logs.held, self.logs.file.failed = int(self.counters["lines_held"]), int(self.counters["log_failed"])
        self._log_failed = self.logs.file.failed
        if self.logs.file.torn:
            self.logs.say("warning", "recorder", "the log's last line was cut off: taken out", bytes=self.logs.file.torn)
        self._load_symbols()
        left, bad = crashed.left_open(self.directory, instance) if config.recorder.journal else ([], [])
        mine = [file for file in left if file.epoch == int(self.run["epoch"])]
        rows = np.concatenate([np.zeros(0, entry_dtype), *(file.rows for file in mine)])
        handle = self.handle
        handle["tables_at"] = self._tables.ctypes.data
        handle["counters_at"] = self.memory["recorder"].address("counters")
        set_span(handle["taps"], self.memory["recorder"].address("taps"), self.memory["recorder"].parts["taps"].count)
        for at, (name, code) in enumerate(streams(self.config).items()):
            segment = self.memory[name]
            self.taps[at]["stream"], self.taps[at]["capacity"] = code, segment.parts["slots"].count
            crashed.resume(self.taps[at], segment["control"][0]["consumers"][PLACE_RECORDER], rows)
            ring.open_consumer(handle["consumers"][at], segment, PLACE_RECORDER, gating=False, from_start=True)
            handle["consumers"][at]["lost"] = int(self.taps[at]["lost"])
            handle["count"] = at + 1
        for name in ("entries", "lost"):
            self.counters[name] = int(self.taps[name].sum())
        for file in mine:
            self._tell(file.rows[file.told :])
        self.logs.file.flush()
        for file in left:
            self._seal_left(file, bad)
        for why in bad:
            self.logs.say("error", "recorder", "a journal was left open by a crash, and cannot be sealed", why=why)
        self.target.next_file()
        if config.recorder.metrics:
            self.endpoint = Endpoint(config, self.memory)
        self.logs.say("info", "recorder", "recorder started", layout=int(self.run["layout"]), config=config.path,
                      journal=str(self.target.writer.path) if self.target.writer else "",
                      agents=list(self.names.values()))  # fmt: skip
        self.logs.file.flush()
        self.ready()

    def _seal_left(self, file: crashed.Left, bad: list[str]) -> None:
        """Seal a file that a dead recorder left open, and say so."""
        try:
            crashed.seal(file)
        except OSError as error:
            bad.append(f"{file.path}: {error}")
            return
        untold = max(file.entries - file.told, 0) if file.epoch != int(self.run["epoch"]) else 0
        facts = {name: count for name, count in (("missing", file.missing), ("untold", untold)) if count}
        self.logs.say("error", "recorder", "a journal was left open by a crash: sealed at its last good entry",
                      path=str(file.path), entries=file.entries, **facts)  # fmt: skip

    # ------------------------------------------------------------ cold

    def on_reason(self, reason: int) -> None:
        """The target is full: write the lines of what is new in it; then private memory is empty, and a file has a next one."""
        if reason == Reason.RELOAD:
            self._look()
            self._count()
            if self.target.writer is not None:
                self._timed(self.target.next_file)

    def cold(self, now_ns: int) -> None:
        self._look()
        if self.endpoint is not None:
            self.endpoint.poll(now_ns)
            self.counters["scrapes"] = self.endpoint.scrapes
        if now_ns >= self._next_errors:
            self._next_errors = now_ns + ERRORS_NS
            self._load_symbols()
            self._tell_errors()
            self._tell_states()
            self._measure_lag()
            self._find_causes()
        if now_ns >= self._next_second:
            self._next_second = now_ns + SECOND
            self._each_second(now_ns)
        self._count()

    def _look(self) -> None:
        """Turn the new entries that people want to read into lines."""
        new = self.target.new()
        if len(new):
            self._tell(new)

    def _tell(self, new: np.ndarray) -> None:
        """Write the lines of some entries."""
        kinds = new["stream"] >> 8
        wanted = kinds == Stream.LOG
        reports = np.flatnonzero((kinds == Stream.REPORT) | (kinds == Stream.DENY))
        if len(reports):
            quiet = QUIET if self.logs.level > 10 else ()
            types = new["record"][reports, report_dtype.fields["exec_type"][1]]
            wanted[reports] = ~np.isin(types, quiet)  # a type that there is not is told, too
        chosen = np.flatnonzero(wanted)
        self.logs.held += max(len(chosen) - LINES_MAX, 0)
        clock = clocks.snapshot(self.clock)
        for at in chosen[:LINES_MAX]:
            body = new["record"][at].tobytes()
            stream = Stream(int(kinds[at]))
            self.logs.put(lambda body=body, stream=stream: self._word(clock, body, stream), stream.name, body)

    def _word(self, clock, body: bytes, stream: Stream) -> None:
        """Write the line of one record."""
        if stream == Stream.LOG:
            record = np.frombuffer(body, log_dtype)[0]
            self.logs.log_record(record, utc_of(clock, int(record["ts"])))
        else:
            record = np.frombuffer(body, report_dtype)[0]
            self.logs.report(record, utc_of(clock, int(record["ts_recv"])), stream == Stream.DENY)

    def symbol(self, instrument: int) -> str:
        """Return an instrument's symbol, or its number where it has none yet."""
        if instrument not in self.symbols:
            self._load_symbols()
        return self.symbols.get(instrument, f"#{instrument}")

    def _load_symbols(self) -> None:
        """Take note of instruments announced since the last look; they become journal entries."""
        rows = self.memory["market"]["instruments"]
        flags = np.asarray(rows["flags"])
        if np.count_nonzero(flags & INSTRUMENT_ANNOUNCED) == len(self.symbols):
            return
        for at in np.flatnonzero(flags & INSTRUMENT_ANNOUNCED):
            at = int(at)
            if at in self.symbols:
                continue
            self.symbols[at] = ledger.symbol_text(int(rows[at]["symbol"]))
            self.target.append(stream_code(Stream.SYMBOL), at, rows[at : at + 1].tobytes())

    def _tell_errors(self) -> None:
        """Write a line for every distinct error whose count grew (hot code counts errors in shared memory, and nothing else)."""
        errors = self.memory["control"]["errors"]
        counts = np.asarray(errors["count"])
        clock = clocks.snapshot(self.clock)
        for at in np.flatnonzero(counts):
            at, count = int(at), int(counts[at])
            before = self._errors_seen.get(at, 0)
            if count == before:
                continue
            self._errors_seen[at] = count
            row = errors[at]
            agent = self.names.get(at // ROWS, str(at // ROWS))
            values = {name: int(row[name]) for name in ("code", "a", "b", "last")}
            self.logs.put(lambda agent=agent, of=values, count=count, before=before: self.logs.counted(
                of["code"], agent, of["a"], of["b"], utc_of(clock, of["last"]), times=count - before, total=count
            ), "ERROR", str(values).encode())  # fmt: skip

    def _tell_states(self) -> None:
        """Write a line when an agent's state changes."""
        marks = self.memory["control"]["marks"]
        for at, name in self.names.items():
            if at == 0:
                continue
            state = int(marks[at]["state"])
            if state != self._states.get(at, 0):
                self._states[at] = state
                level = "error" if state == AgentState.FAILED else "warning" if state == AgentState.DEGRADED else "info"
                known = {int(one): one.name for one in AgentState}
                self.logs.say(level, name, f"agent is {known.get(state, state)}", pid=int(marks[at]["pid"]),
                              starts=int(marks[at]["starts"]), core=int(marks[at]["core"]))  # fmt: skip

    def _measure_lag(self) -> None:
        for at, name in enumerate(streams(self.config)):
            tap = self.taps[at]
            lag = max(int(self.memory[name]["control"][0]["tail"]) - int(self.handle["consumers"][at]["next"]), 0)
            tap["lag"] = lag
            tap["lag_peak"] = max(int(tap["lag_peak"]), lag)
            lost = int(tap["lost"])
            if lost != self._states.get(-1 - at, 0):
                self.logs.say("error", "recorder", "records were overwritten before they were read", ring=name, lost=lost)
                self._states[-1 - at] = lost

    def _find_causes(self) -> None:
        clock = clocks.snapshot(self.clock)
        self.causes.look(clocks.now_ticks(), lambda ticks: utc_of(clock, ticks))

    def _timed(self, wait: Callable[[], None]) -> None:
        """Do what may wait for the disk, and note it where it did: an order that was slow just then may have been so by that."""
        begun = clocks.now_ticks()
        wait()
        ended = clocks.now_ticks()
        if self.meter is not None and ended - begun > JOURNAL_S * int(self.clock["hz"]):
            self.meter.note(begun, ended, pauses.JOURNAL)

    def _each_second(self, now_ns: int) -> None:
        self._timed(lambda: self.target.each_second(now_ns))
        if now_ns >= self._next_clock:
            self._next_clock = now_ns + CLOCK_NS
            self.target.append(stream_code(Stream.CLOCK), 0, self._clock_bytes())
        self.logs.each_second()
        self._timed(self._save_ledger)
        self._timed(self.logs.file.sync)

    def _clock_bytes(self) -> bytes:
        """Return the clock's calibration as it lies in memory, whole."""
        return clocks.snapshot(np.asarray(self.memory["control"]["clock"]).view(np.ndarray)[0]).tobytes()

    def _save_ledger(self) -> None:
        facts = str(ledger.snapshot(self.memory))
        if facts == self._ledger:
            return
        try:
            ledger.save(self.config, self.memory)
        except OSError as error:
            self.counters["ledger_failed"] = int(self.counters["ledger_failed"]) + 1
            if not self._ledger_fails:
                self._ledger_fails = True
                self.logs.say("error", "recorder", "the day's ledger was not written", why=str(error))
            return
        if self._ledger_fails:
            self._ledger_fails = False
            self.logs.say("warning", "recorder", "the day's ledger is written again")
        self._ledger = facts
        self.counters["ledger_saves"] = int(self.counters["ledger_saves"]) + 1

    def _count(self) -> None:
        counters = self.counters
        written = self.logs.file.flush()
        counters["lines"] = int(counters["lines"]) + written
        counters["lines_held"], counters["log_failed"] = self.logs.held, self.logs.file.failed
        failed = self.logs.file.failed - self._log_failed
        if written and failed and time.monotonic() >= self._next_log_failed:  # once a minute: the line itself may fail the same way
            self._next_log_failed, self._log_failed = time.monotonic() + 60, self.logs.file.failed
            self.logs.say("error", "recorder", "log lines were not written, or not seen through to the disk", lines=failed)
        self.target.kept()

    # ------------------------------------------------------------ the end

    def stop(self) -> bool:
        """Wait for every other agent; without a supervisor, not for ever."""
        waiting = self._others()
        if waiting and not alive(self.supervisor):
            self._alone_since = self._alone_since or time.monotonic()
            if time.monotonic() - self._alone_since > self.config.daemon.stop_timeout_s + GRACE_S:
                self._end_rest(waiting)
                return False
        return not waiting

    def _others(self) -> list[int]:
        """Return the pids of the daemon's other agents that are alive."""
        marks = self.memory["control"]["marks"]
        pids = {int(marks[at]["pid"]) for at in self.names if at != int(Role.RECORDER)} - {0, os.getpid()}
        return sorted(pid for pid in pids if alive(pid))

    def _end_rest(self, pids: list[int]) -> None:
        """The supervisor is gone and these did not end by themselves: they may not outlive the daemon."""
        for pid in pids:
            with contextlib.suppress(OSError):
                if Path(f"/proc/{pid}/comm").read_text().startswith("hftd"):
                    self.logs.say("error", "recorder", "an agent did not end: killed", pid=pid)
                    os.kill(pid, signal.SIGKILL)

    def close(self) -> None:
        """Take what is left in the rings, seal the journal, end the log; remove the memory where nobody else will."""
        if self._closed or not hasattr(self, "logs"):
            return
        self._closed = True
        kernel = self.kernel()
        set_idle(self.waiting, PARK, spins=1 << 30, yields=0)
        for _ in range(100_000):
            before = int(self.counters["entries"])
            reason = kernel(self.handle, self.mark, self.waiting, 1)
            if reason not in (Reason.SLICE, Reason.STOP):
                self.on_reason(reason)
            elif int(self.counters["entries"]) == before:
                break
            else:
                self._look()
        self._tell_errors()
        self._tell_states()
        self._measure_lag()
        self._find_causes()
        self._save_ledger()
        self._count()
        self.target.seal()
        alone = not alive(self.supervisor)
        self.logs.say("info", "recorder", "recorder ended", entries=int(self.counters["entries"]), lost=int(self.counters["lost"]),
                      supervisor="gone: shared memory removed" if alone else "there")  # fmt: skip
        self._count()
        if self.endpoint is not None:
            self.endpoint.close()
        self.logs.end()
        if alone:
            self.memory.unlink()


def streams(config: Config) -> dict[str, int]:
    """Return every tapped ring's name and stream code, in the order of the taps."""
    made = {"ring.order": stream_code(Stream.ORDER), "ring.report": stream_code(Stream.REPORT),
            "ring.deny": stream_code(Stream.DENY)}  # fmt: skip
    for role, index, _ in shared.agents(config):
        if role == Role.STRATEGY:
            made[f"ring.intent.{index}"] = stream_code(Stream.INTENT, index)
    for role, index, _ in shared.agents(config):
        mark = shared.mark_of(role, index)
        made[f"ring.log.{mark}"] = stream_code(Stream.LOG, mark)
    return made


def utc_of(clock, ticks: int) -> int:
    """Return UTC nanoseconds of a counter reading; now, where the record carries none."""
    if ticks <= 0:
        return time.time_ns()
    return int(clock["utc_origin_ns"]) + ((ticks - int(clock["tsc_origin"])) * int(clock["mult"]) >> 32)

