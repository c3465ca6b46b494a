"""Conversations over HTTP: beginning, listing and reading them, and those of other users."""

from __future__ import annotations

import secrets
from typing import Any
from uuid import UUID, uuid4

import pytest
import trio
import trio.testing

from client.http import Credentials
from store.postgres.pool import Pool
from tests.people import new_direct, new_group, new_user
from tests.server.http_world import both_encodings, open_api, say


@both_encodings
async def test_unknown_participants_make_nothing(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, encoding: str
) -> None:
    async with open_api(pool, redis_url, encoding) as api:
        mine = api.of(alice.token)
        for body in (
            {"kind": "direct", "participants": [b"n" * 16]},
            {"kind": "group", "name": "Group", "participants": [bob.user, b"n" * 16]},
        ):
            answer = await mine.post("/v1/conversations", body)
            assert (answer.status, answer.code) == (404, "unknown_user")
        alone = await mine.post("/v1/conversations", {"kind": "direct", "participants": [alice.user]})
        assert (alone.status, alone.code) == (400, "invalid_body")
        assert await pool.fetch("select count(*) from conversations") == [(0,)]
        twice = await mine.post(
            "/v1/conversations", {"kind": "group", "name": "Group", "participants": [bob.user, alice.user, bob.user]}
        )
        assert twice.status == 201
        assert len(twice.body["participants"]) == 2


async def test_two_users_who_begin_the_same_direct_conversation_at_once_get_one(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials
) -> None:
    """Each of the two sends ten requests: one answer says that the conversation is new, and all name the same one."""
    answers: list[tuple[int, bytes]] = []
    async with open_api(pool, redis_url) as api:

        async def make(me: Any, other: Any) -> None:
            answer = await api.of(me.token).post("/v1/conversations", {"kind": "direct", "participants": [other.user]})
            answers.append((answer.status, answer.body["conversation"]))

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(make, alice, bob)
                nursery.start_soon(make, bob, alice)
    assert sorted(status for status, _ in answers) == [200] * 19 + [201]
    assert len({conversation for _, conversation in answers}) == 1
    assert await pool.fetch("select count(*) from conversations") == [(1,)]
    assert await pool.fetch("select count(*) from participants") == [(2,)]


UNNAMED = {"instance": None}
"""In place of the ids of two requests."""


@both_encodings
async def test_conversations_of_others_look_as_if_they_did_not_exist(pool: Pool, redis_url: str, encoding: str) -> None:
    alice, bob, eve = [await new_user(pool, name) for name in ("alice", "bob", "eve")]
    theirs = await new_direct(pool, alice, bob)
    await say(pool, theirs, alice.user, b"secret")
    async with open_api(pool, redis_url, encoding) as api:
        spy = api.of(eve.token)
        for path in ("", "/messages", "/messages?after_seq=0"):
            one = await spy.get(f"/v1/conversations/{UUID(bytes=theirs)}{path}")
            other = await spy.get(f"/v1/conversations/{uuid4()}{path}")
            assert (one.status, one.code) == (404, "not_found")
            assert (one.status, one.body | UNNAMED) == (other.status, other.body | UNNAMED)
        assert (await spy.get("/v1/conversations")).body == {"conversations": [], "cursor": None}
        for path in (
            "/v1/conversations/none",
            "/v1/conversations/none/messages",
            "/v1/nothing",
            "/",
            "/v1",
            "/v1/users",
        ):
            answer = await spy.get(path)
            assert answer.code == ("method_not_allowed" if path == "/v1/users" else "not_found")


async def test_the_largest_group_fits(pool: Pool, redis_url: str, alice: Credentials) -> None:
    users = [secrets.token_bytes(16) for _ in range(999)]
    await pool.fetch(
        "insert into users (id, username, password_hash)"
        " select id, 'u' || n, '' from unnest(%s::uuid[]) with ordinality as t(id, n)",
        ([UUID(bytes=user) for user in users],),
    )
    for encoding in ("json", "cbor"):
        async with open_api(pool, redis_url, encoding) as api:
            body = {"kind": "group", "name": "ü" * 128, "participants": users}
            answer = await api.of(alice.token).post("/v1/conversations", body)
            assert answer.status == 201
            assert (len(answer.body["participants"]), answer.body["participant_count"]) == (1, 1000)


@both_encodings
@pytest.mark.parametrize("size", [3, 33])
async def test_participants_are_read_in_pages(pool: Pool, redis_url: str, encoding: str, size: int) -> None:
    """Pages list each participant once, with names; marks are there in small conversations, and for the reader."""
    people = [await new_user(pool, f"user{n}") for n in range(size)]
    group = await new_group(pool, *people)
    stranger = await new_user(pool, "stranger")
    async with open_api(pool, redis_url, encoding) as api:
        asking, path = api.of(people[0].token), f"/v1/conversations/{UUID(bytes=group)}/participants"
        found: list[Any] = []
        query: dict[str, Any] = {"limit": 2}
        while True:
            page = (await asking.get(path, **query)).body
            assert 1 <= len(page["participants"]) <= 2
            found += page["participants"]
            if page["cursor"] is None:
                break
            query["cursor"] = page["cursor"]
        assert [each["user"] for each in found] == sorted(person.user for person in people)
        assert {each["username"] for each in found} == {f"user{n}" for n in range(size)}
        shown = {each["user"] for each in found if each["read_seq"] is not None}
        assert shown == ({person.user for person in people} if size == 3 else {people[0].user})
        whole = (await asking.get(f"/v1/conversations/{UUID(bytes=group)}")).body
        assert whole["participant_count"] == size
        assert len(whole["participants"]) == (size if size == 3 else 1)
        for of in (stranger, None):
            answer = await (api.of(of.token) if of else api).get(path)
            assert answer.status == (404 if of else 401)
        assert (await asking.get(path, cursor="nonsense")).code == "invalid_cursor"


async def test_pages_of_the_list_are_the_whole_of_it(pool: Pool, redis_url: str, alice: Credentials) -> None:
    """The id decides the order of conversations that moved in the same microsecond."""
    conversations = [await new_group(pool, alice) for _ in range(7)]
    await pool.fetch(
        "update conversations set active_at = '2024-01-01 00:00:00.123457Z' where id = any(%s)",
        ([UUID(bytes=each) for each in conversations[:5]],),
    )
    async with open_api(pool, redis_url) as api:
        whole = await api.of(alice.token).get("/v1/conversations")
        assert {each["conversation"] for each in whole.body["conversations"]} == set(conversations)
        for limit in (1, 2, 3):
            query: dict[str, Any] = {}
            listed: list[Any] = []
            while True:
                answer = await api.of(alice.token).get("/v1/conversations", limit=limit, **query)
                listed += answer.body["conversations"]
                if answer.body["cursor"] is None:
                    break
                query = {"cursor": answer.body["cursor"]}
            assert listed == whole.body["conversations"]
