"""hftd/core/cache.py: a stale, foreign or broken kernel is never run; a sound one is never compiled twice.

Each case is a small program in a directory of its own, run as a process as the daemon's would be, with a cache of its own.
"""

import ast
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from hftd.core import cache
from hftd.core.jit import INTERPRETED, hot, leaf

pytestmark = pytest.mark.skipif(INTERPRETED, reason="there is no cache without a compiler")

MAIN = """
import os, sys
from hftd.core.bind import bind
from hftd.core.jit import hot, leaf
import inner.helper as helper
FROM_ENVIRONMENT = int(os.environ.get("KNOB", "1"))
callback = None

def template(x):
    return callback(x) * FROM_ENVIRONMENT + helper.shift(x)

def plus(x):
    return x + 100

def minus(x):
    return x - 100

def closing_over(n):
    @leaf
    def inner(x):
        return x + n
    return inner

chosen = {"plus": leaf(plus), "minus": leaf(minus), "one": closing_over(1), "two": closing_over(2)}[sys.argv[1]]
kernel = bind(template, "same", callback=chosen)
print(kernel(7), sum(kernel.stats.cache_hits.values()))
"""


class Box:
    """A program of three files, its cache, and how to run it."""

    def __init__(self, path: Path):
        self.path, self.cache = path, path / "cache"
        (path / "inner").mkdir()
        self.write("main.py", "from program import *\n")
        self.write("program.py", MAIN)
        self.write("inner/__init__.py", "")
        self.write("inner/helper.py", "from hftd.core.jit import leaf\nfrom .deep import STEP, add\n\n@leaf\ndef shift(x):\n"
                                      "    return add(x) + STEP\n")  # fmt: skip
        self.write("inner/deep.py", "from hftd.core.jit import leaf\nSTEP = 5\n\n@leaf\ndef add(x):\n    return x + 1000\n")

    def write(self, name: str, text: str) -> None:
        (self.path / name).write_text(textwrap.dedent(text))

    def run(self, which: str = "plus", **env: str) -> tuple[int, int]:
        """Return the kernel's answer and how often it came from the cache."""
        child = self.start(which, **env)
        assert child.returncode == 0, child.stderr
        answer, hits = child.stdout.split()
        return int(answer), int(hits)

    def start(self, which: str = "plus", **env: str) -> subprocess.CompletedProcess:
        """Run the program once."""
        full = {**os.environ, "HFTD_CACHE_DIR": str(self.cache), "PYTHONDONTWRITEBYTECODE": "1", **env}
        full["PYTHONPATH"] = os.pathsep.join([str(self.path), str(cache.ROOT.parent)])
        command = [sys.executable, str(self.path / "main.py"), which]
        return subprocess.run(command, env=full, capture_output=True, text=True, timeout=60)

    def kernels(self) -> list[Path]:
        """The files in the cache."""
        return sorted(self.cache.glob("*.kernel"))


@pytest.fixture
def box(tmp_path):
    """A program that was run once: its kernel is cached."""
    made = Box(tmp_path)
    assert made.run() == (107 + 1012, 0)
    return made


def test_the_second_process_loads_and_an_edited_helper_recompiles(box):
    """A hit with nothing changed; then a miss and the new answer for a helper two imports away, relative imports included."""
    assert box.run() == (107 + 1012, 1)
    box.write("inner/deep.py", "from hftd.core.jit import leaf\nSTEP = 6\n\n@leaf\ndef add(x):\n    return x + 2000\n")
    assert box.run() == (107 + 2013, 0)


def test_another_callback_behind_the_same_loop_never_hits(box):
    """Same template, same name, same files: the slot's function decides, also where only a closure differs."""
    assert box.run("minus") == (-93 + 1012, 0)
    assert box.run("one") == (8 + 1012, 0)
    assert box.run("two") == (9 + 1012, 0)
    assert box.run("minus") == (-93 + 1012, 1)


