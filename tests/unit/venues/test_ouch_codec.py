"""OUCH encode and decode: round trips against `struct` and the packed layouts, and every malformed shape."""

import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hftd.core.jit import hot
from hftd.core.memory import address, records
from hftd.gateway import venue
from hftd.gateway.venue import venue_event_dtype
from hftd.msg.records import INTENT_POST_ONLY
from hftd.venues.nasdaq import ouch50
from hftd.venues.nasdaq.ouch_decode import decode_message, find_element, id_of_wire_text
from hftd.venues.nasdaq.ouch_encode import (
    encode_order,
    encode_query,
    encode_replace,
    firm_word,
    id_of_text,
    id_text,
    image_size,
    make_image,
)

QUICK = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
ids = st.integers(1, (1 << 63) - 1)
refs = st.integers(1, (1 << 32) - 1)
qtys = st.integers(1, 999_999)
prices = st.integers(1, 1_999_999_900)
bits = st.sampled_from([0, 1])


@hot
def write_order(at, image, size, user_ref, qty, px, tif, flags, cl_ord_id):
    """encode_order, callable from a test."""
    return encode_order(at, image, size, user_ref, qty, px, tif, flags, cl_ord_id)


@hot
def write_replace(at, orig_ref, user_ref, qty, px, tif, flags, cl_ord_id):
    """encode_replace, callable from a test."""
    return encode_replace(at, orig_ref, user_ref, qty, px, tif, flags, cl_ord_id)


@hot
def write_image(at, symbol, side, capacity, firm):
    """make_image, callable from a test."""
    make_image(at, symbol, side, capacity, firm)


@hot
def write_query(at):
    """encode_query, callable from a test."""
    return encode_query(at)


ARRAY = np.zeros(1 << 17, np.uint8)
AT = address(ARRAY)


@pytest.fixture(scope="module")
def event():
    """A venue event to decode into."""
    return records(venue_event_dtype, 1)[0]


@QUICK
@given(ids, refs, qtys, prices, bits, st.sampled_from([0, INTENT_POST_ONLY]), st.sampled_from(["", "ABCD", "XY"]))
def test_enter_reads_back(cl_ord_id, ref, qty, px, tif, flags, firm):
    """An independent decoder finds every value, the appendage length and the elements in the bytes."""
    write_image(AT, int.from_bytes(b"ZVZZT   ", "little"), ord("S"), ord("P"), firm_word(firm))
    size = write_order(AT + 64, AT, image_size(firm), ref, qty, px, tif, flags, cl_ord_id)
    data = bytes(ARRAY[64 : 64 + size])
    length, soup = struct.unpack(">Hc", data[:3])
    assert (length, soup) == (size - 2, b"U")
    kind, *values, extra = struct.unpack(">c I c I 8s Q c c c c c 14s H", data[3:50])
    want_tif = b"3" if tif else b"0"
    assert kind == b"O"
    assert values == [ref, b"S", qty, b"ZVZZT   ", px, want_tif, b"Y", b"P", b"N", b"N", f"{id_text(cl_ord_id)} ".encode()]
    elements = (b"\x05\x02" + firm.ljust(4).encode() if firm else b"") + (b"\x02\x0cP" if flags else b"")
    assert data[50:] == elements
    assert extra == len(elements)
    assert id_of_text(id_text(cl_ord_id)) == cl_ord_id
    assert id_of_wire_text(AT + 64 + 34) == cl_ord_id


@QUICK
@given(ids, refs, refs, qtys, prices, bits, st.sampled_from([0, INTENT_POST_ONLY]))
def test_replace_reads_back(cl_ord_id, orig, ref, qty, px, tif, flags):
    """The same for a Replace, which never carries a firm."""
    size = write_replace(AT, orig, ref, qty, px, tif, flags, cl_ord_id)
    data = bytes(ARRAY[:size])
    assert struct.unpack(">Hc", data[:3]) == (size - 2, b"U")
    found = struct.unpack(">c I I I Q c c c 14s H", data[3:43])
    assert found == (b"U", orig, ref, qty, px, b"3" if tif else b"0", b"Y", b"N", f"{id_text(cl_ord_id)} ".encode(), len(data[43:]))
    assert data[43:] == (b"\x02\x0cP" if flags else b"")


