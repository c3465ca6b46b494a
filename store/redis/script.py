"""Lua scripts in Redis, called by their digest."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib import resources
from typing import Any

from store.redis.client import Redis, RedisError
from store.redis.servers import Argument


class Script:
    """One script, in its own file.

    :param package: the package that holds the file, such as "jobs.engine.lua".
    :param name: of the file, without its extension.
    """

    def __init__(self, package: str, name: str) -> None:
        self._text = resources.files(package).joinpath(f"{name}.lua").read_text()
        # Redis names scripts by this digest; it protects nothing.
        self._digest = hashlib.sha1(self._text.encode()).hexdigest()  # noqa: S324

    async def run(self, redis: Redis, keys: Sequence[Argument], arguments: Sequence[Argument]) -> Any:
        """
        :raises Unavailable: if Redis cannot be reached; the script may have run.
        :raises RedisError: if it refuses.
        """
        try:
            return await redis.call("EVALSHA", self._digest, len(keys), *keys, *arguments)
        except RedisError as error:
            if error.code != "NOSCRIPT":
                raise
        return await redis.call("EVAL", self._text, len(keys), *keys, *arguments)
