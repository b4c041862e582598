"""book, orders, positions: look at a running daemon. Reads shared memory, asks nobody.

Positions are to be had of a stopped one, too: from its ledger.
"""

import json

from hftd.cli.arguments import count
from hftd.cli.instances import instance, name_argument, to_change


def add(commands) -> None:
    """Add the commands of this file."""
    parser = commands.add_parser("book", help="the book of one symbol")
    name_argument(parser)
    parser.add_argument("symbol")
    parser.add_argument("--levels", type=count, default=10)
    parser.add_argument("--json", action="store_true")
    parser.set_defaults(run=book)
    parser = commands.add_parser("orders", help="orders, newest first")
    name_argument(parser)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--open", action="store_true", help="open orders only")
    parser.add_argument("--limit", type=count, default=50, metavar="N", help="at most N (default 50)")
    parser.set_defaults(run=orders)
    parser = commands.add_parser("positions", help="positions and P&L of the trading day by instrument, running or stopped")
    which = parser.add_mutually_exclusive_group()
    name_argument(which)
    which.add_argument("-c", "--config", default="", metavar="FILE",
                       help="the instance of this configuration; where it does not run, what its last ledger holds")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="shares; prices and amounts in currency units")
    parser.add_argument("--save", default="", metavar="FILE", help="write what is held as the next day's risk.positions")
    parser.set_defaults(run=positions)


def attach(options):
    """Attach to the instance a command means; return its configuration and its memory. Raises HftdError where nothing is there yet.

    Its clock is calibrated when all memory is made: before, no figure in it means anything.
    """
    from hftd.errors import HftdError
    from hftd.shm import map as shared

    config, memory = shared.attach(instance(options))
    if not int(memory["control"]["clock"][0]["hz"]):
        raise HftdError(f"instance {config.daemon.name!r} is being started; try again in a moment")
    return config, memory


def render_carried(facts: dict) -> None:
    """Print the trading day, and what its positions rest on."""
    from rich.markup import escape

    from hftd.cli.tables import console

    opening = f"{facts['opening']} opening from {facts['file']}" if facts["file"] else f"{facts['opening']} opening"
    line = f"trading day {facts['day'] or '-'}: {facts['held']} positions, {opening}"
    console.print(escape(line))
    if facts["not_announced"]:
        said = f"held, and not announced by the venue: {', '.join(facts['not_announced'])}"
        console.print(f"[yellow]{escape(said)}[/]", soft_wrap=True)
    if facts["earlier"]:
        console.print(f"[bold red]WARNING[/] {escape(facts['earlier'])}", soft_wrap=True)


def book(options) -> int:
    """Print both sides of a book, best level first."""
    from hftd.cli.main import say
    from hftd.cli.tables import console, table
    from hftd.control.status import symbols, trading_words
    from hftd.core.fixed import to_text
    from hftd.errors import HftdError
    from hftd.feed.setup import read_book

    config, memory = attach(options)
    known = symbols(memory)
    if options.symbol not in known:
        raise HftdError(f"{options.symbol}: not in the universe; known are {', '.join(filter(None, known)) or 'none yet'}")
    instrument = known.index(options.symbol)
    bids, asks = read_book(config, memory, instrument, options.levels)
    if options.json:
        say(json.dumps({"symbol": options.symbol, "bids": bids, "asks": asks}))
        return 0
    console.print(f"[bold]{options.symbol}[/] {trading_words(memory, instrument)}")
    rows = []
    for level in range(max(len(bids), len(asks))):
        bid = bids[level] if level < len(bids) else None
        ask = asks[level] if level < len(asks) else None
        rows.append((*((f"{bid[2]}", f"{bid[1]:,}", to_text(bid[0])) if bid else ("", "", "")),
                     *((to_text(ask[0]), f"{ask[1]:,}", f"{ask[2]}") if ask else ("", "", ""))))  # fmt: skip
    table("", ("orders", "bid qty", "bid", "ask", "ask qty", "orders "), rows, left=0)
    return 0


def orders(options) -> int:
    """Print the gateway's order table."""
    from hftd.cli.main import say
    from hftd.cli.tables import table
    from hftd.control.status import symbols
    from hftd.core.fixed import to_text
    from hftd.gateway.setup import read_orders

    config, memory = attach(options)
    rows = read_orders(config, memory, symbols(memory), open_only=options.open)[: options.limit]
    if options.json:
        say(json.dumps(rows))
        return 0
    table("orders", ("id", "symbol", "side", "status", "px", "qty", "filled", "leaves"), [
        (row["id"], row["symbol"], row["side"], row["status"], to_text(row["px"]), row["qty"], row["cum_qty"], row["leaves_qty"])
        for row in rows
    ], left=4)  # fmt: skip
    return 0


def positions(options) -> int:
    """Print risk's positions of the trading day, marked at the mid, and save what is held where that is asked for."""
    from pathlib import Path

    from hftd.cli.main import complain, say
    from hftd.control import status as read
    from hftd.risk import ledger, opening
    from hftd.venues.nasdaq.trading_day import day_text

    config, facts, memory = _ledger(options)
    if memory is not None:
        facts, rows = ledger.snapshot(memory), read.positions(memory)
    else:
        rows = read.closed_positions(facts)
    if options.json:
        say(json.dumps(rows))
    elif not options.save:
        render_positions(rows, f"positions of {day_text(facts['day'])}" + ("" if memory is not None else ", stopped"))
    if options.save:
        held = ledger.closing(facts)
        opening.write(Path(options.save), facts["day"], held)
        if not options.json:
            say(f"hftd: {options.save}: close of {day_text(facts['day'])}, {len(held)} symbols held; name it in risk.positions")
        if memory is not None and (told := ledger.not_carried(config)):
            complain(f"{told}, nor is it in {options.save}")
    return 0


def _ledger(options):
    """Return configuration, ledger on disk, None of a stopped instance that `-c` names; of a running one: …, None, its memory."""
    from hftd.control.config import load
    from hftd.errors import HftdError
    from hftd.risk import ledger
    from hftd.shm import map as shared
    from hftd.shm.segment import full_name, instances, owner

    if options.config:
        config = load(options.config)
        name = config.daemon.name
        if name not in instances() or not owner(full_name(name, "control")):
            facts = ledger.read_held(config)
            if facts is None:
                raise HftdError(f"{name} does not run, and there is no {ledger.path_of(config)}: it has not traded, or its state "
                                "lies elsewhere: daemon.state_dir, or $STATE_DIRECTORY as its service has it")  # fmt: skip
            return config, facts, None
        config, memory = shared.attach(name)
    elif options.save:
        config, memory = shared.attach(to_change(options, "positions --save"))
    else:
        config, memory = attach(options)
    return config, None, memory


def render_positions(rows: list[dict], title: str = "positions") -> None:
    """Print positions as a table with a total."""
    from hftd.cli.tables import money, table

    total = sum(row["pnl"] for row in rows)
    counts = ("position", "opening", "bought", "sold", "orders", "fills")
    body = [(row["symbol"], *(row[key] for key in counts), money(row["mark"]), money(row["pnl"])) for row in rows]
    orders, fills = (sum(row[key] for row in rows) for key in ("orders", "fills"))
    body.append(("total", "", "", "", "", orders, fills, "", money(total)))
    table(title, ("symbol", *counts, "mark", "P&L"), body)
