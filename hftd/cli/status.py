"""status: on one screen what a trader must see of a running daemon; with --all, everything that it counts. Asks nobody."""

import json
import time
from typing import Any

from hftd.cli.arguments import interval
from hftd.cli.instances import name_argument
from hftd.cli.show import attach, render_carried

SHOWN_POSITIONS = 6
SHOWN_WARNINGS = 8


def add(commands) -> None:
    """Add the command of this file."""
    parser = commands.add_parser("status", help="the daemon on one screen: state, roles, data, limits, latency, warnings")
    name_argument(parser)
    parser.add_argument("--all", action="store_true", help="also rehearsal, placement, counters, rings and errors")
    parser.add_argument("--json", action="store_true", help="everything, as JSON")
    parser.add_argument("--watch", nargs="?", type=interval, const=1.0, metavar="SECONDS", help="again every second (or SECONDS)")
    parser.set_defaults(run=status)


def status(options) -> int:
    """Print the state of the daemon."""
    from hftd.cli.main import say
    from hftd.cli.tables import console
    from hftd.control.status import snapshot

    before = None
    while True:
        config, memory = attach(options)
        facts = snapshot(config, memory)
        if options.json:
            say(json.dumps(facts))
        else:
            if options.watch:
                console.clear()
            render(config, memory, facts, before)
            if options.all:
                render_rest(facts, memory)
        if not options.watch:
            return 0
        before = facts
        time.sleep(options.watch)


# ---------------------------------------------------------------- the screen


def render(config, memory, facts: dict[str, Any], before: dict[str, Any] | None = None) -> None:
    """Print the screen; with the facts `before`, how busy a role was is that of the time between."""
    from hftd.cli.tables import console

    console.print(
        f"[bold]{facts['name']}[/] {facts['state']}{'  [bold red]KILLED[/]' if facts['killed'] else ''}  layout {facts['layout']}, "
        f"up {facts['uptime_s']:,.0f} s, session {'up' if facts['session_up'] else '[red]DOWN[/]'}, "
        f"shared memory {facts['shared_memory_mib']} MiB"
    )
    if facts["kill"]:
        from hftd.risk.kill import in_words

        console.print(in_words(facts["kill"]), style="bold red", markup=False, soft_wrap=True)
    render_roles(facts, before)
    render_links(config, memory)
    render_carried(facts["positions"])
    render_limits(memory)
    render_latency(facts)
    render_warnings(config, memory, facts)


def render_roles(facts: dict[str, Any], before: dict[str, Any] | None) -> None:
    """Print each role with its core."""
    from hftd.cli.tables import compact

    old = {row["agent"]: row for row in (before or {}).get("agents", [])}
    rows = []
    for row in facts["agents"]:
        past = old.get(row["agent"], {"cycles": 0, "busy": 0})
        turns = row["cycles"] - past["cycles"]
        share = (row["busy"] - past["busy"]) / turns if turns > 0 else 0.0
        state = row["state"] if row["alive"] or row["state"] == "STOPPED" else f"[red]{row['state']} (dead)[/]"
        ready, core = "yes" if row["ready"] else "no", "-" if row["core"] < 0 else str(row["core"])
        heartbeat = f"{row['heartbeat_ms']:.0f} ms"
        rows.append((row["agent"], state, ready, str(row["pid"] or "-"), core, heartbeat, f"{share:.1%}", row["starts"]))
    compact(("role", "state", "ready", "pid", "core", "heartbeat", "busy", "starts"), rows, left=3)


def render_links(config, memory) -> None:
    """Print market data and the venue's session, a line each."""
    from hftd.cli.tables import console
    from hftd.control import glance

    data, session = glance.market(config, memory), glance.venue(memory)
    lines = ", ".join(f"line {name.upper()} {count:,} packets" for name, count in data["lines"].items())
    age = "no quote yet" if data["age_ms"] is None else f"newest quote {data['age_ms']:,.0f} ms ago"
    gaps = f"{data['gaps']:,} gaps, {data['lost_messages']:,} messages lost"
    console.print(f"[bold]data[/]   {data['live']} of {data['instruments']} books LIVE; {lines}; {gaps}; {age}", soft_wrap=True)
    link = session["link"] if session["up"] else f"[red]{session['link']}[/]"
    console.print(f"[bold]venue[/]  link {link}, {session['open_orders']:,} orders open", soft_wrap=True)


def render_limits(memory) -> None:
    """Print how much of the account's limits is used, and the fullest positions."""
    from hftd.cli.tables import compact, console, money
    from hftd.control import glance

    money_now = glance.account(memory)
    limits = ", ".join(f"{name} {pair[0]:,.10g} of {pair[1]:,.10g} ({glance.used(pair):.0%})"
                       for name, pair in money_now["limits"].items())  # fmt: skip
    console.print(f"[bold]limits[/] P&L {money(money_now['pnl'])}; {limits}", soft_wrap=True)
    held = glance.headroom(memory)
    if held:
        compact(("symbol", "position", "open buy", "open sell", "worst", "limit", "used"), [
            (one["symbol"], one["position"], one["open_buy"], one["open_sell"], one["worst"], one["limit"], f"{one['used']:.0%}")
            for one in held[:SHOWN_POSITIONS]
        ])  # fmt: skip
    if len(held) > SHOWN_POSITIONS:
        console.print(f"and {len(held) - SHOWN_POSITIONS} more, less full: hftd positions")


