"""The exchange with the compiler off: the same orders, the same random day, the same synthetic bytes."""

import hashlib
import os
import subprocess
import sys

import pytest

from hftd.sim.exchange import Exchange
from hftd.sim.options import Options
from tests.support.data import ROOT
from tests.support.interpreted import interpreted, is_child, passes
from tests.support.sim_desk import framed, play

ORDERS, RANDOM_DAY = ROOT / "tests" / "unit" / "sim" / "test_sim_orders.py", ROOT / "tests" / "property" / "test_matching_twin.py"
CHILD = interpreted(ORDERS, str(RANDOM_DAY), HFTD_CHECKED="1")
DAY = {"fast": True, "messages": 1500, "symbols": 1, "seed": 3}

pytestmark = pytest.mark.skipif(is_child(), reason="the interpreted child starts no other")


def digest() -> str:
    """Digest of a short synthetic day."""
    return hashlib.sha256(framed(play(Exchange(Options(**DAY))))).hexdigest()


@pytest.mark.beforehand(CHILD)
def test_orders_and_a_random_day_pass_interpreted_with_every_index_checked():
    passes(CHILD)


def test_synthetic_day_is_the_same_bytes_interpreted():
    code = "from tests.unit.sim.test_sim_interpreted import digest; import sys; sys.stdout.write(digest())"
    env = {**os.environ, "NUMBA_DISABLE_JIT": "1", "HFTD_CHECKED": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    child = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert child.stdout == digest(), child.stderr


def test_the_exchanges_loop_allocates_nothing_and_calls_no_python():
    """The synthetic flow takes logarithms: the one call beyond the list of hot code."""
    from hftd.core.certify import ALLOWED, certify
    from hftd.sim.loop import cycle
    from hftd.sim.server import warm

    warm()
    certificate = certify(cycle, allowed=ALLOWED | {"log"}, lines=False)
    assert certificate.ok, str(certificate)
