"""What `hftd bench` prints and returns: verdicts only where they can be had, results kept and compared."""

import json
import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from hftd import bench
from hftd.bench import compare, cores, feed, host, instructions, load, registry
from hftd.bench.registry import BenchError, Benchmark, Row, Samples, Skip
from hftd.cli import main

CALM = {"runnable": 1.0, "runnable_max": 1, "steal": 0.0, "involuntary_switches_per_s": 0.0, "throttled": 0, "busy": []}


def row(name: str = "ring", p50: float = 3.0, budget: float | None = 10.0, spread: float = 0.01) -> Row:
    """A row with an interval of +- spread."""
    return Row(name, "ns", 1000, p50 / 2, p50, p50 * 2, p50 * 3, p50 * 9, budget, None, "about it", low=p50 * (1 - spread),
               high=p50 * (1 + spread), outliers=3)  # fmt: skip


@pytest.fixture
def desk(monkeypatch):
    """`hftd bench` with rows and a machine of the test's making."""
    state = {"rows": [row()], "facts": dict(CALM)}
    monkeypatch.setattr(bench, "run", lambda *_: state["rows"])
    monkeypatch.setattr(host.Watch, "end", lambda self: dict(state["facts"]))
    return state


def test_calm_host_gets_a_verdict(desk, tmp_path, capsys):
    """Figures, interval, outliers, headline; exit code 0."""
    assert main.main(["bench", "ring", "--json", str(tmp_path / "x.json")]) == 0
    said = capsys.readouterr().out
    assert "1 of 1 budgets met" in said and "2.97-3.03" in said and "steal 0.00%" in said
    made = json.loads((tmp_path / "x.json").read_text())
    assert made["host"]["headline"] == "1 of 1 budgets met" and made["host"]["busy"] == []
    assert made["rows"][0]["low"] == pytest.approx(2.97) and made["rows"][0]["outliers"] == 3


def test_missed_budget_is_exit_code_1(desk, capsys):
    """And is said."""
    desk["rows"] = [row(p50=30.0)]
    assert main.main(["bench"]) == 1
    said = capsys.readouterr().out
    assert "MISSED" in said and "0 of 1 budgets met" in said


def test_busy_host_gets_figures_and_no_verdict(desk, tmp_path, capsys):
    """Exit code 3, the reasons, null in the JSON; --busy asks for a verdict all the same."""
    desk["facts"] |= {"busy": ["5 processes want 2 cores"]}
    assert main.main(["bench", "--json", str(tmp_path / "x.json")]) == 3
    said = capsys.readouterr().out
    assert "too busy to measure: 5 processes want 2 cores" in said and "budgets met" not in said and " met " not in said
    made = json.loads((tmp_path / "x.json").read_text())
    assert made["host"]["headline"] is None and made["host"]["busy"] == ["5 processes want 2 cores"]
    assert made["rows"][0]["met"] is None, "it was true, beside no headline"
    assert main.main(["bench", "--busy", "--json", str(tmp_path / "x.json")]) == 0
    assert json.loads((tmp_path / "x.json").read_text())["rows"][0]["met"] is True
    assert "1 of 1 budgets met" in capsys.readouterr().out


@pytest.mark.parametrize(("stat", "switches", "runnable", "said"), [
    ((1000, 5), 0, 2, []),
    ((1000, 20), 0, 2, ["the hypervisor took 2.0% of the time"]),
    ((1000, 0), 1000, 2, ["involuntary switches a second"]),
    ((1000, 0), 0, 9, ["9 processes want 2 cores"]),
])  # fmt: skip
def test_what_busy_means(monkeypatch, stat, switches, runnable, said):
    """More processes than cores, stolen time, involuntary switches: each alone."""
    now = {"ticks": (0, 0), "switches": 0}
    monkeypatch.setattr(host, "_ticks", lambda: now["ticks"])
    monkeypatch.setattr(host, "_switches", lambda: now["switches"])
    monkeypatch.setattr(host, "_throttles", lambda: 0)
    monkeypatch.setattr(host, "_read", lambda path: f"0 0 0 {runnable}/500 1")
    watch = host.Watch()
    watch.cores = 2
    watch.started -= 10.0
    now["ticks"], now["switches"] = stat, switches
    found = watch.end()["busy"]
    assert len(found) == len(said) and all(words in reason for words, reason in zip(said, found))


