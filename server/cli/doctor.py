"""`ops doctor`: whether everything is as the processes need it, and what to do where it is not. Nothing is changed."""

from __future__ import annotations

import argparse
import os
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final

import trio

from runtime.config import Config
from server.cli.checks.configuration import check_configuration
from server.cli.checks.database import check_database
from server.cli.checks.finding import Finding, Level, error
from server.cli.checks.machine import check_database_disk, check_objects, check_open_files
from server.cli.checks.outside import check_outside
from server.cli.checks.processes import check_processes
from server.cli.checks.redis_servers import check_redis
from server.cli.checks.replicas import check_replicas
from server.cli.checks.waits import check_waits
from server.cli.services import CommandAnswer, OperatorServices
from store import database_checks
from store.errors import StoreError
from store.postgres.pool import Pool
from store.redis.checks import describe, misplaced
from store.redis.client import Redis

PATIENCE_S: Final = 5.0
"""For a connection to Redis."""


async def run_checks(services: OperatorServices, options: argparse.Namespace) -> CommandAnswer:
    """A row for each finding; the exit status is that of the worst: 0 ok, 1 warning, 2 error."""
    findings = [each async for each in _findings(services)]
    worst = max((each.level for each in findings), default=Level.OK)
    rows = [
        {"level": each.level.name.lower(), "check": each.check, "found": each.found, "advice": each.advice}
        for each in sorted(findings, key=lambda each: -each.level)
    ]
    return CommandAnswer(rows, int(worst))


async def _findings(services: OperatorServices) -> AsyncIterator[Finding]:
    for finding in check_configuration(services.config, os.environ):
        yield finding
    async for finding in _of_postgres(services.pool):
        yield finding
    async for finding in check_replicas(services.pool, services.config.replica_urls):
        yield finding
    async for finding in _of_redis(services.config):
        yield finding
    async for finding in check_objects(services.config):
        yield finding
    async for finding in check_processes(services.config):
        yield finding
    async for finding in check_outside(services.config):
        yield finding
    for finding in check_open_files():
        yield finding


async def _of_postgres(pool: Pool) -> AsyncIterator[Finding]:
    try:
        async for finding in check_database(pool):
            yield finding
        async for finding in check_waits(pool):
            yield finding
        yield check_database_disk((await database_checks.server(pool)).data_directory)
    except StoreError as fault:
        yield error("Postgres", str(fault), "start Postgres, or correct DATABASE_URL: without it nothing works")


async def _of_redis(config: Config) -> AsyncIterator[Finding]:
    names = {config.bus_url: "REDIS_BUS_URL", config.jobs_url: "REDIS_JOBS_URL", config.redis_url: "REDIS_URL"}
    for url in dict.fromkeys((config.bus_url, config.jobs_url)):
        redis, name = Redis(url), names[url]
        async with trio.open_nursery() as nursery:
            await nursery.start(redis.run)
            with trio.move_on_after(PATIENCE_S):
                await redis.wait_connected()
            findings = [each async for each in _of_servers(redis, name)]
            nursery.cancel_scope.cancel()
        for finding in findings:
            yield finding


async def _of_servers(redis: Redis, name: str) -> AsyncIterator[Finding]:
    try:
        servers = await describe(redis)
    except StoreError as fault:
        servers = {redis.where: fault}
    for where, state in servers.items():
        title = name if len(servers) == 1 else f"{name} ({where})"
        if isinstance(state, StoreError):
            advice = f"start Redis, or correct {name}: without it messages are refused and jobs wait"
            yield error(title, str(state), advice)
            continue
        for finding in check_redis(title, state, is_cluster_named=redis.is_cluster):
            yield finding
    with suppress(StoreError):
        if others := await misplaced(redis):
            advice = f"give all processes the same URLs in {name}, in the same order, and start them again together"
            yield error(f"{name}: order", f"{', '.join(others)}: nodes are where other URLs put them", advice)
