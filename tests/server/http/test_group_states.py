"""States of groups over HTTP (P16): their bodies are larger than all others, and take little memory of slow clients."""

from __future__ import annotations

import json
import os
from typing import Any, Final
from uuid import UUID

import cbor2
import msgspec
import pytest
import trio

from bench.memory import resident_bytes
from client.http import Credentials
from protocol.limits import MAX_GROUP_STATE_BYTES
from server.http import large_bodies, request_turns
from server.http.large_bodies import LargeBodies
from server.http.problem_codes import MAX_BODY_BYTES, MAX_LARGE_BODY_BYTES
from server.http.routes import ROUTES
from store import group_states
from store.messages import Committed, send
from store.participant_lists import ParticipantsCache
from store.postgres.pool import Pool
from tests.people import new_group, new_user
from tests.server.http.socket_world import RawAnswer, open_server, request, serving_api
from tests.server.http.test_keys import in_bytes, put
from tests.server.http_world import CBOR, both_encodings, open_api, open_services
from tests.store.store_world import a_message
from tests.waiting import wait_until

CROWD: Final = 12

WHOLE: Final = bytes(range(256)) * (MAX_GROUP_STATE_BYTES // 256)


async def control(pool: Pool, who: Credentials, group: bytes, follows: int) -> int:
    [sent] = await send(pool, ParticipantsCache(), [a_message(group, who.user, follows=follows)])
    assert isinstance(sent, Committed)
    return sent.seq


def path_of(group: bytes) -> str:
    return f"/v1/conversations/{UUID(bytes=group)}/state"


@both_encodings
async def test_a_state_is_put_and_got_and_refused_with_the_last_control_message(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, encoding: str
) -> None:
    group = await new_group(pool, alice, bob)
    async with open_api(pool, redis_url, encoding) as api:
        mine, theirs, path = api.of(alice.token), api.of(bob.token), path_of(group)
        nothing = (await theirs.get(path)).body
        assert nothing == {"control_seq": 0, "state": None, "device": None, "put": None}
        for last in (1, 2):
            assert await control(pool, alice, group, last - 1) == last
            missing = await theirs.get(path)
            assert (missing.body["control_seq"], missing.body["state"]) == (last, None)
            assert "ETag" not in missing.headers
            for wrong in (last + 1, last - 1 or 999):
                refused = await put(mine, path, {"control_seq": wrong, "state": b"wrong"})
                assert (refused.status, refused.code, refused.body["control_seq"]) == (409, "control_conflict", last)
            state = b"state %d" % last
            assert (await put(mine, path, {"control_seq": last, "state": state})).status == 204
            found = (await theirs.get(path)).body
            assert (found["control_seq"], in_bytes(found["state"]), found["device"]) == (last, state, alice.device)
        for invalid in ({}, {"control_seq": 2}, {"control_seq": 0, "state": b"x"}, {"control_seq": 2, "state": b""}):
            assert (await put(mine, path, invalid)).code == "invalid_body"


async def test_a_client_that_holds_the_state_is_told_so_and_gets_each_newer_one(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials
) -> None:
    """`If-None-Match: *` asks whether there is a state at all, without its bytes."""
    group = await new_group(pool, alice, bob)
    last, tag = 0, '"none"'
    async with open_server(pool, redis_url) as server:

        async def get(held: str) -> RawAnswer:
            headers = {"authorization": f"Bearer {bob.token}", "accept": CBOR, "if-none-match": held}
            return await server.exchange(request("GET", path_of(group), headers))

        for is_control in (True, False, True):
            if is_control:
                last = await control(pool, alice, group, last)
                assert {(await get(held)).status for held in ("*", tag)} == {200}
            body = body_of(last, f"{last} {is_control}".encode())
            assert (await server.exchange(put_request(alice, group, body))).status == 204
            newer = await get(tag)
            assert (newer.status, cbor2.loads(newer.body)["state"]) == (200, f"{last} {is_control}".encode())
            tag = newer.headers["etag"]
            for held in (tag, "*", f'"other", {tag}'):
                same = await get(held)
                assert (same.status, same.headers["etag"], same.body) == (304, tag, b"")


def put_request(who: Credentials, group: bytes, body: bytes, **headers: str) -> bytes:
    usual = {"authorization": f"Bearer {who.token}", "content-type": CBOR, "content-length": str(len(body))}
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return request("PUT", path_of(group), {**usual, **given}, body)


def body_of(control_seq: int, state: bytes) -> bytes:
    return cbor2.dumps({"control_seq": control_seq, "state": state})


async def get_state(server: Any, who: Credentials, group: bytes) -> RawAnswer:
    headers = {"authorization": f"Bearer {who.token}", "accept": CBOR, "accept-encoding": "br, gzip"}
    answer: RawAnswer = await server.exchange(request("GET", path_of(group), headers))
    return answer


async def test_a_state_of_a_mebibyte_comes_through_a_connection_that_goes_on(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials
) -> None:
    """In either encoding, in one piece or cut anywhere, at once or after 100 (Continue), with a request behind it."""
    group = await new_group(pool, alice, bob)
    last = await control(pool, alice, group, 0)
    cbor = body_of(last, WHOLE)
    text = msgspec.json.encode({"control_seq": last, "state": WHOLE[::-1]})
    assert MAX_LARGE_BODY_BYTES - 1024 < len(text) <= MAX_LARGE_BODY_BYTES
    async with open_server(pool, redis_url) as server, server.connected() as connection:
        for body, headers, shown in ((cbor, {}, WHOLE), (text, {"content_type": "application/json"}, WHOLE[::-1])):
            whole = put_request(alice, group, body, **headers)
            await connection.send(whole[:70], whole[70:9_999], whole[9_999:] + request("GET", "/healthz"))
            assert (await connection.answer(b"PUT")).status == 204
            assert (await connection.answer()).status == 200
            found = await get_state(server, bob, group)
            assert cbor2.loads(found.body)["state"] == shown
            assert "content-encoding" not in found.headers
        head = put_request(alice, group, b"", content_length=str(len(cbor)), expect="100-continue")
        await connection.send(head)
        assert b"100" in await connection.stream.receive_some()
        await connection.send(cbor)
        assert (await connection.answer(b"PUT")).status == 204
    assert (await group_states.state(pool, bob.user, group)).held is not None


async def test_a_large_body_is_refused_as_any_other_and_the_head_is_enough_where_it_can_be(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, carol: Credentials
) -> None:
    group = await new_group(pool, alice, bob)
    last = await control(pool, alice, group, 0)
    long = body_of(last, WHOLE + b"x")
    head_alone = {"content_length": str(MAX_LARGE_BODY_BYTES)}
    cases = {
        "a state above its bound": (put_request(alice, group, long), "invalid_body"),
        "more than any body": (put_request(alice, group, b"", content_length=str(2**40)), "body_too_large"),
        "chunks": (
            request(
                "PUT",
                path_of(group),
                {"authorization": f"Bearer {alice.token}", "content-type": CBOR, "transfer-encoding": "chunked"},
                b"%x\r\n%b\r\n0\r\n\r\n" % (MAX_BODY_BYTES + 1, bytes(MAX_BODY_BYTES + 1)),
            ),
            "body_too_large",
        ),
        "another control message": (put_request(alice, group, body_of(last + 1, WHOLE)), "control_conflict"),
        "a user who takes no part": (put_request(carol, group, body_of(last, WHOLE)), "not_found"),
        "no token": (put_request(alice, group, b"", authorization="", **head_alone), "unauthenticated"),
        "no type": (put_request(alice, group, b"", content_type="text/plain", **head_alone), "unsupported_media_type"),
        "a compressed body": (
            put_request(alice, group, b"", content_encoding="gzip", **head_alone),
            "unsupported_media_type",
        ),
        "a route with small bodies": (
            request(
                "PATCH",
                f"/v1/conversations/{UUID(bytes=group)}",
                {"authorization": f"Bearer {alice.token}", "content-type": CBOR, "content-length": str(len(long))},
                long,
            ),
            "body_too_large",
        ),
    }
    async with open_server(pool, redis_url) as server:
        found = {}
        for name, (sent, _) in cases.items():
            answer = await server.exchange(sent)
            found[name] = json.loads(answer.body)["code"]
        assert found == {name: code for name, (_, code) in cases.items()}
        assert (await group_states.state(pool, alice.user, group)).held is None
        assert (await server.exchange(put_request(alice, group, body_of(last, WHOLE)))).status == 204


async def test_slow_uploads_take_few_places_and_little_memory_and_end_in_time(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user has one place, and a process `LARGE_BODIES`; all others wait with their bytes in the kernel, and are told
    to try again. A body that does not come in time is refused, and the next one has its place."""
    monkeypatch.setattr(request_turns, "LARGE_BODIES", 2)
    monkeypatch.setattr(request_turns, "WAIT_S", 0.5)
    monkeypatch.setattr(large_bodies, "BODY_TIMEOUT_S", 60.0)
    group = await new_group(pool, alice, bob)
    last = await control(pool, alice, group, 0)
    crowd = [await new_user(pool, f"user{n}") for n in range(CROWD)]
    await pool.fetch(
        "insert into participants (conversation_id, user_id) select %s, id from users where username like 'user%%'",
        (UUID(bytes=group),),
    )
    whole = body_of(last, WHOLE)
    almost, length = memoryview(whole)[:-1], str(len(whole))
    async with open_services(pool, redis_url, limited_pause_s=0.0) as services, serving_api(services) as server:
        # The tokens become known, so that the requests take turns by user.
        for who in (alice, *crowd):
            assert (await get_state(server, who, group)).status == 200
        statuses: list[int] = []
        before = resident_bytes(os.getpid())

        async def upload(who: Credentials) -> None:
            async with server.connected() as connection, trio.open_nursery() as sending:
                await connection.send(put_request(who, group, b"", content_length=length))
                # As much as the kernel takes: the server reads no more than it has places for.
                sending.start_soon(connection.stream.send_all, almost)
                statuses.append((await connection.answer(b"PUT")).status)
                sending.cancel_scope.cancel()

        async with trio.open_nursery() as uploads:
            for who in (alice, alice, *crowd):
                uploads.start_soon(upload, who)
            await wait_until(lambda: len(statuses) == CROWD, "all but two are refused")
            assert services.large_bodies.statistics().running == 2
            assert resident_bytes(os.getpid()) - before < (CROWD // 2) * MAX_GROUP_STATE_BYTES
            assert set(statuses) == {503}
            uploads.cancel_scope.cancel()
        await wait_until(lambda: services.large_bodies.statistics().running == 0, "clients that hang up leave places")
        monkeypatch.setattr(large_bodies, "BODY_TIMEOUT_S", 0.3)
        async with server.connected() as connection:
            await connection.send(put_request(alice, group, b"", content_length=length), almost)
            late = await connection.answer(b"PUT")
            assert (late.status, json.loads(late.body)["code"]) == (408, "request_timeout")
            assert late.headers["connection"] == "close"
        monkeypatch.setattr(large_bodies, "BODY_TIMEOUT_S", 60.0)
        assert (await server.exchange(put_request(alice, group, whole))).status == 204


def test_only_paths_and_sizes_that_quart_would_refuse_go_past_it() -> None:
    """Whatever is small, has no length or another method is Quart's."""
    large = LargeBodies(None, ROUTES)  # type: ignore[arg-type]  # nothing is served
    path = path_of(bytes(16)).encode()
    length = [(b"content-length", str(MAX_BODY_BYTES + 1).encode())]
    found = large.find(b"PUT", path + b"?x=1", length)
    assert found is not None
    assert (found.path, found.query, found.values) == (path.decode(), "x=1", {"conversation": UUID(bytes=bytes(16))})
    for method, target, headers in (
        (b"GET", path, length),
        (b"PUT", path + b"/", length),
        (b"PUT", b"/v1" + path, length),
        (b"PUT", path, [(b"content-length", str(MAX_BODY_BYTES).encode())]),
        (b"PUT", path, [(b"transfer-encoding", b"chunked")]),
    ):
        assert large.find(method, target, headers) is None
