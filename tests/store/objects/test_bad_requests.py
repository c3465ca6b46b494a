"""Requests that no honest client sends with a ticket: nothing is stored but what the ticket names, and nothing else is
disturbed. The same for a folder and for services; `test_transfers.py` has tickets that were altered or have expired."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Final

import httpx
import pytest

from store.errors import ObjectMissing
from store.objects.direct import Part, PresignedRequest
from store.objects.folder import Folder
from store.postgres.pool import Pool
from tests.s3_server import s3_server
from tests.store.objects.transfer_world import KINDS, PART_BYTES, TransferWorld, open_store, part_of
from tests.waiting import DEADLINE_S, wait_until

KEY: Final = "attachments/ab/0123456789ab"
NEIGHBOUR: Final = "attachments/ab/0123456789ac"
DATA: Final = bytes(range(256)) * 40
EXPIRES_S: Final = 60


@pytest.fixture(scope="module")
def s3_url() -> Iterator[str]:
    with s3_server() as url:
        yield url


@pytest.fixture(params=KINDS)
async def world(
    request: pytest.FixtureRequest, pool: Pool, redis_url: str, tmp_path: Path, s3_url: str
) -> AsyncGenerator[TransferWorld, None]:
    """An object store of each kind with one object, which stays as it is."""
    async with (
        httpx.AsyncClient(trust_env=False, timeout=DEADLINE_S) as client,
        open_store(request.param, pool, redis_url, tmp_path / "objects", s3_url) as objects,
    ):
        world = TransferWorld(objects, client, nullcontext())
        await world.put(NEIGHBOUR, DATA)
        yield world
        assert await world.get(NEIGHBOUR) == DATA


def put_request(world: TransferWorld) -> PresignedRequest:
    return world.objects.presign_put(KEY, part_of(DATA), expires_s=EXPIRES_S)


async def stored(world: TransferWorld) -> bytes | None:
    """The bytes of the object; None if there is none."""
    try:
        return await world.objects.get(KEY)
    except ObjectMissing:
        return None


def unfinished(world: TransferWorld) -> list[Path]:
    """Files of a folder that are being written."""
    return [*Path(str(world.objects), ".new").iterdir()] if isinstance(world.objects, Folder) else []


@pytest.mark.parametrize("told", ["bytes 0-9/100", f"bytes 0-{len(DATA) - 1}/{2 * len(DATA)}", "bytes */5", "x"])
async def test_a_content_range_makes_no_other_object_of_an_upload(world: TransferWorld, told: str) -> None:
    """A folder refuses it; a service takes the body for what it is, whose digest the ticket names."""
    request = put_request(world)
    answer = await world.client.put(request.url, headers={**request.headers, "content-range": told}, content=DATA)
    assert answer.is_success == (not isinstance(world.objects, Folder))
    assert await stored(world) == (DATA if answer.is_success else None)


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "POST", "PATCH", "DELETE", "TRACE", "SOMETHING"])
async def test_another_method_of_a_ticket_changes_nothing(world: TransferWorld, method: str) -> None:
    upload = await world.objects.begin_multipart(KEY)
    await world.put_part(KEY, upload, DATA, 1)
    tickets = (
        put_request(world),
        world.objects.presign_part(KEY, upload, part_of(DATA, 2), expires_s=EXPIRES_S),
        world.objects.presign_get(NEIGHBOUR, expires_s=EXPIRES_S),
    )
    for ticket in tickets:
        for body in (b"", DATA):
            headers = {**ticket.headers, "content-length": str(len(body))}
            answer = await world.client.request(method, ticket.url, headers=headers, content=body)
            is_harmless = method == "OPTIONS" or (method == "HEAD" and ticket.method == "GET")
            assert is_harmless or 400 <= answer.status_code < 500
            assert DATA not in answer.content
    assert await stored(world) is None
    assert [part.number for part in await world.objects.list_parts(KEY, upload)] == [1]


@pytest.mark.parametrize(("number", "size_bytes"), [(0, 1), (-1, 1), (10_001, 1), (1, 0), (1, PART_BYTES + 1)])
async def test_no_ticket_is_for_a_part_that_cannot_be(world: TransferWorld, number: int, size_bytes: int) -> None:
    upload = await world.objects.begin_multipart(KEY)
    part = Part(number, size_bytes, part_of(DATA).digest)
    with pytest.raises(ValueError, match="a part has a number of 1 to 10000 and 1 to 8388608 bytes"):
        world.objects.presign_part(KEY, upload, part, expires_s=EXPIRES_S)
    with pytest.raises(ValueError, match="a part has a number"):
        world.objects.presign_put(KEY, part, expires_s=EXPIRES_S)


@pytest.mark.parametrize("sent", [0, 1, len(DATA) - 1, len(DATA)])
async def test_a_connection_that_is_cut_leaves_nothing_or_the_whole_object(world: TransferWorld, sent: int) -> None:
    """After the head, in the body, and before the answer. The same ticket serves again."""
    request = put_request(world)
    async with await world.begin(request, {}, DATA[:sent]):
        pass
    assert await stored(world) in ((None, DATA) if sent == len(DATA) else (None,))
    await wait_until(lambda: not unfinished(world), "what was written is removed")
    assert (await world.send(request, DATA)).is_success
    assert await stored(world) == DATA


async def test_bytes_beyond_the_length_are_not_of_the_object(world: TransferWorld) -> None:
    async with await world.begin(put_request(world), {}, DATA + b"GET / HTTP/1.1" + bytes(5000)) as stream:
        answer = await stream.receive_some()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert await stored(world) == DATA


@pytest.mark.parametrize(
    "headers",
    [
        {"content-length": str(len(DATA)), "transfer-encoding": "chunked"},
        {"content-length": str(len(DATA)), "Content-Length": "5"},
        {"content-length": f"+{len(DATA)}"},
        {"content-length": "0"},
    ],
    ids=["two ways to tell the length", "two lengths", "no number", "zero"],
)
async def test_a_length_that_contradicts_itself_is_refused(world: TransferWorld, headers: dict[str, str]) -> None:
    async with await world.begin(put_request(world), headers, DATA) as stream:
        answer = await stream.receive_some()
    assert answer.startswith(b"HTTP/1.1 4")
    assert await stored(world) is None


@pytest.mark.parametrize(
    ("asked", "statuses"),
    [
        (f"bytes={len(DATA)}-", {416}),
        (f"bytes={len(DATA) * 9}-{len(DATA) * 10}", {416}),
        ("bytes=0-1,5-9", {200, 206}),
        ("bytes=" + ",".join(f"{n}-{n}" for n in range(500)), {200, 206, 416}),
        ("bytes=9-5", {200, 416}),
        ("lines=1-2", {200, 416}),
        (f"bytes=10-{len(DATA) * 9}", {206}),
    ],
)
async def test_a_strange_range_gives_no_bytes_of_another_place(
    world: TransferWorld, asked: str, statuses: set[int]
) -> None:
    ticket = world.objects.presign_get(NEIGHBOUR, expires_s=EXPIRES_S)
    answer = await world.client.get(ticket.url, headers={"range": asked})
    assert answer.status_code in statuses
    if answer.status_code == 200:
        assert answer.content == DATA
    elif answer.status_code == 206:
        assert answer.content == DATA[10:]
        assert answer.headers["content-range"] == f"bytes 10-{len(DATA) - 1}/{len(DATA)}"
    assert answer.status_code == 416 or answer.headers["content-disposition"] == "attachment"
