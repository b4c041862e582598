"""Words for codes: log records, denials, rejections and error counts become structlog JSON, one object a line, in
`log_dir/hftd.jsonl`.

Hot code stores a code and four integers; what they mean stands in SENTENCES, and nowhere else. `ts` is the record's own time,
from its ticks. Every line has `ts`, `level`, `agent`, `event` (the sentence) and its integers under their names.

Writing: lines are flushed to the kernel after each batch (nothing is lost when a process dies), to the disk once a second while
there is something new, at rotation and at the end. At FILE_BYTES the file becomes `hftd.jsonl.1`, and so on up to KEPT. When the
disk is full the lines are counted and dropped: logging never stops trading. A line that was cut off, by a full disk or a death, is
taken out, so that the next one is not lost in it; a file that somebody removed is made anew within a second. At most BURST lines
of one code in a second; then one line says how many were held back.
"""

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hftd.control.placing import in_words
from hftd.core.fixed import to_text
from hftd.gateway.memory import RISK_SILENT
from hftd.msg import ids
from hftd.msg.enums import DENY_TEXT, DenyReason, ExecType, LogCode
from hftd.risk import kill
from hftd.risk.ledger import symbol_text

FILE_BYTES = 32 << 20
KEPT = 5
BURST = 50
CHUNK = 1 << 16
LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}

SENTENCES: dict[LogCode, tuple[str, str, tuple[str, str, str, str]]] = {
    LogCode.FEED_GAP: ("warning", "market data gap: message {expected} is missing", ("expected", "highest", "gaps", "given_up")),
    LogCode.FEED_RECOVERED: ("info", "market data gap filled up to message {expected}", ("expected", "highest", "recovered", "")),
    LogCode.FEED_SESSION: ("info", "market data session began, next message {expected}", ("expected", "highest", "sessions", "")),
    LogCode.FEED_END: ("info", "market data session ended at message {expected}", ("expected", "highest", "ends", "")),
    LogCode.FEED_BAD_PACKET: ("warning", "malformed market data packets dropped", ("why", "length", "", "")),
    LogCode.FEED_BAD_MESSAGE: ("warning", "market data messages refused", ("type", "detail", "", "")),
    LogCode.BOOK_TAINTED: ("warning", "a message contradicts the book of instrument {instrument}", ("instrument", "why", "", "")),
    LogCode.ORDER_DENIED: ("warning", "orders refused before they were sent", ("reason", "cl_ord_id", "", "")),
    LogCode.ORDER_REJECTED: ("warning", "orders rejected by the venue", ("reason", "cl_ord_id", "", "")),
    LogCode.SESSION_UP: ("info", "venue session is up", ("a", "b", "c", "d")),
    LogCode.SESSION_LOST: ("error", "venue session is lost", ("a", "b", "c", "d")),
    LogCode.RING_FULL: ("error", "a ring was full", ("ring", "times", "c", "d")),
    LogCode.CONSUMER_DETACHED: ("error", "a consumer was too slow and was detached", ("who", "times", "c", "d")),
    LogCode.KILL: ("error", "the kill switch is set by {by}", ("utc_ns", "by", "", "")),
    LogCode.GATEWAY_REFUSED: ("error", "the gateway refused an order that risk did not approve", ("reason", "cl_ord_id", "c", "d")),
    LogCode.VENUE_BAD_MESSAGE: ("warning", "messages of the venue that do not fit", ("why", "detail", "c", "d")),
    LogCode.STRATEGY_ERROR: ("error", "strategy {strategy} is dead or hung: its orders are cancelled",
                             ("strategy", "pid", "state", "")),
    LogCode.LOSS_LIMIT: ("error", "the day's loss limit is reached: only orders that shrink a position pass",
                         ("pnl", "loss_max", "", "")),
    LogCode.RISK_GAP: ("error", "risk lost reports of the gateway, or one had figures that cannot be: no new risk until the daemon "
                       "is started anew",
                       ("applied", "next", "", "")),
    LogCode.RISK_SYMBOL: ("error", "instrument {instrument} is {announced} in market data, {symbol} to risk: not traded, "
                          "positions stay as risk has them; stop the daemon, compare hftd positions with the venue, start it anew",
                          ("instrument", "symbol", "announced", "")),
    LogCode.MARKET_BREAKER: ("error", "market-wide circuit breaker, level {breaker}: no new risk until the venue resumes trading",
                             ("breaker", "killed", "", "")),
    LogCode.BUDGET_MISSED: ("warning", "rehearsal: {p50_ns} ns where the budget is {budget_ns} ns",
                            ("p50_ns", "budget_ns", "", "")),
    LogCode.CAPACITY: ("error", "a table is full", ("which", "detail", "c", "d")),
    LogCode.PLACED: ("info", "placement: the kernel granted what was asked for", ("item", "asked", "got", "")),
    LogCode.EXERCISE_FAILED: ("warning", "a step to keep the path warm failed: no more are taken, trading goes on",
                              ("", "", "", "")),
    LogCode.EARLIER_CORRECTED: ("warning", "earlier runs of the day: the venue's replay took the place of the ledger's figures",
                                ("ledger_bought", "ledger_sold", "venue_bought", "venue_sold")),
    LogCode.EARLIER_DISPUTED: ("error", "earlier runs of the day: the ledger and the venue's replay disagree: kill switch pulled",
                               ("ledger_bought", "ledger_sold", "venue_bought", "venue_sold")),
    LogCode.EARLIER_APART: ("warning", "the venue's session has trades from before the opening position: ledger not compared",
                            ("ledger_bought", "ledger_sold", "venue_bought", "venue_sold")),
    LogCode.NOT_LATCHED: ("error", "the kill switch is pulled, but kill.json cannot be written: a restart would lift it",
                          ("", "", "", "")),
    LogCode.NOT_PLACED: ("warning", "placement: the kernel did not grant what was asked for", ("item", "asked", "got", "why")),
}  # fmt: skip
"""Code -> level, sentence, names of a, b, c, d ('' left out)."""

