"""A small server in memory for the client's tests: it answers as a real one does, with faults on request.

Its streams are in memory too, so that on a fake clock tasks wait only for time.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import cbor2
import httpx
import msgspec
import trio
import trio_websocket
from msgspec.structs import replace
from trio.testing import memory_stream_pair

from client.http import Credentials, HttpClient
from protocol import limits
from protocol.codec import decode_from_client, encode
from protocol.codes import CloseCode
from protocol.errors import RequestError
from protocol.frames import (
    Bye,
    Conversation,
    Cursor,
    Delete,
    Done,
    Edit,
    Error,
    Frame,
    Hello,
    History,
    Lag,
    MarkDelivered,
    MarkRead,
    Message,
    Messages,
    Participant,
    Presence,
    Push,
    Refresh,
    Refreshed,
    Request,
    Revised,
    Send,
    Sent,
    SetTyping,
    Sync,
    Synced,
    Tombstone,
    Watch,
    Welcome,
)

ME, DEVICE, OTHER = b"m" * 16, b"d" * 16, b"o" * 16
TALK, GROUP = b"t" * 16, b"g" * 16
CREDENTIALS = Credentials(ME, DEVICE, "token")
GATEWAY, SECOND_GATEWAY = "ws://first.test", "ws://second.test"

NEVER = 2**62
HOUR_US = 3_600_000_000

Fault = Callable[["Link", Request], list[Frame] | CloseCode]


def message(
    conversation: bytes, seq: int, sender: bytes = OTHER, content: bytes = b"", temp_id: bytes | None = None
) -> Message:
    """The message with this key; each call returns an equal one."""
    return Message(conversation, seq, seq.to_bytes(16), seq, sender, "text/plain", content, None, None, temp_id)


class ServerStream(trio.abc.Stream):
    """The server's end of a connection, with a network before it that can lose bytes.

    :ivar received_bytes: count of the bytes from the client.
    :ivar is_forgotten: a router on the way has forgotten the connection: it takes bytes, and delivers none.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self.received_bytes = 0
        self.is_forgotten = False

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        while True:
            data = await self._stream.receive_some(max_bytes)
            self.received_bytes += len(data)
            if not (data and self.is_forgotten):
                return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if not self.is_forgotten:
            await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()


class Link:
    """One WebSocket connection, as the server sees it.

    :ivar stream: the byte stream below the WebSocket.
    :ivar batches: the frames of each WebSocket message from the client.
    :ivar closed: the close code from the client.
    """

    def __init__(self, websocket: trio_websocket.WebSocketConnection, stream: ServerStream, url: str) -> None:
        self.websocket = websocket
        self.stream = stream
        self.url = url
        self.batches: list[list[Request]] = []
        self.closed: int | None = None
        self.is_welcomed = False

    async def say(self, *frames: Frame) -> None:
        await self.websocket.send_message(b"".join(map(encode, frames)))

    async def close(self, code: CloseCode, reason: str = "") -> None:
        await self.websocket.aclose(code.value, reason)


