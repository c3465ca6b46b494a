"""systemd's notify protocol: one datagram for each change of state (sd_notify(3)).

The package sdnotify sends the same datagram, and has had no release since 2017; so this module sends it itself.
"""

from __future__ import annotations

import os
import socket
from typing import Final

import structlog

log = structlog.get_logger(__name__)

READY: Final = "READY=1"
STOPPING: Final = "STOPPING=1"
WATCHDOG: Final = "WATCHDOG=1"


def notify(state: str) -> None:
    """Tell the service manager; does nothing if no service manager has set NOTIFY_SOCKET. Never blocks."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    # A name that begins with @ is abstract: it is in no file system.
    name = "\0" + address[1:] if address.startswith("@") else address
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.sendto(state.encode(), name)
    except OSError as error:
        log.warning("service_manager_not_told", state=state, error=str(error))


def watchdog_s() -> float | None:
    """The seconds within which the service manager expects a sign of life; None if it expects none."""
    pid, microseconds = os.environ.get("WATCHDOG_PID", ""), os.environ.get("WATCHDOG_USEC", "")
    if not microseconds.isdecimal() or int(microseconds) == 0 or pid not in ("", str(os.getpid())):
        return None
    return int(microseconds) / 1e6
