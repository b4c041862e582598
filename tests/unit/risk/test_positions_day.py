"""Positions outlive a run, midnight UTC and the day: what a day begins and ends with, and files that contradict each other."""

import os
import signal
import time
from datetime import UTC, datetime

import pytest

from hftd.cli.main import main
from hftd.control.status import carried, closed_positions, positions, sharing
from hftd.msg.enums import DenyReason, ExecType, RunState
from hftd.msg.ids import make_id
from hftd.msg.records import INSTRUMENT_ANNOUNCED, INTENT_SHORT
from hftd.risk import ledger, opening
from hftd.venues.nasdaq.trading_day import day_number
from tests.support.risk_desk import BUY, NEW, PX, SELL, Desk

HEAD = "symbol,quantity,price\n"
_match = iter(range(1, 1 << 30))


def moment(text: str) -> int:
    """UTC ns."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000_000


MORNING, EVENING, NIGHT, TOMORROW = (
    moment(text) for text in ("2025-01-15T14:00:00", "2025-01-15T23:50:00", "2025-01-16T00:10:00", "2025-01-16T14:00:00")
)
FRIDAY, SATURDAY, MONDAY = (moment(f"2025-01-{day}T14:00:00") for day in (17, 18, 20))


def desk(tmp_path, when: int, file: str = "", **sections) -> Desk:
    """A run of the same instance that starts at `when`."""
    sections["risk"] = {"positions": str(tmp_path / "p.csv") if file else "", **sections.get("risk", {})}
    if file:
        (tmp_path / "p.csv").write_text(file)
    return Desk(tmp_path, utc_ns=when, daemon={"name": "same", "run_dir": str(tmp_path)}, **sections)


def fill(of: Desk, side: int, qty: int, px: int = PX, instrument: int = 0) -> None:
    of.report(ExecType.FILL, make_id(0, 1, 1), side=side, qty=qty, px=px, instrument=instrument, venue_id=next(_match))
    of.step(4)


def end(of: Desk) -> None:
    """What the recorder does last."""
    ledger.save(of.config, of.memory)


def wait_ns(ns: int) -> None:
    until = time.monotonic_ns() + ns
    while time.monotonic_ns() < until:
        pass


def marks(of: Desk, *quantities: int, instrument: int = 0) -> list[str]:
    """Send sales that rest, one after the other, and return how each was marked, or why it was denied."""
    found = []
    for qty in quantities:
        reason = of.reason(kind=NEW, side=SELL, qty=qty, px=PX + 1000, instrument=instrument)
        found.append(reason.name if reason else "short" if int(of.passed[-1]["flags"]) & INTENT_SHORT else "long")
    return found


def by_symbol(rows: list[dict]) -> dict[str, dict]:
    return {row["symbol"]: row for row in rows}


def test_what_the_day_begins_with_is_sold_long(tmp_path):
    """500 of yesterday: the first 500 are a long sale, the next 100 a short one; without the file all is short."""
    assert marks(desk(tmp_path, MORNING), 500, 100) == ["short", "short"]
    assert marks(desk(tmp_path, MORNING, f"{HEAD}AAA,500,90\n"), 500, 100) == ["long", "short"]
    short = desk(tmp_path, MORNING, f"{HEAD}AAA,-500,90\n")
    assert marks(short, 1) == ["short"]
    assert short.position()["sold_qty"] == 0, "positions count this run alone"


def test_limits_and_profit_count_the_opening_position(tmp_path):
    """Position limit, gross value and loss: from the shares, and from their average price."""
    limits = {"position_max": 500, "loss_max": 1000.0}
    made = desk(tmp_path, MORNING, f"{HEAD}AAA,400,102.5\nBBB,-100,101\n", risk=limits, ready=False)
    made.step(9)
    assert int(made.account["loss_latched"]), "AAA had its price before BBB"
    made.agent.cold(1)
    made.run["state"], made.run["session_up"] = int(RunState.READY), 1
    made.agent.cold(2)
    assert int(made.account["held_cash"]) == 500 * PX
    assert int(made.account["pnl"]) == 400 * -2_5000 + 100 * 1_0000
    assert made.reason(qty=101) == DenyReason.POSITION
    assert made.reason(qty=100) == DenyReason.OK
    assert made.reason(side=SELL, px=PX + 300, qty=401, instrument=1) == DenyReason.POSITION
    made.quote(bid=PX - 4100, ask=PX - 3900)
    made.step(9)
    assert made.reason(qty=1, instrument=2) == DenyReason.LOSS_LIMIT
    made.quote()
    made.step(9)
    made.agent.cold(3)
    assert made.reason(qty=1, instrument=2) == DenyReason.LOSS_LIMIT, "while it trades, the latch stays"
    assert made.reason(side=SELL, px=PX + 100, qty=100, instrument=0) == DenyReason.OK, "what shrinks a position passes"


def test_more_than_the_limit_may_be_held_and_only_shrinks(tmp_path):
    """A limit below what is held already: no share more, any share less."""
    made = desk(tmp_path, MORNING, f"{HEAD}AAA,5000,90\n", risk={"position_max": 500, "gross_notional_max": 1000.0})
    assert made.reason(qty=1) == DenyReason.POSITION
    assert marks(made, 1000, 1000) == ["long", "long"]


def test_a_new_risk_process_keeps_them(tmp_path):
    """It is started again over the same memory, whatever the file says meanwhile."""
    made = desk(tmp_path, MORNING, f"{HEAD}AAA,500,90\n")
    fill(made, SELL, 200)
    before = positions(made.memory)
    (tmp_path / "p.csv").write_text("rubbish")
    made.start()
    assert positions(made.memory) == before
    assert marks(made, 300, 1) == ["long", "short"]


def test_an_instrument_is_counted_before_it_may_be_traded(tmp_path):
    """The venue announces it late; risk died meanwhile; until then the ledger keeps what the file said."""
    made = desk(tmp_path, MORNING, f"{HEAD}AAA,500,90\nCCC,-70,101\n", universe={"symbols": []})
    rows = made.memory["market"]["instruments"]
    rows[0]["symbol"], rows[0]["tick"] = int.from_bytes(b"CCC     ", "little"), 100
    assert carried(made.config, made.memory) == {
        "day": "2025-01-15", "file": str(tmp_path / "p.csv"), "opening": 2, "held": 2, "not_announced": ["AAA", "CCC"],
        "earlier": "",
    }  # fmt: skip
    assert by_symbol(positions(made.memory))["CCC"]["position"] == -70
    assert made.reason(instrument=0) == DenyReason.UNKNOWN_INSTRUMENT
    made.start()
    rows[0]["flags"] = INSTRUMENT_ANNOUNCED
    made.quote()
    made.agent.cold(1)
    assert carried(made.config, made.memory)["not_announced"] == ["AAA"]
    fill(made, SELL, 30)
    end(made)
    assert {symbol: ledger.net(row) for symbol, row in ledger.read(made.config)["instruments"].items()} == {"AAA": 500, "CCC": -100}


def test_a_restart_after_midnight_utc_is_the_same_day(tmp_path):
    """19:10 in New York: the session runs, the shares and the loss of the day go on."""
    first = desk(tmp_path, EVENING, f"{HEAD}AAA,500,90\n")
    assert marks(first, 500, 100) == ["long", "short"]
    fill(first, SELL, 200)
    fill(first, BUY, 50, instrument=1)
    end(first)
    second = desk(tmp_path, NIGHT, f"{HEAD}AAA,500,90\n")
    assert second.position()["sold_qty"] == 0
    assert marks(second, 300, 1) == ["long", "short"]
    rows = by_symbol(positions(second.memory))
    assert (rows["AAA"]["opening"], rows["AAA"]["sold"], rows["AAA"]["position"], rows["AAA"]["fills"]) == (500, 200, 300, 1)
    assert (rows["BBB"]["opening"], rows["BBB"]["bought"], rows["BBB"]["position"]) == (0, 50, 50)
    fill(second, SELL, 100)
    end(second)
    assert ledger.net(ledger.read(second.config)["instruments"]["AAA"]) == 200
    assert by_symbol(positions(desk(tmp_path, NIGHT).memory))["AAA"]["position"] == 200, "without the file, too"


def test_the_opening_may_be_mended_on_the_day(tmp_path):
    """The file says what was held before the first trade: read again it replaces that, and only that."""
    first = desk(tmp_path, MORNING, f"{HEAD}AAA,500,90\nBBB,10,90\n")
    end(first)
    untraded = desk(tmp_path, MORNING, f"{HEAD}AAA,400,90\n")
    assert {symbol: row["position"] for symbol, row in by_symbol(positions(untraded.memory)).items()} == {"AAA": 400}
    fill(untraded, SELL, 200)
    end(untraded)
    priced = desk(tmp_path, EVENING, f"{HEAD}AAA,400,91\n")
    assert by_symbol(positions(priced.memory))["AAA"]["opening_px"] == 91.0, "the price alone may be mended at any time"
    second = desk(tmp_path, EVENING, f"# close of 2025-01-14\n{HEAD}AAA,600,91\nCCC,5,90\n")
    assert {symbol: row["position"] for symbol, row in by_symbol(positions(second.memory)).items()} == {"AAA": 400, "CCC": 5}
    assert int(second.memory["risk"]["exposures"][0]["carried_cash"]) == 200 * PX - 600 * 91_0000


def test_the_close_of_a_day_opens_the_next(tmp_path):
    """Saved, named, and started: on the same evening the ledger goes on; on the next day the file is what is held."""
    path = tmp_path / "p.csv"
    first = desk(tmp_path, MORNING, f"{HEAD}AAA,500,90\nCCC,10,95\n")
    fill(first, SELL, 200, px=101_0000)
    fill(first, BUY, 100, px=99_0000)
    fill(first, SELL, 30, px=98_0000, instrument=1)
    fill(first, SELL, 10, instrument=2)
    end(first)
    facts = ledger.read(first.config)
    opening.write(path, facts["day"], ledger.closing(facts))
    assert path.read_text() == f"# close of 2025-01-15\n{HEAD}AAA,400,91.50\nBBB,-30,98.00\n"

    same = desk(tmp_path, NIGHT, path.read_text())
    assert by_symbol(positions(same.memory))["AAA"]["position"] == 400, "not counted twice"
    end(same)

    after = desk(tmp_path, TOMORROW, path.read_text())
    rows = by_symbol(positions(after.memory))
    assert {symbol: (row["opening"], row["opening_px"], row["sold"]) for symbol, row in rows.items()} == {
        "AAA": (400, 91.5, 0), "BBB": (-30, 98.0, 0),
    }  # fmt: skip
    assert marks(after, 400, 1) == ["long", "short"]
    assert ledger.read(after.config)["day"] == day_number("2025-01-16")
    assert after.config and ledger.not_carried(after.config) == ""


def test_a_new_day_without_a_file_carries_nothing_and_says_so(tmp_path):
    """What the last day ended with is kept beside, and told."""
    first = desk(tmp_path, MORNING)
    fill(first, BUY, 400)
    end(first)
    second = desk(tmp_path, TOMORROW)
    assert positions(second.memory) == [] and not second.account["loss_latched"]
    assert ledger.not_carried(second.config) == "2025-01-15 ended with 400 AAA: not carried, since risk.positions names no file"
    assert ledger.last_path(second.config).exists()
    assert ledger.not_carried(first.config) == ledger.not_carried(second.config)


@pytest.mark.parametrize(("text", "message"), [
    (f"# close of 2025-01-15\n{HEAD}AAA,500,90\n", "is the close of 2025-01-15, but 2025-01-15 ended otherwise: AAA 300,"),
    (f"# close of 2025-01-14\n{HEAD}AAA,500,90\n", "is the close of 2025-01-14, but"),
    (f"{HEAD}AAA,500,90\n", "is what that day began with, but .* AAA 300, in the file 500; write it anew: hftd pos"),
    (f"# close of 2025-01-17\n{HEAD}AAA,300,90\n", "is of 2025-01-17, still to come: today is 2025-01-16; set the clock"),
])  # fmt: skip
def test_a_file_that_is_not_the_end_of_the_last_day_is_refused(tmp_path, text, message):
    """Saved too early, or not saved at all: nothing is begun, nothing is lost."""
    first = desk(tmp_path, MORNING, f"{HEAD}AAA,500,90\n")
    fill(first, SELL, 200)
    end(first)
    before = ledger.path_of(first.config).read_text()
    with pytest.raises(ledger.LedgerError, match=message):
        desk(tmp_path, TOMORROW, text)
    assert ledger.path_of(first.config).read_text() == before and not ledger.last_path(first.config).exists()
    by_hand = desk(tmp_path, TOMORROW, f"{HEAD}AAA,600,45\n")
    assert by_symbol(positions(by_hand.memory))["AAA"]["position"] == 600, "a split: a person's word stands"


def test_a_stale_file_is_refused_at_a_restart_too(tmp_path):
    """The day began with the close of the 14th, or without a file: the close of the 13th is no better at the second start."""
    before = desk(tmp_path, moment("2025-01-14T14:00:00"))
    fill(before, BUY, 300)
    end(before)
    stale, right = f"# close of 2025-01-13\n{HEAD}AAA,500,90\n", f"# close of 2025-01-14\n{HEAD}AAA,300,90\n"
    refusal = (r"is the close of 2025-01-13, but 2025-01-14 ended otherwise: AAA 300, in the file 500; name the close of "
               r"2025-01-14 in risk\.positions, or none: .*risk\.last\.json away")  # fmt: skip
    end(desk(tmp_path, MORNING))
    with pytest.raises(ledger.LedgerError, match=refusal):
        desk(tmp_path, EVENING, stale)
    first = desk(tmp_path, EVENING, right)
    fill(first, SELL, 100)
    end(first)
    with pytest.raises(ledger.LedgerError, match=refusal):
        desk(tmp_path, EVENING, stale)
    assert by_symbol(positions(desk(tmp_path, EVENING, right).memory))["AAA"]["position"] == 200, "the right one is right again"
    assert by_symbol(positions(desk(tmp_path, EVENING).memory))["AAA"]["position"] == 200, "and so is none, as the refusal says"
    ledger.last_path(first.config).unlink()
    assert by_symbol(positions(desk(tmp_path, EVENING, stale).memory))["AAA"]["position"] == 400, "a person's word stands"


def test_what_a_person_forced_is_not_asked_again(tmp_path):
    """The ledger that contradicted a file was moved away; the one before it is still there at the restart."""
    before = desk(tmp_path, moment("2025-01-13T14:00:00"))
    fill(before, BUY, 300)
    end(before)
    end(desk(tmp_path, moment("2025-01-14T14:00:00"), f"# close of 2025-01-13\n{HEAD}AAA,300,90\n"))
    ledger.path_of(before.config).unlink()
    for _ in range(2):
        end(desk(tmp_path, MORNING, f"# close of 2025-01-13\n{HEAD}AAA,500,90\n"))


def test_trades_are_not_counted_twice_by_a_file_kept_by_hand(tmp_path):
    """500 held, 100 bought, and 600 written into a file that does not say of when it is."""
    first = desk(tmp_path, MORNING, f"{HEAD}AAA,500,90\n")
    fill(first, BUY, 100)
    end(first)
    with pytest.raises(ledger.LedgerError, match=r"AAA is 600, but 2025-01-15 began with 500 .* '# close of 2025-01-14'"):
        desk(tmp_path, EVENING, f"{HEAD}AAA,600,90\n")
    with pytest.raises(ledger.LedgerError, match="in the file AAA is 0, but 2025-01-15 began with 500"):
        desk(tmp_path, EVENING, HEAD)
    assert by_symbol(positions(desk(tmp_path, EVENING, f"{HEAD}AAA,500,90\n").memory))["AAA"]["position"] == 600
    said = desk(tmp_path, EVENING, f"# close of 2025-01-14\n{HEAD}AAA,600,90\n")
    assert by_symbol(positions(said.memory))["AAA"]["position"] == 700, "as the refusal says"


def test_one_night_is_one_day(tmp_path):
    """Started at 23:30 in New York, started anew at 00:30: what was done stays."""
    first = desk(tmp_path, moment("2025-01-16T04:30:00"))
    fill(first, BUY, 400)
    first.account["loss_latched"] = 1
    end(first)
    second = desk(tmp_path, moment("2025-01-16T05:30:00"))
    assert by_symbol(positions(second.memory))["AAA"]["position"] == 400 and int(second.account["loss_latched"])


def test_an_idle_day_is_not_the_day_before(tmp_path, capsys):
    """A test run on Saturday without the file: Friday's end still stands, is shown, and can be saved anew."""
    friday = desk(tmp_path, FRIDAY)
    fill(friday, BUY, 500)
    end(friday)
    saved = f"# close of 2025-01-17\n{HEAD}AAA,500,100.00\n"
    end(desk(tmp_path, SATURDAY))
    end(desk(tmp_path, moment("2025-01-19T14:00:00")))
    assert ledger.read(friday.config)["day"] == day_number("2025-01-19")
    with pytest.raises(ledger.LedgerError, match="but 2025-01-17 ended otherwise: AAA 500, in the file 700; write it anew"):
        desk(tmp_path, MONDAY, f"# close of 2025-01-16\n{HEAD}AAA,700,90\n")
    (tmp_path / "hftd.toml").write_text(f'[daemon]\nname = "{friday.config.daemon.name}"\nrun_dir = "{tmp_path}"\n')
    assert main(["positions", "-c", str(tmp_path / "hftd.toml"), "--save", str(tmp_path / "p.csv")]) == 0
    assert (tmp_path / "p.csv").read_text() == saved, "what the refusal tells to do"
    assert "close of 2025-01-17" in capsys.readouterr().out
    with pytest.raises(ledger.LedgerError, match="but 2025-01-17 ended otherwise: AAA 500, in the file 0; write it anew"):
        desk(tmp_path, MONDAY, f"# close of 2025-01-18\n{HEAD}")
    none = desk(tmp_path, MONDAY)
    assert "2025-01-17 ended with 500 AAA: not carried" in ledger.not_carried(none.config)
    monday = desk(tmp_path, MONDAY, saved)
    assert by_symbol(positions(monday.memory))["AAA"]["position"] == 500


