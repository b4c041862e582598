"""The compile cache: one sealed file per compiled kernel, named after everything the kernel is made of.

Numba's own cache looks at one source file and at the clock of that file only; a changed helper, a frozen global or another
strategy behind the same loop would load stale machine code. Here the name of the file is a digest of

    the sources of every hftd module the kernel's module imports, directly or not - the strategy's source, where one is bound -
    Python, numba, llvmlite - the CPU's name and features - the compile flags - the signature and the bytecode

so a stale kernel cannot be found. The file begins with the SHA-256 of the rest. A cache is code: its directory is the owner's
alone (0700), a directory or file that is not is refused, and a file that does not match its seal is removed and rebuilt.
"""

import ast
import hashlib
import os
import pickle
import stat
import sys
import tempfile
from functools import cache
from pathlib import Path

import llvmlite
import numba
from numba.core.caching import CompileResultCacheImpl, _Cache
from numba.core.serialize import dumps

from hftd.errors import HftdError

SEAL = 32  # bytes of SHA-256 before the payload
ROOT = Path(__file__).resolve().parents[1]


class CacheError(HftdError):
    """The cache directory cannot be used, and why."""


@cache
def directory() -> Path:
    """Return the cache directory, made 0700 where it is missing. `HFTD_CACHE_DIR` overrides `~/.cache/hftd`.

    Raises CacheError where the directory belongs to somebody else or others may write to it.
    """
    chosen = os.environ.get("HFTD_CACHE_DIR")
    base = Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hftd"
    try:
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = base.stat()
    except OSError as error:
        raise CacheError(f"compile cache {base}: {error.strerror}; set HFTD_CACHE_DIR to a directory of your own") from None
    if facts.st_uid != os.getuid():
        raise CacheError(f"compile cache {base}: belongs to uid {facts.st_uid}; set HFTD_CACHE_DIR to a directory of your own")
    if stat.S_IMODE(facts.st_mode) & 0o022:
        raise CacheError(f"compile cache {base}: others may write to it; run: chmod 700 {base}")
    return base


@cache
def source_digest(module: str) -> str:
    """Return the digest of a hftd module's source and of all hftd modules it imports, directly or not."""
    digest = hashlib.sha256()
    for name, path in sorted(_closure(module).items()):
        digest.update(name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _closure(module: str) -> dict[str, Path]:
    found: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = _path(name)
        if name in found or path is None:
            continue
        found[name] = path
        waiting.extend(_imports(path, name))
    return found


def _path(name: str) -> Path | None:
    if name.split(".")[0] == "hftd":
        base = ROOT.joinpath(*name.split(".")[1:])
        for path in (base.with_suffix(".py"), base / "__init__.py"):
            if path.is_file():
                return path
        return None
    known = sys.modules.get(name)
    file = getattr(known, "__file__", None)
    return Path(file) if file and known is not None and not name.startswith(("numba", "numpy", "llvmlite")) else None


@cache
def _imports(path: Path, name: str) -> tuple[str, ...]:
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "hftd":
            names.append(node.module)
            names.extend(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            names.extend(alias.name for alias in node.names if alias.name.split(".")[0] == "hftd")
    return tuple(names)


@cache
def _toolchain() -> str:
    return repr((sys.version_info[:3], numba.__version__, llvmlite.__version__, __import__("numpy").__version__))


class _Locator:
    """What CompileResultCacheImpl wants to know of a source file when it warns."""

    def __init__(self, function):
        self._py_file = function.__code__.co_filename


class _Impl(CompileResultCacheImpl):
    def __init__(self, function):
        self._lineno = function.__code__.co_firstlineno
        self._locator = _Locator(function)


class SealedCache(_Cache):
    """The cache of one dispatcher; replaces Numba's own as `dispatcher._cache`."""

    def __init__(self, function, salt: str):
        self._function = function
        self._salt = salt
        self._impl = _Impl(function)
        self._enabled = True

    @property
    def cache_path(self) -> str:
        return str(directory())

    def enable(self):
        self._enabled = True

    def disable(self):
        self._enabled = False

    def flush(self):
        """Nothing to do: a file is never stale, only unused; `hftd clean --cache` removes the unused."""

    def path(self, sig, codegen) -> Path:
        """Return the file that holds, or would hold, this kernel for signature `sig`."""
        digest = hashlib.sha256()
        code = self._function.__code__
        for part in (self._salt, source_digest(self._function.__module__), _toolchain(), str(sig), repr(codegen.magic_tuple())):
            digest.update(part.encode())
            digest.update(b"\0")
        digest.update(code.co_code)
        digest.update(repr(code.co_names).encode())
        return directory() / f"{self._function.__qualname__}-{digest.hexdigest()[:32]}.kernel"

    def load_overload(self, sig, target_context):
        """Return the compiled kernel for `sig`, or None where there is no sound file for it."""
        target_context.refresh()
        if not self._enabled:
            return None
        path = self.path(sig, target_context.codegen())
        try:
            data = path.read_bytes()
        except OSError:
            return None
        if hashlib.sha256(data[SEAL:]).digest() != data[:SEAL] or path.stat().st_uid != os.getuid():
            path.unlink(missing_ok=True)
            return None
        return self._impl.rebuild(target_context, pickle.loads(data[SEAL:]))

    def save_overload(self, sig, data):
        """Seal and write the compiled kernel, in one atomic rename."""
        if not self._enabled or not self._impl.check_cachable(data):
            return
        payload = dumps(self._impl.reduce(data))
        path = self.path(sig, data.library.codegen)
        handle, temporary = tempfile.mkstemp(dir=directory(), prefix=".new-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(hashlib.sha256(payload).digest() + payload)
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
