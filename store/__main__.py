"""`python -m store migrate`: the process `release`, to be run before the others of a new version are started."""

from __future__ import annotations

import sys

import structlog
import trio

from store.config import Config, ConfigError
from store.log import configure_logging
from store.migrate import migrate
from store.pool import Pool


async def _release(config: Config) -> None:
    pool = Pool(config.database_url, 1)
    await pool.wait_ready()
    pool.close()
    applied = await migrate(config.database_url)
    structlog.get_logger(__name__).info("release_done", applied=applied)


def main() -> None:
    if sys.argv[1:] != ["migrate"]:
        sys.exit("usage: python -m store migrate")
    try:
        config = Config.from_environment()
    except ConfigError as error:
        sys.exit(str(error))
    configure_logging("release", config.log_level)
    trio.run(_release, config)


if __name__ == "__main__":
    main()
