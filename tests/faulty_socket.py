"""`python -m tests.faulty_socket socket`: a gateway that SIGUSR1 stalls for STALL_S (a variable), and whose commits of
sends never end if STUCK is set. Stalls and stuck commits count as such after a second.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

import trio

from runtime import loop_watch
from server.__main__ import main
from server.gateway import sends
from store.batching import commits


def hold_the_loop(*_: object) -> None:
    """Python runs handlers in the thread of the event loop, which waits meanwhile."""
    threading.Event().wait(float(os.environ["STALL_S"]))


async def never(*_: Any, **__: Any) -> Any:
    await trio.sleep_forever()


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, hold_the_loop)
    loop_watch.STALL_S = commits.STUCK_S = 1.0  # type: ignore[misc]
    if os.environ.get("STUCK"):
        sends.send = never  # type: ignore[assignment]
    main()
