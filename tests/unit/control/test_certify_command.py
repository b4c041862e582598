"""`hftd certify` and `hftd strategy check`: what is fit passes from the cache, and what is not is named with its line."""

import json

import numpy as np
import pytest

from hftd.cli.main import main
from hftd.control import warm
from hftd.core.atomics import tsc
from hftd.core.jit import INTERPRETED, hot
from hftd.strategy.program import check_file

pytestmark = pytest.mark.skipif(INTERPRETED, reason="machine code")

START = "from hftd.strategy import *\nimport math\nimport numpy as np\nstate = layout('s', 16, [('a', 'i8'), ('b', 'i8')])\n"
BODY = START + "def on_book(ctx, book):\n    "


@hot
def _fit(n):
    total = 0
    for _ in range(n):
        total += tsc() & 1
    return total


@hot
def _unfit(n):
    return np.zeros(n)[0]


@pytest.fixture
def wanted(monkeypatch, tmp_path):
    """Return a function that makes a configuration of these kernels; the daemon's own are certified elsewhere."""
    from numba import types

    def make(*functions) -> str:
        names = [function.py_func.__name__.strip("_") for function in functions]
        kernels = [warm.Kernel(name, lambda one=one: one, (types.int64,)) for name, one in zip(names, functions)]
        monkeypatch.setattr(warm, "kernels", lambda config: kernels)
        path = tmp_path / "c.toml"
        path.write_text('[[strategy]]\nfile = "market_maker.py"\n')
        return str(path)

    return make


def test_what_is_fit_passes(wanted, capsys):
    """A table, and one sentence."""
    assert main(["certify", "-c", wanted(_fit)]) == 0
    said = capsys.readouterr().out
    assert "fit" in said and "1 kernels: no allocation" in said


def test_what_allocates_is_named_with_its_line(wanted, capsys):
    """Exit code 1; the finding on standard error, with this file's line."""
    assert main(["certify", "-c", wanted(_fit, _unfit)]) == 1
    output = capsys.readouterr()
    line = _unfit.py_func.__code__.co_firstlineno + 2
    assert "NOT FIT" in output.out and "no allocation" not in output.out
    assert "hftd: unfit: calls NRT_MemInfo_alloc_aligned" in output.err
    assert f"test_certify_command.py:{line}" in output.err


def test_json_holds_everything(wanted, capsys):
    """Digests do not change from one run to the next."""
    assert main(["certify", "--json", "-c", wanted(_fit, _unfit)]) == 1
    first = json.loads(capsys.readouterr().out)
    assert [row["ok"] for row in first] == [True, False]
    assert all(row["code_bytes"] > 0 and row["stack_bytes"] > 0 and len(row["sha256"]) == 64 for row in first)
    assert first[1]["findings"][0].keys() == {"kind", "what", "where"}
    assert first[0]["atomics"] == {}
    main(["certify", "--json", "-c", wanted(_fit)])
    assert json.loads(capsys.readouterr().out)[0]["sha256"] == first[0]["sha256"]


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("body", "line", "words"), [
    ("x = [book.bid_px]\n    x.append(3)\n    if len(x) == 5: cancel(ctx, x[1])\n", 6, "allocates memory"),
    ("d = {1: book.bid_px}\n    if d[1] == 5: cancel(ctx, d[1])\n", 6, ""),
    ("s = f'{book.bid_px}'\n    if len(s) == 5: cancel(ctx, 1)\n", 6, ""),
    ("print('hello', book.bid_px)\n", 6, "calls Python"),
    ("if book.bid_px == 7:\n        raise ValueError('x')\n", 7, "raises an exception"),
    ("assert book.bid_px != 7\n", 6, "raises an exception"),
    ("x = book.bid_px\n    while ctx.state.a == 0:\n        pass\n", 7, "loops for ever"),
    ("a = np.zeros(book.bid_px & 7)\n    b = a[1:3] + 1.0\n    if b.sum() > 3: cancel(ctx, 5)\n", 6, "allocates memory"),
    ("import json\n    json.dumps(3)\n", 6, ""),
])  # fmt: skip
def test_bad_strategy_is_found_with_its_line(tmp_path, body, line, words):
    """Lists, dicts, text, Python, exceptions, slices, a spin on a plain load, Python's objects."""
    path = tmp_path / "mine.py"
    path.write_text(BODY + body)
    findings = check_file(str(path))
    assert findings
    assert findings[0].startswith(f"{path}:{line}: "), findings
    assert any(words in one for one in findings)
    assert all("\n" not in one for one in findings)


BAD = {
    "list append": ("x = [book.bid_px]\n    x.append(3)\n    if len(x) == 5: cancel(ctx, x[1])\n", 6),
    "dict": ("d = {1: book.bid_px}\n    if d[1] == 5: cancel(ctx, d[1])\n", 6),
    "string formatting": ("s = f'{book.bid_px}'\n    if len(s) == 5: cancel(ctx, 1)\n", 6),
    "exception": ("if book.bid_px == 7:\n        raise ValueError('x')\n", 7),
    "object mode": ("import json\n    json.dumps(3)\n", 6),
    "allocation by slicing": ("a = np.zeros(book.bid_px & 7)\n    b = a[1:3] + 1.0\n    if b.sum() > 3: cancel(ctx, 5)\n", 6),
    "plain spin": ("x = book.bid_px\n    while ctx.state.a == 0:\n        pass\n", 7),
}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", BAD)
def test_configuration_with_a_bad_strategy_is_not_certified(tmp_path, monkeypatch, capsys, kind):
    """`hftd certify` ends with 1 and names file and line, compiled or refused by the compiler, before anything trades."""
    body, line = BAD[kind]
    strategy = tmp_path / "mine.py"
    strategy.write_text(BODY + body)
    path = tmp_path / "c.toml"
    path.write_text(f'[[strategy]]\nfile = "{strategy}"\n')
    every = warm.kernels
    monkeypatch.setattr(warm, "kernels", lambda config: [one for one in every(config) if one.name.startswith("strategy ")])
    assert main(["certify", "-c", str(path)]) == 1
    said = capsys.readouterr()
    assert f"{strategy}:{line}: " in said.err, said.err
    assert "no allocation" not in said.out


def test_strategy_may_calculate(tmp_path):
    """The math library takes no memory and no lock; a call of it is no finding, nor is one whose address waits in a register."""
    path = tmp_path / "mine.py"
    path.write_text(BODY + "y = math.exp(book.bid_px * 0.1) + math.log(book.ask_px + 1.0)\n    if y > 3.0: cancel(ctx, 5)\n")
    assert check_file(str(path)) == []


def test_call_through_a_pointer_is_told_from_a_call_by_name():
    """In LLVM's words; what Python's wrapper does is not counted."""
    from hftd.strategy.check import calls_a_pointer

    inside = "define i32 @f(ptr %0) {\n  %1 = call i64 BODY\n  ret i32 0\n}\n"
    assert calls_a_pointer(inside.replace("BODY", "%0(i64 3)"))
    assert not calls_a_pointer(inside.replace("BODY", "@exp(double %0)"))
    assert not calls_a_pointer(inside.replace("BODY", "%0(i64 3)").replace("@f(", "@_ZN7cpython_f("))


def test_interpreter_has_nothing_to_certify(monkeypatch, wanted, capsys):
    """Said in one line."""
    from hftd.core import jit

    monkeypatch.setattr(jit, "INTERPRETED", True)
    assert main(["certify", "-c", wanted(_fit)]) == 1
    assert capsys.readouterr().err == "hftd: there is no machine code to certify with NUMBA_DISABLE_JIT=1; unset it\n"
