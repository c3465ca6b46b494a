"""`python -m jobs`: run a worker."""

from __future__ import annotations

import sys

import trio

from jobs.worker import Worker
from store.config import Config, ConfigError
from store.log import configure_logging


async def _work(config: Config) -> None:
    await Worker(config).run()


def main() -> None:
    if len(sys.argv) != 1:
        sys.exit("usage: python -m jobs")
    try:
        config = Config.from_environment()
    except ConfigError as error:
        sys.exit(str(error))
    configure_logging("worker", config.log_level)
    trio.run(_work, config)


if __name__ == "__main__":
    main()
