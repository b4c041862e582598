"""What one order after the other does, said in full: the readable half of what the twin checks at random."""

import pytest

from hftd.sim.loop import MARGIN, MARGIN_ROWS
from tests.support.sim_desk import POST_ONLY, Desk, cancel, enter, modify, replace


@pytest.fixture
def desk() -> Desk:
    made = Desk(accounts=2).open()
    made.x["ref_next"], made.x["match_next"] = 1, 1
    return made


def test_price_first_then_time_and_the_resting_orders_price(desk):
    for number, (qty, px) in enumerate(((10, 500_200), (10, 500_100), (20, 500_100)), 1):
        desk.send(enter(number, "S", qty, px))
    told = desk.send(enter(1, "B", 35, 500_300), account=1)
    assert told[1:] == [("E", 1, 10, 500_100, "R", 1), ("E", 1, 20, 500_100, "R", 2), ("E", 1, 5, 500_200, "R", 3)]
    assert desk.told() == [("E", 2, 10, 500_100, "A", 1), ("E", 3, 20, 500_100, "A", 2), ("E", 1, 5, 500_200, "A", 3)]
    assert desk.tape()[-3:] == [("E", 2, 10, 1), ("E", 3, 20, 2), ("E", 1, 5, 3)]


def test_replace_counts_what_was_executed_and_goes_to_the_back(desk):
    desk.send(enter(1, "B", 100, 500_000))
    desk.send(enter(1, "S", 30, 500_000), account=1)
    desk.told()
    desk.tape()
    assert desk.send(replace(1, 2, 150, 500_000)) == [("U", 1, 2, 120, 3, 500_000)]
    assert desk.tape() == [("U", 1, 3, 120, 500_000)]
    assert desk.send(replace(2, 3, 30, 500_000)) == [("C", 2, 120, "U")]     # all 30 are executed already
    assert desk.send(enter(3, "B", 1, 500_000))[0][:2] == ("A", 3)           # so number 3 was not used up


def test_cancel_to_a_total_keeps_the_place_in_the_queue(desk):
    desk.send(enter(1, "B", 100, 500_000))
    desk.send(enter(2, "B", 100, 500_000))
    assert desk.send(cancel(1, 40)) == [("C", 1, 60, "U")]
    assert desk.send(cancel(1, 40)) == []
    desk.send(enter(1, "S", 50, 500_000), account=1)
    assert desk.told() == [("E", 1, 40, 500_000, "A", 1), ("E", 2, 10, 500_000, "A", 2)]
    assert desk.send(cancel(2, 60)) == [("C", 2, 40, "U")]                   # 10 executed, so 50 stay open
    assert desk.send(cancel(2, 10)) == [("C", 2, 50, "U")]                   # no more than was executed: all of the rest


def test_post_only_that_would_take_is_canceled_and_market_never_rests(desk):
    desk.send(enter(1, "S", 10, 500_000), account=1)
    assert [row[0] for row in desk.send(enter(1, "B", 10, 500_000, appendage=POST_ONLY))] == ["A", "C"]
    assert [row[0] for row in desk.send(enter(2, "B", 25, 2_000_000_000))] == ["A", "E", "C"]
    assert desk.tape()[-1] == ("E", 1, 10, 1)


def test_modify_marks_a_sale_short_but_not_a_buy(desk):
    desk.send(enter(1, "S", 100, 500_000))
    desk.send(enter(2, "B", 100, 400_000))
    assert desk.send(modify(1, "T", 60)) == [("M", 1, "T", 60)]
    assert desk.send(modify(2, "S", 60)) == []
    assert desk.send(modify(1, "S", 60)) == []                               # T to S is not allowed


def test_mass_cancel_and_switching_order_entry_off(desk):
    desk.send(enter(1, "B", 100, 500_000))
    desk.send(enter(2, "B", 100, 400_000))
    told = desk.send(mass_cancel(3, symbol="ALFA"))
    assert [row[0] for row in told] == ["C", "C", "X"]
    assert [row[0] for row in desk.send(b"D" + (4).to_bytes(4, "big") + b"FIRM\0\0")] == ["G"]
    assert desk.send(enter(5, "B", 100, 500_000)) == [("J", 5, 0x0C)]
    assert [row[0] for row in desk.send(b"E" + (6).to_bytes(4, "big") + b"FIRM\0\0")] == ["K"]
    assert desk.send(enter(7, "B", 100, 500_000))[0][0] == "A"


def mass_cancel(user_ref: int, firm: str = "", symbol: str = "", appendage: bytes = b"") -> bytes:
    return (b"C" + user_ref.to_bytes(4, "big") + firm.encode().ljust(4) + symbol.encode().ljust(8)
            + len(appendage).to_bytes(2, "big") + appendage)  # fmt: skip


