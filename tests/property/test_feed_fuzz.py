"""Truncated, mutated and hostile market data: nothing crashes, nothing is read out of range, and rejected input moves no book.

The real tests run in a child with HFTD_CHECKED=1, so that each row that compiled code touches is checked against its span, and with
what is delivered at the end of readable memory. A child that dies says which input it died of. A longer, coverage-guided run of the
same targets: scripts/fuzz.
"""

import os
import subprocess
import sys
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, example, given, settings

from hftd.core.jit import CHECKED
from tests.support.beforehand import ROOT, Beforehand
from tests.support.interpreted import is_child

IN_CHILD = "HFTD_FUZZ_CHILD" in os.environ

DEEP = st.lists(st.binary(min_size=1, max_size=64), min_size=1, max_size=12).map(b"".join)


CHILD = Beforehand([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-x", __file__],
                   HFTD_CHECKED="1", HFTD_TEST_CHILD="1", HFTD_FUZZ_CHILD="1")  # fmt: skip


@pytest.mark.beforehand(CHILD)
@pytest.mark.skipif(is_child(), reason="this is the child")
@pytest.mark.timeout(300)
def test_hostile_data_with_index_checking():
    child = CHILD.result(290)
    assert child.returncode == 0, f"{child.returncode}: input {CHILD.scratch}\n{child.stdout[-6000:]}{child.stderr[-2000:]}"
    assert "2 passed" in child.stdout


BEYOND = """
import ctypes
from tests.support.feed_fuzz import Guarded
made = Guarded()
at = made.put(b"abc")
assert ctypes.string_at(at, 3) == b"abc"
print("so far", flush=True)
ctypes.string_at(at, 4)
print("not so far")
"""


@pytest.mark.skipif(is_child(), reason="this is the child")
def test_a_byte_read_beyond_the_end_ends_the_process():
    """So that the run above could have failed."""
    child = subprocess.run([sys.executable, "-c", BEYOND], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert child.returncode == -11 and child.stdout == "so far\n"


@pytest.fixture(scope="module")
def targets():
    from tests.support.feed_fuzz import TARGETS

    return {name: made() for name, made in TARGETS.items()}


@pytest.mark.skipif(not IN_CHILD, reason="runs in the child")
@pytest.mark.parametrize("name", ["messages", "packets"])
def test_target(targets, name):
    assert CHECKED
    done = 0

    @settings(max_examples=500, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @example(b"")
    @given(DEEP)
    def go(data):
        nonlocal done
        Path(os.environ[Beforehand.SCRATCH]).write_text(f"{name} {data.hex()}")
        done += targets[name].run(data)

    go()
    assert done > 500
