"""`hftd …` and `python -m hftd …`."""

import contextlib
import io
import os
import sys

from hftd.cli.main import main


def run() -> None:
    """Run one command and end the process with its exit code.

    At once: taking down an interpreter with a compiler in it takes longer than most commands, and nothing here waits for it.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:                # closed by whoever started us
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):      # a name that is no text, a terminal without our signs: shown as it can be
            stream.reconfigure(errors="backslashreplace")
    code = main()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    run()
