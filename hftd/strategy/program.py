"""From a strategy's file to compiled code: find it, load it, check it, bind it into the loop. Cold.

Each function of the file becomes a leaf over one shared set of globals, so that callbacks and helpers call one another compiled
while the file's own functions stay plain Python. The bound loop's name in the compile cache carries the digest of the file's
source, of every file of its own that it imports, and of the values its globals had: the constants that are compiled in.

Everything a person can get wrong is a StrategyError of one line: `file:line: what is wrong; what would be right`.
"""

import ast
import difflib
import functools
import hashlib
import inspect
import re
import sys
import types
from pathlib import Path

import numba
import numpy as np
from numba import njit

from hftd.control.config import Config, strategy_name
from hftd.core.bind import bind, clone
from hftd.core.cache import source_digest
from hftd.core.duty import duty_cycle
from hftd.core.jit import INTERPRETED, leaf
from hftd.core.layout import layout
from hftd.strategy import loop
from hftd.strategy.memory import PARAMS_MAX, STATE_MAX
from hftd.strategy.params import Param, StrategyError, params_layout
from hftd.strategy.template import TEMPLATE
from hftd.strategy.translate import translate

CALLBACKS = {"on_start": 1, "on_book": 2, "on_trade": 2, "on_report": 2, "on_timer": 1, "on_state": 2, "on_notice": 2}
"""Callback -> how many arguments it takes."""

SIGNATURE = {
    "on_start": "on_start(ctx)", "on_book": "on_book(ctx, book)", "on_trade": "on_trade(ctx, trade)",
    "on_report": "on_report(ctx, report)", "on_timer": "on_timer(ctx)", "on_state": "on_state(ctx, change)",
    "on_notice": "on_notice(ctx, notice)",
}  # fmt: skip

OPTIONS = {"every_event": bool, "trade_any_state": bool}
COUNTERS_MAX = 16
CHECKOUT = Path(__file__).resolve().parents[2] / "strategies"
NO_STATE = layout("no_state", 8, [("pad0", "i8")])


def _nothing(ctx):
    return None


def _nothing_more(ctx, view):
    return None


class Program:
    """A loaded strategy file. `turn()` and `kernel()` are the compiled loop; `values` what its params are set to."""

    def __init__(self, path: Path, name: str, module: types.ModuleType, tree: ast.Module, digest: str):
        self.path, self.name, self.module, self.tree, self.digest = path, name, module, tree, digest
        self.params: list[Param] = list(getattr(module, "params", []))
        self.values = {param.name: param.check(param.default, f"{path}: params") for param in self.params}
        self.params_dtype = params_layout(self.params)
        self.state_dtype = getattr(module, "state", NO_STATE)
        self.instrument_dtype = getattr(module, "instrument_state", NO_STATE)
        self.counters = list(getattr(module, "counters", []))
        self.doc = (inspect.getdoc(module) or "").split("\n")[0]
        self.callbacks = [name for name in CALLBACKS if isinstance(getattr(module, name, None), types.FunctionType)]
        self.any_state = int(bool(getattr(module, "trade_any_state", False)))

    def set(self, values: dict, where: str) -> "Program":
        """Set params from a configuration. Raises StrategyError for unknown names and values out of range."""
        known = {param.name: param for param in self.params}
        for name, value in values.items():
            if name not in known:
                close = difflib.get_close_matches(name, list(known), n=1)
                hint = f"did you mean {close[0]}?" if close else f"{self.path.name} has {', '.join(known) or 'none'}"
                raise StrategyError(f"{where}: {name}: unknown parameter; {hint}")
            self.values[name] = known[name].check(value, where)
        return self

    def params_record(self) -> np.ndarray:
        """Return the values as one record of `params_dtype`."""
        made = np.zeros(1, self.params_dtype)
        for name, value in self.values.items():
            made[name] = value
        return made

    @functools.cache  # noqa: B019
    def functions(self) -> dict:
        """Return the file's functions, compiled, over globals in which they see one another.

        Callbacks melt into the loop, which calls each in one place; helpers, called from several, are LLVM's to inline or not.
        """
        shared = dict(vars(self.module))
        own = {name: value for name, value in shared.items()
               if isinstance(value, types.FunctionType) and value.__module__ == self.module.__name__}  # fmt: skip
        for name, function in own.items():
            made = types.FunctionType(function.__code__, shared, function.__name__, function.__defaults__, function.__closure__)
            made.__module__, made.__doc__, made.__qualname__ = function.__module__, function.__doc__, function.__qualname__
            shared[name] = leaf(made) if name in CALLBACKS else njit(made, error_model="numpy")
        return {name: shared[name] for name in own}

    @functools.cache  # noqa: B019
    def turn(self):
        """Return `strategy_turn` with this strategy in its slots, as a leaf that a duty cycle can be bound to."""
        compiled = self.functions()
        slots = {
            name: compiled[name] if name in self.callbacks else leaf(_nothing if count == 1 else _nothing_more)
            for name, count in CALLBACKS.items()
        }
        slots |= {
            "PARAMS": self.params_dtype, "STATE": self.state_dtype, "INSTRUMENT_STATE": self.instrument_dtype,
            "EVERY_EVENT": int(bool(getattr(self.module, "every_event", False))), "ANY_STATE": self.any_state,
        }  # fmt: skip
        slots |= {f"HAS_{name[3:].upper()}": int(name in self.callbacks) for name in CALLBACKS}
        slots["make_context"] = njit(clone(loop.context, self.name, **slots), inline="always", error_model="numpy")
        slots["fire_timer"] = njit(clone(loop.timer, self.name, **slots), error_model="numpy")
        slots["tell_states"] = njit(clone(loop.states, self.name, **slots), error_model="numpy")
        return leaf(clone(loop.strategy_turn, self.name, **slots))

    @functools.cache  # noqa: B019
    def kernel(self):
        """Return the duty cycle of this strategy, compiled at its first call or loaded from the cache."""
        return Kernel(bind(duty_cycle, f"strategy_{self.name}", salt=self.digest, turn=self.turn()), self)

    def fresh_kernel(self):
        """Return the duty cycle, compiled anew even where the cache has it (then written there): its code can be looked at."""
        made = bind(duty_cycle, f"strategy_{self.name}", salt=self.digest, turn=self.turn())
        made._cache.load_overload = lambda *_: None
        return Kernel(made, self)

    def bind(self, template, name: str):
        """Return `template` bound to this strategy's turn (harness, benchmarks)."""
        return Kernel(bind(template, f"{name}_{self.name}", salt=self.digest, turn=self.turn()), self)


