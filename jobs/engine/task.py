"""Tasks: asynchronous functions with annotated arguments, and how their jobs run."""

from __future__ import annotations

import inspect
import random
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, get_type_hints

import msgspec

from jobs.engine.job import Job

Handler = Callable[..., Awaitable[Any]]

MAX_PAYLOAD_BYTES: Final = 8000
"""Size of a job's arguments as JSON: ids and names, never content."""

_NUL: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")


class BadPayload(Exception):
    """The arguments do not fit the task. The text names the argument and what it should be."""


class Every(msgspec.Struct, frozen=True):
    """A schedule: a job at this interval; at least 0.001."""

    seconds: float

    def __str__(self) -> str:
        # Never with an exponent: rules have none.
        return f"every {self.seconds:.3f}".rstrip("0").rstrip(".") + " s"


class Cron(msgspec.Struct, frozen=True):
    """A schedule: five fields as in crontab(5), in a time zone of the IANA database.

    :ivar missed: what happens to ticks that no worker saw: "skip", "once" (one job for all of them) or "all".
    """

    expression: str
    zone: str = "UTC"
    missed: str = "once"

    def __str__(self) -> str:
        return self.expression


class Backoff(msgspec.Struct, frozen=True):
    """The delay after a failed attempt: it doubles, up to `max_s`; up to half of it is taken off at random."""

    first_s: float = 1.0
    max_s: float = 600.0

    def delay_s(self, attempt: int) -> float:
        """
        :param attempt: the one that failed; 1 for the first.
        """
        return min(self.first_s * 2.0 ** min(attempt - 1, 60), self.max_s) * random.uniform(0.5, 1)  # noqa: S311


class Task:
    """A kind of job.

    :param handler: `async def handler(job: Job, NAME: TYPE, ...)`; msgspec must be able to read the types from JSON
        (`UUID`, `int`, `str`, `datetime`, ...). Its return value is kept as JSON for `keep_result_s`. It may raise
        `GiveUp`, `Snooze`, or any other exception for another attempt.
    :param name: an identifier as in SQL, lower case; by default the handler's name.
    :param is_volatile: jobs that Python code enqueues live in Redis alone, and may be lost with it.
    :param attempts: runs before a job is dead, the first included.
    :param timeout_s: for one run; a longer run is a failed attempt.
    :param concurrency: jobs that run at the same time over all workers; None: each worker's own limit is the only one.
    :param rate: (starts, seconds): at most this number of starts in any period of this length, over all workers.
    :param schedule: when workers enqueue a job without arguments.
    :ivar argument_names: the handler's arguments without the job.
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
    ) -> None:
        self.handler = handler
        self.name = name or handler.__name__
        if not _NAME.fullmatch(self.name):
            raise ValueError(
                f"the name of a task must be a lower-case letter and up to 62 of a-z, 0-9, _: not {self.name!r}"
            )
        self.is_volatile = is_volatile
        self.attempts = attempts
        self.backoff = backoff
        self.timeout_s = timeout_s
        self.concurrency = concurrency
        self.rate = rate
        self.schedule = schedule
        self.keep_result_s = keep_result_s
        self._arguments = _arguments_of(handler, self.name)
        self._decode = msgspec.json.Decoder(self._arguments).decode
        self.argument_names = self._arguments.__struct_fields__

    def call(self, job: Job, payload: bytes) -> Awaitable[Any]:
        """Call the handler with the arguments in a payload; the caller awaits the result.

        :param payload: a JSON object.
        :raises BadPayload: if its fields are not the handler's arguments.
        """
        arguments = self.decode(payload)
        return self.handler(job, *[getattr(arguments, name) for name in self.argument_names])

    def decode(self, payload: bytes) -> Any:
        """
        :raises BadPayload: if its fields are not the handler's arguments.
        """
        try:
            return self._decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BadPayload(f"the arguments do not fit {self.name}: {error}") from None

    def encode(self, arguments: dict[str, Any]) -> bytes:
        """Check the arguments and write them as a payload.

        :raises BadPayload: if they do not fit the handler, are too long, or cannot be JSON or stored in Postgres.
        """
        try:
            payload = msgspec.json.encode(arguments)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise BadPayload(f"the arguments must be JSON: {error}") from None
        if _NUL.search(payload):
            raise BadPayload("texts must not have NUL characters, which Postgres cannot store")
        if len(payload) > MAX_PAYLOAD_BYTES:
            raise BadPayload(
                f"the arguments must be at most {MAX_PAYLOAD_BYTES} bytes, not {len(payload)}: enqueue ids, not content"
            )
        self.decode(payload)
        return payload


def _arguments_of(handler: Handler, name: str) -> type[msgspec.Struct]:
    """A struct with a field for each argument of the handler after the first, which is the job."""
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
