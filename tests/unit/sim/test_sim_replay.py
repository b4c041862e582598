"""History through the exchange: untouched without accounts, sound with them."""

import gzip
import random
import struct
from collections import Counter

import pytest

from hftd.core import clock as clocks
from hftd.sim.exchange import Exchange
from hftd.sim.loop import MARGIN, MARGIN_ROWS, cycle
from hftd.sim.options import Options, SimError
from tests.support.data import shared_data
from tests.support.sim_desk import Desk, cancel, enter, framed, itch_tuple, messages, play, replace

FILES = (
    "itch50-aapl-20200130/aapl_20200130.itch.gz",
    "itch50-start-of-day-20191230/first1000_20191230.itch.gz",
    "lobster-goog-20120621/goog_20120621_level10.itch.gz",
    "lobster-aapl-goog-20120621/aapl_goog_20120621.itch.gz",
)


@pytest.mark.parametrize("name", FILES)
def test_history_alone_goes_out_byte_for_byte(name):
    path = shared_data(name)
    exchange = play(Exchange(Options(fast=True, data=str(path))))
    assert framed(exchange) == gzip.decompress(path.read_bytes())
    assert all(int(exchange.x[key]) == 0 for key in ("dropped", "altered", "capped", "bad", "own_trades", "orphans"))


class Follower:
    """A reader's book, from the published messages alone: raises on anything that could not be."""

    def __init__(self):
        self.orders: dict[int, list[int]] = {}
        self.executed: Counter[int] = Counter()
        self.matches: set[int] = set()

    def apply(self, raw: bytes) -> None:
        kind, *rest = itch_tuple(raw)
        if kind == "A":
            ref, side, shares, px = rest
            assert ref not in self.orders and shares > 0
            self.orders[ref] = [side, px, shares]
        elif kind in "ECX":
            ref, shares = rest[:2]
            assert 0 < shares <= self.orders[ref][2]
            self.orders[ref][2] -= shares
            if kind != "X":
                self.executed[ref] += shares
                assert rest[2] not in self.matches
                self.matches.add(rest[2])
            if self.orders[ref][2] == 0:
                del self.orders[ref]
        elif kind == "D":
            del self.orders[rest[0]]
        elif kind == "U":
            ref, new, shares, px = rest
            assert new not in self.orders and shares > 0
            side = self.orders.pop(ref)[0]
            self.orders[new] = [side, px, shares]


def trade_through(path, seed: int, steps: int):
    """Replay a file in small steps with an account that makes, takes, moves and cancels all the way."""
    exchange = Exchange(Options(fast=True, data=str(path), rate=1_000_000))
    desk = Desk(exchange=exchange)
    x = exchange.x
    locate = 13 if "aapl" in path.name else 3001
    symbol = "AAPL" if "aapl" in path.name else "GOOG"
    rng = random.Random(seed)
    exchange.start_flow()
    user = 0
    told: list[tuple] = []
    for _ in range(steps):
        while not x["done"] and x["position"] < x["data_size"]:
            before = int(x["number"])
            cycle(x, clocks.now_ticks() + exchange.ticks(0.0002))
            exchange.grow(MARGIN, MARGIN_ROWS)
            if int(x["number"]) > before:
                break
        half = [int(exchange.halves[2 * locate + side]["best"]) for side in range(2)]
        if not all(half):
            continue
        bid, ask = (int(exchange.levels[row]["px"]) for row in half)
        for _ in range(rng.randrange(3)):
            what = rng.random()
            side = rng.choice("BS")
            own, other = (bid, ask) if side == "B" else (ask, bid)
            sign = 1 if side == "B" else -1
            user += 1
            if what < 0.6:
                px = own + sign * 100 * rng.choice((0, 0, 0, 1, 1, -1, -5)) if what < 0.45 else other
                px = px // 100 * 100 + (100 if side == "S" and px % 100 else 0)
                told += desk.send(enter(user, side, rng.choice((10, 100, 500)), px, symbol, tif=rng.choice("003")))
            elif what < 0.8:
                px = own // 100 * 100 + (100 if side == "S" else 0)
                told += desk.send(replace(max(user - rng.randrange(1, 9), 1), user, rng.choice((50, 150)), px))
            else:
                told += desk.send(cancel(max(user - rng.randrange(1, 20), 1)))
    play(exchange)
    return exchange, desk, told + desk.told()


@pytest.mark.parametrize("name", [FILES[0], FILES[2], FILES[3]])
def test_history_with_an_account_stays_a_sound_book(name):
    """Every reference, share and match number adds up for a reader, and an account's fills are on the tape, once each."""
    path = shared_data(name)
    exchange, _, told = trade_through(path, 7, 1200)
    follower = Follower()
    stamps = []
    for raw in messages(exchange):
        follower.apply(raw)
        stamps.append(int.from_bytes(raw[5:11], "big"))
    assert stamps == sorted(stamps)
    x = exchange.x
    fills = [row for row in told if row[0] == "E"]
    assert len(fills) > 50 and int(x["own_trades"]) > 50
    assert {row[5] for row in fills} <= follower.matches
    rows = list(exchange.fill_log.rows())
    assert sum(int(row["qty"]) for row in rows if row["maker"] and row["taker"]) * 2 + sum(
        int(row["qty"]) for row in rows if not (row["maker"] and row["taker"])) == sum(row[2] for row in fills)  # fmt: skip
    resting = {int(exchange.orders[k]["ref"]) for k in range(1, int(x["orders"]["fresh"])) if exchange.orders[k]["level"]}
    assert resting == set(follower.orders)
    assert int(x["altered"]) + int(x["dropped"]) > 0 and int(x["orphans"]) == 0


