"""One client's connection, from accepting it to its end.

One task serves it: it reads, waits for nothing but the wire, and hands requests to batches, which answer them through
the outbox. It waits for others only if its user causes much: after about 64 frames it lets all other tasks run, and it
does not read from a user deep in debt for a while (`server.gateway.budgets`). Requests that need a look-up (history,
lists, edits) wait in the connection's own queue; a second task, which lives only while the queue has requests, serves
them one by one. Requests about files, which may wait for the object store, have another queue with a task of its own.
One place writes: the outbox. One place closes: `run`, and everything ends there because it has left the nursery that
holds the connection's other tasks (greeting, serving its queues, waiting for a slow peer) before it closes the socket.
"""

from __future__ import annotations

import math
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final, Protocol, TypeAlias, assert_never, get_args

import structlog
import trio

from protocol import limits, websocket
from protocol.codec import decode_from_client, encode
from protocol.codes import CloseCode, ErrorCode
from protocol.encoded import with_fields
from protocol.envelopes import fault_of
from protocol.errors import RemoteProtocolError, RequestError
from protocol.frames import (
    Abort,
    AddEnvelopes,
    Bye,
    Complete,
    Delete,
    Devices,
    Done,
    Download,
    Edit,
    Hello,
    History,
    KeysLow,
    KeyStatus,
    List,
    MarkDelivered,
    MarkRead,
    Move,
    Parts,
    Ping,
    Pong,
    PutKeys,
    Refresh,
    ReportUndecryptable,
    Request,
    Send,
    SetTyping,
    Status,
    Sync,
    Upload,
    Watch,
    Welcome,
    name_of,
)
from protocol.limits import Limit
from protocol.requests import QueuedRequest, TransferRequest
from protocol.states import State, StateMachine, agreed_version
from protocol.websocket import WebSocketError, WebSocketReceiver, close_frame, ping_frame, pong_frame
from runtime.log_context import SERVED, ConnectionName
from server.gateway.budgets import LONGEST_PAUSE_S, PAUSE_AFTER_S, Budget, in_debt
from server.gateway.replies import error_reply, store_error_reply
from server.transport.addresses import read_announced
from server.transport.handshake import open_websocket
from server.transport.outbox import Outbox
from server.transport.stream import ClientStream
from server.transport.wire_counts import WireCounts
from store.errors import (
    AccountSuspended,
    DeviceRevoked,
    Overloaded,
    StoreError,
    TokenExpired,
    TokenReused,
    TokenUnknown,
    Unavailable,
)
from store.tokens import GreetedDevice

log = structlog.get_logger(__name__)

CLOSE_TIMEOUT_S: Final = 1.0
"""Time for the peer to take our close frame, and the same time again to close its half; then the socket is closed."""

LookUpRequest: TypeAlias = QueuedRequest | TransferRequest | Hello
"""Requests that need a look-up: `server.gateway.requests` serves them one after the other, those about files apart from
the rest. A hello is among them because its cursor is served like a `sync`."""


