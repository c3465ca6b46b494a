"""The application as a whole: all routes once, requests that fit no route, outages and faults."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest
import structlog
import trio
import trio.testing

from client.http import Credentials
from embedded.postgres import PostgresServer
from embedded.redis import RedisServer
from store.errors import DatabaseError
from store.postgres.pool import Pool
from tests.people import new_device, new_user
from tests.server.http.socket_world import RawAnswer, open_server, request, serving_api
from tests.server.http_world import PASSWORD, REGISTER, both_encodings, open_api, open_services, say
from tests.waiting import wait_until


@both_encodings
async def test_from_registering_to_history(pool: Pool, redis_url: str, encoding: str) -> None:
    """Clients that use the interface alone go through the most important routes once."""
    async with open_api(pool, redis_url, encoding) as api:
        ids = {}
        for name in ("alice", "bob"):
            answer = await api.post("/v1/users", {"username": name, "password": PASSWORD})
            assert answer.status == 201
            assert answer.body == {"user": answer.body["user"], "username": name}
            ids[name] = answer.body["user"]
        logged_in = await api.post("/v1/devices", {"username": "alice", "password": PASSWORD, "name": "Phone"})
        assert logged_in.status == 201
        assert set(logged_in.body) == {"user", "username", "device", "token", "expires"}
        assert (logged_in.body["user"], logged_in.body["username"]) == (ids["alice"], "alice")
        alice = api.of(logged_in.body["token"])
        bob = api.of((await new_device(pool, ids["bob"])).token)

        found = await alice.get("/v1/users/bob")
        assert (found.status, found.body) == (
            200,
            {"user": ids["bob"], "username": "bob", "display_name": None, "avatar": None, "revision": 0},
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
            "device": None,
            "content_type": "text",
            "content": b"\x00\xffciphertext",
            "nonce": None,
            "ephemeral_public_key": b"key",
            "is_deleted": False,
            "actor": None,
            "revision": 0,
            "edited": None,
            "reply_to": None,
            "attachments": None,
            "thumbnail": None,
            "is_quiet": False,
            "has_envelopes": False,
            "follows": None,
            "envelope": None,
        }
        assert history.body == {"messages": [message], "cursor": None}
        assert one.body["last_message"] == message
        for path in ("/healthz", "/readyz"):
            health = await api.get(path)
            assert (health.status, health.body) == (200, {"status": "ok"})


async def test_a_header_that_comes_twice_is_a_list_of_its_values(pool: Pool, redis_url: str) -> None:
    token = f"Bearer {(await new_user(pool, 'alice')).token}"

    async with open_server(pool, redis_url) as server:

        async def ask(name: str, first: str, second: str) -> RawAnswer:
            headers = {"authorization": token} if name != "authorization" else {}
            return await server.exchange(
                request("GET", "/v1/conversations", {**headers, name: f"{first}\r\n{name}: {second}"})
            )

        page = await ask("accept", "text/html", "application/json")
        assert page.headers["content-type"] == "application/json"
        assert (await ask("accept", "text/html", "application/cbor")).headers["content-type"] == "application/cbor"
        assert (await ask("if-none-match", '"a"', page.headers["etag"])).status == 304
        # Headers with a single value: neither the first one nor the last one is taken.
        assert (await ask("authorization", token, token)).status == 401
        assert (await ask("x-request-id", "a", "b")).headers["x-request-id"] not in ("a", "b")


HTTP_2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HANDSHAKE = {
    "connection": "Upgrade",
    "upgrade": "websocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
}


SETTINGS = {"http2-settings": "AAMAAABkAAQAAP__"}
MISDIRECTED = (421, "misdirected_request", ("`socket`", "/v1/socket"))
UPGRADE_REFUSED = (400, "upgrade_refused", ("without `Upgrade`", "HTTP/1.1"))
UPGRADES = {
    "a WebSocket": (HANDSHAKE, MISDIRECTED),
    "a WebSocket that Connection does not name": ({"upgrade": "WebSocket"}, MISDIRECTED),
    "a WebSocket among others": ({"connection": "upgrade", "upgrade": "h2c, websocket"}, MISDIRECTED),
    "HTTP/2": ({"connection": "Upgrade, HTTP2-Settings", "upgrade": "h2c", **SETTINGS}, UPGRADE_REFUSED),
    "HTTP/2 that Connection does not name": ({"upgrade": "H2C", **SETTINGS}, UPGRADE_REFUSED),
    "HTTP/2 without settings": ({"connection": "upgrade", "upgrade": "h2c"}, UPGRADE_REFUSED),
    "TLS": ({"connection": "upgrade", "upgrade": "TLS/1.0"}, UPGRADE_REFUSED),
    "several": ({"connection": "upgrade", "upgrade": "TLS/1.0, h2c"}, UPGRADE_REFUSED),
}
"""Headers -> the status, the code, and words of the detail that say what to do instead."""


@pytest.mark.parametrize("path", ["/v1/socket", "/", "/v1/conversations", "/healthz"])
async def test_a_request_for_another_protocol_is_refused_with_what_to_do_and_counted(
    pool: Pool, redis_url: str, path: str, log_output: list[dict[str, object]]
) -> None:
    """On hot paths and others, also behind a request that is answered. What follows is not read as a request: a client
    may go on in the other protocol at once. A client with the wrong port must not fill the log."""
    async with open_services(pool, redis_url) as services, serving_api(services) as server:
        for headers, (status, code, words) in UPGRADES.values():
            async with server.connected() as connection:
                await connection.send(request("GET", "/healthz") + request("GET", path, headers) + HTTP_2_PREFACE)
                assert (await connection.answer()).status == 200
                answer = await connection.answer()
                problem = json.loads(answer.body)
                assert (answer.status, problem["code"], answer.headers["connection"]) == (status, code, "close")
                assert all(word in problem["detail"] for word in words)
                assert await connection.closed() == b""
        assert services.counts.unrouted["4xx"] == len(UPGRADES)
    lines = [line["status"] for line in log_output if line["event"] == "request_answered" and line["route"] == "none"]
    assert lines == [status for _, (status, *_) in UPGRADES.values()]
    assert [line for line in log_output if line["log_level"] not in ("debug", "info")] == []


@pytest.mark.parametrize(("path", "status"), [("/", 404), ("/v1/conversations", 401), ("/healthz", 200)])
async def test_a_request_that_names_no_other_protocol_is_no_upgrade(
    pool: Pool, redis_url: str, path: str, status: int
) -> None:
    async with open_server(pool, redis_url) as server, server.connected() as connection:
        for headers in (SETTINGS, {"connection": "upgrade"}, {"upgrade": ""}, {"upgrade-insecure-requests": "1"}):
            await connection.send(request("GET", path, headers))
            assert (await connection.answer()).status == status


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
        "headers": [
            (b"authorization", b"Bearer " + token.encode()),
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % length),
        ],
        "extensions": {},
    }


async def test_a_client_that_hangs_up_does_not_lose_a_write(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials
) -> None:
    """Hypercorn cancels the handler in the middle of the insert; the write is finished all the same."""
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
        await wait_until(lambda: pool.fetch("select 1 from pg_locks where not granted"), "the write waits for the lock")
        hung_up.set()
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert not answered.is_set()
        await lock.query("commit")
        with trio.fail_after(5):
            await answered.wait()
        assert await pool.fetch("select count(*) from participants") == [(2,)]


async def test_without_postgres_requests_are_refused_as_retryable_and_then_served_again(
    own_postgres: PostgresServer, redis_url: str
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
                assert "127.0.0.1" not in answer.body["detail"]
            register = await mine.post("/v1/users", REGISTER)
            assert (register.status, register.code) == (503, "unavailable")
            assert (await mine.get("/healthz")).status == 200
        warned = [line for line in logs if line["log_level"] not in ("debug", "info")]
        assert {line["log_level"] for line in warned} == {"warning"}
        assert f"127.0.0.1:{own_postgres.port}" in warned[0]["error"]
        own_postgres.start()
        assert (await mine.get("/v1/conversations")).status == 200
        assert (await mine.post("/v1/users", REGISTER)).status == 201
    pool.close()


async def test_without_redis_history_is_served_but_the_process_is_not_ready(
    pool: Pool, alice: Credentials, own_redis: RedisServer
) -> None:
    async with open_api(pool, own_redis.url) as api:

        async def is_ready() -> bool:
            return (await api.get("/readyz")).status == 200

        async def is_unready() -> bool:
            return (await api.get("/readyz")).status == 503

        await wait_until(is_ready, "Redis answers")
        own_redis.stop()
        await wait_until(is_unready, "the client of Redis has noticed")
        assert (await api.get("/readyz")).code == "unavailable"
        assert (await api.of(alice.token).get("/v1/conversations")).status == 200


@pytest.mark.parametrize("fault", [ZeroDivisionError("the inside"), DatabaseError("the inside", "42703")])
async def test_a_fault_is_logged_and_named_without_its_inside(
    pool: Pool, redis_url: str, alice: Credentials, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:

    async def fail(*_: Any, **__: Any) -> None:
        raise fault

    monkeypatch.setattr("store.list_pages.first_page_for", fail)
    async with open_api(pool, redis_url) as api:
        with structlog.testing.capture_logs() as logs:
            answer = await api.of(alice.token).get("/v1/conversations")
        assert (answer.status, answer.code) == (500, "internal")
        assert b"inside" not in answer.data
        logged = [(line["event"], line["exc_info"]) for line in logs if line["log_level"] == "error"]
        assert logged == [("request_failed", fault)]