class Kernel:
    """A bound loop whose compile errors speak of the strategy's file."""

    def __init__(self, dispatcher, program: Program):
        self.dispatcher, self.program = dispatcher, program

    def __call__(self, *arguments):
        if not INTERPRETED and not self.dispatcher.signatures:
            self.compile(tuple(numba.typeof(argument) for argument in arguments))
        return self.dispatcher(*arguments)

    def compile(self, signature):
        """Compile (or load) for a signature. Raises StrategyError."""
        try:
            return self.dispatcher.compile(signature)
        except Exception as error:
            raise translate(error, self.program) from None


# ---------------------------------------------------------------- finding and loading


def find_file(file: str, config_path: str = "") -> Path:
    """Return the path of a strategy file. Looked for as given, beside the configuration, and in the known `strategies` folders.

    Raises StrategyError, which names the places.
    """
    asked = Path(file).expanduser()
    beside = Path(config_path).resolve().parent if config_path else Path.cwd()
    places = [Path()] if asked.is_absolute() else [beside, beside / "strategies", Path.cwd() / "strategies", CHECKOUT]
    for place in places:
        for name in (asked, asked.with_name(asked.name + ".py")):
            path = place / name
            if path.is_file():
                return path
    looked = ", ".join(dict.fromkeys(str(place) for place in places if str(place) != ".")) or str(asked.parent)
    raise StrategyError(f"{file}: no such strategy file (looked in {looked}); `hftd strategy list` shows what there is")