def test_an_idle_day_alone_contradicts_nothing(tmp_path):
    """The first start ever was a test run."""
    end(desk(tmp_path, SATURDAY))
    monday = desk(tmp_path, MONDAY, f"# close of 2025-01-17\n{HEAD}AAA,500,90\n")
    assert by_symbol(positions(monday.memory))["AAA"]["position"] == 500


def test_no_advice_that_loses_a_position(tmp_path):
    """Saturday traded another symbol: written anew from its ledger, the file would lose Friday's shares."""
    friday = desk(tmp_path, FRIDAY)
    fill(friday, BUY, 500)
    end(friday)
    saturday = desk(tmp_path, SATURDAY)
    fill(saturday, BUY, 10, instrument=1)
    end(saturday)
    with pytest.raises(ledger.LedgerError, match="neither began with AAA nor traded it") as refused:
        desk(tmp_path, MONDAY, f"# close of 2025-01-17\n{HEAD}AAA,500,90\n")
    assert "--save" not in str(refused.value) and refused.value.exit_code == 2
    mended = desk(tmp_path, MONDAY, f"{HEAD}AAA,500,90\nBBB,10,100\n")
    assert by_symbol(positions(mended.memory))["BBB"]["position"] == 10, "as the refusal says"


def test_a_ledger_of_a_day_to_come_is_refused(tmp_path):
    """The clock was set back."""
    end(desk(tmp_path, TOMORROW))
    with pytest.raises(ledger.LedgerError, match="is of 2025-01-16, still to come: today is 2025-01-15"):
        desk(tmp_path, NIGHT)


