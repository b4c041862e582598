"""Loading a strategy: what it may say, and one line with file and line for everything a person can get wrong."""

import pytest

from hftd.control import config as configuration
from hftd.core.jit import INTERPRETED
from hftd.strategy import program as programs
from hftd.strategy.params import StrategyError
from hftd.strategy.program import check_file, find_file, list_strategies, load, load_all, new_file
from tests.support.strategy_desk import PROBE

IMPORT = "from hftd.strategy import *\n"
BODY = "def on_book(ctx, book):\n    "
RECORDS = IMPORT + "R = __import__('numpy').zeros(2, layout('r', 8, [('a', 'i8')]))\n"


def write(folder, source, name="mine.py"):
    """Write a strategy file."""
    path = folder / name
    path.write_text(source)
    return path


@pytest.mark.parametrize(("source", "line", "words"), [
    (IMPORT + "def on_book(ctx, book)\n    pass\n", 2, "expected ':'"),
    (IMPORT + "def helper(x):\n    return x\n", 1, "no callback; write at least def on_book(ctx, book)"),
    (IMPORT + "def on_boko(ctx, book):\n    pass\n", 2, "on_boko: unknown callback; did you mean on_book?"),
    (IMPORT + "def on_book(ctx):\n    pass\n", 2, "on_book takes 2 arguments: write def on_book(ctx, book)"),
    (IMPORT + "def on_timer(ctx, more):\n    pass\n", 2, "on_timer takes 1 argument: write def on_timer(ctx)"),
    (IMPORT + "async def on_book(ctx, book):\n    pass\n", 2, "must be a plain function"),
    (IMPORT + "@staticmethod\ndef on_book(ctx, book):\n    pass\n", 3, "must not be decorated"),
    (IMPORT + BODY + "yield 5\n", 3, "must not yield"),
    (IMPORT + "x = 1 / 0\n" + BODY + "pass\n", 2, "ZeroDivisionError"),
    ("import nosuch\n" + BODY + "pass\n", 1, "No module named 'nosuch'"),
    ("from hftd.strategy import Foo\n" + BODY + "pass\n", 1, "cannot import name 'Foo'"),
    (IMPORT + "state = {}\n" + BODY + "pass\n", 2, "state must be layout("),
    (IMPORT + "state = layout('s', 16, [('a', 'i8')])\n" + BODY + "pass\n", 2, "the fields take 8 bytes, 16 were declared"),
    (IMPORT + "params = [5]\n" + BODY + "pass\n", 2, "params must be a list of Param"),
    (IMPORT + "params = [Param('q', 5), Param('q', 6)]\n" + BODY + "pass\n", 2, "parameter q stands twice"),
    (IMPORT + "params = [Param('q', 5, min=7)]\n" + BODY + "pass\n", 2, "q must be at least 7, was 5"),
    (IMPORT + "params = [Param('q', None)]\n" + BODY + "pass\n", 2, "the default must be a number"),
    (IMPORT + "every_event = 1\n" + BODY + "pass\n", 2, "every_event must be True or False"),
    (IMPORT + "counters = 'abc'\n" + BODY + "pass\n", 2, "counters must be a list"),
    (RECORDS + BODY + "R[0].a = book.bid_px\n", 4, "R: records cannot be global: what is written to them is lost"),
    (RECORDS + "def h(px):\n    r = R[0]\n    r.a = px\n" + BODY + "h(book.bid_px)\n", 4, "R: records cannot be global"),
    (RECORDS + "T = (1, (R,))\n" + BODY + "T[1][0][0].a = book.bid_px\n", 5, "T: records cannot be global"),
    (RECORDS + "if True:\n    def h(px):\n        R[0].a = px\n" + BODY + "h(book.bid_px)\n", 5, "R: records cannot be global"),
    (RECORDS + "def make(r):\n    def h(px):\n        r[0].a = px\n    return h\nh = make(R)\n" + BODY + "h(book.bid_px)\n", 6,
     "r: records cannot be global"),
    (IMPORT + "from hftd.strategy.program import _nothing_more as on_trade\n" + BODY + "pass\n", 1,
     "on_trade must be a plain function of this file"),
    pytest.param(
        IMPORT + "from numba import njit\ndef h(ctx, trade):\n    pass\non_trade = njit(h)\n" + BODY + "pass\n", 5,
        "on_trade must be a plain function of this file",
        marks=pytest.mark.skipif(INTERPRETED, reason="njit gives the plain function back"),
    ),
    (IMPORT + "params = [Param('q', 5, min='a')]\n" + BODY + "pass\n", 2, "q: min and max must be numbers, was 'a'"),
    (IMPORT + "params = [Param(5, 5)]\n" + BODY + "pass\n", 2, "5 cannot be a parameter's name"),
    (IMPORT + "params = [Param('q', 1 << 63)]\n" + BODY + "pass\n", 2, "q must be within 64 bits, was 9223372036854775808"),
    (IMPORT + "import sys\nsys.exit(3)\n" + BODY + "pass\n", 3, "SystemExit: 3"),
    (IMPORT + "# \0\n" + BODY + "pass\n", 1, "null bytes"),
])  # fmt: skip
def test_what_is_seen_before_compiling(tmp_path, source, line, words):
    """file:line: what is wrong; what would be right."""
    path = write(tmp_path, source)
    with pytest.raises(StrategyError) as error:
        load(path)
    text = str(error.value)
    assert text.startswith(f"{path}:{line}: ")
    assert words in text
    assert "\n" not in text
    assert check_file(path) == [text]


