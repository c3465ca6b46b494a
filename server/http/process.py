"""The process `web`: the HTTP interface on Hypercorn's Trio worker."""

from __future__ import annotations

from functools import partial
from typing import Final

import structlog
import trio

from runtime.config import Config
from runtime.health import Health
from runtime.open_files import room_for_connections
from runtime.operations import operate
from runtime.process import tell_ready
from runtime.signals import watch_signals
from runtime.web_origins import web_origins
from server.cluster.writer import Writer
from server.http.announcements import Announcements
from server.http.app import create_app
from server.http.external_issuer import external_issuer_of
from server.http.files.service import FILES_EACH, file_service
from server.http.hot_path import HotPath
from server.http.hypercorn_seam import serve_http
from server.http.large_bodies import LargeBodies
from server.http.offered import offered_by
from server.http.open_connections import MAX_CONNECTIONS, OpenConnections
from server.http.request_heads import refused_head
from server.http.routes import ROUTES
from server.http.samples import web_samples
from server.http.services import services_of
from server.http.web_client import web_client_of
from server.transport.addresses import proxies_of
from server.transport.listener import listen
from store.objects.url import keep_time, open_objects
from store.postgres.migrate import wait_migrated
from store.postgres.pool import Pool
from store.postgres.statement_watch import StatementWatch
from store.redis.client import Redis
from store.redis.eviction import check_keeps_all, wait_keeps_all
from store.replicas import Replicas

log = structlog.get_logger(__name__)

GRACE_S: Final = 12.0
"""The time for requests under way after SIGTERM; a query may take 10 s."""

POSTGRES_S: Final = 15.0
"""From SIGTERM until queries of Postgres are broken off, also those of shielded writes, which nothing else can end."""

SIGN_OFF_TIMEOUT_S: Final = 3.0
"""The time to send the nodes the last pushes."""


async def serve_web(config: Config) -> None:
    """Serve until SIGTERM or SIGINT, and then answer the requests under way."""
    pool = Pool(config.database_url, config.database_pool, slow_s=config.slow_query_s)
    redis = Redis(config.bus_url)
    writer = Writer(redis, pool)
    pool.name = f"alo-web-{writer.id.hex()}"
    replicas = Replicas(pool, config.replica_urls, slow_s=config.slow_query_s)
    structlog.contextvars.bind_contextvars(writer=writer.id.hex())
    proxies = proxies_of(config)
    terminated = trio.Event()
    external_issuer, issuer_keys = external_issuer_of(config)
    health = Health({"Postgres": lambda: pool.fetch("select 1"), "Redis": partial(check_keeps_all, redis)})
    sock = listen(config.host, config.web_port)
    async with (
        open_objects(config.object_store_url, config.public_files_url, config.files_url) as objects,
        trio.open_nursery() as services,
    ):
        await services.start(watch_signals, terminated, health, config.ready_grace_s)
        await services.start(redis.run)
        services.start_soon(wait_keeps_all, redis)
        services.start_soon(StatementWatch(pool).run)
        services.start_soon(writer.run)
        for each in (pool, *replicas.pools):
            services.start_soon(each.end_after, terminated, POSTGRES_S)
        shared = services_of(
            pool,
            redis,
            Announcements(pool, writer.broadcast),
            token_lifetime_s=config.token_lifetime_s,
            health=health,
            ops_token=config.ops_token,
            offered=offered_by(config),
            proxies=proxies,
            registration=config.registration_mode,
            external_issuer=external_issuer,
            starts_per_day=config.new_conversations_per_day,
            account_deletion_s=config.account_deletion_days * 86400,
            replicas=replicas,
            objects=objects,
            quotas=config.quotas,
            avatars=config.avatar_mode,
            cors_origins=web_origins(config.cors_origins),
            rate_limit_factor=config.rate_limit_factor,
            log_lines_per_s=config.log_lines_per_s,
            web_client=web_client_of(config),
        )
        room = room_for_connections() - config.database_pool
        files = file_service(shared, room // 2)
        most = min(MAX_CONNECTIONS, room - files.most * FILES_EACH if files else room)
        connections = OpenConnections(most, config.max_address_connections, proxies)
        start = partial(operate, id=writer.id.hex(), bus=redis)
        await services.start(start, config, "web", health, partial(web_samples, shared, connections))
        services.start_soon(shared.uses.run)
        services.start_soon(shared.request_log.run)
        services.start_soon(keep_time, objects)
        if issuer_keys is not None:
            services.start_soon(issuer_keys.run)
        log.info("listening", host=config.host, port=sock.getsockname()[1])
        services.start_soon(_tell_ready, config, health, pool, redis)
        refuse = partial(refused_head, services=shared)
        await serve_http(
            create_app(shared),
            HotPath(shared, ROUTES),
            refuse,
            sock,
            terminated,
            direct=[*([files] if files else []), LargeBodies(shared, ROUTES)],
            turns=shared.request_turns,
            connections=connections,
            is_stopping=lambda: health.is_stopping,
            proxies=proxies,
            grace_s=GRACE_S,
        )
        with trio.move_on_after(SIGN_OFF_TIMEOUT_S):
            await writer.sign_off()
            await shared.uses.wait_idle()
        services.cancel_scope.cancel()
    pool.close()
    replicas.close()
    log.info("stopped")


async def _tell_ready(config: Config, health: Health, pool: Pool, redis: Redis) -> None:
    """Log that the process is ready. It answers requests before that too, with `unavailable` while Postgres is away."""
    await wait_migrated(pool)
    await redis.wait_connected()
    health.started()
    tell_ready(config)
