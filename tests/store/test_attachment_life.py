"""The life of attachments beside a model: uploads, messages that take and lose them, avatars, users who come and go,
and the clean-up, in any order, while processes die and services fail between any two calls."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import httpx
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings

from jobs.tasks import batches
from protocol import limits
from store.objects import folder_multiparts
from store.objects.direct import FileStore, PresignedRequest
from store.objects.folder import Folder
from store.objects.quotas import Quotas
from store.objects.url import open_objects
from store.participants import remove
from store.postgres.pool import Pool
from tests.memory import in_memory
from tests.people import new_group, new_user
from tests.s3_server import s3_server
from tests.store.attachment_world import Put, put_into
from tests.store.life_steps import AttachmentLives, LifeStep, steps
from tests.store.life_world import USERS, LifeWorld
from tests.waiting import DEADLINE_S

EXAMPLES: Final = 12 + int(os.environ.get("EXAMPLES", "0")) // 10

SMALL_PART_BYTES: Final = 64
"""Of a folder in this test. S3 takes no part of less than 5 MiB."""

BOUNDS: Final = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    # A failure is not made smaller, which takes minutes: the steps that led to it are shown.
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)

LARGE_AND_SENT: Final = [
    LifeStep(
        "declares", {"user": 0, "sizes": ["large"], "small": True, "is_avatar": False, "whole": True, "fault": None}
    ),
    LifeStep("sends", {"user": 0, "picks": [0], "ready": True, "fault": None}),
]
"""A message with a file of two parts, which few examples have: a service then compares them in another way."""

_numbers = itertools.count()


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "PAUSE_S", 0.0)


async def live(pool: Pool, store: FileStore, put: Put, taken: list[LifeStep], is_idle: Callable[[], bool]) -> None:
    """New users take these steps; in the end nothing is left."""
    part = limits.ATTACHMENT_PART_BYTES
    quotas = Quotas(
        open_uploads_per_user=6,
        attachment_bytes_per_day=10 * part,
        attachment_bytes_per_user=12 * part,
        attachment_bytes_total=20 * part,
        avatar_bytes=40,
    )
    people = [await new_user(pool, f"user{next(_numbers)}") for _ in range(USERS)]
    group = await new_group(pool, *people)
    await remove(pool, people[2].user, group, people[2].user)
    with closing(LifeWorld(pool, store, put, quotas, people, group, is_idle)) as life:
        lives = AttachmentLives(life)
        for each in taken:
            await getattr(lives, each.name)(**each.arguments)
        await lives.end()


class WatchedFolder(Folder):
    """A folder that tells whether threads are still at work for it."""

    def is_idle(self) -> bool:
        return self._threads.borrowed_tokens == 0


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WatchedFolder]:
    """A folder whose parts are small; each example starts it."""
    for module in (limits, folder_multiparts):
        monkeypatch.setattr(module, "ATTACHMENT_PART_BYTES", SMALL_PART_BYTES)
    with in_memory(tmp_path) as path:
        yield WatchedFolder(path / "objects")


@BOUNDS
@given(taken=steps)
async def test_attachments_in_a_folder_live_as_long_as_their_messages(
    pool: Pool, folder: WatchedFolder, taken: list[LifeStep]
) -> None:
    await folder.start()
    await live(pool, folder, put_into(folder), taken, folder.is_idle)


async def test_a_life_leaves_nothing_to_the_next_in_the_same_folder(pool: Pool, folder: WatchedFolder) -> None:
    """Not even files of a message that the administrator has hidden, and so cannot delete for everyone."""
    taken = [*LARGE_AND_SENT, LifeStep("deletes_for_me", {"user": 0, "pick": 0})]
    await folder.start()
    for _ in range(2):
        await live(pool, folder, put_into(folder), taken, folder.is_idle)


@pytest.fixture(scope="module")
def s3_url() -> Iterator[str]:
    with s3_server() as url:
        yield url


@pytest.mark.parametrize("more", ["", "&part_checksums=false"], ids=["checked parts", "copied parts"])
@settings(BOUNDS, max_examples=max(2, EXAMPLES // 10))
@example(taken=LARGE_AND_SENT)
@given(taken=steps)
async def test_attachments_of_a_service_live_as_long_as_their_messages(
    pool: Pool, s3_url: str, more: str, taken: list[LifeStep]
) -> None:
    async with (
        open_objects(f"{s3_url}{more}") as objects,
        httpx.AsyncClient(trust_env=False, timeout=DEADLINE_S) as client,
    ):
        assert objects is not None

        async def put(request: PresignedRequest, data: bytes) -> int:
            answer = await client.request(request.method, request.url, headers=dict(request.headers), content=data)
            return answer.status_code

        await live(pool, objects, put, taken, lambda: True)
