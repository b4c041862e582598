"""Is a strategy fit for the hot path? Compile it afresh and have its machine code certified (core/certify.py).

Memory that is allocated or counted shows as a call of Numba's run time (`NRT_…`), Python as a call of its C interface (`Py…`), an
exception as the place it was raised at, a spin on a plain load as a loop without a way out. The callbacks are melted into the
loop, so the machine's code no longer tells their lines: those come from the source, where such things usually come from.
"""

import ast
import builtins
import math
import re
import types
from dataclasses import replace

import numba
from numba import njit

from hftd.core.certify import ALLOWED, Certificate, certify
from hftd.core.idle import idle_dtype
from hftd.core.jit import INTERPRETED
from hftd.shm.control import mark_dtype
from hftd.strategy.records import strategy_agent_dtype

MATH = frozenset({
    "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "cbrt", "ceil", "cos", "cosh", "erf", "erfc", "exp", "exp2",
    "expm1", "fabs", "floor", "fmod", "hypot", "ldexp", "lgamma", "log", "log10", "log1p", "log2", "pow", "rint", "round", "sin",
    "sincos", "sinh", "sqrt", "tan", "tanh", "tgamma", "trunc",
})  # fmt: skip
"""The C library's functions of numbers: no memory, no lock, no system call. A strategy may call them."""

DEFINE = re.compile(r"^define [^@]*@\"?([^\"(]+)\"?\(.*?^}", re.S | re.M)
INDIRECT = re.compile(r"\bcall\b[^@\n]*?%[\w.\"$-]+\(")
MEANING = [
    (("NRT_MemInfo", "NRT_alloc", "NRT_realloc"), "allocates memory: declare what you need in state or instrument_state"),
    (("NRT_",), "counts references: an array or a list is in use; use fields of a state record"),
    (("Py", "_Py", "numba_gil", "numba_unpickle"), "calls Python: printing, text and exceptions have no place in a callback"),
    (("numba_", "_numba"), "calls Numba's run time: not for the hot path"),
    (("",), "calls what is neither hftd's nor one of the C library's few"),
]


def findings(program) -> list[str]:
    """Return what is wrong with the compiled code of a loaded program: a line for each kind of thing that must not be there."""
    if INTERPRETED:
        return [f"{program.path}:1: cannot be checked with NUMBA_DISABLE_JIT=1"]
    record = numba.from_dtype
    signature = (record(strategy_agent_dtype), record(mark_dtype), record(idle_dtype), numba.int64)
    kernel = program.fresh_kernel()
    kernel.compile(signature)                     # errors of typing come as one line from here
    return judged(program, certified(kernel.dispatcher, kernel.dispatcher.signatures[0], lines=False))


def certified(dispatcher, signature, lines: bool = True, needs: tuple[str, ...] = ()) -> Certificate:
    """Return the certificate of a loop with a strategy in it.

    The address of a known function may wait in a register or on the stack, where the machine's code alone does not say whose it is:
    what looks like a call through a pointer is settled by LLVM's code of the same loop, compiled once more.
    """
    made = certify(dispatcher, signature, ALLOWED | MATH, lines, needs)
    if any(finding.kind == "indirect" for finding in made.forbidden):
        twin = njit(dispatcher.py_func, error_model="numpy")
        twin.compile(signature)
        if not calls_a_pointer(next(iter(twin.inspect_llvm().values()))):
            made = replace(made, forbidden=tuple(finding for finding in made.forbidden if finding.kind != "indirect"))
    return made


def judged(program, certificate: Certificate) -> list[str]:
    """Return a certificate's findings as lines about the strategy's file."""
    called: dict[str, set[str]] = {}
    raised, elsewhere, said = set(), set(), []
    heavy = suspects(program)
    loops = [node for node in ast.walk(program.tree) if isinstance(node, ast.While)]
    for finding in certificate.forbidden:
        if finding.kind in ("calls", "references"):
            words = next(text for prefixes, text in MEANING if finding.what.startswith(prefixes))
            called.setdefault(words, set()).add(finding.what)
        elif finding.kind == "raises":
            file, _, line = finding.where.rpartition(":")
            if file == str(program.path):
                raised.add(line)
            else:
                elsewhere.add(finding.where)
        elif finding.kind == "endless":
            words = "loops for ever: nothing in the loop can change its condition; return, and look again at the next event"
            said.append(_line(program, [loop.lineno for loop in loops], words))
        elif finding.kind == "recursion":
            said.append(_line(program, recursive(program.tree), f"{finding.what}; use a loop"))
        else:
            said.append(_line(program, recursive(program.tree) or heavy, str(finding)))
    found = [_line(program, heavy, f"{words} [{', '.join(sorted(names)[:4])}]") for words, names in called.items()]
    words = "raises an exception: there is nobody to catch it; return instead"
    found += [f"{program.path}:{line}: {words}" for line in sorted(raised, key=int)]
    if elsewhere and not found:
        lines = sorted({*heavy, *(node.lineno for node in ast.walk(program.tree) if _may_raise(node))})
        found.append(_line(program, lines, f"may raise an exception [{', '.join(sorted(elsewhere)[:3])}]"))
    if not any(finding.kind == "endless" for finding in certificate.forbidden):
        words = "waits in a loop: while a callback runs, nothing is read or sent; return, and look again at the next event"
        said += [f"{program.path}:{loop.lineno}: {words}" for loop in loops if _only_waits(loop, program.module)]
    return [*found, *dict.fromkeys(said)]


