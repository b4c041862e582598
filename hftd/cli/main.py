"""The parser, and the one place where an error becomes a line on standard error and an exit code.

Exit codes: 0 done, 1 an error (or a difference, or a limit not met), 2 wrong usage or configuration, 3 no daemon is running.
Commands import what they need when they run, so that `hftd --help` and `hftd status` do not wait for a compiler.
"""

import argparse
import contextlib
import errno
import os
import sys
from collections.abc import Callable

from hftd import __version__
from hftd.errors import HftdError, exit_code


def parser(whole: bool = True) -> argparse.ArgumentParser:
    """Return the command line's parser. Without `whole`, some commands declare their options only when they are the one given."""
    from hftd.cli import daemon, feed, journal, latency, market, prove, research, show, status

    top = argparse.ArgumentParser(
        prog="hftd", description="A low-latency trading daemon: machine code in the path, Python in the source."
    )
    top.add_argument("--version", action="version", version=f"hftd {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _declared[0] = whole
    for group in (daemon, status, show, market, feed, prove, journal, latency, research):
        group.add(commands)
    return top


_declared = [True]


def late(command: argparse.ArgumentParser, declare: Callable[[argparse.ArgumentParser], None]) -> None:
    """Have a command's options declared when it is parsed: to know them may take a compiler, which the others need not wait for."""
    if _declared[0]:
        declare(command)
        return
    usual = command.parse_known_args

    def parse(*arguments, **options):
        declare(command)
        return usual(*arguments, **options)

    command.parse_known_args = parse  # type: ignore[method-assign]


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = parser(whole=False).parse_args(arguments)
    try:
        return int(options.run(options) or 0)
    except HftdError as error:
        complain(str(error))
        return exit_code(error)
    except KeyboardInterrupt:
        complain("interrupted")
        return 130
    except BrokenPipeError:
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO) or error.filename is not None:
            raise
        complain(f"the output cannot be written: {error.strerror}")
        return 1


def complain(text: str) -> None:
    """Write one line to standard error."""
    sys.stderr.write(f"hftd: {text}\n")


def say(text: str = "") -> None:
    """Write one line to standard output."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
