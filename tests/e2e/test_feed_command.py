"""`hftd feed` and `hftd record` as a person runs them: recordings shown, exported, paced; lines recorded, shown live; mistakes."""

import gzip
import json
import os
import re
import select
import signal
import subprocess
import sys
import time

import pytest

from hftd.shm import segment
from tests.support import captures as cap
from tests.support import itch_messages as itch
from tests.support.daemon import hftd
from tests.support.data import ROOT, shared_data
from tests.support.pcap import udp_payloads
from tests.support.sim_venue import Line, Soup, Venue

MESSAGES = [itch.directory(7, "AAPL"), *(itch.add(7, ref, "BS"[ref % 2], 100, 1_000_000 + 10_000 * (ref % 2), ts=ref * 10_000_000)
                                         for ref in range(1, 101))]  # fmt: skip


@pytest.fixture
def day(tmp_path):
    made = tmp_path / "day.itch.gz"
    made.write_bytes(gzip.compress(itch.framed(*MESSAGES)))
    return made


@pytest.fixture
def capture(tmp_path):
    packets = [itch.packet("SESSION001", 1 + at, *MESSAGES[at : at + 10]) for at in range(0, 110, 10)]
    frames = [(10**18 + 100_000_000 * i, cap.framed(cap.udp(data))) for i, data in enumerate(packets)]
    made = tmp_path / "day.pcapng"
    made.write_bytes(cap.pcapng(frames))
    return made


def facts_of(*arguments) -> dict:
    """Run `hftd feed … --json` and return what it says."""
    child = hftd("feed", *map(str, arguments), "--json")
    assert child.returncode == 0, child.stderr
    return json.loads(child.stdout)


def test_a_capture_and_a_file_are_shown_with_counts_gaps_lines_and_books(capture, day, tmp_path):
    child = hftd("feed", str(capture), "--book", "AAPL", "--levels", "3", "--parquet", str(tmp_path / "out"))
    assert child.returncode == 0, child.stderr
    for words in ("A +100", "packets", "239.1.2.3:4000", "AAPL: LIVE, 100 orders", "100.00 +5,000 +50 +101.00 +5,000 +50",
                  "session SESSION001: 101 messages", "bbo.parquet: "):  # fmt: skip
        assert re.search(words.replace(" +", r"\s+"), child.stdout), (words, child.stdout)
    assert sorted(os.listdir(tmp_path / "out")) == ["bbo.parquet", "depth.parquet", "events.parquet", "trades.parquet"]
    told, wanted = facts_of(day, "--book", "AAPL"), facts_of(capture, "--book", "AAPL")
    assert told["books"] == wanted["books"] and told["counts"] == wanted["counts"] == {"A": 100, "R": 1}
    assert wanted["lines"]["a"]["packets"] == 11 and wanted["recorded_seconds"] == 1.0
    assert told["recorded_seconds"] == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(("how", "least"), [(("--pace", "2"), 0.49), (("--rate", "100"), 0.9)])
def test_pace_and_rate_hold_a_recording_back(capture, day, how, least):
    for source in (capture, day):
        facts = facts_of(source, *how)
        assert facts["messages"] == 101 and facts["seconds"] >= least and not any(facts["errors"].values())
        if how[0] == "--pace":                        # a machine that is busy is late, never early
            assert facts["recorded_seconds"] / facts["seconds"] <= float(how[1]) * 1.03
    assert facts_of(day, "--seconds", "0.3", "--pace", "1")["messages"] < 60


def test_the_genuine_capture_is_played_as_the_file_is():
    folder = "itch50-aapl-20200130"
    capture, file = (facts_of(shared_data(f"{folder}/aapl_20200130.{end}"), "--book", "AAPL", "--levels", "1000")
                     for end in ("moldudp64.pcap.gz", "itch.gz"))  # fmt: skip
    assert capture["counts"] == file["counts"] and capture["books"] == file["books"]
    assert capture["messages"] == 10_000 and capture["gaps"] == dict.fromkeys(capture["gaps"], 0)


