"""The gate without noise: no component may grow by more than 3 per cent of instructions, and no hot loop may gain a call."""

import dataclasses
import json
import shutil
import sys

import numpy as np
import pytest

from hftd.bench import core, instructions
from hftd.bench.registry import BenchError
from hftd.core.bind import bind
from hftd.core.certify import certify
from hftd.core.jit import CHECKED, INTERPRETED, leaf
from hftd.core.libc import sched_yield
from hftd.core.memory import records
from hftd.shm import ring
from tests.support.beforehand import Beforehand

pytestmark = pytest.mark.skipif(INTERPRETED or CHECKED, reason="machine code of the production build")


COUNT = f"""
import dataclasses, json, os, tempfile
from hftd.bench import instructions
os.environ["TMPDIR"] = tempfile.mkdtemp(dir=os.path.dirname(os.environ["{Beforehand.SCRATCH}"]))  # goes with it, whoever ends this
print(json.dumps(dataclasses.asdict(instructions.count())))
"""
COUNTED = Beforehand([sys.executable, "-c", COUNT])


@pytest.mark.timeout(550)
@pytest.mark.beforehand(COUNTED)
@pytest.mark.skipif(not shutil.which("valgrind"), reason="counting needs valgrind: apt-get install valgrind")
def test_no_component_grew():
    """Every count against the table; on purpose: hftd bench instructions --write."""
    kept = instructions.load()
    other = instructions.other_toolchain(kept)
    if other:
        pytest.skip(f"the table was made by another compiler ({other}): hftd bench instructions --write")
    child = COUNTED.result(540)
    assert child.returncode == 0, child.stderr[-3000:]
    found = instructions.regressions(kept, instructions.Count(**json.loads(child.stdout)))
    assert not found, "\n".join([*found, "on purpose? hftd bench instructions --write, and say why in the commit"])


def test_the_table_holds_every_component():
    """What the gate is for: rings, pool, decoding, books, strategy, risk, encoding, reports, histogram."""
    kept = instructions.load()
    assert {
        "ring", "pool", "histogram", "seqlock", "limits", "encode", "parse", "packet, add", "packet, execute", "packet, replace",
        "packet, delete", "strategy", "risk", "order", "answer", "risk, reports", "strategy, reports",
    } <= set(kept.instructions)  # fmt: skip
    assert all(count > 0 for count in kept.instructions.values())
    assert {"ring", "parse", "path"} <= set(kept.calls)


@pytest.mark.parametrize(("change", "said"), [
    ({"ring": 47.3}, []),
    ({"ring": 47.5}, ["ring: 46 instructions became 47.5, +3.3%"]),
    ({"ring": 20.0}, []),
    ({"wheel": 5.0}, ["wheel: is not in the table"]),
])  # fmt: skip
def test_three_per_cent_is_the_limit(change, said):
    """Less is welcome; more is a failure, and so is a component that nobody wrote down."""
    kept = instructions.Count({"ring": 46.0}, {"ring": 0}, {})
    made = dataclasses.replace(kept, instructions={**kept.instructions, **change})
    assert instructions.regressions(kept, made) == said


def test_component_that_is_counted_no_more_is_a_failure():
    """A gate that looks at nothing passes nothing."""
    kept = instructions.Count({"ring": 46.0}, {"ring": 0}, {})
    assert instructions.regressions(kept, instructions.Count({}, {}, {})) == ["ring: was not counted", "ring: was not certified"]


@leaf
def _calling(state, k):
    core._push_take(state, k + sched_yield())


@leaf
def _allocating(state, k):
    if ring.ready(state.c):
        core._push_take(state, np.zeros(k + 1, np.int64).sum())


template_body = None


def _loop(state, n):
    for k in range(n):
        template_body(state, k)


@pytest.mark.parametrize(("body", "ok"), [(core._push_take, True), (_calling, False), (_allocating, False)])
def test_loop_that_gains_a_call_or_an_allocation_is_seen(body, ok):
    """The ring's loop as it is, with a call that a certificate would allow, with an array made in it: real machine code."""
    state = records(core.ring_pair_dtype, 1)[0]
    kernel = bind(_loop, f"gate_{body.__name__}", template_body=body)
    kernel(state, 0)
    made = certify(kernel, kernel.signatures[0], lines=False)
    kept = instructions.load()
    found = instructions.regressions(
        instructions.Count({}, {"ring": kept.calls["ring"]}, {}), instructions.Count({}, {"ring": made.sites}, {})
    )
    assert (not found) is ok, (found, made)
    if not ok:
        assert found == [f"ring: {kept.calls['ring']} places that call became {made.sites}"]


def test_table_that_cannot_be_read_says_how_to_write_it(tmp_path):
    """File, reason, command."""
    file = tmp_path / "instructions.toml"
    with pytest.raises(BenchError, match=r"instructions\.toml: .*hftd bench instructions --write"):
        instructions.load(file)
    file.write_text("x = [")
    with pytest.raises(BenchError, match=r"hftd bench instructions --write"):
        instructions.load(file)


def test_table_survives_being_written(tmp_path):
    """What was saved is loaded."""
    kept = instructions.load()
    instructions.save(kept, tmp_path / "t.toml")
    assert instructions.load(tmp_path / "t.toml") == kept
    assert (tmp_path / "t.toml").read_text() == instructions.TABLE.read_text()
