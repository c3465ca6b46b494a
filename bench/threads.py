"""A function that runs in a thread of its own for as long as a block."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def in_thread(run: Callable[[], None], *, begun: threading.Event, end: Callable[[], None]) -> Iterator[None]:
    """Run the function in a thread while the block runs.

    :param begun: the function sets it when the block may begin.
    :param end: makes the function return; the block ends with it.
    """
    thread = threading.Thread(target=run)
    thread.start()
    try:
        begun.wait()
        yield
    finally:
        end()
        thread.join()
