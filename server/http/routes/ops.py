"""Figures by day, figures of now, and what an operator does about them. The application has these routes only if
OPS_TOKEN is set."""

from __future__ import annotations

import time
from typing import Final

from server.http.answers.figures import DaysAnswer, day_body
from server.http.answers.live import DeadJobAnswer, LiveAnswer, TaskAnswer
from server.http.live_figures import LiveFigures
from server.http.problem_codes import ProblemCode
from server.http.problems import Problem
from server.http.queries import MAX_SEQ, DaysQuery, InvalidQuery
from server.http.routing import NO_CONTENT, NOTHING, Answer, Request, Routes
from server.http.sources import operator_source
from store import analytics, jobs, security_events
from store.redis.directory import live_nodes
from store.redis.figures import look
from store.redis.questions import ask_to_drain

MAX_DAYS: Final = 366
"""The most in one answer, which then has some 100 KB of JSON."""

MAX_DEAD_JOBS: Final = 20
"""Those that an operator looks at; `python -m jobs dead` lists more."""

MAX_REASON_CHARACTERS: Final = 200

routes = Routes()


@routes.operator_read("GET /v1/ops/analytics", query=DaysQuery, answer=DaysAnswer)
async def get_analytics(request: Request[DaysQuery]) -> Answer:
    """Get figures by day."""
    first, last = request.query.from_, request.query.until
    if not 0 <= (last - first).days < MAX_DAYS:
        raise InvalidQuery(f"until must be the day from or one of the {MAX_DAYS - 1} days after it")
    days = await analytics.days(request.services.pool, first, last)
    return Answer(DaysAnswer([day_body(each) for each in days]))


@routes.operator_read("GET /v1/ops/live", answer=LiveAnswer)
async def get_live(request: Request[None]) -> Answer:
    """Get the figures of now, of all processes together.

    The processes share figures while operators ask, so the first answer lacks those of most processes; rates come 2 s
    after the figures.
    """
    pool, redis = request.services.pool, request.services.redis
    found, leased = LiveFigures(await look(redis)), await live_nodes(redis)
    tasks, dead = await jobs.task_statuses(pool), await jobs.dead_jobs(pool, limit=MAX_DEAD_JOBS)
    return Answer(
        LiveAnswer(
            at=time.time_ns() // 1000,
            connections=found.gauge("alo_connections"),
            users=found.gauge("alo_users"),
            sends_per_s=found.rate("alo_sends_total stored"),
            requests_per_s=found.requests_per_s(),
            times=found.times(),
            caches=found.caches(),
            tasks=[_task(each) for each in sorted(tasks, key=lambda each: each.task)],
            dead_jobs=[_dead_job(each) for each in dead],
            nodes=found.nodes(leased),
            statements=found.statements(),
            processes=found.processes(),
        )
    )


@routes.operator_write("POST /v1/ops/jobs/<int:job>/replay", announces=NOTHING)
async def replay_job(request: Request[None], job: int) -> Answer:
    """Have a dead job run again, as a new job."""
    pool = request.services.pool
    if job > MAX_SEQ or not await jobs.replay(pool, job=job, limit=1):
        raise Problem(ProblemCode.NOT_FOUND, "there is no such dead job: it was replayed or discarded, or never died")
    await security_events.note(pool, "job_replayed", None, operator_source(request), {"job": str(job)})
    return NO_CONTENT


@routes.operator_write("POST /v1/ops/nodes/<node>/drain", announces=NOTHING, problems=[ProblemCode.NOT_FOUND])
async def drain_node(request: Request[None], node: str) -> Answer:
    """Have a node stop, as SIGTERM does: its clients move to other nodes, and its process ends.

    The answer does not wait for that.
    """
    pool, redis = request.services.pool, request.services.redis
    found = next((each for each in await live_nodes(redis) if each.hex() == node), None)
    if found is None:
        raise Problem(ProblemCode.NOT_FOUND, "there is no such node, or its lease has ended")
    await security_events.note(pool, "node_drained", None, operator_source(request), {"node": node})
    if not await ask_to_drain(redis, found):
        raise Problem(ProblemCode.NOT_FOUND, "the stream of the node is gone; send its process SIGTERM instead")
    return NO_CONTENT


def _task(each: jobs.TaskStatus) -> TaskAnswer:
    return TaskAnswer(each.task, each.waiting, each.delayed, each.running, each.dead, each.oldest_s, each.is_paused)


def _dead_job(each: jobs.DeadJob) -> DeadJobAnswer:
    reason = each.reason[:MAX_REASON_CHARACTERS]
    return DeadJobAnswer(each.id, each.task, each.attempts, each.died_ms * 1000, reason)
