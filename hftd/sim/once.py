"""`@once`: for a long function with one caller, kept apart for the reader only.

Numba pastes its source into the caller. A `@hot` callee is optimised again in every caller above it, and a chain of five cost the
exchange two seconds of its cold compile. Not for functions with several callers: each would carry a copy.
"""

from numba import njit


def once(function):
    """Compile `function` as part of its only caller."""
    return njit(function, inline="always", error_model="numpy")
