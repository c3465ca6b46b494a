"""The garbage collector and objects that stay: it need not look at these in each of its full collections."""

from __future__ import annotations

import gc


class StayingObjects:
    """Takes what has come to stay off the collector's lists. Reference counts still free it, at once.

    A full collection looks at all objects on these lists: 35 for each connection, so at 10,000 connections the process
    would serve no client for some 0.3 s, several times while they come. What is taken off must not be in a circle of
    references at its end, or it is never freed.

    :param at_once: after so many calls of `note`.
    """

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._noted = 0

    def note(self) -> None:
        """Something of many objects has come to stay. Atomic (no checkpoint)."""
        self._noted += 1
        if self._noted >= self._at_once:
            self._noted = 0
            gc.collect(1)  # Circles of the last moments are garbage, and would be kept.
            gc.freeze()
