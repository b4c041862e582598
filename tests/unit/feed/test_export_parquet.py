"""Exported tables say what independent programs say of the same file, and no more than memory allows is held."""

import csv
import gzip
import json
import sys

import numpy as np
import pytest

from hftd.feed.files import ItchFile
from hftd.feed.sources import desk as desks
from hftd.feed.sources.capture import CaptureFile
from tests.support import itch_messages as itch
from tests.support.data import shared_data

AAPL, BOTH = "itch50-aapl-20200130", "lobster-aapl-goog-20120621"


def exported(source, folder, levels: int = 10, symbols=()):
    """Export a file or a capture; return its tables as columns of Python values, and the desk."""
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is absent: source scripts/environment research")
    from hftd.research.parquet import Export

    held: list = []
    capture = isinstance(source, CaptureFile)
    orders = desks.orders_in_capture(source) if capture else desks.orders_in_file(source)
    config = desks.settings(None, [], list(symbols), orders, offline=True)
    desk = desks.Desk(config, take=lambda events: held[0].take(events))
    held.append(Export(folder, desk.clock_array, config.instruments, desk.symbols, levels))
    try:
        (desk.run_capture if capture else desk.run_file)(source, desks.Pace(), [])
        counts = held[0].finish()
    finally:
        held[0].abandon()
        desk.close()
    tables = {name: parquet.read_table(folder / f"{name}.parquet") for name in counts}
    assert {name: table.num_rows for name, table in tables.items()} == counts
    assert sorted(path.name for path in folder.iterdir()) == sorted(f"{name}.parquet" for name in counts)
    assert desk.lost_events == 0 and desk.events == counts["events"]
    return tables, desk


def bbo_lines(table, locates: dict[str, int]) -> list[str]:
    """The rows as `hftd books --bbo` writes them."""
    columns = table.to_pydict()
    names = ("seq", "ts_event_ns", "symbol", "bid_px", "bid_qty", "ask_px", "ask_qty")
    assert set(columns["state"]) == {"LIVE"}
    rows = zip(*(columns[name] for name in names), strict=True)
    return [f"{seq},{ts},{locates[symbol]},{symbol}," + ",".join(map(str, rest)) for seq, ts, symbol, *rest in rows]


@pytest.mark.parametrize(("name", "source", "locates"), [
    (AAPL, ItchFile, {"AAPL": 13}), (AAPL, CaptureFile, {"AAPL": 13}), (BOTH, ItchFile, None),
])  # fmt: skip
def test_best_prices_and_trades_are_as_recorded_row_for_row(name, source, locates, tmp_path, monkeypatch):
    monkeypatch.setattr("hftd.research.parquet.ROWS", 5000)  # many row groups
    file = {(AAPL, ItchFile): "aapl_20200130.itch.gz", (AAPL, CaptureFile): "aapl_20200130.moldudp64.pcap.gz",
            (BOTH, ItchFile): "aapl_goog_20120621.itch.gz"}[name, source]  # fmt: skip
    oracle = json.loads(shared_data(f"{name}/oracle.json").read_text())
    tables, desk = exported(source(shared_data(f"{name}/{file}")), tmp_path / "out", levels=2)

    locates = locates or {symbol: int(locate) for locate, symbol in oracle["symbols"].items()}
    with gzip.open(shared_data(f"{name}/bbo_changes.csv.gz"), "rt") as wanted:
        assert bbo_lines(tables["bbo"], locates) == wanted.read().splitlines()[1:]
    trades = tables["trades"].to_pydict()
    told = {kind: sum(kinds.get(kind, {}).get("shares", 0) for kinds in oracle["trades_itch_book"].values()) for kind in "EP"}
    assert sum(qty for qty, hidden in zip(trades["qty"], trades["hidden"], strict=True) if hidden) == told["P"]
    assert sum(qty for qty, hidden in zip(trades["qty"], trades["hidden"], strict=True) if not hidden) == told["E"]
    recv = tables["events"]["ts_recv_ns"]
    assert recv.null_count == (tables["events"].num_rows if source is ItchFile else 0)
    if source is CaptureFile:
        state = desk.capture.state
        assert np.all(np.diff(recv.to_numpy()) >= 0)
        assert int(state["first"]) <= recv[0].as_py() < recv[-1].as_py() <= int(state["now"])