def test_query():
    """An Account Query is one byte in its packet."""
    assert bytes(ARRAY[: write_query(AT)]) == b"\x00\x02UQ"


SAMPLES = {
    "A": (venue.ACCEPTED, {"ts": 5, "user_ref_num": 7, "side": ord("S"), "qty": 9, "price": 11, "ref": 13, "order_state": ord("D")},
          {"ts_event": 5, "user_ref": 7, "sell": 1, "qty": 9, "px": 11, "venue_id": 13, "dead": 1}),
    "U": (venue.REPLACED, {"ts": 5, "orig_user_ref_num": 6, "user_ref_num": 7, "side": ord("B"), "qty": 9, "price": 11, "ref": 13,
                           "order_state": ord("L")},
          {"ts_event": 5, "orig_ref": 6, "user_ref": 7, "sell": 0, "qty": 9, "px": 11, "venue_id": 13, "dead": 0}),
    "C": (venue.CANCELED, {"ts": 5, "user_ref_num": 7, "qty": 9, "reason": ord("U")},
          {"ts_event": 5, "user_ref": 7, "qty": 9, "reason": ord("U")}),
    "D": (venue.CANCELED, {"ts": 5, "user_ref_num": 7, "decrement_shares": 9, "reason": ord("Q")},
          {"user_ref": 7, "qty": 9, "reason": ord("Q")}),
    "E": (venue.EXECUTED, {"ts": 5, "user_ref_num": 7, "qty": 9, "price": 11, "liquidity_flag": ord("R"), "match": 13},
          {"ts_event": 5, "user_ref": 7, "qty": 9, "px": 11, "removed": 1, "venue_id": 13}),
    "B": (venue.BROKEN, {"ts": 5, "user_ref_num": 7, "match": 13, "reason": ord("E")},
          {"user_ref": 7, "venue_id": 13, "reason": ord("E")}),
    "J": (venue.REJECTED, {"ts": 5, "user_ref_num": 7, "reason": 0x2B}, {"user_ref": 7, "reason": 0x2B}),
    "P": (venue.CANCEL_PENDING, {"ts": 5, "user_ref_num": 7}, {"user_ref": 7}),
    "I": (venue.CANCEL_REJECTED, {"ts": 5, "user_ref_num": 7}, {"user_ref": 7}),
    "T": (venue.REPRICED, {"ts": 5, "user_ref_num": 7, "price": 11, "ref": 13}, {"user_ref": 7, "px": 11, "venue_id": 13}),
    "M": (venue.MODIFIED, {"ts": 5, "user_ref_num": 7, "qty": 9}, {"user_ref": 7, "qty": 9}),
    "R": (venue.RESTATED, {"ts": 5, "user_ref_num": 7, "reason": ord("R")}, {"user_ref": 7, "reason": ord("R"), "venue_id": 0}),
    "Q": (venue.NEXT_REF, {"ts": 5, "next_user_ref_num": 77}, {"qty": 77, "user_ref": 0}),
    "S": (venue.SYSTEM, {"ts": 5, "event_code": ord("E")}, {"reason": ord("E"), "user_ref": 0}),
    "X": (venue.MASS_CANCEL, {"ts": 5, "user_ref_num": 7}, {"user_ref": 7}),
    "G": (venue.DISABLED, {"ts": 5, "user_ref_num": 7}, {"user_ref": 7}),
    "K": (venue.ENABLED, {"ts": 5, "user_ref_num": 7}, {"user_ref": 7}),
}  # fmt: skip


