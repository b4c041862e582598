"""What earlier runs of the day traded, by the venue's word: it takes the place of the ledger's figures.

The ledger is what risk knew at its last save. What filled after that (a killed daemon, open orders while nobody was there, orders
of an earlier run being cancelled), and earlier fills that the venue broke, stand in the venue's replay, which the gateway books by
symbol (gateway/earlier.py). `take_up` sets the carried trades of the day to those sums: absolute figures, so a second time changes
nothing. It runs before the daemon is ready, and again whenever the gateway's table changed.

It contradicts instead, and pulls the kill switch, where the replay does not hold all that the ledger holds: part of the day was
traded in another session, the replay began in its middle, or something could be booked nowhere. Then the ledger's figures stay
until a person mends them. A session that has trades from before the opening position (one that outlived the day, or a file saved on
the day itself) cannot be compared: the ledger's figures stay, and status says so.
"""

from collections.abc import Callable

import numpy as np

from hftd.control.config import Config
from hftd.msg.enums import LogCode
from hftd.risk import kill, ledger
from hftd.risk.memory import (
    EARLIER_AGREED,
    EARLIER_APART,
    EARLIER_CORRECTED,
    EARLIER_DISPUTED,
    SESSION_BEFORE,
    SESSION_SEVERAL,
    SESSION_SPANS,
    SESSION_WHOLE,
)

_SUMS = ("bought_qty", "sold_qty", "bought_cash", "sold_cash", "fills")

EARLIER_TEXT = (
    "",
    "",
    "positions of earlier runs of the day were corrected by the venue's replay (the ledger had missed fills, or breaks)",
    "positions of earlier runs of the day contradict the venue's replay: compare them with the clearing firm's; "
    "kill.json and the log have the figures",
    "positions of earlier runs of the day were not compared: the venue's session has trades from before the opening position",
)
"""By EARLIER_…: what to tell a person; empty: nothing."""


class Earlier:
    """Compares, and takes up. places: symbol -> row of `carried`, shared with the agent."""

    def __init__(self, config: Config, memory, places: dict[int, int]):
        self.config, self.memory, self.places = config, memory, places
        self.run, self.account = memory["control"]["run"][0], memory["risk"]["account"][0]
        self.session, self.kept = memory["orders"]["session"][0], memory["risk"]["carried"]
        self.seen = (-1, "")

    def due(self) -> bool:
        """Tell whether the session is up and the gateway's table, or the session's name, is not the one seen last."""
        if not int(self.run["session_up"]):
            return False
        now = (int(self.session["earlier_version"]), ledger.session_text(self.session["name"]))
        if now == self.seen:
            return False
        self.seen = now
        return True

    def take_up(self, log: Callable[..., None]) -> list[int]:
        """Compare with the venue's word and take it; return the symbols whose carried figures changed. log: Agent.log."""
        version, name = self.seen
        if not name:                              # no venue: a bench, a rehearsal
            return []
        account = self.account
        first = int(account["earlier_seen"]) == 0
        known = int(account["earlier_seen"]) == version + 1
        how = self._session(name)
        if known:
            return []
        account["earlier_seen"] = version + 1
        table = self.memory["orders"]["earlier"]
        venue = {int(row["symbol"]): row for row in np.array(table[table["symbol"] != 0])}
        ours = {symbol: self.kept[at] for symbol, at in self.places.items()}
        why = self._contradiction(how, first, venue, ours)
        figures = [sum(int(row[side]) for row in rows.values()) for rows in (ours, venue) for side in ("bought_qty", "sold_qty")]
        if why:
            account["earlier"] = EARLIER_DISPUTED
            log(LogCode.EARLIER_DISPUTED, *figures)
            kill.pull_within(self.config, self.memory, log, "earlier", f"{why}; shares bought, sold: ledger {figures[0]}, "
                             f"{figures[1]}, venue {figures[2]}, {figures[3]}")  # fmt: skip
            return []
        if how == SESSION_SPANS:
            account["earlier"] = EARLIER_APART
            log(LogCode.EARLIER_APART, *figures)
            return []
        changed = [symbol for symbol, row in venue.items() if self._take(symbol, row)]
        if changed:
            log(LogCode.EARLIER_CORRECTED, *figures)
        if changed or first:
            account["earlier"] = EARLIER_CORRECTED if changed else EARLIER_AGREED
        return changed

    def _session(self, name: str) -> int:
        """Keep the session's name, and return what its trades are to the day: SESSION_…"""
        account = self.account
        held, how = ledger.session_text(account["session"]), int(account["session_is"])
        if held == name or (how == SESSION_SPANS and not held):
            how = SESSION_SPANS if how == SESSION_BEFORE else how
        elif how == SESSION_BEFORE or not held or not self._traded():
            how = SESSION_WHOLE
        else:
            how = SESSION_SEVERAL
        account["session"], account["session_is"] = list(name.encode().ljust(16, b"\0")), how
        return how

    def _traded(self) -> bool:
        positions = self.memory["risk"]["positions"]
        return any(bool(np.any(rows[side] != 0)) for rows in (self.kept, positions) for side in ("bought_qty", "sold_qty", "fills"))

    def _contradiction(self, how: int, first: bool, venue: dict, ours: dict) -> str:
        """Return why the venue's sums cannot be the day's earlier runs, '' where they can."""
        if int(self.session["earlier_doubts"]):
            return (f"{int(self.session['earlier_doubts'])} executions or broken trades that belong to no order we know, "
                    "or gaps in what the venue told")  # fmt: skip
        if how == SESSION_SPANS:
            return "" if first else "a trade of an earlier run was changed, in a session that cannot be compared with the ledger"
        if int(self.session["replayed_from"]) != 1:
            return f"the venue's replay begins with message {int(self.session['replayed_from'])}"
        if how == SESSION_SEVERAL:
            return "part of the day was traded in another order entry session"
        for symbol, row in ours.items():
            for side in ("bought", "sold"):
                told = int(venue[symbol][f"{side}_qty"]) + int(venue[symbol][f"broken_{side}"]) if symbol in venue else 0
                if told < int(row[f"{side}_qty"]):
                    return (f"{ledger.symbol_text(symbol)}: the ledger has {int(row[f'{side}_qty'])} shares {side} by earlier runs "
                            f"of the day, the venue's replay {told}")  # fmt: skip
        room = int(np.count_nonzero(self.kept["symbol"] == 0))
        new = len(venue.keys() - ours.keys())
        return f"{new} more symbols were traded, there is room to carry {room}; raise universe.max" if new > room else ""

    def _take(self, symbol: int, row) -> bool:
        """Set a symbol's carried trades to the venue's sums; tell whether that changed them."""
        place = self.places.get(symbol)
        if place is None:
            if not any(int(row[name]) for name in _SUMS):
                return False
            place = int(np.flatnonzero(self.kept["symbol"] == 0)[0])
            self.kept[place]["symbol"] = symbol
            self.places[symbol] = place
        kept = self.kept[place]
        changed = any(int(kept[name]) != int(row[name]) for name in _SUMS)
        for name in (*_SUMS, "orders"):
            kept[name] = row[name]
        kept["mark_px"] = int(kept["mark_px"]) or int(row["last_fill_px"])
        return changed