COUNTED: dict[tuple[LogCode, int], tuple[str, str, str]] = {
    (LogCode.FEED_GAP, 0): ("warning", "market data gaps, the last at message {expected}", "expected"),
    (LogCode.KILL, 0): ("error", "the kill switch was seen: every order is cancelled", "utc_ns"),
    (LogCode.KILL, RISK_SILENT): ("error", "risk is silent: every order is cancelled", ""),
}  # fmt: skip
"""Errors that hot code counts with other integers than a log record of the code has: (code, a) -> level, sentence, name of b.
There `a` tells one error from another (shm/errlog.py), so what varies is in `b`."""

LEVEL_OF_EXEC = {
    ExecType.FILL: "info", ExecType.REJECTED: "warning", ExecType.BROKEN: "error", ExecType.UNKNOWN: "error",
    ExecType.CANCEL_REJECTED: "warning", ExecType.REPLACE_REJECTED: "warning", ExecType.DENIED: "warning",
}  # fmt: skip
WORDS_OF_EXEC = {
    ExecType.NEW: "accepted", ExecType.FILL: "filled", ExecType.CANCELED: "canceled", ExecType.REPLACED: "replaced",
    ExecType.REJECTED: "rejected by the venue", ExecType.DENIED: "denied", ExecType.CANCEL_REJECTED: "cancel refused",
    ExecType.CANCEL_PENDING: "cancel pending", ExecType.REPLACE_REJECTED: "replace refused", ExecType.BROKEN: "fill broken",
    ExecType.RESTATED: "restated", ExecType.UNKNOWN: "unknown: the session was lost", ExecType.MODIFIED: "modified by the venue",
}  # fmt: skip


