"""What goes over the wire is right by others' word: tshark's dissectors on a capture of a whole session."""

import json
import shutil
import subprocess
import time

import pytest

from hftd.sim.options import SYNTHETIC_SYMBOLS
from tests.support.daemon import Exchange, hftd, running, until

TSHARK = shutil.which("tshark")


def dissect(capture, udp, tcp, *fields):
    """Return one row per packet of what tshark makes of a capture."""
    command = [TSHARK, "-r", str(capture), "-d", f"udp.port=={udp},moldudp64", "-d", f"udp.port=={udp + 1},moldudp64",
               "-d", f"tcp.port=={tcp},soupbintcp", "-T", "fields"]  # fmt: skip
    for field in fields:
        command += ["-e", field]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return [line.split("\t") for line in answer.stdout.splitlines()]


@pytest.mark.skipif(TSHARK is None, reason="tshark is not installed: apt-get install tshark")
def test_tshark_finds_nothing_malformed_in_a_session(tmp_path):
    capture = tmp_path / "session.pcapng"
    exchange = Exchange(tmp_path, "--seconds", "6", "--seed", "5", "--rate", "2000", "--wait-login", "30")
    filters = f"udp port {exchange.udp} or udp port {exchange.udp + 1} or tcp port {exchange.tcp}"
    sniffer = subprocess.Popen(
        [TSHARK, "-i", "lo", "-q", "-B", "64", "-f", filters, "-w", str(capture), "-a", "duration:90"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        exchange.await_ready()
        until(lambda: capture.exists() or sniffer.poll() is not None, 20, "tshark to capture")
        if sniffer.poll() is not None:
            pytest.skip(f"tshark may not capture here: {sniffer.stderr.read().strip()[-200:]}")
        time.sleep(0.3)
        with running(tmp_path, exchange, list(SYNTHETIC_SYMBOLS)[:4]) as (name, _):
            until(lambda: "flow ended" in exchange.log.read_text(), 60, "the session to end")
            counters = json.loads(hftd("status", "-n", name, "--json").stdout)["counters"]
        ledger = exchange.end()
    finally:
        sniffer.terminate()
        sniffer.wait(20)
        if exchange.process.poll() is None:
            exchange.process.kill()
            exchange.process.wait()
    wrong = ("_ws.malformed", "moldudp64.msglen.invalid", "moldudp64.count.invalid", "moldudp64.end_of_session_extra",
             "soupbintcp.req_seq_num.invalid", "soupbintcp.next_seq_num.invalid")  # fmt: skip
    rows = dissect(capture, exchange.udp, exchange.tcp, "moldudp64.count", "soupbintcp.packet_type", *wrong)
    assert not [row for row in rows if any(row[2:])]
    counts = [int(count) for row in rows for count in row[0].split(",") if count]
    assert sum(count for count in counts if count != 0xFFFF) >= counters["feed"]["messages"] > 1000
    kinds = {chr(int(kind, 0)) if kind.startswith("0x") else kind.strip("'") for row in rows for kind in row[1].split(",") if kind}
    assert {"L", "A", "U", "S"} <= kinds
    assert sum(row["orders"] for row in ledger["positions"]) > 0