def test_saved_rows_are_compared_by_their_intervals(desk, tmp_path, capsys):
    """Slower beyond both intervals is exit code 1; within them nothing is claimed."""
    file = tmp_path / "then.json"
    assert main.main(["bench", "--save", str(file)]) == 0
    assert main.main(["bench", "--compare", str(file)]) == 0
    assert "0 of 1 rows slower" in capsys.readouterr().out
    desk["rows"] = [row(p50=3.5)]
    assert main.main(["bench", "--compare", str(file)]) == 1
    assert "slower" in capsys.readouterr().out
    desk["rows"] = [row(p50=3.5, spread=0.2)]
    assert main.main(["bench", "--compare", str(file)]) == 0
    desk["rows"] = [row(p50=2.0)]
    assert main.main(["bench", "--compare", str(file)]) == 0
    assert "faster" in capsys.readouterr().out


def test_rows_of_another_host_say_so(desk, tmp_path, capsys):
    """A ratio of two machines is no regression, and nobody should think so."""
    file = tmp_path / "then.json"
    main.main(["bench", "--save", str(file)])
    made = json.loads(file.read_text())
    made["host"]["cpu"] = "Abacus"
    file.write_text(json.dumps(made))
    main.main(["bench", "--compare", str(file)])
    assert "is of another host (cpu Abacus there" in capsys.readouterr().out


@pytest.mark.parametrize(("key", "value"), [("quick", True), ("data", "day.itch"), ("checked_build", True)])
def test_rows_of_another_kind_of_run_are_not_compared(desk, tmp_path, capsys, key, value):
    """A quick run's figures, another file's messages: a ratio would be taken for the code's."""
    file = tmp_path / "then.json"
    main.main(["bench", "--save", str(file)])
    made = json.loads(file.read_text())
    assert {"quick", "data", "checked_build"} <= set(made["host"])
    made["host"][key] = value
    file.write_text(json.dumps(made))
    assert main.main(["bench", "--compare", str(file)]) == 1
    said = capsys.readouterr()
    assert f"another kind of run ({key} {value} there, no here)" in said.err and "rows slower" not in said.out


def test_rows_of_a_busy_host_say_so(desk, tmp_path, capsys):
    """What was saved without a verdict is no measure of what is faster now."""
    file = tmp_path / "then.json"
    desk["facts"] |= {"busy": ["5 processes want 2 cores"]}
    main.main(["bench", "--save", str(file)])
    desk["facts"] |= {"busy": []}
    main.main(["bench", "--compare", str(file)])
    assert "was saved when the host was too busy to measure: 5 processes want 2 cores" in capsys.readouterr().out


@pytest.mark.parametrize("words", [
    ["load", "--save", "x.json"], ["feed", "--save", "x.json"], ["load", "--compare", "HEAD"], ["instructions", "--json", "x.json"],
    ["load", "ring"],
])  # fmt: skip
def test_what_a_mode_does_not_hear_is_refused(words, capsys):
    """It was passed over in silence: minutes later there was no file."""
    assert main.main(["bench", *words]) == 1
    assert f"not with {words[0]}" in capsys.readouterr().err


@pytest.mark.parametrize(("busy", "ns", "options", "code"), [
    ([], 40.0, [], 0), ([], 140.0, [], 1), (["5 processes want 2 cores"], 140.0, [], 3),
    (["5 processes want 2 cores"], 140.0, ["--busy"], 1),
])  # fmt: skip
def test_market_data_is_judged_where_the_host_can_be_measured(monkeypatch, capsys, busy, ns, options, code):
    """As the components are; and what was missed is said."""
    rows = {}
    for does in ("parse", "parse+book"):
        rows[does] = feed.Row("hftd", does)
        rows[does].ns = rows[does].least = [ns] * 3
    contest = SimpleNamespace(rows=rows, missing=[], beside=[], replay=SimpleNamespace(messages=1000), round=lambda: None)
    contest.rows = SimpleNamespace(values=rows.values, clear=lambda: None)
    monkeypatch.setattr(feed, "Contest", lambda *_: contest)
    monkeypatch.setattr(feed, "synthetic_file", lambda *_: None)
    monkeypatch.setattr(host.Watch, "end", lambda self: {**CALM, "busy": busy})
    assert main.main(["bench", "feed", *options]) == code
    said = capsys.readouterr().out
    assert ("MISSED: parse+book 140 ns a message, budget 100" in said) == (code == 1)
    assert ("too busy to measure: 5 processes" in said) == (code == 3)


