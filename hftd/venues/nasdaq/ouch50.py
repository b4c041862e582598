"""OUCH 5.0: every message of Nasdaq's order entry, both ways, as it lies on the wire (April 2023, with the 2025 additions).

The type byte alone does not tell a message: `E`, `C`, `D`, `U`, `X`, `M`, `Q` mean different things inbound (client to Nasdaq,
`in_…`) and outbound (`out_…`). Numbers are big-endian, prices eight bytes with four implied decimals, text space-padded on the
right. Layouts hold the fixed part; a u16 appendage length and tagged elements may follow (`appendage_length` is in the layout
where it is always there). Decode tolerantly: take the fixed part, skip elements by their length.
"""

import numpy as np

from hftd.core.layout import packed

# client to Nasdaq, each in a SoupBinTCP Unsequenced Data packet

in_enter_order_dtype = packed("in_enter_order", 47, [  # 'O'
    ("type", "u1"), ("user_ref_num", "u4"), ("side", "u1"), ("qty", "u4"), ("symbol", "i8"), ("price", "i8"),
    ("tif", "u1"), ("display", "u1"), ("capacity", "u1"), ("iso", "u1"), ("cross_type", "u1"),
    ("cl_ord_id", ("u1", (14,))), ("appendage_length", "u2"),
])  # fmt: skip
in_replace_order_dtype = packed("in_replace_order", 40, [  # 'U'
    ("type", "u1"), ("orig_user_ref_num", "u4"), ("user_ref_num", "u4"), ("qty", "u4"), ("price", "i8"), ("tif", "u1"),
    ("display", "u1"), ("iso", "u1"), ("cl_ord_id", ("u1", (14,))), ("appendage_length", "u2"),
])  # fmt: skip
in_cancel_order_dtype = packed("in_cancel_order", 9, [  # 'X'
    ("type", "u1"), ("user_ref_num", "u4"), ("qty", "u4"),
])  # fmt: skip
in_modify_order_dtype = packed("in_modify_order", 10, [  # 'M'
    ("type", "u1"), ("user_ref_num", "u4"), ("side", "u1"), ("qty", "u4"),
])  # fmt: skip
in_account_query_dtype = packed("in_account_query", 1, [  # 'Q'
    ("type", "u1"),
])  # fmt: skip
in_mass_cancel_dtype = packed("in_mass_cancel", 19, [  # 'C'
    ("type", "u1"), ("user_ref_num", "u4"), ("firm", "u4"), ("symbol", "i8"), ("appendage_length", "u2"),
])  # fmt: skip
in_disable_order_entry_dtype = packed("in_disable_order_entry", 11, [  # 'D'
    ("type", "u1"), ("user_ref_num", "u4"), ("firm", "u4"), ("appendage_length", "u2"),
])  # fmt: skip
in_enable_order_entry_dtype = packed("in_enable_order_entry", 11, [  # 'E'
    ("type", "u1"), ("user_ref_num", "u4"), ("firm", "u4"), ("appendage_length", "u2"),
])  # fmt: skip


# Nasdaq to client, each in a SoupBinTCP Sequenced Data packet

