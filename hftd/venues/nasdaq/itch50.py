"""ITCH 5.0: every message of Nasdaq's TotalView feed as it lies on the wire (specification of 2026-02-19).

Numbers are big-endian: swap each as it is loaded (`swap16/32/64`). Prices carry four implied decimals (the two of MWCB eight).
A stamp is 48 bits of nanoseconds since midnight US Eastern, here in two fields: `stamp(message)`. Symbols are eight ASCII bytes,
left-justified and space-padded, kept as one int64 exactly as they lie: two are equal when the integers are.

The length of a message is the framing's to say; a type that is not in LENGTH is skipped by its framed length (types are added
over the years), a known type of another length is an error to count.
"""

from collections.abc import Iterator

import numpy as np

from hftd.core.jit import leaf
from hftd.core.layout import packed
from hftd.core.memory import swap16, swap32

header_dtype = packed("header", 11, [
    ("type", "u1"), ("locate", "u2"), ("tracking", "u2"), ("ts_hi", "u2"), ("ts_lo", "u4"),
])  # fmt: skip

system_event_dtype = packed("system_event", 12, [  # 'S'
    ("type", "u1"), ("locate", "u2"), ("tracking", "u2"), ("ts_hi", "u2"), ("ts_lo", "u4"), ("event_code", "u1"),
])  # fmt: skip
stock_directory_dtype = packed("stock_directory", 39, [  # 'R'
    ("type", "u1"), ("locate", "u2"), ("tracking", "u2"), ("ts_hi", "u2"), ("ts_lo", "u4"), ("stock", "i8"),
    ("market_category", "u1"), ("financial_status_indicator", "u1"), ("round_lot_size", "u4"), ("round_lots_only", "u1"),
    ("issue_classification", "u1"), ("issue_sub_type", "u2"), ("authenticity", "u1"),
    ("short_sale_threshold_indicator", "u1"), ("ipo_flag", "u1"), ("luld_reference_price_tier", "u1"), ("etp_flag", "u1"),
    ("etp_leverage_factor", "u4"), ("inverse_indicator", "u1"),
])  # fmt: skip
trading_action_dtype = packed("trading_action", 25, [  # 'H'
    ("type", "u1"), ("locate", "u2"), ("tracking", "u2"), ("ts_hi", "u2"), ("ts_lo", "u4"), ("stock", "i8"),
    ("trading_state", "u1"), ("reserved", "u1"), ("reason", "u4"),
])  # fmt: skip
reg_sho_restriction_dtype = packed("reg_sho_restriction", 20, [  # 'Y'
    ("type", "u1"), ("locate", "u2"), ("tracking", "u2"), ("ts_hi", "u2"), ("ts_lo", "u4"), ("stock", "i8"),
    ("reg_sho_action", "u1"),
])  # fmt: skip
participant_position_dtype = packed("participant_position", 26, [  # 'L'
    ("type", "u1"), ("locate", "u2"), ("tracking", "u2"), ("ts_hi", "u2"), ("ts_lo", "u4"), ("mpid", "u4"),
    ("stock", "i8"), ("primary_market_maker", "u1"), ("market_maker_mode", "u1"), ("market_participant_state", "u1"),
])  # fmt: skip
mwcb_levels_dtype = packed("mwcb_levels", 35, [  # 'V'
    ("type", "u1"), ("locate", "u2"), ("tracking", "u2"), ("ts_hi", "u2"), ("ts_lo", "u4"), ("level_1", "i8"),
    ("level_2", "i8"), ("level_3", "i8"),
])  # fmt: skip
mwcb_status_dtype = packed("mwcb_status", 12, [  # 'W'
    ("type", "u1"), ("locate", "u2"), ("tracking", "u2"), ("ts_hi", "u2"), ("ts_lo", "u4"), ("breached_level", "u1"),
])  # fmt: skip
ipo_quoting_dtype = packed("ipo_quoting", 28, [  # 'K'
    ("type", "u1"), ("locate", "u2"), ("tracking", "u2"), ("ts_hi", "u2"), ("ts_lo", "u4"), ("stock", "i8"),
    ("ipo_quotation_release_time", "u4"), ("ipo_quotation_release_qualifier", "u1"), ("ipo_price", "u4"),
])  # fmt: skip
luld_collar_dtype = packed("luld_collar", 35, [  # 'J'
    ("type", "u1"), ("locate", "u2"), ("tracking", "u2"), ("ts_hi", "u2"), ("ts_lo", "u4"), ("stock", "i8"),
    ("auction_collar_reference_price", "u4"), ("upper_auction_collar_price", "u4"), ("lower_auction_collar_price", "u4"),
    ("auction_collar_extension", "u4"),
])  # fmt: skip
operational_halt_dtype = packed("operational_halt", 21, [  # 'h'
    ("type", "u1"), ("locate", "u2"), ("tracking", "u2"), ("ts_hi", "u2"), ("ts_lo", "u4"), ("stock", "i8"),
    ("market_code", "u1"), ("operational_halt_action", "u1"),
])  # fmt: skip
add_order_dtype = packed("add_order", 36, [  # 'A'
    ("type", "u1"), ("locate", "u2"), ("tracking", "u2"), ("ts_hi", "u2"), ("ts_lo", "u4"), ("ref", "i8"), ("side", "u1"),
    ("shares", "u4"), ("stock", "i8"), ("price", "u4"),
])  # fmt: skip
add_order_mpid_dtype = packed("add_order_mpid", 40, [  # 'F'
    ("type", "u1"), ("locate", "u2"), ("tracking", "u2"), ("ts_hi", "u2"), ("ts_lo", "u4"), ("ref", "i8"), ("side", "u1"),
    ("shares", "u4"), ("stock", "i8"), ("price", "u4"), ("attribution", "u4"),
])  # fmt: skip
order_executed_dtype = packed("order_executed", 31, [  # 'E'
    ("type", "u1"), ("locate", "u2"), ("tracking", "u2"), ("ts_hi", "u2"), ("ts_lo", "u4"), ("ref", "i8"),
    ("shares", "u4"), ("match", "i8"),
])  # fmt: skip
order_executed_price_dtype = packed("order_executed_price", 36, [  # 'C'
    ("type", "u1"), ("locate", "u2"), ("tracking", "u2"), ("ts_hi", "u2"), ("ts_lo", "u4"), ("ref", "i8"),
    ("shares", "u4"), ("match", "i8"), ("printable", "u1"), ("price", "u4"),
])  # fmt: skip
order_cancel_dtype = packed("order_cancel", 23, [  # 'X'
    ("type", "u1"), ("locate", "u2"), ("tracking", "u2"), ("ts_hi", "u2"), ("ts_lo", "u4"), ("ref", "i8"),
    ("shares", "u4"),
])  # fmt: skip
order_delete_dtype = packed("order_delete", 19, [  # 'D'
    ("type", "u1"), ("locate", "u2"), ("tracking", "u2"), ("ts_hi", "u2"), ("ts_lo", "u4"), ("ref", "i8"),
])  # fmt: skip
order_replace_dtype = packed("order_replace", 35, [  # 'U'
    ("type", "u1"), ("locate", "u2"), ("tracking", "u2"), ("ts_hi", "u2"), ("ts_lo", "u4"), ("orig_ref", "i8"),
    ("new_ref", "i8"), ("shares", "u4"), ("price", "u4"),
])  # fmt: skip
trade_dtype = packed("trade", 44, [  # 'P'
    ("type", "u1"), ("locate", "u2"), ("tracking", "u2"), ("ts_hi", "u2"), ("ts_lo", "u4"), ("ref", "i8"), ("side", "u1"),
    ("shares", "u4"), ("stock", "i8"), ("price", "u4"), ("match", "i8"),
])  # fmt: skip
cross_trade_dtype = packed("cross_trade", 40, [  # 'Q'
    ("type", "u1"), ("locate", "u2"), ("tracking", "u2"), ("ts_hi", "u2"), ("ts_lo", "u4"), ("shares", "i8"),
    ("stock", "i8"), ("price", "u4"), ("match", "i8"), ("cross_type", "u1"),
])  # fmt: skip
broken_trade_dtype = packed("broken_trade", 19, [  # 'B'
    ("type", "u1"), ("locate", "u2"), ("tracking", "u2"), ("ts_hi", "u2"), ("ts_lo", "u4"), ("match", "i8"),
])  # fmt: skip
noii_dtype = packed("noii", 50, [  # 'I'
    ("type", "u1"), ("locate", "u2"), ("tracking", "u2"), ("ts_hi", "u2"), ("ts_lo", "u4"), ("paired_shares", "i8"),
    ("imbalance_shares", "i8"), ("imbalance_direction", "u1"), ("stock", "i8"), ("far_price", "u4"), ("near_price", "u4"),
    ("current_reference_price", "u4"), ("cross_type", "u1"), ("price_variation_indicator", "u1"),
])  # fmt: skip
rpii_dtype = packed("rpii", 20, [  # 'N'
    ("type", "u1"), ("locate", "u2"), ("tracking", "u2"), ("ts_hi", "u2"), ("ts_lo", "u4"), ("stock", "i8"),
    ("interest_flag", "u1"),
])  # fmt: skip
direct_listing_dtype = packed("direct_listing", 48, [  # 'O'
    ("type", "u1"), ("locate", "u2"), ("tracking", "u2"), ("ts_hi", "u2"), ("ts_lo", "u4"), ("stock", "i8"),
    ("open_eligibility_status", "u1"), ("minimum_allowable_price", "u4"), ("maximum_allowable_price", "u4"),
    ("near_execution_price", "u4"), ("near_execution_time", "i8"), ("lower_price_range_collar", "u4"),
    ("upper_price_range_collar", "u4"),
])  # fmt: skip

