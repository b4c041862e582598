"""Numba's errors in one line that a strategy's author understands: `file:line: what is wrong; what would be right`. Cold.

Numba tells the innermost error first and then everything on the way out, so the first place in the strategy's file is the one to
show. Two kinds come without a place, a name that is not defined and a field that a record does not have: those are looked up in
the source.
"""

import ast
import difflib
import re

from numba.core.errors import NumbaError, UnsupportedBytecodeError

from hftd.msg.records import position_dtype
from hftd.strategy.api import Context
from hftd.strategy.params import StrategyError
from hftd.strategy.records import book_dtype, change_dtype, fill_dtype, order_row_dtype, trade_dtype

_WORDS = [
    (r"exception_match|Exception matching", "try and except have no place in a callback: check before, return early"),
    (r"((?:px|qty|instrument|an order's id) must be a whole number, was [^\n]*)", "{0}"),
    (r"Untyped global name '(\w+)':? Cannot determine Numba type of <class 'function'>",
     "{0} cannot be compiled: define it in this file, or decorate it with hftd.core.jit.leaf"),
    (r"Untyped global name '(\w+)'", "{0} cannot be compiled: globals can be numbers, tuples of numbers, layouts and functions"),
    (r"Unknown attribute '(\w+)' of type Context", "ctx has no {0}; it has params, state, now_ns, venue_ns"),
    (r"Unknown attribute '(\w+)' of type (\w+)", "a {1} has no {0}"),
    (r"missing a required argument: '(\w+)'", "a call lacks the argument {0}"),
    (r"too many positional arguments", "a call has too many arguments"),
    (r"got an unexpected keyword argument '(\w+)'", "a call has an argument {0} that the function does not take"),
    (r"Cannot unify (.+?) and (.+?) for '(\w+)", "{2} is {0} in one branch and {1} in another"),
    (r"No implementation of function Function\(.*?\) found for signature:\s*>>> (\w+)\(([^\n]*)\)", "{0} does not take ({1})"),
    (r"opcode \(STORE_GLOBAL\)", "a global cannot be changed: it is a constant; keep what changes in state"),
    (r"Use of unsupported opcode \((\w+)\)", "Python's {0} cannot be compiled"),
    (r"The 'with \(context manager\)", "a with statement has no place in a callback"),
    (r"cannot (?:convert|cast|assign)[^\n]*", "{whole}"),
    (r"(?:The use of a |Use of )?[Uu]nsupported[^\n]*", "{whole}"),
]  # fmt: skip
_TYPES = [
    (r"Record\([^()]*(?:\([^()]*\)[^()]*)*\)", "record"), (r"Literal\[\w+\]\(([^)]*)\)", r"\1"), (r"unicode_type", "text"),
    (r"\bint64\b", "whole number"), (r"\bfloat64\b", "fraction"), (r"UniTuple\([^)]*\)", "tuple"), (r"Tuple\([^)]*\)", "tuple"),
]  # fmt: skip
_NOISE = ("Failed in", "File", "During:", "There are", "Overload", "Rejected", "-", "^", ">>>", "<", "Cannot resolve", "Enable")


def translate(error: Exception, program) -> StrategyError:
    """Return a compile error as one line about the strategy's file. program: the Program that did not compile."""
    path, tree = program.path, program.tree
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    if isinstance(error, KeyError):
        name = str(error.args[0])
        line = _find(tree, lambda node: isinstance(node, ast.Attribute) and node.attr == name)
        return StrategyError(f"{path}:{line}: there is no field {name}{_meant(name, _fields(program))}")
    missing = re.search(r"NameError: (?:global )?name '(\w+)' is not defined", text)
    if missing:
        name = missing.group(1)
        line = _find(tree, lambda node: isinstance(node, ast.Name) and node.id == name)
        return StrategyError(f"{path}:{line}: {name} is not defined{_meant(name, vars(program.module))}")
    if isinstance(error, ValueError) and "Cannot type empty" in text:
        line = _find(tree, lambda node: isinstance(node, ast.List | ast.Dict) and not [*ast.iter_child_nodes(node)][1:])
        return StrategyError(f"{path}:{line}: an empty list or dict has no place in a strategy: use fields of a state record")
    if not isinstance(error, NumbaError | UnsupportedBytecodeError):
        raise error
    place = re.search(rf'{re.escape(path.name)}"?(?:, line |:| \()(\d+)', text)
    line = int(place.group(1)) if place else _find(tree, lambda node: isinstance(node, ast.With | ast.Try | ast.ClassDef))
    return StrategyError(f"{path}:{line}: {_sentence(text)}")


def _find(tree: ast.Module, wanted) -> int:
    return min((node.lineno for node in ast.walk(tree) if wanted(node)), default=1)


def _meant(name: str, known) -> str:
    close = difflib.get_close_matches(name, [one for one in known if not one.startswith(("_", "pad"))], n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _fields(program) -> list[str]:
    records = (book_dtype, trade_dtype, fill_dtype, change_dtype, order_row_dtype, position_dtype, program.params_dtype,
               program.state_dtype, program.instrument_dtype)  # fmt: skip
    return [*Context._fields, *(name for record in records for name in record.names)]


def _sentence(text: str) -> str:
    for pattern, words in _WORDS:
        match = re.search(pattern, text)
        if match:
            groups = [_plain(group) for group in match.groups()]
            return words.format(*groups, whole=match.group(0).strip())[:200]
    for row in text.splitlines():
        plain = row.strip(" -[]")
        if plain and not plain.startswith(_NOISE):
            return plain[:200]
    return text.splitlines()[0][:200]


def _plain(text: str) -> str:
    for pattern, word in _TYPES:
        text = re.sub(pattern, word, text)
    return text.replace("'", "")
