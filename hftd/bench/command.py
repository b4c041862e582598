"""`hftd bench [NAME…]`: run the benchmarks, show them against their budgets, write JSON. Cold.

The exit code is 1 where a median misses its budget, and 2 where a result was wrong: a wrong result is never timed.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from hftd import bench
from hftd.bench import host as hosts

WIDTH = 160
"""Columns where the output is no terminal."""


def add_arguments(parser) -> None:
    """Add the options of `hftd bench`."""
    parser.add_argument("names", nargs="*", metavar="NAME",
                        help="benchmarks to run (--list); none: all; or `instructions`: exact counts, by valgrind")  # fmt: skip
    parser.add_argument("--write", action="store_true", help="with `instructions`: write the table that a test compares with")
    parser.add_argument("--json", metavar="FILE", help="write host and rows to FILE as JSON; - is standard output")
    parser.add_argument("--data", metavar="FILE", help="recorded ITCH 5.0 file for parse and book, plain or gzip")
    parser.add_argument("--quick", action="store_true", help="few samples: to see that everything runs, not to believe a figure")
    parser.add_argument("--list", action="store_true", help="show the names and what they measure")


def main(options) -> int:
    """Run the benchmarks that were named."""
    if options.names and options.names[0] in OTHER:
        return OTHER[options.names[0]](options)
    known = bench.registry.registered()
    console = Console(stderr=options.json == "-")
    if not console.is_terminal:
        console.width = WIDTH
    if options.list:
        for name, item in known.items():
            console.print(f"{name:16} {item.about}" + (f" (budget {item.budget:g} {item.unit})" if item.budget else ""))
        return 0
    machine = bench.machine()
    status = Console(stderr=True)
    with status.status("compiling and measuring") as shown:
        rows = bench.run(options.names, options.data, options.quick, lambda name: shown.update(f"measuring {name}"))
    machine["load_after"] = hosts.load()
    if options.json == "-":
        sys.stdout.write(bench.to_json(rows, machine) + "\n")
    elif options.json:
        Path(options.json).write_text(bench.to_json(rows, machine) + "\n")
    console.print(_table(rows))
    console.print(hosts.line(machine), soft_wrap=True, highlight=False, markup=False)
    if options.quick:
        console.print("quick run: these figures are not to be believed")
    return int(any(row.met is False for row in rows) and not options.quick)


def _instructions(options) -> int:
    """Count instructions; compare with the table, or write it."""
    from hftd.bench import instructions

    kept = None if options.write else instructions.load()
    with Console(stderr=True).status("counting instructions") as shown:
        made = instructions.count(shown.update)
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    if kept is None:
        instructions.save(made)
        console.print(f"{instructions.TABLE}: written", soft_wrap=True, highlight=False)
        return 0
    table = Table(box=None, pad_edge=False, show_edge=False)
    for column in ("component", "instructions", "in the table", "change"):
        table.add_column(column, justify="left" if column == "component" else "right")
    for name, now in made.instructions.items():
        was = kept.instructions.get(name)
        table.add_row(name, f"{now:,.1f}", "-" if was is None else f"{was:,.1f}", f"{now / was - 1:+.1%}" if was else "")
    console.print(table)
    other = instructions.other_toolchain(kept)
    if other:
        console.print(f"the table was made by another compiler: {other}", soft_wrap=True, highlight=False)
        return 0
    found = instructions.regressions(kept, made)
    for line in found:
        console.print(line, soft_wrap=True, highlight=False)
    return int(bool(found))


OTHER: dict[str, Callable[[Any], int]] = {"instructions": _instructions}
"""First words of `hftd bench` that are no benchmark's name, and what each does."""


def _table(rows: list[bench.Row]) -> Table:
    table = Table(box=None, pad_edge=False, show_edge=False)
    for column in ("name", "unit", "n", "min", "p50", "p99", "p99.9", "max", "budget", "limit", ""):
        table.add_column(column, justify="left" if column in ("name", "unit", "") else "right", no_wrap=column != "")
    for row in rows:
        verdict = {True: "[green]met[/]", False: "[red]MISSED[/]", None: ""}[row.met]
        facts = " ".join(part for part in (verdict, row.about, f"({row.note})" if row.note else "") if part)
        figures = [_figure(value) for value in (row.min, row.p50, row.p99, row.p999, row.max)] if row.n else ["-"] * 5
        table.add_row(row.name, row.unit, _count(row.n), *figures, _figure(row.budget), _figure(row.limit), facts)
    return table


def _count(n: int) -> str:
    return f"{n / 1e6:.1f}M" if n >= 1_000_000 else f"{n // 1000}k" if n >= 10_000 else str(n)


def _figure(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.2f}" if value < 100 else f"{value:,.0f}"