def test_resting_order_ahead_in_the_queue_takes_the_historical_execution_and_no_more():
    desk = Desk().open()
    desk.x["source"] = 1
    desk.x["ref_next"], desk.x["match_next"] = 1000, 2000
    head = b"\0\1" + b"\0" * 8

    def add(ref, side, shares, px):
        desk.history(b"A" + head + ref.to_bytes(8, "big") + side + shares.to_bytes(4, "big") + b"ALFA    " + px.to_bytes(4, "big"))

    def executed(ref, shares, match):
        desk.history(b"E" + head + ref.to_bytes(8, "big") + shares.to_bytes(4, "big") + match.to_bytes(8, "big"))

    add(1, b"B", 100, 500_000)
    desk.send(enter(1, "B", 60, 500_000))
    add(2, b"B", 300, 500_000)
    executed(1, 100, 11)
    executed(2, 200, 12)
    executed(2, 100, 13)
    assert desk.tape() == [
        ("A", 1, 0, 100, 500_000), ("A", 1000, 0, 60, 500_000), ("A", 2, 0, 300, 500_000),
        ("E", 1, 100, 11),                            # ahead of ours: history as it was
        ("E", 1000, 60, 2000), ("E", 2, 140, 12),     # 200 shares came: 60 for us, 140 for them
        ("E", 2, 100, 13), ("D", 2),                  # history says it is gone: the 60 left of it go too
    ]  # fmt: skip
    assert desk.told() == [("E", 1, 60, 500_000, "A", 2000)]


def test_aggressor_takes_historical_shares_and_history_gets_the_rest():
    desk = Desk().open()
    desk.x["source"] = 1
    desk.x["ref_next"], desk.x["match_next"] = 1000, 2000
    head = b"\0\1" + b"\0" * 8
    desk.history(b"A" + head + struct.pack(">QcI8sI", 5, b"S", 100, b"ALFA    ", 500_000))
    desk.tape()
    assert desk.send(enter(1, "B", 70, 500_000, tif="3")) == [
        ("A", 1, 70, 1000, 500_000), ("E", 1, 70, 500_000, "R", 2000),
    ]  # fmt: skip
    desk.history(b"E" + head + (5).to_bytes(8, "big") + (100).to_bytes(4, "big") + (9).to_bytes(8, "big"))
    assert desk.tape() == [("E", 5, 70, 2000), ("E", 5, 30, 9)]
    assert int(desk.x["capped"]) == 70


@pytest.mark.parametrize("state", [b"H", b"P", b"Q"])
def test_nothing_trades_while_the_symbol_is_halted(state):
    """Orders of history that cross an account's resting one join the book as they came; those after the halt trade with it."""
    desk = Desk().open()
    desk.x["source"] = 1
    desk.x["ref_next"], desk.x["match_next"] = 1000, 2000
    head = b"\0\1" + b"\0" * 8

    def add(ref, side, shares, px):
        desk.history(b"A" + head + struct.pack(">QcI8sI", ref, side, shares, b"ALFA    ", px))

    def trading(state):
        desk.history(b"H" + head + b"ALFA    " + state + b"     ")

    desk.send(enter(1, "B", 60, 500_000))
    add(2, b"S", 40, 600_000)
    trading(state)
    desk.tape()
    add(3, b"S", 100, 499_900)
    desk.history(b"U" + head + struct.pack(">QQII", 2, 4, 40, 499_800))
    assert desk.tape() == [("A", 3, 1, 100, 499_900), ("U", 2, 4, 40, 499_800)]
    assert desk.told() == [] and int(desk.x["own_trades"]) == 0
    trading(b"T")
    desk.history(b"D" + head + (3).to_bytes(8, "big"))
    desk.history(b"D" + head + (4).to_bytes(8, "big"))
    add(5, b"S", 100, 499_900)
    assert desk.told() == [("E", 1, 60, 500_000, "A", 2000)]


@pytest.mark.parametrize(("content", "word"), [
    (b"", "no ITCH message"), (b"\0\x0cS" + b"\0" * 9, "no ITCH message"),
    (b"\0\x0cS" + b"\0" * 11 + b"\0\x24A" + b"\0" * 20, "cut off at byte 14"),
    (b"hello, this is a text file and not a recording", "is not ITCH 5.0"), (b"\x1f\x8b\x08\0" + b"\0" * 40, "damaged"),
])  # fmt: skip
def test_file_that_is_not_a_recording_is_one_line_that_says_where(tmp_path, content, word):
    path = tmp_path / "x.itch"
    path.write_bytes(content)
    with pytest.raises(SimError) as error:
        Exchange(Options(fast=True, data=str(path)))
    assert word in str(error.value) and str(path) in str(error.value) and "\n" not in str(error.value)
