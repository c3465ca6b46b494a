"""Requests that need a look-up, each answered by itself: editing and deleting, reading, typing, watching, tokens.

Sends and marks are frequent and go through batches instead (`server.gateway.sends`, `server.gateway.marks`).
"""

from __future__ import annotations

from collections import Counter
from typing import Final, assert_never

import structlog
import trio

from protocol import limits
from protocol.codec import encode
from protocol.codes import ErrorCode
from protocol.errors import RequestError
from protocol.frames import (
    Abort,
    AddEnvelopes,
    Complete,
    Conversation,
    Conversations,
    Cursor,
    Delete,
    Devices,
    Done,
    Download,
    Edit,
    Hello,
    History,
    KeyStatus,
    Lag,
    List,
    Messages,
    Parts,
    PutKeys,
    Refresh,
    Refreshed,
    Reply,
    ReportUndecryptable,
    Revised,
    SetTyping,
    Status,
    Statuses,
    Sync,
    Synced,
    Typing,
    Upload,
    Watch,
    name_of,
)
from server.cluster.presence import PresenceWatch
from server.delivery.broadcast import Broadcast, push_of, tombstone_of
from server.gateway.connection import Connection, LookUpRequest
from server.gateway.healing import HealingHandler, HealingRequest
from server.gateway.keys import KeyHandler, KeyRequest
from server.gateway.transfers import TransferHandler
from server.transport.outbox import ROOM_BYTES, Whole
from store import conversations, messages, revisions, tokens
from store.envelopes import with_own
from store.errors import DatabaseError, ForeignCursor, Refused, StaleDevices, StoreError
from store.marks import message_status
from store.page_cursor import InvalidCursor, decode_cursor, encode_cursor
from store.participant_lists import watchable
from store.postgres.pool import Pool
from store.redis.client import RedisError
from store.redis.entries import AddressedPush
from store.sync import SyncPage, sync

log = structlog.get_logger(__name__)

_LIST: Final = "list"
_REQUESTS: Final = "requests"


