"""The generated parts of this folder's README: the table of checks and the memory map. `python -m hftd.risk.docs` writes them."""

import sys
from pathlib import Path

from hftd.core.layout import describe
from hftd.msg.enums import DENY_TEXT, DenyReason
from hftd.risk import memory

README = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- generated: {} -->", "<!-- end -->"

BY_RISK = (
    DenyReason.BAD_FIELD, DenyReason.KILLED, DenyReason.STOPPING, DenyReason.NOT_READY, DenyReason.SESSION_DOWN,
    DenyReason.STRATEGY_DISABLED, DenyReason.DUPLICATE_ID, DenyReason.UNKNOWN_INSTRUMENT, DenyReason.UNKNOWN_ORDER,
    DenyReason.NOT_OPEN, DenyReason.ORDER_QTY, DenyReason.PRICE_TICK, DenyReason.ORDER_NOTIONAL, DenyReason.ROUND_LOT,
    DenyReason.LULD_COLLAR, DenyReason.NOT_TRADING, DenyReason.NO_REFERENCE_PRICE, DenyReason.PRICE_COLLAR,
    DenyReason.SHORT_RESTRICTED, DenyReason.SHORT_UNMARKED, DenyReason.SELF_CROSS, DenyReason.POSITION, DenyReason.MARKET_BREAKER,
    DenyReason.BOOK_NOT_LIVE, DenyReason.FEED_STALE, DenyReason.MESSAGE_RATE, DenyReason.OPEN_ORDERS, DenyReason.GROSS_NOTIONAL,
    DenyReason.LOSS_LIMIT, DenyReason.RING_FULL, DenyReason.ORDER_TABLE_FULL,
)  # fmt: skip
"""The reasons risk gives, in the order in which it checks."""

SPARED = (
    DenyReason.POSITION, DenyReason.MARKET_BREAKER, DenyReason.BOOK_NOT_LIVE, DenyReason.FEED_STALE, DenyReason.MESSAGE_RATE,
    DenyReason.OPEN_ORDERS, DenyReason.GROSS_NOTIONAL, DenyReason.LOSS_LIMIT,
)  # fmt: skip
"""The reasons that never stop an order which only shrinks a position."""


def checks_table() -> str:
    """Return the table of checks, in order; reasons that only others give stand at the end."""
    lines = ["| # | code | reason | why | stops what shrinks a position |", "|---|---|---|---|---|"]
    for number, reason in enumerate(BY_RISK, 1):
        stops = "no" if reason in SPARED else "yes"
        lines.append(f"| {number} | {int(reason)} | {reason.name} | {DENY_TEXT[reason]} | {stops} |")
    others = [reason for reason in DenyReason if reason and reason not in BY_RISK]
    lines += ["", "Given by the gateway or a strategy's own host, not by risk: "
              + ", ".join(f"{reason.name} ({int(reason)}: {DENY_TEXT[reason]})" for reason in others) + "."]  # fmt: skip
    return "\n".join(lines)


def memory_map() -> str:
    """Return the layouts of the segment `risk`."""
    kinds = (("account", memory.account_dtype), ("limits", memory.limits_dtype), ("exposures", memory.exposure_dtype),
             ("strategies", memory.strategy_row_dtype), ("orders", memory.risk_order_dtype), ("undo", memory.undo_dtype),
             ("carried", memory.carried_dtype),
             )  # fmt: skip
    return "```\n" + "\n\n".join(describe(kind, name) for name, kind in kinds) + "\n```"


def render(text: str) -> str:
    """Return the README with its generated parts made anew."""
    for name, made in (("checks", checks_table()), ("memory", memory_map())):
        begin = BEGIN.format(name)
        head, _, rest = text.partition(begin)
        _, _, tail = rest.partition(END)
        text = f"{head}{begin}\n{made}\n{END}{tail}"
    return text


if __name__ == "__main__":
    README.write_text(render(README.read_text()))
    sys.exit(0)
