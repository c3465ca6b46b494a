from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable

import cbor2
import httpx
import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock

from client.connection import NAME
from client.errors import HttpRefused, Unreachable
from client.http import MAX_RESPONSE_BYTES, TIMEOUT_S, Credentials, HttpClient, User
from protocol.frames import Conversation, Message, Participant, Tombstone
from tests.client.client_world import DEVICE, ME, OTHER, TALK, answer, as_body, message, refusal

CONVERSATION = {
    "conversation": TALK,
    "kind": "direct",
    "name": None,
    "created": 1_700_000_000_000_000,
    "participants": [
        {
            "user": ME,
            "username": "me",
            "revision": 0,
            "display_name": None,
            "is_admin": False,
            "joined_seq": 0,
            "delivered_seq": 2,
            "read_seq": 1,
        }
    ],
    "first_seq": 1,
    "last_seq": 2,
    "unread_count": 1,
    "last_message": as_body(message(TALK, 2)),
    "participants_version": 1,
    "joiners_see_all": False,
    "lifetime_s": 86_400,
}
TALK_PATH = f"/v1/conversations/{uuid.UUID(bytes=TALK)}"


class Server:
    """Answers everything with `response` and keeps the request."""

    def __init__(self) -> None:
        self.response = answer({})
        self.request = httpx.Request("GET", "http://nowhere")

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.request = request
        return self.response

    @property
    def body(self) -> object:
        return cbor2.loads(self.request.content) if self.request.content else None


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
async def http(server: Server) -> AsyncIterator[HttpClient]:
    async with HttpClient("http://server.test/", transport=httpx.MockTransport(server)) as client:
        yield client.with_token("secret")


async def test_bodies_are_cbor_and_the_token_says_who_asks(server: Server, http: HttpClient) -> None:
    server.response = answer(CONVERSATION, 201)
    await http.create_direct(OTHER)
    assert server.request.headers["content-type"] == server.request.headers["accept"] == "application/cbor"
    assert server.request.headers["authorization"] == "Bearer secret"
    assert server.body == {"kind": "direct", "participants": [OTHER]}


async def test_accounts(server: Server, http: HttpClient) -> None:
    server.response = answer({"user": ME, "username": "ann"}, 201)
    assert await http.register("ann", "pass") == User(ME, "ann")
    assert server.body == {"username": "ann", "password": "pass"}

    server.response = answer({"user": ME, "device": DEVICE, "token": "t"}, 201)
    assert replace(await http.log_in("ann", "pass", "phone"), renewed=0.0) == Credentials(ME, DEVICE, "t")
    assert server.body == {"username": "ann", "password": "pass", "name": "phone", "client": NAME}


async def test_a_state_of_a_group_goes_with_the_number_of_its_control_message(server: Server, http: HttpClient) -> None:
    server.response = httpx.Response(204)
    await http.put_group_state(TALK, 7, b"state")
    assert (server.request.method, server.request.url.path) == ("PUT", f"{TALK_PATH}/state")
    assert cbor2.loads(server.request.content) == {"control_seq": 7, "state": b"state"}
    server.response = answer({"control_seq": 8, "state": None, "device": None, "put": None})
    found = await http.group_state(TALK)
    assert (found.control_seq, found.state, server.request.method) == (8, None, "GET")


async def test_names_are_escaped_in_paths(server: Server, http: HttpClient) -> None:
    server.response = answer({"user": ME, "username": "a/b?c"})
    await http.user("a/b?c")
    assert server.request.url.raw_path == b"/v1/users/a%2Fb%3Fc"


async def test_conversations(server: Server, http: HttpClient) -> None:
    server.response = answer({"conversations": [CONVERSATION], "cursor": "next"})
    page = await http.conversations(limit=7, cursor="c/d")
    assert dict(server.request.url.params) == {"limit": "7", "cursor": "c/d"}
    assert page.cursor == "next"
    [found] = page.conversations
    assert found.participants == [Participant(ME, None, "me", 0, 2, 1)]
    assert found.last_message == message(TALK, 2)

    server.response = answer(CONVERSATION | {"kind": "group", "name": "us"}, 201)
    group = await http.create_group("us", [OTHER])
    assert isinstance(group, Conversation)
    assert (group.kind, group.name) == ("group", "us")
    assert server.body == {"kind": "group", "name": "us", "participants": [OTHER]}


