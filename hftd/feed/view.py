"""Reading books from outside: the CLI, tests, a notebook. The feed is not disturbed and not waited for.

A book's version is odd while the feed writes; a copy counts only when the version was even and the same before and after. The depth
is copied in one go, so the lists are of one moment.
"""

import numpy as np

from hftd.errors import HftdError
from hftd.feed.memory import LANES, SHARES_AT, book_dtype, level_dtype, slot_dtype
from hftd.msg.enums import TradingState

TRIES = 10_000

LETTERS = ("ipo_qualifier", "direction", "auction", "variation", "cross_type", "phase")
"""Fields of a status or session row that are the venue's letters."""


def told(cell: np.void) -> dict[str, int | str]:
    """Return what stands in a status_dtype or session_dtype row, zeros left out; the venue's letters as text."""
    found: dict[str, int | str] = {}
    for name in cell.dtype.names or ():
        value = int(cell[name])
        if value and name != "version" and not name.startswith("pad"):
            found[name] = chr(value & 0x7F) if name in LETTERS else value
    if "reason" in found:
        found["reason"] = int(cell["reason"]).to_bytes(4, "little").decode("ascii", "replace").strip()
    if "trading" in found:
        found["trading"] = TradingState(int(cell["trading"])).name
    return {name: value for name, value in found.items() if value != ""}


def rows_of(book: np.void, slots: np.ndarray, which: int) -> np.ndarray:
    """Return the rows of a side's levels, the best last, from a copy of its book_dtype record. which: Side. A torn copy has any."""
    start, count = int(book["sides"][which]["start"]), int(book["sides"][which]["count"])
    top = book["tops"]["level"][LANES * which : LANES * (which + 1)]
    rest = slots["level"][max(start, 0) : max(start + count - LANES, 0)]
    return np.concatenate((rest, top[LANES - min(max(count, 0), LANES) :]))


def read_sides(books: np.ndarray, levels: np.ndarray, slots: np.ndarray, instrument: int, depth: int) -> tuple[list, list]:
    """Return (bids, asks) of an instrument, best first, at most `depth` levels of [px, qty, orders]; px in venue scale.

    Raises HftdError where no quiet moment was found: the feed died while it wrote, or writes without pause.
    """
    for _ in range(TRIES):
        before = int(books["version"][instrument])
        if before & 1:
            continue
        sides = []
        for which in (0, 1):
            rows = rows_of(np.array(books[instrument : instrument + 1])[0], slots, which)
            if len(rows) and rows.max() >= len(levels):
                break                                 # torn: the side moved under us
            found = levels[rows[::-1][:depth]]
            sides.append([[abs(int(level["px"])), int(level["held"]) >> SHARES_AT, int(level["orders"])] for level in found])
        if len(sides) == 2 and int(books["version"][instrument]) == before:
            return sides[0], sides[1]
    raise HftdError("the book could not be read: the feed is in the middle of a change; is it alive? try: hftd status")


def read_book(config, memory, instrument: int, depth: int) -> tuple[list, list]:
    """Return (bids, asks) of an instrument of a running daemon, as `read_sides` does."""
    segment = memory["books"]
    arrays = (np.asarray(segment[name]).view(dtype) for name, dtype in
              (("books", book_dtype), ("levels", level_dtype), ("slots", slot_dtype)))  # fmt: skip
    return read_sides(*arrays, instrument, depth)
