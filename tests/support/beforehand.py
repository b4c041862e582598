"""Long children whose result only their own test looks at: they run from the start, on what other tests leave of the cores.

    CHILD = Beforehand([sys.executable, …])                at the module's level

    @pytest.mark.beforehand(CHILD)
    def test_…():
        child = CHILD.result(timeout)                      as subprocess.run has it

`conftest.py` begins with the children of the tests that will run: one process runs them one after the other, at a
low priority, and leaves each result in a file. It ends, with the child at hand, when the run ends, however that does.

    python -m tests.support.beforehand DIRECTORY           that process; standard input: [[command, environment], …] as JSON
"""

import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PR_SET_PDEATHSIG = 1
NICE = 10
"""What else runs goes first, and yet they do not starve."""
PATIENCE_S = 20
"""How long a child may tidy up."""


class Beforehand:
    """A command, and its result once it was run. env: what is added to the environment, beside SCRATCH, a file it may write."""

    SCRATCH = "HFTD_TEST_SCRATCH"

    def __init__(self, command: list[str], **env: str):
        self.command, self.env = command, env
        self._file: Path | None = None

    def place(self, file: Path) -> None:
        """Say where its result will be."""
        self._file = file
        self.env[self.SCRATCH] = f"{file}.scratch"

    @property
    def scratch(self) -> str:
        """What it wrote last."""
        file = Path(self.env[self.SCRATCH])
        return file.read_text() if file.exists() else "nothing"

    def result(self, timeout: float) -> subprocess.CompletedProcess[str]:
        """Return what it printed and how it ended; wait for that up to `timeout` seconds."""
        assert self._file is not None, "its test carries no mark `beforehand`"
        until = time.monotonic() + timeout
        while not self._file.exists():
            assert time.monotonic() < until, f"{' '.join(self.command)} takes longer than {timeout} s"
            time.sleep(0.05)
        code, out, err = json.loads(self._file.read_text())
        return subprocess.CompletedProcess(self.command, code, out, err)


class Children:
    """The process that runs them."""

    def __init__(self, children: list[Beforehand]):
        self._directory = tempfile.TemporaryDirectory(prefix="hftd-beforehand-")
        for number, child in enumerate(children):
            child.place(Path(self._directory.name) / str(number))
        self._process = subprocess.Popen([sys.executable, "-m", "tests.support.beforehand", self._directory.name], cwd=ROOT,
                                         stdin=subprocess.PIPE, start_new_session=True)  # fmt: skip
        assert self._process.stdin is not None
        with self._process.stdin as pipe:
            pipe.write(json.dumps([[child.command, child.env] for child in children]).encode())

    def end(self) -> None:
        """End it and what it runs, which may tidy up before, and forget the results."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(PATIENCE_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._directory.cleanup()


def _run_all(directory: Path) -> None:
    ended = False

    def end(number: int, frame: object) -> None:
        nonlocal ended
        if not ended:                                     # the child hears of it, and the wait for it goes on
            ended = True
            os.killpg(0, signal.SIGTERM)

    signal.signal(signal.SIGTERM, end)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    os.nice(NICE)
    for number, (command, env) in enumerate(json.load(sys.stdin)):
        done = subprocess.run(command, cwd=ROOT, env=os.environ | env, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if ended:
            shutil.rmtree(directory, ignore_errors=True)
            return
        part = directory / f"{number}.part"
        part.write_text(json.dumps([done.returncode, done.stdout, done.stderr]))
        part.rename(directory / str(number))


if __name__ == "__main__":
    _run_all(Path(sys.argv[1]))
