"""What all tests share: real Postgres and Redis, started once by each process of pytest, on free ports, their data
in memory (`tests/memory.py`).

Each test that asks for `database_url` gets a database of its own, made from a migrated template, with the users that it
asks for by name; each that asks for `redis_url` finds Redis empty. Tests that break a service take `own_postgres`,
`own_redis` or `watched`.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from hashlib import sha256
from itertools import count
from pathlib import Path
from queue import Empty, Queue, SimpleQueue
from threading import Thread
from typing import Any

import psycopg
import pytest
import structlog
import trio

from client.http import Credentials
from embedded.postgres import NOT_DURABLE, PostgresServer
from embedded.redis import RedisServer
from embedded.services import RunningServices, services
from store.postgres.migrate import migrate
from store.postgres.pool import Pool
from tests.cddl import pycddl
from tests.faults import flush_redis
from tests.memory import in_memory
from tests.people import new_direct, new_user
from tests.planted import check_entry, planted_found
from tests.process_template import forked_processes
from tests.processes import START_TIMEOUT_S
from tests.redis_topologies import TOPOLOGY, redis_servers
from tests.sentinel import Watched, watched_redis

ROOT = Path(__file__).parents[1]
TEMPLATE = "alo_template"
_numbers = count(1)


@pytest.fixture(scope="session")
def shared_services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServices]:
    # By default autovacuum visits a database within a minute: plans would depend on how long their test takes.
    settings = {"autovacuum_naptime": "1d"}
    with (
        in_memory(tmp_path_factory.mktemp("services")) as folder,
        services(folder, durable=False, settings=settings) as running,
    ):
        yield running


@pytest.fixture(scope="session")
def postgres_with_template(shared_services: RunningServices) -> PostgresServer:
    postgres = shared_services.postgres
    make_template(postgres)
    return postgres


def make_template(postgres: PostgresServer) -> None:
    """A migrated database to copy from, instead of migrating one for each test."""
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f"create database {TEMPLATE}")
    trio.run(migrate, database_of(postgres, TEMPLATE))


def database_of(postgres: PostgresServer, name: str) -> str:
    return f"{postgres.url.rpartition('/')[0]}/{name}"


class Supply:
    """Databases made ahead by a thread, on the core that the tests leave free: each takes 0.15 s."""

    def __init__(self, postgres: PostgresServer) -> None:
        self._postgres = postgres
        self._ready: Queue[str | Exception] = Queue(maxsize=3)
        self._used: SimpleQueue[str] = SimpleQueue()
        self._is_stopping = False
        self._thread = Thread(target=self._make, name="databases", daemon=True)
        self._thread.start()

    def take(self) -> str:
        made = self._ready.get(timeout=START_TIMEOUT_S)
        if isinstance(made, Exception):
            raise made
        return made

    def give_back(self, name: str) -> None:
        """Drop the database, and end connections that it still has."""
        self._used.put(name)

    def stop(self) -> None:
        self._is_stopping = True
        while self._thread.is_alive():
            with suppress(Empty):
                self._ready.get(timeout=0.05)

    def _make(self) -> None:
        try:
            with psycopg.connect(self._postgres.url, autocommit=True) as connection:
                while not self._is_stopping:
                    while not self._used.empty():
                        connection.execute(f"drop database {self._used.get()} with (force)")
                    name = f"test_{next(_numbers)}"
                    # By copying files: the default, to write all of it to the log as well, takes more time.
                    connection.execute(f"create database {name} template {TEMPLATE} strategy file_copy")
                    self._ready.put(name)
        except Exception as error:
            self._ready.put(error)


@pytest.fixture(scope="session")
def databases(postgres_with_template: PostgresServer) -> Iterator[Supply]:
    supply = Supply(postgres_with_template)
    yield supply
    supply.stop()


@pytest.fixture
def database_url(postgres_with_template: PostgresServer, databases: Supply) -> Iterator[str]:
    name = databases.take()
    yield database_of(postgres_with_template, name)
    databases.give_back(name)


@pytest.fixture
def pool(database_url: str) -> Iterator[Pool]:
    """Connections to the test's database, for the test itself."""
    with closing(Pool(database_url, 4)) as pool:
        yield pool


@pytest.fixture
async def alice(pool: Pool) -> Credentials:
    return await new_user(pool, "alice")


@pytest.fixture
async def bob(pool: Pool) -> Credentials:
    return await new_user(pool, "bob")


@pytest.fixture
async def carol(pool: Pool) -> Credentials:
    return await new_user(pool, "carol")


@pytest.fixture
def people(alice: Credentials, bob: Credentials, carol: Credentials) -> list[Credentials]:
    return [alice, bob, carol]