@pytest.mark.parametrize(("asked", "gone"), [
    ({}, {1, 2, 3, 4}), ({"firm": "LIME"}, {5, 6}), ({"firm": "NONE"}, set()), ({"symbol": "BRVO"}, set()),
    ({"appendage": b"\x02\x1bB"}, {1}), ({"appendage": b"\x02\x1bS"}, {2, 3, 4}), ({"appendage": b"\x02\x1bT"}, {3}),
    ({"appendage": b"\x02\x1bE"}, {4}), ({"firm": "LIME", "appendage": b"\x03\x18\0\1\x02\x1bB"}, {5}),
    ({"firm": "LIME", "symbol": "ALFA", "appendage": b"\x02\x1bS"}, {6}),
])  # fmt: skip
def test_mass_cancel_is_for_a_firm_and_a_side(desk, asked, gone):
    """Firm and Symbol of the message, Side of its appendage: what else is open stays open."""
    for number, side in enumerate("BSTE", 1):
        desk.send(enter(number, side, 10, 400_000 if side == "B" else 500_000))
    lime = b"\x05\x02LIME"
    desk.send(enter(5, "B", 10, 400_000, appendage=lime + POST_ONLY))
    desk.send(enter(7, "S", 10, 500_000, appendage=lime))
    desk.send(replace(7, 8, 10, 500_100))
    told = desk.send(mass_cancel(9, **asked))
    assert {6 if row[1] == 8 else row[1] for row in told[:-1]} == gone and told[-1][0] == "X"


def test_mass_cancel_of_a_side_that_is_none_is_ignored(desk):
    desk.send(enter(1, "B", 10, 400_000))
    assert desk.send(mass_cancel(2, appendage=b"\x02\x1bX")) == []
    assert [row[0] for row in desk.send(mass_cancel(2))] == ["C", "X"]


def test_halted_symbol_takes_no_order(desk):
    desk.history(b"H\0\1" + b"\0" * 8 + b"ALFA    H T1  ")
    assert desk.send(enter(1, "B", 100, 500_000)) == [("J", 1, 0x07)]
    desk.history(b"H\0\1" + b"\0" * 8 + b"ALFA    T     ")
    assert desk.send(enter(2, "B", 100, 500_000))[0][0] == "A"


def test_halted_symbol_takes_no_replacement_either(desk):
    """It would trade: the original stays as it is, the number is used up, a cancel is still taken."""
    desk.send(enter(1, "S", 100, 500_100), account=1)
    desk.send(enter(1, "B", 100, 500_000))
    desk.history(b"H\0\1" + b"\0" * 8 + b"ALFA    H T1  ")
    desk.tape()
    assert desk.send(replace(1, 2, 100, 500_100)) == [("J", 2, 0x07)]
    assert desk.send(replace(1, 2, 100, 500_000)) == []
    assert (desk.told(1)[1:], desk.tape()) == ([], [])
    assert desk.send(cancel(1)) == [("C", 1, 100, "U")]


def test_all_that_is_open_may_be_canceled_at_once():
    """The answers found no room on the stream, and the session was void."""
    desk = Desk().open()
    for number in range(1, 40_001):
        desk.give(enter(number, "B", 1, 400_000))
    stream = desk.exchange.streams[desk.numbers[0]]
    for _ in range(4):
        desk.exchange.grow(MARGIN, MARGIN_ROWS)
    stream.record["count"] = 98_000  # as after many more that are not open
    desk.exchange.grow(MARGIN, MARGIN_ROWS)
    desk.give(b"C" + (40_001).to_bytes(4, "big") + b" " * 4 + b" " * 8 + b"\0\0")
    desk.exchange.check()
    assert len(stream) == 98_000 + 40_001


def test_orders_with_itself_trade_and_are_counted(desk):
    desk.send(enter(1, "B", 100, 500_000))
    assert [row[0] for row in desk.send(enter(2, "S", 100, 500_000))] == ["A", "E", "E"]
    assert int(desk.x["self_trades"]) == 1


def test_rejecting_at_random_is_a_seeds_doing():
    def refused(seed: int) -> list[int]:
        desk = Desk(reject=30.0, seed=seed).open()
        return [number for number in range(1, 101) if desk.send(enter(number, "B", 1, 500_000))[0] == ("J", number, 0x0A)]

    assert refused(1) == refused(1) != refused(2)
    assert 15 < len(refused(1)) < 45


def test_appendage_that_lies_about_its_length_is_harmless(desk):
    for number, appendage in enumerate((b"\xff\x0cP", b"\x00\x0cP", b"\x02", b"\x01\x0c", b"\x02\x0cP" * 40), 1):
        raw = enter(number, "B", 1, 500_000, appendage=appendage)
        assert desk.send(raw)[0][:2] == ("A", number)
    lying = enter(9, "B", 1, 500_000)[:-2] + b"\xff\xff"
    assert desk.send(lying)[0][:2] == ("A", 9)
