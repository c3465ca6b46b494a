"""The Python client behind its adapter, in the process of the test, and a clock that skips the time in which all wait.

All bytes between the two stay in this process and its kernel: when no task can run, none are on their way.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

import trio
from trio.testing import MockClock, memory_stream_pair

from client.conformance import serve
from protocol.conformance.driver import ClientAdapter, open_stream_adapter

PATIENCE_S: Final = 4.0
IDLE_S: Final = 0.002
"""The real time without an event after which the clock skips to the next deadline."""


def skipping_clock() -> MockClock:
    """For `trio.run`, or as a fixture."""
    return MockClock(autojump_threshold=IDLE_S)


@asynccontextmanager
async def open_python_client() -> AsyncGenerator[ClientAdapter]:
    """The adapter of the Python client."""
    near, far = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, far)
        async with open_stream_adapter(near, PATIENCE_S) as adapter:
            yield adapter
        nursery.cancel_scope.cancel()
