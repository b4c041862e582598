"""Calls between compiled functions without the two stores of zero that Numba puts at the head of the caller for each of them.

Numba makes room for a call's result and for its exception in the caller's first block, and clears both there. A leaf melts into a
loop's body, and its first block with it, so a message would pay two stores for every rare call that it might have made: 26 of them
in the feed's loop, 2.3 ns of 34. They say nothing: the result is cleared again at the call, and the exception is written by the
callee before anybody reads it. Here the room is made without clearing it; all else is Numba's.

Cold code that Numba compiles in the same process is made the same way, and computes the same.
"""

from numba.core import callconv, cgutils, debuginfo

_numbas = callconv.CPUCallConv.call_function


def _room(builder, kind, size=None, name="", zfill=False):
    """Numba's alloca_once, not cleared."""
    with debuginfo.suspend_emission(builder), builder.goto_entry_block():
        return builder.alloca(kind, size=size, name=name)


class _Helpers:
    """Numba's code generation helpers with another alloca_once."""

    def __getattr__(self, name):
        return _room if name == "alloca_once" else getattr(cgutils, name)


_bare = _Helpers()


def _call_function(self, *args, **kwargs):
    kept, callconv.cgutils = callconv.cgutils, _bare
    try:
        return _numbas(self, *args, **kwargs)
    finally:
        callconv.cgutils = kept


def install() -> None:
    """Make it so for what is compiled from now on."""
    callconv.CPUCallConv.call_function = _call_function
