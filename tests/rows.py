"""Tables of cheap cases, each table in one test.

For each test pytest, xdist and the fixtures take several milliseconds, each worker collects all tests, and a test may
need a database and a server of its own. A table of many rows that take less than that, and that may share these, is one
test, which checks all rows and names each wrong one.
"""

from __future__ import annotations

import functools
import inspect
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest

MOST_SHOWN: Final = 20
"""Wrong rows that a failure describes; it gives the number of all."""

MOST_CHARACTERS: Final = 80
"""Of each part of a row's name: some values are the longest that a field may have, or longer."""


class CheckedRows:
    """The rows of a table that were checked so far."""

    def __init__(self) -> None:
        self._count = 0
        self._wrong: list[tuple[object, BaseException]] = []

    @contextmanager
    def row(self, name: object) -> Iterator[None]:
        """A block that checks one row. If it fails, the next rows are checked all the same.

        :param name: a text, a class, or a tuple of such and other values.
        """
        self._count += 1
        try:
            yield
        except (Exception, pytest.fail.Exception) as error:
            self._wrong.append((name, error))

    def check(self) -> None:
        """
        :raises AssertionError: with the name, the line and the error of each wrong row; the first error is its cause.
            A table without rows is wrong, too.
        """
        assert self._count, "the table has no rows"
        if self._wrong:
            said = [f"{_shown(name)}: {_said(error)}" for name, error in self._wrong[:MOST_SHOWN]]
            head = f"{len(self._wrong)} of {self._count} rows are wrong"
            raise AssertionError("\n".join([head, *said])) from self._wrong[0][1]


@contextmanager
def checked_rows() -> Iterator[CheckedRows]:
    """A block that checks the rows of a table. It fails at its end, if a row is wrong."""
    rows = CheckedRows()
    yield rows
    rows.check()


def each_row(
    names: str | tuple[str, ...], rows: Iterable[Any], *, ids: Callable[[Any], object] | Iterable[object] | None = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """As `pytest.mark.parametrize`, but one test for all rows, which share its fixtures. The function may be async.

    :param ids: the names of the rows, or a function of a value; without it a row is called after its values.
    """
    table = list(rows)
    columns = (names,) if isinstance(names, str) else names
    tuples = [(row,) if isinstance(names, str) else tuple(row) for row in table]
    if ids is None:
        called: list[object] = [row[0] if len(row) == 1 else row for row in tuples]
    elif callable(ids):
        called = [" ".join(str(ids(value)) for value in row) for row in tuples]
    else:
        called = list(ids)

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def check(**fixtures: Any) -> None:
            with checked_rows() as rows:
                for name, row in zip(called, tuples, strict=True):
                    with rows.row(name):
                        function(**fixtures, **dict(zip(columns, row, strict=True)))

        @functools.wraps(function)
        async def check_async(**fixtures: Any) -> None:
            with checked_rows() as rows:
                for name, row in zip(called, tuples, strict=True):
                    with rows.row(name):
                        await function(**fixtures, **dict(zip(columns, row, strict=True)))

        checking = check_async if inspect.iscoroutinefunction(function) else check
        signature = inspect.signature(function)
        others = [each for name, each in signature.parameters.items() if name not in columns]
        checking.__signature__ = signature.replace(parameters=others)  # type: ignore[attr-defined]  # pytest reads it
        return checking

    return decorate


def _shown(name: object) -> str:
    if isinstance(name, tuple):
        return " ".join(map(_shown, name))
    text = name.__name__ if isinstance(name, type) else str(name)
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}..."


def _said(error: BaseException) -> str:
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {where.name}, line {where.lineno}: {error}"
