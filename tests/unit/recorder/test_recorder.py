"""The recorder over real rings: all is in the journal, what people want is in the log, losses are counted, the end is clean."""

import errno
import os
import re
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from hftd.control.config import ConfigError
from hftd.core.agent import alive
from hftd.core.memory import span_dtype
from hftd.msg.enums import AgentState, DenyReason, ExecType, LogCode, Role, RunState
from hftd.recorder import setup as recorder_setup
from hftd.recorder.journal import Stream, Writer
from hftd.recorder.metrics import MetricsError, render
from hftd.risk import ledger
from hftd.shm import segment
from tests.support.recorder_booth import Booth
from tests.support.risk_desk import PX, Desk


def test_every_record_is_in_the_journal_and_refusals_are_in_the_log(booth):
    """Intents, orders, denials, reports, in their streams, whole; symbols and the clock with them."""
    desk = booth.desk
    first = desk.intent()
    desk.intent(qty=0)
    desk.step()
    desk.report(ExecType.NEW, first, qty=100, leaves=100)
    desk.report(ExecType.FILL, first, qty=100, venue_id=77)
    desk.step()
    booth.turn(3)
    booth.agent.close()

    (reader,) = booth.journals()
    entries = list(reader)
    assert reader.problem == "" and reader.state == "SEALED"
    by_stream = {stream: [entry.record for entry in entries if entry.stream == stream] for stream in Stream}
    assert [int(row["cl_ord_id"]) for row in by_stream[Stream.INTENT]] == [first, first + 1]
    assert [int(row["cl_ord_id"]) for row in by_stream[Stream.ORDER]] == [first]
    assert [int(row["venue_id"]) for row in by_stream[Stream.DENY]] == [DenyReason.ORDER_QTY]
    assert [int(row["exec_type"]) for row in by_stream[Stream.REPORT]] == [ExecType.NEW, ExecType.FILL]
    assert [int(row["seq"]) for row in by_stream[Stream.REPORT]] == [1, 2]
    assert len(by_stream[Stream.SYMBOL]) == 3 and len(by_stream[Stream.CLOCK]) >= 1
    assert "order denied" in booth.events() and "order filled" in booth.events() and "order accepted" not in booth.events()
    assert booth.count("lost") == 0 and booth.count("entries") == 6 and booth.count("journal_entries") == len(entries)


def test_what_was_written_before_it_started_is_recorded(tmp_path):
    """It begins at each ring's beginning, not at its end."""
    desk = Desk(tmp_path)
    desk.reason(qty=0)
    booth = Booth(desk)
    booth.turn(2)
    assert booth.count("entries") == 2
    booth.agent.close()


def test_log_records_and_error_counts_become_lines(booth):
    """An agent's log record, and a distinct error whose count grows, each with its agent's name."""
    booth.desk.agent.log(LogCode.KILL, 5, int.from_bytes(b"anna", "little"))
    row = booth.desk.agent.errors[0]
    row["code"], row["a"], row["count"], row["last"] = int(LogCode.BOOK_TAINTED), 1, 3, 1
    booth.turn(2)
    row["count"] = 10
    booth.agent._next_errors = 0
    booth.turn()
    told = [(line["agent"], line.get("code"), line.get("by"), line.get("symbol"), line.get("times")) for line in booth.lines()]
    assert ("risk", "KILL", "anna", None, None) in told
    assert ("risk", "BOOK_TAINTED", None, "BBB", 3) in told and ("risk", "BOOK_TAINTED", None, "BBB", 7) in told


def test_states_of_agents_are_told(booth):
    """Each change once; a failure as an error."""
    mark = booth.desk.memory["control"]["marks"][int(Role.GATEWAY)]
    booth.turn()
    for state in (AgentState.STARTING, AgentState.RUNNING, AgentState.RUNNING, AgentState.FAILED):
        mark["state"] = int(state)
        booth.agent._next_errors = 0
        booth.turn()
    told = [(line["event"], line["level"]) for line in booth.lines() if line["agent"] == "gateway"]
    assert told == [("agent is STARTING", "info"), ("agent is RUNNING", "info"), ("agent is FAILED", "error")]


