"""hftd/control/told.py: a signal that ends a demonstration or a benchmark ends it, wherever it is heard."""

import signal
import subprocess
import sys

import pytest

SWALLOWED = """
import os, signal, sys
from hftd.control.told import Told


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
    code = "import os, signal\nfrom hftd.control.told import Told\nTold()\nos.kill(os.getpid(), signal.SIGHUP)\nprint('went on')"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60,
                         preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))  # fmt: skip
    assert (ran.returncode, ran.stdout) == (0, "went on\n"), ran.stderr


TIDIED = """
import os, signal, sys, tempfile
from hftd.control.told import Told

told = Told()
try:
    with tempfile.TemporaryDirectory() as directory:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            print(directory, flush=True)
finally:
    told.forget()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
"""


def test_signal_sent_twice_does_not_end_the_tidying(tmp_path):
    """timeout(1) sends it to the process, and to its group: the second came in the middle of what the first had begun."""
    ran = subprocess.run([sys.executable, "-c", TIDIED], capture_output=True, text=True, timeout=60, env={"TMPDIR": str(tmp_path)},
                         preexec_fn=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL))  # fmt: skip
    assert ran.returncode == 128 + signal.SIGTERM and ran.stdout.startswith(str(tmp_path)), ran.stderr
    assert list(tmp_path.iterdir()) == []
