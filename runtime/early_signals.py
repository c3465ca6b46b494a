"""SIGTERM and SIGINT before a process has begun its work. Imports almost nothing: processes import this first."""

from __future__ import annotations

import os
import signal


def exit_when_told(status: int) -> None:
    """Exit at once with this status on SIGTERM or SIGINT, until `runtime.signals` takes over, and again afterwards.

    A process imports for half a second before it can watch for signals. By default, a signal would kill it meanwhile,
    and process managers would count that as a crash. The process has not begun any work that needs an orderly end.

    :param status: 0 for a process that runs until it is told to stop; 1 for a command, whose work is then not done.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(status))
