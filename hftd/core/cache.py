"""The compile cache: one sealed file per compiled kernel, named after everything the kernel is made of.

Numba's own cache looks at one source file and at the clock of that file only; a changed helper, a frozen global or another
strategy behind the same loop would load stale machine code. Here the name of the file is a digest of

    the sources of every hftd module the kernel's module imports, directly or not - the strategy's source, where one is bound -
    every function, constant, layout and closure the kernel reaches from its globals, as they are now - Python, numba, llvmlite -
    the CPU's name and features - the compile flags, NUMBA_… included - the signature

so a stale kernel cannot be found. The sources cover what code generators and types are made of; the reached objects cover what a
source cannot show: which function fills a slot, a constant that came from the environment. A source that changed after this
process started is not what runs here, so nothing is loaded or saved for it.

The file begins with the SHA-256 of the rest. A cache is code: its directory is the owner's alone (0700), a directory or file that
others may write is refused, and a file that does not match its seal is removed and rebuilt.
"""

import contextlib
import enum
import hashlib
import os
import pickle
import re
import stat
import sys
import tempfile
import time
import types
from functools import cache
from pathlib import Path

import llvmlite
import llvmlite.binding
import numba
import numpy as np
from numba.core.caching import CompileResultCacheImpl, _Cache
from numba.core.runtime import rtsys
from numba.core.serialize import dumps

from hftd.core.elf import Object
from hftd.errors import HftdError

SEAL = 32  # bytes of SHA-256 before the payload
ROOT = Path(__file__).resolve().parents[1]
STARTED = time.time()
TOOLCHAIN = ("numba", "numpy", "llvmlite")


class CacheError(HftdError):
    """The cache directory cannot be used, and why."""


class NotCached(Exception):
    """There is no file for a kernel, and whoever asked wanted no compiling."""


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


def sweep(older_than_s: float, remove: bool = True) -> tuple[int, int]:
    """Remove kernels that were not loaded for `older_than_s` seconds (without `remove`: only look); return how many, and bytes."""
    count = size = 0
    for path in directory().glob("*.kernel"):
        with contextlib.suppress(OSError):
            facts = path.stat()
            if time.time() - facts.st_mtime > older_than_s:
                if remove:
                    path.unlink()
                count, size = count + 1, size + facts.st_size
    return count, size