def test_depth_after_every_event_is_as_lobster_has_it(tmp_path):
    tables, _ = exported(ItchFile(shared_data(f"{BOTH}/aapl_goog_20120621.itch.gz")), tmp_path / "out")
    columns = tables["depth"].to_pydict()
    names = [f"{side}_{what}_{level}" for level in range(1, 11) for side in ("ask", "bid") for what in ("px", "qty")]
    at = {seq: i for i, (seq, symbol) in enumerate(zip(columns["seq"], columns["symbol"], strict=True)) if symbol == "GOOG"}
    with gzip.open(shared_data(f"{BOTH}/book_after_event.GOOG.csv.gz"), "rt") as file:
        compared, last = 0, None
        for row in csv.reader(file):
            if row[0] == "seq":
                continue
            place = at.get(int(row[0]))
            ours = last if place is None else [columns[name][place] for name in names]
            if place is not None:
                assert columns["ts_event_ns"][place] == int(row[1])
                compared += 1
            if ours is not None:
                assert ours == [int(value or 0) for value in row[3:]], row[0]
            last = ours if place is not None else last
    assert compared > 50_000


def test_every_kind_of_event_is_there_with_its_words(tmp_path):
    messages = [itch.system("O"), itch.directory(3, "AAPL"), itch.action(3, "T"), itch.add(3, 1, "B", 100, 1_000_000),
                itch.add(3, 2, "S", 50, 1_000_100, mpid="MPID"), itch.executed(3, 1, 40), itch.executed_at(3, 2, 10, 1_000_100),
                itch.trade(3, 7, 1_000_050, match=9), itch.broken(3, 9), itch.imbalance(3, 5, 6, "S", 1_000_000),
                itch.replace(3, 1, 4, 30, 999_900), itch.delete(3, 4), itch.cancel(3, 2, 40)]  # fmt: skip
    path = tmp_path / "day.itch"
    path.write_bytes(itch.framed(*messages))
    tables, _ = exported(ItchFile(path), tmp_path / "out", levels=1)

    rows = tables["events"].to_pylist()
    assert {row["kind"] for row in rows} >= {"SYSTEM", "DIRECTORY", "STATUS", "LEVEL", "TRADE", "HIDDEN_TRADE", "BROKEN"}
    assert [row["ref"] for row in rows if row["kind"] == "IMBALANCE"] == [-6]
    assert [row["symbol"] for row in rows if row["kind"] == "SYSTEM"] == [None]
    assert {row["side"] for row in rows if row["kind"] == "LEVEL"} == {"BUY", "SELL"}
    assert all(row["side"] is None for row in rows if row["kind"] in ("SYSTEM", "STATUS", "DIRECTORY", "BROKEN"))
    trades = tables["trades"].to_pylist()
    assert [(row["seq"], row["px"], row["qty"], row["side"], row["hidden"], row["ref"]) for row in trades] == [
        (6, 1_000_000, 40, "BUY", False, 1), (7, 1_000_100, 10, "SELL", False, 2), (8, 1_000_050, 7, "BUY", True, 9),
    ]  # fmt: skip
    bbo = [(row["seq"], row["bid_px"], row["bid_qty"], row["ask_px"], row["ask_qty"]) for row in tables["bbo"].to_pylist()]
    assert bbo == [(4, 1_000_000, 100, 0, 0), (5, 1_000_000, 100, 1_000_100, 50), (6, 1_000_000, 60, 1_000_100, 50),
                   (7, 1_000_000, 60, 1_000_100, 40), (11, 999_900, 30, 1_000_100, 40), (12, 0, 0, 1_000_100, 40),
                   (13, 0, 0, 0, 0)]  # fmt: skip
    assert tables["bbo"].schema.metadata[b"hftd.price_scale"] == b"10000"
    assert [row["ask_orders_1"] for row in tables["depth"].to_pylist()] == [0, 1, 1, 1, 1, 1, 0]


def test_a_run_that_fails_leaves_no_file(tmp_path):
    pytest.importorskip("pyarrow", reason="pyarrow is absent: source scripts/environment research")
    from hftd.feed.files import DataError

    path = tmp_path / "day.itch"
    path.write_bytes(itch.framed(itch.directory(3, "AAPL"), itch.add(3, 1, "B", 100, 1_000_000))[:-3])
    with pytest.raises(DataError):
        exported(ItchFile(path), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_folder_that_cannot_be_written_and_a_missing_pyarrow_are_one_line(tmp_path, monkeypatch):
    from hftd.research.parquet import Export, ExportError, pyarrow

    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "pyarrow", None)
        with pytest.raises(ExportError, match=r"install it with: .*(scripts/environment research|pip install .*\[research\])"):
            pyarrow()
    pytest.importorskip("pyarrow", reason="pyarrow is absent: source scripts/environment research")
    from hftd.core.clock import new_clock

    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="directory"):
        Export(tmp_path / "file", new_clock(), 4, list)