def test_a_limit_is_the_median_of_its_own_row():
    """The clock's overhead was left in the limit and taken out of the figure: what came on top looked smaller by it."""
    lab = bench.Lab(quick=True)
    walk = np.random.default_rng(3).integers(900, 1100, 2000)
    lab.once("trips", lambda: {"walk": walk})
    row = registry.row_of(Benchmark("x", lambda lab: None, None, "ns", ""), Samples(walk), lab)
    assert cores._line_limit(lab) == pytest.approx(row.p50, abs=0.01)


def test_file_that_is_no_result_is_one_line(desk, tmp_path, capsys):
    """What it is not."""
    file = tmp_path / "x.json"
    file.write_text("[]")
    assert main.main(["bench", "--compare", str(file)]) == 1
    assert "not a result that `hftd bench --save` wrote" in capsys.readouterr().err


def test_revision_that_is_none_is_one_line():
    """Neither a file nor a commit; nothing is left behind."""
    with pytest.raises(BenchError, match=r"--compare no-such-thing: neither a file nor a commit"):
        compare.with_revision("no-such-thing", ["ring"])
    listed = subprocess.run(["git", "-C", str(compare.ROOT), "worktree", "list"], capture_output=True, text=True).stdout
    assert "hftd-bench-" not in listed


def test_revisions_run_in_turn_and_are_judged_by_pairs(monkeypatch, tmp_path):
    """A B B A …, after one untimed run each; a round in which everything was ten times slower changes nothing."""
    order = []

    def medians(tree, names, options, directory):
        order.append("new" if tree == compare.ROOT else "old")
        if "--quick" in options:
            return {"ring": 1.0}
        slow = 10.0 if len(order) in (5, 6) else 1.0
        return {"ring": slow * (3.3 if order[-1] == "new" else 3.0), "pool": 1.0}

    monkeypatch.setattr(compare, "_medians", medians)
    monkeypatch.setattr(compare, "_worktree", lambda revision, at: __import__("contextlib").nullcontext(tmp_path))
    ring, pool = compare.with_revision("HEAD", [], rounds=4)
    assert order == ["old", "new", "old", "new", "new", "old", "old", "new", "new", "old"]
    assert ring.ratio == pytest.approx(1.1) and ring.verdict == "slower" and pool.verdict == ""


@pytest.mark.parametrize("rounds", [0, 1, 2])
def test_too_few_pairs_are_no_comparison(rounds):
    """One pair has no interval: whatever was 4 per cent slower in it was slower, surely."""
    with pytest.raises(BenchError, match=f"--rounds must be at least 3, was {rounds}"):
        compare.with_revision("HEAD", ["ring"], rounds)


def test_verdict_needs_the_whole_interval():
    """3 per cent either way."""
    assert compare.Change("x", 1, 1, 1.1, 1.04, 1.2).verdict == "slower"
    assert compare.Change("x", 1, 1, 1.1, 1.02, 1.2).verdict == ""
    assert compare.Change("x", 1, 1, 0.9, 0.8, 0.96).verdict == "faster"
    assert compare.Change("x", 1, 1, 0.9, 0.8, 0.98).verdict == ""


# ---------------------------------------------------------------- what fails


@pytest.fixture
def three(monkeypatch):
    """Three benchmarks: the first gives figures, the second is the test's, the third is skipped."""
    made = {"second": lambda lab: Samples(np.ones(10, np.int64))}

    def third(lab):
        raise Skip("needs two cores")

    known = {
        "first": Benchmark("first", lambda lab: Samples(np.arange(1, 500)), None, "ns", ""),
        "second": Benchmark("second", lambda lab: made["second"](lab), 10.0, "ns", "the test's"),
        "third": Benchmark("third", third, None, "ns", ""),
    }
    monkeypatch.setattr(bench, "registered", lambda: known)
    monkeypatch.setattr(registry, "registered", lambda: known)
    monkeypatch.setattr(host.Watch, "end", lambda self: dict(CALM))
    return made


def _wrong(lab):
    raise BenchError("second: 3 of 5 records were right")


def _crash(lab):
    return {}["order"]


