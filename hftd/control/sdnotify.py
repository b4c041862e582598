"""Talking to systemd: READY, STOPPING, STATUS and the watchdog, over the datagram socket that NOTIFY_SOCKET names.

The variable is taken out of the environment, so that no child inherits it. Without systemd every call does nothing.
"""

import contextlib
import os
import socket


class Notifier:
    """One service's line to systemd."""

    def __init__(self):
        address = os.environ.pop("NOTIFY_SOCKET", "")
        self.watchdog_s = int(os.environ.pop("WATCHDOG_USEC", "0")) / 1e6
        os.environ.pop("WATCHDOG_PID", None)
        self._socket = None
        if address:
            self._address = "\0" + address[1:] if address.startswith("@") else address
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)

    def send(self, **facts: str | int) -> None:
        """Send KEY=value lines; a full or missing socket is not an error of ours."""
        if self._socket is None:
            return
        text = "\n".join(f"{key.upper()}={value}" for key, value in facts.items())
        with contextlib.suppress(OSError):
            self._socket.sendto(text.encode(), self._address)
