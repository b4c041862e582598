"""The day's positions and loss, kept on disk: a restart on the same day goes on, and the end of the day begins the next one.

`state_dir/risk.json` holds, for one trading day, by symbol: the shares and cash the day began with (opening.py), what was bought
and sold since, the price it was last valued at; and whether the loss limit was reached. `begin` takes it up before any role starts,
into `carried` in risk's segment; the recorder writes it (once a second when something changed, and at the end), never a hot
process. `positions` count one run alone and are compared with the exchange's ledger; carried and positions together are the day's.

The day is the venue's, not UTC's (venues/nasdaq/trading_day.py): that of the daemon's start, for all that this daemon does. An
earlier day's ledger is put aside as `risk.last.json`; one that cannot be read is an error that a person must look at. An idle day,
that began with nothing and traded nothing (a test run), tells nothing of what is held: it is not put aside, nor the day before.

What a day begins with is the file's word, not the last ledger's: over night shares are split, lent and moved. The ledger is there
to contradict a file that is not the end of the last day's, at every start: of a day, or anew with another file.

It is what risk knew when it was saved. What filled, or was broken, after that is told by the venue's replay (earlier.py).
"""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from hftd.control.config import Config, state_dir
from hftd.core import clock as clocks
from hftd.core.files import replace_file
from hftd.errors import WRONG, HftdError
from hftd.risk import opening
from hftd.risk.memory import FIGURES, SESSION_BEFORE, SESSION_SPANS, SESSION_WHOLE
from hftd.risk.opening import Opening
from hftd.venues.nasdaq.itch50 import symbol_to_int
from hftd.venues.nasdaq.trading_day import day_number, day_text, trading_day

TRADED = ("bought_qty", "sold_qty", "bought_cash", "sold_cash", "fills", "orders")
"""What carried and positions both count."""

PATIENCE_S, TOGETHER = 0.2, 32
"""How long a reader waits for reports to go on where one is changing positions (a dead risk stays at it for ever); rows at once."""


class LedgerError(HftdError):
    """The day's ledger cannot be used, and what to do."""

    exit_code = WRONG


def path_of(config: Config) -> Path:
    """Return the ledger's file."""
    return state_dir(config) / "risk.json"


def last_path(config: Config) -> Path:
    """Return where the ledger of the last day before this one was put."""
    return state_dir(config) / "risk.last.json"


def symbol_text(value: int) -> str:
    """Return an instrument's symbol as text."""
    return int(value).to_bytes(8, "little", signed=True).decode("ascii", "replace").strip(" \0")


# ---------------------------------------------------------------- the beginning of a run


def begin(config: Config, memory) -> None:
    """Take up the day's ledger, or begin the day with the file of positions. Called before any role starts.

    Raises LedgerError and PositionsError: then nothing was changed, in memory or on disk.
    """
    day = trading_day(int(memory["control"]["run"][0]["epoch"]) or time.time_ns())
    found = read(config)
    given = opening.load(config) if config.risk.positions else None
    rows = _rows(config, day, found, given)
    table = memory["risk"]["carried"]
    if len(rows) > len(table):
        raise LedgerError(f"{path_of(config)}: holds {len(rows)} symbols, there is room for {len(table)}; raise universe.max")
    same = found is not None and found["day"] == day
    if found and not same and not _idle(found):
        _write(last_path(config), found)
    for at, (symbol, row) in enumerate(sorted(rows.items())):
        table[at]["symbol"] = symbol_to_int(symbol)
        for name in FIGURES:
            table[at][name] = row[name]
    account = memory["risk"]["account"][0]
    account["loss_latched"] = clocks.now_ticks() if same and found and found["loss_latched"] else 0
    account["day"] = day
    _begin_session(account, found, same, given is not None and given.close == day)
    save(config, memory)


def _begin_session(account, found: dict[str, Any] | None, same: bool, closed: bool) -> None:
    """Keep which order entry session the ledger's trades were done in. closed: the file has today's trades in it already."""
    text, how = found["session"] if found else ("", SESSION_WHOLE)
    if not same:
        text, how = ("", SESSION_SPANS) if closed else (text, SESSION_BEFORE if found else SESSION_WHOLE)
    account["session"] = list(text.encode("ascii", "replace")[:16].ljust(16, b"\0"))
    account["session_is"] = how


def session_text(value) -> str:
    """Return an order entry session's name as text. value: 16 bytes of shared memory."""
    return np.asarray(value).tobytes().rstrip(b"\0").decode("ascii", "replace")


def _rows(config: Config, day: int, found: dict[str, Any] | None, given: Opening | None) -> dict[str, dict[str, int]]:
    """Return what is carried into this run. found: the ledger on disk; given: the file. Raises LedgerError where they cannot be."""
    of = {path_of(config): found["day"]} if found else {}
    if given and given.close is not None:
        of[given.path] = given.close
    for path, then in of.items():
        if then > day:
            raise LedgerError(f"{path}: is of {day_text(then)}, still to come: today is {day_text(day)}; set the clock, or move it")
    anew = found is not None and found["day"] == day
    rows = found["instruments"] if found and anew else {}
    if given is None or (anew and given.close == day):
        return rows                               # saved on this day: it is for the next, its trades are in the ledger
    if not anew or given.shares != _began(rows):
        _check_not_counted(given, rows, day)
        _check_follows(config, given, found, day)
    rows = {symbol: {**row, "opening_qty": 0, "opening_cash": 0} for symbol, row in rows.items()}
    return rows | {symbol: _opened(rows.get(symbol), given, symbol) for symbol in given.shares}


