"""The priority of a thread that copies: whatever else runs on the machine comes first, and at once."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
import threading
from typing import Final

NICE: Final = 19
"""The lowest priority. Beside four busy threads on each of two cores, copies have 0.4 % of both: 7 ms a second, in
which the kernel copies 9 MB."""

SLICE_NS: Final = 100_000
"""The least that the scheduler accepts (Linux 6.12 or newer; an older one ignores it). A thread that wakes up waits for
the end of the slice of the one that runs, otherwise some 3 ms, and a send wakes several threads in turn."""

SET_ATTRIBUTES: Final = {"x86_64": 314, "aarch64": 274}
"""The number of the system call; Python 3.11 and glibc before 2.41 have no function for it."""

_libc: Final = ctypes.CDLL(None, use_errno=True)


def lower_priority() -> None:
    """Give this thread the lowest priority, for good: without privileges no thread can raise it again.

    Only Linux has priorities of threads; elsewhere nothing happens.
    """
    if sys.platform == "linux" and not _set_attributes():
        # An older kernel, another processor, or a filter of system calls.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)


def _set_attributes() -> bool:
    """Whether the kernel took both, the priority and the slice."""
    number = SET_ATTRIBUTES.get(platform.machine())
    if number is None:
        return False
    # struct sched_attr: size, policy (0: SCHED_OTHER), flags, nice, priority, runtime, deadline, period; see sched(7).
    layout = "=IIQiIQQQ"
    attributes = struct.pack(layout, struct.calcsize(layout), 0, 0, NICE, 0, SLICE_NS, 0, 0)
    return not _libc.syscall(number, 0, ctypes.create_string_buffer(attributes), 0)