class Gateway(Protocol):
    """The parts of its node that a connection uses.

    :ivar told: the features and limits of every `welcome`, encoded.
    :ivar counts: of all connections.
    """

    told: tuple[int, bytes]
    counts: WireCounts

    def trusts(self, address: str) -> bool:
        """Whether the peer at this address is a trusted proxy, which names the client's address."""

    def forwarded(self, address: str, forwarded_for: list[str]) -> str:
        """The address of the client whose request the proxy at this address has forwarded."""

    def admit(self, connection: Connection) -> bytes | None:
        """Count the connection for its address; None, or the refusal to write if the address has too many."""

    async def identify(self, connection: Connection, token: str) -> GreetedDevice:
        """The user and device that own this token, and what the device is told with its welcome. From here on the
        connection occupies a place in the admission, until `welcomed` is called or `ADMISSION_S` has passed. Raises
        TokenUnknown, TokenExpired, DeviceRevoked, TokenReused, AccountSuspended, or a different StoreError."""

    async def reports_for(self, connection: Connection) -> list[bytes]:
        """The frames about messages that the device is to heal. Without them, if Postgres fails: it is told later."""

    def has_room(self, user: bytes) -> bool:
        """Whether the user may have one more connection here."""

    def budget_of(self, connection: Connection) -> Budget:
        """The budget of the connection's user, which is counted for it until `leave`."""

    async def register(self, connection: Connection) -> None:
        """Once this returns, all nodes offer the user's pushes to this connection. Raises Unavailable, and Overloaded
        if the node has no room for it."""

    def welcomed(self, connection: Connection, name: str | None) -> str:
        """The client has its welcome, and its connection gives up its place in the admission until it syncs. Counts it
        by the client's name, which is noted for its device; returns the name that it is counted under until `leave`."""

    async def wait_turn(self) -> None:
        """Return soon. When thousands of connections end at once, the others have a turn in between."""

    def leave(self, connection: Connection) -> None:
        """The connection has ended: undo `admit`, `register` and `welcomed`, as far as they were called."""

    async def answer_plain(self, head: bytes) -> bytes | None:
        """The answer to a request of HTTP that asks for no upgrade; None if it is none for `/healthz` or `/readyz`."""

    def now_us(self) -> int:
        """The time by Postgres' clock, in microseconds since 1970."""

    def send_nowait(self, connection: Connection, frame: Send) -> None:
        """Queue a send. Raises StoreError if it is refused."""

    def mark_nowait(self, connection: Connection, frame: MarkDelivered | MarkRead) -> None:
        """Queue marks. Raises StoreError if they are refused."""

    async def answer(self, connection: Connection, frame: LookUpRequest) -> bytes:
        """Serve a request of any other kind; returns the reply. Raises nothing but `trio.Cancelled`."""


