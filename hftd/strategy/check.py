"""Is a strategy fit for the hot path? Compile it afresh and look at the machine's code for what must not be there.

Memory that is allocated or counted shows as a call of Numba's run time (`NRT_…`), Python as a call of its C interface (`Py…`), an
exception path as `numba_…`. The wrapper through which Python enters the loop makes such calls by its nature and is left out.
"""

import re

import numba
from numba import types

from hftd.core.bind import clone
from hftd.core.idle import idle_dtype
from hftd.core.jit import INTERPRETED
from hftd.shm.control import mark_dtype
from hftd.strategy.records import strategy_agent_dtype

DEFINE = re.compile(r"^define [^@]*@\"?([^\"(]+)\"?\(.*?^}", re.S | re.M)
CALL = re.compile(r"\bcall\b[^@\n]*@\"?((?:NRT_|Py|_Py|numba_)\w+)")
MEANING = {
    "NRT_incref": "counts references: an array or a list is passed around; use fields of a state record",
    "NRT_decref": "counts references: an array or a list is passed around; use fields of a state record",
    "NRT_": "allocates memory; declare what you need in state or instrument_state",
    "Py": "calls Python: printing, strings and objects have no place in a callback",
    "_Py": "calls Python: printing, strings and objects have no place in a callback",
    "numba_": "calls Numba's run time: an exception may be raised; return early instead",
}


def findings(program) -> list[str]:
    """Return what is wrong with the compiled code of a loaded program, one line for each kind of forbidden call."""
    if INTERPRETED:
        return [f"{program.path}: cannot be checked with NUMBA_DISABLE_JIT=1"]
    record = numba.from_dtype
    signature = (record(strategy_agent_dtype), record(mark_dtype), record(idle_dtype), types.int64)
    kernel = program.kernel()
    kernel.compile(signature)                     # errors of typing come as one line from here, and the cache is filled
    fresh = numba.njit(clone(kernel.dispatcher.py_func, "check"), error_model="numpy")
    fresh.compile(signature)
    return [f"{program.path}: {line}" for line in forbidden(fresh.inspect_llvm(fresh.signatures[0]))]


def forbidden(llvm: str) -> list[str]:
    """Return one line for each kind of forbidden call in a module's optimised code."""
    found: dict[str, int] = {}
    for match in DEFINE.finditer(llvm):
        name = match.group(1)
        if name.startswith(("_ZN7cpython", "cfunc.", "NRT_", "numba_")) or "wrapper" in name:
            continue
        for call in CALL.finditer(match.group(0)):
            found[call.group(1)] = found.get(call.group(1), 0) + 1
    lines = []
    for name, times in sorted(found.items()):
        words = next((text for prefix, text in MEANING.items() if name.startswith(prefix)), "is not allowed")
        lines.append(f"{name} ({times} times): {words}")
    return lines
