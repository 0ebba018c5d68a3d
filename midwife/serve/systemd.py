"""sd_notify(3): tells systemd when the service serves, reloads and stops, for units of Type=notify(-reload).

One datagram to the socket that systemd names; without it nothing is done. Knows nothing of the service.
"""

import contextlib
import os
import socket
import time

__all__ = ["notify", "notify_reloading"]


def notify(text: str) -> None:
    """``READY=1``, ``STOPPING=1``. Failing is no reason to stop serving."""
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.sendto(text.encode(), address)


def notify_reloading() -> None:
    """Until the next READY=1; systemd wants to know since when."""
    notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
