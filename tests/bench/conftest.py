"""Our server as the benchmarks start it, on the services of the tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.databases import Shared
from bench.ours import Ours
from embedded.services import RunningServices


class Gateway(Ours):
    """Without the web process and the worker: no test here asks for them, and to start them takes seconds."""

    @contextmanager
    def companions(self, http_port: int) -> Iterator[dict[str, list[int]]]:
        yield {}


@pytest.fixture
def ours(shared_services: RunningServices, redis_url: str, tmp_path: Path) -> Iterator[Ours]:
    """Its database is made by `prepare`, and dropped when the test has ended."""
    postgres, redis = shared_services.postgres, shared_services.redis
    server = Gateway(Shared(postgres.url, postgres.pid, postgres.log, redis_url, redis.pid), tmp_path)
    yield server
    server.shared.drop_database(server.database)