def test_a_full_journal_file_is_followed_by_the_next(tmp_path, monkeypatch):
    """Every record once, in order, over as many files as it takes; each names the instruments again."""
    monkeypatch.setattr(Writer.__init__, "__defaults__", (4096 + 50 * 80,))
    booth = Booth(Desk(tmp_path))
    for _ in range(20):
        for _ in range(5):
            booth.desk.reason(qty=0)
        booth.turn(2)
    booth.agent.close()
    readers = booth.journals()
    entries = [entry for reader in readers for entry in reader]
    assert len(readers) >= 4 and all(reader.problem == "" and reader.state == "SEALED" for reader in readers)
    for stream in (Stream.INTENT, Stream.DENY):
        assert [int(entry.record["seq"]) for entry in entries if entry.stream == stream] == list(range(1, 101))
    assert all(next(iter(reader)).stream == Stream.SYMBOL for reader in readers)


def test_being_lapped_is_counted_and_told(tmp_path):
    """A ring of 64, 200 records between two turns: what is left is recorded, what is lost is counted; nobody was held back."""
    booth = Booth(Desk(tmp_path, rings={"report": 64, "intent": 256, "order": 256}))
    for number in range(200):
        booth.desk.report(ExecType.NEW, number, qty=1, leaves=0)
        if number % 32 == 0:
            booth.desk.step()
    booth.desk.step()
    booth.turn(4)
    booth.agent.close()
    assert booth.count("lost") > 0
    seen = [int(entry.record["seq"]) for reader in booth.journals() for entry in reader if entry.stream == Stream.REPORT]
    assert len(seen) + booth.count("lost") == 200 and seen == list(range(201 - len(seen), 201))
    assert "records were overwritten before they were read" in booth.events()


def test_without_a_journal_the_log_goes_on(tmp_path):
    """recorder.journal = false: no file, refusals are told all the same, far beyond the scrap memory's size."""
    booth = Booth(Desk(tmp_path, recorder={"journal": False}))
    for _ in range(60):
        for _ in range(60):
            booth.desk.intent(qty=0)
        booth.desk.step(8)
        booth.turn(3)
    booth.agent.close()
    assert booth.journals() == [] and booth.count("unjournaled") == booth.count("entries") == 7200
    assert booth.events().count("order denied") >= 50 and booth.count("lost") == 0


def test_a_restart_seals_the_crashed_file_and_goes_on_where_it_stopped(booth):
    """The old file CRASHED with all it held; the new one continues; no record twice, none lost."""
    for _ in range(5):
        booth.desk.reason(qty=0)
    booth.turn(2)
    for _ in range(5):
        booth.desk.reason(qty=0)
    booth.start()
    booth.turn(2)
    booth.agent.close()
    first, second = booth.journals()
    assert (first.state, second.state) == ("CRASHED", "SEALED")
    seen = [int(entry.record["seq"]) for reader in (first, second) for entry in reader if entry.stream == Stream.DENY]
    assert seen == list(range(1, 11))
    assert any("left open by a crash" in event for event in booth.events())


def test_the_days_ledger_is_kept(booth):
    """Written when something changed, and at the end."""
    booth.desk.report(ExecType.FILL, 1 << 40, qty=70, venue_id=1)
    booth.desk.step()
    booth.turn()
    assert ledger.read(booth.desk.config)["instruments"]["AAA"]["bought_qty"] == 70
    saves = booth.count("ledger_saves")
    booth.agent._next_second = 0
    booth.turn()
    assert booth.count("ledger_saves") == saves


def test_an_idle_pass_is_cheap(booth):
    """The recorder parks; what it does between two sleeps costs little."""
    booth.turn()
    booth.agent._next_errors = booth.agent._next_second = 1 << 62
    best = min(_timed(booth.agent.cold) for _ in range(50))
    assert best < 200e-6
    assert int(booth.agent.waiting["mode"]) == 1


def _timed(cold) -> float:
    begin = time.perf_counter()
    cold(0)
    return time.perf_counter() - begin


# ---------------------------------------------------------------- the end


def test_it_goes_last(booth):
    """Not before every other agent is gone; the marks say who."""
    marks = booth.desk.memory["control"]["marks"]
    marks[int(Role.RISK)]["pid"] = 0
    booth.agent.supervisor = os.getpid()
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        marks[int(Role.GATEWAY)]["pid"] = child.pid
        assert not booth.agent.stop()
    finally:
        child.kill()
        child.wait()
    assert not alive(child.pid)
    assert booth.agent.stop()