class ClientWorld:
    """A server in memory: its conversations, its connections and the requests so far.

    :ivar history: the messages of each conversation as they are now.
    :ivar faults: by type, the answers to the next requests; None serves one normally.
    :ivar others: the answers to types of requests that this server has no answer of its own to.
    :ivar refuse: the answers to the next HTTP requests; None serves one normally.
    :ivar down: gateways that do not answer.
    :ivar is_deaf: the server sends no pushes while it is set.
    :ivar marks: each request's delivered marks; `read` has each request's read marks.
    :ivar online: users with a connected device.
    :ivar epoch: number of the server's history.
    :ivar page: entries of one page of `sync`, `history` and lists.
    :ivar lifetime_us: lifetime of tokens.
    :ivar told: fields of each welcome that replace the usual ones.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self.history: dict[bytes, list[Message | Tombstone]] = {}
        self.first_seq: dict[bytes, int] = {}
        self.links: list[Link] = []
        self.faults: dict[type[Request], deque[Fault | None]] = defaultdict(deque)
        self.others: dict[type[Request], Callable[[Any], Frame]] = {}
        self.refuse: deque[httpx.Response | Exception | None] = deque()
        self.down: set[str] = set()
        self.dialled: list[str] = []
        self.is_deaf = False
        self.requests: list[Request] = []
        self.marks: list[dict[bytes, int]] = []
        self.read: list[dict[bytes, int]] = []
        self.asked: list[str] = []
        self.online: set[bytes] = set()
        self.page = 100
        self.lifetime_us = NEVER
        self.told: dict[str, Any] = {"features": ["pages", "resume"]}
        self.tokens = ["token"]
        self.epoch = 0
        self.subprotocol: str | None = limits.SUBPROTOCOL
        self._changes: list[tuple[bytes, int]] = []
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
        self._nursery.start_soon(self._serve, ServerStream(far), url)
        return near, "first.test"

    def http(self) -> HttpClient:
        return HttpClient("http://server.test", transport=httpx.MockTransport(self._answer))

    def store(
        self, conversation: bytes, sender: bytes = OTHER, content: bytes = b"", temp_id: bytes | None = None
    ) -> Message:
        """A user sends a message; the server does not push it yet."""
        held = self.history.setdefault(conversation, [])
        stored = message(conversation, len(held) + 1, sender, content, temp_id)
        if temp_id is not None:
            stored = replace(stored, device=DEVICE)
        held.append(stored)
        self._changes.append((conversation, stored.seq))
        return stored

    def begin_anew(self) -> None:
        """Replace the server's history by an empty one."""
        self.epoch += 1
        self.history, self._changes = {}, []

    def change(self, conversation: bytes, seq: int, content: bytes | None) -> Message | Tombstone:
        """A user edits a message, or deletes it; the server does not push the change yet."""
        held = self.history[conversation][seq - 1]
        if content is None or isinstance(held, Tombstone):
            changed: Message | Tombstone = Tombstone(
                *(getattr(held, name, None) for name in Tombstone.__struct_fields__)
            )
        else:
            device = DEVICE if held.sender == ME else None
            revision, edited = (held.revision or 0) + 1, held.created + 1
            changed = replace(held, content=content, revision=revision, edited=edited, device=device)
        self.history[conversation][seq - 1] = changed
        self._changes.append((conversation, seq))
        return changed

    def conversation(self, conversation: bytes) -> Conversation:
        """The conversation as the server sees it now."""
        held, first = self.history[conversation], self.first_seq.get(conversation, 1)
        return Conversation(
            conversation,
            1,
            "direct",
            None,
            first,
            len(held),
            0,
            len(held) + 1,
            [Participant(user, None, name, 0, 0, 0) for user, name in ((ME, "ann"), (OTHER, "bob"))],
            held[-1] if held and held[-1].seq >= first else None,
            1,
        )

    async def post(self, conversation: bytes, content: bytes = b"") -> Message:
        """Another user sends a message, and the server pushes it."""
        stored = self.store(conversation, content=content)
        await self.push(stored)
        return stored

    async def push(self, *pushes: Push) -> None:
        for link in self.links:
            if link.is_welcomed and not self.is_deaf and link.websocket.closed is None:
                await link.say(*pushes)

    async def _serve(self, stream: ServerStream, url: str) -> None:
        async with trio.open_nursery() as nursery:
            request = await trio_websocket.wrap_server_stream(nursery, stream)
            assert request.path == limits.SOCKET_PATH
            assert request.proposed_subprotocols == (limits.SUBPROTOCOL,)
            link = Link(await request.accept(subprotocol=self.subprotocol), stream, url)
            self.links.append(link)
            try:
                while True:
                    data = await link.websocket.get_message()
                    if not await self._receive(link, data):
                        break
            except trio_websocket.ConnectionClosed as closed:
                link.closed = closed.reason and closed.reason.code
            # The nursery ends with the reader, which still has to complete the closing handshake.

    async def _receive(self, link: Link, data: str | bytes) -> bool:
        assert isinstance(data, bytes)
        batch = [frame for frame in decode_from_client(data) if not isinstance(frame, RequestError)]
        link.batches.append(batch)
        self.requests += batch
        for frame in batch:
            faults = self.faults[type(frame)]
            fault = faults.popleft() if faults else None
            answer = self.reply(link, frame) if fault is None else fault(link, frame)
            if isinstance(answer, CloseCode):
                await link.close(answer, "on request")
                return False
            if answer:
                await link.say(*answer)
            if isinstance(frame, Bye):
                await link.close(CloseCode.BYE)
                return False
        return True

    def reply(self, link: Link, frame: Request) -> list[Frame]:
        """Carry out a request; return its reply, and the pushes before it."""
        match frame:
            case Hello():
                link.is_welcomed = True
                plain = Welcome(frame.request, 1, ME, DEVICE, frame.version, 1 + self.lifetime_us, 30_000)
                welcome = replace(plain, **self.told)
                is_resumed = frame.cursor is not None and "resume" in self.told["features"]
                return [welcome, *(self._resume(frame) if is_resumed else ())]
            case Send() | Edit() | Delete():
                return [self._change(frame)]
            case MarkDelivered():
                self.marks.append(dict(frame.marks))
            case MarkRead():
                self.read.append(dict(frame.marks))
            case Sync():
                *before, (pushes, synced) = self._pages(frame)
                paged = [each for page, last in before for each in (*page, Cursor(last.cursor, True))]
                return [*paged, *pushes, synced]
            case History():
                return [self._history(frame)]
            case Watch():
                return [*(Presence(user, user in self.online) for user in frame.users), Done(frame.request)]
            case Refresh():
                self.tokens.append(f"{frame.token}+")
                return [Refreshed(frame.request, self.tokens[-1], 1 + len(self.tokens) * self.lifetime_us)]
            case SetTyping() | Bye():
                pass
            case _:
                return [self.others[type(frame)](frame)]
        return [Done(frame.request)]

    def _change(self, frame: Send | Edit | Delete) -> Frame:
        if isinstance(frame, Send):
            stored = self._stored.get(frame.temp_id)
            if stored is None:
                stored = self._stored[frame.temp_id] = self.store(frame.conversation, ME, frame.content, frame.temp_id)
            return Sent(frame.request, stored.seq, stored.message, stored.created)
        if isinstance(frame, Delete):
            self.change(frame.conversation, frame.seq, None)
            return Done(frame.request)
        changed = self.change(frame.conversation, frame.seq, frame.content)
        assert isinstance(changed, Message)
        return Revised(frame.request, frame.revision + 1, changed.created + 1)

    def _sync(self, frame: Sync) -> list[Frame]:
        if frame.cursor is None:
            told = [self.conversation(conversation) for conversation in self.history]
            return [*told, Synced(frame.request, self.cursor(len(self._changes)), False)]
        epoch, start = cbor2.loads(frame.cursor)
        if epoch != self.epoch:
            return [Error(frame.request, "cursor_foreign", "because")]
        end = min(start + self.page, len(self._changes))
        pushes: list[Frame] = []
        for conversation, seqs in _grouped(self._changes[start:end]).items():
            pushes.append(replace(self.conversation(conversation), last_message=None))
            first_seq = self.first_seq.get(conversation, 1)
            pushes += [self.history[conversation][seq - 1] for seq in sorted(seqs) if seq >= first_seq]
        return [*pushes, Synced(frame.request, self.cursor(end), end < len(self._changes))]

    def _pages(self, frame: Sync) -> Iterator[tuple[list[Frame], Any]]:
        """As many pages as the client asked for: the pushes of each, and its last frame."""
        for number in range(frame.pages or 1):
            *pushes, last = self._sync(frame)
            is_last = not (isinstance(last, Synced) and last.more and number + 1 < (frame.pages or 1))
            yield pushes, last
            if is_last:
                return
            assert isinstance(last, Synced)
            frame = replace(frame, cursor=last.cursor)

    def _resume(self, frame: Hello) -> list[Frame]:
        told: list[Frame] = []
        for pushes, last in self._pages(Sync(0, frame.cursor, frame.count, frame.pages)):
            told += [*pushes, Cursor(last.cursor, last.more) if isinstance(last, Synced) else Lag([])]
        return told

    def cursor(self, changes: int | None = None) -> bytes:
        """The cursor after this number of changes, or after the last change."""
        return cbor2.dumps([self.epoch, len(self._changes) if changes is None else changes])

    def _history(self, frame: History) -> Frame:
        if frame.conversation not in self.history:
            return Error(frame.request, "not_a_participant", "because")
        found = [
            held
            for held in self.history[frame.conversation]
            if (frame.after or 0) < held.seq < (frame.before or NEVER)
            and held.seq >= self.first_seq.get(frame.conversation, 1)
        ]
        if frame.after is None:
            found.reverse()
        most = min(frame.count or limits.DEFAULT_COUNT, self.page)
        return Messages(frame.request, len(found) > most, found[:most])

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        await trio.lowlevel.checkpoint()
        assert request.headers["accept"] == "application/cbor"
        self.asked.append(f"{request.method} {request.url.raw_path.decode()}")
        instead = self.refuse.popleft() if self.refuse else None
        if isinstance(instead, Exception):
            raise instead
        return instead or self._page(request)

    def _page(self, request: httpx.Request) -> httpx.Response:
        assert request.headers["authorization"] == "Bearer token"
        parts, query = request.url.path.split("/")[2:], request.url.params
        if parts[0] == "users":
            return answer({"user": OTHER, "username": "bob"}) if parts[1] == "bob" else refusal(404, "unknown_user")
        if parts[-1] in ("accept", "decline") or parts[0] == "contacts":
            return httpx.Response(204)
        if request.method == "POST":
            self.history.setdefault(TALK, [])
            return answer(as_body(self.conversation(TALK)), 201)
        start, limit = int(query.get("cursor", 0)), min(int(query.get("limit", 50)), self.page)
        if parts == ["conversations"]:
            every = [as_body(self.conversation(conversation)) for conversation in self.history]
            every = [each for each in every if each["is_request"] == (query.get("requests") == "true")]
            return answer({"conversations": every[start : start + limit], "cursor": _next(start + limit, every)})
        every = [as_body(held) for held in reversed(self.history[UUID(parts[1]).bytes])]
        return answer({"messages": every[start : start + limit], "cursor": _next(start + limit, every)})