@pytest.mark.parametrize(("body", "said"), [
    (_wrong, "second: 3 of 5 records were right"), (_crash, "KeyError: 'order' (test_bench_command.py:"),
])  # fmt: skip
@pytest.mark.parametrize("words", [[], ["--quick"], ["--busy"]], ids=" ".join)
def test_a_benchmark_that_fails_costs_no_other_its_row(three, body, said, words, tmp_path, capsys):
    """The failed row says why, on the screen and in the JSON; the others stand; exit code 1, quick or not."""
    three["second"] = body
    assert main.main(["bench", *words, "--json", str(tmp_path / "x.json")]) == 1
    shown = capsys.readouterr().out
    assert f"FAILED: second: {said}" in shown
    rows = {row["name"]: row for row in json.loads((tmp_path / "x.json").read_text())["rows"]}
    assert rows["first"]["n"] == 499 and not rows["first"]["failed"]
    assert rows["second"]["n"] == 0 and said in rows["second"]["failed"] and rows["second"]["met"] is None
    assert rows["third"]["note"] == "skipped: needs two cores" and not rows["third"]["failed"]


def test_a_busy_host_does_not_hide_a_failure(three, monkeypatch, capsys):
    """Too busy to measure is no excuse for a wrong result."""
    monkeypatch.setattr(host.Watch, "end", lambda self: {**CALM, "busy": ["5 processes want 2 cores"]})
    assert main.main(["bench"]) == 3
    three["second"] = _wrong
    assert main.main(["bench"]) == 1
    assert "No verdict" in capsys.readouterr().out


def point(**changes) -> load.Point:
    """A point that holds 10 M messages/s."""
    facts = {"what": "feed in", "offered": 1e7, "reached": 1e7, "seconds": 0.2, "p50": 1.0, "p99": 2.0, "p999": 3.0, "max": 4.0,
             "utilisation": 0.4, "lost": 0, "turned_away": 0, "proof": "2,000,000 messages in", "stopped": ""}  # fmt: skip
    return load.Point(**{**facts, **changes})


@pytest.mark.parametrize(("changes", "wrong", "short"), [
    ({}, "", ""),
    ({"lost": 7}, "7 lost, or counted as errors: 2,000,000 messages in", ""),
    ({"reached": 7.2e6}, "", "7,200,000/s were reached, 10,000,000 are claimed"),
    ({"utilisation": 0.61}, "", "the core was busy 61% of the time, 50% is claimed"),
    ({"turned_away": 3}, "", "3 orders were turned away"),
    ({"stopped": "core B stopped (9)", "lost": 44}, "", "core B stopped (9), 44 behind when it did"),
])  # fmt: skip
def test_a_claim_says_how_it_was_not_held(changes, wrong, short):
    """What was lost is wrong on any host; what was slow may be the host's."""
    made = load.verdict(point(**changes), 1e7, 0.5, "10 M messages/s")
    assert (made.wrong, made.short, made.held) == (wrong, short, not (wrong or short))
    assert made.text == ("held" if made.held else f"NOT HELD: {wrong or short}")


@pytest.mark.parametrize(("words", "verdicts", "code"), [
    (["--quick"], {}, 0), (["--quick"], {"reached": 9e4}, 3), (["--quick"], {"lost": 7}, 1),
    (["--busy"], {"reached": 9e4}, 1), (["--busy"], {"lost": 7}, 1), (["--busy"], {}, 0),
])  # fmt: skip
def test_load_says_what_failed_and_ends_with_it(monkeypatch, capsys, tmp_path, words, verdicts, code):
    """NOT HELD is never exit code 0; a claim that cannot be run costs no other its line."""
    monkeypatch.setattr(load, "curve", lambda what, *_: [point(what=what)])
    monkeypatch.setattr(load, "_hold", lambda what, rate, seconds: point(what=what, offered=rate, reached=rate)
                        if what != "orders out" else point(what=what, **{"reached": rate, **verdicts}))  # fmt: skip
    monkeypatch.setattr(host.Watch, "end", lambda self: dict(CALM))
    assert main.main(["bench", "load", *words, "--json", str(tmp_path / "x.json")]) == code
    said = capsys.readouterr().out
    assert ("NOT HELD: " in said) is (code != 0)
    claims = json.loads((tmp_path / "x.json").read_text())["claims"]
    assert [one["held"] for one in claims] == [True, True, True, code == 0] and bool(claims[3]["why"]) is (code != 0)


