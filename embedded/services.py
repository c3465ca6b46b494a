"""Both services while a block runs, for tests, the demo and benchmarks."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from embedded.postgres import NOT_DURABLE, PostgresServer
from embedded.redis import RedisServer


@dataclass(frozen=True)
class RunningServices:
    """Handles of the running services."""

    postgres: PostgresServer
    redis: RedisServer


@contextmanager
def services(
    folder: Path, *, durable: bool, settings: Mapping[str, str] | None = None, has_password: bool = False
) -> Iterator[RunningServices]:
    """Postgres and Redis on free ports, with their data below `folder`; both stop at the end of the block.

    Without `durable`, Postgres does not wait for the disk, and Redis keeps nothing. `settings` are further settings of
    Postgres. Without `has_password` any user of this machine may use both. Raises EmbeddedError if either does not
    start. It blocks: under Trio, enter it in a fixture or a thread.
    """
    all_settings = {**({} if durable else NOT_DURABLE), **(settings or {})}
    postgres = PostgresServer(folder / "postgres", settings=all_settings, has_password=has_password)
    redis = RedisServer(folder / "redis", durable=durable, has_password=has_password)
    with ExitStack() as running:
        for service in (postgres, redis):
            service.start()
            running.callback(service.stop)
        yield RunningServices(postgres, redis)
