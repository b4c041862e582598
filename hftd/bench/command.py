"""`hftd bench [NAME…]`: run the benchmarks, show them against their budgets, keep and compare results. Cold.

Exit codes: 1 where a median misses its budget, a comparison finds something slower, or a benchmark failed (a wrong result is never
timed: its row says what was wrong, and the others stand), 3 where the host was too busy to measure: then there are figures, and no
verdict, unless --busy asked for one.
"""

import os
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from hftd import bench
from hftd.bench import compare, modes
from hftd.bench import host as hosts
from hftd.cli.arguments import count, number

MISSED, BUSY = 1, 3


def add_arguments(parser) -> None:
    """Add the options of `hftd bench`."""
    parser.add_argument("names", nargs="*", metavar="NAME",
                        help="benchmarks to run (--list), none: all; or `feed`: market data beside others; or `load`:"
                             " how much it takes; or `instructions`: counts")
    parser.add_argument("--json", metavar="FILE", help="write host and rows to FILE as JSON; - is standard output")
    parser.add_argument("--save", metavar="FILE", help="keep host and rows in FILE, to compare with another time")
    parser.add_argument("--compare", metavar="FILE|REV", help="what got slower than a saved FILE, or than commit REV (interleaved)")
    parser.add_argument("--rounds", type=count, default=compare.ROUNDS, metavar="N", help="pairs of --compare REV; turns of `feed`")
    parser.add_argument("--busy", action="store_true", help="give a verdict although the host is too busy to measure")
    parser.add_argument("--data", metavar="FILE", help="recorded ITCH 5.0 file for parse and book, plain or gzip")
    parser.add_argument("--quick", action="store_true", help="few samples: to see that everything runs, not to believe a figure")
    parser.add_argument("--list", action="store_true", help="show the names and what they measure")
    parser.add_argument("--seconds", type=number(float, above=0), default=10.0, metavar="S",
                        help="with `load`: how long a claim is held")
    parser.add_argument("--beside", action="append", default=[], metavar="COMMAND",
                        help="with `feed`: a program that takes turns, too; {file} and {refs} (references) are filled in; its"
                             " lines end in `min NS med NS` (repeatable)")
    parser.add_argument("--scale", action="store_true", help="with `feed`: the cost as live orders and instruments grow")
    parser.add_argument("--stores", action="store_true", help="with `feed`: the order stores that were tried")
    parser.add_argument("--write", action="store_true", help="with `instructions`: write the table that a test compares with")


def main(options) -> int:
    """Run the benchmarks that were named. Raises BenchError, before it measures, for a result that could not be written."""
    for word, file in (("--json", options.json), ("--save", options.save)):
        if file and file != "-" and (Path(file).is_dir() or not os.access(Path(file).resolve().parent, os.W_OK)):
            raise bench.BenchError(f"{word} {file}: give a file in a directory that exists and that you may write")
    if options.names and options.names[0] in modes.MODES:
        modes.refuse_others(options)
        return modes.MODES[options.names[0]](options)
    known = bench.registry.registered()
    console = Console(stderr=options.json == "-")
    if not console.is_terminal:
        console.width = modes.WIDTH
    if options.list:
        for name, item in known.items():
            console.print(f"{name:16} {item.about}" + (f" (budget {item.budget:g} {item.unit})" if item.budget else ""))
        return 0
    if options.compare and not Path(options.compare).is_file():
        return _compare_revision(options, console)
    machine, watch = bench.machine(), hosts.Watch()
    with Console(stderr=True).status("compiling and measuring") as shown:

        def progress(name: str) -> None:
            options.told.check()                      # where its exception was swallowed, in a callback of the compiler
            watch.look()
            shown.update(f"measuring {name}")

        rows = bench.run(options.names, options.data, options.quick, progress)
    machine |= {"load_after": hosts.load(), "clock_overhead_ns": bench.overhead_ns(), **watch.end()}
    machine |= {"quick": options.quick, "data": Path(options.data).name if options.data else ""}
    told = options.busy or options.quick
    machine["headline"] = bench.headline(rows) if told or not machine["busy"] else None
    text = bench.to_json(rows, machine) + "\n"
    for file in (options.json, options.save):
        if file == "-":
            sys.stdout.write(text)
        elif file:
            Path(file).write_text(text)
    console.print(_table(rows, judged=machine["headline"] is not None))
    modes.say(console, hosts.line(machine))
    failed = [row for row in rows if row.failed]
    for row in failed:
        modes.say(console, f"FAILED: {row.name}: {row.failed}")
    if options.quick:
        modes.say(console, f"quick run: these figures are not to be believed{', nor compared' if options.compare else ''}")
        return MISSED if failed else 0
    if machine["headline"] is None:
        what = "No verdict, no comparison" if options.compare else "No verdict"
        modes.say(console, f"too busy to measure: {'; '.join(machine['busy'])}. {what}; --busy gives one all the same")
        return MISSED if failed else BUSY
    modes.say(console, machine["headline"])
    slower = 0
    if options.compare:
        changes, doubts = compare.with_file([row.as_dict() for row in rows], machine, Path(options.compare))
        for doubt in doubts:
            modes.say(console, f"{options.compare} {doubt}")
        slower = _show_changes(console, changes, options.compare)
    return MISSED if slower or failed or any(row.met is False for row in rows) else 0


