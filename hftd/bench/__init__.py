"""`hftd bench`: every component against its budget and the machine's own limit.

    names() -> list of benchmarks       run(names, data, quick, progress) -> list[Row]       to_json(rows, host) -> str
"""

import json
import os
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from hftd.bench import host as hosts
from hftd.bench.registry import BenchError, Benchmark, Lab, Row, Samples, Skip, registered, row_of
from hftd.errors import HftdError


def names() -> list[str]:
    """Return the names of all benchmarks, in order."""
    return list(registered())


def run(wanted: Iterable[str] = (), data: str | os.PathLike | None = None, quick: bool = False,
        progress: Callable[[str], None] | None = None) -> list[Row]:  # fmt: skip
    """Run the benchmarks named (none: all); return their rows. One that fails has a row that says so.

    Raises BenchError for an unknown name.
    """
    known = registered()
    wanted = list(wanted) or list(known)
    for name in wanted:
        if name not in known:
            raise BenchError(f"no benchmark is called {name}; there are {', '.join(known)}")
    lab = Lab(quick=quick, data=Path(data) if data else None)
    _overhead.append(lab.overhead * lab.ns_per_tick)
    rows: list[Row] = []
    for name in wanted:
        bench = known[name]
        if progress:
            progress(name)
        try:
            made = bench.run(lab)
            rows.extend(row_of(bench, samples, lab) for samples in (made if isinstance(made, list) else [made]))
        except Skip as why:
            rows.append(_empty(bench, note=f"skipped: {why}"))
        except Exception as error:                    # whatever it is: the other benchmarks' rows are worth as much as before
            rows.append(_empty(bench, failed=said_of(error)))
    return rows


def _empty(bench: Benchmark, note: str = "", failed: str = "") -> Row:
    """Return the row of a benchmark that gave no figure."""
    return Row(bench.name, bench.unit, 0, 0.0, 0.0, 0.0, 0.0, 0.0, bench.budget, None, bench.about, note, failed=failed)


def said_of(error: BaseException) -> str:
    """Return what an error says, in a line; of one that is not ours also what kind it is, and where it happened."""
    text = " ".join(str(error).split())
    if isinstance(error, HftdError):
        return text
    frames = traceback.extract_tb(error.__traceback__)
    at = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {text}{at}" if text else f"{type(error).__name__}{at}"


def machine() -> dict[str, Any]:
    """Return the state of the machine before a run."""
    return hosts.describe()


_overhead: list[float] = []


def overhead_ns() -> float:
    """Return what two readings of the clock in a row cost in the last run: it was subtracted from each sample."""
    return round(_overhead[-1], 2) if _overhead else 0.0


def headline(rows: list[Row]) -> str:
    """Return the verdict in a line: budgets met, and what an order takes."""
    judged = [row for row in rows if row.met is not None]
    parts = [f"{sum(bool(row.met) for row in judged)} of {len(judged)} budgets met"] if judged else []
    for row in rows:
        if row.name in ("tick_to_order", "tick_to_trade", "two_cores"):
            parts.append(f"{row.name} {row.p50:,.0f} ns (p99 {row.p99:,.0f})")
    return ", ".join(parts) or "nothing here has a budget"


def to_json(rows: Iterable[Row], host: dict[str, Any]) -> str:
    """Return the result as JSON: `host` and `rows`, whose `met` is null where there is no verdict (`host.headline` is null)."""
    unjudged = {"met": None} if host.get("headline", "") is None else {}
    return json.dumps({"host": host, "rows": [row.as_dict() | unjudged for row in rows]}, indent=1)


__all__ = [
    "BenchError", "Lab", "Row", "Samples", "Skip", "headline", "machine", "names", "overhead_ns", "run", "said_of", "to_json",
]  # fmt: skip