def test_flags_and_frozen_constants_are_part_of_the_name(box):
    """HFTD_CHECKED, a Numba flag and a constant from the environment each give a kernel of their own."""
    assert box.run(KNOB="3") == (3 * 107 + 1012, 0)
    assert box.run(HFTD_CHECKED="1") == (107 + 1012, 0)
    assert box.run(NUMBA_BOUNDSCHECK="1") == (107 + 1012, 0)
    assert len(box.kernels()) == 4
    assert box.run() == (107 + 1012, 1)


def test_a_broken_file_is_rebuilt(box):
    """A flipped byte, a cut, an empty file, a sealed file that holds no kernel, one that others may write: compiled anew."""
    import hashlib
    import pickle

    (file,) = box.kernels()
    sound = file.read_bytes()
    flipped = bytearray(sound)
    flipped[len(sound) // 2] ^= 1
    payload = pickle.dumps(("not", "a kernel"))
    for broken in (bytes(flipped), sound[:-1], b"", hashlib.sha256(payload).digest() + payload):
        file.write_bytes(broken)
        assert box.run() == (107 + 1012, 0)
        assert box.kernels() == [file] and len(file.read_bytes()) > 1000
    file.chmod(0o666)
    assert box.run() == (107 + 1012, 0)
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_directory_that_is_not_ours_alone_is_refused(box):
    """Others may write to it, or it is no directory: one sentence that says what to do."""
    box.cache.chmod(0o777)
    child = box.start()
    assert child.returncode != 0 and f"chmod 700 {box.cache}" in child.stderr
    box.cache.chmod(0o700)
    child = box.start(HFTD_CACHE_DIR=str(box.path / "main.py"))
    assert child.returncode != 0 and "set HFTD_CACHE_DIR to a directory of your own" in child.stderr


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to give a directory away")
def test_a_directory_of_another_user_is_refused(box):
    """A cache is code: we run nobody else's."""
    os.chown(box.cache, 65534, 65534)
    child = box.start()
    assert child.returncode != 0 and "belongs to uid 65534" in child.stderr


def test_code_without_a_file_is_not_cached(box):
    """What was typed at a prompt has no source to tell it apart by."""
    script = "from hftd.core.jit import hot\n@hot\ndef f(x):\n    return x + 1\nprint(f(1), sum(f.stats.cache_hits.values()))"
    env = {**os.environ, "HFTD_CACHE_DIR": str(box.cache)}
    for _ in range(2):
        child = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, timeout=60, check=True)
        assert child.stdout.split() == ["2", "0"]
    assert len(box.kernels()) == 1


# ---------------------------------------------------------------- the digest of what a function reaches


SCALE = 3


@leaf
def _leaf(x):
    return x * SCALE


def _caller(x):
    return _leaf(x) + cache.SEAL


def test_the_digest_follows_functions_constants_and_modules(monkeypatch):
    """A changed global two calls deep, a changed attribute of a module: each changes the digest; nothing changed, nothing does."""
    here = sys.modules[__name__]
    before = cache.reached(_caller)
    assert cache.reached(_caller) == before
    monkeypatch.setattr(here, "SCALE", 4)
    changed = cache.reached(_caller)
    assert changed != before
    monkeypatch.setattr(cache, "SEAL", 33)
    assert cache.reached(_caller) not in (before, changed)


def test_the_digest_tells_intrinsics_apart():
    """swap16 and swap32 share their source; the width lives in a closure."""
    from hftd.core.memory import swap16, swap32

    def template(x):
        return swap(x)  # noqa: F821

    from hftd.core.bind import clone

    digests = {cache.reached(clone(template, "t", swap=function)) for function in (swap16, swap32)}
    assert len(digests) == 2


def test_recursion_and_shared_leaves_end():
    """Functions that reach each other are followed once."""

    def ping(x):
        return pong(x)

    def pong(x):
        return ping(x)

    assert len(cache.reached(ping)) == 64


