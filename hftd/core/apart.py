"""Keeping rare code out of the loop: `apart()` as the first statement of a `@hot` function makes it a call wherever it is used.

LLVM inlines what it finds worth it, and finds too much worth it: what goes wrong would be copied into every place where it can go
wrong, the loop would be five times as long, and so would its compilation.
"""

from numba import types
from numba.extending import intrinsic

from hftd.core.jit import INTERPRETED


def _apart(typingctx):
    def codegen(context, builder, signature, args):
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return types.void(), codegen


apart = (lambda: None) if INTERPRETED else intrinsic(_apart)
"""apart(): never inline the function this stands in."""
