"""The HTTP interface, route by route, in JSON and in CBOR, and each of its errors (docs/http.md)."""

from __future__ import annotations

import itertools
import secrets
import time
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID, uuid4

import cbor2
import pytest
import structlog
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from quart.testing import WebsocketResponseError

from embedded.postgres import Postgres
from embedded.redis import Redis as EmbeddedRedis
from server.http import answers, bodies, cursors, encoding
from store import revisions
from store.errors import DatabaseError
from store.page_cursor import InvalidCursor
from store.postgres.pool import Pool
from tests.people import new_device, new_direct, new_group, new_user
from tests.server.http_world import CBOR, Answer, open_api, say

both_forms = pytest.mark.parametrize("form", ["json", "cbor"])
PASSWORD = "correct horse"


async def until(ask: Callable[[], Awaitable[Any]], is_right: Callable[[Any], Any] = bool) -> None:
    """Return once what is asked, again and again, is right."""
    with trio.fail_after(5):
        while True:
            if is_right(await ask()):
                return
            await trio.sleep(0.005)


@both_forms
async def test_from_registering_to_history(pool: Pool, redis_url: str, form: str) -> None:
    """Every route once, by people who know nothing but the interface."""
    async with open_api(pool, redis_url, form) as api:
        ids = {}
        for name in ("alice", "bob"):
            answer = await api.post("/v1/users", {"username": name, "password": PASSWORD})
            assert answer.status == 201
            assert answer.body == {"user": answer.body["user"], "username": name}
            ids[name] = answer.body["user"]
        logged_in = await api.post("/v1/devices", {"username": "alice", "password": PASSWORD, "name": "Phone"})
        assert logged_in.status == 201
        assert set(logged_in.body) == {"user", "device", "token", "expires"}
        assert logged_in.body["user"] == ids["alice"]
        alice = api.of(logged_in.body["token"])
        bob = api.of((await new_device(pool, ids["bob"])).token)

        found = await alice.get("/v1/users/bob")
        assert (found.status, found.body) == (
            200,
            {"user": ids["bob"], "username": "bob", "display_name": None, "revision": 0},
        )

        made = await alice.post("/v1/conversations", {"kind": "direct", "participants": [ids["bob"]]})
        again = await bob.post("/v1/conversations", {"kind": "direct", "participants": [ids["alice"]]})
        assert (made.status, again.status) == (201, 200)
        assert made.body | {"is_request": True, "asked_by": ids["alice"]} == again.body
        assert made.body["kind"] == "direct"
        assert made.body["name"] is None
        assert made.body["last_message"] is None
        assert {each["user"] for each in made.body["participants"]} == set(ids.values())
        assert {each["username"] for each in made.body["participants"]} == {"alice", "bob"}
        direct = made.body["conversation"]

        group = await bob.post(
            "/v1/conversations", {"kind": "group", "name": "Gruppe ü", "participants": [ids["alice"]]}
        )
        assert group.status == 201
        assert (group.body["kind"], group.body["name"]) == ("group", "Gruppe ü")

        [sent] = await say(pool, direct, ids["alice"], b"\x00\xffciphertext")
        asked = await bob.get("/v1/conversations", requests="true")
        assert [each["conversation"] for each in asked.body["conversations"]] == [direct]
        assert (await bob.post(f"/v1/conversations/{UUID(bytes=direct)}/accept", {})).status == 204
        assert (await bob.get("/v1/conversations", requests="true")).body["conversations"] == []
        listed = await bob.get("/v1/conversations")
        assert [each["conversation"] for each in listed.body["conversations"]] == [direct, group.body["conversation"]]
        assert listed.body["cursor"] is None
        one = await bob.get(f"/v1/conversations/{UUID(bytes=direct)}")
        assert one.body == listed.body["conversations"][0]
        assert (one.body["unread_count"], one.body["last_seq"], one.body["first_seq"]) == (1, 1, 1)
        history = await bob.get(f"/v1/conversations/{UUID(bytes=direct)}/messages")
        message = {
            "conversation": direct,
            "seq": 1,
            "message": sent.message,
            "created": sent.created,
            "sender": ids["alice"],
            "content_type": "text",
            "content": b"\x00\xffciphertext",
            "nonce": None,
            "ephemeral_public_key": b"key",
            "is_deleted": False,
            "actor": None,
            "revision": 0,
            "edited": None,
            "reply_to": None,
        }
        assert history.body == {"messages": [message], "cursor": None}
        assert one.body["last_message"] == message
        for path in ("/healthz", "/readyz"):
            health = await api.get(path)
            assert (health.status, health.body) == (200, {"status": "ok"})


