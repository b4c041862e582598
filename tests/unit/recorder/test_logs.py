"""Words for codes, and a file that rotates, limits floods and never raises."""

import json

import numpy as np
import pytest

from hftd.gateway.memory import RISK_SILENT
from hftd.msg.enums import DENY_TEXT, DenyReason, ExecType, LogCode
from hftd.msg.ids import make_id
from hftd.msg.records import log_dtype, report_dtype
from hftd.recorder import logs
from hftd.recorder.logs import BURST, SENTENCES, Logs, RotatingFile


@pytest.fixture
def log(tmp_path):
    made = Logs(RotatingFile(tmp_path / "hftd.jsonl"), "info", "unit", {2: "risk", 3: "gateway"}, lambda at: f"SYM{at}")

    def lines():
        made.file.flush()
        return [json.loads(line) for line in (tmp_path / "hftd.jsonl").read_text().splitlines()]

    made.read = lines
    return made


def report(**fields):
    """Return a report record."""
    record = np.zeros(1, report_dtype)
    for name, value in fields.items():
        record[name] = int(value)
    return record[0]


def test_every_code_has_its_sentence():
    """And names for its integers that the sentence can use."""
    for code in LogCode:
        if code == LogCode.NONE:
            continue
        level, sentence, names = SENTENCES[code]
        assert level in logs.LEVELS and len(names) == 4
        sentence.format(**{name: 1 for name in names if name})


def test_a_line_says_when_who_and_what(log):
    """JSON, one object a line, in reading order."""
    record = np.zeros(1, log_dtype)
    record["role"], record["code"], record["a"], record["b"] = 2, int(LogCode.FEED_GAP), 17, 20
    log.log_record(record[0], 1_700_000_000_123_456_789)
    (line,) = log.read()
    assert line["ts"] == "2023-11-14T22:13:20.123456789Z"
    assert (line["level"], line["agent"], line["event"]) == ("warning", "risk", "market data gap: message 17 is missing")
    assert (line["instance"], line["code"], line["expected"], line["highest"]) == ("unit", "FEED_GAP", 17, 20)
    assert list(line)[:4] == ["ts", "level", "agent", "event"]


@pytest.mark.parametrize("reason", [reason for reason in DenyReason if reason])
def test_a_denial_is_told_with_its_reason_and_text(log, reason):
    """Order, symbol, side, price, reason, text."""
    log.report(report(cl_ord_id=make_id(1, 0xAB, 7), px=101_2300, qty=50, instrument=3, exec_type=ExecType.DENIED, flags=1,
                      venue_id=reason), 1, denied=True)  # fmt: skip
    (line,) = log.read()
    assert (line["event"], line["agent"], line["level"]) == ("order denied", "risk", "warning")
    assert (line["order"], line["symbol"], line["side"], line["qty"], line["px"]) == ("1-ab-7", "SYM3", "sell", 50, "101.23")
    assert (line["reason"], line["text"]) == (reason.name, DENY_TEXT[reason])


def test_levels_leave_out_what_is_below(log):
    """Accepts are debug: not at info; fills are."""
    log.report(report(exec_type=ExecType.NEW), 1, denied=False)
    log.report(report(exec_type=ExecType.FILL, venue_id=5), 1, denied=False)
    assert [(line["event"], line["match"]) for line in log.read()] == [("order filled", 5)]


def test_a_flood_is_held_back_and_counted(log, monkeypatch):
    """BURST lines of a kind in a second, then one line that says how many were left out; other kinds go on."""
    now = [1_700_000_000_000_000_000]
    monkeypatch.setattr(logs.time, "time_ns", lambda: now[0])
    for _ in range(BURST + 25):
        log.say("warning", "feed", "flood")
    log.say("warning", "feed", "another")
    assert len(log.read()) == BURST + 1 and log.held == 25
    now[0] += 1_000_000_000
    log.say("warning", "feed", "flood")
    told = log.read()[BURST + 1 :]
    assert [line["event"] for line in told] == ["more lines of a kind were held back", "flood"]
    assert told[0]["count"] == 25


@pytest.mark.parametrize("code", [0, 99, -1])
def test_an_unknown_code_is_told_not_raised(log, code):
    """A newer agent, or rubbish."""
    log.coded(code, "feed", [1, 2, 3, 4], 1)
    log.report(report(exec_type=250), 1, denied=False)
    assert [line["event"] for line in log.read()] == [f"unknown log code {code}", "unknown report type 250"]


