"""Every loop that runs in production, each strategy that ships included, dedicated and fused, is certified: nothing is left out."""

import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from hftd.cli.prove import judged
from hftd.core.jit import INTERPRETED

ROOT = Path(__file__).resolve().parents[3]
STAGES = ("feed", "risk", "gateway", "recorder", "strategy")

pytestmark = [pytest.mark.skipif(INTERPRETED, reason="machine code"), pytest.mark.timeout(600)]


@cache
def _wanted():
    """Every kernel that any configuration of this tree can run, by name."""
    from hftd.control.config import build
    from hftd.control.host import place
    from hftd.control.warm import kernels

    files = sorted(ROOT.glob("strategies/*.py"))
    data = {
        "strategy": [{"file": str(file), "name": file.stem} for file in files],
    }
    config = build(data)
    made = {}
    for fused in (False, True):
        one = config if not fused else replace(config, strategy=config.strategy[:1])
        placement = replace(place(one), layout="fused" if fused else "dedicated")
        for kernel in kernels(one, placement):
            made.setdefault(kernel.name, kernel)
    return made


def test_no_stage_is_left_out():
    """A folder with a loop has a kernel among those that are certified; so has each strategy file."""
    names = set(_wanted())
    for folder in sorted(path.parent.name for path in ROOT.glob("hftd/*/loop.py")):
        if folder in ("sim",):  # the exchange is not part of the daemon; it has a certificate test of its own below
            continue
        text = (ROOT / "hftd" / folder / "loop.py").read_text()
        if folder != "strategy" and re.search(r"^def kernel\(", text, re.M):
            assert folder in names, f"hftd/{folder}/loop.py has a kernel that control/warm.py does not name"
    assert {f"strategy {file.stem}" for file in ROOT.glob("strategies/*.py")} <= names
    assert {"feed", "risk", "gateway", "recorder", "log"} <= names
    assert any(name.startswith("fused ") for name in names)


def _names():
    if INTERPRETED:
        return []
    return sorted(_wanted())


@pytest.mark.parametrize("name", _names())
def test_the_kernel_is_certified(name):
    """No allocation, no reference count, no CPython, no stranger's code, no endless loop, shared words as they must be."""
    wanted = _wanted()[name]
    wanted.make().compile(wanted.signature)
    certificate = judged(wanted)
    assert certificate.ok, "\n".join(map(str, certificate.forbidden))
    assert certificate.instructions > 0 and certificate.stack_bytes < 64 << 10