REGISTER = {"username": "carol", "password": PASSWORD}


WRONG_BODIES: list[tuple[str, Any]] = [
    ("/v1/users", {}),
    ("/v1/users", []),
    ("/v1/users", None),
    ("/v1/users", {"username": "carol"}),
    *(
        ("/v1/users", REGISTER | {"username": name})
        for name in ("", "Carol", "carol\n", "\ncarol", "a\0", "-a", "é", "a b", "a" * 33, 5, None)
    ),
    *(("/v1/users", REGISTER | {"password": password}) for password in ("short", "x" * 257, None, 12345678)),
    ("/v1/devices", {"username": "alice", "password": PASSWORD}),
    *(("/v1/devices", {"username": "alice", "password": "x", "name": name}) for name in ("", "a\0b", "x" * 129)),
    ("/v1/conversations", {}),
    ("/v1/conversations", {"kind": "other", "participants": [b"u" * 16]}),
    ("/v1/conversations", {"kind": "direct", "participants": []}),
    ("/v1/conversations", {"kind": "direct", "participants": [b"u" * 16, b"v" * 16]}),
    ("/v1/conversations", {"kind": "direct", "participants": ["me"]}),
    ("/v1/conversations", {"kind": "direct", "participants": b"u" * 16}),
    ("/v1/conversations", {"kind": "group", "participants": [b"u" * 16]}),
    ("/v1/conversations", {"kind": "group", "name": "", "participants": [b"u" * 16]}),
    ("/v1/conversations", {"kind": "group", "name": "a\0", "participants": [b"u" * 16]}),
    ("/v1/conversations", {"kind": "group", "name": "Group", "participants": []}),
    ("/v1/conversations", {"kind": "group", "name": "Group", "participants": [b"u" * 16] * 1000}),
]


@both_forms
async def test_a_body_that_is_wrong_is_invalid(pool: Pool, redis_url: str, form: str) -> None:
    async with open_api(pool, redis_url, form) as api:
        mine = api.of((await new_user(pool, "alice")).token)
        for path, body in WRONG_BODIES:
            answer = await mine.post(path, body)
            assert (answer.status, answer.code) == (400, "invalid_body"), (path, body)
        assert await pool.fetch("select count(*) from users") == [(1,)]
        assert await pool.fetch("select count(*) from conversations") == [(0,)]


UNREADABLE_BODIES = [
    (b"", "application/json"),
    (b"{", "application/json"),
    (b"\xff", "application/json"),
    (b'{"username": "\\ud800", "password": "correct horse"}', "application/json"),
    (b'{"username": "carol", "password": "correct horse"}x', "application/json"),
    (b"[" * 60_000, "application/json"),
    (b"", CBOR),
    (b"\xa1", CBOR),
    (b"\xff", CBOR),
    (b"\x81" * 60_000, CBOR),
    (b"\x9b" + b"\x7f" * 8, CBOR),
    (cbor2.dumps({"username": "carol", "password": "correct horse"}), "application/json"),
    (b'{"username": "carol", "password": "correct horse"}', CBOR),
]


async def test_a_body_that_cannot_be_read_is_invalid(pool: Pool, redis_url: str) -> None:
    async with open_api(pool, redis_url) as api:
        for data, content_type in UNREADABLE_BODIES:
            answer = await api.request("POST", "/v1/users", data=data, headers={"Content-Type": content_type})
            assert (answer.status, answer.code) == (400, "invalid_body"), (data, content_type)


def test_keys_that_hash_alike_are_refused_before_they_cost_anything() -> None:
    """Multiples of 2**61 - 1 all have the hash 0: and so have arrays that are made for it. 64 KiB took a second."""
    numbers = [(10**9 + n) * (2**61 - 1) for n in range(4300)]
    data = b"\xb9\x10\xcc" + b"".join(b"\xc2\x4c" + number.to_bytes(12) + b"\x00" for number in numbers)
    began = time.thread_time()
    with pytest.raises(encoding.InvalidBody):
        encoding.decode(data, CBOR, bodies.Register)
    assert time.thread_time() - began < 0.05