def test_records_of_another_module_cannot_be_written_to_either(tmp_path, monkeypatch):
    """By the module's name, or by a function of it that was decorated for being called."""
    monkeypatch.syspath_prepend(tmp_path)
    write(tmp_path, "import numpy as np\nfrom hftd.core.jit import leaf\nR = np.zeros(2, [('a', 'i8')])\n"
          "@leaf\ndef keep(px):\n    R[0].a = px\n", "kept_records.py")  # fmt: skip
    for use, name in (("kept_records.R[0].a = book.bid_px", "kept_records.R"), ("keep(book.bid_px)", "R")):
        path = write(tmp_path, IMPORT + "import kept_records\nfrom kept_records import keep\n" + BODY + use + "\n")
        with pytest.raises(StrategyError, match=f"mine.py:5: {name}: records cannot be global"):
            load(path)


@pytest.mark.skipif(INTERPRETED, reason="what the compiler finds needs the compiler")
@pytest.mark.parametrize(("source", "line", "words"), [
    (IMPORT + BODY + "x = foo(3)\n", 3, "foo is not defined"),
    (IMPORT + BODY + "x = submitt(ctx, 0, BUY, 1, 1)\n", 3, "submitt is not defined; did you mean submit?"),
    (IMPORT + BODY + "x = book.bidpx\n", 3, "there is no field bidpx; did you mean bid_px?"),
    (IMPORT + "def h(b):\n    return b.nope\n" + BODY + "h(book)\n", 3, "there is no field nope"),
    (IMPORT + BODY + "x = ctx.now\n", 3, "ctx has no now; it has params, state, now_ns, venue_ns"),
    (IMPORT + BODY + "x = book.bid_px + 'a'\n", 3, "add does not take (whole number, a)"),
    (IMPORT + BODY + "submit(ctx, 0, BUY)\n", 3, "a call lacks the argument px"),
    (IMPORT + BODY + "cancel(ctx, 0, 1, 2)\n", 3, "a call has too many arguments"),
    (IMPORT + BODY + "submit(ctx, 0, BUY, book.bid_px * 1.5, 100)\n", 3, "px must be a whole number, was a fraction"),
    (IMPORT + "n = 0\ndef on_book(ctx, book):\n    global n\n    n += 1\n", 5, "a global cannot be changed"),
    (IMPORT + "def h(x, y=[]):\n    return x\n" + BODY + "h(book.bid_px)\n", 2, "an empty list or dict has no place in a strategy"),
    (IMPORT + "d = {}\n" + BODY + "d[3] = 1\n", 4, "d cannot be compiled"),
    (IMPORT + "from json import dumps\n" + BODY + "dumps(3)\n", 4, "dumps cannot be compiled: define it in this file"),
    (IMPORT + BODY + "with open('x') as f:\n        pass\n", 3, "with statement"),
])  # fmt: skip
def test_what_the_compiler_finds_is_one_line_about_the_file(tmp_path, source, line, words):
    """No traceback, no word of Numba's inside."""
    path = write(tmp_path, source)
    findings = check_file(path)
    assert len(findings) == 1
    assert findings[0].startswith(f"{path}:{line}: ")
    assert words in findings[0]
    assert "\n" not in findings[0]


