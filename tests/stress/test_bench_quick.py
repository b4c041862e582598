"""`hftd bench --quick`: every benchmark runs, checks its result and gives a row; a wrong result is an error, never a figure."""

import json
import mmap
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from hftd import bench
from hftd.bench import core, cores, flow, load, market, path, registry, warm
from hftd.core.jit import INTERPRETED

ROOT = Path(__file__).resolve().parents[2]
FIELDS = {"name", "unit", "n", "min", "p50", "p99", "p999", "max", "budget", "limit", "low", "high", "outliers"}
BUDGETS = {"ring": 10, "pool": 50, "parse": 50, "book": 100, "packet": 200, "strategy": 500, "order": 300, "position": 100,
           "limits": 50, "risk": 200, "submission": 1000, "tick_to_trade": 600, "tick_to_order": 100, "two_cores": 600,
           "encode": 10}  # fmt: skip

pytestmark = pytest.mark.skipif(INTERPRETED, reason="speed is the point")


def _bench(*arguments: str, timeout: int = 280) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "hftd", "bench", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout)


@pytest.mark.timeout(300)
def test_every_benchmark_runs_and_gives_its_rows(tmp_path):
    """All names, with the fields that were promised, the budgets of the mission, and the state of the machine."""
    child = _bench("--quick", "--json", str(tmp_path / "bench.json"))
    assert child.returncode == 0, child.stderr[-3000:]
    made = json.loads((tmp_path / "bench.json").read_text())
    rows = {row["name"]: row for row in made["rows"]}
    single = set(bench.names()) - {"line", "strategies", "stamps", "warm"}
    assert single <= set(rows) and {"line_one", "line_two"} <= set(rows)
    assert any(name.startswith("strategies: ") for name in rows)
    for row in made["rows"]:
        assert set(row) >= FIELDS and row["unit"] == "ns"
        skipped = row["note"].startswith("skipped: ")
        assert skipped or row["low"] <= row["p50"] <= row["high"], row
        assert skipped or (row["n"] > 0 and 0 <= row["min"] <= row["p50"] <= row["p99"] <= row["p999"] <= row["max"]), row
    assert {name: rows[name]["budget"] for name in BUDGETS} == BUDGETS
    if len(os.sched_getaffinity(0)) > 1:
        assert rows["ring_stream"]["limit"] > 0 and rows["ring_round_trip"]["limit"] > 0
    assert rows["submission"]["limit"] > 0
    assert made["host"]["clock_overhead_ns"] > 0 and made["host"]["headline"]
    assert {"steal", "involuntary_switches_per_s", "throttled", "runnable", "busy"} <= set(made["host"])
    assert {"cpu", "cores", "governor", "isolated", "huge_pages", "tsc_invariant", "load_before", "load_after"} <= set(made["host"])
    assert "tick_to_trade" in child.stdout and "TSC" in child.stdout


@pytest.mark.timeout(300)
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="load needs two cores")
def test_load_sweeps_and_counts(tmp_path):
    """Three curves and the four claims, each with its proof; the feed alone loses nothing whatever the machine does."""
    child = _bench("load", "--quick", "--json", str(tmp_path / "load.json"))
    made = json.loads((tmp_path / "load.json").read_text())
    held = all(one["held"] for one in made["claims"])
    assert child.returncode == (0 if held else 3), child.stdout[-3000:] + child.stderr[-3000:]
    assert held or "NOT HELD: " in child.stdout
    assert set(made["curves"]) == {"feed in", "book updates", "orders out"} and all(made["curves"].values())
    assert len(made["claims"]) == 4
    for point in [*made["claims"], *(point for points in made["curves"].values() for point in points)]:
        assert point["reached"] > 0 and point["p50"] <= point["p99"] <= point["p999"] and "messages in" in point["proof"]
        if point["what"] == "feed in":
            assert point["lost"] == 0 and "18 error counters at 0" in point["proof"]
        else:
            assert point["lost"] == 0 or point["stopped"], point