out_system_event_dtype = packed("out_system_event", 10, [  # 'S'
    ("type", "u1"), ("ts", "i8"), ("event_code", "u1"),
])  # fmt: skip
out_order_accepted_dtype = packed("out_order_accepted", 64, [  # 'A'
    ("type", "u1"), ("ts", "i8"), ("user_ref_num", "u4"), ("side", "u1"), ("qty", "u4"), ("symbol", "i8"), ("price", "i8"),
    ("tif", "u1"), ("display", "u1"), ("ref", "i8"), ("capacity", "u1"), ("iso", "u1"), ("cross_type", "u1"),
    ("order_state", "u1"), ("cl_ord_id", ("u1", (14,))), ("appendage_length", "u2"),
])  # fmt: skip
out_order_replaced_dtype = packed("out_order_replaced", 68, [  # 'U'
    ("type", "u1"), ("ts", "i8"), ("orig_user_ref_num", "u4"), ("user_ref_num", "u4"), ("side", "u1"), ("qty", "u4"),
    ("symbol", "i8"), ("price", "i8"), ("tif", "u1"), ("display", "u1"), ("ref", "i8"), ("capacity", "u1"), ("iso", "u1"),
    ("cross_type", "u1"), ("order_state", "u1"), ("cl_ord_id", ("u1", (14,))), ("appendage_length", "u2"),
])  # fmt: skip
out_order_canceled_dtype = packed("out_order_canceled", 18, [  # 'C'
    ("type", "u1"), ("ts", "i8"), ("user_ref_num", "u4"), ("qty", "u4"), ("reason", "u1"),
])  # fmt: skip
out_aiq_canceled_dtype = packed("out_aiq_canceled", 32, [  # 'D'
    ("type", "u1"), ("ts", "i8"), ("user_ref_num", "u4"), ("decrement_shares", "u4"), ("reason", "u1"),
    ("quantity_prevented_from_trading", "u4"), ("price", "i8"), ("liquidity_flag", "u1"), ("aiq_strategy", "u1"),
])  # fmt: skip
out_order_executed_dtype = packed("out_order_executed", 36, [  # 'E'
    ("type", "u1"), ("ts", "i8"), ("user_ref_num", "u4"), ("qty", "u4"), ("price", "i8"), ("liquidity_flag", "u1"),
    ("match", "i8"), ("appendage_length", "u2"),
])  # fmt: skip
out_broken_trade_dtype = packed("out_broken_trade", 36, [  # 'B'
    ("type", "u1"), ("ts", "i8"), ("user_ref_num", "u4"), ("match", "i8"), ("reason", "u1"), ("cl_ord_id", ("u1", (14,))),
])  # fmt: skip
out_rejected_dtype = packed("out_rejected", 29, [  # 'J'
    ("type", "u1"), ("ts", "i8"), ("user_ref_num", "u4"), ("reason", "u2"), ("cl_ord_id", ("u1", (14,))),
])  # fmt: skip
out_cancel_pending_dtype = packed("out_cancel_pending", 13, [  # 'P'
    ("type", "u1"), ("ts", "i8"), ("user_ref_num", "u4"),
])  # fmt: skip
out_cancel_reject_dtype = packed("out_cancel_reject", 13, [  # 'I'
    ("type", "u1"), ("ts", "i8"), ("user_ref_num", "u4"),
])  # fmt: skip
out_order_priority_update_dtype = packed("out_order_priority_update", 30, [  # 'T'
    ("type", "u1"), ("ts", "i8"), ("user_ref_num", "u4"), ("price", "i8"), ("display", "u1"), ("ref", "i8"),
])  # fmt: skip
out_order_modified_dtype = packed("out_order_modified", 18, [  # 'M'
    ("type", "u1"), ("ts", "i8"), ("user_ref_num", "u4"), ("side", "u1"), ("qty", "u4"),
])  # fmt: skip
out_order_restated_dtype = packed("out_order_restated", 16, [  # 'R'
    ("type", "u1"), ("ts", "i8"), ("user_ref_num", "u4"), ("reason", "u1"), ("appendage_length", "u2"),
])  # fmt: skip
out_account_query_response_dtype = packed("out_account_query_response", 13, [  # 'Q'
    ("type", "u1"), ("ts", "i8"), ("next_user_ref_num", "u4"),
])  # fmt: skip
out_mass_cancel_response_dtype = packed("out_mass_cancel_response", 27, [  # 'X'
    ("type", "u1"), ("ts", "i8"), ("user_ref_num", "u4"), ("firm", "u4"), ("symbol", "i8"), ("appendage_length", "u2"),
])  # fmt: skip
out_disable_order_entry_response_dtype = packed("out_disable_order_entry_response", 19, [  # 'G'
    ("type", "u1"), ("ts", "i8"), ("user_ref_num", "u4"), ("firm", "u4"), ("appendage_length", "u2"),
])  # fmt: skip
out_enable_order_entry_response_dtype = packed("out_enable_order_entry_response", 19, [  # 'K'
    ("type", "u1"), ("ts", "i8"), ("user_ref_num", "u4"), ("firm", "u4"), ("appendage_length", "u2"),
])  # fmt: skip

