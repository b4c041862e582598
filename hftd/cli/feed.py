"""feed, record: market data looked at without trading, exported for research, and captured."""

from typing import Any

from hftd.cli.arguments import count as at_least_one
from hftd.cli.arguments import number, seconds
from hftd.errors import HftdError, WrongUse

positive = number(float, above=0, hint="leave it out for as fast as possible")


def add(commands) -> None:
    """Add the commands of this file."""
    parser = commands.add_parser("feed", help="run a recording or live lines through the feed without trading: counts, gaps, books")
    parser.add_argument("source", metavar="SOURCE", help="ITCH 5.0 file, pcap or pcapng (each plain or .gz), or: live, synthetic")
    line_arguments(parser)
    parser.add_argument("--symbol", action="append", default=[], metavar="S", help="follow only these symbols (repeatable)")
    parser.add_argument("--book", action="append", default=[], metavar="S", help="show the book of a symbol (repeatable)")
    parser.add_argument("--levels", type=at_least_one, default=10, metavar="N", help="levels shown and exported (default 10)")
    parser.add_argument("--pace", type=positive, default=0.0, metavar="N", help="the recorded pace times N (default: unpaced)")
    parser.add_argument("--rate", type=positive, default=0.0, metavar="N", help="at most N messages a second")
    parser.add_argument("--seconds", type=seconds, default=0.0, metavar="S", help="stop after S seconds")
    parser.add_argument("--messages", type=int, default=10_000_000, metavar="N", help="synthetic: messages of the day (10,000,000)")
    parser.add_argument("--symbols", type=int, default=8000, metavar="N", help="synthetic: symbols of the market (8,000)")
    parser.add_argument("--live", type=int, default=90, metavar="N", help="synthetic: live orders a symbol tends to (90)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="synthetic: of the day; the same again from the same seed")
    parser.add_argument("--every", type=number(float, low=0), default=1.0, metavar="S",
                        help="live: a line of progress every S seconds (0: none)")  # fmt: skip
    parser.add_argument("--parquet", metavar="DIR", help="export events, trades, best prices and depth as Parquet files")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    parser.set_defaults(run=feed)
    parser = commands.add_parser("record", help="capture lines to a pcapng file with nanosecond receive stamps")
    line_arguments(parser)
    parser.add_argument("--out", required=True, metavar="FILE.pcapng", help="where to write")
    parser.add_argument("--seconds", type=seconds, default=0.0, metavar="S", help="stop after S seconds (default: until stopped)")
    parser.add_argument("--max-bytes", type=at_least_one, default=0, metavar="N", help="stop before the file grows beyond N bytes")
    parser.add_argument("--buffer", type=at_least_one, default=64 << 20, metavar="N", help="bytes of each socket's receive buffer")
    parser.add_argument("--json", action="store_true", help="print the statistics as JSON")
    parser.set_defaults(run=record)


def line_arguments(parser) -> None:
    """Add the options that say which lines are meant."""
    parser.add_argument("-c", "--config", metavar="FILE", help="configuration whose lines, servers and symbols are used")
    parser.add_argument("--line", action="append", default=[], metavar="GROUP:PORT", help="line A, and given again line B")
    parser.add_argument("--interface", default="", metavar="IP", help="address of the interface that joins groups")


def configuration(options):
    """Return the configuration asked for, or None. Raises ConfigError for it, and for an `--interface` that is none."""
    from hftd.control.config import ipv4, load

    if options.interface:
        ipv4(options.interface, "--interface")
    return load(options.config) if options.config else None


def feed(options) -> int:
    """Run a source through the feed and show what it held."""
    import json

    from hftd.cli.main import say
    from hftd.control.host import check_host
    from hftd.feed.files import ItchFile
    from hftd.feed.sources import desk as desks
    from hftd.feed.sources.capture import CaptureFile, is_capture

    check_host()
    config, lines = configuration(options), desks.parse_lines(options.line)
    live, synthetic = options.source == "live", options.source == "synthetic"
    if live and not (config or lines):
        raise WrongUse("feed live: say which lines: -c CONFIG, or --line GROUP:PORT")
    pace = desks.Pace(options.pace, options.rate)
    if live and pace.active:
        raise WrongUse("feed live: --pace and --rate are for recordings")
    capture, file, market, orders = None, None, None, 0
    if synthetic:
        if pace.active:
            raise WrongUse("feed synthetic: --pace and --rate are for recordings")
        market = synthetic_market(options)
        orders = 2 * options.symbols * options.live
    elif not live:
        if is_capture(options.source):
            capture = CaptureFile(options.source, desks.wanted_of(lines, config))
            orders = desks.orders_in_capture(capture)
        else:
            file = ItchFile(options.source)
            orders = desks.orders_in_file(file)
    settings = desks.settings(config, lines, options.symbol, orders, not live, options.interface)
    export: Any = None
    desk = desks.Desk(settings, live, (lambda events: export.take(events)) if options.parquet else None)
    broken: HftdError | None = None
    try:
        if options.parquet:
            from hftd.research.parquet import Export

            export = Export(options.parquet, desk.clock_array, settings.instruments, desk.symbols, options.levels)
        with desks.stop_signals() as stop:
            try:
                if capture is not None:
                    desk.run_capture(capture, pace, stop, options.seconds)
                elif market is not None:
                    desk.run_market(market, options.messages, stop, options.seconds)
                elif file is not None:
                    desk.run_file(file, pace, stop, options.seconds)
                else:
                    every = (lambda: progress(desk)) if options.every > 0 and not options.json else None
                    desk.run_live(stop, options.seconds, every, options.every)
            except desks.Stopped:
                pass
            except desks.DataError as error:          # what came before it was read, and is shown
                broken = error
        facts = {"source": options.source, **desk.summary()}
        if export is not None:
            facts["parquet"] = export.finish()
        facts["books"] = [desk.book(symbol, options.levels) for symbol in options.book]
    finally:
        if export is not None:
            export.abandon()
        desk.close()
    if broken is None or facts["messages"] or facts.get("capture", {}).get("frames"):
        if options.json:
            say(json.dumps(facts))
        else:
            show(facts)
    if broken is not None:
        raise broken
    if facts["events_lost"]:
        raise HftdError(f"{facts['events_lost']:,} events were lost before they could be exported: the tables are incomplete")
    return 0


def synthetic_market(options):
    """Return the market of `feed synthetic`. Raises WrongUse for what cannot be."""
    from hftd.sim.day import Market

    for name, value, low, high in (("messages", options.messages, 1, 10**12), ("symbols", options.symbols, 1, 16384),
                                   ("live", options.live, 1, 100_000), ("seed", options.seed, 0, 1 << 62)):  # fmt: skip
        if not low <= value <= high:
            raise WrongUse(f"--{name}: must be {low:,} to {high:,}, was {value:,}")
    if options.symbols * options.live > 1 << 24:
        raise WrongUse(f"--symbols times --live: at most {1 << 24:,} live orders, these are {options.symbols * options.live:,}")
    return Market(options.symbols, options.live, options.seed, options.messages)


def progress(desk) -> None:
    """Write a line about a live feed."""
    import sys

    counters = desk.counters
    packets = " ".join(f"{line}:{values['packets']:,}" for line, values in desk.lines().items())
    sys.stderr.write(f"{int(counters['messages']):,} messages, packets {packets or 'none'}, {int(counters['gaps'])} gaps\n")
    sys.stderr.flush()


def show(facts: dict[str, Any]) -> None:
    """Print a summary for people."""
    from hftd.cli.main import say
    from hftd.cli.tables import ns, table
    from hftd.core.fixed import to_text

    table("messages", ("type", "count"), sorted(facts["counts"].items(), key=lambda item: -item[1]))
    if facts["lines"]:
        names = sorted({name for values in facts["lines"].values() for name in values})
        table("lines", ("line", *names), [
            (line.upper(), *(values.get(name, 0) for name in names)) for line, values in facts["lines"].items()
        ])  # fmt: skip
    if "capture" in facts:
        table("frames", ("what", "count"), [(name, count) for name, count in facts["capture"].items() if count])
        table("destinations", ("to", "line", "packets", "bytes"), [
            (row["to"], row["line"] or "-", row["packets"], row["bytes"]) for row in facts["destinations"]
        ], left=2)  # fmt: skip
    gaps = [(name, count) for name, count in facts["gaps"].items() if count]
    if gaps:
        table("gaps", ("what", "count"), gaps)
    wrong = [(name, count) for name, count in facts["errors"].items() if count]
    if wrong:
        table("errors", ("counter", "count"), wrong)
    for name, row in facts["histograms_ns"].items():
        say(f"{name}: {row['count']:,} times, p50 {ns(row['p50'])}, p99 {ns(row['p99'])}, max {ns(row['max'])}")
    for book in facts["books"]:
        depth = max(len(book["bids"]), len(book["asks"]))
        sides = [[(to_text(px), qty, orders) for px, qty, orders in book[side]] + [("", "", "")] * (depth - len(book[side]))
                 for side in ("bids", "asks")]  # fmt: skip
        title = f"{book['symbol']}: {book['state']}, {book['orders']:,} orders, {book['volume']:,} shares traded"
        if book["status"]:
            title += "; " + ", ".join(f"{name} {value}" for name, value in book["status"].items())
        table(title, ("bid", "qty", "orders", "ask", "qty ", "orders "), [
            (*bid, *ask) for bid, ask in zip(*sides, strict=True)
        ])  # fmt: skip
    if facts["market"]:
        say("market: " + ", ".join(f"{name} {value}" for name, value in facts["market"].items()))
    if "capture" in facts and facts["capture"]["frames"] and not facts["capture"]["packets"]:
        say("no line of ours is in this capture: choose a destination with --line GROUP:PORT")
    for name, count in facts.get("parquet", {}).items():
        say(f"{name}.parquet: {count:,} rows")
    if "resident_mib" in facts:
        say("memory: " + ", ".join(f"{value} MiB at the {name}" for name, value in facts["resident_mib"].items()))
    session = f", session {facts['session']}" if "session" in facts else ""
    say(f"{facts['kind']}{session}: {facts['messages']:,} messages, {facts['instruments']:,} instruments, "
        f"{facts['live_orders']:,} orders live, {facts['executed_shares']:,} shares executed, books {facts['state']}")  # fmt: skip
    rates = facts["rates"]
    if facts["kind"] == "synthetic":
        say(f"made from a seed, and played in {facts['seconds']:.3f} s ({rates['messages_per_s']:,} messages a second)")
    elif facts["kind"] == "live":
        say(f"{facts['seconds']:.3f} s: {rates['messages_per_s']:,} messages a second")
    else:
        say(f"{facts['recorded_seconds']:,.3f} s recorded ({rates['recorded_messages_per_s']:,.1f} messages a second), "
            f"played in {facts['seconds']:.3f} s ({rates['messages_per_s']:,} a second)")  # fmt: skip


def record(options) -> int:
    """Capture lines until told to stop."""
    import json

    from hftd.cli.main import say
    from hftd.cli.tables import table
    from hftd.control.host import check_host
    from hftd.feed.sources.desk import parse_lines
    from hftd.feed.sources.record import LINES_MAX, Recording, configured_lines

    check_host()
    config, lines = configuration(options), parse_lines(options.line, LINES_MAX)
    if not lines and config is not None:
        lines = configured_lines(config)
    if not lines:
        raise WrongUse("record: say which lines: -c CONFIG, or --line GROUP:PORT")
    interface = options.interface or (config.feed.interface if config else "")
    if not interface:
        raise WrongUse("record: say which interface joins the groups: --interface IP")
    recording = Recording(options.out, lines, interface, options.max_bytes, options.buffer)
    facts = recording.run(options.seconds, ready=lambda: say(f"hftd record: recording, {recording.stamps}"))
    if options.json:
        say(json.dumps(facts))
        return 0
    columns = ("line", "address", "packets", "bytes", "dropped", "truncated", "hardware", "software", "unstamped")
    table("lines", columns, [tuple(row[name] for name in columns) for row in facts["lines"]], left=2)
    say(f"{facts['file']}: {facts['packets']:,} packets, {facts['file_bytes']:,} bytes in {facts['seconds']:.3f} s; "
        f"{facts['dropped']:,} dropped by the kernel; stamps: {facts['stamps']}; ended: {facts['ended']}")  # fmt: skip
    return 0