@cache
def source_digest(module: str) -> str:
    """Return the digest of a module's source and of all modules it imports, directly or not; "" where it has no source file.

    The standard library and the tool chain are left out: their versions are in the digest.
    """
    digest = hashlib.sha256()
    found = _closure(module)
    for name, path in sorted(found.items()):
        digest.update(name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest() if module in found else ""


@cache
def changed_source(module: str) -> Path | None:
    """Return a source of hftd behind `module` that was written after this process had started, or None."""
    for path in _closure(module).values():
        if path.is_relative_to(ROOT) and path.stat().st_mtime > STARTED:
            return path
    return None


def _closure(module: str) -> dict[str, Path]:
    found: dict[str, Path] = {}
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        path = _path(name)
        if path is None:
            continue
        found[name] = path
        waiting.extend(_imports(path, name))
    return found


@cache
def _own_path(name: str) -> Path | None:
    base = ROOT.joinpath(*name.split(".")[1:])
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


def _path(name: str) -> Path | None:
    root = name.split(".")[0]
    if root == "hftd":
        return _own_path(name)
    if root in TOOLCHAIN or (root in sys.stdlib_module_names and root != "__main__"):
        return None
    file = getattr(sys.modules.get(name), "__file__", None)
    return Path(file) if file and file.endswith(".py") and Path(file).is_file() else None


IMPORT = re.compile(r"""\bimport\b[ \t\\\n]*(\((?:[^()#]|\#[^\n]*)*\)|(?:[^\n;\#\\]|\\\n)*)""")
FROM = re.compile(r"\bfrom[ \t]+(\.*[\w.]*)[ \t\\\n]*$")


@cache
def _imports(path: Path, name: str) -> tuple[str, ...]:
    """Return the modules that a source may import, by its text: every import statement, and whatever else looks like one.

    A name too many does no harm (it is no module, or its source joins the digest); parsing would take most of a warm start.
    """
    if "site-packages" in path.parts:
        return ()
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    text = path.read_text(encoding="utf-8")
    names: list[str] = []
    for match in IMPORT.finditer(text):
        listed = re.sub(r"#[^\n]*|\\\n|[()]", " ", match.group(1))
        items = [words[0] for one in listed.split(",") if (words := one.split())]
        line = text.rfind("\n", 0, match.start()) + 1
        before = text[line : match.start()]
        while line and text[line - 2 : line] == "\\\n":  # `from x \\` and `import y` on the next line
            line = text.rfind("\n", 0, line - 1) + 1
            before = text[line : match.start()]
        source = FROM.search(before)
        if source is None:
            names.extend(items)
            continue
        stem = source.group(1).lstrip(".")
        level = len(source.group(1)) - len(stem)
        above = package.split(".")[: len(package.split(".")) - level + 1] if level else []
        base = ".".join([*above, *([stem] if stem else [])])
        names.append(base)
        names.extend(f"{base}.{item}" for item in items)
    return tuple(dict.fromkeys(names))


FLAGS = ("OPT", "BOUNDSCHECK", "DEBUGINFO_DEFAULT", "LOOP_VECTORIZE", "SLP_VECTORIZE", "ENABLE_AVX", "DISABLE_INTEL_SVML")


@cache
def _toolchain() -> str:
    flags = [getattr(numba.config, flag, None) for flag in FLAGS]
    return repr((sys.version_info[:3], numba.__version__, llvmlite.__version__, np.__version__, flags))


# ---------------------------------------------------------------- what a function reaches


def reached(function) -> str:
    """Return the digest of everything a function is made of as it stands: code, constants, closures, and what its globals name.

    Follows functions (plain, compiled, intrinsic) into each other; other objects count by value where they have one.
    """
    digest = hashlib.sha256()
    seen: dict[int, int] = {}
    waiting = [function]
    keep = []  # alive until the end, so that no id is used twice
    while waiting:
        item = waiting.pop()
        if id(item) in seen:
            digest.update(f"#{seen[id(item)]};".encode())
            continue
        inner = _plain(item)
        if isinstance(inner, types.FunctionType):
            seen[id(item)] = len(seen)
            keep.append(item)
            digest.update(f"{inner.__module__}.{inner.__qualname__}{getattr(item, 'targetoptions', '')!r}".encode())
            names = _code(digest, inner.__code__)
            cells = [cell.cell_contents for cell in inner.__closure__ or () if _filled(cell)]
            waiting.extend([*cells, *(inner.__defaults__ or ()), *_globals(inner, names)])
        else:
            digest.update(_value(item).encode() + b";")
    return digest.hexdigest()


def _plain(item):
    """The Python function behind a dispatcher or an intrinsic; anything else as it is."""
    item = getattr(item, "py_func", item)
    return getattr(item, "_defn", item)


def _filled(cell) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def _code(digest, code: types.CodeType) -> list[str]:
    digest.update(code.co_code)
    names = [*code.co_names]
    digest.update(repr((code.co_names, code.co_freevars, code.co_cellvars, code.co_argcount)).encode())
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names.extend(_code(digest, constant))
        else:
            digest.update(_value(constant).encode())
    return names


def _globals(function, names: list[str]) -> list:
    """What the names of a function's code mean among its globals; attributes of modules of ours and users' included."""
    found: list = []
    for name in dict.fromkeys(names):
        if name not in function.__globals__:
            continue
        item = function.__globals__[name]
        if isinstance(item, types.ModuleType):
            root = item.__name__.split(".")[0]
            if root not in TOOLCHAIN and root not in sys.stdlib_module_names:
                found.extend(getattr(item, other) for other in dict.fromkeys(names) if hasattr(item, other))
        else:
            found.append(item)
    return found


_dtypes: dict[int, tuple[np.dtype, str]] = {}
"""What layouts look like, by identity: one stands in hundreds of functions, and takes long to write down. Kept: no id is reused."""


def _value(item) -> str:
    if isinstance(item, np.dtype):
        kept = _dtypes.get(id(item))
        if kept is None:
            kept = _dtypes[id(item)] = (item, f"{item!r}{item.itemsize}")
        return kept[1]
    if isinstance(item, np.ndarray | np.generic):
        return f"{item.dtype!r}{item.shape}{hashlib.sha256(item.tobytes()).hexdigest()}"
    if isinstance(item, frozenset | set):
        return repr(sorted(map(_value, item)))
    if isinstance(item, tuple | list):
        return f"({','.join(map(_value, item))})"
    if isinstance(item, type):
        members = [(member.name, member.value) for member in item] if issubclass(item, enum.Enum) else ""
        return f"{item.__module__}.{item.__qualname__}{getattr(item, '_fields', '')}{members}"
    text = repr(item)
    return text if " at 0x" not in text else f"{type(item).__module__}.{type(item).__qualname__}"


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
        self.must_hit = False
        """Raise NotCached where there is no file, instead of letting Numba compile."""

    @property
    def cache_path(self) -> str:
        return str(directory())

    def enable(self):
        self._enabled = True

    def disable(self):
        self._enabled = False

    def flush(self):
        """Nothing to do: a file is never stale, only unused; `hftd clean --cache` removes those unused for a week."""

    def path(self, sig, codegen) -> Path:
        """Return the file that holds, or would hold, this kernel for signature `sig`."""
        digest = hashlib.sha256()
        function = self._function
        for part in (self._salt, source_digest(function.__module__), reached(function), _toolchain(), str(sig),
                     repr(codegen.magic_tuple())):  # fmt: skip
            digest.update(part.encode())
            digest.update(b"\0")
        name = re.sub(r"[^A-Za-z0-9_.-]", "_", function.__qualname__)[-100:]
        return directory() / f"{name}-{digest.hexdigest()[:32]}.kernel"

    def _usable(self) -> bool:
        module = self._function.__module__
        return self._enabled and source_digest(module) != "" and changed_source(module) is None

    def load_overload(self, sig, target_context):
        """Return the compiled kernel for `sig`, or None where there is no sound file for it.

        Linking needs few of the registries that compiling does, and they take a quarter of a second: they are loaded where the
        object wants a name that is not known without them.
        """
        found = None
        payload = self._payload(sig, target_context.codegen())
        if payload is not None:
            try:
                held = pickle.loads(payload)
                rtsys.initialize(target_context)
                if any(llvmlite.binding.address_of_symbol(name) is None for name in Object(held[0][2][0]).wanted()):
                    target_context.refresh()
                found = self._impl.rebuild(target_context, held)
            except Exception:  # sealed by us, and still not to be rebuilt: compile anew rather than die on a cache
                self.path(sig, target_context.codegen()).unlink(missing_ok=True)
        if found is None and self.must_hit:
            raise NotCached(self._function.__qualname__)
        return found

    def image(self, sig, codegen) -> bytes | None:
        """Return the object code of the kernel's file, for the certificate; None where there is no sound file."""
        payload = self._payload(sig, codegen)
        return None if payload is None else pickle.loads(payload)[0][2][0]

    def _payload(self, sig, codegen) -> bytes | None:
        if not self._usable():
            return None
        path = self.path(sig, codegen)
        try:
            with path.open("rb") as file:
                facts = os.fstat(file.fileno())
                data = file.read()
                with contextlib.suppress(OSError):
                    os.utime(file.fileno())  # last used
        except FileNotFoundError:
            return None
        except OSError as error:
            raise CacheError(f"compile cache {path}: {error.strerror}; remove it, or set HFTD_CACHE_DIR") from None
        sound = hashlib.sha256(data[SEAL:]).digest() == data[:SEAL]
        if not sound or facts.st_uid != os.getuid() or stat.S_IMODE(facts.st_mode) & 0o022:
            path.unlink(missing_ok=True)
            return None
        return data[SEAL:]

    def save_overload(self, sig, data):
        """Seal and write the compiled kernel, in one atomic rename."""
        if not self._usable() or not self._impl.check_cachable(data):
            return
        payload = dumps(self._impl.reduce(data))
        path = self.path(sig, data.library.codegen)
        temporary = ""
        try:
            handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")
            with os.fdopen(handle, "wb") as file:
                file.write(hashlib.sha256(payload).digest() + payload)
            os.replace(temporary, path)
        except OSError as error:
            Path(temporary or path).unlink(missing_ok=True)
            raise CacheError(f"compile cache {path.parent}: {error.strerror}; make room, or set HFTD_CACHE_DIR") from None
        except BaseException:
            Path(temporary or path).unlink(missing_ok=True)
            raise
