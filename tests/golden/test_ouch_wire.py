"""Genuine OUCH 5.0 packets from Nasdaq's production lines: our encoder makes the same bytes, our decoder finds the same values."""

import json
import struct

import numpy as np
import pytest

from hftd.core.jit import hot
from hftd.core.memory import address, records
from hftd.gateway import venue
from hftd.gateway.venue import venue_event_dtype
from hftd.venues.nasdaq.ouch_decode import decode_message, find_element
from hftd.venues.nasdaq.ouch_encode import (
    encode_cancel,
    encode_enter,
    firm_word,
    image_size,
    make_image,
)
from tests.support.data import shared_data

FOLDER = "nasdaq-wire-captures"


def payload(name: str) -> bytes:
    """Return the TCP payload of the only packet of a capture."""
    raw = shared_data(f"{FOLDER}/Nasdaq.Nsm.Ouch.v5.0_{name}.pcap").read_bytes()
    magic = struct.unpack("<I", raw[:4])[0]
    order = "<" if magic in (0xA1B2C3D4, 0xA1B23C4D) else ">"
    size = struct.unpack(order + "I", raw[32:36])[0]
    frame = raw[40 : 40 + size]
    at = 14
    while frame[at - 2 : at] == b"\x81\x00":
        at += 4
    words = frame[at] & 15
    total = int.from_bytes(frame[at + 2 : at + 4], "big")
    tcp = at + 4 * words
    return frame[tcp + 4 * (frame[tcp + 12] >> 4) : at + total]


def expected(name: str) -> dict[str, str]:
    """Return what tshark with the Open Markets dissectors says of it."""
    found = json.loads(shared_data(f"{FOLDER}/expected.json").read_text())[f"Nasdaq.Nsm.Ouch.v5.0_{name}.pcap"]
    return dict(line.strip().split(": ", 1) for line in found if ": " in line)


@hot
def write_enter(at, image, size, user_ref, qty, px, tif, head, tail):
    """encode_enter, callable from a test."""
    return encode_enter(at, image, size, user_ref, qty, px, tif, head, tail)


@hot
def write_image(at, symbol, side, capacity, firm):
    """make_image, callable from a test."""
    make_image(at, symbol, side, capacity, firm)


@hot
def write_cancel(at, user_ref, qty):
    """encode_cancel, callable from a test."""
    return encode_cancel(at, user_ref, qty)


@pytest.fixture
def memory():
    """Bytes to write to, and their address."""
    array = np.zeros(4096, np.uint8)
    return array, address(array)


def word(text: str, width: int) -> int:
    """Return text as a little-endian word, space-padded."""
    return int.from_bytes(text.ljust(width).encode(), "little")


def test_genuine_enter_order(memory):
    """The decoded values of the genuine Enter Order give its bytes, Firm appendage and all."""
    genuine, facts = payload("EnterOrderMessage"), expected("EnterOrderMessage")
    array, at = memory
    side, capacity, tif = (facts[key][-2] for key in ("Side", "Capacity", "Time In Force"))
    write_image(at, word(facts["Symbol"], 8), ord(side), ord(capacity), firm_word(facts["Firm"]))
    size = write_enter(at + 64, at, image_size(facts["Firm"]), int(facts["User Ref Num"]), int(facts["Quantity"]),
                       round(float(facts["Price"]) * 10_000), ord(tif), word(facts["ClOrdId"], 14) & (1 << 64) - 1,
                       word(facts["ClOrdId"], 14) >> 64)  # fmt: skip
    assert size == len(genuine)
    assert bytes(array[64 : 64 + size]) == genuine


def test_genuine_cancel(memory):
    """The genuine Cancel is nine bytes of message, and so is ours."""
    genuine, facts = payload("CancelOrderMessage"), expected("CancelOrderMessage")
    array, at = memory
    size = write_cancel(at, int(facts["User Ref Num"]), int(facts["Quantity"]))
    assert bytes(array[:size]) == genuine
    assert size - 3 == 9


def decoded(memory, data: bytes):
    """Return the event made of one packet's payload."""
    array, at = memory
    message = data[3:]
    array[: len(message)] = list(message)
    made = records(venue_event_dtype, 1)
    kind = decode_message(at, len(message), made[0])
    return kind, made[0]


def nanoseconds(text: str) -> int:
    """Return the ns since midnight of tshark's time stamp."""
    clock = text.split()[1]
    hours, minutes, seconds = clock.split(":")
    whole, part = seconds.split(".")
    return ((int(hours) * 60 + int(minutes)) * 60 + int(whole)) * 1_000_000_000 + int(part)


def test_genuine_accepted(memory):
    """The genuine Accepted decodes to what tshark found, through its appendage."""
    data, facts = payload("OrderAcceptedMessage"), expected("OrderAcceptedMessage")
    kind, event = decoded(memory, data)
    assert kind == venue.ACCEPTED
    assert int(event["ts_event"]) == nanoseconds(facts["Timestamp"])
    assert int(event["user_ref"]) == int(facts["User Ref Num"])
    assert int(event["qty"]) == int(facts["Quantity"])
    assert int(event["px"]) == round(float(facts["Price"]) * 10_000)
    assert int(event["venue_id"]) == int(facts["Order Reference Number"])
    assert int(event["symbol"]).to_bytes(8, "little").decode().strip() == facts["Symbol"]
    assert (int(event["sell"]), int(event["dead"])) == (0, 0)
    array, at = memory
    firm = int(find_element(at + 62, len(data) - 3 - 62, 2))
    assert bytes(array[firm - at : firm - at + 4]).decode() == facts["Firm"]
    weight = int(find_element(at + 62, len(data) - 3 - 62, 18))
    assert chr(array[weight - at]) == facts["Bbo Weight Indicator"]
    assert int(find_element(at + 62, len(data) - 3 - 62, 1)) == 0


def test_genuine_canceled(memory):
    """The genuine Canceled decodes to what tshark found."""
    kind, event = decoded(memory, payload("CanceledMessage"))
    facts = expected("CanceledMessage")
    assert kind == venue.CANCELED
    assert int(event["ts_event"]) == nanoseconds(facts["Timestamp"])
    assert int(event["user_ref"]) == int(facts["User Ref Num"])
    assert int(event["qty"]) == int(facts["Quantity"])
    assert chr(int(event["reason"])) == facts["Cancel Order Reason"][-2]