class Connection:
    """One client's connection.

    :param sock: an accepted, non-blocking socket; the connection owns it from here on.
    :param address: of the peer; `address` becomes that of the client, if the peer is a trusted proxy.
    :ivar number: of the connection on its node, for the log.
    :ivar was_probed: it was a request of HTTP for `/healthz` or `/readyz`.
    :ivar client: the client's name that the connection is counted under; None before the welcome.
    :ivar budget: of the user; before the welcome, of the connection alone.
    :ivar has_budget: whether the gateway counts this connection for its user's budget.
    :ivar heard_at: when the last bytes came, by Trio's clock.
    :ivar low_told: of the last `keys_low`: when the device was found low on keys, by Postgres' clock (microseconds).
    :ivar typing: the last typing state that the gateway pushed for this connection: conversation, state, time.
    """

    __slots__ = (
        "_accepted_at",
        "_bye",
        "_closing",
        "_gateway",
        "_idle",
        "_is_between_turns",
        "_is_excessive",
        "_is_open",
        "_machine",
        "_nursery",
        "_queues",
        "_scope",
        "_sock",
        "_stream",
        "_unpaid",
        "address",
        "budget",
        "client",
        "counted_as",
        "device",
        "has_budget",
        "heard_at",
        "in_flight",
        "low_told",
        "number",
        "outbox",
        "pinged_at",
        "registered_at",
        "slot",
        "typing",
        "user",
        "was_probed",
        "watched",
    )

    def __init__(self, gateway: Gateway, sock: socket.socket, address: str, number: int = 0) -> None:
        self._gateway = gateway
        self._sock = sock
        self._stream = ClientStream(sock)
        self._machine = StateMachine()
        self._scope = trio.CancelScope()
        self._nursery: trio.Nursery | None = None
        self._closing: tuple[int, str] | None = None
        self._is_open = False
        self._is_between_turns = False
        self._is_excessive = False
        self._bye: int | None = None
        self._unpaid = 0
        self._queues: dict[bool, deque[LookUpRequest]] = {}
        self._idle: trio.Event | None = None
        self._accepted_at = trio.current_time()
        self.number = number
        self.was_probed = False
        self.address = address
        self.budget = Budget()
        self.client: str | None = None
        self.counted_as: str | None = None
        self.has_budget = False
        self.heard_at = 0.0
        self.in_flight = 0
        self.low_told = 0
        self.registered_at = 0.0
        self.pinged_at = -math.inf
        self.slot = 0
        self.typing: tuple[bytes, bool, float] | None = None
        self.watched: frozenset[bytes] = frozenset()
        self.user = b""
        self.device = b""
        self.outbox = Outbox(sock, self._start_soon, self._end, gateway.counts)

    async def run(self) -> None:
        """Serve until either side ends it. Raises nothing but `trio.Cancelled`."""
        SERVED.set(ConnectionName(self.number))
        # The deadline runs from accept to hello, so that no half-open handshake keeps a task; from then on, until the
        # token expires.
        self._scope.deadline = trio.current_time() + limits.HELLO_TIMEOUT_S
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                try:
                    with self._scope:
                        await self._serve()
                    if self._scope.cancelled_caught and self._closing is None and self.outbox.cut_reason is None:
                        self._closing = self._overdue()
                    await self._say_goodbye()
                    nursery.cancel_scope.cancel()
                finally:
                    # Before the nursery closes: a push that comes later finds no nursery for the outbox's task.
                    self.outbox.cut("closed")
        except* trio.BrokenResourceError:
            pass  # The peer has gone without a closing handshake.
        finally:
            self._gateway.leave(self)
            self._tell_idle()
            await self._leave()

    def close(self, code: CloseCode, detail: str) -> None:
        """End the connection soon, telling the peer why. Atomic (no checkpoint)."""
        if self._closing is None:
            self._closing = (code.value, detail)
        self._end()

    @property
    def end_reason(self) -> str:
        """Why the connection has ended: the name of a close code, the reason of the outbox, `lost`, or `not_opened` if
        it never became a WebSocket."""
        if self._closing is not None:
            return _CLOSES.get(self._closing[0], "other_code")
        cut = self.outbox.cut_reason
        if cut is not None and cut != "closed":
            return cut
        return "lost" if self._is_open else "not_opened"

    def life(self) -> dict[str, Any]:
        """The line of the log about this connection, when it ends: no address. Atomic (no checkpoint)."""
        life: dict[str, Any] = {
            "connection": self.number,
            "ended": self.end_reason,
            "seconds": round(trio.current_time() - self._accepted_at, 3),
        }
        if self.user:
            life |= {"user": self.user.hex(), "device": self.device.hex(), "client": self.client}
        if self.outbox.lags:
            life["lags"] = self.outbox.lags
        return life

    @property
    def is_draining(self) -> bool:
        """Whether the connection is about to be closed: requests in flight must be answered soon."""
        return self._machine.state is State.DRAINING

    def drain(self) -> None:
        """Refuse requests from now on; those in flight are still answered."""
        self._machine.drain()

    async def wait_idle(self) -> None:
        """Return once no request is in flight, nor waits for a turn to be served; or the connection has ended."""
        while (self.in_flight or self._is_between_turns) and self.outbox.cut_reason is None:
            if self._idle is None:
                self._idle = trio.Event()
            await self._idle.wait()

    def move(self, in_s: float) -> None:
        """Tell the client to reconnect in `in_s` seconds, if it has been welcomed. Atomic (no checkpoint)."""
        if self._machine.state is State.OPEN and self._closing is None:
            self.outbox.offer(encode(Move(round(in_s * 1000))))
            self.outbox.flush()

    def expire(self) -> None:
        """End the connection at once: it has no hello yet, and others need its room. Atomic (no checkpoint)."""
        self.outbox.cut("no_room")

    def ping(self) -> None:
        """Ask the peer for a sign of life. Atomic (no checkpoint)."""
        if self._closing is None:
            self.outbox.send_raw(ping_frame(b""))

    def expire_in(self, seconds: float) -> None:
        """The token expires in this many seconds."""
        self._scope.deadline = trio.current_time() + seconds

    def _overdue(self) -> tuple[int, str]:
        if self._machine.state in (State.NEW, State.GREETING):
            return CloseCode.HELLO_TIMEOUT.value, f"no hello within {limits.HELLO_TIMEOUT_S:g} s"
        return CloseCode.TOKEN_EXPIRED.value, "the token has expired: log in again"

    def _end(self) -> None:
        self._scope.cancel()

    def _start_soon(self, task: Callable[..., Awaitable[None]], *args: object) -> None:
        assert self._nursery is not None
        self._nursery.start_soon(task, *args)

    async def _serve(self) -> None:
        first = await self._find_address()
        if first is None:
            return
        data = await open_websocket(
            first,
            self._stream.receive_some,
            self.outbox.send_raw,
            self._admit_forwarded,
            self._answer_plain,
        )
        if data is None:
            return
        self._is_open = True
        receiver = WebSocketReceiver(limits.MAX_WEBSOCKET_MESSAGE_BYTES, limits.MAX_FRAGMENTS)
        data = data or await self._stream.receive_some()
        counts = self._gateway.counts
        while data:
            counts.received_bytes += len(data)
            self.heard_at = trio.current_time()
            try:
                for _ in self._take(receiver, data):
                    self._is_between_turns = True
                    await self.budget.wait_turn()
                    self._is_between_turns = False
            except WebSocketError as error:
                self._closing = self._closing or (error.close_code, error.detail)
            if not self.in_flight:
                self._tell_idle()
            if self._closing is not None:
                return
            if self.outbox.is_full:
                await self.outbox.wait_room()
            if self._is_excessive:
                await self._pause()
            data = await self._stream.receive_some()
        await self._gateway.wait_turn()

    async def _answer_plain(self, head: bytes) -> bytes | None:
        answer = await self._gateway.answer_plain(head)
        self.was_probed = answer is not None
        return answer

    async def _pause(self) -> None:
        """The client goes on although its user is in debt: read nothing until most of the debt is repaid."""
        self._is_excessive = False
        self._gateway.counts.pauses += 1
        debt_s = self.budget.debt_s(trio.current_time())
        if debt_s > PAUSE_AFTER_S:
            await trio.sleep(min(debt_s - PAUSE_AFTER_S, LONGEST_PAUSE_S))

    async def _find_address(self) -> bytes | None:
        """Find the client's address; returns the first bytes of the request, or None if the connection is refused."""
        if not self._gateway.trusts(self.address):
            crowded = self._gateway.admit(self)
            if crowded is None:
                return b""
            self.outbox.send_raw(crowded)
            return None
        announced = await read_announced(self.address, self._stream.receive_some)
        if announced is None:
            return None
        self.address = announced.address
        return announced.rest

    def _admit_forwarded(self, forwarded_for: list[str]) -> bytes | None:
        """Admit the connection by the address in its proxies' headers; None, or the refusal to write."""
        if self.counted_as is not None:
            return None
        self.address = self._gateway.forwarded(self.address, forwarded_for)
        return self._gateway.admit(self)

    def _take(self, receiver: WebSocketReceiver, data: bytes) -> Iterator[None]:
        """Serve the frames that these bytes complete. No checkpoint; it yields when the user's turn is over.

        :raises WebSocketError: if the bytes break the rules of WebSocket; the frames before that are served.
        """
        pong = b""
        try:
            for event in receiver.receive(data):
                if self._closing is not None:
                    return
                match event:
                    case bytes():
                        yield from self._take_message(event)
                    case websocket.Ping(payload):
                        # Only the last of several pings needs an answer (RFC 6455, section 5.5.3).
                        pong = pong_frame(payload)
                        self._charge_control_frame()
                    case websocket.Close(code, _):
                        self._closing = (CloseCode.BYE.value if code is None else code, "")
                    case websocket.Pong():
                        self._charge_control_frame()
                if self.budget.turn_is_over:
                    yield
        finally:
            self.outbox.flush()
            if pong:
                self.outbox.send_raw(pong)

    def _take_message(self, message: bytes) -> Iterator[None]:
        # Paid with the first frame: most messages hold one.
        self._unpaid = len(message) // limits.BYTES_PER_COST
        try:
            for frame in decode_from_client(message):
                self._receive(frame)
                if self.budget.turn_is_over:
                    self.outbox.flush()
                    yield
                if self._closing is not None:
                    return
        except RemoteProtocolError as error:
            self.close(error.close_code, error.detail)

    def _receive(self, frame: Request | RequestError) -> None:
        self._gateway.counts.received[type(frame)] += 1
        try:
            self._pay(frame)
            if isinstance(frame, RequestError):
                raise frame
            self._machine.receive(frame)
            self._check_envelopes(frame)
            match frame:
                case Send():
                    self._count(frame.request)
                    self._gateway.send_nowait(self, frame)
                case MarkDelivered() | MarkRead():
                    self._count(frame.request)
                    self._gateway.mark_nowait(self, frame)
                case Ping():
                    self.outbox.offer(encode(Pong(frame.request, self._gateway.now_us())))
                case Bye():
                    self._bye = frame.request
                    self._leave_if_idle()
                case Hello():
                    self._start_soon(self._greet, frame)
                case (
                    Abort()
                    | AddEnvelopes()
                    | Complete()
                    | Delete()
                    | Devices()
                    | Download()
                    | Edit()
                    | History()
                    | KeyStatus()
                    | List()
                    | Parts()
                    | PutKeys()
                    | Refresh()
                    | ReportUndecryptable()
                    | SetTyping()
                    | Status()
                    | Sync()
                    | Upload()
                    | Watch()
                ):
                    self._count(frame.request)
                    self._enqueue(frame)
                case _:
                    assert_never(frame)
        except RequestError as error:
            self.refuse(error)
        except StoreError as error:
            self.outbox.offer(self.refusal(frame.request, error))
            self.answered()

    def refusal(self, request: int, error: RequestError | StoreError) -> bytes:
        """The encoded reply to a request that is refused, which is counted. Atomic (no checkpoint)."""
        reply = error_reply(error) if isinstance(error, RequestError) else store_error_reply(request, error)
        self._gateway.counts.refused[reply.code] += 1
        return encode(reply)

    def refuse(self, error: RequestError) -> None:
        """Offer the refusal of a request. Atomic (no checkpoint)."""
        log.debug("frame_refused", request=error.request, code=error.code.name.lower())
        self.outbox.offer(self.refusal(error.request, error))
        if error.code in _BAD_FRAME and not self.budget.take_bad_frame(self.heard_at):
            limit = limits.BAD_FRAMES
            self.close(CloseCode.TOO_MANY_BAD_FRAMES, f"limit {limit.name}: {limit.shown}")

    def _pay(self, frame: Request | RequestError) -> None:
        """Charge the user for this frame; a bye is always served.

        :raises RequestError: if the user is in debt.
        """
        unpaid, self._unpaid = self._unpaid, 0
        kind = type(frame)
        if kind is Bye:
            return
        cost = _COSTS.get(kind, limits.COST_OF_REQUEST) + unpaid
        if isinstance(frame, MarkDelivered | MarkRead):
            cost += limits.COST_OF_MARK * len(frame.marks)
        elif isinstance(frame, PutKeys):
            cost += limits.COST_OF_KEY * (len(frame.one_time_keys or ()) + len(frame.last_resort_keys or ()))
        if self.budget.take(self.heard_at, cost):
            self._is_excessive = True
            self.budget.charge(self.heard_at, limits.COST_OF_REFUSAL + unpaid)
            raise in_debt(frame.request, self.budget.debt_s(self.heard_at))

    def _check_envelopes(self, frame: Request) -> None:
        """Charge the user for the envelopes of a request, if it has some.

        :raises RequestError: if there is something wrong with them.
        """
        if isinstance(frame, (Send, Edit, AddEnvelopes)) and frame.envelopes is not None:
            self.budget.charge(self.heard_at, limits.COST_OF_ENVELOPE * len(frame.envelopes))
            fault = fault_of(frame.envelopes, self.device)
            if fault is not None:
                raise RequestError(frame.request, ErrorCode.INVALID_FRAME, fault)

    def _charge_control_frame(self) -> None:
        self.budget.charge(self.heard_at, limits.COST_OF_REFUSAL)
        self._is_excessive = self._is_excessive or self.budget.debt_s(self.heard_at) > 0

    def _count(self, request: int) -> None:
        if self.in_flight >= limits.MAX_IN_FLIGHT:
            raise _beyond(limits.REQUESTS_IN_FLIGHT, request, ErrorCode.TOO_MANY_IN_FLIGHT)
        self.in_flight += 1

    def answered(self) -> None:
        """The reply to one request in flight has been offered. Atomic (no checkpoint)."""
        self.in_flight -= 1
        if not self.in_flight:
            self._tell_idle()
            self._leave_if_idle()

    def _tell_idle(self) -> None:
        if self._idle is not None:
            self._idle.set()
            self._idle = None

    def _leave_if_idle(self) -> None:
        if self._bye is not None and not self.in_flight and self._closing is None:
            self.outbox.offer(encode(Done(self._bye)))
            self.close(CloseCode.BYE, "")

    def _enqueue(self, frame: LookUpRequest) -> None:
        is_transfer = isinstance(frame, TransferRequest)
        queue = self._queues.get(is_transfer)
        if queue is None:
            self._queues[is_transfer] = deque((frame,))
            self._start_soon(self._work_off, is_transfer)
        else:
            queue.append(frame)

    async def _work_off(self, is_transfer: bool) -> None:
        """Serve the requests in a queue, in order, until it is empty.

        :param is_transfer: the queue of requests about files; the other one has all others.
        """
        queue = self._queues[is_transfer]
        turns = self.budget.transfers if is_transfer else self.budget.look_ups
        while queue:
            # The look-up waits until the outbox has room for a page, so no client holds more than one in memory here.
            await self.outbox.wait_room()
            await turns.begin()
            frame, began = queue.popleft(), trio.current_time()
            try:
                reply = await self._gateway.answer(self, frame)
            finally:
                turns.end()
            log.debug("look_up_answered", type=name_of(frame), ms=round(1000 * (trio.current_time() - began), 1))
            self.budget.charge(trio.current_time(), len(reply) // limits.READ_BYTES_PER_COST)
            self.outbox.offer(reply)
            self.answered()
            self.outbox.flush()
        del self._queues[is_transfer]

    async def _greet(self, hello: Hello) -> None:
        version = agreed_version(hello.version)
        if version is None:
            detail = f"the client speaks version {hello.version}; this server serves {limits.OLDEST_VERSION} and later"
            self.close(CloseCode.UNSUPPORTED_VERSION, detail)
            return
        try:
            greeted = await self._gateway.identify(self, hello.token)
            identity = greeted.identity
            if not self._gateway.has_room(identity.user):
                limit = limits.CONNECTIONS_PER_USER
                self.close(CloseCode.TOO_MANY_CONNECTIONS, f"limit {limit.name}: {limit.value}")
                return
            self.user, self.device = identity.user, identity.device
            self.budget = self._gateway.budget_of(self)
            if self.budget.take(trio.current_time(), limits.COST_OF_CONNECTION):
                limit = limits.COST_PER_USER
                self.close(CloseCode.TOO_MANY_CONNECTIONS, f"limit {limit.name}: {limit.value} a second")
                return
            # Pushes may be offered from the moment of registering; they are held until the welcome.
            self.outbox.hold()
            await self._gateway.register(self)
        except (TokenUnknown, TokenExpired, DeviceRevoked, TokenReused, AccountSuspended) as error:
            code = _TOKEN_CODES[type(error)]
            self.close(code, code.info.meaning)
            return
        except (Unavailable, Overloaded) as error:
            log.warning("hello_refused", error=str(error))
            self.close(CloseCode.UNAVAILABLE, "try again")
            return
        except Exception:  # the boundary: only this client notices a fault here
            log.exception("hello_failed")
            self.close(CloseCode.SERVER_ERROR, "a fault of the server")
            return
        if self._machine.state is State.DRAINING:
            return  # The node began to stop meanwhile; it is about to tell the client.
        self._machine.welcome()
        self.expire_in((identity.expires - identity.now) / 1e6)
        welcome = Welcome(
            hello.request,
            identity.now,
            self.user,
            self.device,
            version,
            identity.expires,
            int(limits.KEEP_ALIVE_S * 1000),
        )
        self.outbox.release(with_fields(encode(welcome), self._gateway.told))
        self.client = self._gateway.welcomed(self, hello.client)
        log.debug("welcomed", client=hello.client, version=version)
        await self._go_on(hello, greeted)

    async def _go_on(self, hello: Hello, greeted: GreetedDevice) -> None:
        """What follows the welcome: whatever the device has to know at once, and the news since its cursor."""
        if greeted.low_kinds:
            self.outbox.offer(encode(KeysLow(greeted.low_kinds)))
            self.outbox.flush()
        if greeted.has_reports:
            for frame in await self._gateway.reports_for(self):
                self.outbox.offer(frame)
            self.outbox.flush()
        if hello.cursor is not None:
            # The hello has had its reply; its sync counts as a request in flight of this connection.
            self.in_flight += 1
            self._enqueue(hello)

    async def _say_goodbye(self) -> None:
        """Tell the peer why the connection ends, if it can still be told; this waits only for the kernel."""
        if self._is_open and self._closing is not None and self.outbox.cut_reason is None:
            self.outbox.end(close_frame(*self._closing))
        with trio.move_on_after(CLOSE_TIMEOUT_S):
            await self.outbox.wait_flushed()

    async def _leave(self) -> None:
        is_orderly = self.outbox.cut_reason == "closed"
        try:
            # The connection does not wait for a peer that was silent until the keep-alive gave up.
            if is_orderly and (self._closing is None or self._closing[0] != CloseCode.SILENT.value):
                with trio.move_on_after(CLOSE_TIMEOUT_S):
                    await self._stream.linger()
        finally:
            if is_orderly:
                self._stream.close()
            else:
                self._stream.reset()


_TOKEN_CODES: Final[dict[type[StoreError], CloseCode]] = {
    TokenUnknown: CloseCode.UNAUTHENTICATED,
    TokenExpired: CloseCode.TOKEN_EXPIRED,
    DeviceRevoked: CloseCode.DEVICE_REVOKED,
    TokenReused: CloseCode.TOKEN_REUSED,
    AccountSuspended: CloseCode.ACCOUNT_SUSPENDED,
}


_CLOSES: Final = {code.value: code.name.lower() for code in CloseCode}
"""Names of close codes; a client may send any number."""

_COSTS: Final = dict.fromkeys(
    (*get_args(QueuedRequest), *get_args(TransferRequest)), limits.COST_OF_REQUEST + limits.COST_OF_LOOK_UP
)
"""Cost of the kinds of frames that cost more than `COST_OF_REQUEST`."""

_BAD_FRAME: Final = frozenset({ErrorCode.UNKNOWN_FRAME, ErrorCode.INVALID_FRAME, ErrorCode.UNEXPECTED_FRAME})


def _beyond(limit: Limit, request: int, code: ErrorCode) -> RequestError:
    return RequestError(request, code, f"limit {limit.name}: {limit.shown}", limit=limit)
