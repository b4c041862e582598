"""Talking to systemd: READY, STOPPING, STATUS and the watchdog, over the datagram socket that NOTIFY_SOCKET names.

The variables are taken out of the environment, so that no child inherits them. Without systemd every call does nothing.
"""

import contextlib
import os
import socket

SEND_MAX_S = 0.2
"""A manager that does not read holds us up no longer than this: READY must not be lost to a full queue, a trader must not hang."""


class Notifier:
    """One service's line to systemd."""

    def __init__(self):
        address = os.environ.pop("NOTIFY_SOCKET", "")
        limit, whose = os.environ.pop("WATCHDOG_USEC", ""), os.environ.pop("WATCHDOG_PID", "")
        self.watchdog_s = int(limit) / 1e6 if limit.isdecimal() and whose in ("", str(os.getpid())) else 0.0
        self._socket = None
        if address:
            self._address = "\0" + address[1:] if address.startswith("@") else address
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.settimeout(SEND_MAX_S)

    def send(self, **facts: str | int) -> None:
        """Send KEY=value lines; a full or missing socket is not an error of ours."""
        if self._socket is None:
            return
        text = "\n".join(f"{key.upper()}={' '.join(str(value).split())}" for key, value in facts.items())
        with contextlib.suppress(OSError):
            self._socket.sendto(text.encode(), self._address)
