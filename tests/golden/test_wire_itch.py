"""Genuine packets of Nasdaq's lines decode to what tshark's dissectors say, in the layouts and in the running feed."""

import json
import re

import numpy as np
import pytest

from hftd.msg.enums import EventKind
from hftd.msg.records import FLAG_SELL
from hftd.venues.nasdaq.itch50 import MESSAGES, symbol_to_text
from hftd.venues.nasdaq.moldudp64 import HEADER, packet_dtype, session_to_text
from tests.support.data import shared_data
from tests.support.live_feed import Live
from tests.support.pcap import udp_payloads

NAMES = {
    "order_reference_number": "ref", "original_order_reference_number": "orig_ref", "new_order_reference_number": "new_ref",
    "buy_sell_indicator": "side", "executed_shares": "shares", "canceled_shares": "shares", "match_number": "match",
    "stock_locate": "locate", "tracking_number": "tracking",
}  # fmt: skip
"""The dissector's names of fields, where ours are shorter."""


def expected() -> dict[str, list[dict]]:
    """Return the dissector's packets by file: session, sequence, messages as field -> text."""
    found: dict[str, list[dict]] = {}
    for name, lines in json.loads(shared_data("nasdaq-wire-captures/expected.json").read_text()).items():
        if "Itch" not in name:
            continue
        packets = found.setdefault(name, [])
        for line in lines:
            key, _, value = line.strip().partition(": ")
            key = re.sub(r"\W+", "_", key.lower()).strip("_")
            if line.startswith("Nasdaq "):
                packets.append({"messages": []})
            elif line.startswith("        ") and not packets[-1]["messages"] and key in ("session", "sequence_number"):
                packets[-1][key] = value
            elif key == "message":
                packets[-1]["messages"].append({})
            elif packets[-1]["messages"] and value:
                packets[-1]["messages"][-1][NAMES.get(key, key)] = value
    return found


def blocks(payload: bytes) -> list[bytes]:
    """Return the messages of a MoldUDP64 packet."""
    at, found = HEADER, []
    while at < len(payload):
        length = int.from_bytes(payload[at : at + 2], "big")
        found.append(payload[at + 2 : at + 2 + length])
        at += 2 + length
    return found


def says(field: str, text: str, width: int, raw: bytes) -> bool:
    """Tell whether the bytes of a field are what the dissector prints."""
    code = re.search(r"\((.)\)$", text)
    if field in ("stock", "mpid", "attribution"):
        return raw.decode().rstrip() == text
    if code and width == 1:
        return raw.decode() == code[1]
    if field.endswith("price"):
        return int.from_bytes(raw, "big") == round(float(text) * 10_000)
    return int.from_bytes(raw, "big") == int(text)


def test_every_field_of_every_genuine_message_lies_where_the_layouts_say():
    compared = 0
    for name, packets in expected().items():
        payloads = udp_payloads(shared_data(f"nasdaq-wire-captures/{name}"))
        assert len(payloads) == len(packets) > 0
        for payload, wanted in zip(payloads, packets, strict=True):
            header = np.frombuffer(payload[:HEADER], packet_dtype)[0]
            assert session_to_text(int(header["session_a"]), int(header["session_b"])) == wanted["session"]
            assert int.from_bytes(payload[10:18], "big") == int(wanted["sequence_number"])
            messages = blocks(payload)
            assert len(messages) == len(wanted["messages"])
            for message, fields in zip(messages, wanted["messages"], strict=True):
                kind = MESSAGES[message[0]]
                assert kind.itemsize == len(message) == int(fields["message_length"])
                assert fields["message_type"].endswith(f"({chr(message[0])})")
                hour, minute, rest = fields["timestamp"].split()[1].split(":")
                ns = ((int(hour) - 5) * 3600 + int(minute) * 60) * 10**9 + int(rest.replace(".", ""))
                assert int.from_bytes(message[5:11], "big") == ns
                for field in kind.names:
                    if field in fields:
                        inner, at = kind.fields[field][:2]
                        assert says(field, fields[field], inner.itemsize, message[at : at + inner.itemsize]), (name, field)
                        compared += 1
    assert compared > 250


def test_a_genuine_packet_goes_through_the_feed_to_books_and_events():
    name = next(name for name in expected() if "Multiple" in name)
    payload = udp_payloads(shared_data(f"nasdaq-wire-captures/{name}"))[1]
    wanted = expected()[name][1]["messages"]
    live = Live(rows=64)
    try:
        live.agent.handle["expected"] = live.agent.handle["highest"] = int.from_bytes(payload[10:18], "big")
        live.send(payload)
        live.until(lambda: live.counter("messages") == 38)
        rows = live.memory["market"]["instruments"]
        events = [
            (symbol_to_text(rows["symbol"][e["instrument"]]), int(e["ref"]), int(e["px"]), "S" if e["flags"] & FLAG_SELL else "B",
             int(e["qty"]) >= 1)
            for e in live.events() if e["kind"] == EventKind.LEVEL
        ]  # fmt: skip
        assert events == [
            (m["stock"], int(m["ref"]), round(float(m["price"]) * 10_000), m["side"][-2], True) for m in wanted
        ]
        assert live.counter("orders_live") == 38 and live.counter("bad_lengths") == live.counter("unknown_types") == 0
    finally:
        live.close()


@pytest.mark.parametrize("line", [0, 1])
def test_a_captured_session_makes_the_recorded_book(line):
    final = json.loads(shared_data("itch50-aapl-20200130/l3_final.json").read_text())
    live = Live(receive_buffer=8 << 20)
    try:
        for payload in udp_payloads(shared_data("itch50-aapl-20200130/aapl_20200130.moldudp64.pcap.gz")):
            live.send(payload, line)
            live.step(1)
        live.until(lambda: live.expected() == 10_001)

        from tests.support.feed_books import Feed

        feed = Feed.__new__(Feed)
        feed.build = live.agent.build
        bids, asks = feed.sides(0)
        assert [{"px": px, "orders": queue} for px, queue in bids] == final["bids"]
        assert [{"px": px, "orders": queue} for px, queue in asks] == final["asks"]
        assert live.counter("gaps") == 0 and live.counter("session_ends") >= 1 and live.counter("heartbeats") >= 1
    finally:
        live.close()
