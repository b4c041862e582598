"""Books from genuine files equal the results that independent programs computed, row for row."""

import csv
import gzip
import json

import pytest

from hftd.feed.books import ERRORS, books
from hftd.feed.files import ItchFile, busiest_symbols
from tests.support.data import shared_data
from tests.support.feed_books import Feed

AAPL = "itch50-aapl-20200130"
GOOG = "lobster-goog-20120621"
BOTH = "lobster-aapl-goog-20120621"
FILES = {
    AAPL: f"{AAPL}/aapl_20200130.itch.gz",
    GOOG: f"{GOOG}/goog_20120621_level10.itch.gz",
    BOTH: f"{BOTH}/aapl_goog_20120621.itch.gz",
    "itch50-start-of-day-20191230": "itch50-start-of-day-20191230/first1000_20191230.itch.gz",
}


def lines(path) -> list[str]:
    """Return the lines of a text file, gzip or not."""
    with (gzip.open(path, "rt") if path.suffix == ".gz" else open(path)) as file:
        return file.read().splitlines()


@pytest.mark.parametrize("name", [AAPL, GOOG, BOTH])
def test_every_change_of_a_best_price_or_size_is_as_recorded(name, tmp_path):
    books(shared_data(FILES[name]), bbo_out=tmp_path / "bbo.csv")

    assert lines(tmp_path / "bbo.csv") == lines(shared_data(f"{name}/bbo_changes.csv.gz"))


@pytest.mark.parametrize(("name", "oracle", "symbol", "levels"), [
    (GOOG, f"{GOOG}/book_after_event.csv.gz", "GOOG", 10),
    (BOTH, f"{BOTH}/book_after_event.GOOG.csv.gz", "GOOG", 10),
    (BOTH, f"{BOTH}/book_after_event.AAPL.csv.gz", "AAPL", 1),
])  # fmt: skip
def test_every_level_after_every_event_is_as_lobster_has_it(name, oracle, symbol, levels, tmp_path):
    books(shared_data(FILES[name]), symbol=symbol, levels=levels, out=tmp_path / "depth.csv")
    ours = {int(line.split(",", 1)[0]): line for line in lines(tmp_path / "depth.csv")[1:]}
    wanted = lines(shared_data(oracle))

    assert lines(tmp_path / "depth.csv")[0] == wanted[0].replace(",row,", ",")
    compared = 0
    for line in wanted[1:]:
        seq, ts, _, rest = line.split(",", 3)
        assert ours[int(seq)] == f"{seq},{ts},{rest}"
        compared += 1
    assert compared > 100_000


def test_depth_has_a_row_for_each_message_of_the_symbol_whatever_its_type(tmp_path):
    books(shared_data(FILES[BOTH]), symbol="AAPL", levels=2, out=tmp_path / "depth.csv")
    with open(tmp_path / "depth.csv") as file:
        rows = list(csv.reader(file))

    data, _ = ItchFile(shared_data(FILES[BOTH])).load()
    raw, wanted, seq, at = data.tobytes(), [], 0, 0
    while at < len(raw):
        length = int.from_bytes(raw[at : at + 2], "big")
        seq += 1
        if int.from_bytes(raw[at + 3 : at + 5], "big") == 13:
            wanted.append(seq)
        at += 2 + length
    assert [int(row[0]) for row in rows[1:]] == wanted
    assert rows[1][2:] == ["", "0", "", "0", "", "0", "", "0"]


@pytest.mark.parametrize("name", list(FILES))
def test_counts_volume_and_final_prices_are_as_recorded(name):
    oracle = json.loads(shared_data(f"{name}/oracle.json").read_text())
    facts = books(shared_data(FILES[name]))

    assert facts["messages"] == oracle["file_messages"]
    assert facts["counts"] == oracle["counts_by_type"]
    assert facts["live_orders"] == oracle["itch_book_stats"]["live_orders"]
    assert facts["errors"] == dict.fromkeys(ERRORS, 0)
    trades = oracle.get("trades_itch_book", {})
    assert facts["executed_shares"] == sum(kind["shares"] for symbol in trades.values() for kind in symbol.values())
    assert facts["displayed_shares"] == sum(symbol["E"]["shares"] for symbol in trades.values() if "E" in symbol)
    assert facts["trades"] == sum(symbol["E"]["count"] for symbol in trades.values() if "E" in symbol)
    finals = {row["symbol"]: {key: row[key] for key in ("bid_px", "bid_sz", "ask_px", "ask_sz")} for row in facts["bbo"]}
    for symbol, final in oracle.get("final_bbo", {}).items():
        assert finals[symbol] == final
    assert {str(row["locate"]): row["symbol"] for row in facts["bbo"]} == oracle["symbols"]


def test_ten_levels_and_order_counts_at_every_checkpoint_and_queues_at_the_end():
    oracle = json.loads(shared_data(f"{AAPL}/depth10_checkpoints.json").read_text())
    final = json.loads(shared_data(f"{AAPL}/l3_final.json").read_text())
    data, count = ItchFile(shared_data(FILES[AAPL])).load()
    raw, at, feed = data.tobytes(), 0, Feed()
    checkpoints = {point["after_seq"]: point for point in oracle["checkpoints"]}

    compared = 0
    for seq in range(1, count + 1):
        length = int.from_bytes(raw[at : at + 2], "big")
        feed.apply(raw[at + 2 : at + 2 + length])
        at += 2 + length
        if seq in checkpoints:
            bids, asks = feed.sides(0)
            for ours, theirs in ((bids, checkpoints[seq]["bids"]), (asks, checkpoints[seq]["asks"])):
                assert [[px, sum(qty for _, qty in queue), len(queue)] for px, queue in ours[:10]] == theirs
            compared += 1
    assert compared == len(checkpoints) > 10

    bids, asks = feed.sides(0)
    assert [{"px": px, "orders": queue} for px, queue in bids] == final["bids"]
    assert [{"px": px, "orders": queue} for px, queue in asks] == final["asks"]


def test_the_busiest_symbols_are_named_in_order():
    assert busiest_symbols(shared_data(FILES[BOTH]), 5) == ["AAPL", "GOOG"]
    assert busiest_symbols(shared_data(FILES[BOTH]), 1) == ["AAPL"]
