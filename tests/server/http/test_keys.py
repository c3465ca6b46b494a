"""Identities over HTTP."""

from __future__ import annotations

from base64 import b64decode
from typing import Any
from uuid import UUID, uuid4

import cbor2
import msgspec

from client.http import Credentials
from store import keys
from store.postgres.pool import Pool
from tests.people import new_device
from tests.planted import PLANTED
from tests.server.http_world import CBOR, Answer, Api, both_encodings, open_api

IDENTITY = f"{PLANTED} identity".encode()


async def put(api: Api, path: str, body: Any) -> Answer:
    encode, type_ = (cbor2.dumps, CBOR) if api.encoding == "cbor" else (msgspec.json.encode, "application/json")
    return await api.request("PUT", path, data=encode(body), headers={"Content-Type": type_})


def in_bytes(value: bytes | str) -> bytes:
    """A field of bytes in either encoding."""
    return value if isinstance(value, bytes) else b64decode(value, validate=True)


@both_encodings
async def test_a_device_publishes_its_identity_and_others_see_it_in_pages(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, direct: bytes, encoding: str
) -> None:
    others = [await new_device(pool, alice.user) for _ in range(2)]
    for each in others:
        await keys.put(pool, each.device, b"other")
    async with open_api(pool, redis_url, encoding) as api:
        mine, theirs = api.of(alice.token), api.of(bob.token)
        for body, revision in (
            ({"identity": IDENTITY}, 1),
            ({}, 1),
            ({"identity": b"x"}, 2),
            ({"identity": IDENTITY}, 3),
        ):
            answer = await put(mine, "/v1/keys", body)
            assert (answer.status, answer.body["identity_revision"]) == (200, revision)
        assert in_bytes(answer.body["identity"]) == IDENTITY
        path = f"/v1/users/{UUID(bytes=alice.user)}/devices"
        first = await theirs.get(path, limit=2)
        rest = await theirs.get(path, limit=2, cursor=first.body["cursor"])
        assert rest.body["cursor"] is None
        shown = [*first.body["devices"], *rest.body["devices"]]
        assert [each["device"] for each in shown] == sorted(each.device for each in (alice, *others))
        [own] = [each for each in shown if each["device"] == alice.device]
        assert (own["user"], in_bytes(own["identity"]), own["identity_revision"]) == (alice.user, IDENTITY, 3)


async def test_strangers_get_the_list_of_a_user_without_devices(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials
) -> None:
    await keys.put(pool, alice.device, IDENTITY)
    async with open_api(pool, redis_url) as api:
        stranger = api.of(bob.token)
        shown = await stranger.get(f"/v1/users/{UUID(bytes=alice.user)}/devices")
        nobody = await stranger.get(f"/v1/users/{uuid4()}/devices")
        assert (shown.status, shown.data) == (nobody.status, nobody.data) == (200, b'{"devices":[],"cursor":null}')


async def test_an_identity_that_is_empty_too_long_or_no_base64_is_refused(
    pool: Pool, redis_url: str, alice: Credentials
) -> None:
    async with open_api(pool, redis_url) as api:
        for identity in (b"", b"x" * 4097, 5, "no base64!"):
            answer = await put(api.of(alice.token), "/v1/keys", {"identity": identity})
            assert answer.code == "invalid_body"
        cursor = "/v1/users/{}/devices?cursor=AAAA"
        assert (await api.of(alice.token).get(cursor.format(uuid4()))).code == "invalid_cursor"
