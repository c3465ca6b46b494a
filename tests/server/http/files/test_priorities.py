"""The priority of threads that copy: the lowest, with short slices."""

from __future__ import annotations

import ctypes
import os
import struct
import threading
from collections.abc import Callable
from threading import Thread

import pytest

from server.http.files import priorities
from server.http.files.priorities import NICE, SLICE_NS, lower_priority

GETATTR = 315
"""sched_getattr of x86-64; the attributes are 56 bytes."""


def in_a_lowered_thread(ask: Callable[[], int]) -> int:
    """What a thread that has lowered its priority answers."""
    seen: list[int] = []

    def lower() -> None:
        lower_priority()
        seen.append(ask())

    thread = Thread(target=lower)
    thread.start()
    thread.join()
    [answer] = seen
    return answer


def nice_of_this_thread() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def slice_ns_of_this_thread() -> int:
    attributes = ctypes.create_string_buffer(56)
    assert not ctypes.CDLL(None).syscall(GETATTR, 0, attributes, 56, 0)
    runtime_ns: int = struct.unpack_from("=IIQiIQ", attributes.raw)[5]
    return runtime_ns


def test_a_thread_gets_the_lowest_priority_and_no_other_thread_does() -> None:
    before = nice_of_this_thread()
    assert in_a_lowered_thread(nice_of_this_thread) == NICE
    assert nice_of_this_thread() == before


@pytest.mark.skipif(
    os.uname().machine != "x86_64" or tuple(map(int, os.uname().release.split(".")[:2])) < (6, 12),
    reason="older kernels have one slice for all threads",
)
def test_a_thread_gets_short_slices() -> None:
    assert in_a_lowered_thread(slice_ns_of_this_thread) == SLICE_NS


def test_a_kernel_without_the_call_gives_the_priority_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(priorities, "SET_ATTRIBUTES", {os.uname().machine: 10**6})
    assert in_a_lowered_thread(nice_of_this_thread) == NICE
