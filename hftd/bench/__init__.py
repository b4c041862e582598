"""`hftd bench`: every component against its budget and the machine's own limit.

    names() -> list of benchmarks       run(names, data, quick, progress) -> list[Row]       to_json(rows, host) -> str
"""

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from hftd.bench import host as hosts
from hftd.bench.registry import BenchError, Lab, Row, Samples, Skip, registered, row_of


def names() -> list[str]:
    """Return the names of all benchmarks, in order."""
    return list(registered())


def run(wanted: Iterable[str] = (), data: str | os.PathLike | None = None, quick: bool = False,
        progress: Callable[[str], None] | None = None) -> list[Row]:  # fmt: skip
    """Run the benchmarks named (none: all); return their rows. Raises BenchError for an unknown name or a wrong result."""
    known = registered()
    wanted = list(wanted) or list(known)
    for name in wanted:
        if name not in known:
            raise BenchError(f"no benchmark is called {name}; there are {', '.join(known)}")
    lab = Lab(quick=quick, data=Path(data) if data else None)
    rows: list[Row] = []
    for name in wanted:
        bench = known[name]
        if progress:
            progress(name)
        try:
            made = bench.run(lab)
        except Skip as why:
            rows.append(Row(name, bench.unit, 0, 0.0, 0.0, 0.0, 0.0, 0.0, bench.budget, None, bench.about, f"skipped: {why}"))
            continue
        rows.extend(row_of(bench, samples, lab) for samples in (made if isinstance(made, list) else [made]))
    return rows


def machine() -> dict[str, Any]:
    """Return the state of the machine before a run."""
    return hosts.describe()


def to_json(rows: Iterable[Row], host: dict[str, Any]) -> str:
    """Return the result as JSON: `host` and `rows`."""
    return json.dumps({"host": host, "rows": [row.as_dict() for row in rows]}, indent=1)


__all__ = ["BenchError", "Lab", "Row", "Samples", "Skip", "machine", "names", "run", "to_json"]
