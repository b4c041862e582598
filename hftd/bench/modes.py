"""What `hftd bench` does beside timing components: `feed`, `load` and `instructions`. Cold."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from hftd import bench
from hftd.bench import host as hosts

FAILED, NO_VERDICT = 1, 3
"""Exit codes: something that was looked at is wrong; nothing could be judged."""

WIDTH = 180
"""Columns where the output is no terminal."""


def say(console: Console, text: str) -> None:
    """Print a line as it is."""
    console.print(text, soft_wrap=True, highlight=False, markup=False)


def refuse_others(options) -> None:
    """Refuse what one of the modes would pass over in silence. Raises BenchError."""
    mode, *names = options.names
    unheard = [word for word, given in (("--save", options.save), ("--compare", options.compare),
                                        ("--json", options.json and mode == "instructions")) if given]  # fmt: skip
    if names or unheard:
        kept = "its result is the table" if mode == "instructions" else "--json FILE keeps its result"
        raise bench.BenchError(f"hftd bench {mode}: {', '.join(names + unheard)}: not with {mode}; {kept}")


def instructions_mode(options) -> int:
    """Count instructions; compare with the table, or write it."""
    from hftd.bench import instructions

    kept = None if options.write else instructions.load()
    with Console(stderr=True).status("counting instructions") as shown:
        made = instructions.count(shown.update)
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    if kept is None:
        instructions.save(made)
        say(console, f"{instructions.TABLE}: written")
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
        say(console, f"nothing was compared: the table was made by another compiler: {other}; write it anew with --write")
        return NO_VERDICT
    found = instructions.regressions(kept, made)
    for line in found:
        say(console, f"FAILED: {line}")
    if found:
        say(console, "on purpose? hftd bench instructions --write, and the reason in the commit")
    return FAILED if found else 0


def load_mode(options) -> int:
    """Sweep the rates and hold what is claimed.

    Exit codes: FAILED where a claim did not hold, something was lost or could not be run; NO_VERDICT where the host was too busy to
    tell, or a quick run was too slow: no rate is believed then, but a loss always is.
    """
    from hftd.bench import load

    machine, watch = hosts.describe(), hosts.Watch()
    seconds = 0.2 if options.quick else options.seconds
    curves: dict[str, list[load.Point]] = {}
    failed: dict[str, str] = {}
    with Console(stderr=True).status("compiling and measuring") as shown:

        def progress(text: str) -> None:
            watch.look()
            shown.update(text)

        for what in load.LOWEST:
            try:
                curves[what] = load.curve(what, min(seconds / 10, 1.0), progress)
            except Exception as error:                # whatever it is, the other curves are worth as much as before
                curves[what], failed[what] = [], bench.said_of(error)
        held = load.claims(seconds, progress)
    machine |= {"load_after": hosts.load(), **watch.end()}
    console = Console(width=None if sys.stdout.isatty() and options.json != "-" else WIDTH, stderr=options.json == "-")
    table = Table(box=None, pad_edge=False, show_edge=False)
    for column in ("", "offered/s", "reached/s", "p50 ns", "p99", "p99.9", "max", "busy", "lost", "away", ""):
        table.add_column(column, justify="left" if column == "" else "right")
    for points in curves.values():
        for at, point in enumerate(points):
            table.add_row(*_row(point), load.why_knee([points[0], *points[1 : at + 1]]))
    for one in held:
        if one.point is not None:
            table.add_row(*_row(one.point), f"{one.words}, {one.point.seconds:g} s: {one.text}; {one.point.proof}")
    console.print(table)
    best = {what: load.sustained(points) for what, points in curves.items()}
    for what, top in best.items():
        reached = f"{top.reached:,.0f}/s sustained" if top else "not even the lowest rate was sustained"
        say(console, f"{what}: {f'FAILED: {failed[what]}' if what in failed else reached}")
    for one in held:
        if not one.held:
            say(console, f"{one.words}: {one.text}")
    say(console, hosts.line(machine))
    if options.json:
        text = json.dumps({
            "host": machine,
            "curves": {what: [point.as_dict() for point in points] for what, points in curves.items()},
            "sustained": {what: point.reached if point else None for what, point in best.items()},
            "failed": failed,
            "claims": [{"claim": one.words, "held": one.held, "why": one.wrong or one.short,
                        **(one.point.as_dict() if one.point else {})} for one in held],
        }, indent=1)  # fmt: skip
        if options.json == "-":
            sys.stdout.write(text + "\n")
        else:
            Path(options.json).write_text(text + "\n")
    wrong = bool(failed) or any(one.wrong for one in held)
    if options.quick:
        say(console, "quick run: these figures are not to be believed")
        return FAILED if wrong else 0 if all(one.held for one in held) else NO_VERDICT
    if machine["busy"] and not options.busy:
        say(console, f"too busy to measure: {'; '.join(machine['busy'])}. No verdict; --busy gives one all the same")
        return FAILED if wrong else NO_VERDICT
    return FAILED if wrong or not all(one.held for one in held) else 0


def _row(point) -> list[str]:
    return [
        point.what, f"{point.offered:,.0f}", f"{point.reached:,.0f}", *(f"{value:,.0f}" for value in (point.p50, point.p99)),
        f"{point.p999:,.0f}", f"{point.max:,.0f}", f"{point.utilisation:.0%}", f"{point.lost:,}", f"{point.turned_away:,}",
    ]  # fmt: skip


def feed_mode(options) -> int:
    """Market data beside other people's packages."""
    from hftd.bench.feed import feed_mode

    return feed_mode(options)


MODES: dict[str, Callable[[Any], int]] = {"feed": feed_mode, "load": load_mode, "instructions": instructions_mode}
"""First words of `hftd bench` that are no benchmark's name, and what each does."""