def _line(program, lines: list[int], words: str) -> str:
    more = f" (look at line{'s' if len(lines) > 1 else ''} {', '.join(map(str, lines[:6]))})" if lines else ""
    return f"{program.path}:{lines[0] if lines else 1}: {words}{more}"


def _may_raise(node: ast.AST) -> bool:
    """Tell whether an exception may come out of an expression without a `raise`: an index that is no number, a step, a power."""
    if isinstance(node, ast.Subscript):
        return not isinstance(node.slice, ast.Constant | ast.Slice)
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id == "range" and len(node.args) == 3
    return isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow)


def _only_waits(loop: ast.While, module: types.ModuleType) -> bool:
    """Tell whether a loop has an empty body, and no function of the file in its condition that could bring it further."""
    called = [node.func.id for node in ast.walk(loop.test) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    return not any(getattr(getattr(module, name, None), "__module__", "") == module.__name__ for name in called) and all(
        isinstance(node, ast.Pass | ast.Continue) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        for node in loop.body
    )


def recursive(tree: ast.Module) -> list[int]:
    """Return the lines of calls by which a function of the file comes back to itself."""
    calls = {
        function.name: {node.func.id: node.lineno for node in ast.walk(function)
                        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
        for function in tree.body if isinstance(function, ast.FunctionDef)
    }  # fmt: skip

    def reached(name: str) -> set[str]:
        found, waiting = set(), [name]
        while waiting:
            new = {called for called in calls[waiting.pop()] if called in calls} - found
            found |= new
            waiting += new
        return found

    return sorted(line for name, made in calls.items() for called, line in made.items()
                  if called in calls and name in reached(called) | {called})  # fmt: skip


def calls_a_pointer(llvm: str) -> bool:
    """Tell whether a module's optimised code calls through a pointer, Python's wrappers left out."""
    for match in DEFINE.finditer(llvm):
        name = match.group(1)
        ours = not name.startswith(("_ZN7cpython", "cfunc.", "NRT_", "numba_")) and "wrapper" not in name
        if ours and INDIRECT.search(match.group(0)):
            return True
    return False


def suspects(program) -> list[int]:
    """Return the lines in functions where such calls usually come from: lists, text, slices, exceptions, functions of Python's."""
    lines = set()
    for function in ast.walk(program.tree):
        if not isinstance(function, ast.FunctionDef):
            continue
        for node in ast.walk(function):
            if isinstance(node, SUSPECTS) or (isinstance(node, ast.Call) and foreign(node.func, program.module)):
                lines.add(node.lineno)
    return sorted(lines)


def foreign(called: ast.expr, module: types.ModuleType) -> bool:
    """Tell whether a call in a module goes to what is neither the file's own, nor hftd's, nor a plain function of numbers."""
    if isinstance(called, ast.Attribute):
        owner = getattr(module, called.value.id, None) if isinstance(called.value, ast.Name) else None
        return isinstance(owner, types.ModuleType) and not (owner is math and called.attr in MATH | TESTS)
    if not isinstance(called, ast.Name):
        return False
    value = getattr(module, called.id, getattr(builtins, called.id, None))
    home = getattr(getattr(value, "py_func", value), "__module__", None) or ""
    return value is not None and called.id not in PLAIN and home != module.__name__ and not home.startswith("hftd.")


PLAIN = frozenset({"abs", "bool", "divmod", "enumerate", "float", "int", "len", "max", "min", "pow", "range", "round", "zip"})
TESTS = frozenset({"copysign", "degrees", "isfinite", "isinf", "isnan", "radians"})
"""Builtins, and functions of `math` beside MATH, that cost nothing but their instructions."""

SUSPECTS = (ast.List, ast.ListComp, ast.Dict, ast.DictComp, ast.Set, ast.SetComp, ast.JoinedStr, ast.Raise, ast.Assert, ast.Slice)
