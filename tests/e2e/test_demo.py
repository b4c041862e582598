"""The demonstration, as a newcomer runs it: exit code, summary, four records that agree, memory."""

import json

import pytest

from tests.support.daemon import hftd
from tests.support.data import shared_data

FILES = {
    "itch50-aapl-20200130/aapl_20200130.itch.gz": 10_000,
    "itch50-start-of-day-20191230/first1000_20191230.itch.gz": 1_000,
    "lobster-goog-20120621/goog_20120621_level10.itch.gz": 154_188,
    "lobster-aapl-goog-20120621/aapl_goog_20120621.itch.gz": 318_163,
}


def demo(tmp_path, *arguments):
    out = tmp_path / "summary.json"
    answer = hftd("demo", "--json", str(out), *arguments, timeout=170)
    assert answer.returncode == 0, f"{answer.stdout[-2000:]}\n{answer.stderr[-2000:]}"
    return json.loads(out.read_text()), answer.stdout


def test_synthetic_session_trades_and_every_record_agrees(tmp_path):
    facts, text = demo(tmp_path, "--seconds", "6")
    assert facts["ledger_agrees"] and facts["clean_stop"]
    assert facts["messages"] > 10_000
    assert facts["orders"] > 20 and facts["fills"] > 0
    assert facts["memory_total_mib"] < 1536
    assert {"exchange", "feed", "risk", "gateway", "recorder", "supervisor"} <= set(facts["memory_mib"])
    assert facts["latency_ns"]["tick_to_trade"]["count"] > 0
    assert "agree to the share and the cent" in text


@pytest.mark.parametrize("name", FILES)
def test_recorded_session_arrives_whole_and_every_record_agrees(tmp_path, name):
    facts, _ = demo(tmp_path, "--seconds", "8", "--data", str(shared_data(name)))
    assert facts["ledger_agrees"] and facts["clean_stop"]
    assert facts["messages"] >= FILES[name]
    if "start-of-day" not in name:
        assert facts["orders"] > 0


def test_fused_layout_agrees_too(tmp_path):
    facts, text = demo(tmp_path, "--seconds", "5", "--layout", "fused", "--strategy", "market_maker.py")
    assert facts["layout"] == "fused" and facts["ledger_agrees"]
    assert "NOT independent" in text
