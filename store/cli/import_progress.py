"""The progress of an import on stderr: a bar for each step on a terminal, otherwise nothing."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any

from tqdm import tqdm  # type: ignore[import-untyped]


class Bar:
    """One bar at a time."""

    def __init__(self) -> None:
        self._bar: Any = None

    def begin(self, step: str, total: int) -> None:
        self._close()
        # `disable=None`: none unless it is a terminal.
        self._bar = tqdm(total=total or None, desc=step, unit=" rows", unit_scale=True, file=sys.stderr, disable=None)

    def advance(self, rows: int) -> None:
        if self._bar is not None:
            self._bar.update(rows)

    def __enter__(self) -> Bar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