SYSTEM_EVENT = 83  # 'S'
STOCK_DIRECTORY = 82  # 'R'
TRADING_ACTION = 72  # 'H'
REG_SHO_RESTRICTION = 89  # 'Y'
PARTICIPANT_POSITION = 76  # 'L'
MWCB_LEVELS = 86  # 'V'
MWCB_STATUS = 87  # 'W'
IPO_QUOTING = 75  # 'K'
LULD_COLLAR = 74  # 'J'
OPERATIONAL_HALT = 104  # 'h'
ADD_ORDER = 65  # 'A'
ADD_ORDER_MPID = 70  # 'F'
ORDER_EXECUTED = 69  # 'E'
ORDER_EXECUTED_PRICE = 67  # 'C'
ORDER_CANCEL = 88  # 'X'
ORDER_DELETE = 68  # 'D'
ORDER_REPLACE = 85  # 'U'
TRADE = 80  # 'P'
CROSS_TRADE = 81  # 'Q'
BROKEN_TRADE = 66  # 'B'
NOII = 73  # 'I'
RPII = 78  # 'N'
DIRECT_LISTING = 79  # 'O'

MESSAGES = {
    SYSTEM_EVENT: system_event_dtype,
    STOCK_DIRECTORY: stock_directory_dtype,
    TRADING_ACTION: trading_action_dtype,
    REG_SHO_RESTRICTION: reg_sho_restriction_dtype,
    PARTICIPANT_POSITION: participant_position_dtype,
    MWCB_LEVELS: mwcb_levels_dtype,
    MWCB_STATUS: mwcb_status_dtype,
    IPO_QUOTING: ipo_quoting_dtype,
    LULD_COLLAR: luld_collar_dtype,
    OPERATIONAL_HALT: operational_halt_dtype,
    ADD_ORDER: add_order_dtype,
    ADD_ORDER_MPID: add_order_mpid_dtype,
    ORDER_EXECUTED: order_executed_dtype,
    ORDER_EXECUTED_PRICE: order_executed_price_dtype,
    ORDER_CANCEL: order_cancel_dtype,
    ORDER_DELETE: order_delete_dtype,
    ORDER_REPLACE: order_replace_dtype,
    TRADE: trade_dtype,
    CROSS_TRADE: cross_trade_dtype,
    BROKEN_TRADE: broken_trade_dtype,
    NOII: noii_dtype,
    RPII: rpii_dtype,
    DIRECT_LISTING: direct_listing_dtype,
}
"""Type byte -> layout."""

