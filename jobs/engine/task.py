"""Tasks: asynchronous functions with annotated arguments, and how their jobs are to be run."""

from __future__ import annotations

import inspect
import random
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, get_type_hints

import msgspec
from prometheus_client.registry import Collector

from jobs.engine.job import Job

Handler = Callable[..., Awaitable[Any]]

MAX_PAYLOAD_BYTES: Final = 8000
"""Of a job's arguments as JSON: ids and names, never content."""

_NUL: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")


class BadPayload(Exception):
    """The arguments are not those of the task. The text says which one, and what it should be."""


class Every(msgspec.Struct, frozen=True):
    """A schedule: each time this many seconds have passed; at least 0.001."""

    seconds: float

    def __str__(self) -> str:
        # Never with an exponent, which is no number of a rule.
        return f"every {self.seconds:.3f}".rstrip("0").rstrip(".") + " s"


class Cron(msgspec.Struct, frozen=True):
    """A schedule: five fields as in crontab(5), in a time zone of the IANA database.

    :ivar missed: what becomes of ticks at which no worker was there: "skip", "once" (one job for all) or "all".
    """

    expression: str
    zone: str = "UTC"
    missed: str = "once"

    def __str__(self) -> str:
        return self.expression


class Backoff(msgspec.Struct, frozen=True):
    """How long after a failed attempt the next one comes: doubling, at most `max_s`, less up to a half by chance."""

    first_s: float = 1.0
    max_s: float = 600.0

    def delay_s(self, attempt: int) -> float:
        """
        :param attempt: that has failed; 1 for the first.
        """
        return min(self.first_s * 2.0 ** min(attempt - 1, 60), self.max_s) * random.uniform(0.5, 1)  # noqa: S311


class Task:
    """A kind of job.

    :param handler: `async def handler(job: Job, NAME: TYPE, ...)`; types are those that msgspec reads from JSON
        (`UUID`, `int`, `str`, `datetime`, ...). What it returns is kept for `keep_result_s`, as JSON. It may raise
        `GiveUp`, `Snooze`, or anything else for another attempt.
    :param name: a word as in SQL, lower case; by default the handler's.
    :param is_volatile: jobs that are enqueued from plain code live in Redis alone, and may die with it.
    :param attempts: runs, the first included, before a job is dead.
    :param timeout_s: for one run; longer is a failed attempt.
    :param concurrency: jobs at a time over all workers; None for no limit but that of each worker.
    :param rate: at most so many starts in so many seconds, over all workers.
    :param schedule: when a job without arguments is enqueued by itself.
    :param metrics: counters and gauges of its own, made with `registry=None`: each worker shows them among its metrics.
        A metric belongs to one task, and counts what this worker has done.
    :ivar argument_names: the handler's arguments but for the job.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        name: str = "",
        is_volatile: bool = False,
        attempts: int = 12,
        backoff: Backoff = Backoff(),  # noqa: B008  (frozen)
        timeout_s: float = 60.0,
        concurrency: int | None = None,
        rate: tuple[int, float] | None = None,
        schedule: Every | Cron | None = None,
        keep_result_s: float = 0.0,
        metrics: Sequence[Collector] = (),
    ) -> None:
        self.handler = handler
        self.name = name or handler.__name__
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"{self.name!r} is no name for a task: lower-case letters, digits, _; at most 63")
        self.is_volatile = is_volatile
        self.attempts = attempts
        self.backoff = backoff
        self.timeout_s = timeout_s
        self.concurrency = concurrency
        self.rate = rate
        self.schedule = schedule
        self.keep_result_s = keep_result_s
        self.metrics = metrics
        self._arguments = _arguments_of(handler, self.name)
        self._decode = msgspec.json.Decoder(self._arguments).decode
        self.argument_names = self._arguments.__struct_fields__

    def call(self, job: Job, payload: bytes) -> Awaitable[Any]:
        """The handler, called with the arguments in a payload; to be awaited.

        :param payload: a JSON object.
        :raises BadPayload: if it does not have the arguments that the handler takes.
        """
        arguments = self.decode(payload)
        return self.handler(job, *[getattr(arguments, name) for name in self.argument_names])

    def decode(self, payload: bytes) -> Any:
        """
        :raises BadPayload: if it does not have the arguments that the handler takes.
        """
        try:
            return self._decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BadPayload(f"not the arguments of {self.name}: {error}") from None

    def encode(self, arguments: dict[str, Any]) -> bytes:
        """The payload for these arguments, once it has been seen that they are the handler's.

        :raises BadPayload: if they are not, or are too long, or cannot be written as JSON or kept by Postgres.
        """
        try:
            payload = msgspec.json.encode(arguments)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise BadPayload(f"not JSON: {error}") from None
        if _NUL.search(payload):
            raise BadPayload("a NUL character in a text: Postgres keeps none")
        if len(payload) > MAX_PAYLOAD_BYTES:
            raise BadPayload(
                f"{len(payload)} bytes of arguments, at most {MAX_PAYLOAD_BYTES}: enqueue ids, not content"
            )
        self.decode(payload)
        return payload


def _arguments_of(handler: Handler, name: str) -> type[msgspec.Struct]:
    """A struct with a field for each argument of the handler, but the first, which is the job."""
    hints = get_type_hints(handler)
    first, *rest = inspect.signature(handler).parameters.values()
    if hints.get(first.name) is not Job:
        raise TypeError(f"the first argument of {name} must be annotated with Job")
    fields: Sequence[Any] = [
        (each.name, hints[each.name])
        if each.default is inspect.Parameter.empty
        else (each.name, hints[each.name], each.default)
        for each in rest
    ]
    return msgspec.defstruct(f"{name}_arguments", fields, kw_only=True, forbid_unknown_fields=True)
