"""`hftd bench --compare`: did it get slower? Against another commit, interleaved; or against rows that were saved.

    --compare REV     a worktree of that commit for the time of the comparison; both run in processes of their own, round by round,
                      in the order A B B A, so that what the machine does to one it does to the other; judged by the ratios of pairs
    --compare FILE    rows saved with --save: another time, and perhaps another machine (which is said), so judged by the intervals

A row is slower where the whole interval of the ratio lies above 1 + TOLERANCE, faster where it lies below 1 / (1 + TOLERANCE).
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hftd.bench.registry import BenchError
from hftd.bench.statistics import paired_ratio

ROOT = Path(__file__).resolve().parents[2]
ROUNDS, LEAST_ROUNDS = 5, 3
TOLERANCE = 0.03
SAME_HOST = ("cpu", "cores_of_machine", "isolated", "governor", "kernel", "huge_pages")
"""What must be equal for saved rows to be of the same host."""

SAME_RUN = ("quick", "data", "checked_build")
"""What must be equal for them to be of the same thing."""


@dataclass(frozen=True)
class Change:
    """One row of a comparison: medians in ns, ratio after / before with its interval."""

    name: str
    before: float
    after: float
    ratio: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """slower, faster, or "" where the interval does not tell."""
        if self.low > 1 + TOLERANCE:
            return "slower"
        return "faster" if self.high < 1 / (1 + TOLERANCE) else ""


def with_file(rows: list[dict[str, Any]], host: dict[str, Any], file: Path) -> tuple[list[Change], list[str]]:
    """Compare rows with saved ones. Returns the changes, and sentences that say why to doubt them: another host, a busy one.

    Raises BenchError where the file is not one that --save wrote, or is of another kind of run.
    """
    try:
        saved = json.loads(file.read_text())
        old = {row["name"]: row for row in saved["rows"]}
        then = saved["host"]
        differ = [f"{key} {then.get(key)} there, {host.get(key)} here" for key in SAME_HOST if then.get(key) != host.get(key)]
        other = [f"{key} {then.get(key) or 'no'} there, {host.get(key) or 'no'} here" for key in SAME_RUN
                 if (then.get(key) or "") != (host.get(key) or "")]  # fmt: skip
        changes = [_intervals(row["name"], old[row["name"]], row) for row in rows
                   if row["name"] in old and row["n"] and old[row["name"]]["n"]]  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BenchError(f"{file}: not a result that `hftd bench --save` wrote ({error})") from None
    if other:
        raise BenchError(f"{file} is of another kind of run ({', '.join(other)}): nothing is compared")
    doubts = [f"is of another host ({', '.join(differ)}): the ratios compare machines, too"] if differ else []
    if then.get("busy"):
        doubts.append(f"was saved when the host was too busy to measure: {'; '.join(then['busy'])}")
    return changes, doubts


def _intervals(name: str, old: dict[str, Any], new: dict[str, Any]) -> Change:
    floor = 1e-3                                  # a median may be 0.0 after the clock's overhead
    before, after = max(old["p50"], floor), max(new["p50"], floor)
    low, high = max(new.get("low") or after, floor), max(new.get("high") or after, floor)
    old_low, old_high = max(old.get("low") or before, floor), max(old.get("high") or before, floor)
    return Change(name, before, after, after / before, low / old_high, high / old_low)


def with_revision(revision: str, names: list[str], rounds: int = ROUNDS, options: tuple[str, ...] = (),
                  progress: Callable[[str], None] = lambda text: None) -> list[Change]:  # fmt: skip
    """Run this tree and `revision` in turn. Raises BenchError where there is no checkout, no such revision, or a run failed."""
    if rounds < LEAST_ROUNDS:
        raise BenchError(f"--compare {revision}: --rounds must be at least {LEAST_ROUNDS}, was {rounds}: else there is no interval")
    with tempfile.TemporaryDirectory(prefix="hftd-bench-") as directory, _worktree(revision, Path(directory) / "tree") as other:
        trees = {"before": other, "after": ROOT}
        medians: dict[str, list[dict[str, float]]] = {"before": [], "after": []}
        for tree in trees:
            progress(f"{tree}: compiling")
            _medians(trees[tree], names, ("--quick", *options), Path(directory))
        for turn in range(rounds):
            for tree in ("before", "after") if turn % 2 == 0 else ("after", "before"):
                progress(f"round {turn + 1} of {rounds}: {revision if tree == 'before' else 'this tree'}")
                medians[tree].append(_medians(trees[tree], names, options, Path(directory)))
    common = [name for name in medians["after"][0] if all(name in one for tree in medians.values() for one in tree)]
    if not common:
        raise BenchError(f"{revision} and this tree have no benchmark in common")
    changes = []
    for name in common:
        before, after = (np.maximum([one[name] for one in medians[tree]], 1e-3) for tree in ("before", "after"))
        changes.append(Change(name, float(np.median(before)), float(np.median(after)), *paired_ratio(before, after)))
    return changes


@contextlib.contextmanager
def _worktree(revision: str, at: Path) -> Iterator[Path]:
    git = ["git", "-C", str(ROOT)]
    try:
        subprocess.run([*git, "worktree", "add", "--detach", str(at), revision], check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise BenchError("--compare REV needs git; on Debian: apt-get install git") from None
    except subprocess.CalledProcessError as error:
        what = (error.stderr.strip().splitlines() or ["git failed"])[-1]
        raise BenchError(f"--compare {revision}: neither a file nor a commit of {ROOT} ({what})") from None
    try:
        yield at
    finally:
        subprocess.run([*git, "worktree", "remove", "--force", str(at)], capture_output=True)


def _medians(tree: Path, names: list[str], options: tuple[str, ...], directory: Path) -> dict[str, float]:
    """One run of a tree's own `hftd bench` in a process of its own: the median of each row."""
    result = directory / "result.json"
    result.unlink(missing_ok=True)
    environment = {**os.environ, "PYTHONPATH": str(tree), "TMPDIR": str(directory)}  # where it is killed, its files go with ours
    command = [sys.executable, "-m", "hftd", "bench", *names, *options, "--json", str(result)]
    child = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)
    try:
        rows = json.loads(result.read_text())["rows"]
    except (OSError, ValueError, KeyError):
        raise BenchError(f"the benchmarks of {tree} failed: {(child.stderr or child.stdout).strip()[-500:]}") from None
    for row in rows:
        if row.get("failed"):
            sys.stderr.write(f"hftd: left out: {row['name']} failed in {tree}: {row['failed']}\n")
    return {row["name"]: row["p50"] for row in rows if row["n"]}