def wire(letter: str) -> bytes:
    """Return a sample message, made with the packed layout."""
    made = np.zeros(1, ouch50.OUTBOUND[ord(letter)])
    made["type"] = ord(letter)
    for name, value in SAMPLES[letter][1].items():
        kind = made.dtype.fields[name][0]
        made[name] = np.array(value, kind).byteswap()
    return made.tobytes()


def decode(data: bytes, event) -> int:
    """Decode bytes that are followed by rubbish."""
    ARRAY[: len(data) + 64] = 0xFF
    ARRAY[: len(data)] = list(data)
    return int(decode_message(AT, len(data), event))


def test_all_outbound_types_are_sampled():
    """The table above has every type of the layout module."""
    assert {ord(letter) for letter in SAMPLES} == set(ouch50.OUTBOUND)


@pytest.mark.parametrize("letter", SAMPLES)
@pytest.mark.parametrize("tail", [b"", b"\x00\x00", b"\x00\x03\x02\x1c\x01", b"\x00\x09\x05", b"\xff\xff"])
def test_decode_every_type(letter, tail, event):
    """Every type decodes to its values, with no appendage, an empty one, an unknown tag, or a broken one behind it."""
    kind, _, wanted = SAMPLES[letter]
    data = wire(letter)
    base = data[:-2] if "appendage_length" in ouch50.OUTBOUND[ord(letter)].names else data
    assert decode(base + tail if tail else data, event) == kind or len(base + tail) < len(data)
    assert decode(data + tail, event) == kind
    assert {name: int(event[name]) for name in wanted} == wanted
    assert int(event["kind"]) == kind


@pytest.mark.parametrize("letter", SAMPLES)
def test_short_messages_are_told(letter, event):
    """Every prefix of every message is SHORT (or, for the AIQ cancel, whole without its last byte), never read beyond."""
    data = wire(letter)
    least = 31 if letter == "D" else len(data)
    for size in range(1, least):
        assert decode(data[:size], event) == venue.SHORT, (letter, size)
        assert int(event["kind"]) == 0
    assert decode(b"", event) == venue.NOTHING


def test_unknown_types_are_told(event):
    """Every other first byte is an unknown type, at any length."""
    for code in set(range(256)) - set(ouch50.OUTBOUND):
        for size in (1, 9, 10, 13, 40, 100):
            assert decode(bytes([code]) + bytes(size - 1), event) == venue.UNKNOWN_TYPE


def test_restated_finds_its_reference(event):
    """Tag 1 of a Restated is the new reference, wherever it stands; one that is cut off is none."""
    head = wire("R")[:14]
    element = b"\x09\x01" + (4711).to_bytes(8, "big")
    other = b"\x05\x16" + (300).to_bytes(4, "big")
    for elements in (element, other + element, element + other):
        assert decode(head + len(elements).to_bytes(2, "big") + elements, event) == venue.RESTATED
        assert int(event["venue_id"]) == 4711
    assert decode(head + (10).to_bytes(2, "big") + element[:-1], event) == venue.RESTATED
    assert int(event["venue_id"]) == 0


@QUICK
@given(st.binary(max_size=120))
def test_any_bytes_are_survived(data):
    """Rubbish never breaks the decoder, and an element found lies inside."""
    made = records(venue_event_dtype, 1)[0]
    kind = decode(data, made)
    assert kind in (venue.SHORT, venue.NOTHING, venue.UNKNOWN_TYPE) or 1 <= kind <= venue.ENABLED
    for tag in (1, 2, 18):
        found = int(find_element(AT, len(data), tag))
        assert found == 0 or AT + 4 <= found <= AT + len(data)


def test_ids_of_others_are_not_taken_for_ours():
    """A ClOrdID that is not 13 of our digits and a space gives 0."""
    for text in ("H8FUB8IV      ", "7682701       ", "0000000000001X", "G000000000000 ", "V000000000000 ", "8000000000000 "):
        ARRAY[:14] = list(text.encode())
        assert id_of_wire_text(AT) == 0
    assert id_of_text("nonsense") == 0
