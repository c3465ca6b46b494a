"""Identities and one-time keys over HTTP (P13)."""

from __future__ import annotations

from base64 import b64decode
from typing import Any
from uuid import UUID, uuid4

import cbor2
import msgspec

from client.http import Credentials
from protocol.frames import OneTimeKey
from store import keys
from store.postgres.pool import Pool
from tests.people import new_device
from tests.server.http_world import CBOR, Answer, Api, both_encodings, open_api
from tests.store.key_world import IDENTITY, KIND, a_key, a_last_resort, some_keys


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


async def test_a_wrong_identity_and_two_keys_with_one_number_are_refused_and_nothing_is_stored(
    pool: Pool, redis_url: str, alice: Credentials
) -> None:
    async with open_api(pool, redis_url) as api:
        for identity in (b"", b"x" * 4097, 5, "no base64!"):
            answer = await put(api.of(alice.token), "/v1/keys", {"identity": identity})
            assert answer.code == "invalid_body"
        two = [{"kind": KIND, "number": 1, "key": key} for key in ("AAAA", "BBBB")]
        for body in ({"one_time_keys": two}, {"last_resort_keys": two}):
            answer = await put(api.of(alice.token), "/v1/keys", {"identity": "AAAA", **body})
            assert answer.code == "invalid_body"
            assert KIND in answer.body["detail"]
        assert (await keys.status(pool, alice.device)).identity is None
        cursor = "/v1/users/{}/devices?cursor=AAAA"
        assert (await api.of(alice.token).get(cursor.format(uuid4()))).code == "invalid_cursor"


@both_encodings
async def test_keys_are_uploaded_claimed_once_and_shown_to_their_device(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, direct: bytes, encoding: str
) -> None:
    def body(*found: OneTimeKey) -> list[dict[str, Any]]:
        return [{"kind": kind, "number": number, "key": key} for kind, number, key in found]

    def seen(found: list[dict[str, Any]]) -> list[OneTimeKey]:
        return [(each["kind"], each["number"], in_bytes(each["key"])) for each in found]

    async with open_api(pool, redis_url, encoding) as api:
        mine, theirs = api.of(alice.token), api.of(bob.token)
        history = (await mine.get("/v1/keys")).body["key_history"]
        upload = {
            "identity": IDENTITY,
            "one_time_keys": body(*some_keys([1, 2])),
            "last_resort_keys": body(a_last_resort(1)),
            "key_history": history,
        }
        for _ in range(2):
            answer = await put(mine, "/v1/keys", upload)
            [held] = answer.body["pools"]
            assert (held["kind"], held["count"], held["first"], held["highest"]) == (KIND, 2, 1, 2)
        claims = []
        for _ in range(3):
            answer = await theirs.post("/v1/keys/claims", {"users": [alice.user], "kinds": [KIND]})
            assert not answer.body["more"]
            [device] = answer.body["devices"]
            assert (device["device"], in_bytes(device["identity"])) == (alice.device, IDENTITY)
            claims.append((seen(device["one_time_keys"]), seen(device["last_resort_keys"])))
        assert claims == [([a_key(1)], []), ([a_key(2)], []), ([], [a_last_resort(1)])]
        status = (await mine.get("/v1/keys")).body
        assert [(each["count"], each["is_given"]) for each in status["pools"]] == [(0, True)]
        after = await theirs.post("/v1/keys/claims", {"users": [alice.user], "kinds": [KIND], "after": alice.device})
        assert after.body == {"devices": [], "more": False}


async def test_uploads_that_are_not_taken_are_refused_by_name(pool: Pool, redis_url: str, alice: Credentials) -> None:
    async with open_api(pool, redis_url) as api:
        mine = api.of(alice.token)
        history = (await mine.get("/v1/keys")).body["key_history"]
        key = {"kind": KIND, "number": 1, "key": b"key"}
        many = [{**key, "kind": f"kind{number}"} for number in range(9)]
        for change, code in (
            ({"one_time_keys": [key]}, "key_history_foreign"),
            ({"one_time_keys": [key], "key_history": b"other"}, "key_history_foreign"),
            ({"one_time_keys": many, "key_history": history}, "quota_exceeded"),
            ({"one_time_keys": [{**key, "number": 0}], "key_history": history}, "invalid_body"),
            ({"one_time_keys": [{**key, "kind": "two words"}], "key_history": history}, "invalid_body"),
            ({"one_time_keys": [{**key, "key": b""}], "key_history": history}, "invalid_body"),
            ({"is_anew": True}, "invalid_body"),
            ({"is_anew": True, "last_resort_keys": [key], "key_history": history}, "invalid_body"),
            ({"last_resort_keys": [key] * 9, "key_history": history}, "invalid_body"),
        ):
            assert (await put(mine, "/v1/keys", change)).code == code, change
        for wrong in ({"users": [], "kinds": [KIND]}, {"users": [alice.user], "kinds": []}, {"users": [alice.user]}):
            assert (await mine.post("/v1/keys/claims", wrong)).code == "invalid_body"