def _opened(row: dict[str, int] | None, given: Opening, symbol: str) -> dict[str, int]:
    """Return a symbol's figures with what the file says it began the day with."""
    row, qty, cash = row or dict.fromkeys(FIGURES, 0), given.shares[symbol], given.cash[symbol]
    return {**row, "opening_qty": qty, "opening_cash": cash, "mark_px": row["mark_px"] or max(round(cash / qty), 1)}


def _began(rows: dict[str, dict[str, int]]) -> dict[str, int]:
    """Return symbol -> shares that a day began with."""
    return {symbol: row["opening_qty"] for symbol, row in rows.items() if row["opening_qty"]}


def _traded(row: dict[str, int]) -> bool:
    return any(row[name] for name in ("bought_qty", "sold_qty", "fills"))


def _idle(facts: dict[str, Any]) -> bool:
    """Tell whether a day began with nothing and traded nothing."""
    return not _began(facts["instruments"]) and not any(map(_traded, facts["instruments"].values()))


def _check_not_counted(given: Opening, rows: dict[str, dict[str, int]], day: int) -> None:
    """Refuse a file kept by hand into which the day's own trades may have been written. Raises LedgerError."""
    if given.close is not None or not any(map(_traded, rows.values())):
        return
    began = _began(rows)
    first = min(symbol for symbol in {*began, *given.shares} if began.get(symbol, 0) != given.shares.get(symbol, 0))
    raise LedgerError(
        f"{given.path}: in the file {first} is {given.shares.get(first, 0)}, but {day_text(day)} began with {began.get(first, 0)} "
        f"and has traded since: trades in the file would count twice. It tells what was held before the day's first trade: write "
        f"{began.get(first, 0)}; or, where that was wrong and the file has none of the day's trades, say so in its first line: "
        f"'# close of {day_text(day - 1)}'"
    )


def _check_follows(config: Config, given: Opening, found: dict[str, Any] | None, day: int) -> None:
    """Refuse a file saved before the last day's end, one that began that day already, and an idle day's. Raises LedgerError."""
    path, anew = path_of(config), found is not None and found["day"] == day
    emptied = False
    if found and (anew or _idle(found)):
        emptied = not anew and not given.shares and given.close is not None and given.close <= found["day"]
        path = last_path(config)
        found = _parsed(path)
    if found is None:
        return
    ended = {symbol: qty for symbol, (qty, _) in closing(found).items()}
    differs = sorted(symbol for symbol in {*ended, *given.shares} if ended.get(symbol, 0) != given.shares.get(symbol, 0))
    newer = given.shares != _began(found["instruments"]) if given.close is None else given.close > found["day"]
    if not differs or (newer and not emptied):
        return
    known = {symbol for symbol, row in found["instruments"].items() if row["opening_qty"] or _traded(row)}
    lost = [symbol for symbol in differs if symbol not in known]
    first = (lost or differs)[0]
    if anew:
        advice = f"name the close of {day_text(found['day'])} in risk.positions, or none: the day goes on with what it began with"
    elif lost:
        advice = (f"that day neither began with {first} nor traded it, so its end lacks what was held of it: put the file right by "
                  "hand and take its line '# close of' out")  # fmt: skip
    else:
        advice = f"write it anew: hftd positions -c {config.path} --save {given.path}"
    what = f"is the close of {day_text(given.close)}" if given.close is not None else "is what that day began with"
    raise LedgerError(
        f"{given.path}: {what}, but {day_text(found['day'])} ended otherwise: {first} {ended.get(first, 0)}, in the file "
        f"{given.shares.get(first, 0)}; {advice}; or, where the file is right, move {path} away"
    )


def not_carried(config: Config) -> str:
    """Return what to tell a person where shares of the last day are not carried into this one, '' where nothing is to tell."""
    try:
        found, today = _parsed(last_path(config)), read(config)
    except LedgerError as error:
        return str(error)
    if config.risk.positions or not found or (today and any(row["opening_qty"] for row in today["instruments"].values())):
        return ""
    held = {symbol: qty for symbol, (qty, _) in closing(found).items()}
    if not held:
        return ""
    return (f"{day_text(found['day'])} ended with {', '.join(f'{qty} {symbol}' for symbol, qty in sorted(held.items())[:5])}"
            f"{' and more' if len(held) > 5 else ''}: not carried, since risk.positions names no file")  # fmt: skip


# ---------------------------------------------------------------- the day so far


