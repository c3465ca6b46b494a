"""Answers the questions of operators to this node (`python -m server ops node`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

import structlog
import trio

from store.errors import Unavailable
from store.redis.client import Redis, RedisError
from store.redis.entries import NodeQuestion
from store.redis.questions import NodeState, answer_question

log = structlog.get_logger(__name__)

MAX_WAITING: Final = 16
"""Questions that wait for an answer; more are dropped, and their commands say that the node did not answer."""

Describe: TypeAlias = Callable[[list[bytes]], NodeState]
"""The state of this node, with the connections of these users. Synchronous."""


class Questions:
    """The questions to this node. Run `run` in a nursery.

    :ivar describe: set by the gateway; None: this process answers no questions.
    """

    def __init__(self, redis: Redis) -> None:
        self.describe: Describe | None = None
        self._redis = redis
        self._asked, self._waiting = trio.open_memory_channel[NodeQuestion](MAX_WAITING)

    def ask_nowait(self, question: NodeQuestion) -> None:
        """Answer this soon. Atomic (no checkpoint)."""
        try:
            self._asked.send_nowait(question)
        except trio.WouldBlock:
            log.warning("question_dropped", waiting=MAX_WAITING)

    async def run(self) -> None:
        """Until cancelled."""
        async for question in self._waiting:
            if self.describe is None:
                continue
            try:
                await answer_question(self._redis, question.id, self.describe(question.users))
            except (Unavailable, RedisError) as error:
                log.warning("question_not_answered", error=str(error))
