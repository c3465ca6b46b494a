import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

from embedded.postgres import PostgresServer
from embedded.process import LINUX, running_in
from embedded.redis import RedisServer
from tests.waiting import PATIENCE_S, wait_until_blocking

ROOT = Path(__file__).parents[2]

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
needs_linux = pytest.mark.skipif(not LINUX, reason="only Linux tells a process of its parent's death")


def sql(postgres: PostgresServer, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def command(service: RedisServer, *words: str, timeout_s: float = 5.0) -> Any:
    with redis.Redis.from_url(service.url, socket_timeout=timeout_s, retry=None) as connection:
        return connection.execute_command(*words)


def is_alive(pid: int) -> bool:
    """Whether the process runs. A zombie, which ended and was not waited for, does not."""
    if not LINUX:
        return subprocess.run(["ps", "-p", str(pid)], stdout=subprocess.DEVNULL).returncode == 0
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def wait_ended(pids: Iterable[int]) -> None:
    """Wait until these processes have ended: a process closes its output, and is reported as stopped, just before."""
    wait_until_blocking(lambda: not any(map(is_alive, pids)), "all processes have ended", timeout_s=PATIENCE_S)


def nothing_runs_in(data: Path) -> bool:
    return not any(running_in(data, program, None) for program in ("postgres", "redis-server"))


def python(code: str, *arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    """Run the code in an interpreter of its own that finds the package."""
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, **options
    )
