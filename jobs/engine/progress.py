"""Progress and results of jobs: one hash in Redis for each job that reported progress or returned a result."""

from __future__ import annotations

from typing import Any, Final

from store.redis.client import Redis

KEPT_S: Final = 3600
"""How long progress reports are kept."""


async def report(redis: Redis, job: str, progress: str) -> None:
    """Keep a progress report in the place of the previous one."""
    name = progress_of(job)
    await redis.pipeline([("HSET", name, "progress", progress.encode(errors="replace")), ("EXPIRE", name, KEPT_S)])


def result_commands(
    job: str, outcome: str, attempt: int, result: bytes, *, kept_s: float
) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Commands that keep the result of a job.

    :param outcome: "done", "failed" or "cancelled".
    :param result: JSON.
    """
    name = progress_of(job)
    keep = ("HSET", name, "outcome", outcome, "attempt", attempt, "result", result)
    return keep, ("PEXPIRE", name, round(kept_s * 1000))


async def fields_of(redis: Redis, job: str) -> dict[str, str]:
    """The fields `progress`, `outcome`, `attempt` and `result` that are still kept."""
    fields = await redis.call("HGETALL", progress_of(job))
    return {name.decode(): value.decode() for name, value in zip(fields[::2], fields[1::2], strict=True)}


def progress_of(job: str) -> str:
    """The name of a job's hash."""
    return f"alo:{{jobs}}:progress:{job}"
