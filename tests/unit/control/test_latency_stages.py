"""`hftd latency`: percentiles and differences of histograms, budgets, the line of blocks and the picture."""

import json
import xml.etree.ElementTree as ElementTree
from types import SimpleNamespace

import numpy as np
import pytest

from hftd.cli import latency as command
from hftd.cli import main
from hftd.control import latency
from hftd.core.memory import records
from hftd.shm.histogram import histogram_dtype, percentiles, record_value

HZ = 2_600_000_000
LABELS = ("feed", "strategy", "tick_to_trade", "answer")


def block(**values: list[int]) -> np.ndarray:
    """Histograms of LABELS with these values, in ticks."""
    made = records(histogram_dtype, len(LABELS))
    for number, label in enumerate(LABELS):
        for value in values.get(label, []):
            record_value(made[number], made.ctypes.data + number * histogram_dtype.itemsize, value)
    return made


def test_percentiles_are_those_of_the_histogram():
    """Against shm/histogram.py's own, and against sorted values within a bucket's width."""
    values = np.random.default_rng(3).lognormal(8, 1.5, 5000).astype(np.int64)
    made = block(feed=list(values))
    one = latency.read(made, LABELS, HZ)[0]
    assert one.count == 5000
    for percent, wanted in zip(latency.POINTS, percentiles(made[0], latency.POINTS)):
        assert one.at(percent) == pytest.approx(wanted * 1e9 / HZ)
        assert one.at(percent) == pytest.approx(np.sort(values)[int(np.ceil(50 * percent)) - 1] * 1e9 / HZ, rel=0.002)
    assert one.as_dict()["max"] == pytest.approx(values.max() * 1e9 / HZ, abs=0.1)
    assert one.as_dict()["mean"] == pytest.approx(values.mean() * 1e9 / HZ, rel=0.001)


def test_what_came_between_two_looks_is_the_difference():
    """Old values do not hide new ones; a daemon that was started anew begins at zero."""
    made = block(feed=[100] * 1000)
    before = latency.read(made, LABELS, HZ)
    for _ in range(10):
        record_value(made[0], made.ctypes.data, 50_000)
    after = latency.read(made, LABELS, HZ)
    new = latency.since(after, before)[0]
    assert new.count == 10
    assert new.at(50) == pytest.approx(50_000 * 1e9 / HZ, rel=0.001)
    assert after[0].at(50) == pytest.approx(100 * 1e9 / HZ)
    assert latency.since(before, after)[0] is before[0]
    assert latency.since(after, after)[0].count == 0 and latency.since(after, after)[0].at(99) == 0


@pytest.mark.parametrize(("values", "met"), [
    ([1300] * 100, True), ([1820] * 100, False), ([1300] * 95 + [23400] * 5, False), ([], None),
])  # fmt: skip
def test_budget_is_of_the_median_and_of_the_tail_where_it_has_one(values, met):
    """tick_to_trade: 600 ns, and 2 us for 99 of 100."""
    assert latency.read(block(tick_to_trade=values), LABELS, HZ)[2].met is met


def test_stage_without_a_budget_is_not_judged():
    """The system call and the venue are not ours."""
    assert latency.read(block(answer=[10**9]), LABELS, HZ)[3].met is None


def test_every_stage_of_the_gateway_is_known():
    """A histogram that comes must say what it is made of."""
    from hftd.gateway.memory import HISTOGRAMS

    assert set(HISTOGRAMS) <= set(latency.STAGES)


def test_bins_keep_every_value():
    """What lies outside the axis counts at its ends."""
    one = latency.read(block(feed=[1, 100, 2600, 26_000_000, 0]), LABELS, HZ)[0]
    assert one.bins(10.0, 1e6, 50).sum() == 5
    assert one.bins(10.0, 1e6, 50)[0] == 2 and one.bins(10.0, 1e6, 50)[-1] == 1
    line = latency.sparkline(one, 10.0, 1e6, 50)
    assert len(line) == 50 and line[0] == "█" and line.count(" ") == 46


def test_picture_is_an_svg_with_a_panel_for_each_stage_that_counted():
    """Well-formed; bars hold every order, times lie on the axis; the budget is drawn where there is one."""
    made = latency.read(block(feed=[500, 900, 90_000], answer=[10**6] * 5), LABELS, HZ)
    text = latency.svg(made, "a < b & c", "layout dedicated")
    root = ElementTree.fromstring(text)
    texts = ["".join(node.itertext()) for node in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"feed", "answer", "a < b & c", "3 orders", "5 orders"} <= set(texts)
    assert "strategy" not in texts
    svg = "{http://www.w3.org/2000/svg}"
    bars = [node for node in root.iter(f"{svg}rect") if node.find(f"{svg}title") is not None]
    assert sum(int("".join(node.itertext())) for node in bars) == 8
    assert all(latency.LEFT <= float(node.get("x")) <= latency.WIDTH - latency.RIGHT for node in bars)
    dashed = [node for node in root.iter("{http://www.w3.org/2000/svg}line") if node.get("stroke-dasharray")]
    assert len(dashed) == 1


