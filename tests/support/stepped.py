"""Shared memory as a process that dies leaves it: after every single instruction of a kernel that changed it.

`states(kernel, arguments, watched)` forks a child that calls the kernel, lets its machine code run one instruction at a time
(ptrace), and returns an image of the watched memory after each instruction that changed any of it. A restart over each image is a
restart after `kill -9` at that point, so that no window is too narrow to be tested.

`calls(function, directory, watched)` does the same to cold code at every system call, with the files of a directory.
"""

import contextlib
import ctypes
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

TRACEME, PEEK, POKE, CONT, SINGLESTEP, GETREGS, SETREGS = 0, 1, 4, 7, 9, 12, 13
SYSCALL, SETOPTIONS, TRACESYSGOOD = 24, 0x4200, 1
CALLED = signal.SIGTRAP | 0x80                        # a stop at a system call, with TRACESYSGOOD
ORIG_RAX, RIP, RSP = 15, 16, 19                       # places in user_regs_struct
STEPS_MAX = 1_000_000
_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes, _libc.ptrace.restype = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p], ctypes.c_long
_libc.memcmp.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]


def bytes_of(segment, *names: str) -> list[np.ndarray]:
    """Return byte views of the named parts of a segment."""
    return [np.asarray(segment[name]).view(np.ndarray).view(np.uint8) for name in names]


def states(kernel, arguments: tuple, watched: list[np.ndarray]) -> list[list[bytes]]:
    """Return the images of `watched` one after the other; the first is from before the call. kernel: compiled, called before."""
    compiled = next(iter(kernel.overloads.values()))
    entry = compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)
    images = [[array.tobytes() for array in watched]]
    child = os.fork()
    if child == 0:
        try:
            _libc.ptrace(TRACEME, 0, None, None)
            os.kill(os.getpid(), signal.SIGSTOP)
            kernel(*arguments)
        finally:
            os._exit(0)
    try:
        _wait(child, signal.SIGSTOP)
        registers = (ctypes.c_ulonglong * 27)()
        word = _trace(PEEK, child, entry) & 0xFFFFFFFFFFFFFFFF
        _trace(POKE, child, entry, (word & ~0xFF) | 0xCC)
        _trace(CONT, child)
        _wait(child, signal.SIGTRAP)
        _trace(POKE, child, entry, word)
        _trace(GETREGS, child, 0, ctypes.addressof(registers))
        registers[RIP] = entry
        _trace(SETREGS, child, 0, ctypes.addressof(registers))
        stack = registers[RSP]
        shadows = [array.copy() for array in watched]
        pairs = [(array.ctypes.data, shadow.ctypes.data, array.nbytes) for array, shadow in zip(watched, shadows, strict=True)]
        for _ in range(STEPS_MAX):
            _trace(SINGLESTEP, child)
            _wait(child, signal.SIGTRAP)
            if any(_libc.memcmp(*pair) for pair in pairs):
                images.append([array.tobytes() for array in watched])
                for array, shadow in zip(watched, shadows, strict=True):
                    shadow[:] = array
            _trace(GETREGS, child, 0, ctypes.addressof(registers))
            if registers[RSP] > stack:
                return images
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    raise AssertionError("the kernel does not return")


class Call(NamedTuple):
    """What lies there before a system call (or after the last): its number, path -> contents of the files, images of memory."""

    number: int
    files: dict[str, bytes]
    images: list[bytes]

    def lay(self, directory: Path, watched: list[np.ndarray] = ()) -> None:
        """Make a directory and memory what they were."""
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        for name, data in self.files.items():
            (directory / name).write_bytes(data)
        put_back(watched, self.images)


def calls(function: Callable[[], object], directory: Path, watched: list[np.ndarray] = ()) -> list[Call]:
    """Return what `function` leaves behind where it is killed at each of its system calls. It must not raise."""
    found: list[Call] = []
    child = os.fork()
    if child == 0:
        code = 1
        try:
            _libc.ptrace(TRACEME, 0, None, None)
            os.kill(os.getpid(), signal.SIGSTOP)
            function()
            code = 0
        finally:
            os._exit(code)
    try:
        _wait(child, signal.SIGSTOP)
        _trace(SETOPTIONS, child, 0, TRACESYSGOOD)
        registers = (ctypes.c_ulonglong * 27)()
        entering = False
        while True:
            _trace(SYSCALL, child)
            _, status = os.waitpid(child, 0)
            if os.WIFEXITED(status):
                assert os.WEXITSTATUS(status) == 0, "the function raised"
                return found                      # exit_group() is the last call
            assert os.WIFSTOPPED(status) and os.WSTOPSIG(status) == CALLED, status
            entering = not entering
            if entering:
                _trace(GETREGS, child, 0, ctypes.addressof(registers))
                files = {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}
                found.append(Call(registers[ORIG_RAX], files, [array.tobytes() for array in watched]))
    except BaseException:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        raise


def different(found: list[Call]) -> list[Call]:
    """Leave out what lies there as it did at the call before."""
    return [call for before, call in zip([None, *found], found) if before is None or before[1:] != call[1:]]


def put_back(watched: list[np.ndarray], image: list[bytes]) -> None:
    """Make memory what it was in an image."""
    for array, before in zip(watched, image, strict=True):
        array[:] = np.frombuffer(before, np.uint8)


def _trace(what: int, child: int, at: int = 0, data: int = 0) -> int:
    ctypes.set_errno(0)
    got = _libc.ptrace(what, child, at, data)
    if got == -1 and ctypes.get_errno():
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return got


def _wait(child: int, expected: int) -> None:
    _, status = os.waitpid(child, 0)
    assert os.WIFSTOPPED(status) and os.WSTOPSIG(status) == expected, status