LENGTH = np.zeros(256, np.int64)
"""Type byte -> length in bytes; 0: not a type of ITCH 5.0."""
for _type, _dtype in MESSAGES.items():
    LENGTH[_type] = _dtype.itemsize

LENGTH_MAX = int(LENGTH.max())


@leaf
def stamp(message):
    """Nanoseconds since midnight US Eastern, of any message record."""
    return (swap16(message.ts_hi) << 32) | swap32(message.ts_lo)


@leaf
def set_stamp(message, ns):
    """Write a message's stamp."""
    message.ts_hi = swap16(ns >> 32)
    message.ts_lo = swap32(ns & 0xFFFFFFFF)


def symbol_to_int(symbol: str) -> int:
    """Return a symbol as the int64 that its eight wire bytes make. Raises ValueError where it does not fit."""
    raw = symbol.encode("ascii", "strict")
    if not 1 <= len(raw) <= 8 or b" " in raw:
        raise ValueError(f"symbol {symbol!r} must be 1 to 8 ASCII characters without spaces")
    return int.from_bytes(raw.ljust(8), "little", signed=True)


def symbol_to_text(value: int) -> str:
    """Return the symbol of an int64 of wire bytes."""
    return int(value).to_bytes(8, "little", signed=True).decode("ascii", "replace").rstrip()


def unframed(raw: bytes) -> Iterator[bytes]:
    """Yield the messages of framed bytes, each with its two bytes of length before it. In Python: for what is not in a hurry."""
    at = 0
    while at < len(raw):
        size = raw[at] << 8 | raw[at + 1]
        yield raw[at + 2 : at + 2 + size]
        at += 2 + size
