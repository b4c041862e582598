"""Orders that may live at the venue while nobody here can cancel them, in words: a person must see to them there. Cold."""

import numpy as np

from hftd.core.fixed import to_text
from hftd.gateway.order_state import MARK_FOREIGN
from hftd.msg import ids
from hftd.msg.enums import TERMINAL_FROM, TERMINAL_TO, OrdStatus, Side

SHOWN = 20


def open_rows(segment) -> list:
    """Return the rows of the orders that are open now, from shared memory. segment: `orders`."""
    orders = np.asarray(segment["orders"]).view(np.ndarray)
    status = orders["status"]
    chosen = (status != OrdStatus.NONE) & ~((status >= TERMINAL_FROM) & (status <= TERMINAL_TO))
    return list(orders[chosen])


def in_words(memory, most: int = SHOWN) -> str:
    """Return the open orders in words, at most so many of them; '' where none is open."""
    rows = open_rows(memory["orders"])
    said = ", ".join(_order(memory, row) for row in rows[:most])
    return said + (f" and {len(rows) - most:,} more" if len(rows) > most else "")


def _order(memory, row) -> str:
    """Return one order as the venue's desk needs it: side, shares still open, symbol, price, and both sides' numbers."""
    number, venue = int(row["cl_ord_id"]), int(row["venue_id"])
    known = ids.text(number) if number else f"an earlier run's number {int(row['user_ref'])}"
    heard = f"venue order {venue}" if venue else "not accepted yet"
    side, px = Side(int(row["side"])).name.lower(), to_text(int(row["px"]))
    return f"{side} {int(row['leaves'])} {_symbol(memory, row)} at {px} ({known}, {heard})"


def _symbol(memory, row) -> str:
    """Return an order's symbol; of an earlier instance's order it stands where its executions are booked."""
    at, where = int(row["instrument"]), memory["market"]["instruments"]["symbol"]
    if int(row["marks"]) & MARK_FOREIGN:
        at, where = int(row["count"]) - 1, memory["orders"]["earlier"]["symbol"]
    if not 0 <= at < len(where) or not int(where[at]):
        return "of a symbol not known here"
    return int(where[at]).to_bytes(8, "little", signed=True).decode("ascii", "replace").strip(" \0")
