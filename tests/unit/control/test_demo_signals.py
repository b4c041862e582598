"""hftd/control/demo.py: a signal that ends a demonstration ends it, wherever it is heard."""

import signal
import subprocess
import sys

import pytest

SWALLOWED = """
import os, signal, sys
from hftd.control.demo import Told


class LetGo:
    def __del__(self):                                # what is raised here is printed, and nothing else comes of it
        os.kill(os.getpid(), int(sys.argv[1]))
        for _ in range(1000):
            pass


told = Told()
LetGo()
print("went on", flush=True)
told.check()
print("and on", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_signal_whose_exception_is_swallowed_is_not_lost(number):
    """Ctrl-C while an object was let go, or in a callback of the compiler, was lost: the demonstration went on to its end."""
    ran = subprocess.run([sys.executable, "-c", SWALLOWED, str(int(number))], capture_output=True, text=True, timeout=60,
                         preexec_fn=lambda: signal.signal(number, signal.SIG_DFL))  # fmt: skip
    assert (ran.returncode, ran.stdout) == (128 + number, "went on\n"), ran.stderr


def test_signal_that_is_ignored_stays_ignored():
    """Behind nohup, or in the background of a script."""
    code = "import os, signal\nfrom hftd.control.demo import Told\nTold()\nos.kill(os.getpid(), signal.SIGHUP)\nprint('went on')"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60,
                         preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))  # fmt: skip
    assert (ran.returncode, ran.stdout) == (0, "went on\n"), ran.stderr
