"""The C library's calls that compiled code makes, by name: cacheable, and no Python in between.

Each returns what C returns; -1 means look at `errno()`. Numba resolves the names when it links.
"""

import ctypes
import os

from numba import types
from numba.core.types import ExternalFunction

from hftd.core.jit import INTERPRETED, leaf
from hftd.core.memory import load32

MSG_DONTWAIT, MSG_NOSIGNAL = 0x40, 0x4000
CLOCK_REALTIME = 0
EINTR, EAGAIN, ECONNRESET, EPIPE, ENOTCONN = 4, 11, 104, 32, 107

_i4, _i8 = types.intc, types.int64

if INTERPRETED:
    _libc = ctypes.CDLL(None, use_errno=True)

    def _twin(name, *arguments, result=ctypes.c_int):
        function = getattr(_libc, name)
        function.restype = result
        function.argtypes = list(arguments)
        return lambda *args: function(*(int(arg) for arg in args))

    _fd, _word = ctypes.c_int, ctypes.c_int64
    recv = _twin("recv", _fd, _word, _word, _fd, result=_word)
    send = _twin("send", _fd, _word, _word, _fd, result=_word)
    sendto = _twin("sendto", _fd, _word, _word, _fd, _word, _fd, result=_word)
    recvmmsg = _twin("recvmmsg", _fd, _word, ctypes.c_uint, _fd, _word)
    sendmmsg = _twin("sendmmsg", _fd, _word, ctypes.c_uint, _fd)
    poll = _twin("poll", _word, _word, _fd)
    nanosleep = _twin("nanosleep", _word, _word)
    sched_yield = _twin("sched_yield")
    clock_gettime = _twin("clock_gettime", _fd, _word)
    memmove = _twin("memmove", _word, _word, _word)

    def errno():
        """The error of the last call of this thread."""
        return ctypes.get_errno()

else:
    recv = ExternalFunction("recv", _i8(_i4, _i8, _i8, _i4))
    send = ExternalFunction("send", _i8(_i4, _i8, _i8, _i4))
    sendto = ExternalFunction("sendto", _i8(_i4, _i8, _i8, _i4, _i8, _i4))
    recvmmsg = ExternalFunction("recvmmsg", _i4(_i4, _i8, types.uintc, _i4, _i8))
    sendmmsg = ExternalFunction("sendmmsg", _i4(_i4, _i8, types.uintc, _i4))
    poll = ExternalFunction("poll", _i4(_i8, _i8, _i4))
    nanosleep = ExternalFunction("nanosleep", _i4(_i8, _i8))
    sched_yield = ExternalFunction("sched_yield", _i4())
    clock_gettime = ExternalFunction("clock_gettime", _i4(_i4, _i8))
    memmove = ExternalFunction("memmove", _i8(_i8, _i8, _i8))
    _errno_location = ExternalFunction("__errno_location", _i8())

    @leaf
    def errno():
        """The error of the last call of this thread."""
        return load32(_errno_location())


def set_name(name: str) -> None:
    """Name this process for ps and top (15 characters)."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(15, name.encode()[:15], 0, 0, 0)


def die_with_parent(signal_number: int, parent: int) -> None:
    """Ask the kernel for `signal_number` when the parent dies; exit at once where `parent` is gone already."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(1, signal_number, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
