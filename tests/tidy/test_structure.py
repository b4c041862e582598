"""The rules of this tree that a program can check. Each failure names file and line and says what would be right."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hftd.core.jit import INTERPRETED

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "hftd"
STAGES = ("feed", "risk", "gateway", "strategy", "recorder", "sim")
HOT_DECORATORS = {"leaf", "hot", "cache", "lru_cache", "intrinsic"}
FREE = {"core", "msg", "shm", "venues"}
"""What hot code of any stage may import, beside its own stage."""

MAY_IMPORT = {
    "core": {"core", "errors", "msg", "shm"},     # agent.py, the host, knows the control segment
    "msg": {"core", "msg"},
    "shm": {"core", "msg", "shm", "errors"},
}
"""The foundations, whoever imports what: nothing below knows a stage."""

SHM_MAP = "hftd/shm/map.py"
"""The one list of segments: it names every stage's memory."""


def _sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def _decorators(node: ast.FunctionDef) -> set[str]:
    found = set()
    for item in node.decorator_list:
        item = item.func if isinstance(item, ast.Call) else item
        found.add(item.attr if isinstance(item, ast.Attribute) else getattr(item, "id", "?"))
    return found


def _functions(tree: ast.Module) -> list[ast.FunctionDef]:
    return [node for node in tree.body if isinstance(node, ast.FunctionDef)]


def _is_hot(tree: ast.Module) -> bool:
    """A module with a leaf or a hot function, where cold helpers, if any, are the fewer."""
    functions = _functions(tree)
    compiled = sum(bool(_decorators(node) & {"leaf", "hot"}) for node in functions)
    return compiled > 0 and compiled * 2 > len(functions)


def _imported(tree: ast.Module) -> list[tuple[str, int]]:
    """Modules of hftd imported at the top level, with their lines."""
    found = []
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "hftd":
            found.append((node.module, node.lineno))
            found.extend((f"{node.module}.{alias.name}", node.lineno) for alias in node.names if node.module == "hftd")
        elif isinstance(node, ast.Import):
            found.extend((alias.name, node.lineno) for alias in node.names if alias.name.split(".")[0] == "hftd")
    return found


def test_the_foundations_know_no_stage():
    """core, msg and shm import one another and nothing above them; only the map of segments names the stages."""
    wrong = []
    for path in _sources():
        area = path.relative_to(PACKAGE).parts[0]
        if area not in MAY_IMPORT or _name(path) == SHM_MAP:
            continue
        for module, line in _imported(_tree(path)):
            part = (module.split(".") + [""])[1]
            if part and part not in MAY_IMPORT[area]:
                wrong.append(f"{_name(path)}:{line}: imports {module}")
    assert not wrong, "\n".join(wrong)


def test_hot_modules_of_a_stage_import_only_foundations_venues_and_their_own_stage():
    """A hot module never reaches into another stage, the command line or the supervisor."""
    wrong = []
    for path in _sources():
        area = path.relative_to(PACKAGE).parts[0]
        tree = _tree(path)
        if area not in STAGES or not _is_hot(tree):
            continue
        for module, line in _imported(tree):
            part = (module.split(".") + [""])[1]
            own = {area} | ({"strategy"} if area == "sim" else set())
            if part and part not in FREE | own | {"errors"} and not _allowed(path, module):
                wrong.append(f"{_name(path)}:{line}: imports {module}")
    assert not wrong, "\n".join(wrong)


ALLOWED = {
    ("hftd/recorder/loop.py", "hftd.gateway.memory"), ("hftd/recorder/loop.py", "hftd.risk.memory"),
    ("hftd/strategy/tape.py", "hftd.feed.memory"), ("hftd/strategy/setup.py", "hftd.feed.memory"),
}  # fmt: skip
"""Layouts that another stage reads out of shared memory: (who, whose)."""


def _allowed(path: Path, module: str) -> bool:
    return (_name(path), module) in ALLOWED or module.endswith(".memory")


def test_venues_know_no_strategy():
    """A venue's folder holds wire formats and sessions, and knows feed and gateway at most."""
    wrong = []
    for path in sorted((PACKAGE / "venues").rglob("*.py")):
        for module, line in _imported(_tree(path)):
            part = (module.split(".") + [""])[1]
            if part in ("strategy", "risk", "control", "cli", "recorder", "bench", "sim"):
                wrong.append(f"{_name(path)}:{line}: imports {module}")
    assert not wrong, "\n".join(wrong)


def test_only_a_venue_folder_knows_its_wire_format():
    """Strategy, risk and recorder work on hftd's own records."""
    wrong = []
    for area in ("strategy", "risk", "recorder", "core", "msg"):
        for path in sorted((PACKAGE / area).rglob("*.py")):
            tree = _tree(path)
            if not _is_hot(tree):
                continue
            wrong.extend(f"{_name(path)}:{line}: imports {module}" for module, line in _imported(tree) if ".venues." in module)
    assert not wrong, "\n".join(wrong)