def test_a_flood_of_reports_is_named_in_words(log, monkeypatch):
    """What was held back is called what the lines were called, and for which reason."""
    now = [1_700_000_000_000_000_000]
    monkeypatch.setattr(logs.time, "time_ns", lambda: now[0])
    for _ in range(BURST + 1):
        log.report(report(exec_type=ExecType.FILL, venue_id=5), 1, denied=False)
        log.report(report(exec_type=ExecType.DENIED, venue_id=DenyReason.POSITION), 1, denied=True)
    now[0] += 1_000_000_000
    log.say("warning", "feed", "another")
    kinds = [line["kind"] for line in log.read() if "kind" in line]
    assert kinds == ["order filled", "order denied, reason POSITION"]


def test_the_kill_switch_is_told_by_name_and_time(log):
    """By whom, and when; the gateway's count of the same has the time alone; silent risk is no kill switch."""
    utc_ns = 1_700_000_000_123_456_789
    by = int.from_bytes(b"anna\0\0\0\0", "little")
    log.coded(int(LogCode.KILL), "risk", [utc_ns, by, 0, 0], 1)
    log.counted(int(LogCode.KILL), "gateway", 0, utc_ns, 1, times=1, total=1)
    log.counted(int(LogCode.KILL), "gateway", RISK_SILENT, 0, 1, times=1, total=1)
    pulled, seen, silent = log.read()
    assert (pulled["event"], pulled["by"], pulled["utc"]) == (
        "the kill switch is set by anna", "anna", "2023-11-14T22:13:20.123456789Z"
    )
    assert (seen["event"], seen["utc"]) == ("the kill switch was seen: every order is cancelled", pulled["utc"])
    assert silent["event"] == "risk is silent: every order is cancelled"
    assert not any("by" in line for line in (seen, silent))


def test_a_counted_gap_tells_the_message_that_is_missing(log):
    """The error log keeps the number in its second integer: message 0 does not exist."""
    log.counted(int(LogCode.FEED_GAP), "feed", 0, 17, 1, times=2, total=5)
    (line,) = log.read()
    assert line["event"] == "market data gaps, the last at message 17"
    assert (line["times"], line["total"]) == (2, 5)


@pytest.mark.parametrize("code", [code for code in LogCode if code])
def test_every_code_can_be_told_as_a_record_and_as_a_counted_error(log, code):
    """No fact of a sentence has a name of the line's own: the recorder would die of it, and the daemon of the recorder."""
    log.coded(int(code), "gateway", [1, 2, 3, 4], 1)
    log.counted(int(code), "gateway", 1, 2, 1, times=7, total=9)
    line = log.read()[-1]
    assert (line["code"], line["times"], line["total"]) == (code.name, 7, 9)


def test_an_unknown_error_is_told_not_raised(log):
    """As unknown log codes are."""
    log.counted(99, "feed", 1, 2, 1, times=1, total=1)
    assert log.read()[0]["event"] == "unknown log code 99"


def test_rotation_keeps_so_many(tmp_path):
    """Whole lines in each file, the newest in the first, at most `kept` old ones, nothing lost that should be there."""
    file = RotatingFile(tmp_path / "x.jsonl", size=100, kept=2)
    for number in range(35):
        file.write(f"{number:09d}")
        file.flush()
    file.close()
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["x.jsonl", "x.jsonl.1", "x.jsonl.2"]
    lines = [line for name in reversed(files) for line in (tmp_path / name).read_text().split()]
    assert lines == [f"{number:09d}" for number in range(10, 35)]
    assert all(path.stat().st_size <= 100 for path in tmp_path.iterdir())


def test_a_disk_that_does_not_take_it_is_counted(tmp_path):
    """No directory, no room: lines are dropped and counted, nothing is raised."""
    file = RotatingFile(tmp_path / "missing" / "x.jsonl")
    file.write("a")
    assert file.flush() == 0 and file.failed == 1
    full = RotatingFile(tmp_path / "full.jsonl")
    full._handle = __import__("os").open("/dev/full", 1)
    full.write("a")
    full.write("b")
    assert full.flush() == 0 and full.failed == 2
    full.close()
    (tmp_path / "missing").mkdir()
    file.write("b")
    assert file.flush() == 1


def test_what_was_held_back_is_said_though_nothing_comes_after(log, monkeypatch):
    """A flood that ends with the day: the line was written with the next one, hours later or never."""
    monkeypatch.setattr(logs.time, "time_ns", lambda: 5_000_000_000)
    for _ in range(BURST + 7):
        log.say("warning", "feed", "too much")
    log.each_second()
    assert len(log.read()) == BURST
    monkeypatch.setattr(logs.time, "time_ns", lambda: 6_000_000_000)
    log.each_second()
    assert log.read()[-1]["count"] == 7 and len(log.read()) == BURST + 1
