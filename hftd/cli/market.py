"""sim, demo, books: markets and recorded data."""


from hftd.cli.arguments import count, seconds


def add(commands) -> None:
    """Add the commands of this file."""
    from hftd.sim.options import add_arguments as sim_arguments

    parser = commands.add_parser("demo", help="a whole session: simulated exchange, all roles, real sockets, a summary at the end")
    parser.add_argument("--data", metavar="FILE", help="replay a recorded ITCH 5.0 file (plain or .gz) instead of synthetic flow")
    parser.add_argument("--json", metavar="FILE", help="write the summary there as JSON")
    parser.add_argument("--seconds", type=seconds, default=20.0, metavar="S", help="how long the session lasts (default 20)")
    parser.add_argument("--seed", type=int, default=7, help="of the synthetic flow")
    parser.add_argument("--layout", choices=("auto", "dedicated", "shared", "fused"), default="auto")
    parser.add_argument("--strategy", action="append", metavar="FILE", help="strategy files (default: both examples)")
    parser.add_argument("--capture", metavar="DIR", help="keep configuration, logs, journal and ledger there")
    parser.set_defaults(run=demo)
    parser = commands.add_parser("sim", help="the simulated exchange, a program of its own")
    sim_arguments(parser)
    parser.set_defaults(run=sim)
    parser = commands.add_parser("books", help="rebuild the books of a recorded file through the feed's own code")
    parser.add_argument("file", metavar="FILE.itch[.gz]")
    parser.add_argument("--bbo", metavar="OUT.csv", help="write a row after each message that changed a best price or size")
    parser.add_argument("--symbol", metavar="S")
    parser.add_argument("--levels", type=count, default=10, metavar="N")
    parser.add_argument("--out", metavar="OUT.csv", help="with --symbol: write N levels after each message of the symbol")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    parser.set_defaults(run=books)


def demo(options) -> int:
    """Run the demonstration."""
    from hftd.control.demo import run

    return run(options)


def sim(options) -> int:
    """Run the simulated exchange until its session ends or it is told to stop."""
    from hftd.cli.main import say
    from hftd.control.host import check_host
    from hftd.sim.options import options_from
    from hftd.sim.server import run

    check_host()
    facts = run(options_from(options), ready=lambda: say("hftd sim: ready"))
    say(f"hftd sim: {facts['messages']:,} messages, {facts['orders']:,} orders, {facts['fills']:,} fills")
    return 0


def books(options) -> int:
    """Rebuild books from a file and print (or write) what they were."""
    import json

    from hftd.cli.main import say
    from hftd.cli.tables import table
    from hftd.core.fixed import to_text
    from hftd.errors import WrongUse
    from hftd.feed.books import books as rebuild

    if bool(options.out) != bool(options.symbol):
        raise WrongUse("books: --symbol and --out go together")
    facts = rebuild(options.file, bbo_out=options.bbo, symbol=options.symbol, levels=options.levels, out=options.out)
    if options.json:
        say(json.dumps(facts))
        return 0
    table("messages", ("type", "count"), sorted(facts["counts"].items(), key=lambda item: -item[1]))
    table("best prices at the end", ("symbol", "bid", "qty", "ask", "qty "), [
        (row["symbol"], to_text(row["bid_px"]), row["bid_sz"], to_text(row["ask_px"]), row["ask_sz"])
        for row in facts["bbo"][:40]
    ])  # fmt: skip
    live, executed = facts["live_orders"], facts["executed_shares"]
    say(f"{facts['messages']:,} messages, {live:,} orders live at the end, {executed:,} shares executed")
    wrong = {name: count for name, count in facts["errors"].items() if count}
    if wrong:
        say(f"errors: {wrong}")
    return 0