_tagged = st.builds(
    lambda tag, item: bytes([0xD8, tag]) + item,
    st.sampled_from([24, 25, 28, 29, 30, 35, 36, 37, 38, 52, 54, 100]),
    st.sampled_from(
        [b"\x00", b"\x20", b"\x82\x01\x00", b"\x61(", b"\x41x", b"\x80", b"\xa0", b"\xfb\x7f\xf8" + bytes(6)]
    ),
)
_small_tags = st.builds(
    lambda tag, item: bytes([0xC0 | tag]) + item,
    st.integers(0, 5),
    st.sampled_from(
        [b"\x00", b"\x61x", b"\x82\x1b" + b"\xff" * 8 + b"\x01", b"\x82\x3a\x7f\xff\xff\xff\x01", b"\xf9\x7e\x00"]
    ),
)


@given(st.binary(max_size=60) | _tagged | _small_tags | st.builds(lambda item: b"\x81" + item, _tagged | _small_tags))
def test_any_cbor_is_a_body_or_invalid(data: bytes) -> None:
    """A tag of dates, fractions, expressions or shared values is no fault of the server."""
    for whole in (data, b"\xa1\x68username" + data):
        try:
            encoding.decode(whole, CBOR, bodies.Register)
        except encoding.InvalidBody:
            continue


@given(
    st.text(max_size=60)
    | st.binary(max_size=60).map(lambda data: urlsafe_b64encode(data).decode())
    | (_tagged | _small_tags).map(lambda item: urlsafe_b64encode(b"\x83\x64list\x01" + item).decode())
)
def test_any_text_is_a_cursor_or_an_invalid_one(text: str) -> None:
    try:
        cursors.cursor_parts(text, "list", int, bytes)
    except InvalidCursor:
        pass
    else:
        raise AssertionError(text)


@both_forms
async def test_who_asks_without_a_good_token_is_unauthenticated(pool: Pool, redis_url: str, form: str) -> None:
    """On every route that is somebody's; before the body or the query is looked at, and with nothing told of either."""
    alice = await new_user(pool, "alice")
    conversation = UUID(bytes=await new_direct(pool, alice, await new_user(pool, "bob")))
    revoked = await new_device(pool, alice.user)
    await pool.fetch("update devices set revoked = now() where id = %s", (UUID(bytes=revoked.device),))
    async with open_api(pool, redis_url, form) as api:
        for header in (
            "",
            "Bearer",
            "Bearer ",
            "Bearer x",
            f"Basic {alice.token}",
            alice.token,
            f"Bearer {alice.token} x",
            "Bearer \xff\xe9",
            "Bearer " + "x" * 5000,
        ):
            headers = {"Authorization": header} if header else {}
            for method, path in (
                ("GET", "/v1/users/bob"),
                ("GET", "/v1/conversations?limit=none"),
                ("POST", "/v1/conversations"),
                ("GET", f"/v1/conversations/{conversation}"),
                ("GET", f"/v1/conversations/{conversation}/messages?cursor=x"),
            ):
                answer = await api.request(method, path, headers=headers)
                assert (answer.status, answer.code) == (401, "unauthenticated"), (header, method, path)


@both_forms
async def test_names_and_passwords(pool: Pool, redis_url: str, form: str) -> None:
    async with open_api(pool, redis_url, form) as api:
        assert (await api.post("/v1/users", REGISTER)).status == 201
        taken = await api.post("/v1/users", REGISTER | {"password": "another one"})
        assert (taken.status, taken.code) == (409, "username_taken")
        for name, password in (
            ("carol", "wrong"),
            ("carol", ""),
            ("nobody", PASSWORD),
            ("", PASSWORD),
            ("a\0b", PASSWORD),
            ("Carol", PASSWORD),
            ("x" * 10_000, PASSWORD),
            ("carol", "x" * 10_000),
            ("carol", "a\0"),
        ):
            wrong = await api.post("/v1/devices", {"username": name, "password": password, "name": "Phone"})
            assert (wrong.status, wrong.code) == (401, "wrong_credentials"), name
        assert await pool.fetch("select count(*) from devices") == [(0,)]


async def test_names_are_unique_whoever_is_first(pool: Pool, redis_url: str) -> None:
    async with open_api(pool, redis_url) as api:
        statuses: list[int] = []

        async def register() -> None:
            statuses.append((await api.post("/v1/users", REGISTER)).status)

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(register)
        assert sorted(statuses) == [201, 409, 409, 409, 409]


