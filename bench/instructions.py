"""How many instructions a function takes, on Linux: a figure that other work on the machine does not change.

Virtual machines mostly hide the processor's own counters. So a child runs the function and its parent lets it go on by
one instruction at a time (`PTRACE_SINGLESTEP` of ptrace(2)), which takes some 20 us of processor time each. The
kernel's instructions do not count. Two counts of the same work differ by some 0.3 %, since addresses differ.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
from collections.abc import Callable
from typing import Final

_TRACE_ME, _KILL, _SINGLE_STEP, _SET_OPTIONS = 0, 8, 9, 0x4200
_EXIT_KILL: Final = 0x100000
"""The child ends with its parent, however that ends."""

_ptrace = ctypes.CDLL(None, use_errno=True).ptrace
_ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
_ptrace.restype = ctypes.c_long


class CannotCountError(Exception):
    """The system lets no process trace its child, or the function raised an exception."""


def count_instructions(work: Callable[[], object]) -> int:
    """The instructions of one call in user space, with those of the call itself (some 5,000).

    The call happens in a copy of this process, without garbage collection, and changes nothing here.

    :raises CannotCountError: if there is no count.
    """
    child = os.fork()
    if child == 0:
        _be_traced(work)
    has_ended = False
    try:
        has_ended = not _is_stopped_by(signal.SIGSTOP, child)
        if has_ended or _ptrace(_SET_OPTIONS, child, None, _EXIT_KILL) != 0:
            raise CannotCountError("this system lets no process trace its child (ptrace)")
        count = 0
        while True:
            if _ptrace(_SINGLE_STEP, child, None, None) != 0:
                raise CannotCountError(f"no single steps (ptrace): {os.strerror(ctypes.get_errno())}")
            _, status = os.waitpid(child, 0)
            if not os.WIFSTOPPED(status):
                has_ended = True
                raise CannotCountError("the function did not return")
            if os.WSTOPSIG(status) != signal.SIGTRAP:
                return count
            count += 1
    finally:
        if not has_ended:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def _is_stopped_by(number: int, child: int) -> bool:
    _, status = os.waitpid(child, 0)
    return os.WIFSTOPPED(status) and os.WSTOPSIG(status) == number


def _be_traced(work: Callable[[], object]) -> None:
    """Run the work between two signals that stop this process; never returns."""
    try:
        gc.disable()
        if _ptrace(_TRACE_ME, 0, None, None) == 0:
            pid, stop, kill = os.getpid(), signal.SIGSTOP, os.kill
            kill(pid, 0)  # the first call looks the function up in the C library
            kill(pid, stop)
            work()
            kill(pid, stop)
    finally:
        os._exit(1)
