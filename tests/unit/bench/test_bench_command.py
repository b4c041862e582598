"""What `hftd bench` prints and returns: verdicts only where they can be had, results kept and compared."""

import json
import subprocess

import pytest

from hftd import bench
from hftd.bench import compare, host
from hftd.bench.registry import BenchError, Row
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
    assert main.main(["bench", "--busy"]) == 0
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


def test_verdict_needs_the_whole_interval():
    """3 per cent either way."""
    assert compare.Change("x", 1, 1, 1.1, 1.04, 1.2).verdict == "slower"
    assert compare.Change("x", 1, 1, 1.1, 1.02, 1.2).verdict == ""
    assert compare.Change("x", 1, 1, 0.9, 0.8, 0.96).verdict == "faster"
    assert compare.Change("x", 1, 1, 0.9, 0.8, 0.98).verdict == ""