async def test_a_name_that_nobody_has_is_unknown(pool: Pool, redis_url: str) -> None:
    async with open_api(pool, redis_url) as api:
        mine = api.of((await new_user(pool, "alice")).token)
        for name in ("nobody", "a%00b", "%00", "%ff", "%ed%a0%80", "a%20b", "x" * 3000, "Alice", "%E2%80%AE"):
            answer = await mine.get(f"/v1/users/{name}")
            assert (answer.status, answer.code) == (404, "unknown_user"), name


@both_forms
async def test_unknown_participants_make_nothing(pool: Pool, redis_url: str, form: str) -> None:
    alice, bob = await new_user(pool, "alice"), await new_user(pool, "bob")
    async with open_api(pool, redis_url, form) as api:
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


async def test_two_who_make_the_same_direct_conversation_at_once_get_one(pool: Pool, redis_url: str) -> None:
    """Ten each, from both sides: one is new, all are the same."""
    alice, bob = await new_user(pool, "alice"), await new_user(pool, "bob")
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


@both_forms
async def test_what_is_not_yours_looks_like_nothing(pool: Pool, redis_url: str, form: str) -> None:
    alice, bob, eve = [await new_user(pool, name) for name in ("alice", "bob", "eve")]
    theirs = await new_direct(pool, alice, bob)
    await say(pool, theirs, alice.user, b"secret")
    async with open_api(pool, redis_url, form) as api:
        spy = api.of(eve.token)
        for path in ("", "/messages", "/messages?after_seq=0"):
            one = await spy.get(f"/v1/conversations/{UUID(bytes=theirs)}{path}")
            other = await spy.get(f"/v1/conversations/{uuid4()}{path}")
            assert (one.status, one.code) == (404, "not_found")
            assert (one.status, one.body) == (other.status, other.body)
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


@pytest.mark.parametrize(("path", "status"), [("/v1/socket", 404), ("/", 404), ("/v1/conversations", 405)])
@both_forms
async def test_a_websocket_handshake_is_refused_like_a_request(
    pool: Pool, redis_url: str, form: str, path: str, status: int
) -> None:
    """It belongs to `socket`: a client that takes one port for the other must not fill the log."""
    async with open_api(pool, redis_url, form) as api:
        headers = {"Accept": CBOR if form == "cbor" else "*/*"}
        with structlog.testing.capture_logs() as logs:
            async with api.app.test_client().websocket(path, headers=headers) as websocket:
                with pytest.raises(WebsocketResponseError) as refused:
                    await websocket.receive()
        response = refused.value.response
        answer = Answer(response.status_code, response.headers, await response.get_data(as_text=False))
    assert (answer.status, answer.code) == (status, "not_found" if status == 404 else "method_not_allowed")
    assert [log for log in logs if log["log_level"] != "info"] == []


@both_forms
async def test_wrong_methods_are_named(pool: Pool, redis_url: str, form: str) -> None:
    async with open_api(pool, redis_url, form) as api:
        for method, path in (
            ("GET", "/v1/users"),
            ("DELETE", "/v1/devices"),
            ("PUT", "/v1/conversations"),
            ("POST", f"/v1/conversations/{uuid4()}"),
            ("POST", f"/v1/conversations/{uuid4()}/messages"),
            ("POST", "/healthz"),
            ("PATCH", "/readyz"),
        ):
            answer = await api.request(method, path)
            assert (answer.status, answer.code) == (405, "method_not_allowed")


async def test_a_body_is_bounded(pool: Pool, redis_url: str) -> None:
    async with open_api(pool, redis_url) as api:
        for size, status in ((64 * 1024, 400), (64 * 1024 + 1, 413), (10 * 1024 * 1024, 413)):
            answer = await api.request("POST", "/v1/users", data=b" " * size)
            assert (answer.status, answer.code) == (status, "body_too_large" if status == 413 else "invalid_body")


async def test_the_largest_group_fits(pool: Pool, redis_url: str) -> None:
    alice = await new_user(pool, "alice")
    users = [secrets.token_bytes(16) for _ in range(999)]
    await pool.fetch(
        "insert into users (id, username, password_hash)"
        " select id, 'u' || n, '' from unnest(%s::uuid[]) with ordinality as t(id, n)",
        ([UUID(bytes=user) for user in users],),
    )
    for form in ("json", "cbor"):
        async with open_api(pool, redis_url, form) as api:
            body = {"kind": "group", "name": "ü" * 128, "participants": users}
            answer = await api.of(alice.token).post("/v1/conversations", body)
            assert answer.status == 201
            assert (len(answer.body["participants"]), answer.body["participant_count"]) == (1, 1000)