def render_latency(facts: dict[str, Any]) -> None:
    """Print the stages of an order against their budgets."""
    from hftd.cli.tables import compact, console, ns
    from hftd.core.budgets import STAGES

    if not facts["latency_ns"]:
        console.print("[bold]orders[/] none was sent yet")
        return
    rows = []
    for stage, row in facts["latency_ns"].items():
        budget = STAGES[stage].p50
        verdict = ("[green]met[/]" if row["p50"] <= budget else "[yellow]over[/]") if budget else ""
        rows.append((stage, row["count"], ns(row["p50"]), ns(row["p99"]), ns(row["max"]), ns(budget) if budget else "-", verdict))
    compact(("stage", "count", "p50", "p99", "max", "budget p50", ""), rows)
    if facts["layout"] == "shared":
        console.print("budgets are for roles that spin; in this layout they park, and waking up takes the most of it")


def render_warnings(config, memory, facts: dict[str, Any]) -> None:
    """Print what is wrong, a line each; that nothing is, too."""
    from hftd.cli.tables import console
    from hftd.control import glance

    found = glance.warnings(config, memory, facts)
    for line in found[:SHOWN_WARNINGS]:
        console.print(f"! {line}", style="yellow", markup=False, soft_wrap=True)
    if len(found) > SHOWN_WARNINGS:
        console.print(f"! and {len(found) - SHOWN_WARNINGS} more: hftd status --all", style="yellow")
    if not found:
        console.print("no warnings")


# ---------------------------------------------------------------- the rest


def render_rest(facts: dict[str, Any], memory) -> None:
    """Print rehearsal, placement, whole latencies, counters, rings and errors."""
    from hftd.cli.tables import ns, table
    from hftd.control.glance import in_words

    if facts["rehearsal"]:
        table("rehearsal, before ready", ("agent", "verdict", "first", "p50", "p99", "budget p50", "turns", "faults", "took"), [
            (row["agent"], f"[yellow]{row['verdict']}[/]" if row["verdict"] == "MISSED" else row["verdict"], ns(row["first_ns"]),
             ns(row["p50_ns"]), ns(row["p99_ns"]), ns(row["budget_ns"]), row["measured"], row["faults"], ns(row["took_ns"]))
            for row in facts["rehearsal"]
        ], left=2)  # fmt: skip
    render_placement(facts)
    if facts["latency_ns"]:
        table("latency of orders", ("stage", "count", "p50", "p90", "p99", "p99.9", "max"), [
            (stage, row["count"], ns(row["p50"]), ns(row["p90"]), ns(row["p99"]), ns(row["p99.9"]), ns(row["max"]))
            for stage, row in facts["latency_ns"].items()
        ])  # fmt: skip
    counted = [(block, name, value) for block, values in facts["counters"].items() for name, value in values.items() if value]
    table("counters that are not zero", ("agent", "counter", "value"), counted, left=2)
    lagging = [
        (row["ring"], row["tail"], row["capacity"], row["full"], max(row["lag"].values(), default=0))
        for row in facts["rings"]
        if row["tail"] and not row["ring"].startswith("ring.log")
    ]
    table("rings", ("ring", "records", "capacity", "found full", "slowest behind"), lagging)
    if facts["errors"]:
        rows = [(row["agent"], in_words(row, memory), row["count"]) for row in facts["errors"]]
        table("errors", ("agent", "error", "count"), rows, left=2)


def render_placement(facts: dict) -> None:
    """Print what each role asked of the kernel and got, then every refusal with what mends it, then faults and switches."""
    from rich.markup import escape

    from hftd.cli.tables import console, table

    roles = [*facts["agents"], {"agent": "supervisor", "placement": facts["placement"], "since_warm": None}]
    items = list(dict.fromkeys(one["item"] for row in roles for one in row["placement"]))
    rows, refused = [], []
    for row in roles:
        found = {one["item"]: one for one in row["placement"]}
        if found:
            rows.append((row["agent"], *(_granted(found.get(item)) for item in items)))
        refused += [(row["agent"], one) for one in found.values() if one["why"]]
    table("placement: got", ("agent", *items), rows, left=1)
    for agent, one in refused:
        said = f"{agent}: {one['item']}: asked {one['asked']}, {one['state'].lower()}: {one['why']}"
        console.print(f"[yellow]{escape(said)}[/]", soft_wrap=True)
    keys = ("minor", "major", "voluntary", "involuntary", "threads")
    counted = [(row["agent"], *(row["since_warm"][key] for key in keys)) for row in roles if row["since_warm"]]
    table("since warm-up", ("agent", "minor faults", "major faults", "switches", "involuntary", "threads"), counted)


def _granted(one: dict | None) -> str:
    if one is None:
        return "-"
    return one["got"] if one["state"] == "OBTAINED" else f"[yellow]{one['got']} ({one['state'].lower()})[/]"