def _compare_revision(options, console: Console) -> int:
    extra = (*(("--quick",) if options.quick else ()), *(("--data", str(Path(options.data).resolve())) if options.data else ()))
    machine, watch = bench.machine(), hosts.Watch()
    with Console(stderr=True).status("comparing") as shown:

        def progress(text: str) -> None:
            options.told.check()                      # where its exception was swallowed, in a callback of the compiler
            watch.look()
            shown.update(text)

        changes = compare.with_revision(options.compare, options.names, options.rounds, extra, progress)
    slower = _show_changes(console, changes, options.compare)
    machine |= {"load_after": hosts.load(), **watch.end()}
    modes.say(console, hosts.line(machine))
    if machine["busy"]:
        modes.say(console, f"the host was busy: {'; '.join(machine['busy'])}; the intervals show what that did to the pairs")
    return MISSED if slower else 0


def _show_changes(console: Console, changes: list[compare.Change], than: str) -> int:
    """Print what changed; return how many rows got slower."""
    table = Table(box=None, pad_edge=False, show_edge=False)
    for column in ("name", "before", "after", "ratio", "95 %", ""):
        table.add_column(column, justify="left" if column in ("name", "") else "right")
    for one in changes:
        colour = {"slower": "[red]slower[/]", "faster": "[green]faster[/]", "": ""}[one.verdict]
        interval = f"{one.low:.3f} to {one.high:.3f}"
        table.add_row(one.name, _figure(one.before), _figure(one.after), f"{one.ratio:.3f}", interval, colour)
    console.print(table)
    slower = sum(one.verdict == "slower" for one in changes)
    modes.say(console, f"{slower} of {len(changes)} rows slower than {than} (by more than {compare.TOLERANCE:.0%}, surely)")
    return slower


def _table(rows: list[bench.Row], judged: bool) -> Table:
    table = Table(box=None, pad_edge=False, show_edge=False)
    for column in ("name", "n", "min", "p50", "95 % of p50", "p99", "p99.9", "max", "out", "budget", "limit", ""):
        table.add_column(column, justify="left" if column in ("name", "") else "right", no_wrap=column != "")
    for row in rows:
        verdict = {True: "[green]met[/]", False: "[red]MISSED[/]", None: ""}[row.met if judged else None]
        verdict = "[red]FAILED[/]" if row.failed else verdict
        facts = " ".join(part for part in (verdict, row.about, f"({row.note})" if row.note else "") if part)
        if row.n:
            interval = f"{_figure(row.low)}-{_figure(row.high)}"
            figures = [_figure(row.min), _figure(row.p50), interval, *(_figure(value) for value in (row.p99, row.p999, row.max))]
        else:
            figures = ["-"] * 6
        table.add_row(row.name, _count(row.n), *figures, _count(row.outliers), _figure(row.budget), _figure(row.limit), facts)
    table.caption = "ns; out: samples above p75 + 10 (p75 - p25), which are in every figure; limit: the machine's own, in this run"
    table.caption_justify = "left"
    return table


def _count(n: int) -> str:
    return f"{n / 1e6:.1f}M" if n >= 1_000_000 else f"{n // 1000}k" if n >= 10_000 else str(n)


def _figure(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.2f}" if value < 100 else f"{value:,.0f}"
