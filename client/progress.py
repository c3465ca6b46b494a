"""A progress bar on stderr, if that is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm  # type: ignore[import-untyped]

from client.uploads import OnProgress


@contextmanager
def progress_bar(title: str) -> Iterator[OnProgress]:
    """A bar for one file; it is told of the bytes that are done, and of all."""
    with tqdm(desc=title, unit="B", unit_scale=True, unit_divisor=1024, file=sys.stderr, disable=None) as bar:

        def tell(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield tell
