"""A small server for the client's tests: what a real one holds and says, in memory, with faults on request.

Its streams are in memory too, so that on a fake clock nothing waits for anything but time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any
from uuid import UUID

import cbor2
import httpx
import trio
import trio_websocket
from trio.testing import memory_stream_pair

from client.http import Credentials, HttpClient
from protocol import limits
from protocol.codec import decode_from_client, encode
from protocol.codes import CloseCode
from protocol.errors import RequestError
from protocol.frames import Done, Error, Frame, Hello, MarkDelivered, Message, Push, Request, Send, Sent, Welcome

ME, DEVICE, OTHER = b"m" * 16, b"d" * 16, b"o" * 16
TALK, GROUP = b"t" * 16, b"g" * 16
CREDENTIALS = Credentials(ME, DEVICE, "token")
GATEWAY, SECOND_GATEWAY = "ws://first.test", "ws://second.test"

Fault = Callable[["Link", Request], list[Frame] | CloseCode]


def message(conversation: bytes, seq: int, sender: bytes = OTHER, content: bytes = b"") -> Message:
    """The message with that key; the same one each time."""
    return Message(conversation, seq, seq.to_bytes(16), seq, sender, "text/plain", content, None, None)


class Link:
    """One WebSocket connection, as the server sees it.

    :ivar batches: the frames of each WebSocket message that came.
    :ivar closed: the close code that came from the client.
    """

    def __init__(self, websocket: trio_websocket.WebSocketConnection, url: str) -> None:
        self.websocket = websocket
        self.url = url
        self.batches: list[list[Request]] = []
        self.closed: int | None = None
        self.is_welcomed = False

    async def say(self, *frames: Frame) -> None:
        await self.websocket.send_message(b"".join(map(encode, frames)))

    async def close(self, code: CloseCode, reason: str = "") -> None:
        await self.websocket.aclose(code.value, reason)


class World:
    """Conversations, connections and what has been asked.

    :ivar faults: for the next requests of each type: what to answer instead; None serves one normally.
    :ivar refuse: for the next HTTP requests: what to answer instead; None serves one normally.
    :ivar down: gateways at which nobody answers.
    :ivar is_deaf: pushes go nowhere while it is set.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self.history: dict[bytes, list[Message]] = {}
        self.first_seq: dict[bytes, int] = {}
        self.links: list[Link] = []
        self.faults: dict[type[Request], deque[Fault | None]] = {Hello: deque(), Send: deque(), MarkDelivered: deque()}
        self.refuse: deque[httpx.Response | Exception | None] = deque()
        self.down: set[str] = set()
        self.dialled: list[str] = []
        self.is_deaf = False
        self.requests: list[Request] = []
        self.marks: list[dict[bytes, int]] = []
        self.asked: list[str] = []
        self.page = 100
        self.subprotocol: str | None = limits.SUBPROTOCOL
        self.before_answer: Callable[[httpx.Request], None] = lambda _: None
        self._stored: dict[bytes, Message] = {}
        self._nursery = nursery

    @property
    def link(self) -> Link:
        """The latest connection."""
        return self.links[-1]

    async def open_stream(self, url: str) -> tuple[trio.abc.Stream, str]:
        """In place of `client.dial.open_stream`."""
        self.dialled.append(url)
        if url in self.down:
            raise OSError("nobody answers")
        near, far = memory_stream_pair()
        self._nursery.start_soon(self._serve, far, url)
        return near, "first.test"

    def http(self) -> HttpClient:
        return HttpClient("http://server.test", transport=httpx.MockTransport(self._answer))

    def store(self, conversation: bytes, sender: bytes = OTHER, content: bytes = b"") -> Message:
        """Somebody sends a message, of which nobody is told yet."""
        held = self.history.setdefault(conversation, [])
        held.append(message(conversation, len(held) + 1, sender, content))
        return held[-1]

    async def post(self, conversation: bytes, content: bytes = b"") -> Message:
        """Another user sends a message; it is pushed."""
        stored = self.store(conversation, content=content)
        await self.push(stored)
        return stored

    async def push(self, *pushes: Push) -> None:
        for link in self.links:
            if link.is_welcomed and not self.is_deaf and link.websocket.closed is None:
                await link.say(*pushes)

    async def _serve(self, stream: trio.abc.Stream, url: str) -> None:
        async with trio.open_nursery() as nursery:
            request = await trio_websocket.wrap_server_stream(nursery, stream)
            assert request.path == limits.SOCKET_PATH
            assert request.proposed_subprotocols == (limits.SUBPROTOCOL,)
            link = Link(await request.accept(subprotocol=self.subprotocol), url)
            self.links.append(link)
            try:
                while True:
                    data = await link.websocket.get_message()
                    if not await self._receive(link, data):
                        break
            except trio_websocket.ConnectionClosed as closed:
                link.closed = closed.reason and closed.reason.code
            # The nursery ends with the reader, which still has to see the closing handshake through.

    async def _receive(self, link: Link, data: str | bytes) -> bool:
        assert isinstance(data, bytes)
        batch = [frame for frame in decode_from_client(data) if not isinstance(frame, RequestError)]
        link.batches.append(batch)
        self.requests += batch
        for frame in batch:
            faults = self.faults[type(frame)]
            fault = faults.popleft() if faults else None
            answer = self._reply(link, frame) if fault is None else fault(link, frame)
            if isinstance(answer, CloseCode):
                await link.close(answer, "on request")
                return False
            if answer:
                await link.say(*answer)
        return True

    def _reply(self, link: Link, frame: Request) -> list[Frame]:
        match frame:
            case Hello():
                link.is_welcomed = True
                return [Welcome(frame.request, 1, ME, DEVICE, frame.version)]
            case Send():
                stored = self._stored.get(frame.temp_id)
                if stored is None:
                    stored = self._stored[frame.temp_id] = self.store(frame.conversation, ME, frame.content)
                return [Sent(frame.request, stored.seq, stored.message, stored.created)]
            case MarkDelivered():
                self.marks.append(dict(frame.marks))
                return [Done(frame.request)]

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        await trio.lowlevel.checkpoint()
        assert request.headers["accept"] == "application/cbor"
        self.asked.append(f"{request.method} {request.url.raw_path.decode()}")
        instead = self.refuse.popleft() if self.refuse else None
        if isinstance(instead, Exception):
            raise instead
        response = instead or self._page(request)
        self.before_answer(request)
        return response

    def _page(self, request: httpx.Request) -> httpx.Response:
        assert request.headers["authorization"] == "Bearer token"
        parts, query = request.url.path.split("/")[2:], request.url.params
        if parts[0] == "users":
            return answer({"user": OTHER, "username": "bob"}) if parts[1] == "bob" else refusal(404, "unknown_user")
        if request.method == "POST":
            self.history.setdefault(TALK, [])
            return answer(self._conversation(TALK), 201)
        start, limit = int(query.get("cursor", 0)), min(int(query.get("limit", 50)), self.page)
        if parts == ["conversations"]:
            every = [self._conversation(conversation) for conversation in self.history]
            return answer({"conversations": every[start : start + limit], "cursor": _cursor(start + limit, every)})
        conversation = UUID(parts[1]).bytes
        if conversation not in self.history:
            return refusal(404, "not_found")
        if parts[2:] == ["messages"]:
            after = int(query.get("cursor") or query["after_seq"])
            rest = [as_map(held) for held in self.history[conversation] if held.seq > after]
            return answer({"messages": rest[:limit], "cursor": _cursor(limit, rest, after)})
        return answer(self._conversation(conversation))

    def _conversation(self, conversation: bytes) -> dict[str, Any]:
        return {
            "conversation": conversation,
            "kind": "direct",
            "name": None,
            "created": 1,
            "participants": [
                {"user": user, "username": name, "joined_seq": 0, "delivered_seq": 0, "read_seq": 0}
                for user, name in ((ME, "ann"), (OTHER, "bob"))
            ],
            "first_seq": self.first_seq.get(conversation, 1),
            "last_seq": len(self.history[conversation]),
            "unread_count": 0,
            "last_message": None,
        }


def _cursor(after: int, items: list[Any], base: int = 0) -> str | None:
    return str(base + after) if after < len(items) else None


def as_map(held: Message) -> dict[str, Any]:
    return {name: getattr(held, name) for name in held.__struct_fields__}


def answer(body: object, status: int = 200) -> httpx.Response:
    return httpx.Response(status, content=cbor2.dumps(body))


def refusal(status: int, code: str, retry_after_ms: int | None = None) -> httpx.Response:
    error: dict[str, Any] = {"code": code, "detail": "because"}
    if retry_after_ms is not None:
        error["retry_after_ms"] = retry_after_ms
    return answer({"error": error}, status)


def no_reply(_: Link, __: Request) -> list[Frame]:
    """A fault: the request is lost."""
    return []


def refuse(code: str, retry_after_ms: int | None = None) -> Fault:
    """A fault: an error reply."""
    return lambda _, frame: [Error(frame.request, code, "because", retry_after_ms)]


def close(code: CloseCode) -> Fault:
    """A fault: the server closes instead of answering."""
    return lambda _, __: code
