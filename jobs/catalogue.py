"""All tasks there are, each with how its jobs are to be run: the one place where tasks get what they need."""

from __future__ import annotations

from typing import Final

import httpx

from jobs.forget import Forgetting
from jobs.notifier import Webhook
from jobs.offline_notice import OfflineNotices
from jobs.task import Backoff, Every, Task
from store.config import Config
from store.pool import Pool

NOTICE_ATTEMPTS: Final = 12
NOTICE_BACKOFF: Final = Backoff(1, 600)
"""About an hour of attempts in all; then an operator has to look."""


def tasks_of(config: Config, pool: Pool, client: httpx.AsyncClient) -> dict[str, Task]:
    """By name. Nothing is asked of anybody yet."""
    notices = OfflineNotices(pool, Webhook(client, config.offline_notice_url))
    forgetting = Forgetting(pool)
    tasks = [
        Task(notices.offline_notice, attempts=NOTICE_ATTEMPTS, backoff=NOTICE_BACKOFF, timeout_s=30),
        Task(forgetting.forget, attempts=1, timeout_s=300, concurrency=1, schedule=Every(60)),
    ]
    return {task.name: task for task in tasks}
