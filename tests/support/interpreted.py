"""Run a folder of tests once more with the compiler off: the interpreter twins must pass what compiled code passes."""

import os
import sys
from pathlib import Path

from tests.support.beforehand import Beforehand

TIMEOUT = 170


def interpreted(folder: Path, *more: str, **env: str) -> Beforehand:
    """Return the child that runs the tests of `folder` with NUMBA_DISABLE_JIT=1, and what else is added to the environment."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-x", str(folder), *more]
    return Beforehand(command, NUMBA_DISABLE_JIT="1", HFTD_TEST_CHILD="1", **env)


def passes(child: Beforehand) -> None:
    """Fail, with the child's report, where one of its tests did."""
    done = child.result(TIMEOUT)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def is_child() -> bool:
    """Tell whether this is such a child, which must not start another."""
    return os.environ.get("HFTD_TEST_CHILD") == "1"
