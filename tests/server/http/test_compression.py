"""Which answers are compressed, with which coding, and how much that saves."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import Any
from uuid import UUID

import brotli
import cbor2
import msgspec
import pytest
from isal import isal_zlib

from client.http import Credentials
from protocol.ids import uuid7
from server.http.compression import CODINGS, MIN_BYTES, Choice, Coding, CompressedForms, chosen, compressed, zstd
from server.http.exchange import SECRETS, has_secret
from server.http.routes import ROUTES
from store.messages import Committed, NewMessage, send
from store.participant_lists import ParticipantsCache
from store.postgres.pool import Pool
from tests.people import make_contacts, new_direct, new_user
from tests.rows import each_row
from tests.server.http_world import CBOR, PASSWORD, REGISTER, Api, open_api

DECODERS: dict[str, Callable[[bytes], bytes]] = {
    "zstd": zstd.decompress,
    "br": brotli.decompress,
    "gzip": lambda data: bytes(isal_zlib.decompress(data, wbits=31)),
}
each_coding = pytest.mark.parametrize("coding", CODINGS)
NAMES = ("Anna Müller", "Ben Okafor", "Clara Jensen", "Dmitri Wolkow", "Elena Rossi", "王小明", "Farid Haddad")


@each_row(
    ("accept_encoding", "choice"),
    [
        ("", (None, False)),
        ("gzip, deflate, br, zstd", ("zstd", False)),
        ("gzip, deflate, br", ("br", False)),
        ("gzip", ("gzip", False)),
        ("GZIP", ("gzip", False)),
        (" gzip ; q=0.5 , br;q=0.4 ", ("gzip", False)),
        ("br;q=0.9, zstd;q=0.9, gzip;q=0.899", ("zstd", False)),
        ("br;q=0, gzip", ("gzip", False)),
        ("*", ("zstd", False)),
        ("*;q=0.1", ("zstd", False)),
        ("zstd;q=0, *", ("br", False)),
        ("gzip;q=0.2, *;q=0.1", ("gzip", False)),
        ("*;q=0", (None, False)),
        ("identity", (None, False)),
        ("identity, gzip", ("gzip", False)),
        ("identity;q=1, gzip;q=0.5", (None, False)),
        ("identity;q=0.5, gzip;q=0.6", ("gzip", False)),
        ("identity;q=0, gzip", ("gzip", True)),
        ("gzip, *;q=0", ("gzip", True)),
        ("identity;q=0", (None, False)),
        ("identity;q=0, deflate", (None, False)),
        ("deflate, compress", (None, False)),
        ("br;q=2, gzip", ("gzip", False)),
        ("br;q=0.0001, gzip;level=9, ;;,q", (None, False)),
    ],
)
def test_the_coding_is_the_one_that_the_client_likes_best(accept_encoding: str, choice: Choice) -> None:
    assert chosen(accept_encoding) == choice


@each_coding
def test_equal_bodies_have_equal_forms_which_hold_the_body(coding: Coding) -> None:
    for body in (b"", b"x", b"text " * 1000, random.Random(1).randbytes(5000), b"x" * 2**20):
        forms = [CODINGS[coding](body) for _ in range(2)]
        assert forms[0] == forms[1]
        assert DECODERS[coding](forms[0]) == body


@each_coding
def test_a_short_body_goes_out_as_it_is_unless_the_client_refuses_that(coding: Coding) -> None:
    short, longer = b"x" * MIN_BYTES, b"x" * (MIN_BYTES + 1)
    assert compressed(short, Choice(coding, False), may_be_dense=False) is None
    assert compressed(longer, Choice(coding, False), may_be_dense=False) is not None
    assert compressed(short, Choice(coding, True), may_be_dense=False) is not None


@each_coding
def test_a_body_that_hardly_shrinks_goes_out_as_it_is(coding: Coding) -> None:
    noise = random.Random(1).randbytes(100_000)
    for may_be_dense in (False, True):
        assert compressed(noise, Choice(coding, False), may_be_dense=may_be_dense) is None
    form = compressed(noise, Choice(coding, True), may_be_dense=True)
    assert form is not None
    assert len(form) < len(noise) + 200


def test_a_body_that_is_dense_in_two_places_is_not_compressed_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = random.Random(1)
    dense = noise.randbytes(100_000)
    half = noise.randbytes(50_000) + b"text " * 10_000
    tried: list[int] = []
    monkeypatch.setitem(CODINGS, "br", lambda body: tried.append(len(body)) or brotli.compress(body, quality=1))
    assert compressed(dense, Choice("br", False), may_be_dense=True) is None
    assert tried == []
    assert compressed(half, Choice("br", False), may_be_dense=True) is not None
    assert tried == [len(half)]


def test_a_form_is_made_once_and_all_forms_together_are_no_longer_than_the_body(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    body = random.Random(1).randbytes(3000).hex().encode()
    made: list[str] = []
    for coding, make in list(CODINGS.items()):
        monkeypatch.setitem(CODINGS, coding, lambda body, c=coding, make=make: made.append(c) or make(body))
    forms = CompressedForms()
    for coding in ("zstd", "zstd", "br", "zstd", "br"):
        form = forms.of(body, Choice(coding, False), may_be_dense=False)
        assert form is not None
        assert DECODERS[coding](form) == body
    # Each form has more than half of the body, so one is kept at a time.
    assert made == ["zstd", "br", "zstd", "br"]
    assert forms.size() <= len(body)
    noise = random.Random(1).randbytes(3000)
    kept = CompressedForms()
    made.clear()
    assert [kept.of(noise, Choice("br", False), may_be_dense=False) for _ in range(3)] == [None] * 3
    assert made == ["br"]


async def a_user_with_a_full_list(pool: Pool, *, conversations: int = 20) -> tuple[Credentials, list[bytes]]:
    """A user with direct conversations, in each a message of random bytes, as ciphertext is; padded, as clients do."""
    noise = random.Random(1)
    user, found = await new_user(pool, "user"), []
    for n in range(conversations):
        other = await new_user(pool, f"{'abcdefg'[n % 7]}.{n}")
        await pool.fetch(
            "update users set display_name = %(name)s where id = %(id)s::uuid returning 1",
            {"name": f"{NAMES[n % len(NAMES)]} {n}", "id": other.user.hex()},
        )
        found.append(await new_direct(pool, user, other))
        await say_noise(pool, found[-1], [user, other], [noise.choice([64, 128, 256])], noise)
    return user, found


async def say_noise(
    pool: Pool, conversation: bytes, senders: list[Credentials], sizes: list[int], noise: random.Random
) -> None:
    batch = [
        NewMessage(
            conversation,
            senders[n % len(senders)].user,
            uuid7(2**47, noise.randbytes(10)),
            "text",
            noise.randbytes(size),
            noise.randbytes(24),
            noise.randbytes(32),
        )
        for n, size in enumerate(sizes)
    ]
    assert all(isinstance(outcome, Committed) for outcome in await send(pool, ParticipantsCache(), batch))


async def raw(api: Api, path: str, method: str = "GET", **headers: str) -> tuple[int, Any, bytes]:
    """Status, headers and body of an answer, as they are on the wire."""
    sent = {
        "Authorization": f"Bearer {api.token}",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    if api.encoding == "cbor":
        sent["Accept"] = CBOR
    response = await api.app.test_client().open(path, method=method, headers=sent)
    return response.status_code, response.headers, await response.get_data()


async def test_a_page_that_is_kept_is_compressed_once(
    pool: Pool, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    user, conversations = await a_user_with_a_full_list(pool, conversations=3)
    made: list[int] = []
    compress = CODINGS["br"]
    monkeypatch.setitem(CODINGS, "br", lambda body: made.append(len(body)) or compress(body))
    history = f"/v1/conversations/{UUID(bytes=conversations[0])}/messages"
    await say_noise(pool, conversations[0], [user], [64] * 9, random.Random(4))
    async with open_api(pool, redis_url) as api:
        # The first answer after a process has connected may not be kept.
        await raw(api.of(user.token), "/v1/conversations")
        for path in ("/v1/conversations", history, "/openapi.json"):
            made.clear()
            answers = [await raw(api.of(user.token), path, Accept_Encoding="br") for _ in range(3)]
            assert len({body for *_, body in answers}) == 1
            # The document is the same for all applications of this process: an earlier test may have compressed it.
            assert len(made) == 1 or (path == "/openapi.json" and not made), path


@pytest.mark.parametrize(("encoding", "least"), [("json", 0.6), ("cbor", 0.5)])
async def test_a_list_and_a_page_of_short_messages_shrink_by_more_than_a_third(
    pool: Pool, redis_url: str, encoding: str, least: float
) -> None:
    """The shares of a list that each coding saves, at least; those of history are lower, since ciphertext is random."""
    user, conversations = await a_user_with_a_full_list(pool)
    noise = random.Random(2)
    await say_noise(pool, conversations[0], [user], [noise.choice([64, 128, 256]) for _ in range(50)], noise)
    decode: Any = cbor2.loads if encoding == "cbor" else msgspec.json.decode
    async with open_api(pool, redis_url, encoding) as api:
        for path, saving in (
            ("/v1/conversations", least),
            (f"/v1/conversations/{UUID(bytes=conversations[0])}/messages", least * 2 / 3),
        ):
            status, headers, plain = await raw(api.of(user.token), path)
            assert (status, headers.get("Content-Encoding")) == (200, None)
            for coding, restored in DECODERS.items():
                for _ in range(2):
                    status, headers, body = await raw(api.of(user.token), path, Accept_Encoding=coding)
                    assert (status, headers["Content-Encoding"]) == (200, coding)
                    assert int(headers["Content-Length"]) == len(body)
                    assert restored(body) == plain
                    assert len(body) < len(plain) * (1 - saving), (path, coding, len(body) / len(plain))
            assert decode(plain)["cursor"] is None or "messages" in path


async def test_a_page_of_long_messages_shrinks_in_json_alone(pool: Pool, redis_url: str) -> None:
    """Base64 has 6 bits in each byte. Bytes of ciphertext are as short as they can be."""
    user, [conversation] = await a_user_with_a_full_list(pool, conversations=1)
    await say_noise(pool, conversation, [user], [4000] * 20, random.Random(3))
    path = f"/v1/conversations/{UUID(bytes=conversation)}/messages"
    async with open_api(pool, redis_url) as api:
        for coding in CODINGS:
            _, headers, _ = await raw(api.of(user.token), path, Accept_Encoding=coding)
            assert headers["Content-Encoding"] == coding
            api.encoding = "cbor"
            _, headers, body = await raw(api.of(user.token), path, Accept_Encoding=coding)
            assert headers.get("Content-Encoding") is None
            assert len(body) > 80_000
            api.encoding = "json"


async def test_answers_that_could_be_compressed_say_so_and_a_client_may_forbid_it(pool: Pool, redis_url: str) -> None:
    user, _ = await a_user_with_a_full_list(pool, conversations=5)
    async with open_api(pool, redis_url) as api:
        alice = api.of(user.token)
        paths = ("/v1/conversations", "/v1/contacts", "/v1/profile", "/v1/users/nobody", "/nowhere")
        for path in paths:
            for asked in ({}, {"Accept_Encoding": "br"}):
                _, headers, _ = await raw(alice, path, **asked)
                assert "accept-encoding" in headers["Vary"].lower(), path
        _, headers, plain = await raw(alice, "/v1/conversations", Accept_Encoding="br", X_No_Compression="")
        assert headers.get("Content-Encoding") is None
        _, headers, body = await raw(alice, "/v1/conversations", Accept_Encoding="br")
        assert brotli.decompress(body) == plain


async def test_an_error_with_many_users_is_compressed_too(pool: Pool, redis_url: str) -> None:
    alice = await new_user(pool, "alice")
    others = [await new_user(pool, f"user{n}") for n in range(40)]
    await make_contacts(pool, alice, *others[:1])
    await pool.fetch("update users set groups_from = 'nobody' where username like 'user%%' returning 1")
    async with open_api(pool, redis_url) as api:
        response = await api.app.test_client().open(
            "/v1/conversations",
            method="POST",
            headers={"Authorization": f"Bearer {alice.token}", "Accept-Encoding": "gzip"},
            json={"kind": "group", "name": "Group", "participants": [str(UUID(bytes=other.user)) for other in others]},
        )
        assert (response.status_code, response.headers["Content-Encoding"]) == (403, "gzip")
        assert b"not_accepted" in DECODERS["gzip"](await response.get_data())


async def test_answers_with_secrets_are_never_compressed(pool: Pool, redis_url: str) -> None:
    """The length of a compressed secret tells something of it to whoever can add text beside it (BREACH)."""
    async with open_api(pool, redis_url) as api:
        await api.post("/v1/users", REGISTER)
        token = ""
        for path, body, secret in (
            ("/v1/devices", {"username": "carol", "password": PASSWORD, "name": "x" * 128}, "token"),
            ("/v1/tokens", {}, "token"),
            ("/v1/notifiers", {"kind": "webhook", "url": "https://example.org"}, "secret"),
        ):
            response = await api.app.test_client().open(
                path,
                method="POST",
                json=body,
                headers={"Authorization": f"Bearer {token}", "Accept-Encoding": "gzip, identity;q=0"},
            )
            assert response.status_code == 201, path
            assert "Content-Encoding" not in response.headers, path
            assert response.headers["X-No-Compression"] == "1"
            shown = msgspec.json.decode(await response.get_data())
            assert shown[secret]
            token = shown.get("token", token)
        assert (await raw(api.of(token), "/v1/profile", Accept_Encoding="gzip, identity;q=0"))[1]["Content-Encoding"]


def test_a_route_whose_answer_has_a_secret_anywhere_is_known() -> None:
    """A secret in a part of an answer would not be found: then the answer needs a field of its own for it."""
    for route in ROUTES:
        if route.answer is not None:
            schemas, components = msgspec.json.schema_components(
                [route.answer], schema_hook=lambda _: {"type": "string"}
            )
            names = set(re.findall(r'"(\w+)":', msgspec.json.encode([schemas, components]).decode()))
            assert (not SECRETS.isdisjoint(names)) == has_secret(route), route.rule
    assert sum(has_secret(route) for route in ROUTES) == 3


async def test_head_has_the_headers_of_get_and_there_are_no_partial_answers(pool: Pool, redis_url: str) -> None:
    user, _ = await a_user_with_a_full_list(pool, conversations=5)
    async with open_api(pool, redis_url) as api:
        alice = api.of(user.token)
        for coding in ("identity", *CODINGS):
            asked = {"Accept_Encoding": coding, "X_Request_ID": "the-same-for-both"}
            got = await raw(alice, "/v1/conversations", **asked)
            head = await raw(alice, "/v1/conversations", "HEAD", **asked)
            assert (head[0], dict(head[1])) == (got[0], dict(got[1]))
            part = await raw(alice, "/v1/conversations", Accept_Encoding=coding, Range="bytes=0-9")
            assert (part[0], part[2]) == (200, got[2])
            assert "Content-Range" not in part[1]
