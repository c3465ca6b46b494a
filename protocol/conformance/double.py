"""The server double: it answers a client as a server does, as far as a scenario leaves it alone. Sans-IO.

It holds the conversations of one user, and serves the one device of that user whose client is tested. A scenario lets
other users write, and makes the double answer some requests in another way (`faults`).
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from protocol import limits
from protocol.codes import ErrorCode
from protocol.conformance.cursors import Cursors
from protocol.conformance.devices import DoubleDevices
from protocol.conformance.keys import DoubleKeys
from protocol.conformance.offered import LATER, OFFERED
from protocol.conformance.own_writes import OwnWrites, Violation, refuse
from protocol.conformance.talk import DEVICE, ME, START_US, Talk
from protocol.conformance.values import Fields
from protocol.frames import (
    Abort,
    Complete,
    Conversation,
    Conversations,
    Cursor,
    Delete,
    DeviceList,
    Devices,
    Done,
    Download,
    Edit,
    Frame,
    Hello,
    History,
    KeyStatus,
    Lag,
    List,
    MarkDelivered,
    MarkRead,
    Message,
    Messages,
    Parts,
    Ping,
    Pong,
    Presence,
    PutKeys,
    Refresh,
    Refreshed,
    Request,
    Send,
    Sent,
    SetTyping,
    Status,
    Statuses,
    Sync,
    Synced,
    Tombstone,
    Upload,
    Watch,
    Welcome,
)
from protocol.requests import Bye

FIRST_TOKEN: Final = "alo_first"  # noqa: S105
DAY_US: Final = 86_400_000_000
KEEP_ALIVE_MS: Final = 30_000
RETRY_AFTER_MS: Final = 100
HISTORY_COUNT: Final = 50


class Heard(Struct, frozen=True):
    """Something that came from the client.

    :ivar at_s: when, by the clock of the caller.
    :ivar connection: the number of the connection, from 1.
    :ivar gateway: the number of the address, from 0.
    :ivar fields: of a frame; the `type` of anything else is "connected", "refused", "websocket_pong",
        "websocket_close" or "ended".
    """

    at_s: float
    connection: int
    gateway: int
    fields: Fields


class Double:
    """The data of a server with one user's device, and the answers to its requests.

    :ivar talks: the conversations of the user, by their ids.
    :ivar journal: everything that has come from the client, in order.
    :ivar faults: type of request -> how the next ones are answered instead; see `protocol.conformance.peer`.
    :ivar told: fields of each `welcome` that replace the usual ones.
    :ivar is_draining: it refuses requests, and is about to close.
    :ivar online: which users are online; the presence of others is not known.
    :ivar devices: of other users.
    :ivar messages_per_page: the most messages of a page of `history`.
    :ivar keys: of the client's device.
    :ivar writes: what the client has sent, edited and deleted.
    :ivar on_change: called when something has come from the client.
    """

    def __init__(self, now_s: Callable[[], float], features: Iterable[str] | None = None) -> None:
        self.talks: dict[bytes, Talk] = {}
        self.cursors: Final = Cursors()
        self.journal: Final[list[Heard]] = []
        self.faults: Final[defaultdict[str, deque[Fields]]] = defaultdict(deque)
        self.features: Final = sorted(OFFERED if features is None else features)
        self.told: Fields = {}
        self.is_draining = False
        self.online: dict[bytes, bool] = {}
        self.devices: Final = DoubleDevices()
        self.messages_per_page = limits.MAX_COUNT
        self.on_change: Callable[[], object] = lambda: None
        self._now_s = now_s
        self._tokens = [FIRST_TOKEN]
        self._shown_token = 0
        answers: dict[tuple[type[Request], ...], Callable[[Any], list[Frame]]] = {
            (Send, Edit, Delete): self._write,
            (MarkDelivered, MarkRead): self._mark,
            (PutKeys,): self._put_keys,
            (KeyStatus,): self._key_status,
            (SetTyping, Bye): self._do_nothing,
            (Watch,): self._watch,
            (Upload, Parts, Complete, Download, Abort): self._refuse_transfer,
            (Sync,): self._sync,
            (History,): self._history,
            (List,): self._list,
            (Devices,): self._list_devices,
            (Refresh,): self._refresh,
            (Ping,): self._pong,
            (Status,): self._status,
        }
        self._answers: Final = {struct: answer for structs, answer in answers.items() for struct in structs}
        self.keys: Final = DoubleKeys()
        self.writes: Final = OwnWrites()
        self._shown: defaultdict[bytes, set[int]] = defaultdict(set)

    def hear(self, connection: int, gateway: int, fields: Fields) -> None:
        """Note something that came from the client."""
        self.journal.append(Heard(self._now_s(), connection, gateway, fields))
        self.on_change()

    def welcome(self, hello: Hello) -> Welcome:
        """The answer to a `hello`.

        :raises Violation: if the token is not one that the client may show.
        """
        self._check_token(hello.token)
        version = min(hello.version, limits.PROTOCOL_VERSION)
        welcome = Welcome(
            hello.request,
            START_US,
            ME,
            DEVICE,
            version,
            START_US + 90 * DAY_US,
            KEEP_ALIVE_MS,
            [*self.features, LATER],
            [*limits.told(), (LATER, 1)],
        )
        return replace(welcome, **self.told)

    def _check_token(self, token: str) -> None:
        if token not in self._tokens:
            raise Violation("13.1", "the client shows a token that it was never given")
        number = self._tokens.index(token)
        if number < self._shown_token:
            raise Violation("13.1", "the client shows a token again after it has shown a newer one")
        self._shown_token = number

    def resume(self, hello: Hello) -> list[Frame]:
        """The news that follow the `welcome` (SPEC 6.1.1).

        :raises Violation: if the cursor is not one that the double has given out.
        """
        if hello.cursor is None or "resume" not in self.features:
            return []
        self._check_cursor(hello.cursor)
        if self.cursors.refusal(hello.cursor) is not None:
            return [Lag([])]
        frames: list[Frame] = []
        most = hello.pages or 1 if "pages" in self.features else 1
        for page in self.cursors.pages(list(self.talks.values()), hello.cursor, hello.count, most):
            frames += [*page.frames, Cursor(page.cursor, page.more)]
        return frames

    def advance(self) -> Cursor:
        """The cursor of a client to which everything was pushed (SPEC 6.5)."""
        return Cursor(self.cursors.present(self.talks.values()), False)

    def show(self, frames: Iterable[Frame]) -> None:
        """These frames go to the client: it may mark the messages in them delivered."""
        for frame in frames:
            match frame:
                case Message() | Tombstone():
                    self._shown[frame.conversation].add(frame.seq)
                case Conversation() if frame.last_message is not None:
                    self.show([frame.last_message])
                case Messages():
                    self.show(frame.messages)

    def forget(self) -> None:
        """The database is another one: it knows no conversation, message or edit of before."""
        self.talks.clear()
        self.writes.forget()
        self._shown.clear()

    def answer(self, request: Request) -> list[Frame]:
        """The frames in answer to a request of a welcomed connection, the reply last.

        :raises Violation: if the request breaks a rule that holds at any time.
        """
        return self._answers.get(type(request), self._refuse_unknown)(request)

    def _refuse_unknown(self, request: Request) -> list[Frame]:
        return [refuse(request, ErrorCode.UNKNOWN_FRAME)]

    def _refuse_transfer(self, request: Request) -> list[Frame]:
        return [refuse(request, ErrorCode.NO_OBJECT_STORE)]

    def _do_nothing(self, request: Request) -> list[Frame]:
        return [Done(request.request)]

    def _watch(self, request: Watch) -> list[Frame]:
        told = [Presence(user, self.online[user]) for user in request.users if user in self.online]
        return [*told, Done(request.request)]

    def _pong(self, request: Ping) -> list[Frame]:
        return [Pong(request.request, START_US)]

    def _list(self, request: List) -> list[Frame]:
        told = [talk.conversation(is_new=True) for talk in self.talks.values() if talk.is_shown]
        return [Conversations(request.request, None, told)]

    def _put_keys(self, request: PutKeys) -> list[Frame]:
        return [self.keys.put(request)]

    def _key_status(self, request: KeyStatus) -> list[Frame]:
        return [self.keys.status(request)]

    def _status(self, request: Status) -> list[Frame]:
        return [Statuses(request.request, [])]

    def _write(self, request: Send | Edit | Delete) -> list[Frame]:
        talk = self._talk(request.conversation)
        if talk is None:
            self.writes.forget_attempt(request)
            return [refuse(request, ErrorCode.NOT_A_PARTICIPANT)]
        reply = self.writes.answer(talk, request, self.devices)
        if isinstance(reply, Sent):
            self._shown[talk.id].add(reply.seq)
        return [reply]

    def _mark(self, request: MarkDelivered | MarkRead) -> list[Frame]:
        pushes: list[Frame] = []
        for conversation, seq in request.marks:
            talk = self._talk(conversation)
            if talk is None:
                continue
            if isinstance(request, MarkRead):
                pushes += [talk.receipts()] if talk.read(seq) else []
            elif seq > (most := self._shown_up_to(talk)):
                raise Violation(
                    "5.5", f"the client marks up to {seq} as delivered, but has the messages up to {most} at most"
                )
            else:
                talk.deliver(seq)
        return [*pushes, Done(request.request)]

    def _shown_up_to(self, talk: Talk) -> int:
        """The last seq before the first gap of what the client was ever shown."""
        shown, up_to = self._shown[talk.id], max(talk.begin, talk.first_seq) - 1
        while up_to + 1 in shown:
            up_to += 1
        return up_to

    def _sync(self, request: Sync) -> list[Frame]:
        if request.cursor is not None:
            self._check_cursor(request.cursor)
            if (code := self.cursors.refusal(request.cursor)) is not None:
                return [refuse(request, code)]
        frames: list[Frame] = []
        *pages, last = self.cursors.pages(list(self.talks.values()), request.cursor, request.count, request.pages or 1)
        for page in pages:
            frames += [*page.frames, Cursor(page.cursor, page.more)]
        return [*frames, *last.frames, Synced(request.request, last.cursor, last.more)]

    def _check_cursor(self, cursor: bytes) -> None:
        if not self.cursors.is_issued(cursor):
            raise Violation("6.1", "the client gives a cursor that no frame has had")

    def _history(self, request: History) -> list[Frame]:
        talk = self._talk(request.conversation)
        if talk is None:
            return [refuse(request, ErrorCode.NOT_A_PARTICIPANT)]
        after, before = request.after or 0, request.before or talk.last_seq + 1
        found = [entry for entry in talk.entries if after < entry.seq < before and entry.seq >= talk.first_seq]
        if request.after is None:
            found.reverse()
        count = min(request.count or HISTORY_COUNT, self.messages_per_page)
        return [Messages(request.request, len(found) > count, found[:count], talk.first_seq)]

    def _list_devices(self, request: Devices) -> list[Frame]:
        page, more = self.devices.page(request.users, request.kinds, after=request.device or b"")
        if not more:
            for talk in self.talks.values():
                talk.device_set.tell(request.users)
        return [DeviceList(request.request, more, page)]

    def _refresh(self, request: Refresh) -> list[Frame]:
        self._check_token(request.token)
        self._tokens.append(f"alo_renewed_{len(self._tokens)}")
        return [Refreshed(request.request, self._tokens[-1], START_US + 90 * DAY_US)]

    def _talk(self, conversation: bytes) -> Talk | None:
        talk = self.talks.get(conversation)
        return talk if talk is not None and talk.is_shown else None
