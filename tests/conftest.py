"""What holds for every test: whoever ends the run, what a test started is ended too."""

import signal


def _end(number, frame):
    raise KeyboardInterrupt(f"signal {number}")


def pytest_configure(config):
    """Let SIGTERM and SIGHUP unwind the run as Ctrl-C does, so that fixtures end daemons and remove memory."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