@pytest.mark.skipif(INTERPRETED, reason="what the compiler finds needs the compiler")
@pytest.mark.parametrize(("body", "words"), [
    ("print('hello', book.bid_px)\n", "calls Python"),
    ("x = [book.bid_px]\n    x.append(3)\n    ctx.state.pad0 = x[0]\n", "allocates memory"),
    ("x = sorted((book.bid_px, book.ask_px))\n    ctx.state.pad0 = x[0]\n", "allocates memory"),
    ("x = chr(book.bid_px)\n    ctx.state.pad0 = len(x)\n", "allocates memory"),
    ("x = math.gamma(book.bid_px)\n    ctx.state.pad0 = int(x)\n", "calls Numba's run time"),
    ("for i in range(0, 9, book.bid_px):\n        ctx.state.pad0 += i\n", "may raise an exception"),
    ("while not can_trade(ctx):\n        pass\n", "waits in a loop"),
    ("while submit(ctx, 0, BUY, 100, 1) < 0:\n        continue\n", "waits in a loop"),
])  # fmt: skip
def test_what_compiles_but_does_not_belong_on_the_hot_path_is_found(tmp_path, body, words):
    """Looked for in the machine's code, pointed at in the source."""
    path = write(tmp_path, IMPORT + "import math\n" + BODY + body)
    findings = check_file(path)
    assert any(words in line for line in findings)
    assert all(line.startswith(f"{path}:4: ") for line in findings)


STATE = IMPORT + "import math\nstate = layout('s', 16, [('a', 'i8'), ('f', 'f8')])\n"
FACT = "def fact(n):\n    return 1 if n < 2 else fact(n - 1) + fact(n - 2)\n"
EVEN = "def even(n):\n    return n == 0 or odd(n - 1)\ndef odd(n):\n    return n != 0 and even(n - 1)\n"


@pytest.mark.skipif(INTERPRETED, reason="what the compiler finds needs the compiler")
@pytest.mark.parametrize(("source", "line", "words"), [
    (STATE + FACT + BODY + "ctx.state.a = fact(book.bid_qty)\n", 5, "a function calls itself: nothing bounds the stack"),
    (STATE + EVEN + BODY + "ctx.state.a = even(book.bid_qty)\n", 5, "look at lines 5, 7"),
    (STATE + BODY + "t = (1, 2, 3)\n    ctx.state.a = t[book.bid_qty]\n", 6, "may raise an exception [tuple index out of range]"),
])  # fmt: skip
def test_recursion_and_an_index_that_may_be_wrong_are_refused_where_they_stand(tmp_path, source, line, words):
    """Recursion was called fit, and ends with the stack; an index was said to be on line 1."""
    path = write(tmp_path, source)
    findings = check_file(path)
    assert len(findings) == 1 and findings[0].startswith(f"{path}:{line}: ") and words in findings[0], findings


@pytest.mark.skipif(INTERPRETED, reason="what the compiler finds needs the compiler")
def test_the_library_of_numbers_may_be_called(tmp_path):
    """The areas of hyperbolic functions were taken for strangers."""
    body = "x = 2.0 + book.bid_qty\n    ctx.state.f = math.acosh(x) + math.asinh(x) + math.atanh(1 / x) + math.sinh(x)\n"
    assert check_file(write(tmp_path, STATE + BODY + body)) == []


@pytest.mark.skipif(INTERPRETED, reason="what the compiler finds needs the compiler")
def test_a_loop_whose_condition_brings_it_further_is_no_waiting(tmp_path):
    """Its body is empty, and it ends."""
    step = "def step(state):\n    state.a += 1\n    return state.a\n"
    assert check_file(write(tmp_path, STATE + step + BODY + "while step(ctx.state) & 7:\n        pass\n")) == []


def test_params_from_the_configuration(tmp_path):
    """By name, in range, of the default's type; a whole number is a fraction too."""
    path = write(tmp_path, IMPORT + "params = [Param('qty', 5, min=1, max=9), Param('alpha', 0.5), Param('sym', 'QQQ'),"
                 " Param('on', False)]\n" + BODY + "pass\n")  # fmt: skip
    program = load(path).set({"qty": 9, "alpha": 1, "sym": "SPY", "on": True}, "here")
    record = program.params_record()[0]
    assert (int(record["qty"]), float(record["alpha"]), int(record["on"])) == (9, 1.0, 1)
    assert int(record["sym"]).to_bytes(8, "little") == b"SPY     "
    for values, words in [
        ({"qty": 10}, "qty must be 1 to 9, was 10"), ({"qty": 0}, "qty must be 1 to 9"),
        ({"qty": 2.5}, "qty must be a whole number"), ({"qty": True}, "qty must be a whole number"),
        ({"alpha": "x"}, "alpha must be a number"),
        ({"alpha": float("nan")}, "alpha must be a number, was nan"), ({"alpha": 10**400}, "alpha must be within 64 bits"),
        ({"qty": 1 << 64}, "qty must be within 64 bits"),
        ({"sym": "TOOLONGSYM"}, "sym must be a symbol"), ({"on": 1}, "true or false"),
        ({"quantity": 3}, "quantity: unknown parameter"), ({"alhpa": 3.0}, "did you mean alpha?"),
    ]:  # fmt: skip
        with pytest.raises(StrategyError) as error:
            load(path).set(values, "here: strategy[0].params")
        assert str(error.value).startswith("here: strategy[0].params")
        assert words in str(error.value)


