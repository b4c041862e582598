"""What the venue says beside the books: every field of every such message, in the events and in the status rows."""

import struct

import numpy as np
import pytest

from hftd.msg.enums import BookState, EventKind, TradingState
from hftd.msg.records import INSTRUMENT_ROUND_LOTS
from hftd.msg.status import OPERATIONAL, RESUMED, SHORT
from tests.support import itch_messages as itch
from tests.support.feed_books import Feed
from tests.support.live_feed import Live


@pytest.fixture
def feed():
    made = Feed()
    made.apply(itch.directory(5, "AAPL"), itch.directory(6, "MSFT"))
    return made


@pytest.fixture(scope="module")
def live():
    made = Live()
    made.after(itch.directory(5, "AAPL"), itch.directory(6, "MSFT"))
    yield made
    made.close()


def row(feed, name: str = "statuses", index: int = 0) -> dict[str, int]:
    """Return a row's fields that are not 0."""
    cell = feed.build.tables[name].rows[index]
    assert int(cell["version"]) % 2 == 0
    return {field: int(cell[field]) for field in cell.dtype.names if int(cell[field]) and field != "version"}


def word(text: str) -> int:
    return int.from_bytes(text.ljust(4).encode(), "little")


def test_every_field_is_in_an_event(live):
    K = EventKind
    assert live.after(itch.collar(5, 100, 95, 105, 2)) == [(K.COLLAR, 0, 0, 100, 95, 2, 105, True)]
    assert live.after(itch.ipo(0, 34_500, "A", 17, symbol="MSFT")) == [(K.IPO, 1, 0, 17, 34_500 * 10**9, 0, ord("A"), True)]
    assert live.after(itch.ipo(6, 0, "C", 0, symbol="MSFT")) == [(K.IPO, 1, 0, 0, 0, 0, ord("C"), True)]
    for code, interest in (("B", 1), ("S", 2), ("A", 3), ("N", 0)):
        assert live.after(itch.retail(6, code)) == [(K.RETAIL, 1, 0, 0, interest, 0, 0, True)]
    assert live.after(itch.listing(5, "Y", 11, 12, 13, 14, 15, 16)) == [
        (K.LISTING_LIMITS, 0, 0, 11, 12, 0, 1, False), (K.LISTING, 0, 0, 13, 14, 16, 15, True),
    ]  # fmt: skip
    assert live.after(itch.participant(5, "NITE", "Y", "P", "A")) == [
        (K.PARTICIPANT, 0, 0, 0, 1, ord("A") | ord("P") << 8 | ord("Y") << 16, word("NITE"), True)
    ]
    assert live.after(itch.participant(5, "NITE", "N", "N", "W"))[0].qty == 0
    assert live.after(itch.breaker_levels(3 * 10**11, 2 * 10**11, 10**11)) == [
        (K.BREAKER_LEVELS, 0, 0, 3 * 10**11, 2 * 10**11, 0, 10**11, False)
    ]
    assert live.after(itch.breach("2")) == [(K.SYSTEM, 0, 0, 0, ord("W"), 0, 2, False)]
    assert live.after(itch.action(5, "T")) == [(K.STATUS, 0, 0, 0, TradingState.TRADING, 0, word("") | RESUMED, True)]
    assert live.after(itch.reg_sho(5, "1"))[0].ref == word("") | SHORT
    (halted,) = live.after(itch.operational(5, "Q", "H"))
    assert (halted.qty, halted.ref) == (TradingState.HALTED, word("") | SHORT | OPERATIONAL)


def test_the_rows_hold_every_field(feed):
    feed.apply(itch.imbalance(5, 700, 300, "S", 999_000, far=998_000, reference=999_500, kind="O", variation="3"))
    feed.apply(itch.listing(5, "Y", 11, 12, 13, 14, 15, 16), itch.retail(5, "A"), itch.ipo(0, 34_200, "A", 100_000))
    feed.apply(itch.cross(5, 5000, 999_400, match=3, kind="H"), itch.action(5, "P", "LUDP"), itch.reg_sho(5, "2"))
    feed.apply(itch.collar(5, 1_000_000, 950_000, 1_050_000, 1), itch.operational(5, "Q", "H"))
    assert row(feed) == {
        "trading": TradingState.HALTED, "reason": word("LUDP"), "halted": 1, "short": 1,
        "collar_px": 1_000_000, "collar_low": 950_000, "collar_high": 1_050_000, "collar_extension": 1,
        "ipo_px": 100_000, "ipo_ns": 34_200 * 10**9, "ipo_qualifier": ord("A"), "retail": 3,
        "listing_open": 1, "listing_min": 11, "listing_max": 12, "listing_px": 13, "listing_ns": 14, "listing_low": 15,
        "listing_high": 16, "paired_qty": 700, "imbalance_qty": -300, "direction": ord("S"), "near_px": 999_000, "far_px": 998_000,
        "reference_px": 999_500, "auction": ord("O"), "variation": ord("3"),
        "cross_px": 999_400, "cross_qty": 5000, "cross_type": ord("H"),
    }  # fmt: skip
    assert row(feed, index=1) == {}


