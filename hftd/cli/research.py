"""strategy, bench: for those who write strategies, and those who do not believe a figure they have not measured."""


def add(commands) -> None:
    """Add the commands of this file."""
    from hftd.cli.main import late

    parser = commands.add_parser("strategy", help="list, check or begin strategies")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    actions.add_parser("list", help="the strategies there are, and their parameters").set_defaults(run=listing)
    check = actions.add_parser("check", help="compile a strategy and show that it is fit for the hot path")
    check.add_argument("file")
    check.set_defaults(run=checking)
    new = actions.add_parser("new", help="write a documented template")
    new.add_argument("name")
    new.set_defaults(run=beginning)
    parser = commands.add_parser("bench", help="measure every component against its budget and the machine's limit")
    late(parser, _bench_options)
    parser.set_defaults(run=bench)


def _bench_options(parser) -> None:
    from hftd.bench.command import add_arguments

    add_arguments(parser)


def listing(options) -> int:
    """Print the strategies found, with parameters."""
    from hftd.cli.tables import table
    from hftd.strategy.program import list_strategies

    table("strategies", ("name", "file", "what it does", "parameters"), list_strategies(), left=4)
    return 0


def checking(options) -> int:
    """Compile a strategy and print the findings; non-zero where there are any."""
    from pathlib import Path

    from hftd.cli.main import complain, say
    from hftd.errors import WrongUse
    from hftd.strategy.program import check_file

    if not Path(options.file).name:
        raise WrongUse(f"strategy check: must name a strategy file, was {options.file!r}; `hftd strategy list` shows what there is")
    findings = check_file(options.file)
    for line in findings:
        complain(line)
    if not findings:
        say(f"{options.file}: compiles, allocates nothing, calls no Python")
    return 1 if findings else 0


def beginning(options) -> int:
    """Write a template strategy."""
    from hftd.cli.main import say
    from hftd.strategy.program import new_file

    say(f"{new_file(options.name)}: written; try: hftd strategy check {options.name}")
    return 0


def bench(options) -> int:
    """Run benchmarks."""
    from hftd.bench.command import main
    from hftd.control.told import Told

    told = options.told = Told()                      # SIGTERM, too, unwinds: directories, processes and worktrees go
    try:
        code = main(options)
        told.check()
        return code
    finally:
        told.forget()
