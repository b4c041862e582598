"""A position stays its symbol's: whatever market data forgets and in whatever order the venue announces anew."""

import pytest

from hftd.feed.setup import FeedAgent
from hftd.msg.enums import DenyReason, ExecType, LogCode, Role
from hftd.msg.ids import make_id
from hftd.msg.records import INSTRUMENT_ANNOUNCED, log_dtype
from hftd.recorder.logs import Logs, RotatingFile
from hftd.risk import ledger
from hftd.risk.setup import LOOK_NS, RiskAgent
from hftd.shm.map import mark_of
from tests.support import itch_messages as itch
from tests.support.live_feed import Live
from tests.support.risk_desk import BUY, SELL, Desk

AAA, BBB = (int.from_bytes(name.ljust(8), "little") for name in (b"AAA", b"BBB"))


def held(memory) -> dict[str, int]:
    return {symbol: ledger.net(row) for symbol, row in ledger.snapshot(memory)["instruments"].items()}


def announce(desk: Desk, *symbols: int) -> None:
    """What a feed says whose rows are in this order."""
    rows = desk.memory["market"]["instruments"]
    rows["symbol"], rows["flags"] = 0, 0
    for at, symbol in enumerate(symbols):
        rows[at]["symbol"], rows[at]["tick"], rows[at]["lot"], rows[at]["flags"] = symbol, 100, 100, INSTRUMENT_ANNOUNCED
        desk.quote(at)


@pytest.fixture
def desk(tmp_path):
    """No symbols configured; AAA has 500 from yesterday, less 200 sold; 300 of BBB were bought."""
    (tmp_path / "p.csv").write_text("symbol,quantity,price\nAAA,500,90\n")
    made = Desk(tmp_path, universe={"symbols": []}, risk={"positions": str(tmp_path / "p.csv")})
    announce(made, AAA, BBB)
    made.agent.cold(1)
    for match, (side, qty) in enumerate(((SELL, 200), (BUY, 300))):
        made.report(ExecType.FILL, make_id(0, 1, 1), side=side, qty=qty, instrument=match, venue_id=match + 1)
    made.step(4)
    return made


@pytest.mark.parametrize("symbols", [(AAA, BBB), (), (BBB, AAA), (BBB,)])
def test_the_ledger_calls_a_row_as_risk_does(desk, symbols):
    """The table full, empty, in the other order, half: the day is the same, and what is written to disk."""
    announce(desk, *symbols)
    assert held(desk.memory) == {"AAA": 300, "BBB": 300}
    ledger.save(desk.config, desk.memory)
    assert ledger.read(desk.config)["instruments"]["AAA"]["sold_qty"] == 200


def test_a_row_that_names_another_symbol_is_not_traded(desk, tmp_path):
    """From the first intent on, before cold code looks; and after a restart of risk. A row risk does not know yet is armed."""
    announce(desk, BBB, AAA, int.from_bytes(b"CCC     ", "little"))
    sale = {"side": SELL, "qty": 1, "px": 100_1000}
    assert desk.reason(**sale) == desk.reason(**sale, instrument=1) == DenyReason.UNKNOWN_INSTRUMENT
    desk.agent.cold(2 * LOOK_NS)
    desk.agent.cold(4 * LOOK_NS)
    log = desk.memory[f"ring.log.{mark_of(Role.RISK, 0)}"]
    records = log["slots"].view(log_dtype)[: int(log["control"][0]["tail"])]
    told = records[records["code"] == LogCode.RISK_SYMBOL]
    assert [[int(row[name]) for name in "abc"] for row in told] == [[0, AAA, BBB], [1, BBB, AAA]], "each once"

    logs = Logs(RotatingFile(tmp_path / "l"), "info", "x", {}, str)
    logs.log_record(told[0], 0)
    logs.end()
    line = (tmp_path / "l").read_text()
    assert '"symbol":"AAA"' in line.replace(": ", ":") and "stop the daemon" in line
    assert "instrument 0 is BBB in market data, AAA to risk" in line

    announce(desk, BBB, int.from_bytes(b"DDD     ", "little"), int.from_bytes(b"CCC     ", "little"), AAA)
    desk.agent.cold(6 * LOOK_NS)
    assert desk.reason(**sale, instrument=3) == DenyReason.UNKNOWN_INSTRUMENT, "AAA is the first row's"
    desk.start()
    for at in (0, 1, 3):
        assert desk.reason(**sale, instrument=at) == DenyReason.UNKNOWN_INSTRUMENT
    assert desk.reason(**sale, instrument=2) == DenyReason.OK
    assert held(desk.memory) == {"AAA": 300, "BBB": 300}


def test_a_row_without_a_symbol_is_not_armed(desk):
    """Nothing can be booked under it."""
    announce(desk, AAA, BBB, 0)
    desk.agent.cold(2)
    assert desk.reason(instrument=2, qty=1) == DenyReason.UNKNOWN_INSTRUMENT
    assert desk.reason(instrument=1, qty=1) == DenyReason.OK


@pytest.fixture
def live():
    made = Live(strategy=[{"file": "a.py", "name": "a"}])
    yield made
    made.close()


def hear(live: Live, *symbols: str) -> None:
    """Publish the directory of a session, under other locates than before, and have the feed apply it."""
    live.messages = [itch.directory(at + 3, symbol) for at, symbol in enumerate(symbols)]
    live.publish(1, len(symbols))
    live.until(lambda: live.expected() == len(symbols) + 1)


def restart(live: Live) -> None:
    """The feed's process dies and is started again over the same shared memory."""
    live.agent.close()
    live.agent = FeedAgent(live.config, live.memory)
    live.agent.prepare(False)


def next_session(live: Live) -> None:
    """The venue ends the session and begins another."""
    live.control(live.expected(), 0xFFFF)
    live.until(lambda: live.counter("session_ends") == 1)
    live.session = "SESSION002"
    live.control(1)
    live.until(lambda: live.counter("sessions") == 2)


@pytest.mark.parametrize("again", [restart, next_session])
def test_a_symbol_keeps_its_row(live, again):
    """Feed and risk together: announced in another order, with a newcomer first, and one symbol no more."""
    hear(live, "AAA", "BBB", "CCC")
    ledger.begin(live.config, live.memory)
    risk = RiskAgent(live.config, live.memory)
    risk.prepare(spin=True)
    live.memory["risk"]["positions"]["bought_qty"][:3] = 100, 200, 300
    again(live)
    assert held(live.memory) == {"AAA": 100, "BBB": 200, "CCC": 300}
    rows = live.memory["market"]["instruments"]
    assert not rows["flags"].any() and (rows["locate"] == -1).all(), "none is announced yet"
    hear(live, "NEW", "CCC", "AAA")
    risk.cold(LOOK_NS)
    assert [ledger.symbol_text(word) for word in rows["symbol"][:5]] == ["AAA", "BBB", "CCC", "NEW", ""]
    assert rows["locate"][:4].tolist() == [5, -1, 4, 3]
    assert live.memory["risk"]["limits"]["armed"].tolist()[:5] == [1, 1, 1, 1, 0]
    assert int(live.memory["control"]["run"][0]["instruments"]) == 4 == int(live.agent.handle["used"])
    assert held(live.memory) == {"AAA": 100, "BBB": 200, "CCC": 300}