IN_ENTER_ORDER = 79  # 'O'
IN_REPLACE_ORDER = 85  # 'U'
IN_CANCEL_ORDER = 88  # 'X'
IN_MODIFY_ORDER = 77  # 'M'
IN_ACCOUNT_QUERY = 81  # 'Q'
IN_MASS_CANCEL = 67  # 'C'
IN_DISABLE_ORDER_ENTRY = 68  # 'D'
IN_ENABLE_ORDER_ENTRY = 69  # 'E'

INBOUND = {
    IN_ENTER_ORDER: in_enter_order_dtype,
    IN_REPLACE_ORDER: in_replace_order_dtype,
    IN_CANCEL_ORDER: in_cancel_order_dtype,
    IN_MODIFY_ORDER: in_modify_order_dtype,
    IN_ACCOUNT_QUERY: in_account_query_dtype,
    IN_MASS_CANCEL: in_mass_cancel_dtype,
    IN_DISABLE_ORDER_ENTRY: in_disable_order_entry_dtype,
    IN_ENABLE_ORDER_ENTRY: in_enable_order_entry_dtype,
}
IN_LENGTH = np.zeros(256, np.int64)
for _type, _dtype in INBOUND.items():
    IN_LENGTH[_type] = _dtype.itemsize

OUT_SYSTEM_EVENT = 83  # 'S'
OUT_ORDER_ACCEPTED = 65  # 'A'
OUT_ORDER_REPLACED = 85  # 'U'
OUT_ORDER_CANCELED = 67  # 'C'
OUT_AIQ_CANCELED = 68  # 'D'
OUT_ORDER_EXECUTED = 69  # 'E'
OUT_BROKEN_TRADE = 66  # 'B'
OUT_REJECTED = 74  # 'J'
OUT_CANCEL_PENDING = 80  # 'P'
OUT_CANCEL_REJECT = 73  # 'I'
OUT_ORDER_PRIORITY_UPDATE = 84  # 'T'
OUT_ORDER_MODIFIED = 77  # 'M'
OUT_ORDER_RESTATED = 82  # 'R'
OUT_ACCOUNT_QUERY_RESPONSE = 81  # 'Q'
OUT_MASS_CANCEL_RESPONSE = 88  # 'X'
OUT_DISABLE_ORDER_ENTRY_RESPONSE = 71  # 'G'
OUT_ENABLE_ORDER_ENTRY_RESPONSE = 75  # 'K'

OUTBOUND = {
    OUT_SYSTEM_EVENT: out_system_event_dtype,
    OUT_ORDER_ACCEPTED: out_order_accepted_dtype,
    OUT_ORDER_REPLACED: out_order_replaced_dtype,
    OUT_ORDER_CANCELED: out_order_canceled_dtype,
    OUT_AIQ_CANCELED: out_aiq_canceled_dtype,
    OUT_ORDER_EXECUTED: out_order_executed_dtype,
    OUT_BROKEN_TRADE: out_broken_trade_dtype,
    OUT_REJECTED: out_rejected_dtype,
    OUT_CANCEL_PENDING: out_cancel_pending_dtype,
    OUT_CANCEL_REJECT: out_cancel_reject_dtype,
    OUT_ORDER_PRIORITY_UPDATE: out_order_priority_update_dtype,
    OUT_ORDER_MODIFIED: out_order_modified_dtype,
    OUT_ORDER_RESTATED: out_order_restated_dtype,
    OUT_ACCOUNT_QUERY_RESPONSE: out_account_query_response_dtype,
    OUT_MASS_CANCEL_RESPONSE: out_mass_cancel_response_dtype,
    OUT_DISABLE_ORDER_ENTRY_RESPONSE: out_disable_order_entry_response_dtype,
    OUT_ENABLE_ORDER_ENTRY_RESPONSE: out_enable_order_entry_response_dtype,
}
OUT_LENGTH = np.zeros(256, np.int64)
for _type, _dtype in OUTBOUND.items():
    OUT_LENGTH[_type] = _dtype.itemsize