def test_orders_of_a_load_have_whole_ticks():
    """At 227,812.5 orders a second a bid went without its deletion, and its order was told as lost."""
    assert load.messages_of(227_812.5, 1.0, 2) == 455_624
    assert load.messages_of(0.0, 1.0, 1) == 20_000_000


def test_the_packets_of_a_load_are_a_closed_cycle():
    """Twice through them the books are empty twice, and no counter of error moves."""
    from hftd.bench.load import Bench

    with tempfile.TemporaryDirectory() as directory:
        made = Bench("feed in", directory)
        try:
            messages = int(made.table[:, 2].sum())
            points = made.sweep(lambda last: None if last else (0.0, 2 * messages / 20e6))
            assert points[0].lost == 0 and points[0].proof.startswith(f"{2 * messages:,} messages in")
            assert int(made.load["at"]) == 0
            assert not any(int(row["bid_px"]) or int(row["ask_px"]) for row in made.rig.memory["market"]["quotes"])
        finally:
            made.close()


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_the_feed_of_a_load_meets_no_page_fault_in_its_packets(monkeypatch):
    """It numbers each packet as it goes: in a forked child a whole lap of them was copied, page by page, at the lowest rate."""
    kept, run = np.frombuffer(mmap.mmap(-1, 4096), np.int64), load.feed_at_rate

    def counted(feed, loaded):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        run(feed, loaded)
        kept[0] += resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
        kept[1] += int(loaded["sent"])

    with tempfile.TemporaryDirectory() as directory:
        made = load.Bench("book updates", directory)
        try:
            messages = int(made.table[:, 2].sum())
            monkeypatch.setattr(load, "feed_at_rate", counted)
            made.sweep(lambda last: None if last else (2e5, messages / 2e5))
            pages = len(made.packets) // mmap.PAGESIZE
        finally:
            made.close()
    assert kept[1] >= messages * 0.99
    assert kept[0] < pages // 10, f"{kept[0]} page faults, {pages} pages of packets"


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
@pytest.mark.parametrize(("what", "counted"), [("book updates", "taken"), ("orders out", "enters")])
def test_each_event_and_order_of_a_load_is_a_sample(what, counted, tmp_path):
    """Once a turn was one: a stall's thousand orders, taken 64 at a time, were sixteen samples among thousands."""
    made = load.Bench(what, str(tmp_path))
    try:
        made.sweep(lambda last: None if last else (1e5, 0.05))
        grown = made._counts()[counted] - made.before[counted]
        assert grown > 0 and int(made.histograms[1]["count"]) == grown
    finally:
        made.close()


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_the_first_lap_between_two_cores_is_not_counted(monkeypatch):
    """There both sides meet a page fault at every page, and one waits for the other to be started."""
    kept = []
    monkeypatch.setattr(cores, "room_for", lambda *shape: kept.append(registry.room_for(*shape)) or kept[-1])
    lab = bench.Lab(quick=True)
    for run, samples, lap in (
        (lambda: cores._line_trips(200, 1, 64 * cores.WALK, cores.WALK), 200, cores.WALK),
        (lambda: cores._ring_trips(200), 200, cores.WALK),
        (lambda: cores._bare_stream(lab, cores.GATHER), 2, 1),
        (lambda: cores._stream(lab, cores._take_gathered), 40, cores.STREAM // cores.PER),
        (lambda: cores._stream(lab, cores._take_each), 40, cores.STREAM // cores.PER),
    ):
        made = run()
        assert len(made) == samples and made.min() > 0
        assert made.ctypes.data - kept[-1].ctypes.data == 8 * lap


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_the_silence_before_a_warm_tick_is_as_long_as_it_says(tmp_path):
    """By the packets' own stamps: it was over before it began, and all of 1 ms, 100 ms and 10 s were the same 22 ms."""
    stand = warm.Stand(str(tmp_path))
    try:
        hz = int(stand.control["clock"][0]["hz"])
        for seconds in (0.3, 0.0, 0.3):
            quiet, fed, whole = stand.tick(seconds, False)
            assert quiet >= seconds * hz * 0.999 and 0 < fed < whole
    finally:
        stand.close()


def test_orders_and_bare_sends_take_turns(monkeypatch):
    """One after the other a machine that got slower in between made `submission` meet its budget, or miss it, by accident."""
    order = []
    for name in ("_run", "_sends"):
        made = getattr(path, name)
        monkeypatch.setattr(path, name, lambda *words, name=name, made=made: order.append(name) or made(*words))
    found = path.path_samples(bench.Lab(quick=True))
    assert order[:2] == ["_run", "_sends"] and order[2:] == ["_run", "_sends"] * path.ROUNDS
    assert len(found["samples"]) == 100 * path.ROUNDS and found["send"] > 0


def test_an_unknown_name_is_one_line():
    """It says which there are."""
    child = _bench("rings")
    assert child.returncode != 0 and "no benchmark is called rings; there are cycle" in child.stderr
    assert len(child.stderr.strip().splitlines()) == 1


def test_wrong_books_are_an_error_and_not_a_figure():
    """One share more than the generator's own book has, and the benchmark refuses."""
    lab = bench.Lab(quick=True)
    file = lab.once("file", lambda: market._File(lab))
    at = next(i for i, best in enumerate(file.flow.best) if best[0])
    bid, shares, ask, other = file.flow.best[at]
    file.flow.best[at] = (bid, shares + 1, ask, other)
    with pytest.raises(bench.BenchError, match=r"book: BEN. ends at"):
        market.book(lab)


def test_the_row_of_the_books_says_how_full_they_were():
    """Some thousand orders lie in the caches, a day's million do not: a figure without it says little."""
    lab = bench.Lab(quick=True)
    row = market.book(lab)
    counted = lab.once("file", lambda: None).replay.build.counters
    assert int(counted["orders_peak"]) > 0 and f"at most {int(counted['orders_peak']):,} orders live" in row.note


def test_a_lost_record_is_an_error_and_not_a_figure(monkeypatch):
    """The ring's benchmark counts what came out."""
    monkeypatch.setattr(core, "measure", lambda *_: np.zeros(10, np.int64))
    with pytest.raises(bench.BenchError, match="ring: 0 of"):
        core.ring_same_core(bench.Lab(quick=True))


def test_a_budget_is_judged_by_the_median_and_beyond_a_system_call_by_the_rest():
    """Met, missed, none, and beyond the limit."""
    lab = bench.Lab(quick=True)
    item = registry.Benchmark("x", lambda lab: None, 100.0, "ns", "")
    ticks = np.full(100, 150 / lab.ns_per_tick + lab.overhead)
    ticks[-1] *= 1000
    assert registry.row_of(item, bench.Samples(ticks), lab).met is False
    assert registry.row_of(item, bench.Samples(ticks, per=2), lab).met is True
    assert registry.row_of(item, bench.Samples(ticks, limit=80.0, beyond=True), lab).met is True
    assert registry.row_of(item, bench.Samples(ticks, limit=20.0, beyond=True), lab).met is False
    assert registry.row_of(registry.Benchmark("y", lambda lab: None, None, "ns", ""), bench.Samples(ticks), lab).met is None


def test_the_flow_of_a_seed_is_always_the_same_and_sound():
    """Same bytes for the same seed; framing adds up; books are not crossed."""
    one, two, other = flow.make_flow(3000, 5), flow.make_flow(3000, 5), flow.make_flow(3000, 6)
    assert one.data == two.data != other.data
    at = count = 0
    while at < len(one.data):
        at += 2 + int.from_bytes(one.data[at : at + 2], "big")
        count += 1
    assert (at, count) == (len(one.data), one.messages) == (len(one.data), 3000)
    assert all(not bid or not ask or bid < ask for bid, _, ask, _ in one.best)