def test_send_counts_calls_and_no_orders():
    """Several orders share one: three orders in two calls were `2 orders`."""
    made = block(feed=[500] * 3, answer=[900] * 2)
    text = latency.svg(latency.read(made, ("feed", "", "", "send"), HZ), "t")
    assert ">3 orders<" in text and ">2 calls<" in text and "2 orders" not in text


def test_picture_of_nothing_says_so():
    """No order yet: no division by nothing."""
    text = latency.svg(latency.read(block(), LABELS, HZ), "t")
    assert "no order was sent yet" in text
    ElementTree.fromstring(text)


@pytest.mark.parametrize(("value", "words"), [(0, "0 ns"), (12.4, "12.4 ns"), (1500, "1.5 us"), (2.5e7, "25 ms"), (3e9, "3 s")])
def test_durations(value, words):
    """Three digits and the unit."""
    assert latency.duration(value) == words


SLOW = {
    "id": "0-7-3", "symbol": "AAA", "kind": "NEW", "utc_ns": 1, "total_ns": 81_000, "cause": "SWITCHED", "text": "lost its core",
    "stages_ns": {"feed": 300, "strategy": 400, "risk": 79_000, "gateway": 1300, "send": 0}, "stage": "risk", "role": "risk",
    "overlap_ns": 78_000, "work": 0,
}  # fmt: skip
BESIDE = {
    "arrival": {"stamps": "tsc", "text": "the return of the receive call", "exact": False, "receives": 5, "p50": 300.0,
                "p99": 900.0, "p99.9": 900.0, "p99.99": 900.0, "max": 950.0},
    "stamping_ns": 61,
    "pauses": [{"agent": "risk", "threshold_ns": 10_000, "longest_ns": 2_000_000, "seconds": 10.0,
                "stood": 0.01,
                "kinds": {"turn": {"count": 1234, "ns": 100_000_000}}}],
    "slow": {"count": 17, "looked_for": 16, "worst": [SLOW], "newest": [SLOW]},
}  # fmt: skip


@pytest.fixture
def daemon(monkeypatch):
    """What the command reads, without a daemon."""
    made = block(feed=[500] * 20, strategy=[1300] * 20, tick_to_trade=[5200] * 20)
    monkeypatch.setattr(command, "_look", lambda _: ("desk, layout dedicated", latency.read(made, LABELS, HZ), BESIDE))
    return made


def test_command_prints_stages_and_draws(daemon, tmp_path, capsys):
    """The table with verdicts, the blocks, the file."""
    file = tmp_path / "latency.svg"
    assert main.main(["latency", "--plot", str(file)]) == 0
    said = capsys.readouterr().out
    assert "met" in said and "MISSED" in said and "p99.99" in said
    assert "█" in said and f"{file}: written" in said.replace("\n", "")
    ElementTree.fromstring(file.read_text())


def test_command_names_pauses_and_causes(daemon, capsys):
    """From when it is measured, what that costs, who paused how much, and why an order was slow."""
    assert main.main(["latency"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    for words in ("measured from the return of the receive call", "had waited at most p50 300 ns", "takes 61 ns an order",
                  "turn 1,234 (100 ms)", "1.00%", "the slowest of 17 slow orders", "0-7-3", "SWITCHED of risk", "81 us", "79 us",
                  "SWITCHED: lost its core"):  # fmt: skip
        assert words in said


def test_command_gives_json(daemon, capsys):
    """Everything, in ns."""
    assert main.main(["latency", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    stages = {row["stage"]: row for row in said["stages"]}
    assert stages["feed"]["count"] == 20 and stages["feed"]["p50"] == pytest.approx(192.3, abs=0.5)
    assert {name: said[name] for name in BESIDE} == BESIDE
    assert stages["feed"]["met"] is True and stages["tick_to_trade"]["met"] is False and stages["answer"]["met"] is None


def test_picture_that_cannot_be_written_is_one_line(daemon, tmp_path, capsys):
    """The folder is missing: what and where."""
    assert main.main(["latency", "--plot", str(tmp_path / "no" / "x.svg")]) == 1
    assert capsys.readouterr().err == f"hftd: {tmp_path}/no/x.svg: No such file or directory\n"


def test_watching_shows_what_is_new(daemon, monkeypatch, capsys):
    """The second look counts only what came after the first."""
    looks = []

    def wait(seconds):
        looks.append(seconds)
        if len(looks) == 2:
            raise KeyboardInterrupt
        for _ in range(7):
            record_value(daemon[0], daemon.ctypes.data, 100)

    monkeypatch.setattr(command, "time", SimpleNamespace(sleep=wait, strftime=lambda text: ""))
    assert main.main(["latency", "--json", "--watch", "0.5"]) == 130
    first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert [row["count"] for row in first["stages"]] == [20, 20, 20, 0]
    assert [row["count"] for row in second["stages"]] == [7, 0, 0, 0]
    assert (first["since_start"], second["since_start"], looks) == (True, False, [0.5, 0.5])
