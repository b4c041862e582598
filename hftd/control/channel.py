"""The control socket: how the CLI asks the supervisor for something. One line of JSON each way, over a Unix socket.

Only the daemon's own user (and root) is heard: the socket is 0600 in a 0700 directory, and the peer's uid is checked besides.
"""

import contextlib
import json
import os
import socket
import struct
import time
from pathlib import Path

from hftd.errors import WRONG, HftdError

REQUEST_MAX = 4096
PEER_MAX_S = 0.2
"""How long a peer may keep the supervisor waiting for its line, in all."""


class ChannelError(HftdError):
    """The daemon could not be asked."""


class PathError(ChannelError):
    """The run directory is not one that a socket can lie in."""

    exit_code = WRONG


class Server:
    """The supervisor's end: nonblocking, one request a connection."""

    def __init__(self, path: Path):
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            path.unlink(missing_ok=True)
            self._socket.bind(str(path))
            os.chmod(path, 0o600)
        except OSError as error:
            self._socket.close()
            raise PathError(f"control socket {path}: {error.strerror or error}; choose another daemon.run_dir") from None
        self._socket.listen(8)

    def requests(self):
        """Yield (request, reply) for each connection that waits; `reply(dict)` answers and closes."""
        while True:
            try:
                peer, _ = self._socket.accept()
            except (BlockingIOError, OSError):
                return
            peer.settimeout(PEER_MAX_S)
            _, uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            with peer:
                try:
                    if uid not in (0, os.getuid()):
                        peer.sendall(b'{"error": "this daemon belongs to another user"}\n')
                        continue
                    request = json.loads(_line(peer) or b"{}")
                except (OSError, ValueError, RecursionError):
                    continue

                def reply(answer: dict, peer=peer) -> None:
                    with contextlib.suppress(OSError):
                        peer.sendall(json.dumps(answer).encode() + b"\n")

                yield request if isinstance(request, dict) else {}, reply

    def close(self) -> None:
        """Close and remove the socket."""
        self._socket.close()
        with contextlib.suppress(OSError):
            self.path.unlink()


def _line(peer: socket.socket) -> bytes:
    """Return a peer's line, what there is of it after PEER_MAX_S or REQUEST_MAX bytes. Raises OSError."""
    deadline, line = time.monotonic() + PEER_MAX_S, b""
    while b"\n" not in line and len(line) < REQUEST_MAX:
        if time.monotonic() > deadline:
            raise TimeoutError
        piece = peer.recv(REQUEST_MAX - len(line))
        if not piece:
            break
        line += piece
    return line.split(b"\n")[0]


def ask(path: Path, timeout_s: float = 5.0, **request) -> dict:
    """Send one request to a daemon's socket and return its answer. Raises ChannelError."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
            line.settimeout(timeout_s)
            line.connect(str(path))
            line.sendall(json.dumps(request).encode() + b"\n")
            answer = json.loads(line.makefile("r").readline() or "{}")
    except (FileNotFoundError, ConnectionRefusedError):
        raise ChannelError("no daemon is running here; start one with: hftd start") from None
    except PermissionError:
        raise ChannelError(f"{path} belongs to another user; run as the user that started the daemon") from None
    except (OSError, ValueError) as error:
        raise ChannelError(f"the daemon did not answer on {path}: {error}") from None
    if not isinstance(answer, dict) or not answer:
        raise ChannelError(f"the daemon did not answer on {path}; see: hftd status")
    if "error" in answer:
        raise ChannelError(str(answer["error"]))
    return answer