def test_no_print_in_the_package():
    """Logs, reasons and counters tell what happens; a print is for nobody. (ruff's T20, where ruff is absent.)"""
    wrong = []
    for path in _sources():
        for node in ast.walk(_tree(path)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("print", "breakpoint"):
                wrong.append(f"{_name(path)}:{node.lineno}: {node.func.id}()")
    assert not wrong, "\n".join(wrong)


def test_public_things_say_what_they_are():
    """Every module, and every public function and class at its top level, has a docstring."""
    wrong = []
    for path in _sources():
        tree = _tree(path)
        if tree.body and not ast.get_docstring(tree):
            wrong.append(f"{_name(path)}:1: the module has no docstring")
        for node in tree.body:
            public = isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
            if public and not ast.get_docstring(node):
                wrong.append(f"{_name(path)}:{node.lineno}: {node.name} has no docstring")
    assert not wrong, "\n".join(wrong)


def test_hot_functions_have_no_mutable_defaults_or_star_arguments():
    """Either makes a specialisation of its own, or does not compile at all in some corner nobody tested."""
    wrong = []
    for path in _sources():
        for node in _functions(_tree(path)):
            if _decorators(node) & {"leaf", "hot"} and (node.args.defaults or node.args.vararg or node.args.kwarg):
                if any(not isinstance(item, ast.Constant) and not isinstance(item, ast.Name) for item in node.args.defaults):
                    wrong.append(f"{_name(path)}:{node.lineno}: {node.name}")
                if node.args.vararg or node.args.kwarg:
                    wrong.append(f"{_name(path)}:{node.lineno}: {node.name}")
    assert not wrong, "\n".join(wrong)


FORBIDDEN_IN_HOT = (ast.Try, ast.With, ast.Yield, ast.YieldFrom, ast.Lambda, ast.ListComp, ast.DictComp, ast.SetComp, ast.JoinedStr,
                    ast.Dict, ast.List, ast.Set, ast.Global, ast.Nonlocal, ast.AsyncFor, ast.Await)  # fmt: skip


def test_hot_functions_hold_nothing_that_allocates():
    """No list, dict, set, comprehension, format string, try, with or lambda inside a leaf or hot function."""
    wrong = []
    for path in _sources():
        for node in _functions(_tree(path)):
            if not _decorators(node) & {"leaf", "hot"}:
                continue
            for item in ast.walk(node):
                if isinstance(item, FORBIDDEN_IN_HOT) and item not in node.decorator_list:
                    wrong.append(f"{_name(path)}:{item.lineno}: {type(item).__name__} in {node.name}")
                if isinstance(item, ast.Raise) and _name(path) != "hftd/core/memory.py":
                    wrong.append(f"{_name(path)}:{item.lineno}: raise in {node.name}")
    assert not wrong, "\n".join(wrong)


def _tracked() -> list[Path]:
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        pytest.skip("not a git checkout: there is no list of tracked files")
    return [path for name in listed.decode().split("\0") if name and (path := ROOT / name).is_file()]


MACHINE_PATHS = re.compile(r"(?<![\w.}])/(?:work|root|tmp/x|home/\w+)/")


def test_no_tracked_file_names_a_machine():
    """A path of somebody's machine works nowhere else. `../shared` is for tests, `/tmp` for programs that say so."""
    wrong = []
    for path in _tracked():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            if MACHINE_PATHS.search(line) and path != Path(__file__).resolve():
                wrong.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}")
    assert not wrong, "\n".join(wrong)


def test_test_files_have_names_of_their_own():
    """pytest imports test modules by their base name."""
    seen: dict[str, Path] = {}
    wrong = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        if path.name in seen:
            wrong.append(f"{path.relative_to(ROOT)} and {seen[path.name].relative_to(ROOT)}")
        seen[path.name] = path
    assert not wrong, "\n".join(wrong)


def test_nothing_sleeps_blindly_in_tests():
    """A test waits for a thing with a deadline. Half a second and more slept blindly says why, in a comment on its line."""
    wrong = []
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for node in ast.walk(_tree(path)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("time.sleep", "sleep") and node.args:
                value = node.args[0]
                told = "#" in path.read_text().splitlines()[node.lineno - 1]
                if isinstance(value, ast.Constant) and isinstance(value.value, int | float) and value.value >= 0.5 and not told:
                    wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}: sleeps {value.value} s")
    assert not wrong, "\n".join(wrong)


def test_every_folder_of_the_package_is_a_package():
    """An `__init__.py` with its sentence in each."""
    wrong = [_name(path.parent) for path in _sources() if not (path.parent / "__init__.py").is_file()]
    assert not wrong, "\n".join(sorted(set(wrong)))


def _tool(name: str) -> list[str]:
    beside = Path(sys.executable).with_name(name)
    if not os.access(beside, os.X_OK):
        pytest.skip(f"{name} is not installed beside this Python")
    return [str(beside)]


@pytest.mark.skipif(INTERPRETED, reason="once is enough")
def test_ruff_is_clean():
    """The whole tree, by the rules in pyproject.toml."""
    command = [*_tool("ruff"), "check", "--no-cache", "--output-format", "concise", "."]
    child = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert child.returncode == 0, child.stdout[-4000:] + child.stderr[-1000:]


@pytest.mark.skipif(INTERPRETED, reason="once is enough")
@pytest.mark.timeout(300)
def test_mypy_is_clean_where_types_help():
    """The cold modules named in pyproject.toml."""
    child = subprocess.run([*_tool("mypy")], cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert child.returncode == 0, child.stdout[-4000:] + child.stderr[-1000:]