def test_files_are_found_beside_the_configuration_and_in_strategies(tmp_path, monkeypatch):
    """As given, beside the configuration, in strategies/ next to it, in the checkout's strategies/."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf" / "strategies").mkdir(parents=True)
    config = str(tmp_path / "conf" / "hftd.toml")
    inner = write(tmp_path / "conf" / "strategies", "", "inner.py")
    assert find_file("inner.py", config) == inner
    assert find_file("inner", config) == inner
    beside = write(tmp_path / "conf", "", "inner.py")
    assert find_file("inner.py", config) == beside
    assert find_file(str(inner)) == inner
    assert find_file("market_maker", config).parent == programs.CHECKOUT
    with pytest.raises(StrategyError, match=r"nosuch.py: no such strategy file \(looked in .*hftd strategy list"):
        find_file("nosuch.py", config)


def test_all_strategies_of_a_configuration(tmp_path):
    """By index, disabled ones left out, with their params."""
    rows = [{"file": str(PROBE), "name": "one", "params": {"qty": 3}}, {"file": str(PROBE), "name": "two", "enabled": False}]
    found = load_all(configuration.build({"strategy": rows}))
    assert list(found) == [0]
    assert (found[0].name, found[0].values["qty"]) == ("one", 3)


def test_the_digest_follows_source_and_constants(tmp_path):
    """Another source or another constant must not find the old machine code."""
    first = load(write(tmp_path, IMPORT + "N = 3\n" + BODY + "ctx.state.pad0 = N\n")).digest
    assert load(write(tmp_path, IMPORT + "N = 3\n" + BODY + "ctx.state.pad0 = N\n")).digest == first
    assert load(write(tmp_path, IMPORT + "N = 4\n" + BODY + "ctx.state.pad0 = N\n")).digest != first
    write(tmp_path, "K = 1\n", "own_constants.py")
    head = f"import sys\nsys.path.insert(0, {str(tmp_path)!r})\nfrom own_constants import K\n"
    source = head + IMPORT + BODY + "ctx.state.pad0 = K\n"
    before = load(write(tmp_path, source)).digest
    import own_constants

    own_constants.K = 2
    assert load(write(tmp_path, source)).digest != before


def test_list_shows_every_file_and_says_what_is_wrong_with_a_broken_one(tmp_path):
    """Name, path, first line of its docstring, parameters."""
    write(tmp_path, '"""Buys the dip."""\n' + IMPORT + "params = [Param('qty', 5, unit='shares')]\n" + BODY + "pass\n", "dip.py")
    write(tmp_path, "def on_book(\n", "broken.py")
    rows = {row[0]: row for row in list_strategies([tmp_path])}
    assert rows["dip"][2:] == ("Buys the dip.", "qty=5 shares")
    assert "cannot be used" in rows["broken"][2]
    shipped = {row[0] for row in list_strategies([programs.CHECKOUT])}
    assert {"market_maker", "imbalance_taker"} <= shipped


def test_new_file_is_a_strategy_that_can_be_used_as_it_is(tmp_path, monkeypatch):
    """`hftd strategy new NAME`: written once, never over something else."""
    monkeypatch.chdir(tmp_path)
    path = new_file("my_first")
    assert path.read_text().startswith('"""my_first:')
    program = load(path)
    assert program.callbacks == ["on_book", "on_report", "on_state"]
    with pytest.raises(StrategyError, match="exists already"):
        new_file("my_first")
    with pytest.raises(StrategyError, match="a strategy's name is"):
        new_file("No Such!")
    for name in ("../x", "sub/x", "/tmp/x", "x.txt", ""):
        with pytest.raises(StrategyError, match=r"and no path: the file is strategies/NAME\.py"):
            new_file(name)
    assert not (tmp_path.parent / "x.py").exists() and not (tmp_path / "sub").exists()
    if not INTERPRETED:
        assert check_file(path) == []