@pytest.fixture
async def direct(pool: Pool, alice: Credentials, bob: Credentials) -> bytes:
    """The direct conversation of alice and bob, who are contacts."""
    return await new_direct(pool, alice, bob)


@pytest.fixture(scope="session")
def shared_redis(shared_services: RunningServices, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of the Redis that most tests use; REDIS_TOPOLOGY chooses what it is."""
    if TOPOLOGY == "one":
        yield shared_services.redis.url
        return
    with in_memory(tmp_path_factory.mktemp("redis")) as folder, redis_servers(TOPOLOGY, folder) as servers:
        yield servers.url


@pytest.fixture
def redis_url(shared_redis: str) -> str:
    flush_redis(shared_redis)
    return shared_redis


@pytest.fixture(scope="session")
def migrated_data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The data of a migrated Postgres that has stopped, to copy from: to make them takes seconds. All copies have one
    system identifier: tests about that make their own clusters."""
    with in_memory(tmp_path_factory.mktemp("migrated")) as folder:
        postgres = PostgresServer(folder / "postgres", settings=NOT_DURABLE)
        postgres.start()
        try:
            trio.run(migrate, postgres.url)
        finally:
            postgres.stop()
        yield postgres.data


@contextmanager
def migrated_postgres(data: Path, folder: Path, settings: Mapping[str, str]) -> Iterator[PostgresServer]:
    """A Postgres of the test's own; its database is `postgres`. It blocks: a fixture enters it.

    :param data: `migrated_data`.
    """
    postgres = PostgresServer(folder, settings=settings)
    shutil.copytree(data, postgres.data)
    postgres.start()
    try:
        yield postgres
    finally:
        postgres.stop()


@pytest.fixture
def own_postgres(tmp_path: Path, migrated_data: Path) -> Iterator[PostgresServer]:
    """A migrated Postgres that the test may kill; its database is `postgres`."""
    with in_memory(tmp_path) as folder, migrated_postgres(migrated_data, folder / "postgres", NOT_DURABLE) as postgres:
        yield postgres


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that the test may kill, stop or flush."""
    redis = RedisServer(tmp_path / "redis", durable=False)
    redis.start()
    try:
        yield redis
    finally:
        redis.stop()


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    """A Redis with a replica and a sentinel, for the test alone."""
    with watched_redis(tmp_path / "redis") as watched:
        yield watched


@pytest.fixture(scope="session", autouse=True)
def _forked_processes() -> Iterator[None]:
    """Processes of the product start from a template that has imported it (`tests/process_template.py`)."""
    with forked_processes():
        yield


@pytest.fixture(autouse=True)
def _quiet_logs() -> Iterator[None]:
    """Logs of in-process parts are kept for tests that ask, and not printed. A test fails if a secret was logged."""
    with structlog.testing.capture_logs() as lines:
        yield
    for line in lines:
        check_entry(line)
    assert planted_found() == [], "a log has a secret"


@pytest.fixture
def log_output(_quiet_logs: None) -> list[dict[str, Any]]:
    """The log so far; it grows while the test runs."""
    captured: list[dict[str, Any]] = structlog.get_config()["processors"][0].entries
    return captured


SLOW = ("tests/checker/", "tests/system/")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mix the files, where several processes of pytest share them.

    Each begins with a share of the list. In the order of the folders, all of them would wait at one time (tests of
    several processes mostly wait) and compute at another. Those tests lie in the first part of each share, so that no
    process begins one when the others have ended.
    """
    if hasattr(config, "workerinput"):
        shares = config.workerinput["workercount"]
        places = {item.path: _place(item.path, shares) for item in items}
        items.sort(key=lambda item: places[item.path])


def _place(path: Path, shares: int) -> float:
    name = path.relative_to(ROOT).as_posix()
    share, within = divmod(int.from_bytes(sha256(name.encode()).digest()[:4]) / (1 << 32) * shares, 1)
    return share + within * (0.7 if name.startswith(SLOW) else 1)


collect_ignore = [] if pycddl else ["protocol/test_cddl.py"]


def pytest_report_header() -> str:
    """Whether frames are checked against the grammar here."""
    return f"grammar: frames are {'' if pycddl else 'NOT '}checked against protocol/alo.cddl (pycddl)"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what some tests have found out, of whichever process of pytest ran them: the counts of the checker
    (`tests/checker/`), and the times of incidents (`tests/ops/test_incidents.py`)."""
    reports = [each for some in terminalreporter.stats.values() for each in some if isinstance(each, pytest.TestReport)]
    for name, text in (each for report in reports if report.when == "call" for each in report.user_properties):
        if name in ("checker", "incidents"):
            terminalreporter.write_line(f"{name}: {text}")
