"""`@leaf` and `@hot`: how hftd compiles.

`@leaf` is for small functions: force-inlined into their caller, never compiled alone, never cached alone.
`@hot` is for loops: compiled once, kept in the sealed cache (`cache.py`) under a name that changes whenever anything the
kernel is made of changes. Both use NumPy's error model, so that a division has no exception path.

Environment, read once at import, part of every kernel's digest:
    NUMBA_DISABLE_JIT=1    all functions run as plain Python on the interpreter twins of the intrinsics (debugging, coverage)
    HFTD_CHECKED=1         every `row` access checks its index against the span and raises IndexError (tests, fuzzing)
"""

import os
import warnings

from numba import config, njit, types
from numba.core.errors import NumbaExperimentalFeatureWarning

from hftd.core import calls
from hftd.core.cache import SealedCache

INTERPRETED = bool(config.DISABLE_JIT)
"""True where hot functions run as plain Python."""

CHECKED = os.environ.get("HFTD_CHECKED", "") not in ("", "0")
"""True where every row access is range-checked."""

# a wire message passes for its own header (record sub-typing), on purpose
warnings.filterwarnings("ignore", message=".*has been considered a subtype.*", category=NumbaExperimentalFeatureWarning)

calls.install()
_registry: list = []


def _plain_ints(dispatcher):
    """Let a call with a constant share the specialisation of a call with an int64.

    Numba would compile a function once more for every constant it is ever called with; LLVM folds constants anyway.
    """
    original = dispatcher.get_call_template

    def get_call_template(args, kws):
        plain = {name: types.int64 if isinstance(kind, types.IntegerLiteral) else kind for name, kind in kws.items()}
        return original(tuple(types.int64 if isinstance(kind, types.IntegerLiteral) else kind for kind in args), plain)

    dispatcher.get_call_template = get_call_template
    return dispatcher


def leaf(function):
    """Compile a small function so that it melts into whatever calls it."""
    made = njit(function, forceinline=True, error_model="numpy")
    return made if INTERPRETED else _plain_ints(made)


def hot(function=None, *, salt: str = ""):
    """Compile a loop, and keep it in the sealed cache. `salt` joins the digest (a bound strategy's source)."""
    if function is None:
        return lambda inner: hot(inner, salt=salt)
    dispatcher = njit(function, forceinline=False, error_model="numpy")  # said, or it would take after a leaf that calls it
    if INTERPRETED:
        return dispatcher
    _plain_ints(dispatcher)
    dispatcher._cache = SealedCache(function, f"{salt}|checked={CHECKED}")
    _registry.append(dispatcher)
    return dispatcher


def kernels() -> tuple:
    """Return every `@hot` dispatcher made in this process, in order of definition (for `warm` and the certificate)."""
    return tuple(_registry)
