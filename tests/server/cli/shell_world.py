"""Commands of operators: typed into a shell, where each is a process of its own, or run in this process."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from runtime.commands import CommandError
from runtime.config import Config
from server.cli.parser import parser
from server.cli.services import Ask, CommandAnswer, OperatorServices
from store.postgres.pool import Pool
from store.redis.client import Redis
from tests.planted import check_log
from tests.store.store_world import running

ROOT = Path(__file__).parents[3]
COMMAND_S = 30.0


class Typed:
    """A command that has ended.

    :ivar out, err: its output, as text.
    """

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status = status
        self.out = out
        self.err = err

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of a command that prints one table."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def sections(self) -> dict[str, list[dict[str, Any]]]:
        """The rows of a command that prints several tables, by title."""
        found: dict[str, list[dict[str, Any]]] = json.loads(self.out)
        return found

    def fields(self, section: str) -> dict[str, Any]:
        """The one row of a section."""
        [row] = self.sections[section]
        return row


class Shell:
    """An operator's shell.

    :ivar environment: of the commands; a test may change it.
    :ivar patience_s: the time for a command; a test may change it.
    """

    def __init__(self, **environment: str) -> None:
        self.environment = environment
        self.patience_s = COMMAND_S

    async def types(self, *command: str) -> Typed:
        """Run `python -m server ops COMMAND`, whatever its status."""
        full = [sys.executable, "-m", "server", "ops", *command]
        inherited = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPYCACHEPREFIX") if name in os.environ}
        with trio.fail_after(self.patience_s):
            ended = await trio.run_process(
                full,
                cwd=ROOT,
                env={**inherited, **self.environment},
                capture_stdout=True,
                capture_stderr=True,
                check=False,
            )
        typed = Typed(ended.returncode, ended.stdout.decode(), ended.stderr.decode())
        check_log(typed.err)
        assert "Traceback" not in typed.err, typed.err
        return typed

    async def asks(self, *command: str) -> Typed:
        """Run a command with `--json` that succeeds."""
        typed = await self.types(*command, "--json")
        assert typed.status == 0, typed.err or typed.out
        return typed

    async def is_told_why_not(self, *command: str) -> str:
        """Run a command that cannot be done; return its sentence."""
        typed = await self.types(*command)
        assert (typed.status, typed.out) == (1, ""), typed.out
        return typed.err.strip()


class OperatorDesk:
    """Commands that run in this process, on the services of the test: as a shell, without the second that each process
    takes to start.

    :ivar config: of the commands; a test may replace it.
    """

    def __init__(self, pool: Pool, redis: Redis, config: Config) -> None:
        self.pool = pool
        self.redis = redis
        self.config = config

    async def types(self, *command: str) -> CommandAnswer:
        options = parser().parse_args(command)
        ask: Ask = options.ask
        return await ask(OperatorServices(self.config, self.pool, self.redis), options)

    async def rows(self, *command: str) -> list[dict[str, Any]]:
        """The rows of a command that prints one table."""
        shown = (await self.types(*command)).shown
        assert isinstance(shown, list)
        return shown

    async def sections(self, *command: str) -> dict[str, list[dict[str, Any]]]:
        """The rows of a command that prints several tables, by title."""
        shown = (await self.types(*command)).shown
        assert isinstance(shown, dict)
        json.dumps(shown)
        return shown

    async def is_told_why_not(self, *command: str) -> str:
        with pytest.raises(CommandError) as told:
            await self.types(*command)
        return str(told.value)


def fields_of(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The fields of a section that shows one thing."""
    return {row["field"]: row["value"] for row in rows}


@asynccontextmanager
async def open_desk(pool: Pool, redis_url: str, **settings: Any) -> AsyncGenerator[OperatorDesk, None]:
    """
    :param settings: of the configuration.
    """
    async with running(redis_url) as redis:
        yield OperatorDesk(pool, redis, Config(database_url=pool.url, redis_url=redis_url, **settings))
