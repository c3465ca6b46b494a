"""History and its pages over HTTP, and cursors of all pages."""

from __future__ import annotations

import itertools
from typing import Any
from uuid import UUID

import pytest

from client.http import Credentials
from server.http import cursors
from server.http.answers.messages import MAX_PAGE_BYTES
from store import revisions
from store.postgres.pool import Pool
from tests.people import new_direct, new_group, new_user
from tests.server.http_world import Answer, both_encodings, open_api, say

WRONG_LIMITS = ("0", "101", "-1", "", "ten", "1.0", "%2B5", "%D9%A3", "9" * 5000, "1%00", "%201")


WRONG_AROUND_SEQS = ("around_seq=-1", "around_seq=x", f"around_seq={2**63}", "around_seq=1&cursor=x")


WRONG_AFTER_SEQS = ("after_seq=-1", "after_seq=", "after_seq=x", f"after_seq={2**63}", "after_seq=0&cursor=x")


async def test_a_query_out_of_bounds_is_named(pool: Pool, redis_url: str, alice: Credentials) -> None:
    history = f"/v1/conversations/{UUID(bytes=await new_direct(pool, alice, await new_user(pool, 'bob')))}/messages"
    async with open_api(pool, redis_url) as api:
        mine = api.of(alice.token)
        for path in ("/v1/conversations", history):
            for limit in WRONG_LIMITS:
                answer = await mine.get(f"{path}?limit={limit}")
                assert (answer.status, answer.code) == (400, "invalid_query"), limit
                assert "limit" in answer.body["detail"]
        for query in WRONG_AFTER_SEQS:
            answer = await mine.get(f"{history}?{query}")
            assert (answer.status, answer.code) == (400, "invalid_query"), query
            assert "after_seq" in answer.body["detail"]
        for query in WRONG_AROUND_SEQS:
            answer = await mine.get(f"{history}?{query}")
            assert (answer.status, answer.code) == (400, "invalid_query"), query
            assert "around_seq" in answer.body["detail"]
        beyond = await mine.get(f"{history}?after_seq={2**63 - 1}")
        assert (beyond.status, beyond.body) == (200, {"messages": [], "cursor": None})


@both_encodings
async def test_pages_of_history_are_the_whole_of_it_in_both_directions(
    pool: Pool, redis_url: str, alice: Credentials, encoding: str
) -> None:
    conversation = await new_direct(pool, alice, await new_user(pool, "bob"))
    await say(pool, conversation, alice.user, *[b"%d" % n for n in range(1, 8)])
    starts: list[tuple[dict[str, Any], list[int]]] = [
        ({}, [7, 6, 5, 4, 3, 2, 1]),
        ({"after_seq": 0}, [1, 2, 3, 4, 5, 6, 7]),
        ({"after_seq": 5}, [6, 7]),
    ]
    async with open_api(pool, redis_url, encoding) as api:
        path = f"/v1/conversations/{UUID(bytes=conversation)}/messages"
        for limit, (start, expected) in itertools.product((1, 2, 3, 7, 100), starts):
            query, seqs = start, []
            while query is not None:
                answer = await api.of(alice.token).get(path, limit=limit, **query)
                assert len(answer.body["messages"]) <= limit
                seqs += [message["seq"] for message in answer.body["messages"]]
                query = {"cursor": answer.body["cursor"]} if answer.body["cursor"] is not None else None
            assert seqs == expected


async def test_from_around_a_message_history_goes_on_in_both_directions(
    pool: Pool, redis_url: str, alice: Credentials
) -> None:
    conversation = await new_direct(pool, alice, await new_user(pool, "bob"))
    await say(pool, conversation, alice.user, *[b"%d" % n for n in range(1, 10)])
    async with open_api(pool, redis_url) as api:
        path, mine = f"/v1/conversations/{UUID(bytes=conversation)}/messages", api.of(alice.token)

        async def seqs(**query: Any) -> tuple[list[int], Answer]:
            answer = await mine.get(path, limit=3, **query)
            return [message["seq"] for message in answer.body["messages"]], answer

        middle, answer = await seqs(around_seq=5)
        assert middle == [4, 5, 6]
        assert (await seqs(cursor=answer.body["cursor"]))[0] == [7, 8, 9]
        assert (await seqs(cursor=answer.body["older"]))[0] == [3, 2, 1]
        first, answer = await seqs(around_seq=0)
        assert (first, answer.body["older"], answer.body["cursor"] is None) == ([1], None, False)
        assert (await seqs(around_seq=99))[1].body["cursor"] is None