def test_closing_prices_are_the_average_of_what_was_taken_up(tmp_path):
    """Through zero and back: the side that is held counts, what the day began with included."""
    row = {"opening_qty": -100, "opening_cash": -100 * 50_0000, "bought_qty": 400, "sold_qty": 100, "bought_cash": 400 * 60_0000,
           "sold_cash": 100 * 70_0000, "fills": 2, "orders": 2, "mark_px": 65_0000}  # fmt: skip
    less = {**row, "bought_qty": 50, "bought_cash": 50 * 60_0000}
    facts = {"instruments": {"AAA": row, "BBB": less, "CCC": {**row, "sold_qty": 300}}}
    assert ledger.closing(facts) == {"AAA": (200, 200 * 60_0000), "BBB": (-150, -150 * 60_0000)}
    broken = {**row, "opening_qty": 0, "opening_cash": 0, "bought_qty": -100, "bought_cash": -100 * 60_0000, "sold_qty": -200}
    assert ledger.closing({"instruments": {"AAA": broken}}) == {"AAA": (100, 100 * 65_0000)}, "all that is left is the mark"


def test_positions_are_not_read_in_the_middle_of_a_report(tmp_path):
    """A reader that finds a report half applied looks again; one that is never finished does not keep it for ever."""
    made = desk(tmp_path, MORNING)
    fill(made, BUY, 100)
    undo, account = made.memory["risk"]["undo"][0], made.account
    undo["seq"] = int(account["report_seq"]) + 1
    assert ledger.net(ledger.snapshot(made.memory)["instruments"]["AAA"]) == 100


