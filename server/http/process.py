"""The process `web`: the HTTP interface on Hypercorn's Trio worker."""

from __future__ import annotations

from typing import Final

import structlog
import trio
from hypercorn.config import Config as HypercornConfig
from hypercorn.config import Sockets
from hypercorn.trio.run import worker_serve
from hypercorn.utils import wrap_app

from runtime.config import Config
from runtime.process import tell_ready
from runtime.signals import watch_signals
from server.cluster.writer import Writer
from server.http.announcements import Announcements
from server.http.app import create_app
from server.http.offered import offered_by
from server.transport.listener import listen
from store.postgres.migrate import wait_migrated
from store.postgres.pool import Pool
from store.redis.client import Redis

log = structlog.get_logger(__name__)

GRACE_S: Final = 12.0
"""The time for requests under way after SIGTERM; a query may take 10 s."""

POSTGRES_S: Final = 15.0
"""From SIGTERM until queries of Postgres are broken off, also those of shielded writes, which nothing else can end."""

SIGN_OFF_TIMEOUT_S: Final = 3.0
"""The time to send the nodes the last pushes."""


async def serve_web(config: Config) -> None:
    """Serve until SIGTERM or SIGINT, and then answer the requests under way."""
    pool = Pool(config.database_url, config.database_pool)
    redis = Redis(config.bus_url)
    writer = Writer(redis, pool)
    terminated = trio.Event()
    sock = listen(config.host, config.port)
    async with trio.open_nursery() as services:
        await services.start(watch_signals, terminated)
        await services.start(redis.run)
        services.start_soon(writer.run)
        services.start_soon(pool.end_after, terminated, POSTGRES_S)
        hypercorn = HypercornConfig()
        hypercorn.graceful_timeout = GRACE_S
        hypercorn.accesslog = hypercorn.errorlog = None
        offered = offered_by(config)
        announcements = Announcements(pool, writer.broadcast)
        quart = create_app(
            pool,
            redis,
            announcements,
            token_lifetime_s=config.token_lifetime_s,
            offered=offered,
            ops_token=config.ops_token,
            starts_per_day=config.new_conversations_per_day,
        )
        app = wrap_app(quart, hypercorn.wsgi_max_body_size, "asgi")
        log.info("listening", host=config.host, port=sock.getsockname()[1])
        services.start_soon(_tell_ready, config, pool, redis)
        await worker_serve(app, hypercorn, sockets=Sockets([], [sock], []), shutdown_trigger=terminated.wait)
        with trio.move_on_after(SIGN_OFF_TIMEOUT_S):
            await writer.sign_off()
        services.cancel_scope.cancel()
    pool.close()
    log.info("stopped")


async def _tell_ready(config: Config, pool: Pool, redis: Redis) -> None:
    """Log that the process is ready. It answers requests before that too, with `unavailable` while Postgres is away."""
    await wait_migrated(pool)
    await redis.wait_connected()
    tell_ready(config)
