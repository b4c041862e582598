"""Run a folder of tests once more with the compiler off: the interpreter twins must pass what compiled code passes."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run_interpreted(folder: Path, *more: str) -> None:
    """Run the tests of `folder` in one child with NUMBA_DISABLE_JIT=1; a failure shows the child's report."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-x", str(folder), *more]
    env = {**os.environ, "NUMBA_DISABLE_JIT": "1", "HFTD_INTERPRETED_CHILD": "1"}
    child = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=150)
    assert child.returncode == 0, child.stdout[-6000:] + child.stderr[-2000:]


def is_child() -> bool:
    """Tell whether this is the interpreted child, which must not start another."""
    return os.environ.get("HFTD_INTERPRETED_CHILD") == "1"