def test_positions_are_read_whole_while_reports_come_faster_than_a_market_is_copied(tmp_path):
    """Shares and cash of a row belong together, however soon one report follows another."""
    made = desk(tmp_path, MORNING, universe={"max": 20_000})
    fill(made, BUY, 1)
    position, undo, account = made.memory["risk"]["positions"][0], made.memory["risk"]["undo"][0], made.account
    child = os.fork()
    if child == 0:
        parent = os.getppid()
        while os.getppid() == parent:
            undo["seq"] = account["report_seq"] + 1
            position["bought_qty"] += 1
            wait_ns(10_000)
            position["bought_cash"] += PX
            account["report_seq"] += 1
            wait_ns(20_000)
        os._exit(0)
    try:
        seen = [ledger.snapshot(made.memory)["instruments"]["AAA"] for _ in range(20)]
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert len({row["bought_qty"] for row in seen}) > 10
    assert all(row["bought_cash"] == PX * row["bought_qty"] for row in seen)


def test_the_command_shows_and_saves_a_running_and_a_stopped_instance(tmp_path, capsys):
    """One unit for all money; what is carried is shown; the file of a stopped instance is that of the running one."""
    import json

    made = desk(tmp_path, MORNING, f"{HEAD}AAA,500,90.5\n")
    made.memory.unlink()
    (tmp_path / "hftd.toml").write_text(
        f'[daemon]\nname = "{made.config.daemon.name}"\nrun_dir = "{tmp_path}"\n[risk]\npositions = "p.csv"\n'
    )
    fill(made, SELL, 200, px=101_0000)
    live = positions(made.memory)
    assert live == [{
        "symbol": "AAA", "position": 300, "opening": 500, "opening_px": 90.5, "bought": 0, "sold": 200, "bought_cash": 0.0,
        "sold_cash": 20_200.0, "orders": 0, "fills": 1, "open_orders": 0, "mark": 100.0, "cash": 20_200.0, "pnl": 4_950.0,
    }]  # fmt: skip
    end(made)
    assert closed_positions(ledger.read(made.config)) == live
    command = ["positions", "-c", str(tmp_path / "hftd.toml")]
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == live
    assert main(command) == 0
    assert "positions of 2025-01-15, stopped" in capsys.readouterr().out
    assert main([*command, "--save", str(tmp_path / "next.csv")]) == 0
    assert "close of 2025-01-15, 1 symbols held" in capsys.readouterr().out
    assert (tmp_path / "next.csv").read_text() == f"# close of 2025-01-15\n{HEAD}AAA,300,90.50\n"
    assert main([*command, "--save", str(tmp_path / "hftd.toml")]) == 2
    ledger.path_of(made.config).unlink()
    assert main(command) == 1
    assert "has not traded" in capsys.readouterr().err


