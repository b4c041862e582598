"""`hftd status`: one screen of what a trader must see, over real shared memory; --all for the rest."""

import json
import os

import numpy as np
import pytest

from hftd.cli.main import main
from hftd.control import glance
from hftd.control.status import snapshot
from hftd.core import clock as clocks
from hftd.gateway.memory import LINK_DOWN, LINK_UP
from hftd.msg.enums import AgentState, BookState, LogCode, RunState, TradingState
from hftd.msg.records import INSTRUMENT_ANNOUNCED
from hftd.risk import kill
from hftd.shm import map as shared
from hftd.shm.errlog import ROWS
from hftd.shm.histogram import BUCKETS
from hftd.venues.nasdaq.itch50 import symbol_to_int
from tests.support.risk_desk import small_config

SYMBOLS = ["AAA", "BBB", "CCC", "DDD", "EEE", "FFF", "GGG", "HHH"]


class Daemon:
    """The shared memory of a daemon that runs, written by the test in the place of its roles."""

    def __init__(self, directory, **sections):
        self.config = small_config(directory, **{"universe": {"symbols": SYMBOLS, "max": 16}, **sections})
        self.name = self.config.daemon.name
        self.memory = shared.create(self.config, 1)
        control = self.memory["control"]
        clocks.calibrate(control["clock"][0], 0.001)
        control["run"][0]["state"], control["run"][0]["session_up"] = int(RunState.READY), 1
        for role, index, _ in shared.agents(self.config):
            mark = control["marks"][shared.mark_of(role, index)]
            mark["state"], mark["pid"], mark["ready"], mark["core"], mark["starts"] = int(AgentState.RUNNING), os.getpid(), 1, 3, 1
            mark["heartbeat"] = clocks.now_ticks()
        for at, symbol in enumerate(SYMBOLS):
            row, quote = self.memory["market"]["instruments"][at], self.memory["market"]["quotes"][at]
            row["symbol"], row["flags"] = symbol_to_int(symbol), INSTRUMENT_ANNOUNCED
            quote["state"], quote["trading"] = int(BookState.LIVE), int(TradingState.TRADING)
            quote["ts_recv"] = clocks.now_ticks()
            self.memory["risk"]["limits"][at]["position_max"] = 1000
        account = self.memory["risk"]["account"][0]
        account["gross_max"], account["loss_max"], account["open_orders_max"], account["rate_max"] = 10**9, 10**8, 100, 1000
        self.memory["orders"]["session"][0]["state"] = LINK_UP
        for histogram in self.memory["orders"]["histograms"]:
            histogram["count"], histogram["buckets"][BUCKETS // 2], histogram["largest"] = 5, 5, 400

    def warnings(self):
        return glance.warnings(self.config, self.memory, snapshot(self.config, self.memory))


@pytest.fixture
def daemon(tmp_path):
    made = Daemon(tmp_path)
    yield made
    made.memory.unlink()


def said(daemon, capsys, *arguments):
    assert main(["status", "-n", daemon.name, *arguments]) == 0
    return capsys.readouterr().out


def test_the_usual_screen_is_no_longer_than_forty_lines(daemon, capsys):
    """State, every role with its core, data, venue, limits, positions, stages; with positions in all instruments and a kill."""
    for at in range(len(SYMBOLS)):
        daemon.memory["risk"]["positions"][at]["bought_qty"] = 100 * (at + 1)
    kill.pull(daemon.config, daemon.memory, "anna", "looks wrong")
    text = said(daemon, capsys)
    lines = text.splitlines()
    assert len(lines) <= 40, text
    assert lines[0].startswith(f"{daemon.name} READY  KILLED  layout")
    for words in ("recorder", "feed", "strategy.a", "gateway", "8 of 8 books LIVE", "link up", "tick_to_trade", "budget p50",
                  "gross 0 of 100,000 (0%)", "and 2 more, less full"):
        assert words in text, words
    assert not any(words in text for words in ("counters that are not zero", "placement: got", "rings"))


def test_all_has_the_rest(daemon, capsys):
    """Counters, rings, placement, errors: nothing that could be seen is gone."""
    daemon.memory["market"]["counters"][0]["packets_a"] = 12345
    daemon.memory["ring.md"]["control"][0]["tail"] = 77
    text = said(daemon, capsys, "--all")
    for words in ("counters that are not zero", "12,345", "rings", "ring.md", "p99.9"):
        assert words in text, words


def test_a_latched_kill_switch_is_told_in_full(daemon, capsys):
    """By whom, when, why, and which command lifts it; as text and as JSON."""
    assert json.loads(said(daemon, capsys, "--json"))["kill"] is None and "KILLED" not in said(daemon, capsys)
    kill.pull(daemon.config, daemon.memory, "anna-maria", "looks wrong")
    facts = json.loads(said(daemon, capsys, "--json"))
    assert facts["killed"] and (facts["kill"]["by"], facts["kill"]["why"]) == ("anna-maria", "looks wrong")
    text = said(daemon, capsys)
    assert (
        f"KILLED by anna-maria at {facts['kill']['utc']}: looks wrong; lift it with: hftd kill --clear -n {daemon.name} --by NAME"
    ) in text


def test_quiet_daemon_has_no_warnings(daemon, capsys):
    """An empty list says that all is well, so nothing harmless may stand in it."""
    assert daemon.warnings() == []
    assert said(daemon, capsys).splitlines()[-1] == "no warnings"


def test_each_trouble_is_a_warning(daemon):
    """One after another; each stands alone."""
    memory = daemon.memory
    market, account, session = memory["market"], memory["risk"]["account"][0], memory["orders"]["session"][0]

    def one(words):
        found = daemon.warnings()
        assert len(found) == 1 and words in found[0], found

    market["quotes"][1]["state"] = int(BookState.STALE)
    one("1 book is STALE, and not traded on: BBB")
    market["quotes"][1]["state"] = int(BookState.LIVE)
    market["quotes"][2]["trading"] = int(TradingState.HALTED)
    one("1 instrument does not trade now: CCC")
    market["quotes"][2]["trading"] = int(TradingState.TRADING)
    account["pnl"] = -9 * 10**7
    one("loss: 90% of the account's limit is used (9,000 of 10,000)")
    account["pnl"], account["loss_latched"] = 0, 1
    one("loss limit is reached")
    account["loss_latched"], session["latched"] = 0, 1
    one("did not carry risk's checksum")
    session["latched"], memory["ring.md"]["control"][0]["full"] = 0, 3
    one("ring.md was full 3 times")
    memory["ring.md"]["control"][0]["full"] = 0
    mark = memory["control"]["marks"][shared.mark_of(*shared.agents(daemon.config)[1][:2])]
    mark["pid"] = 0
    one("feed is dead (RUNNING)")
    mark["pid"], mark["starts"] = os.getpid(), 3
    one("feed was started 3 times")
    mark["starts"] = 1
    market["counters"][0]["given_up"], market["counters"][0]["lost_messages"] = 1, 44
    one("1 gaps could not be filled, 44 messages were never received")


def test_errors_are_sentences(daemon, capsys):
    """Not integers: which message a gap begins at; who pulled a switch stands in a place of its own."""
    log = daemon.memory["control"]["errors"]
    at = shared.mark_of(*shared.agents(daemon.config)[1][:2]) * ROWS
    for number, (code, b) in enumerate(((LogCode.FEED_GAP, 17), (LogCode.KILL, 1_700_000_000_000_000_000))):
        log[at + number]["code"], log[at + number]["b"], log[at + number]["count"] = int(code), b, 2
    assert daemon.warnings() == ["feed: market data gaps, the last at message 17 (expected 17), 2 times"]
    text = " ".join(said(daemon, capsys, "--all").split())
    assert "the kill switch was seen: every order is cancelled (utc 2023-11-14T22:13:20.000000000Z)" in text


def test_position_is_held_against_its_limit(daemon, capsys):
    """Worst case: open orders filled; carried shares count; the fullest first; a limit of 0 is full with anything."""
    rows, risk = daemon.memory["risk"]["positions"], daemon.memory["risk"]
    rows[0]["bought_qty"], rows[0]["open_buy_qty"] = 300, 200
    rows[1]["sold_qty"], rows[1]["open_sell_qty"], rows[1]["open_buy_qty"] = 700, 250, 999
    risk["exposures"][2]["carried_qty"], risk["limits"][2]["position_max"] = 5, 0
    found = glance.headroom(daemon.memory)
    assert [(one["symbol"], one["position"], one["worst"], round(one["used"], 3)) for one in found] == [
        ("CCC", 5, 5, 1.0), ("BBB", -700, 950, 0.95), ("AAA", 300, 500, 0.5),
    ]  # fmt: skip
    assert "95%" in said(daemon, capsys)


def test_venue_that_is_down_is_seen(daemon, capsys):
    """The link in words, and DOWN in the first line."""
    daemon.memory["orders"]["session"][0]["state"] = LINK_DOWN
    daemon.memory["control"]["run"][0]["session_up"] = 0
    text = said(daemon, capsys)
    assert "session DOWN" in text.splitlines()[0] and "link down" in text


def test_symbol_that_the_venue_does_not_know_is_told(tmp_path):
    """A limit for a symbol outside the universe, or a symbol that was never announced: with file and key, once any is known."""
    limits = {"instrument": {"ZZZZ": {"order_qty_max": 10}, "AAA": {"order_qty_max": 10}}}
    made = Daemon(tmp_path, universe={"symbols": [], "max": 16}, risk=limits)
    try:
        (line,) = made.warnings()
        assert line == f"{made.config.path}: the venue has announced no such symbol: risk.instrument.ZZZZ"
        made.memory["market"]["instruments"]["flags"] = np.zeros(16, np.int64)
        assert made.warnings() == []
    finally:
        made.memory.unlink()
