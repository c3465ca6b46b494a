"""A Postgres pool and an object store whose calls fail where a test says: a process dies, or a service fails."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple, TypeVar

import trio
from msgspec.structs import replace

from store.errors import ObjectStoreRefused, StoreError, Unavailable
from store.objects.direct import FileStore, OpenMultipart
from store.objects.interface import StoredObject
from store.postgres.pool import Pool

_T = TypeVar("_T")


class Died(BaseException):
    """The process that made the call is dead. Nothing in the product catches it."""


class CallFault(NamedTuple):
    """What happens at a call.

    :ivar kind: one of `KINDS`.
    :ivar call: counts the calls of Postgres and of the object store, from 1.
    """

    kind: str
    call: int


KINDS: Final = ("dies before", "dies after", "is cancelled", "fails before", "fails after", "is refused")
"""The process dies before or after a call, or is told to stop in it; the service does not answer before or after it has
done what it was asked to, or refuses it, as one that is full."""


class Failures:
    """Which call fails, of those that a step makes.

    :ivar has_struck: a call of the last step failed: only what is stored tells what the step has done.
    """

    def __init__(self) -> None:
        self._fault: CallFault | None = None
        self._calls = 0
        self._is_dead = False
        self._scope = trio.CancelScope()
        self.has_struck = False

    async def run(self, step: Callable[[], Awaitable[_T]], fault: CallFault | None) -> _T | StoreError | None:
        """The result of a step, or its error; None if it died or was cancelled.

        :param fault: of one of its calls.
        """
        self._fault, self._calls, self._is_dead, self.has_struck = fault, 0, False, False
        try:
            with trio.CancelScope() as self._scope:
                return await step()
        except StoreError as error:
            return error
        except (Died, BaseExceptionGroup) as error:
            if isinstance(error, BaseExceptionGroup) and error.split(Died)[1] is not None:
                raise
        finally:
            self._fault, self._is_dead = None, False
        return None

    async def call(self, service: str, call: Callable[[], Awaitable[_T]]) -> _T:
        if self._is_dead:
            raise Died
        self._calls += 1
        if self._fault is None or self._calls != self._fault.call:
            return await call()
        self.has_struck = True
        match self._fault.kind:
            case "dies before":
                self._is_dead = True
                raise Died
            case "dies after":
                await call()
                self._is_dead = True
                raise Died
            case "is cancelled":
                self._scope.cancel()
                return await call()
            case "fails after":
                await call()
                raise Unavailable(service, "a test", "no answer")
            case "is refused" if service != "Postgres":
                raise ObjectStoreRefused("a test", "status 507 InsufficientStorage")
            case _:
                raise Unavailable(service, "a test", "refused")


class FailingPool(Pool):
    """A pool with such calls."""

    def __init__(self, url: str, failures: Failures) -> None:
        super().__init__(url, 4)
        self._failures = failures

    async def _with_deadline(self, *arguments: Any, **named: Any) -> Any:
        run = super()._with_deadline
        return await self._failures.call("Postgres", lambda: run(*arguments, **named))


class FailingStore:
    """An object store with such calls, for which a test lets time pass.

    :ivar passed_s: how much time has passed for what is there now.
    """

    def __init__(self, store: FileStore, failures: Failures) -> None:
        self._store = store
        self._failures = failures
        self._born: dict[tuple[str, object], float] = {}
        self.passed_s = 0.0

    def __str__(self) -> str:
        return str(self._store)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if not inspect.iscoroutinefunction(found):
            return found

        async def call(*arguments: Any) -> Any:
            return await self._failures.call("the object store", lambda: found(*arguments))

        return call

    async def list(self, *arguments: Any) -> list[StoredObject]:
        page = await self._failures.call("the object store", lambda: self._store.list(*arguments))
        return [replace(each, modified=each.modified - self._age_us(each.key, each.modified)) for each in page]

    async def list_multiparts(self, *arguments: Any) -> list[OpenMultipart]:
        page = await self._failures.call("the object store", lambda: self._store.list_multiparts(*arguments))
        return [replace(each, begun=each.begun - self._age_us(each.key, each.upload)) for each in page]

    async def look(self) -> tuple[list[StoredObject], list[OpenMultipart]]:
        """All objects and multipart uploads, those that are new among them: no time has passed for these."""
        objects, multiparts = await self._store.list(""), await self._store.list_multiparts("")
        for key, mark in [*((e.key, e.modified) for e in objects), *((e.key, e.upload) for e in multiparts)]:
            self._born.setdefault((key, mark), self.passed_s)
        return objects, multiparts

    def _age_us(self, key: str, mark: object) -> int:
        return round((self.passed_s - self._born.get((key, mark), self.passed_s)) * 1_000_000)
