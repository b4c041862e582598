"""latency: where the time of each order goes, which roles paused, and why the slowest orders were slow."""

import json
import time
from pathlib import Path
from typing import Any

from hftd.cli.arguments import interval
from hftd.cli.instances import name_argument
from hftd.cli.show import attach

SHOWN = 10
"""Slow orders in the table; --json has all that are kept."""


def add(commands) -> None:
    """Add the command of this file."""
    parser = commands.add_parser("latency", help="where the time of each order goes, against the budgets, and why some were slow")
    name_argument(parser)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--watch", nargs="?", type=interval, const=1.0, metavar="SECONDS",
                        help="what came in each second (or SECONDS)")  # fmt: skip
    parser.add_argument("--plot", metavar="FILE", help="draw the distributions into an SVG file")
    parser.set_defaults(run=latency)


def latency(options) -> int:
    """Print the stages of an order against their budgets, the pauses of the roles, and the slow orders with their causes."""
    from hftd.control import latency as timing

    before = None
    while True:
        layout, found, beside = _look(options)
        shown = timing.since(found, before) if before is not None else found
        if options.plot:
            _plot(options.plot, shown, layout)
        _show(options, shown, layout, beside, since_start=before is None)
        if not options.watch:
            return 0
        before = found
        time.sleep(options.watch)


def _look(options) -> tuple[str, list, dict[str, Any]]:
    """Return what is running, its stages, and what stands beside them."""
    from hftd.control import latency as timing
    from hftd.control import slow
    from hftd.control.config import LAYOUTS
    from hftd.core import clock as clocks
    from hftd.gateway.memory import HISTOGRAMS

    config, running = attach(options)
    control = running["control"]
    hz = int(clocks.snapshot(control["clock"][0])["hz"])
    layout = f"{config.daemon.name}, layout {LAYOUTS[int(control['run'][0]['layout'])]}"
    beside = {
        "arrival": slow.arrival(config, running),
        "stamping_ns": slow.stamping_ns(running),
        "pauses": slow.paused(config, running),
        "slow": slow.slow_orders(config, running),
    }
    return layout, timing.read(running["orders"]["histograms"], HISTOGRAMS, hz), beside


def _plot(file: str, found: list, layout: str) -> None:
    from hftd.control import latency as timing
    from hftd.errors import HftdError

    text = timing.svg(found, "hftd: where the time of an order goes", f"{layout}, {time.strftime('%Y-%m-%d %H:%M:%S %z')}")
    try:
        Path(file).write_text(text)
    except OSError as error:
        raise HftdError(f"{file}: {error.strerror}") from None


def _show(options, found: list, layout: str, beside: dict[str, Any], since_start: bool) -> None:
    from hftd.cli.main import say
    from hftd.cli.tables import console

    if options.json:
        say(json.dumps({"what": layout, "since_start": since_start, "stages": [one.as_dict() for one in found], **beside}))
        return
    if options.watch:
        console.clear()
    render_latency(found, f"{layout}, {'since the start' if since_start else f'the last {options.watch:g} s'}")
    render_beside(beside)
    if options.plot:
        say(f"{options.plot}: written")


def render_latency(found: list, title: str) -> None:
    """Print a table of stages and a line of blocks for each."""
    from hftd.cli.tables import console, table
    from hftd.control import latency as timing

    names = [f"p{percent:g}" for percent in timing.POINTS]
    rows = []
    for one in found:
        budget = one.budget
        wanted = timing.duration(budget.p50) if budget.p50 else "-"
        wanted += f" / {timing.duration(budget.p99)}" if budget.p99 else ""
        verdict = {True: "[green]met[/]", False: "[red]MISSED[/]", None: ""}[one.met]
        points = [timing.duration(one.at(percent)) if one.count else "-" for percent in timing.POINTS]
        most = timing.duration(one.largest * one.scale) if one.count else "-"
        rows.append((one.stage, verdict, one.count, *points, most, wanted))
    table(f"latency of orders: {title}", ("stage", "", "count", *names, "max", "budget p50 / p99"), rows, left=2)
    counted = [one for one in found if one.count]
    if not counted:
        console.print("no order was sent yet")
        return
    if "layout shared" in title:
        console.print("budgets are for roles that spin; in this layout they park, and waking up takes the most of it")
    low, high = timing.span(counted)
    for one in counted:
        console.print(f"{one.stage:>14} {timing.sparkline(one, low, high, 72)}", markup=False)
    console.print(f"{'':>14} {timing.duration(low):<36}{timing.duration(high):>36}", markup=False)


def render_beside(beside: dict[str, Any]) -> None:
    """Print from when it is measured, what measuring costs, the pauses of the roles and the slowest orders."""
    from hftd.cli.tables import console, table
    from hftd.control.latency import duration

    came = beside["arrival"]
    console.print(f"\nmeasured from {came['text']}", soft_wrap=True, markup=False)
    if came["receives"]:
        most = "" if came["exact"] else "at most "
        points = f"p50 {duration(came['p50'])}, p99 {duration(came['p99'])}, max {duration(came['max'])}"
        console.print(f"the first packet of a receive call had waited {most}{points}", soft_wrap=True)
    if beside["stamping_ns"]:
        console.print(f"counting the stages takes {beside['stamping_ns']} ns an order, after its send(); before it, each hop reads "
                      "the counter once", soft_wrap=True)  # fmt: skip
    rows = []
    for one in beside["pauses"]:
        kinds = ", ".join(f"{name} {kind['count']:,} ({duration(kind['ns'])})" for name, kind in one["kinds"].items())
        longer = duration(one["threshold_ns"]) if one["threshold_ns"] else "-"
        rows.append((one["agent"], kinds or "none", longer, duration(one["longest_ns"]), f"{one['stood']:.2%}"))
    table("pauses of the roles", ("agent", "kind, how often (in all)", "longer than", "longest", "stood still"), rows, left=2)
    slow = beside["slow"]
    if not slow["worst"]:
        console.print(f"{slow['count']} slow orders" if slow["count"] else "no order was slow", soft_wrap=True)
        return
    worst = slow["worst"][:SHOWN]
    table(f"the slowest of {slow['count']:,} slow orders", ("order", "symbol", "cause", "total", "stage", "of it"), [
        (one["id"], one["symbol"], f"{one['cause']}{' of ' + one['role'] if one['role'] else ''}", duration(one["total_ns"]),
         one["stage"], duration(one["stages_ns"][one["stage"]]))
        for one in worst
    ], left=3)  # fmt: skip
    for cause in dict.fromkeys(one["cause"] for one in worst):
        text = next(one["text"] for one in worst if one["cause"] == cause)
        console.print(f"{cause}: {text}", soft_wrap=True, markup=False)
