"""What is kept of a feed that died for the one that takes its place: market-wide breakers, and collars of pauses.

No snapshot tells either again (GLIMPSE has directory, trading actions, Reg SHO, retail interest, operational halts, orders), and
strategies keep them until the venue resumes trading. So a feed that begins over rows of a predecessor puts them back: what was
forbidden stays so, and rows and strategies are one. They end as ever, with the instrument's next H "T"; with that of a snapshot
only where an action was seen to stop it, after the breaker. A feed that recovers from message 1 is told all of it anew.

The trading state is not kept: nobody knows whether it still holds, so nothing is traded until the venue says it again. A row of the
session that is open was died at: its breaker fell on some instruments only, so the successor lets it fall on all of them.
"""

import numpy as np

from hftd.msg.enums import TradingState
from hftd.venues.nasdaq.itchrare import MWC, MWC_MASK

COLLAR = ("collar_px", "collar_low", "collar_high", "collar_extension")
LEVELS = ("level_1", "level_2", "level_3")
STOPPED = (int(TradingState.HALTED), int(TradingState.PAUSED), int(TradingState.QUOTE_ONLY))


class Kept:
    """Copies of what rows say, taken before they are voided. tables: of a Build, private or shared."""

    def __init__(self, tables: dict):
        self.statuses = tables["statuses"].rows.copy()
        self.session = tables["session"].rows[0].copy()

    @property
    def half_told(self) -> int:
        """Level of the breaker that may have fallen on some instruments only; 0: none."""
        return int(self.session["breaker"]) if int(self.session["version"]) & 1 else 0

    def put_back(self, tables: dict, standings: np.ndarray) -> None:
        """Write it into voided rows; nobody else writes them. standings: standing_dtype by instrument, the feed's own."""
        statuses, quotes, session = (tables[name].rows for name in ("statuses", "quotes", "session"))
        was = self.statuses
        acted = np.isin(was["trading"], STOPPED) & (was["halted"] == 0)
        standings["stopped"][:] = acted & ((was["breaker"] == 0) | (was["reason"] & MWC_MASK == MWC))
        for cells, names in ((statuses, ("breaker", *COLLAR)), (quotes, ("breaker", "collar_low", "collar_high"))):
            cells["version"] |= 1
            for name in names:
                cells[name] = was[name]
            cells["version"] += 1
        session["version"] |= 1
        for name in ("breaker", *LEVELS):
            session[name] = self.session[name]
        session["version"] += 1
