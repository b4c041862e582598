"""strategies/README.md is right: its strategies compile and trade, its script runs, its tables name functions that exist."""

import re
from pathlib import Path

import pytest

import hftd.strategy as api
from hftd.msg.records import session_dtype, status_dtype
from hftd.strategy.harness import Tape
from hftd.strategy.program import CALLBACKS, CHECKOUT
from hftd.strategy.records import book_dtype, fill_dtype, notice_dtype, trade_dtype
from hftd.strategy.synthetic import market_events

README = CHECKOUT / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), re.S)
STRATEGIES = [block for block in BLOCKS if "def on_book" in block]
_VIEWS = {name for kind in (status_dtype, session_dtype, notice_dtype, trade_dtype) for name in kind.names}
SCRIPTS = [block for block in BLOCKS if "def on_book" not in block]


@pytest.mark.parametrize("number", range(len(STRATEGIES)))
def test_each_strategy_in_it_is_fit_and_trades(tmp_path, number):
    """Copied out, loaded, compiled, played."""
    path = tmp_path / "my_first.py"
    path.write_text(STRATEGIES[number])
    tape = Tape(path)
    events = market_events(2000, seed=3)
    assert tape.play(events) == len(events)
    assert tape.counters()["intents"] > 0
    assert tape.position(0)["fills"] > 0


def test_the_script_in_it_runs(tmp_path, monkeypatch, capsys):
    """With the second strategy in place of the file it names."""
    monkeypatch.chdir(tmp_path)
    Path("strategies").mkdir()
    Path("strategies/my_first.py").write_text(STRATEGIES[1])
    assert len(SCRIPTS) == 1
    exec(SCRIPTS[0].replace("20_000", "2_000"), {})
    assert "'fills':" in capsys.readouterr().out


def test_every_function_and_field_it_names_exists():
    """And every function there is stands in it."""
    text = README.read_text()
    tables = "\n".join(line for line in text.splitlines() if line.startswith("|"))
    called = set(re.findall(r"`(\w+)\(", tables)) | set(re.findall(r"`(\w+)`", tables))
    known = set(dir(api)) | set(CALLBACKS) | set(book_dtype.names) | set(fill_dtype.names) | _VIEWS | {"ctx", "i8", "f8"}
    strange = {name for name in called if name not in known and not name.isdigit()}
    assert strange - {"hidden", "kind", "id", "px", "qty"} == set()
    functions = {name for name in api.__all__ if callable(getattr(api, name)) and name not in ("Param", "layout")}
    assert {name for name in functions if f"{name}" not in text} == set()