WRONG_LIMITS = ("0", "101", "-1", "", "ten", "1.0", "%2B5", "%D9%A3", "9" * 5000, "1%00", "%201")
WRONG_AROUND_SEQS = ("around_seq=-1", "around_seq=x", f"around_seq={2**63}", "around_seq=1&cursor=x")
WRONG_AFTER_SEQS = ("after_seq=-1", "after_seq=", "after_seq=x", f"after_seq={2**63}", "after_seq=0&cursor=x")


async def test_a_query_out_of_bounds_is_named(pool: Pool, redis_url: str) -> None:
    alice = await new_user(pool, "alice")
    history = f"/v1/conversations/{UUID(bytes=await new_direct(pool, alice, await new_user(pool, 'bob')))}/messages"
    async with open_api(pool, redis_url) as api:
        mine = api.of(alice.token)
        for path in ("/v1/conversations", history):
            for limit in WRONG_LIMITS:
                answer = await mine.get(f"{path}?limit={limit}")
                assert (answer.status, answer.code) == (400, "invalid_query"), limit
                assert "limit" in answer.body["error"]["detail"]
        for query in WRONG_AFTER_SEQS:
            answer = await mine.get(f"{history}?{query}")
            assert (answer.status, answer.code) == (400, "invalid_query"), query
            assert "after_seq" in answer.body["error"]["detail"]
        for query in WRONG_AROUND_SEQS:
            answer = await mine.get(f"{history}?{query}")
            assert (answer.status, answer.code) == (400, "invalid_query"), query
            assert "around_seq" in answer.body["error"]["detail"]
        beyond = await mine.get(f"{history}?after_seq={2**63 - 1}")
        assert (beyond.status, beyond.body) == (200, {"messages": [], "cursor": None})


@both_forms
async def test_pages_of_history_are_the_whole_of_it_in_both_directions(pool: Pool, redis_url: str, form: str) -> None:
    alice = await new_user(pool, "alice")
    conversation = await new_direct(pool, alice, await new_user(pool, "bob"))
    await say(pool, conversation, alice.user, *[b"%d" % n for n in range(1, 8)])
    starts: list[tuple[dict[str, Any], list[int]]] = [
        ({}, [7, 6, 5, 4, 3, 2, 1]),
        ({"after_seq": 0}, [1, 2, 3, 4, 5, 6, 7]),
        ({"after_seq": 5}, [6, 7]),
    ]
    async with open_api(pool, redis_url, form) as api:
        path = f"/v1/conversations/{UUID(bytes=conversation)}/messages"
        for limit, (start, expected) in itertools.product((1, 2, 3, 7, 100), starts):
            query, seqs = start, []
            while query is not None:
                answer = await api.of(alice.token).get(path, limit=limit, **query)
                assert len(answer.body["messages"]) <= limit
                seqs += [message["seq"] for message in answer.body["messages"]]
                query = {"cursor": answer.body["cursor"]} if answer.body["cursor"] is not None else None
            assert seqs == expected


async def test_from_around_a_message_history_goes_on_in_both_directions(pool: Pool, redis_url: str) -> None:
    alice = await new_user(pool, "alice")
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


@pytest.mark.parametrize("form", ["json", "cbor"])
@pytest.mark.parametrize("character", ["\U0001f4ac", "\x01"])
async def test_a_page_is_bounded_in_bytes_whatever_is_in_it(
    pool: Pool, redis_url: str, form: str, character: str
) -> None:
    """The largest messages, display names (also such as JSON escapes) and groups. All of it comes, in more pages."""
    people = [await new_user(pool, f"user{n}") for n in range(32)]
    await pool.fetch("update users set display_name = repeat(%s, 128)", (character,))
    groups = [await new_group(pool, *people) for _ in range(40)]
    for group in groups:
        await say(pool, group, people[0].user, b"x" * 65536)
    await say(pool, groups[0], people[0].user, *[bytes([n]) * 65536 for n in range(40)])
    async with open_api(pool, redis_url, form) as api:
        asking = api.of(people[0].token)
        for path, what, count in (
            ("/v1/conversations", "conversations", 40),
            (f"/v1/conversations/{UUID(bytes=groups[0])}/messages", "messages", 41),
        ):
            found, cursor = [], None
            while cursor or not found:
                answer = await asking.get(path, limit=100, **({"cursor": cursor} if cursor else {}))
                assert len(answer.data) <= answers.MAX_PAGE_BYTES * 1.1
                found += answer.body[what]
                cursor = answer.body["cursor"]
            assert len(found) == len({(each["conversation"], each.get("seq")) for each in found}) == count