def test_load_that_cannot_be_run_keeps_what_could(monkeypatch, capsys, tmp_path):
    """A curve and a claim fail: each says why; the others are there."""
    def curve(what, *_):
        if what == "book updates":
            raise BenchError("the process on the other core failed (2)")
        return [point(what=what)]

    def hold(what, rate, seconds):
        if what == "book updates":
            raise ValueError("no room")
        return point(what=what, offered=rate, reached=rate)

    monkeypatch.setattr(load, "curve", curve)
    monkeypatch.setattr(load, "_hold", hold)
    monkeypatch.setattr(host.Watch, "end", lambda self: dict(CALM))
    assert main.main(["bench", "load", "--quick", "--json", str(tmp_path / "x.json")]) == 1
    said = capsys.readouterr().out
    assert "book updates: FAILED: the process on the other core failed (2)" in said
    assert "NOT HELD: ValueError: no room (test_bench_command.py:" in said and "feed in: 10,000,000/s sustained" in said
    made = json.loads((tmp_path / "x.json").read_text())
    assert made["failed"] == {"book updates": "the process on the other core failed (2)"} and len(made["claims"]) == 4


@pytest.mark.parametrize(("change", "said", "code"), [
    ({}, "", 0),
    ({"instructions": {"ring": 60.0}}, "FAILED: ring: 46 instructions became 60, +30.4%", 1),
    ({"calls": {"ring": 2}}, "FAILED: ring: 0 places that call became 2", 1),
    ({"instructions": {}}, "FAILED: ring: was not counted", 1),
])  # fmt: skip
def test_instructions_that_grew_are_named(monkeypatch, capsys, change, said, code):
    """Which component, from what to what; exit code 1."""
    kept = instructions.Count({"ring": 46.0}, {"ring": 0}, instructions.toolchain())
    monkeypatch.setattr(instructions, "load", lambda: kept)
    monkeypatch.setattr(instructions, "count", lambda progress: instructions.Count(**{**vars(kept), **change}))
    assert main.main(["bench", "instructions"]) == code
    assert said in capsys.readouterr().out


def test_instructions_of_another_compiler_are_no_success(monkeypatch, capsys):
    """Nothing was compared: exit code 3, and which compiler it was."""
    kept = instructions.Count({"ring": 46.0}, {"ring": 0}, {**instructions.toolchain(), "numba": "0.1"})
    monkeypatch.setattr(instructions, "load", lambda: kept)
    monkeypatch.setattr(instructions, "count", lambda progress: kept)
    assert main.main(["bench", "instructions"]) == 3
    assert "nothing was compared" in capsys.readouterr().out


def test_instructions_that_cannot_be_counted_say_why(monkeypatch, capsys):
    """The command, its exit code and its own words."""
    monkeypatch.setattr(instructions, "valgrind", lambda: "/bin/false")
    monkeypatch.setattr(instructions.sys, "executable", "/bin/false")
    assert main.main(["bench", "instructions"]) == 1
    assert "/bin/false -m hftd.bench.counted ended with 1" in capsys.readouterr().err


TOLD = """
import os, signal, sys, tempfile
from hftd import bench
from hftd.cli.main import main

signal.signal(signal.SIGTERM, signal.SIG_DFL)


def run(*_):
    with tempfile.TemporaryDirectory(prefix="hftd-bench-"):
        os.kill(os.getpid(), signal.SIGTERM)


bench.run = run
sys.exit(main(["bench", "ring"]))
"""


def test_sigterm_leaves_no_directory(tmp_path):
    """It ended the process where it was, and what it had made stayed in /tmp."""
    ran = subprocess.run([sys.executable, "-c", TOLD], env={**os.environ, "TMPDIR": str(tmp_path)}, capture_output=True,
                         text=True, timeout=120)  # fmt: skip
    assert ran.returncode == 128 + signal.SIGTERM, ran.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("arguments", "code", "said"), [
    (("--json", "no-such-folder/x.json"), 1, "--json no-such-folder/x.json: give a file in a directory that exists"),
    (("--save", "."), 1, "--save .: give a file in a directory that exists"),
    (("load", "--json", "no-such-folder/x.json"), 1, "give a file in a directory that exists"),
    (("load", "--seconds", "-1"), 2, "must be above 0, was -1"), (("load", "--seconds", "nan"), 2, "must be a number"),
    (("feed", "--rounds", "0"), 2, "must be at least 1, was 0"), (("ring", "--compare", "/"), 1, "neither a file nor a commit"),
])  # fmt: skip
def test_what_cannot_be_is_said_before_anything_is_measured(arguments, code, said, monkeypatch, tmp_path, capsys):
    """Minutes of measuring ended in a traceback, and the result was lost."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bench, "run", lambda *_: pytest.fail("was measured"))
    try:
        assert main.main(["bench", *arguments]) == code
    except SystemExit as refused:
        assert refused.code == code
    assert said in capsys.readouterr().err