def test_a_source_newer_than_the_process_is_not_cached(monkeypatch):
    """What runs here is the older text: neither load nor save under the newer one's name."""

    @hot
    def doubled(x):
        return 2 * x

    monkeypatch.setattr(doubled._cache, "_usable", lambda: False)
    assert doubled(4) == 8 and not doubled.stats.cache_hits
    cache.changed_source.cache_clear()
    monkeypatch.setattr(cache, "STARTED", 0.0)
    assert cache.changed_source("hftd.core.clock") is not None
    cache.changed_source.cache_clear()


def _imported(path: Path, package: str) -> set[str]:
    """Every module that a source's import statements name, by Python's own parser."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def test_no_import_is_overlooked():
    """The quick look at a source's text finds what the parser finds, in every source of this tree, nested imports included."""
    strategies = cache.ROOT.parent.glob("strategies/*.py")
    for path in sorted([*cache.ROOT.rglob("*.py"), *strategies, *Path(__file__).parent.glob("*.py")]):
        name = ".".join(path.relative_to(cache.ROOT.parent).with_suffix("").parts).removesuffix(".__init__")
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        lacking = _imported(path, package) - set(cache._imports(path, name))
        assert not lacking, f"{path}: {lacking}"


@pytest.mark.parametrize("statement", [
    "import a.b as c, d.e", "from a.b import (c as x,  # (why)\n    d,\n)", "from . import c", "from ..a import b; import d",
    "if True: import a", "from a import b, \\\n    c", "from a \\\n    import b",
    "try:\n    from a import *\nexcept ImportError:\n    import z",
])  # fmt: skip
def test_imports_of_every_form_are_seen(tmp_path, statement):
    """Several in a line, in brackets with comments, relative, continued, conditional."""
    path = tmp_path / "m.py"
    path.write_text(statement + "\n")
    assert _imported(path, "p.q") <= set(cache._imports(path, "p.q.m"))


CHILD = """
import sys
from numba import types
from numba.core.registry import cpu_target
from hftd.core.cache import NotCached
from program import *
seen = []
refresh = type(cpu_target.target_context).refresh
type(cpu_target.target_context).refresh = lambda self: (seen.append(1), refresh(self))[1]
kernel._cache.must_hit = True
try:
    kernel.compile((types.int64,))
    print("hit", len(seen))
except NotCached:
    print("missing", len(seen))
"""


def test_loading_takes_no_registries_and_may_be_all_that_is_wanted(box):
    """A hit loads none of what compiling needs; `must_hit` says NotCached instead of compiling."""
    program = (box.path / "program.py").read_text().replace("print(kernel(7), sum(kernel.stats.cache_hits.values()))", "")
    box.write("program.py", program)
    box.write("main.py", CHILD)
    assert box.start().stdout.split() == ["missing", "0"]
    box.write("main.py", CHILD.replace("kernel._cache.must_hit = True\n", ""))
    assert box.start().stdout.split()[0] == "hit"
    box.write("main.py", CHILD)
    assert box.start().stdout.split() == ["hit", "0"]


UNKNOWN = CHILD.replace("seen = []", "import llvmlite.binding\nllvmlite.binding.address_of_symbol = lambda name: None\nseen = []")


def test_a_kernel_that_wants_an_unknown_name_is_loaded_with_everything(box):
    """LLVM would end the process over a name it does not know: such an object has Numba's registries loaded first."""
    program = (box.path / "program.py").read_text().replace("print(kernel(7), sum(kernel.stats.cache_hits.values()))", "")
    box.write("program.py", program)
    box.write("main.py", CHILD.replace("kernel._cache.must_hit = True\n", ""))
    assert box.start().stdout.split()[0] == "hit"
    box.write("main.py", UNKNOWN)
    said, refreshed = box.start().stdout.split()
    assert said == "hit" and int(refreshed) > 0