def test_a_capture_that_is_cut_short_is_shown_and_then_complained_of(capture):
    capture.write_bytes(capture.read_bytes()[:-9])
    child = hftd("feed", str(capture), "--json")
    assert child.returncode == 1 and json.loads(child.stdout)["messages"] == 100
    assert re.fullmatch(r"hftd: .*day\.pcapng: cut short: .*\n", child.stderr)


@pytest.mark.parametrize(("arguments", "says"), [
    (("feed", "nowhere.pcap"), "no such file"), (("feed", "live"), "say which lines"),
    (("feed", "live", "--line", "239.1.1.1:5", "--pace", "2"), "for recordings"),
    (("feed", "DAY", "--line", "here:5"), "IPv4"), (("feed", "DAY", "--line", "239.1.1.1"), "host:port"),
    (("feed", "DAY", "--book", "NOPE"), "NOPE"),
    (("feed", "DAY", "-c", "no.toml"), "no such file"), (("record", "--out", "x.pcapng"), "say which lines"),
    (("record", "--out", "x.pcapng", "--line", "239.1.1.1:5"), "--interface"),
    (("record", "--out", "no/x.pcapng", "--line", "127.0.0.1:5999", "--interface", "127.0.0.1"), "directory"),
])  # fmt: skip
def test_mistakes_are_one_line(day, arguments, says):
    child = hftd(*[str(day) if each == "DAY" else each for each in arguments])
    assert child.returncode in (1, 2) and says in child.stderr, child.stderr
    assert child.stderr.count("\n") == 1 and child.stderr.startswith("hftd: ")


# ---------------------------------------------------------------- real lines


class Child:
    """A command that runs until it is told to stop; its first line of output has come when it is made."""

    def __init__(self, *arguments: str, wait: bool = True):
        self.process = subprocess.Popen([sys.executable, "-m", "hftd", *arguments], cwd=ROOT, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL)  # fmt: skip
        self.first = self.line() if wait else ""

    def line(self) -> str:
        ready, _, _ = select.select([self.process.stdout], [], [], 90)
        assert ready, "no output"
        return self.process.stdout.readline()

    def end(self, number: int | None = None) -> dict:
        """Send a signal (none: wait for its own end) and return the JSON that it prints."""
        if number:
            self.process.send_signal(number)
        try:
            out, errors = self.process.communicate(timeout=60)
        finally:
            self.process.kill()
        assert self.process.returncode == 0, errors
        return json.loads(out)


@pytest.mark.timeout(120)
def test_what_the_exchange_sent_is_recorded_shown_live_and_played_again(tmp_path):
    """Three listeners to a session of the simulated exchange, over multicast on loopback: recorder, live look, plain socket."""
    file = tmp_path / "session.pcapng"
    with Venue(tmp_path, "--messages", "4000", "--rate", "8000", "--wait-login", "90", "--symbols", "3", "--linger", "0.2",
               "--end-seconds", "1.5") as venue:  # fmt: skip
        lines = ["--line", f"{venue.group}:{venue.port_a}", "--line", f"{venue.group}:{venue.port_b}", "--interface", "127.0.0.1"]
        recorder = Child("record", *lines, "--out", str(file), "--json")
        assert "hftd record: recording, " in recorder.first and "stamps" in recorder.first
        live = Child("feed", "live", *lines, "--every", "0.05", wait=False)
        heard = ""
        while "messages, packets a:" not in heard:    # heartbeats: it listens
            heard = live.process.stderr.readline()
            assert heard, "the live feed ended"
        plain = Line(venue, venue.port_a)
        try:
            with Soup(venue.ouch):
                plain.read(lambda: plain.ended)
        finally:
            plain.close()
        ledger = venue.wait()
        out, errors = live.process.communicate(timeout=60)
        assert live.process.returncode == 0, errors
        told = recorder.end(signal.SIGINT)

    assert told["ended"] == "stopped" and told["dropped"] == 0 and told["stamps"] in ("software", "hardware")
    assert f"{ledger['messages']:,} messages, 3 instruments" in out and "books LIVE" in out

    again = facts_of(file)
    assert again["messages"] == ledger["messages"] and not any(again["errors"].values()) and again["state"] == "LIVE"
    assert again["capture"]["packets"] == told["packets"] > 1000 and again["capture"]["backwards"] < 10  # a busy kernel's delay
    assert again["lines"]["a"]["packets"] == told["lines"][0]["packets"]

    recorded: dict[int, bytes] = {}
    for payload in udp_payloads(file):
        sequence, count, at = int.from_bytes(payload[10:18], "big"), int.from_bytes(payload[18:20], "big"), 20
        for number in range(sequence, sequence + (count if count != 0xFFFF else 0)):
            size = int.from_bytes(payload[at : at + 2], "big")
            recorded[number] = payload[at + 2 : at + 2 + size]
            at += 2 + size
    assert recorded == plain.messages and len(recorded) == ledger["messages"]
    _tshark_reads(file, told)
    assert not [name for name in segment.existing() if "feedview" in name]