def _running(tmp_path, name: str, begun: bool = True) -> Desk:
    """An instance whose segments others find; the test unlinks them."""
    made = Desk(tmp_path, unlink=False, utc_ns=MORNING, daemon={"name": name, "run_dir": str(tmp_path)},
                risk={"positions": str(tmp_path / "p.csv") if begun else ""})  # fmt: skip
    if not begun:
        made.account["day"] = 0
    return made


def test_nothing_is_saved_before_the_day_has_begun(tmp_path, capsys):
    """The daemon is just starting: its memory is there, and the day's positions are not in it."""
    good = f"# close of 2025-01-14\n{HEAD}AAA,500,90.00\n"
    (tmp_path / "p.csv").write_text(good)
    made = _running(tmp_path, f"t{os.getpid()}-early", begun=False)
    try:
        assert main(["positions", "-n", made.config.daemon.name, "--save", str(tmp_path / "p.csv")]) == 2
        assert "has not begun its trading day" in capsys.readouterr().err
    finally:
        made.memory.unlink()
    assert (tmp_path / "p.csv").read_text() == good


def test_of_several_none_is_guessed_to_save(tmp_path, capsys):
    """To look at the only one, or at the one called hftd, is harmless; to write its positions over another's file is not."""
    made = [_running(tmp_path, f"t{os.getpid()}-{name}", begun=False) for name in ("one", "two")]
    try:
        assert main(["positions", "--save", str(tmp_path / "next.csv")]) == 2
        said = capsys.readouterr().err
        assert "positions --save: several instances are known here: " in said and "say which one with -n NAME" in said
    finally:
        for one in made:
            one.memory.unlink()
    assert not (tmp_path / "next.csv").exists()


