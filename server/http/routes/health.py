"""Routes: whether the process runs and is ready."""

from __future__ import annotations

from quart.typing import ResponseReturnValue
from quart_trio import QuartTrio

from server.http.frame import (
    answer,
)
from store.postgres.pool import Pool
from store.redis.client import Redis


def add_health(app: QuartTrio, pool: Pool, redis: Redis) -> None:
    @app.get("/healthz")
    async def healthz() -> ResponseReturnValue:
        return answer({"status": "ok"})

    @app.get("/readyz")
    async def readyz() -> ResponseReturnValue:
        await pool.fetch("select 1")
        await redis.call("PING")
        return answer({"status": "ok"})