def _tshark_reads(file, told) -> None:
    """Every packet of a recording is Ethernet, IPv4 and UDP to tshark, sound, each line in order."""
    fields = ("frame.protocols", "ip.dst", "udp.dstport", "frame.time_epoch", "ip.checksum.status", "_ws.malformed")
    command = ["tshark", "-o", "ip.check_checksum:TRUE", "-r", str(file), "-T", "fields"]
    try:
        child = subprocess.run([*command, *(word for field in fields for word in ("-e", field))], capture_output=True, text=True,
                               timeout=60)  # fmt: skip
    except FileNotFoundError:
        pytest.skip("tshark is not installed: apt-get install tshark")
    rows = [line.split("\t") for line in child.stdout.splitlines()]
    assert len(rows) == told["packets"], child.stderr
    assert all(row[0].startswith("eth:ethertype:ip:udp:") for row in rows)
    plain = [row for row in rows if row[0].endswith(":udp:data")]  # of the others it guesses by their bytes what they might be
    assert len(plain) > len(rows) * 0.9 and {row[5] for row in plain} == {""}
    assert {f"{row[1]}:{row[2]}" for row in rows} == {row["address"] for row in told["lines"]}
    for port in {row[2] for row in rows}:             # each line in its own order
        stamps = [float(row[3]) for row in rows if row[2] == port]
        assert stamps == sorted(stamps) and abs(stamps[-1] - time.time()) < 120
    assert {row[4] for row in rows} == {"1"}


def test_a_synthetic_market_goes_through_both_lines_without_an_error_and_is_the_same_again():
    asked = ("synthetic", "--messages", "20000", "--symbols", "20", "--live", "50", "--seed", "4", "--book", "S1")
    told, again = facts_of(*asked), facts_of(*asked)
    assert told["messages"] == 20_000 + 4 * 20 + 6 and told["state"] == "LIVE" and told["instruments"] == 20
    assert not any(told["errors"].values()) and not any(told["gaps"].values())
    assert told["lines"]["a"]["first"] == told["lines"]["b"]["duplicates"] == told["lines"]["a"]["packets"] > 0
    assert told["books"] == again["books"] and told["counts"] == again["counts"] and told["books"][0]["bids"]
    assert told["books"] != facts_of(*asked[:8], "5", *asked[9:])["books"]
    memory = told["resident_mib"]
    assert memory["end"] <= memory["middle"] + 2


@pytest.mark.parametrize(("arguments", "words"), [
    (("--messages", "0"), "--messages: must be 1 to"),
    (("--symbols", "20000"), "--symbols: must be 1 to 16,384, was 20,000"),
    (("--symbols", "16000", "--live", "5000"), "--symbols times --live: at most 16,777,216 live orders"),
    (("--pace", "2"), "feed synthetic: --pace and --rate are for recordings"),
])  # fmt: skip
def test_a_synthetic_market_that_cannot_be_is_one_line(arguments, words):
    child = hftd("feed", "synthetic", *arguments)
    assert child.returncode == 2 and words in child.stderr and len(child.stderr.splitlines()) == 1, child.stderr
