"""hftd/core/libc.py: C's calls from hot code, with C's return values in both modes."""

import errno
import os
import socket

import numpy as np

from hftd.core import libc
from hftd.core.jit import hot
from hftd.core.layout import layout
from hftd.core.memory import address_of, records

pollfd_dtype = layout("pollfd", 8, [("fd", "i4"), ("events", "i2"), ("revents", "i2")])
timespec_dtype = layout("timespec", 16, [("s", "i8"), ("ns", "i8")])


@hot
def _recv(fd, at, size):
    got = libc.recv(fd, at, size, libc.MSG_DONTWAIT)
    return got, libc.errno() if got < 0 else 0


@hot
def _send(fd, at, size):
    got = libc.send(fd, at, size, libc.MSG_NOSIGNAL | libc.MSG_DONTWAIT)
    return got, libc.errno() if got < 0 else 0


@hot
def _bad(fd, at):
    a = libc.recvmmsg(fd, at, 1, libc.MSG_DONTWAIT, 0)
    b = libc.sendmmsg(fd, at, 1, 0)
    c = libc.sendto(fd, at, 1, 0, 0, 0)
    return a, b, c, libc.errno()


@hot
def _wait(poll_record, time_record):
    slept = libc.nanosleep(address_of(time_record), 0)
    gave = libc.sched_yield()
    return libc.poll(address_of(poll_record), 1, 0), slept, gave


def test_bytes_travel_and_an_empty_socket_says_again():
    """send and recv count bytes; EAGAIN and EPIPE come through errno."""
    here, there = socket.socketpair()
    with here, there:
        data, room = np.frombuffer(b"SoupBinTCP", np.uint8), np.zeros(64, np.uint8)
        assert _recv(there.fileno(), room.ctypes.data, 64) == (-1, errno.EAGAIN) == (-1, libc.EAGAIN)
        assert _send(here.fileno(), data.ctypes.data, 10) == (10, 0)
        assert _recv(there.fileno(), room.ctypes.data, 64) == (10, 0)
        assert bytes(room[:10]) == b"SoupBinTCP"
        there.close()
        assert _send(here.fileno(), data.ctypes.data, 10) == (-1, libc.EPIPE)
        assert _recv(here.fileno(), room.ctypes.data, 64)[0] == 0


def test_a_bad_descriptor_is_minus_one_everywhere():
    """C's int -1 is -1, not 2**32-1, whatever the width of the register."""
    buffer = np.zeros(64, np.uint8)
    assert _bad(-1, buffer.ctypes.data) == (-1, -1, -1, errno.EBADF)


def test_poll_sees_a_readable_pipe_and_sleep_returns():
    """0 while nothing is there, 1 afterwards; a negative sleep is refused by the kernel as -1."""
    reader, writer = os.pipe()
    try:
        waiting, pause = records(pollfd_dtype, 1)[0], records(timespec_dtype, 1)[0]
        waiting["fd"], waiting["events"], pause["ns"] = reader, 1, 1000
        assert _wait(waiting, pause) == (0, 0, 0)
        os.write(writer, b"x")
        pause["ns"] = -1
        assert _wait(waiting, pause) == (1, -1, 0)
    finally:
        os.close(reader)
        os.close(writer)
