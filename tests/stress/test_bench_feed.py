"""`hftd bench feed --quick`: hftd beside the packages that are installed and beside any program, with sizes and stores."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hftd.bench import feed, rivals
from hftd.bench.registry import BenchError
from hftd.core.jit import INTERPRETED
from hftd.venues.nasdaq.itch50 import unframed

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = "import sys; assert open(sys.argv[1], 'rb').read(1) and int(sys.argv[2]) > 1; print('a walk   min  1.5  med  2.5  max 9')"

pytestmark = pytest.mark.skipif(INTERPRETED, reason="speed is the point")


def bench(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "hftd", "bench", "feed", "--quick", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)


@pytest.fixture(scope="module")
def day(tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("day") / "day.itch"
    feed.synthetic_file(made, 3000, 4, 20)
    return made


@pytest.mark.timeout(300)
def test_everybody_takes_turns_and_each_has_a_row(tmp_path, day):
    pytest.importorskip("itchcpp", reason="itchcpp is absent: source scripts/environment test")
    told = tmp_path / "feed.json"
    beside = f'{sys.executable} -c "{PROGRAM}" {{file}} {{refs}}'
    child = bench("--data", str(day), "--json", str(told), "--stores", "--beside", beside)
    assert child.returncode == 0, child.stderr[-3000:]
    made = json.loads(told.read_text())
    rows = {(row["name"], row["does"]): row for row in made["rows"]}
    wanted = {("hftd", "parse"), ("hftd", "parse+book"), ("a walk", "as it says"), ("itchcpp BookManager", "parse+book")}
    assert wanted <= set(rows) and {rival.name for rival in rivals.RIVALS} <= {name for name, _ in rows}
    assert all(0 < row["min_ns"] <= row["p50_ns"] and row["rounds"] == 2 for row in made["rows"])
    assert (rows["a walk", "as it says"]["min_ns"], rows["a walk", "as it says"]["p50_ns"]) == (1.5, 2.5)
    assert [row["store"] for row in made["stores"] if row["ns"] > 0] == ["chained", "open", "direct", "pages"]
    assert "times hftd" in child.stdout and "not to be believed" in child.stdout


@pytest.mark.timeout(300)
def test_the_cost_is_shown_as_orders_and_instruments_grow_and_in_packets():
    sizes = feed.scale(lambda text: None, quick=True)
    assert [row["grows"] for row in sizes] == ["live orders", "instruments", "instruments", "packet", "packet"]
    assert [row["instruments"] for row in sizes[1:3]] == [1, 10] and [row["packet"] for row in sizes] == [0, 0, 0, 1, 3]
    assert all(row["ns"] > 0 and row["live_orders"] > 5000 for row in sizes)


def test_a_program_that_says_nothing_or_fails_is_an_error(day):
    for text, words in ((f"{sys.executable} -c pass", "printed no line"), ("/no/such/program {file}", "No such file")):
        with pytest.raises(BenchError, match=words):
            feed.Contest(day, [text]).round()


def test_another_result_is_an_error_and_no_figure(day):
    contest = feed.Contest(day, [])
    contest.rivals = []
    contest.round()
    at = contest.raw.index(b"S1      ", contest.raw.index(b"\x00\x24A"))
    contest.replay.data[at - 1] ^= 1                  # the shares of an order
    with pytest.raises(BenchError, match="did not give the same"):
        contest.round()


def test_a_rival_written_in_python_gets_whole_messages(day):
    raw = day.read_bytes()
    some = rivals.first(raw, 10)
    assert len(list(unframed(some))) == 10 and raw.startswith(some)
    assert rivals.first(raw, 10**9) == raw