def _grouped(changes: list[tuple[bytes, int]]) -> dict[bytes, set[int]]:
    grouped: dict[bytes, set[int]] = defaultdict(set)
    for conversation, seq in changes:
        grouped[conversation].add(seq)
    return grouped


def _next(after: int, items: list[Any]) -> str | None:
    return str(after) if after < len(items) else None


def as_body(frame: Message | Tombstone | Conversation) -> dict[str, Any]:
    """The body that the HTTP interface sends (`docs/http.md`)."""
    if isinstance(frame, Conversation):
        body = msgspec.structs.asdict(frame)
        body["participants"] = [msgspec.structs.asdict(each) for each in frame.participants]
        body["joiners_see_all"] = bool(frame.joiners_see_all)
        body["is_request"] = bool(frame.is_request)
        body["participant_count"] = frame.participant_count or len(body["participants"])
        body["last_message"] = frame.last_message and as_body(frame.last_message)
        return body
    content = dict.fromkeys(set(Message.__struct_fields__) - set(Tombstone.__struct_fields__))
    body = content | msgspec.structs.asdict(frame) | {"is_deleted": isinstance(frame, Tombstone)}
    body["is_quiet"] = bool(frame.is_quiet)
    body["has_envelopes"] = bool(body["has_envelopes"])
    if isinstance(frame, Message):
        body["revision"] = frame.revision or 0
    return body


def answer(body: object, status: int = 200) -> httpx.Response:
    return httpx.Response(status, content=cbor2.dumps(body))


def refusal(status: int, code: str, retry_after_ms: int | None = None) -> httpx.Response:
    problem: dict[str, Any] = {"type": f"/docs#problem-{code}", "status": status, "code": code, "detail": "because"}
    if retry_after_ms is not None:
        problem["retry_after_ms"] = retry_after_ms
    return answer(problem, status)


def no_reply(_: Link, __: Request) -> list[Frame]:
    """A fault: the request is lost."""
    return []


def refuse(code: str, retry_after_ms: int | None = None) -> Fault:
    """A fault: an error reply."""
    return lambda _, frame: [Error(frame.request, code, "because", retry_after_ms)]


def close(code: CloseCode) -> Fault:
    """A fault: the server closes instead of answering."""
    return lambda _, __: code