@pytest.mark.parametrize("form", ["json", "cbor"])
@pytest.mark.parametrize("size", [3, 33])
async def test_who_takes_part_is_read_in_pages(pool: Pool, redis_url: str, form: str, size: int) -> None:
    """Everybody once, with names; marks where few take part, and the reader's own."""
    people = [await new_user(pool, f"user{n}") for n in range(size)]
    group = await new_group(pool, *people)
    stranger = await new_user(pool, "stranger")
    async with open_api(pool, redis_url, form) as api:
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


async def test_pages_of_the_list_are_the_whole_of_it(pool: Pool, redis_url: str) -> None:
    """Also where conversations moved in the same microsecond: the id decides."""
    alice = await new_user(pool, "alice")
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


async def test_a_cursor_is_good_where_it_came_from_and_nowhere_else(pool: Pool, redis_url: str) -> None:
    alice = await new_user(pool, "alice")
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


def http_scope(method: str, path: str, token: str, length: int) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.1"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "server": ("test", 80),
        "client": ("test", 1),
        "headers": [(b"authorization", b"Bearer " + token.encode()), (b"content-length", b"%d" % length)],
        "extensions": {},
    }


async def test_a_client_that_hangs_up_does_not_lose_a_write(pool: Pool, redis_url: str) -> None:
    """Its end cancels the handler in the middle of the insert; what was begun is finished all the same."""
    alice, bob = await new_user(pool, "alice"), await new_user(pool, "bob")
    hung_up, answered = trio.Event(), trio.Event()
    body = b'{"kind": "direct", "participants": ["%s"]}' % str(UUID(bytes=bob.user)).encode()
    incoming = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        if incoming:
            return incoming.pop()
        await hung_up.wait()
        return {"type": "http.disconnect"}

    async def send(_: dict[str, Any]) -> None: ...

    async with open_api(pool, redis_url) as api, pool.connection() as lock, trio.open_nursery() as nursery:
        await lock.query("begin")
        await lock.query("lock table conversations in exclusive mode")

        async def ask() -> None:
            await api.app(http_scope("POST", "/v1/conversations", alice.token, len(body)), receive, send)
            answered.set()

        nursery.start_soon(ask)
        await until(lambda: pool.fetch("select 1 from pg_locks where not granted"))
        hung_up.set()
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert not answered.is_set()
        await lock.query("commit")
        with trio.fail_after(5):
            await answered.wait()
        assert await pool.fetch("select count(*) from participants") == [(2,)]


async def test_without_postgres_requests_are_refused_as_retryable_and_then_served_again(
    own_postgres: Postgres, redis_url: str
) -> None:
    pool = Pool(own_postgres.url, 4)
    alice = await new_user(pool, "alice")
    async with open_api(pool, redis_url) as api:
        mine = api.of(alice.token)
        assert (await mine.get("/v1/conversations")).status == 200
        own_postgres.stop()
        with structlog.testing.capture_logs() as logs:
            for method, path in (("GET", "/v1/conversations"), ("GET", "/readyz"), ("POST", "/v1/conversations")):
                answer = await mine.request(method, path)
                assert (answer.status, answer.code) == (503, "unavailable")
                assert answer.headers["Retry-After"] == "1"
                assert "127.0.0.1" not in answer.body["error"]["detail"]
            register = await mine.post("/v1/users", REGISTER)
            assert (register.status, register.code) == (503, "unavailable")
            assert (await mine.get("/healthz")).status == 200
        assert {line["log_level"] for line in logs} == {"warning"}
        assert f"127.0.0.1:{own_postgres.port}" in logs[0]["error"]
        own_postgres.start()
        assert (await mine.get("/v1/conversations")).status == 200
        assert (await mine.post("/v1/users", REGISTER)).status == 201
    pool.close()


