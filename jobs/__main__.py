"""`python -m jobs`: run a worker."""

from __future__ import annotations

import sys

from jobs.worker import Worker
from store.config import Config
from store.process import run_process


async def _work(config: Config) -> None:
    await Worker(config).run()


def main() -> None:
    if len(sys.argv) != 1:
        sys.exit("usage: python -m jobs")
    run_process("worker", _work)


if __name__ == "__main__":
    main()