def load(path: str | Path, name: str = "") -> Program:
    """Load and check a strategy file. Raises StrategyError."""
    path = Path(path)
    try:
        source = path.read_text()
        tree = ast.parse(source, str(path))
    except OSError as error:
        raise StrategyError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise StrategyError(f"{path}: is not UTF-8 text") from None
    except SyntaxError as error:
        raise StrategyError(f"{path}:{error.lineno or 1}: {error.msg}") from None
    _check_names(tree, path)
    module = types.ModuleType(f"hftd_strategy_{path.stem}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module
    try:
        exec(compile(source, str(path), "exec"), module.__dict__)
    except (Exception, SystemExit) as error:
        lines = [frame.lineno for frame in inspect.getinnerframes(error.__traceback__) if frame.filename == str(path)]
        raise StrategyError(f"{path}:{lines[-1] if lines else 1}: {type(error).__name__}: {error}") from None
    _check_module(module, tree, path)
    _check_globals(module, tree, path)
    return Program(path, name or path.stem, module, tree, _digest(source, module, tree))


def _lines(tree: ast.Module) -> dict[str, int]:
    found: dict[str, int] = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            found[node.name] = node.lineno
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    found[target.id] = node.lineno
    return found


def _check_names(tree: ast.Module, path: Path) -> None:
    there = []
    for node in tree.body:
        if isinstance(node, ast.AsyncFunctionDef) and node.name.startswith("on_"):
            raise StrategyError(f"{path}:{node.lineno}: {node.name} must be a plain function, not async")
        if not isinstance(node, ast.FunctionDef) or not node.name.startswith("on_"):
            continue
        if node.name not in CALLBACKS:
            close = difflib.get_close_matches(node.name, list(CALLBACKS), n=1)
            hint = f"did you mean {close[0]}?" if close else f"callbacks are {', '.join(CALLBACKS)}"
            raise StrategyError(f"{path}:{node.lineno}: {node.name}: unknown callback; {hint}")
        if node.decorator_list:
            raise StrategyError(f"{path}:{node.lineno}: {node.name} must not be decorated; hftd compiles it")
        asked = node.args
        plain = len(asked.posonlyargs) + len(asked.args)
        if plain != CALLBACKS[node.name] or asked.vararg or asked.kwarg or asked.kwonlyargs:
            raise StrategyError(f"{path}:{node.lineno}: {node.name} takes {CALLBACKS[node.name]} argument"
                                f"{'s' if CALLBACKS[node.name] > 1 else ''}: write def {SIGNATURE[node.name]}")  # fmt: skip
        for inner in ast.walk(node):
            if isinstance(inner, ast.Yield | ast.YieldFrom):
                raise StrategyError(f"{path}:{inner.lineno}: {node.name} must not yield: it would never run")
        there.append(node.name)
    if not there:
        raise StrategyError(f"{path}:1: no callback; write at least def on_book(ctx, book)")


def _check_module(module: types.ModuleType, tree: ast.Module, path: Path) -> None:
    at = _lines(tree)
    params = getattr(module, "params", [])
    where = f"{path}:{at.get('params', 1)}"
    if not isinstance(params, list | tuple) or not all(isinstance(param, Param) for param in params):
        raise StrategyError(f"{where}: params must be a list of Param(name, default, min=, max=, unit=, doc=)")
    names = [param.name for param in params]
    for name in names:
        if not isinstance(name, str) or not name.isidentifier() or name.startswith("pad"):
            raise StrategyError(f"{where}: {name!r} cannot be a parameter's name")
        if names.count(name) > 1:
            raise StrategyError(f"{where}: parameter {name} stands twice")
    if len(params) > PARAMS_MAX:
        raise StrategyError(f"{where}: {len(params)} params, {PARAMS_MAX} at most")
    for param in params:
        if not isinstance(param.default, int | float | str):
            raise StrategyError(f"{where}: {param.name}: the default must be a number, true or false, or a symbol")
        for bound in (param.min, param.max):
            if bound is not None and not isinstance(bound, int | float):
                raise StrategyError(f"{where}: {param.name}: min and max must be numbers, was {bound!r}")
        param.check(param.default, where)
    for name in ("state", "instrument_state"):
        dtype = getattr(module, name, NO_STATE)
        if not isinstance(dtype, np.dtype) or dtype.names is None:
            raise StrategyError(f"{path}:{at.get(name, 1)}: {name} must be layout(\"{name}\", size, [(field, type), …])")
    if getattr(module, "state", NO_STATE).itemsize > STATE_MAX:
        raise StrategyError(f"{path}:{at.get('state', 1)}: state takes more than {STATE_MAX} bytes; use instrument_state")
    for name, kind in OPTIONS.items():
        if not isinstance(getattr(module, name, False), kind):
            raise StrategyError(f"{path}:{at.get(name, 1)}: {name} must be True or False")
    for name in CALLBACKS:
        value = getattr(module, name, None)
        if value is not None and not (isinstance(value, types.FunctionType) and value.__module__ == module.__name__):
            raise StrategyError(f"{path}:{at.get(name, 1)}: {name} must be a plain function of this file; hftd compiles it")
    labels = getattr(module, "counters", [])
    if not isinstance(labels, list | tuple) or len(labels) > COUNTERS_MAX or not all(isinstance(label, str) for label in labels):
        raise StrategyError(f"{path}:{at.get('counters', 1)}: counters must be a list of at most {COUNTERS_MAX} names")


def _check_globals(module: types.ModuleType, tree: ast.Module, path: Path) -> None:
    """Refuse records that a function of the file takes from a global, a closure, a default or another module: they are frozen when
    it is compiled, and what it writes to them is lost without a word (arrays of numbers are read-only there; the compiler says so).
    """
    def refuse(line: int, name: str) -> None:
        raise StrategyError(f"{path}:{line}: {name}: records cannot be global: what is written to them is lost; "
                            "keep what changes in state")  # fmt: skip

    for function in ast.walk(tree):
        for node in ast.walk(function) if isinstance(function, ast.FunctionDef | ast.Lambda) else ():
            if isinstance(node, ast.Name):
                value = getattr(module, node.id, None)
                held = node.id if _has_records(value) else _holds_records(value, module.__name__)
                if held:
                    refuse(node.lineno, held)
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                owner = getattr(module, node.value.id, None)
                if isinstance(owner, types.ModuleType) and _has_records(getattr(owner, node.attr, None)):
                    refuse(node.lineno, f"{node.value.id}.{node.attr}")
    for name in CALLBACKS:
        if held := _holds_records(getattr(module, name, None), module.__name__):
            refuse(_lines(tree).get(name, 1), held)


def _has_records(value) -> bool:
    """Tell whether a value is records, or a tuple with records in it."""
    if isinstance(value, tuple | list):
        return any(map(_has_records, value))
    return isinstance(value, np.ndarray | np.void) and bool(value.dtype.names)


def _holds_records(function, own: str, seen: frozenset = frozenset()) -> str:
    """Return the name of records that a function of a person's own holds: in its closure or, from another module, its globals."""
    function = getattr(function, "py_func", function)
    if not isinstance(function, types.FunctionType) or function in seen or function.__module__.startswith("hftd."):
        return ""
    held = inspect.getclosurevars(function).nonlocals
    if function.__module__ != own:                # this module's are looked at line by line
        held = {**held, **{name: function.__globals__.get(name) for name in function.__code__.co_names}}
    for name, value in held.items():
        if _has_records(value):
            return name
        if inner := _holds_records(value, own, seen | {function}):
            return inner
    return ""


def _digest(source: str, module: types.ModuleType, tree: ast.Module) -> str:
    digest = hashlib.sha256(source.encode())
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            if name.startswith(("hftd.", "hftd")) or name in sys.modules:
                digest.update(f"{name}={source_digest(name)}".encode())
    for name, value in sorted(vars(module).items()):
        if not name.startswith("__") and isinstance(value, int | float | str | bool | tuple | np.dtype):
            digest.update(f"{name}={value!r}".encode())
    return digest.hexdigest()


# ---------------------------------------------------------------- configurations, tools


def load_row(config: Config, index: int) -> Program:
    """Load the program of strategy `index` of a configuration, with its params. Raises StrategyError."""
    row = config.strategy[index]
    where = f"{config.path}: strategy[{index}].params"
    name = strategy_name(row)
    return load(find_file(row.file, config.path), re.sub(r"\W", "_", name)).set(row.params, where)


def load_all(config: Config) -> dict[int, Program]:
    """Return the programs of a configuration's enabled strategies, by index. Raises StrategyError."""
    return {index: load_row(config, index) for index, row in enumerate(config.strategy) if row.enabled}


programs = load_all


def list_strategies(directories: list[Path] | None = None) -> list[tuple[str, str, str, str]]:
    """Return (name, file, what it does, parameters) of every strategy file in the folders; a broken one says what is wrong."""
    places = directories or list(dict.fromkeys([Path.cwd() / "strategies", CHECKOUT]))
    rows = []
    for place in dict.fromkeys(Path(place).resolve() for place in places):
        for path in sorted(place.glob("*.py")):
            if path.name.startswith("_"):
                continue
            try:
                program = load(path)
            except StrategyError as error:
                rows.append((path.stem, str(path), f"cannot be used: {error}", ""))
                continue
            shown = ", ".join(f"{param.name}={param.default}{f' {param.unit}' if param.unit else ''}" for param in program.params)
            rows.append((program.name, str(path), program.doc, shown))
    return rows


def check_file(file: str) -> list[str]:
    """Load and compile a strategy; return what is wrong with it, one line each. Empty: fit for the hot path."""
    from hftd.strategy.check import findings

    try:
        program = load(find_file(str(file)))
        return findings(program)
    except StrategyError as error:
        return [str(error)]


def new_file(name: str) -> Path:
    """Write a documented template to strategies/NAME.py under the current folder. Raises StrategyError where that cannot be."""
    stem = name.removesuffix(".py")
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,23}", stem):
        raise StrategyError(f"{name}: a strategy's name is up to 24 of a-z, 0-9 and _, beginning with a letter, and no path: "
                            "the file is strategies/NAME.py")  # fmt: skip
    folder = Path("strategies")
    path = folder / f"{stem}.py"
    if path.exists():
        raise StrategyError(f"{path}: exists already; choose another name")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(TEMPLATE.replace("NAME", stem))
    except OSError as error:
        raise StrategyError(f"{path}: {error.strerror}") from None
    return path