@both_encodings
@pytest.mark.parametrize("character", ["\U0001f4ac", "\x01"])
async def test_a_page_is_bounded_in_bytes_whatever_is_in_it(
    pool: Pool, redis_url: str, encoding: str, character: str
) -> None:
    """The largest messages, display names (with characters that JSON escapes) and groups come in more pages."""
    people = [await new_user(pool, f"user{n}") for n in range(32)]
    await pool.fetch("update users set display_name = repeat(%s, 128)", (character,))
    groups = [await new_group(pool, *people) for _ in range(40)]
    for group in groups:
        await say(pool, group, people[0].user, b"x" * 65536)
    await say(pool, groups[0], people[0].user, *[bytes([n]) * 65536 for n in range(40)])
    async with open_api(pool, redis_url, encoding) as api:
        asking = api.of(people[0].token)
        for path, what, count in (
            ("/v1/conversations", "conversations", 40),
            (f"/v1/conversations/{UUID(bytes=groups[0])}/messages", "messages", 41),
        ):
            found, cursor = [], None
            while cursor or not found:
                answer = await asking.get(path, limit=100, **({"cursor": cursor} if cursor else {}))
                assert len(answer.data) <= MAX_PAGE_BYTES
                found += answer.body[what]
                cursor = answer.body["cursor"]
            assert len(found) == len({(each["conversation"], each.get("seq")) for each in found}) == count


async def test_a_cursor_is_good_where_it_came_from_and_nowhere_else(
    pool: Pool, redis_url: str, alice: Credentials
) -> None:
    one, other = await new_group(pool, alice), await new_group(pool, alice)
    for conversation in (one, other):
        await say(pool, conversation, alice.user, b"1", b"2")
    async with open_api(pool, redis_url) as api:
        mine = api.of(alice.token)

        def history(conversation: bytes) -> str:
            return f"/v1/conversations/{UUID(bytes=conversation)}/messages"

        of_list = (await mine.get("/v1/conversations", limit=1)).body["cursor"]
        of_one = (await mine.get(history(one), limit=1)).body["cursor"]
        after = (await mine.get(history(one), limit=1, after_seq=0)).body["cursor"]
        assert (await mine.get(history(one), cursor=of_one)).status == 200
        bad = [
            ("/v1/conversations", of_one),
            (history(one), of_list),
            (history(other), of_one),
            (history(other), after),
        ]
        garbage = [
            "",
            "x",
            "=",
            "é",
            "\0",
            of_one[:-2],
            "A" * 6000,
            cursors.cursor_text("list"),
            cursors.cursor_text("list", 2**63, one),
            cursors.cursor_text("list", -1, one),
            cursors.cursor_text("list", 1, one + b"x"),
            cursors.cursor_text("before", one, 2**64),
            cursors.cursor_text("before", one, 1, 1),
            cursors.cursor_text("after", one, -1),
        ]
        bad += [(path, text) for path in ("/v1/conversations", history(one)) for text in garbage]
        for path, cursor in bad:
            answer = await mine.get(path, cursor=cursor)
            assert (answer.status, answer.code) == (400, "invalid_cursor"), (path, cursor)
        greatest = cursors.cursor_text("list", 2**63 - 1, b"\xff" * 16)
        assert len((await mine.get("/v1/conversations", cursor=greatest)).body["conversations"]) == 2


@both_encodings
async def test_history_and_lists_show_edits_and_tombstones(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, direct: bytes, encoding: str
) -> None:
    [first] = await say(pool, direct, alice.user, b"first")
    await say(pool, direct, alice.user, b"second")
    _, revision, edited = await revisions.edit(pool, alice.user, direct, 1, 0, "text", b"edited", None, None)
    await revisions.delete_for_everyone(pool, alice.user, direct, 2)
    async with open_api(pool, redis_url, encoding) as api:
        mine = api.of(bob.token)
        page = (await mine.get(f"/v1/conversations/{UUID(bytes=direct)}/messages", after_seq=0)).body["messages"]
        shown = [(each["content"], each["revision"], each["edited"], each["is_deleted"]) for each in page]
        assert shown == [(b"edited", revision, edited, False), (None, None, None, True)]
        assert page[0]["message"] == first.message
        assert page[1]["sender"] == alice.user
        [listed] = (await mine.get("/v1/conversations")).body["conversations"]
        assert listed["last_message"] == page[1]