class RotatingFile:
    """A file of lines that starts anew at `size` bytes and keeps `kept` old ones. Never raises on write: `failed` counts lines that
    are not there, `torn` bytes of a line that was cut off."""

    def __init__(self, path: Path, size: int = FILE_BYTES, kept: int = KEPT):
        self.path, self.size, self.kept = path, size, kept
        self.failed = self.torn = 0
        self._handle = -1
        self._length = 0
        self._fresh = 0                           # lines written since the last sync
        self._pending: list[bytes] = []
        self._open()

    def _open(self) -> None:
        try:
            self._handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError:
            self._handle = -1
            return
        try:
            self._length = os.fstat(self._handle).st_size
            self._cut()
        except OSError:                           # not a file: there is nothing to cut
            pass

    def _cut(self) -> None:
        """Take out the end of the file behind its last whole line."""
        at = self._length
        while at:
            start = max(at - CHUNK, 0)
            end = os.pread(self._handle, at - start, start).rfind(b"\n")
            at = start + end + 1
            if end >= 0 or not start:
                break
            at = start
        if at < self._length:
            os.ftruncate(self._handle, at)
            self.torn += self._length - at
            self._length = at

    def write(self, line: str) -> None:
        """Keep a line for the next `flush`."""
        self._pending.append(line.encode() + b"\n")

    def flush(self) -> int:
        """Write the lines kept; return how many. Lines that cannot be written whole are counted and dropped."""
        count = len(self._pending)
        if not count:
            return 0
        data = b"".join(self._pending)
        self._pending.clear()
        if self._full(data):
            self.sync()                           # somebody else may have rotated or emptied it since
            if self._full(data):
                self._rotate()
        if self._handle < 0:
            self._open()
        done = 0
        try:
            while done < len(data):
                done += os.write(self._handle, memoryview(data)[done:])
        except OSError:
            torn, done = done, data.rfind(b"\n", 0, done) + 1
            with contextlib.suppress(OSError):        # from the end as it is: whoever rotates by truncation moved it
                os.ftruncate(self._handle, os.fstat(self._handle).st_size - (torn - done))
        written = data.count(b"\n", 0, done)
        self.failed += count - written
        self._length += done
        self._fresh += written
        return written

    def sync(self) -> None:
        """Push what was written through to the disk; begin anew where somebody removed the file, or moved it away."""
        if self._handle < 0:
            return
        fresh, self._fresh = self._fresh, 0
        try:
            if fresh:
                os.fdatasync(self._handle)
            now = os.fstat(self._handle)
        except OSError:                           # the kernel takes these lines for written: they are not tried again
            self.failed += fresh
            return
        try:
            there = os.path.samestat(now, os.stat(self.path))
        except OSError:
            there = False
        self._length = now.st_size                    # somebody may have emptied it, or another daemon writes here, too
        if not there:
            self.failed += fresh if now.st_nlink == 0 else 0
            os.close(self._handle)
            self._open()

    def close(self) -> None:
        """Write, sync and close."""
        self.flush()
        self.sync()
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def _full(self, data: bytes) -> bool:
        return self._length > 0 and self._length + len(data) > self.size

    def _rotate(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
        try:
            for number in range(self.kept, 0, -1):
                older = self.path.with_name(f"{self.path.name}.{number}")
                newer = self.path if number == 1 else self.path.with_name(f"{self.path.name}.{number - 1}")
                if newer.exists():
                    os.replace(newer, older)
        except OSError:
            self.failed += 1
        self._length = 0
        self._open()


def in_order(logger: Any, name: str, facts: Any) -> Any:
    """Put what people read first, first (a structlog processor)."""
    first = {key: facts.pop(key) for key in ("ts", "level", "agent", "event") if key in facts}
    return {**first, **facts}


class LineWriter:
    """What structlog hands its finished lines to."""

    def __init__(self, file: RotatingFile):
        self._file = file

    def msg(self, line: str) -> None:
        """Take one line of any level."""
        self._file.write(line)

    debug = info = warning = error = critical = log = msg


def stamp(utc_ns: int) -> str:
    """Return a UTC time with nanoseconds, as ISO 8601."""
    seconds, rest = divmod(int(utc_ns), 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest:09d}Z"


class Logs:
    """The log of one daemon. All methods are cold, and called by the recorder alone."""

    def __init__(self, file: RotatingFile, level: str, instance: str, names: dict[int, str], symbols: Callable[[int], str]):
        """names: mark index -> agent's name. symbols: instrument index -> symbol."""
        import structlog  # here: it takes a tenth of a second, and only the recorder needs it

        self.file, self.level, self.names, self.symbols = file, LEVELS[level], names, symbols
        self.lines = self.held = 0
        self._bursts: dict[Any, int] = {}
        self._second = 0
        self._logger = structlog.wrap_logger(
            LineWriter(file),
            processors=[in_order, structlog.processors.JSONRenderer(default=str)],
            wrapper_class=structlog.BoundLogger,
        ).bind(instance=instance)

    def say(self, level: str, agent: str, event: str, utc_ns: int | None = None, kind: Any = None, **facts: Any) -> None:
        """Write one line. kind: lines of one kind are limited to BURST a second (default: the event)."""
        if LEVELS[level] < self.level:
            return
        at = time.time_ns() if utc_ns is None else utc_ns
        second = time.time_ns() // 1_000_000_000
        if second != self._second:
            self._release(second)
        kind = (agent, event if kind is None else kind)
        seen = self._bursts.get(kind, 0) + 1
        self._bursts[kind] = seen
        if seen > BURST:
            self.held += 1
            return
        self._write(level, at, agent, event, facts)

    def each_second(self) -> None:
        """Say what was held back in the second that is over, though no line comes after it."""
        second = time.time_ns() // 1_000_000_000
        if second != self._second:
            self._release(second)

    def _release(self, second: int) -> None:
        for (agent, kind), seen in self._bursts.items():
            if seen > BURST:
                self._write("warning", time.time_ns(), agent, "more lines of a kind were held back", {
                    "kind": str(kind), "count": seen - BURST})  # fmt: skip
        self._bursts.clear()
        self._second = second

    def _write(self, level: str, utc_ns: int, agent: str, event: str, facts: dict[str, Any]) -> None:
        self._logger.msg(event, ts=stamp(utc_ns), level=level, agent=agent, **facts)
        self.lines += 1

    def end(self) -> None:
        """Say what was held back and close the file."""
        self._release(0)
        self.file.close()

    # ------------------------------------------------------------ records

    def log_record(self, record, utc_ns: int) -> None:
        """Write an agent's log record (log_dtype)."""
        agent = self.names.get(int(record["role"]), str(int(record["role"])))
        self.coded(int(record["code"]), agent, [int(record[name]) for name in "abcd"], utc_ns)

    def put(self, words: Callable[[], None], what: str, raw: bytes) -> None:
        """Have a record put into words; one that cannot be (a code that is none) is a line of bytes: it may not end us."""
        try:
            words()
        except (ArithmeticError, LookupError, ValueError) as error:
            self.say("error", "recorder", "a record cannot be put into words", what=what, why=repr(error), record=raw.hex())

    def coded(self, code: int, agent: str, values: list[int], utc_ns: int, **more: Any) -> None:
        """Write the sentence of a LogCode with its integers."""
        level, name, sentence, facts = told(code, values, self.symbols)
        self.say(level, agent, sentence, utc_ns, kind=name, code=name, **facts, **more)

    def counted(self, code: int, agent: str, a: int, b: int, utc_ns: int, times: int, total: int) -> None:
        """Write that an error of the error log was counted `times` times more, `total` in all."""
        level, name, sentence, facts = told_of_error(code, a, b, self.symbols)
        self.say(level, agent, sentence, utc_ns, kind=name, **{**facts, "code": name, "times": times, "total": total})

    def report(self, record, utc_ns: int, denied: bool) -> None:
        """Write a report or denial (report_dtype) at its level: fills info, refusals warning, the rest debug."""
        kind = int(record["exec_type"])
        try:
            exec_type = ExecType(kind)
            words = WORDS_OF_EXEC[exec_type]
        except (ValueError, KeyError):
            self.say("warning", "gateway", f"unknown report type {kind}", utc_ns)
            return
        level = LEVEL_OF_EXEC.get(exec_type, "debug")
        if LEVELS[level] < self.level:
            return
        facts: dict[str, Any] = {
            "order": ids.text(int(record["cl_ord_id"])), "symbol": self.symbols(int(record["instrument"])),
            "side": "sell" if int(record["flags"]) & 1 else "buy", "qty": int(record["qty"]), "px": to_text(int(record["px"])),
            "leaves": int(record["leaves_qty"]),
        }  # fmt: skip
        refused = exec_type == ExecType.DENIED or (denied and exec_type == ExecType.CANCEL_REJECTED)
        if refused:
            facts["reason"], facts["text"] = deny_words(int(record["venue_id"]))
        elif exec_type in (ExecType.FILL, ExecType.BROKEN):
            facts["match"] = int(record["venue_id"])
        elif exec_type == ExecType.REJECTED:
            facts["reason"] = int(record["venue_id"])
        agent = "risk" if denied else "gateway"
        self.say(level, agent, f"order {words}", utc_ns, kind=kind_of(exec_type, facts.get("reason")), **facts)


def kind_of(exec_type: ExecType, reason: Any = None) -> str:
    """Return what reports of one kind are called where a flood of them is held back."""
    return f"order {WORDS_OF_EXEC[exec_type]}" + (f", reason {reason}" if reason is not None else "")


def told(code: int, values: list[int], symbols: Callable[[int], str]) -> tuple[str, str | int, str, dict[str, Any]]:
    """Return level, the code's name, sentence and facts of a log record. values: a, b, c, d."""
    try:
        known = LogCode(code)
        level, sentence, names = SENTENCES[known]
    except (ValueError, KeyError):
        return "warning", code, f"unknown log code {code}", {"a": values[0], "b": values[1]}
    facts: dict[str, Any] = {name: value for name, value in zip(names, values) if name}
    if known == LogCode.KILL:
        facts["by"] = kill.name_of(facts["by"]) or "unknown"
    if known == LogCode.RISK_SYMBOL:
        facts |= {name: symbol_text(facts[name]) or "none" for name in ("symbol", "announced")}
    sentence = sentence.format(**facts)
    if known == LogCode.FEED_GAP and facts.get("given_up"):
        sentence = f"market data gap given up at message {facts['expected']}: the books are stale"
    if "utc_ns" in facts:
        facts["utc"] = stamp(facts.pop("utc_ns"))
    if "cl_ord_id" in facts:
        facts["cl_ord_id"] = ids.text(facts["cl_ord_id"])
    if known == LogCode.ORDER_DENIED:
        facts["reason"], facts["text"] = deny_words(facts["reason"])
    if known in (LogCode.PLACED, LogCode.NOT_PLACED):
        facts = in_words(*values)
    if known == LogCode.BOOK_TAINTED:
        facts["symbol"] = symbols(facts["instrument"])
    return level, known.name, sentence, facts


def told_of_error(code: int, a: int, b: int, symbols: Callable[[int], str]) -> tuple[str, str | int, str, dict[str, Any]]:
    """Return level, the code's name, sentence and facts of a row of the error log (shm/errlog.py)."""
    try:
        level, sentence, name = COUNTED[LogCode(code), a]
    except (ValueError, KeyError):
        return told(code, [a, b, 0, 0], symbols)
    facts: dict[str, Any] = {name: b} if name else {}
    sentence = sentence.format(**facts)
    if name == "utc_ns":
        facts = {"utc": stamp(b)}
    return level, LogCode(code).name, sentence, facts


def deny_words(reason: int) -> tuple[str, str]:
    """Return a DenyReason's name and its text."""
    try:
        known = DenyReason(reason)
    except ValueError:
        return str(reason), "unknown reason"
    return known.name, DENY_TEXT[known]