def test_what_is_left_in_the_rings_is_taken_at_the_end(booth):
    """Records written after its last turn are in the journal."""
    for _ in range(200):
        booth.desk.intent(qty=0)
    booth.desk.step(20)
    booth.agent.close()
    assert booth.count("entries") == 400
    assert "recorder ended" in booth.events()


def test_without_a_supervisor_it_removes_the_memory(tmp_path):
    """And with one it leaves that to it."""
    for gone in (False, True):
        desk = Desk(tmp_path, unlink=False)
        try:
            booth = Booth(desk)
            booth.agent.supervisor = 999_999_999 if gone else os.getpid()
            booth.agent.close()
            assert bool(segment.existing(desk.config.daemon.name)) != gone
        finally:
            desk.memory.unlink()


def test_agents_that_do_not_end_are_ended(booth, monkeypatch):
    """No supervisor, the grace time over, an agent of ours still alive: killed; somebody else's process is not."""
    marks = booth.desk.memory["control"]["marks"]
    marks[int(Role.RISK)]["pid"] = 0
    booth.agent.supervisor = 999_999_999
    monkeypatch.setattr(recorder_setup, "GRACE_S", -100.0)
    name = "import ctypes; ctypes.CDLL(None).prctl(15, b'{}', 0, 0, 0); print(1, flush=True); input()"

    def child(text: str) -> subprocess.Popen:
        return subprocess.Popen([sys.executable, "-c", name.format(text)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    with child("hftd:gateway") as ours, child("other") as other:
        ours.stdout.read(1), other.stdout.read(1)
        marks[int(Role.GATEWAY)]["pid"], marks[int(Role.FEED)]["pid"] = ours.pid, other.pid
        assert not booth.agent.stop()
        assert ours.wait(5) == -9 and other.poll() is None
        other.kill()
    assert booth.agent.stop()


# ---------------------------------------------------------------- metrics


def test_metrics_are_served_and_nothing_else(tmp_path):
    """Prometheus text for GET /metrics, 404 for the rest, silent clients dropped; never blocks."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    desk = Desk(tmp_path, recorder={"metrics": f"127.0.0.1:{port}"})
    booth = Booth(desk)
    desk.reason()
    desk.reason(qty=0)

    def ask(request: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as client:
            client.sendall(request)
            client.settimeout(0.01)
            answer = b""
            for _ in range(200):
                booth.turn()
                try:
                    data = client.recv(1 << 20)
                except TimeoutError:
                    continue
                if not data:
                    break
                answer += data
            return answer

    try:
        answer = ask(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").decode()
        head, _, body = answer.partition("\r\n\r\n")
        assert head.startswith("HTTP/1.1 200") and f"Content-Length: {len(body)}" in head
        values = dict(line.rsplit(" ", 1) for line in body.splitlines() if not line.startswith("#"))
        assert values["hftd_run_state"] == str(int(RunState.READY))
        assert values['hftd_risk_approved{segment="risk"}'] == "1" and values['hftd_risk_denied_order_qty{segment="risk"}'] == "1"
        assert values['hftd_agent_up{agent="risk"}'] == "1" and values['hftd_agent_up{agent="feed"}'] == "0"
        assert any(key.startswith("hftd_latency_ns{") for key in values)
        assert ask(b"GET /secret HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 404")
        assert ask(b"x" * 5000) == b""
        with socket.create_connection(("127.0.0.1", port)) as silent:
            booth.turn()
            booth.agent.endpoint.poll(time.monotonic_ns() + 3_000_000_000)
            silent.settimeout(1)
            assert silent.recv(1) == b""
        assert booth.count("scrapes") >= 1
        with pytest.raises(MetricsError, match=r"recorder\.metrics"):
            Booth(Desk(tmp_path, recorder={"metrics": f"127.0.0.1:{port}"}))
    finally:
        booth.agent.close()


def test_records_that_cannot_be_put_into_words_end_nothing(tmp_path):
    """Any integers, in any record that is told: a line of bytes at worst. The recorder died of it, and its successors too."""
    booth = Booth(Desk(tmp_path, recorder={"level": "debug"}, rings={"log": 1024, "report": 1024}))
    desk, rng = booth.desk, np.random.default_rng(5)
    odd = [0, -1, 1, 7, 40, 255, 1 << 31, (1 << 63) - 1, -(1 << 63)]
    for kind in (*ExecType, 77, 255):
        desk.report(kind, int(rng.choice(odd)), px=int(rng.choice(odd)), venue_id=int(rng.choice(odd)), instrument=3)
        desk.step()
    logged = 0
    for code in (*LogCode, 200):
        for value in odd:
            desk.agent.log(code, value, *(int(one) for one in rng.choice(odd, 3)))
            logged += 1
    errors = desk.memory["control"]["errors"]
    for at, code in enumerate((int(LogCode.PLACED), int(LogCode.KILL), 999)):
        errors[at]["code"], errors[at]["a"], errors[at]["b"], errors[at]["last"] = code, odd[-1], odd[-2], odd[-2]
        errors[at]["count"] = 1
    desk.memory["control"]["marks"][int(Role.FEED)]["state"] = 99
    booth.agent.logs._bursts.clear()
    for _ in range(30):
        booth.turn()
    booth.agent._next_errors = 0
    booth.turn()
    unsaid = [line for line in booth.lines() if line["event"] == "a record cannot be put into words"]
    assert {"LOG", "ERROR"} <= {line["what"] for line in unsaid} and all(line["record"] for line in unsaid)
    assert "agent is 99" in booth.events() and "unknown report type 77" in booth.events()
    assert booth.count("journal_entries") > logged + len(ExecType)
    booth.agent.supervisor = os.getpid()
    booth.agent.close()


def test_the_metrics_text_is_as_its_format_wants(tmp_path):
    """Every line, judged by the format's own rules: all lines of a metric together, its type before them, each series once, labels
    escaped (a strategy without a name is called as its file)."""
    desk = Desk(tmp_path, strategy=[{"file": 'a".py'}, {"file": "b\\n.py"}])
    booth = Booth(desk)
    desk.reason()
    text = render(desk.config, desk.memory)
    sample = re.compile(r'([a-zA-Z_:][a-zA-Z0-9_:]*)(\{(?:[a-zA-Z_]\w*="(?:[^"\\\n]|\\[\\n"])*",?)*\})? (-?\d+)')
    kinds, done, series, current = {}, set(), set(), ""
    assert text.endswith("\n")
    for line in text.split("\n")[:-1]:
        if line.startswith("#"):
            _, what, name, rest = line.split(" ", 3)
            if what == "TYPE":
                assert name not in kinds and rest in ("counter", "gauge", "summary", "untyped")
                kinds[name] = rest
        else:
            full, labels, _ = sample.fullmatch(line).groups()
            assert (full, labels) not in series
            series.add((full, labels))
            stem = re.sub("_(sum|count)$", "", full)
            name = stem if kinds.get(stem) == "summary" else full
            assert name in kinds
        if name != current:
            assert name not in done, f"{name}: lines of other metrics are between its own"
            done.add(current)
            current = name
    up = {labels for full, labels in series if full == "hftd_agent_up"}
    assert {r'{agent="strategy.a\""}', r'{agent="strategy.b\\n"}'} <= up
    assert {"hftd_latency_ns_sum", "hftd_latency_ns_count"} <= {full for full, _ in series}
    booth.agent.supervisor = os.getpid()
    booth.agent.close()


def test_no_descriptor_left_for_a_scrape_ends_nothing(tmp_path, monkeypatch):
    """accept() fails with EMFILE: the recorder goes on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    booth = Booth(Desk(tmp_path, recorder={"metrics": f"127.0.0.1:{port}"}))

    def none_left():
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    class Listening:
        accept, close = staticmethod(none_left), staticmethod(booth.agent.endpoint._socket.close)

    booth.agent.endpoint._socket = Listening()
    booth.turn()
    booth.agent.supervisor = os.getpid()
    booth.agent.close()


def test_handles_hold_what_the_turn_needs(booth):
    """The spans of the handle are those of the segment."""
    assert booth.agent.handle["taps"]["count"] == len(booth.agent.taps)
    assert booth.agent.handle["target"].dtype == span_dtype
    assert int(booth.agent.handle["count"]) == 3 + 2 + 6
    assert np.count_nonzero(booth.agent.taps["capacity"]) == 11
    assert issubclass(ConfigError, ValueError) and PX > 0