async def test_history_is_a_page_of_messages_edited_ones_and_tombstones(server: Server, http: HttpClient) -> None:
    edited = replace(message(TALK, 4), revision=2, edited=5)
    gone = Tombstone(TALK, 5, message(TALK, 5).message, 5, OTHER)
    held: list[Message | Tombstone] = [gone, edited, message(TALK, 3)]
    server.response = answer({"messages": [as_body(each) for each in held], "cursor": None})
    page = await http.history(TALK, limit=3, cursor="c")
    assert page.messages == held
    assert page.cursor is None
    assert server.request.url.path == TALK_PATH + "/messages"
    assert dict(server.request.url.params) == {"limit": "3", "cursor": "c"}


async def test_an_error_says_status_code_detail_and_when_to_try_again(server: Server, http: HttpClient) -> None:
    server.response = refusal(503, "unavailable", 1500)
    with pytest.raises(HttpRefused) as caught:
        await http.conversations()
    refused = caught.value
    assert (refused.status, refused.code, refused.detail) == (503, "unavailable", "because")
    assert refused.retry_after_ms == 1500

    server.response = refusal(404, "not_found")
    with pytest.raises(HttpRefused) as caught:
        await http.history(TALK)
    assert caught.value.retry_after_ms is None


@pytest.mark.parametrize(
    "response",
    [
        httpx.Response(200, content=b"<html>"),
        httpx.Response(502, content=b"Bad Gateway"),
        httpx.Response(302, headers={"location": "/elsewhere"}),
        answer({"conversations": []}),
        answer({"conversations": [{}], "cursor": None}),
        answer([]),
        httpx.Response(200, content=bytes(MAX_RESPONSE_BYTES + 1)),
    ],
    ids=["html", "proxy", "redirect", "a field missing", "an empty one", "no map", "too much"],
)
async def test_an_answer_of_something_else_is_unreachable(
    server: Server, http: HttpClient, response: httpx.Response
) -> None:
    server.response = response
    with pytest.raises(Unreachable):
        await http.conversations()


Answer = Callable[[httpx.Request], Awaitable[httpx.Response]]


async def break_off(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("All connection attempts failed")


async def hang(_: httpx.Request) -> httpx.Response:
    await trio.sleep_forever()
    raise AssertionError


@pytest.mark.parametrize(("handler", "after_s"), [(break_off, 0), (hang, TIMEOUT_S)])
async def test_trouble_with_the_network_is_unreachable(
    handler: Answer, after_s: float, autojump_clock: MockClock
) -> None:
    async with HttpClient("http://server.test", transport=httpx.MockTransport(handler)) as client:
        before = trio.current_time()
        with pytest.raises(Unreachable):
            await client.user("ann")
        assert trio.current_time() - before == pytest.approx(after_s)


@pytest.mark.parametrize("url", ["ftp://server.test", "nonsense", "http://server.test:port", "http://[::1"])
async def test_an_address_that_is_none_is_unreachable(url: str) -> None:
    async with HttpClient(url) as client:
        with pytest.raises(Unreachable):
            await client.user("ann")


PICTURE = {"attachment": b"p" * 16, "size_bytes": 7, "digest": bytes(32)}


async def test_avatars_are_those_of_frames(server: Server, http: HttpClient) -> None:
    [person] = CONVERSATION["participants"]  # type: ignore[misc]
    shown = CONVERSATION | {"avatar": PICTURE, "participants": [person | {"avatar": PICTURE}]}
    server.response = answer({"conversations": [shown], "cursor": None})
    [found] = (await http.conversations()).conversations
    assert found.avatar == (b"p" * 16, 7, bytes(32))
    assert [each.avatar for each in found.participants or ()] == [found.avatar]


@pytest.mark.parametrize(("group", "path"), [(None, "/v1/profile"), (TALK, TALK_PATH)])
async def test_avatar_is_set_and_removed(server: Server, http: HttpClient, group: bytes | None, path: str) -> None:
    server.response = answer({})
    for attachment, sent in ((b"p" * 16, b"p" * 16), (None, bytes(16))):
        await http.set_avatar(attachment, group=group)
        assert (server.request.method, server.request.url.path) == ("PATCH", path)
        assert server.body == {"avatar": sent}
