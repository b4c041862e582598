"""ITCH 5.0 and MoldUDP64 layouts against the specification's tables."""

import numpy as np
import pytest

from hftd.core.memory import records
from hftd.venues.nasdaq.itch50 import LENGTH, MESSAGES, set_stamp, stamp, symbol_to_int, symbol_to_text, system_event_dtype
from hftd.venues.nasdaq.itchfeed import STOCK_AT
from hftd.venues.nasdaq.moldudp64 import packet_dtype, session_to_ints, session_to_text
from tests.support.data import shared_spec


def test_every_message_has_the_specified_length_and_field_offsets():
    tables = shared_spec("itch50.json")
    messages = tables.get("messages", tables)
    checked = 0
    for kind, layout in MESSAGES.items():
        table = messages[chr(kind)] if isinstance(messages, dict) else next(m for m in messages if m["type"] == chr(kind))
        fields = table["fields"]
        last = fields[-1]
        assert layout.itemsize == last["offset"] + last["length"] == LENGTH[kind]
        ours = {layout.fields[name][1] for name in layout.names}
        for field in fields:
            if field["length"] != 6:
                assert field["offset"] in ours, (chr(kind), field)
                checked += 1
    assert checked > 100 and len(MESSAGES) == 23


def test_mold_header_is_as_specified():
    fields = shared_spec("moldudp64.json")["downstream_header"]
    assert packet_dtype.itemsize == fields[-1]["offset"] + fields[-1]["length"] == 20
    assert packet_dtype.fields["sequence"][1] == 10 and packet_dtype.fields["count"][1] == 18


def test_symbols_and_sessions_go_both_ways():
    assert symbol_to_text(symbol_to_int("BRK.B")) == "BRK.B"
    assert session_to_text(*session_to_ints("000010059B")) == "000010059B"
    for bad in ("", "NINELETTR", "A B"):
        with pytest.raises(ValueError, match="1 to 8"):
            symbol_to_int(bad)
    with pytest.raises(ValueError, match="longer than 10"):
        session_to_ints("ELEVENCHARS")


@pytest.mark.parametrize("ns", [0, 1, 34_199_999_894_278, 86_399_999_999_999, (1 << 48) - 1])
def test_stamps_go_both_ways(ns):
    message = records(system_event_dtype, 1)[0]
    set_stamp(message, ns)
    assert stamp(message) == ns
    assert bytes(np.asarray(message._array if hasattr(message, "_array") else message).tobytes())[5:11] == ns.to_bytes(6, "big")


def test_offsets_of_symbols():
    assert STOCK_AT[ord("A")] == 24 and STOCK_AT[ord("R")] == 11 and STOCK_AT[ord("I")] == 28 and ord("D") not in STOCK_AT