def test_two_that_take_up_one_file_are_told(tmp_path):
    """Each would hold it all. Another file, no file and the instance itself are none of that."""
    (tmp_path / "p.csv").write_text(f"{HEAD}AAA,500,90.00\n")
    made = [_running(tmp_path, f"t{os.getpid()}-{name}", name != "none") for name in ("one", "two", "none")]
    try:
        assert [sharing(one.config) for one in made] == [[made[1].config.daemon.name], [made[0].config.daemon.name], []]
    finally:
        for one in made:
            one.memory.unlink()


def test_saving_over_what_is_not_carried_is_told(tmp_path, capsys):
    """A test run without the file, still running: what it holds, nothing, is saved as it was told to, and what is lost is said."""
    name = f"t{os.getpid()}-test"
    friday = Desk(tmp_path, utc_ns=FRIDAY, daemon={"name": name, "run_dir": str(tmp_path)})
    fill(friday, BUY, 500)
    end(friday)
    saturday = Desk(tmp_path, unlink=False, utc_ns=SATURDAY, daemon={"name": name, "run_dir": str(tmp_path)})
    try:
        assert main(["positions", "-n", name, "--save", str(tmp_path / "p.csv")]) == 0
        said = capsys.readouterr().err
        assert "2025-01-17 ended with 500 AAA: not carried" in said and f"nor is it in {tmp_path}/p.csv" in said
    finally:
        saturday.memory.unlink()