async def test_without_redis_history_is_served_but_the_process_is_not_ready(
    pool: Pool, own_redis: EmbeddedRedis
) -> None:
    alice = await new_user(pool, "alice")
    async with open_api(pool, own_redis.url) as api:

        async def status() -> int:
            return (await api.get("/readyz")).status

        await until(status, lambda got: got == 200)
        own_redis.stop()
        await until(status, lambda got: got == 503)
        assert (await api.get("/readyz")).code == "unavailable"
        assert (await api.of(alice.token).get("/v1/conversations")).status == 200


@pytest.mark.parametrize("fault", [ZeroDivisionError("the inside"), DatabaseError("the inside", "42703")])
async def test_a_fault_is_logged_and_named_without_its_inside(
    pool: Pool, redis_url: str, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    alice = await new_user(pool, "alice")

    async def fail(*_: Any, **__: Any) -> None:
        raise fault

    monkeypatch.setattr("store.conversations.first_page", fail)
    async with open_api(pool, redis_url) as api:
        with structlog.testing.capture_logs() as logs:
            answer = await api.of(alice.token).get("/v1/conversations")
        assert (answer.status, answer.code) == (500, "internal")
        assert b"inside" not in answer.data
        logged = [(line["event"], line["exc_info"]) for line in logs if line["log_level"] == "error"]
        assert logged == [("request_failed", fault)]


@both_forms
async def test_devices_are_listed_refreshed_and_revoked(pool: Pool, redis_url: str, form: str) -> None:
    alice, bob = await new_user(pool, "alice"), await new_user(pool, "bob")
    tablet = await new_device(pool, alice.user, "Tablet")
    async with open_api(pool, redis_url, form) as api:
        mine, others = api.of(alice.token), api.of(bob.token)
        listed = await mine.get("/v1/devices")
        assert listed.status == 200
        assert [(each["device"], each["name"]) for each in listed.body["devices"]] == [
            (tablet.device, "Tablet"),
            (alice.device, "test"),
        ]
        assert all(each["created"] < each["expires"] for each in listed.body["devices"])

        fresh = await mine.post("/v1/tokens", {})
        assert fresh.status == 201
        assert fresh.body["expires"] > listed.body["devices"][1]["expires"]
        for token in (fresh.body["token"], alice.token):
            assert (await api.of(token).get("/v1/devices")).status == 200

        path = f"/v1/devices/{UUID(bytes=tablet.device)}"
        for who, where in ((others, path), (mine, f"/v1/devices/{uuid4()}")):
            refused = await who.request("DELETE", where)
            assert (refused.status, refused.code) == (404, "unknown_device")
        for _ in range(2):
            response = await api.app.test_client().open(
                path, method="DELETE", headers={"Authorization": f"Bearer {alice.token}"}
            )
            assert (response.status_code, await response.get_data()) == (204, b"")
        assert [each["device"] for each in (await mine.get("/v1/devices")).body["devices"]] == [alice.device]
        revoked = await api.of(tablet.token).get("/v1/devices")
        assert (revoked.status, revoked.code) == (401, "device_revoked")
        await pool.fetch(
            "update devices set expires = now(), former_expires = now() where id = %s", (UUID(bytes=alice.device),)
        )
        for token in (fresh.body["token"], alice.token):
            expired = await api.of(token).post("/v1/tokens", {})
            assert (expired.status, expired.code) == (401, "token_expired")


@both_forms
async def test_history_and_lists_show_edits_and_tombstones(pool: Pool, redis_url: str, form: str) -> None:
    alice, bob = await new_user(pool, "alice"), await new_user(pool, "bob")
    direct = await new_direct(pool, alice, bob)
    [first] = await say(pool, direct, alice.user, b"first")
    await say(pool, direct, alice.user, b"second")
    _, revision, edited = await revisions.edit(pool, alice.user, direct, 1, 0, "text", b"edited", None, None)
    await revisions.delete_for_everyone(pool, alice.user, direct, 2)
    async with open_api(pool, redis_url, form) as api:
        mine = api.of(bob.token)
        page = (await mine.get(f"/v1/conversations/{UUID(bytes=direct)}/messages", after_seq=0)).body["messages"]
        shown = [(each["content"], each["revision"], each["edited"], each["is_deleted"]) for each in page]
        assert shown == [(b"edited", revision, edited, False), (None, None, None, True)]
        assert page[0]["message"] == first.message
        assert page[1]["sender"] == alice.user
        [listed] = (await mine.get("/v1/conversations")).body["conversations"]
        assert listed["last_message"] == page[1]