def test_the_directory_is_kept_whole(feed):
    body = b"GD" + struct.pack(">I", 40) + b"YCRTPYZ2Y" + struct.pack(">I", 3) + b"Y"
    feed.apply(itch.directory(7, "TQQQ")[:19] + body)
    facts = feed.build.tables["instruments"].rows[2]
    letters = {name: chr(int(facts[name])) for name in
               ("category", "financial", "classification", "threshold", "ipo", "tier", "etp", "inverse")}  # fmt: skip
    assert letters == {"category": "G", "financial": "D", "classification": "C", "threshold": "Y", "ipo": "Z", "tier": "2",
                       "etp": "Y", "inverse": "Y"}  # fmt: skip
    assert int(facts["leverage"]) == 3 and int(facts["lot"]) == 40 and int(facts["sub_type"]).to_bytes(2, "little") == b"RT"
    assert int(facts["flags"]) & INSTRUMENT_ROUND_LOTS


def test_a_collar_lasts_until_trading_resumes(feed):
    quotes = feed.build.tables["quotes"].rows
    feed.apply(itch.action(5, "P", "LUDP"), itch.collar(5, 100, 90, 110))
    assert (int(quotes["collar_low"][0]), int(quotes["collar_high"][0])) == (90, 110) and quotes["collar_high"][1] == 0
    feed.apply(itch.collar(5, 100, 85, 115, 1), itch.reg_sho(5, "1"), itch.action(5, "Q"))
    assert (int(quotes["collar_low"][0]), int(quotes["collar_high"][0])) == (85, 115)
    feed.apply(itch.action(5, "T"))
    assert (int(quotes["collar_low"][0]), int(quotes["collar_high"][0])) == (0, 0)
    assert "collar_px" not in row(feed) and "collar_extension" not in row(feed)


def test_a_breaker_falls_on_all_and_is_lifted_one_by_one(feed):
    quotes = feed.build.tables["quotes"].rows
    feed.apply(itch.action(5, "T"), itch.action(6, "T", symbol="MSFT"), itch.system("Q"), itch.breaker_levels(7, 5, 3))
    feed.apply(itch.breach("1"))
    assert list(quotes["breaker"][:2]) == [1, 1] and row(feed, "session") == {
        "phase": ord("Q"), "breaker": 1, "level_1": 7, "level_2": 5, "level_3": 3,
    }  # fmt: skip
    feed.apply(itch.breach("2"), itch.action(5, "H", "MWC2"))
    assert list(quotes["breaker"][:2]) == [2, 2]
    feed.apply(itch.action(5, "T", "MWCQ"))
    assert list(quotes["breaker"][:2]) == [0, 2]
    feed.apply(itch.system("O"))
    assert "breaker" not in row(feed, "session") and feed.counter("breakers") == 3


def test_an_ipo_is_found_by_its_symbol(feed):
    feed.apply(itch.ipo(0, 34_200, "A", 100_000, symbol="MSFT"), itch.ipo(0, 1, "A", 1, symbol="NOBODY"))
    assert row(feed, index=1)["ipo_px"] == 100_000 and row(feed) == {} and feed.counter("skipped") == 1


BAD = [
    itch.collar(5, 100, 111, 110), itch.collar(5, 100, 90, 2_000_000_001), itch.ipo(0, 86_400, "A", 1),
    itch.ipo(5, 1, "A", 2**32 - 1), itch.listing(5, "Y", 1, 2, 3, 2**63, 5, 6), itch.listing(5, "Y", 1, 2**32 - 1, 3, 4, 5, 6),
    itch.breach("0"), itch.breach("4"), itch.breach(" "), itch.breaker_levels(2**64 - 1, 1, 1),
    itch.imbalance(5, 2**63, 1, "B", 1), itch.imbalance(5, 1, 2**41, "B", 1), itch.imbalance(5, 1, 1, "B", 2**31),
    itch.cross(5, 2**63, 1), itch.cross(5, 2**41, 1), itch.trade(5, 1, 2**31),
]  # fmt: skip


@pytest.mark.parametrize("message", BAD, ids=lambda message: f"{chr(message[0])}-{message[11:].hex()[:24]}")
def test_what_cannot_be_changes_nothing(feed, message):
    feed.apply(itch.add(5, 1, "B", 100, 1_000_000))
    before = {name: feed.build.tables[name].rows.tobytes() for name in ("statuses", "session", "quotes", "instruments", "levels")}
    feed.apply(message)
    assert {name: feed.build.tables[name].rows.tobytes() for name in before} == before
    assert feed.counter("bad_fields") == 1 and feed.counter("volume") == 0


def test_a_code_we_do_not_know_forbids(feed):
    feed.apply(itch.action(5, "T"), itch.action(5, "?"), itch.reg_sho(5, "?"), itch.operational(6, "Q", "?", symbol="MSFT"))
    assert row(feed)["trading"] == TradingState.HALTED and row(feed)["short"] == 1 and row(feed, index=1)["halted"] == 1


def test_a_session_that_changes_over_forgets_all(feed):
    feed.apply(itch.collar(5, 100, 90, 110), itch.breach("1"))
    feed.build.reset(int(BookState.LIVE))
    assert row(feed) == {} and row(feed, "session") == {} and not np.any(feed.build.tables["quotes"].rows["breaker"])
