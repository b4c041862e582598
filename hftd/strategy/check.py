"""Is a strategy fit for the hot path? Compile it afresh and look at the machine's code for what must not be there.

Memory that is allocated or counted shows as a call of Numba's run time (`NRT_…`), Python as a call of its C interface (`Py…`), an
exception path as `numba_…`. The wrapper through which Python enters the loop makes such calls by its nature and is left out.
"""

import ast
import re

import numba
from numba import types

from hftd.core.idle import idle_dtype
from hftd.core.jit import INTERPRETED
from hftd.shm.control import mark_dtype
from hftd.strategy.records import strategy_agent_dtype

DEFINE = re.compile(r"^define [^@]*@\"?([^\"(]+)\"?\(.*?^}", re.S | re.M)
CALL = re.compile(r"\bcall\b[^@\n]*@\"?((?:NRT_|Py|_Py|numba_)\w+)")
MEANING = [
    (("NRT_MemInfo", "NRT_alloc", "NRT_realloc"), "allocates memory: declare what you need in state or instrument_state"),
    (("NRT_",), "counts references: an array or a list is in use; use fields of a state record"),
    (("Py", "_Py", "numba_gil", "numba_unpickle"), "calls Python: printing, text and exceptions have no place in a callback"),
    (("numba_",), "calls Numba's run time: not for the hot path"),
]


def findings(program) -> list[str]:
    """Return what is wrong with the compiled code of a loaded program: a line for each kind of forbidden call."""
    if INTERPRETED:
        return [f"{program.path}:1: cannot be checked with NUMBA_DISABLE_JIT=1"]
    record = numba.from_dtype
    signature = (record(strategy_agent_dtype), record(mark_dtype), record(idle_dtype), types.int64)
    kernel = program.fresh_kernel()
    kernel.compile(signature)                     # errors of typing come as one line from here
    fresh = kernel.dispatcher
    lines = suspects(program.tree)
    where = f"{program.path}:{lines[0] if lines else 1}"
    more = f" (look at line{'s' if len(lines) > 1 else ''} {', '.join(map(str, lines[:6]))})" if lines else ""
    return [f"{where}: {line}{more}" for line in forbidden(fresh.inspect_llvm(fresh.signatures[0]))]


def forbidden(llvm: str) -> list[str]:
    """Return one line for each kind of forbidden call in a module's optimised code."""
    found: dict[str, set[str]] = {}
    for match in DEFINE.finditer(llvm):
        name = match.group(1)
        if name.startswith(("_ZN7cpython", "cfunc.", "NRT_", "numba_")) or "wrapper" in name:
            continue
        for call in CALL.finditer(match.group(0)):
            words = next(text for prefixes, text in MEANING if call.group(1).startswith(prefixes))
            found.setdefault(words, set()).add(call.group(1))
    return [f"{words} [{', '.join(sorted(names)[:4])}]" for words, names in found.items()]


def suspects(tree: ast.Module) -> list[int]:
    """Return the lines in functions where such calls usually come from: lists, dicts, text, print, exceptions, NumPy."""
    lines = set()
    for function in tree.body:
        if not isinstance(function, ast.FunctionDef):
            continue
        for node in ast.walk(function):
            called = node.func if isinstance(node, ast.Call) else None
            root = called.value if isinstance(called, ast.Attribute) else called
            heavy = isinstance(root, ast.Name) and root.id in ("print", "np", "numpy", "list", "dict", "set", "str")
            if heavy or isinstance(node, SUSPECTS):
                lines.add(node.lineno)
    return sorted(lines)


SUSPECTS = (ast.List, ast.ListComp, ast.Dict, ast.DictComp, ast.Set, ast.SetComp, ast.JoinedStr, ast.Raise, ast.Assert)