class RequestHandler:
    """Answers requests one by one.

    :param token_lifetime_s: of tokens that are issued here.
    :ivar resumes: cursors of hellos that were served, by outcome.
    """

    def __init__(
        self,
        pool: Pool,
        broadcast: Broadcast,
        presence: PresenceWatch,
        transfers: TransferHandler,
        keys: KeyHandler,
        healing: HealingHandler,
        *,
        token_lifetime_s: float,
    ) -> None:
        self._pool = pool
        self._broadcast = broadcast
        self._presence = presence
        self._transfers = transfers
        self._keys = keys
        self._healing = healing
        self._token_lifetime_s = token_lifetime_s
        self.resumes: Counter[str] = Counter()

    async def answer(self, connection: Connection, frame: LookUpRequest) -> bytes:
        """Serve a request; returns the encoded reply. Raises only `trio.Cancelled`: then the outcome is unknown."""
        try:
            return await self._serve(connection, frame)
        except RequestError as error:
            return connection.refusal(frame.request, error)
        except StoreError as error:
            if isinstance(error, RedisError):
                # The text comes from Redis and is for the operator, for example that its memory is full.
                log.warning("request_refused", request=name_of(frame), error=str(error))
            return connection.refusal(frame.request, error)
        except Exception:  # the boundary: only this client notices a fault here
            log.exception("request_failed", request=name_of(frame))
            return connection.refusal(frame.request, RequestError(frame.request, ErrorCode.INTERNAL, ""))

    async def _serve(self, connection: Connection, frame: LookUpRequest) -> bytes:
        match frame:
            case Edit():
                return encode(await self._edit(connection, frame))
            case Delete():
                return encode(await self._delete(connection, frame))
            case SetTyping():
                await self._set_typing(connection, frame)
                return encode(Done(frame.request))
            case Watch():
                asked_at = trio.current_time()
                users = await watchable(self._pool, connection.user, frame.users)
                await self._presence.watch(connection, users, asked_at)
                return encode(Done(frame.request))
            case Sync():
                page = await self._catch_up(connection, frame)
                return _whole(connection, page, Synced(frame.request, page.cursor, page.more))
            case Hello():
                return await self._resume(connection, frame)
            case (
                Status()
                | History()
                | List()
                | PutKeys()
                | Devices()
                | KeyStatus()
                | AddEnvelopes()
                | ReportUndecryptable()
            ):
                return encode(await self._look_up(connection, frame))
            case Refresh():
                lifetime_s = self._token_lifetime_s
                token, expires, now = await tokens.renew_token(
                    self._pool, connection.device, frame.token, lifetime_s=lifetime_s
                )
                connection.expire_in((expires - now) / 1e6)
                return encode(Refreshed(frame.request, token, expires))
            case Upload() | Parts() | Complete() | Download() | Abort():
                return encode(await self._transfers.answer(connection.user, frame))
            case _:
                assert_never(frame)

    async def _look_up(
        self, connection: Connection, frame: Status | History | List | KeyRequest | HealingRequest
    ) -> Reply:
        match frame:
            case Status():
                found = await message_status(self._pool, connection.user, frame.conversation, frame.seq)
                return Statuses(frame.request, found.receipts)
            case History():
                return await self._history(connection, frame)
            case List():
                return await self._list(connection, frame)
            case AddEnvelopes():
                self._push_change(connection, await self._healing.add(connection, frame))
                return Done(frame.request)
            case ReportUndecryptable():
                await self._healing.report(connection, frame)
                return Done(frame.request)
            case PutKeys() | Devices() | KeyStatus():
                return await self._keys.answer(connection, frame)

    async def _edit(self, connection: Connection, frame: Edit) -> Reply:
        try:
            change, revision, edited = await revisions.edit(
                self._pool,
                connection.user,
                frame.conversation,
                frame.seq,
                frame.revision,
                frame.content_type,
                frame.content,
                frame.nonce,
                frame.ephemeral_public_key,
                frame.attachments,
                frame.thumbnail,
                device=connection.device,
                devices_version=frame.devices_version,
                envelopes=frame.envelopes,
            )
        except StaleDevices as changed:
            if frame.wants_devices:
                await self._keys.list_changed(connection, frame.conversation, changed, frame.kinds)
            raise
        self._push_change(connection, change)
        return Revised(frame.request, revision, edited)

    async def _delete(self, connection: Connection, frame: Delete) -> Reply:
        delete = revisions.delete_for_everyone if frame.for_everyone else revisions.delete_for_me
        self._push_change(connection, await delete(self._pool, connection.user, frame.conversation, frame.seq))
        return Done(frame.request)

    def _push_change(self, connection: Connection, change: revisions.MessageChange) -> None:
        if change.is_new:
            message = change.message
            told = push_of(message, change.participants, origin=connection, envelopes=change.envelopes)
            self._push(connection, told)
            if change.hidden_for is not None:
                stone = tombstone_of(message)
                self._push(connection, AddressedPush(message.conversation, 0, encode(stone), [change.hidden_for]))
            self._broadcast.flush()

    def _push(self, connection: Connection, push: AddressedPush) -> None:
        connection.budget.charge_pushes(trio.current_time(), len(push.users), len(push.frame))
        self._broadcast.push(push._replace(cause=connection.user))

    async def _set_typing(self, connection: Connection, frame: SetTyping) -> None:
        said, last = (frame.conversation, frame.is_typing), connection.typing
        if last and last[:2] == said and trio.current_time() < last[2] + limits.TYPING_INTERVAL_S:
            return
        others = await messages.typing_recipients(self._pool, frame.conversation, connection.user)
        connection.typing = (*said, trio.current_time())
        typing = encode(Typing(frame.conversation, connection.user, frame.is_typing))
        key = frame.conversation + connection.user
        self._push(connection, AddressedPush(frame.conversation, 0, typing, others, connection, key))
        self._broadcast.flush()

    async def _catch_up(self, connection: Connection, frame: Sync | Hello) -> SyncPage:
        """The last of the requested pages; the pages before it have been offered.

        A page is read when the outbox has room for it, and the user is out of debt or has waited for a second. It takes
        half an outbox at most, so that pushes find room, too.
        """
        outbox, cursor = connection.outbox, frame.cursor
        for _ in range((frame.pages or 1) - 1):
            page = await self._page(connection, cursor, frame.count)
            if not page.more or connection.is_draining or outbox.cut_reason is not None:
                return page
            whole = _whole(connection, page, Cursor(page.cursor, True))
            outbox.offer(whole)
            outbox.flush()
            cursor = page.cursor
            cost = limits.COST_OF_LOOK_UP + len(whole) // limits.READ_BYTES_PER_COST
            connection.budget.charge(trio.current_time(), cost)
            await connection.budget.wait_paid()
            await outbox.wait_room(ROOM_BYTES)
        return await self._page(connection, cursor, frame.count)

    async def _page(self, connection: Connection, cursor: bytes | None, newest: int | None) -> SyncPage:
        # First pushes, then the look-up: changes committed in between come twice, and none are missed.
        connection.outbox.resume()
        page = await sync(self._pool, connection.user, cursor, newest=newest, device=connection.device)
        if not page.more:
            connection.outbox.note_synced(page.marks)
        return page

    async def _resume(self, connection: Connection, frame: Hello) -> bytes:
        """Serve the cursor in the hello. It has no reply of its own, so if that fails, the client is asked to sync."""
        try:
            page = await self._catch_up(connection, frame)
        except DatabaseError:
            raise  # a fault of the server: `answer` logs it and tells the client
        except StoreError as error:
            log.info("not_resumed", error=type(error).__name__)
            self.resumes["cursor_refused" if isinstance(error, Refused) else "unavailable"] += 1
            return encode(Lag([]))
        self.resumes["more" if page.more else "complete"] += 1
        return _whole(connection, page, Cursor(page.cursor, page.more))

    async def _history(self, connection: Connection, frame: History) -> Reply:
        page = await messages.history(
            self._pool,
            connection.user,
            frame.conversation,
            limit=frame.count or limits.DEFAULT_COUNT,
            before=frame.before,
            after=frame.after,
            max_bytes=limits.MAX_PAGE_BYTES,
            device=connection.device,
        )
        downloads = None
        if frame.wants_downloads:
            downloads = await self._transfers.downloads_of(connection.user, page.messages)
        return Messages(frame.request, page.more, page.messages, page.first_seq, downloads)

    async def _list(self, connection: Connection, frame: List) -> Reply:
        before = None
        kind, is_request = (_REQUESTS, True) if frame.is_request else (_LIST, False)
        if frame.cursor is not None:
            try:
                active_at, conversation = decode_cursor(frame.cursor, kind, int, bytes)
            except InvalidCursor:
                raise ForeignCursor from None
            before = (active_at, conversation)
        count = frame.count or limits.DEFAULT_COUNT
        found = await conversations.list_of(
            self._pool, connection.user, limit=count + 1, before=before, is_request=is_request
        )
        page: list[Conversation] = []
        size = 0
        for conversation in await with_own(self._pool, connection.device, found[:count]):
            size += len(encode(conversation))
            if page and size > limits.MAX_PAGE_BYTES:
                break
            page.append(conversation)
        cursor = None
        if len(found) > len(page):
            cursor = encode_cursor(kind, page[-1].active_at, page[-1].conversation)
        return Conversations(frame.request, cursor, page)


def _whole(connection: Connection, page: SyncPage, last: Synced | Cursor) -> Whole:
    frames = [*map(encode, page.pushes), encode(last)]
    connection.outbox.count_frames(frames)
    return Whole(b"".join(frames))
