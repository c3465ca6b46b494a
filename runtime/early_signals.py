"""Being told to stop before anything has begun. Imports next to nothing: it is the first thing that a process does."""

from __future__ import annotations

import os
import signal


def exit_when_told(status: int) -> None:
    """End at once, with this status, on SIGTERM or SIGINT; until `runtime.signals` takes over, and again after that.

    A process has to import for half a second before it can watch for signals, and by default a signal kills: process
    managers take that for a crash. Nothing has begun that would have to be ended in order.

    :param status: 0 for a process that runs until it is told to stop; another one if its work has not been done then.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(status))
