"""`python -m hftd.sim`: the exchange without the rest of hftd's command line, as `hftd sim` runs it."""

import argparse
import sys

from hftd.cli.main import say
from hftd.errors import HftdError
from hftd.sim.options import add_arguments, options_from
from hftd.sim.server import run


def main() -> int:
    """Run the exchange as the command line says; return the exit code."""
    parser = argparse.ArgumentParser("hftd.sim", description="the simulated exchange")
    add_arguments(parser)
    try:
        facts = run(options_from(parser.parse_args()), ready=lambda: say("hftd sim: ready"))
    except HftdError as error:
        sys.stderr.write(f"hftd: {error}\n")
        return 1
    say(f"hftd sim: {facts['messages']:,} messages, {facts['orders']:,} orders, {facts['fills']:,} fills")
    return 0


if __name__ == "__main__":
    sys.exit(main())
