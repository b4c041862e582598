"""Every type of message over real sockets: the simulated exchange sends it, `hftd feed live` shows it, Parquet keeps it."""

import gzip
import json
import select
import subprocess
import sys
import time

import pytest

from tests.support import itch_messages as itch
from tests.support.daemon import hftd
from tests.support.data import ROOT
from tests.support.sim_venue import Soup, Venue

PX = 1_000_000
DAY = [
    itch.system("O"), itch.breaker_levels(300 * 10**8, 200 * 10**8, 100 * 10**8),
    itch.directory(1, "AAA"), itch.directory(2, "BBB"), itch.action(1, "T", symbol="AAA"), itch.action(2, "T", symbol="BBB"),
    itch.reg_sho(2, "1", symbol="BBB"), itch.participant(1, "NITE", "Y", "N", "A", symbol="AAA"), itch.retail(1, "B", symbol="AAA"),
    itch.ipo(0, 34_500, "A", 170_000, symbol="BBB"), itch.listing(2, "Y", 1, 2, 3, 4, 5, 6, symbol="BBB"),
    itch.system("S"), itch.imbalance(1, 500, 300, "S", PX, "AAA", far=PX - 100, reference=PX + 100, kind="O", variation="L"),
    itch.cross(1, 500, PX, match=1, symbol="AAA"), itch.system("Q"),
    itch.add(1, 10, "B", 300, PX - 100, "AAA", mpid="NITE"), itch.add(1, 11, "S", 300, PX + 100, "AAA"),
    itch.executed(1, 10, 100, match=2), itch.executed_at(1, 11, 100, PX, match=3),
    itch.executed_at(1, 11, 50, PX, printable=False, match=4),
    itch.cancel(1, 10, 50), itch.replace(1, 10, 12, 200, PX - 200), itch.trade(1, 40, PX, match=5, symbol="AAA"), itch.broken(1, 5),
    itch.operational(2, "Q", "H", symbol="BBB"), itch.action(1, "P", "LUDP", symbol="AAA"),
    itch.collar(1, PX, PX - 5000, PX + 5000, 1, symbol="AAA"), itch.breach("1"),
    itch.add(2, 20, "B", 100, PX, "BBB"), itch.delete(2, 20),
]  # fmt: skip


@pytest.mark.timeout(180)
def test_every_type_is_sent_shown_and_kept(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    day = tmp_path / "day.itch.gz"
    day.write_bytes(gzip.compress(itch.framed(*DAY)))
    with Venue(tmp_path, "--data", str(day), "--fast", "--wait-login", "90", "--linger", "0.2", "--end-seconds", "1.5") as venue:
        lines = ["--line", f"{venue.group}:{venue.port_a}", "--line", f"{venue.group}:{venue.port_b}", "--interface", "127.0.0.1"]
        command = [sys.executable, "-m", "hftd", "feed", "live", *lines, "--every", "0.05", "--parquet", str(tmp_path / "out"),
                   "--book", "AAA", "--book", "BBB"]  # fmt: skip
        pipe = subprocess.PIPE
        live = subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, stdin=subprocess.DEVNULL, text=True)
        try:
            heard, deadline = "", time.monotonic() + 90
            while "messages, packets a:" not in heard:   # heartbeats: it listens
                assert select.select([live.stderr], [], [], max(deadline - time.monotonic(), 0))[0], "the live feed says nothing"
                heard = live.stderr.readline()
                assert heard, "the live feed ended"
            with Soup(venue.ouch):
                out, errors = live.communicate(timeout=60)
        finally:
            live.kill()
        assert live.returncode == 0, errors
        venue.wait()

    assert f"{len(DAY)} messages, 2 instruments" in out
    assert "market: phase Q, breaker 1, level_1 30000000000, level_2 20000000000, level_3 10000000000" in out
    flat = " ".join(out.split())
    for shown in ("trading PAUSED", "reason LUDP", "collar_low 995000", "collar_high 1005000", "collar_extension 1", "retail 1",
                  "imbalance_qty -300", "far_px 999900", "reference_px 1000100", "cross_type O", "breaker 1", "halted 1", "short 1",
                  "ipo_px 170000", "ipo_qualifier A", "listing_max 2"):  # fmt: skip
        assert shown in flat, (shown, out)

    rows = parquet.read_table(tmp_path / "out" / "events.parquet").to_pylist()
    kinds = {row["kind"] for row in rows}
    assert kinds >= {"LEVEL", "TRADE", "HIDDEN_TRADE", "STATUS", "SYSTEM", "BROKEN", "IMBALANCE", "IMBALANCE_PRICES", "COLLAR",
                     "IPO", "RETAIL", "LISTING", "LISTING_LIMITS", "PARTICIPANT", "BREAKER_LEVELS", "DIRECTORY"}  # fmt: skip
    of = {row["kind"]: (row["symbol"], row["px"], row["qty"], row["orders"], row["ref"]) for row in rows}
    assert of["COLLAR"] == ("AAA", PX, PX - 5000, 1, PX + 5000) and of["IPO"] == ("BBB", 170_000, 34_500 * 10**9, 0, ord("A"))
    assert of["BREAKER_LEVELS"] == (None, 300 * 10**8, 200 * 10**8, 0, 100 * 10**8)
    assert [(row["qty"], row["ref"]) for row in rows if row["kind"] == "SYSTEM"] == [(79, 0), (83, 0), (81, 0), (87, 1)]
    trades = parquet.read_table(tmp_path / "out" / "trades.parquet").to_pylist()
    assert [(row["qty"], row["cross"], row["hidden"]) for row in trades] == [
        (500, "O", True), (100, None, False), (100, None, False), (40, None, True),
    ]  # fmt: skip

    again = json.loads(hftd("feed", str(day), "--json", "--book", "AAA").stdout)
    assert again["market"] == {"phase": "Q", "breaker": 1, "level_1": 300 * 10**8, "level_2": 200 * 10**8, "level_3": 100 * 10**8}
    assert again["books"][0]["status"]["collar_high"] == PX + 5000 and not any(again["errors"].values())
    books = json.loads(hftd("books", str(day), "--json").stdout)
    assert books["market"] == again["market"] and books["bbo"][1]["status"]["short"] == 1
