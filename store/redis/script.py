"""Lua scripts in Redis, called by their digest. All keys of a call are on one bus."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib import resources
from typing import Any, NamedTuple

from store.redis.client import Redis, RedisError
from store.redis.servers import Argument, Command


class ScriptCall(NamedTuple):
    """A call of a script, among several.

    :ivar bus: of its keys.
    """

    bus: int
    keys: Sequence[Argument]
    arguments: Sequence[Argument]


class Script:
    """One script, in its own file.

    :param package: the package that holds the file, such as "jobs.engine.lua".
    :param name: of the file, without its extension.
    """

    def __init__(self, package: str, name: str) -> None:
        self._text = resources.files(package).joinpath(f"{name}.lua").read_text()
        # Redis names scripts by this digest; it protects nothing.
        self._digest = hashlib.sha1(self._text.encode()).hexdigest()  # noqa: S324

    async def run(self, redis: Redis, keys: Sequence[Argument], arguments: Sequence[Argument], *, bus: int = 0) -> Any:
        """
        :raises Unavailable: if Redis cannot be reached; the script may have run.
        :raises RedisError: if it refuses.
        """
        call = ScriptCall(bus, keys, arguments)
        try:
            return await redis.call(*self._by_digest(call), bus=bus)
        except RedisError as error:
            if error.code != "NOSCRIPT":
                raise
        return await redis.call(*self._by_text(call), bus=bus)

    async def run_each(self, redis: Redis, calls: Sequence[ScriptCall]) -> list[Any]:
        """Run several calls, on any buses; returns their replies, as `Redis.spread`.

        :raises Unavailable: as `Redis.spread`.
        """
        replies = await redis.spread([(each.bus, self._by_digest(each)) for each in calls])
        unknown = [
            place for place, reply in enumerate(replies) if isinstance(reply, RedisError) and reply.code == "NOSCRIPT"
        ]
        if unknown:
            again = await redis.spread([(calls[place].bus, self._by_text(calls[place])) for place in unknown])
            for place, reply in zip(unknown, again, strict=True):
                replies[place] = reply
        return replies

    def _by_digest(self, call: ScriptCall) -> Command:
        return ("EVALSHA", self._digest, len(call.keys), *call.keys, *call.arguments)

    def _by_text(self, call: ScriptCall) -> Command:
        return ("EVAL", self._text, len(call.keys), *call.keys, *call.arguments)