def snapshot(memory) -> dict[str, Any]:
    """Return the day so far, out of shared memory: "day", "loss_latched", "instruments": symbol -> FIGURES, in venue scale."""
    risk = memory["risk"]
    own = risk["limits"]["symbol"]                # market data may have forgotten a row's symbol; one never armed is its alone
    symbols = np.where(own != 0, own, memory["market"]["instruments"]["symbol"])
    account = risk["account"][0]
    patience = _Patience()
    kept, positions, exposures = (_still(risk, name, patience) for name in ("carried", "positions", "exposures"))
    rows = {symbol_text(row["symbol"]): {name: int(row[name]) for name in FIGURES} for row in kept[kept["symbol"] != 0]}
    moved = np.flatnonzero(np.any([positions[name] != 0 for name in TRADED], axis=0))
    for at in {*moved.tolist(), *(kept["row"][kept["row"] > 0] - 1).tolist()}:
        symbol = symbol_text(symbols[at])
        if symbol:
            row = rows.setdefault(symbol, dict.fromkeys(FIGURES, 0))
            for name in TRADED:
                row[name] += int(positions[name][at])
            row["mark_px"] = int(exposures["mark_px"][at]) or row["mark_px"]
    return {"day": int(account["day"]), "loss_latched": bool(int(account["loss_latched"])), "instruments": rows,
            "session": [session_text(account["session"]), int(account["session_is"])]}  # fmt: skip


class _Patience:
    """Ends where reports have not gone on for PATIENCE_S. A whole market may take longer, on a host that has others to run."""

    def __init__(self):
        self.seen, self.until = None, 0.0

    def ends(self, seen: tuple[int, int]) -> bool:
        """Tell whether to give up, having seen these numbers of reports."""
        now = time.monotonic()
        if seen != self.seen:
            self.seen, self.until = seen, now + PATIENCE_S
        return now > self.until


def _still(risk, name: str, patience: _Patience) -> np.ndarray:
    """Return a copy of risk's table `name`, no row of it from the middle of a report; when patience ends, as it is.

    A few rows at a time: a whole market takes longer to copy than busy reports leave.
    """
    table, account, undo = risk[name], risk["account"], risk["undo"]
    copy = np.array(table)
    for at in range(0, len(table), TOGETHER):
        while True:
            before = int(account["report_seq"][0]), int(undo["seq"][0])
            copy[at : at + TOGETHER] = table[at : at + TOGETHER]
            still = before[1] != before[0] + 1 and before == (int(account["report_seq"][0]), int(undo["seq"][0]))
            if still or patience.ends(before):
                break
            time.sleep(0)
    return copy


def net(row: dict[str, int]) -> int:
    """Return the shares held: what the day began with, and what was bought less sold since."""
    return row["opening_qty"] + row["bought_qty"] - row["sold_qty"]


def closing(facts: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """Return symbol -> shares held and their cost in the venue's scale, flat ones left out.

    The cost is by the average of all that was bought (for a short position: sold) on the day, what it began with included.
    """
    found = {}
    for symbol, row in facts["instruments"].items():
        qty = net(row)
        sign, side = (1, "bought") if qty > 0 else (-1, "sold")
        shares = max(sign * row["opening_qty"], 0) + row[f"{side}_qty"]
        cash = max(sign * row["opening_cash"], 0) + row[f"{side}_cash"]
        if shares <= 0 or cash <= 0:              # trades of earlier runs that the venue broke: all that is left is the mark
            shares, cash = 1, max(row["mark_px"], 1)
        if qty:
            found[symbol] = (qty, (2 * qty * cash + shares) // (2 * shares))
    return found


# ---------------------------------------------------------------- on disk


def save(config: Config, memory) -> None:
    """Write the ledger through to the disk, whole or not at all: else a loss of power leaves an empty one. Raises OSError."""
    facts = snapshot(memory)
    if facts["day"]:
        _write(path_of(config), facts)


def _write(path: Path, facts: dict[str, Any]) -> None:
    text = json.dumps({**facts, "day": day_text(facts["day"])}) + "\n"
    replace_file(path, text.encode())


def read(config: Config) -> dict[str, Any] | None:
    """Return the ledger on disk, of whatever day; None where there is none. Raises LedgerError."""
    return _parsed(path_of(config))


def read_held(config: Config) -> dict[str, Any] | None:
    """Return the last ledger on disk that tells what is held: not an idle day's, where there is another. Raises LedgerError."""
    found = read(config)
    return (_parsed(last_path(config)) if found and _idle(found) else None) or found


def _parsed(path: Path) -> dict[str, Any] | None:
    try:
        facts = json.loads(path.read_text())
        rows = {str(symbol): {name: int(row[name]) for name in FIGURES} for symbol, row in facts["instruments"].items()}
        name, how = facts.get("session", ("", SESSION_WHOLE))
        return {"day": day_number(facts["day"]), "loss_latched": bool(facts["loss_latched"]), "instruments": rows,
                "session": (str(name), int(how))}  # fmt: skip
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise LedgerError(f"{path}: cannot be read, and it holds a day's positions and loss: look, then move it away") from None
