"""`python -m store migrate`: the process `release`, to be run before the others of a new version are started."""

from __future__ import annotations

import sys

import structlog

from store.config import Config
from store.migrate import migrate
from store.pool import Pool
from store.process import run_process


async def _release(config: Config) -> None:
    pool = Pool(config.database_url, 1)
    await pool.wait_ready()
    pool.close()
    applied = await migrate(config.database_url)
    structlog.get_logger(__name__).info("release_done", applied=applied)


def main() -> None:
    if sys.argv[1:] != ["migrate"]:
        sys.exit("usage: python -m store migrate")
    run_process("release", _release)


if __name__ == "__main__":
    main()
