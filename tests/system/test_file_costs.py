"""The cost of a file in an S3-compatible service for `web` and `socket`: tickets, whatever the size of the file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final
from urllib.parse import urlsplit

import pytest

from client.http import Credentials
from protocol.limits import ATTACHMENT_PART_BYTES
from store.objects.bucket import Bucket
from store.objects.url import parse_objects_url
from store.postgres.pool import Pool
from tests.processes import open_cluster
from tests.s3_proxy import Pass, ProxiedAnswer, ProxiedCall, open_s3_proxy
from tests.s3_server import s3_server
from tests.store.attachment_world import declared, parts_of, some_bytes
from tests.system.file_doors import DOORS, HttpDoor, put_part

MOST_BYTES: Final = 64 * 1024
"""That the server exchanges with the service for a file: lists of parts."""


@pytest.fixture(scope="module")
def s3_url() -> Iterator[str]:
    with s3_server() as url:
        yield url


@pytest.mark.parametrize("door_type", DOORS, ids=lambda door: door.name)
async def test_a_large_file_costs_the_server_as_many_calls_as_a_small_one_and_none_of_its_bytes(
    pool: Pool, redis_url: str, s3_url: str, alice: Credentials, door_type: Callable[..., HttpDoor]
) -> None:
    """Clients reach the service at an address of its own, past the proxy that counts the bytes of the server."""
    place = parse_objects_url(s3_url)
    assert isinstance(place, Bucket)
    asked: list[str] = []
    moved: list[int] = []

    async def count(call: ProxiedCall, pass_on: Pass) -> ProxiedAnswer:
        answer = await pass_on()
        asked.append(call.name)
        moved.append(len(call.body) + len(answer.body))
        return answer

    async with (
        open_s3_proxy(s3_url) as proxy,
        open_cluster(pool.url, redis_url, OBJECT_STORE_URL=proxy.url, PUBLIC_FILES_URL=place.url) as cluster,
    ):
        proxy.treat(count)
        door = door_type(cluster, alice)
        await door.start()
        calls = []
        for data in (some_bytes(ATTACHMENT_PART_BYTES + 1), some_bytes(5 * ATTACHMENT_PART_BYTES)):
            asked.clear()
            moved.clear()
            code, attachment = await door.declare(declared(data))
            assert not code
            _, missing = await door.missing(attachment)
            for number, url, headers in missing:
                assert urlsplit(url).netloc == place.host
                assert await put_part(url, headers, parts_of(data)[number - 1]) == 200
            assert await door.complete(attachment) == ""
            calls.append([name for name in asked if name != "bucket"])
            assert sum(moved) < MOST_BYTES
        assert calls[0] == calls[1]
        assert len(calls[0]) < 10
