"""Deletions of many objects and multipart uploads; one that the object store does not delete stops no other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import structlog

from store.errors import StoreError
from store.objects.interface import Objects

log = structlog.get_logger(__name__)

MAX_FAILURES: Final = 10
"""Failures in a row after which the object store counts as away, and the rest waits: each may take a minute."""


class Failures:
    """The objects and multipart uploads that the object store did not delete, in one run of a task.

    :ivar keys: of these.
    """

    def __init__(self) -> None:
        self.keys: set[str] = set()
        self._first: StoreError | None = None
        self._in_a_row = 0

    @contextmanager
    def noted(self, key: str) -> Iterator[None]:
        """The block deletes what is under this key. A failure is noted, and logged as `object_stays`.

        :raises Unavailable, ObjectStoreRefused: at the last of `MAX_FAILURES` in a row.
        """
        try:
            yield
        except StoreError as error:
            log.warning("object_stays", key=key, error=str(error))
            self.keys.add(key)
            self._first = self._first or error
            self._in_a_row += 1
            if self._in_a_row == MAX_FAILURES:
                raise
        else:
            self._in_a_row = 0

    def check(self) -> None:
        """
        :raises Unavailable, ObjectStoreRefused: the first failure, if there was one.
        """
        if self._first is not None:
            raise self._first


async def delete(objects: Objects, keys: Sequence[str], failures: Failures) -> None:
    """Delete objects, at most `MAX_PAGE`: all together, and if that fails, one by one.

    :param failures: gets those that the object store does not delete.
    :raises Unavailable, ObjectStoreRefused: if the object store is away; any object may be gone.
    """
    try:
        await objects.delete(keys)
    except StoreError:
        for key in keys:
            with failures.noted(key):
                await objects.delete([key])
