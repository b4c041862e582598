"""Distinct errors in shared memory: what went wrong, how often, when first and when last. Readable after a crash.

One writer per log. A code (msg.enums.LogCode) with the same first integer is one error; when all rows are taken, the
last one counts the rest.
"""

from hftd.core.jit import leaf
from hftd.core.layout import layout
from hftd.core.memory import row

ROWS = 32

error_dtype = layout("error", 64, [
    ("code", "i8"),                               # LogCode; 0: row free
    ("a", "i8"), ("b", "i8"),                     # details; `a` tells one error of a code from another
    ("count", "i8"),
    ("first", "i8"),                              # ticks
    ("last", "i8"),                               # ticks
    ("pad0", "i8"), ("pad1", "i8"),
])  # fmt: skip


@leaf
def note_error(log, code, a, b, now):
    """Count an error. log: Span of error_dtype rows; now: ticks."""
    for i in range(log.count):
        entry = row(log, i, error_dtype)
        if entry.code == 0:
            entry.a, entry.first, entry.code = a, now, code
        if (entry.code == code and entry.a == a) or i == log.count - 1:
            entry.b, entry.last = b, now
            entry.count += 1
            return
