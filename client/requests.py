"""A method for each request of the protocol: its fields in, its reply out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Final, TypeAlias, TypeVar

from protocol.codes import CloseCode
from protocol.errors import RemoteProtocolError
from protocol.frames import (
    Abort,
    AddEnvelopes,
    Complete,
    Conversations,
    Delete,
    DeviceList,
    Devices,
    Done,
    Download,
    Downloads,
    Edit,
    Envelope,
    HeldKeys,
    History,
    KeyStatus,
    List,
    MarkDelivered,
    MarkRead,
    Messages,
    OneTimeKey,
    PartRequests,
    Parts,
    PutKeys,
    Refresh,
    Refreshed,
    Reply,
    ReportUndecryptable,
    Request,
    Revised,
    Send,
    Sent,
    SetTyping,
    Status,
    Statuses,
    Sync,
    Synced,
    Tickets,
    Upload,
    Watch,
    name_of,
)

REPLY_TIMEOUT_S: Final = 15.0
"""For the reply to one request."""

SYNC_TIMEOUT_S: Final = 60.0
"""For the reply to `sync`, which comes after all news: 256 KiB take half of this time on the slowest networks."""

COMPLETE_TIMEOUT_S: Final = 60.0
"""For the reply to `complete`: the object store joins the parts of a large file."""

DeclaredFile: TypeAlias = tuple[int, str, bytes, tuple[int, bytes] | None]
"""Size in bytes, media type, digests of the parts, and the thumbnail's size and digest: as in `frames.Upload`."""

_R = TypeVar("_R", bound=Reply)


class Requests(ABC):
    """The requests of a connection that has been welcomed, but for `hello` and `ping`."""

    @abstractmethod
    async def request(self, frame: Request, *, timeout_s: float = REPLY_TIMEOUT_S) -> Reply:
        """Send a request, return its reply."""

    async def send(
        self,
        conversation: bytes,
        content: bytes,
        *,
        temp_id: bytes,
        content_type: str = "application/octet-stream",
        nonce: bytes | None = None,
        ephemeral_public_key: bytes | None = None,
        reply_to: int | None = None,
        attachments: list[bytes] | None = None,
        thumbnail: bytes | None = None,
        is_quiet: bool = False,
        devices_version: int | None = None,
        envelopes: list[Envelope] | None = None,
        follows: int | None = None,
        wants_devices: bool = False,
        kinds: list[str] | None = None,
        timeout_s: float = REPLY_TIMEOUT_S,
    ) -> Sent:
        """Send one message; returns when it is committed. Raises what `request` raises.

        :param temp_id: 16 bytes, best a UUID of version 7. To retry, use the same: the server stores the message once.
        :param reply_to: the seq of the message that it answers.
        :param attachments: ids of complete uploads of the user's own, 1 to `limits.MAX_ATTACHMENTS`.
        :param thumbnail: ciphertext of 1 to `limits.MAX_THUMBNAIL_BYTES` bytes.
        :param is_quiet: it counts neither as unread nor for notices, such as a message of keys.
        :param devices_version: of the device set for which the content is encrypted. If it is not the present one,
            `RequestRefused` with the code `devices_changed` says what has changed.
        :param envelopes: pairs (device, bytes for that device alone), 1 to `limits.MAX_ENVELOPES`; none for this one.
        :param follows: of a control message: the seq of the one before it, 0 for the first. If another one has come,
            `RequestRefused` has the code `control_conflict`.
        :param wants_devices: then it lists the devices of the changed users, too, with keys of these `kinds`.
        """
        frame = Send(
            0,
            conversation,
            content_type,
            content,
            nonce,
            ephemeral_public_key,
            temp_id,
            reply_to,
            attachments,
            thumbnail,
            is_quiet or None,
            devices_version,
            envelopes,
            follows,
            kinds,
            wants_devices or None,
        )
        return expect(Sent, await self.request(frame, timeout_s=timeout_s))

    async def mark_delivered(self, marks: list[tuple[bytes, int]], *, timeout_s: float = REPLY_TIMEOUT_S) -> None:
        """Say that this device has stored conversations up to a `seq` each. Raises what `request` raises.

        :param marks: 1 to `limits.MAX_MARKS` pairs (conversation, seq).
        """
        expect(Done, await self.request(MarkDelivered(0, marks), timeout_s=timeout_s))

    async def mark_read(self, marks: list[tuple[bytes, int]], *, timeout_s: float = REPLY_TIMEOUT_S) -> None:
        """Say that the user has read conversations up to a `seq` each. Raises what `request` raises.

        :param marks: 1 to `limits.MAX_MARKS` pairs (conversation, seq).
        """
        expect(Done, await self.request(MarkRead(0, marks), timeout_s=timeout_s))

    async def edit(
        self,
        conversation: bytes,
        seq: int,
        content: bytes,
        *,
        revision: int,
        content_type: str = "application/octet-stream",
        nonce: bytes | None = None,
        ephemeral_public_key: bytes | None = None,
        attachments: list[bytes] | None = None,
        thumbnail: bytes | None = None,
        devices_version: int | None = None,
        envelopes: list[Envelope] | None = None,
        wants_devices: bool = False,
        kinds: list[str] | None = None,
        timeout_s: float = REPLY_TIMEOUT_S,
    ) -> Revised:
        """Put other content into a message of the user's own; returns its new revision. Raises what `request` raises.

        :param revision: the known one, 0 for a message as it was sent. To retry, give the same.
        :param attachments: of the message from now on: those that it keeps, and new ones; None: none.
        :param devices_version: as in `send`, with `envelopes`, `wants_devices` and `kinds`.
        """
        frame = Edit(
            0,
            conversation,
            seq,
            content_type,
            content,
            nonce,
            ephemeral_public_key,
            revision,
            attachments,
            thumbnail,
            devices_version,
            envelopes,
            kinds,
            wants_devices or None,
        )
        return expect(Revised, await self.request(frame, timeout_s=timeout_s))

    async def delete(
        self, conversation: bytes, seq: int, *, for_everyone: bool, timeout_s: float = REPLY_TIMEOUT_S
    ) -> None:
        """Delete a message; to do so again changes nothing. Raises what `request` raises.

        :param for_everyone: its sender may, and an administrator; else for this user alone.
        """
        expect(Done, await self.request(Delete(0, conversation, seq, for_everyone), timeout_s=timeout_s))

    async def set_typing(self, conversation: bytes, is_typing: bool, *, timeout_s: float = REPLY_TIMEOUT_S) -> None:
        """Say that the user types, every 3 s while it goes on, or has stopped. Raises what `request` raises."""
        expect(Done, await self.request(SetTyping(0, conversation, is_typing), timeout_s=timeout_s))

    async def watch(self, users: list[bytes], *, timeout_s: float = REPLY_TIMEOUT_S) -> None:
        """From now on get the presence of these users and of no others. Raises what `request` raises.

        When this returns, a `Presence` has come for each of them who shares a conversation with this user.

        :param users: at most `limits.MAX_WATCHED`.
        """
        expect(Done, await self.request(Watch(0, users), timeout_s=timeout_s))

    async def sync(
        self,
        cursor: bytes | None,
        *,
        count: int | None = None,
        pages: int | None = None,
        timeout_s: float = SYNC_TIMEOUT_S,
    ) -> Synced:
        """Have the server push the news since a cursor; `on_push` has returned for all of it when this returns.

        Raises what `request` raises.

        :param cursor: of the last `Synced`; None for a device that holds nothing.
        :param count: the greatest number of new messages of each conversation, the last ones; those before are a gap.
        :param pages: the greatest number, up to `limits.MAX_PAGES`; each but the last ends with a `Cursor` push.
        """
        return expect(Synced, await self.request(Sync(0, cursor, count, pages), timeout_s=timeout_s))

    async def history(
        self,
        conversation: bytes,
        *,
        count: int | None = None,
        before: int | None = None,
        after: int | None = None,
        wants_downloads: bool | None = None,
        timeout_s: float = REPLY_TIMEOUT_S,
    ) -> Messages:
        """A page of messages: newest first, or with `after` oldest first. Raises what `request` raises.

        :param count: the greatest number, up to `limits.MAX_COUNT`; `limits.DEFAULT_COUNT` if left out.
        :param before: only those with a smaller seq; to read on, the page's last one.
        :param after: only those with a greater seq; to read on, the page's last one.
        :param wants_downloads: true for download tickets of the page's attachments, too.
        """
        frame = History(0, conversation, count, before, after, wants_downloads)
        return expect(Messages, await self.request(frame, timeout_s=timeout_s))

    async def list_conversations(
        self,
        *,
        cursor: bytes | None = None,
        count: int | None = None,
        is_request: bool | None = None,
        timeout_s: float = REPLY_TIMEOUT_S,
    ) -> Conversations:
        """A page of the user's conversations, the latest message first. Raises what `request` raises.

        :param cursor: of the page before.
        :param count: the greatest number, up to `limits.MAX_COUNT`; `limits.DEFAULT_COUNT` if left out.
        :param is_request: true for the requests, instead of all other conversations.
        """
        frame = List(0, cursor, count, is_request)
        return expect(Conversations, await self.request(frame, timeout_s=timeout_s))

    async def refresh(self, token: str, *, timeout_s: float = REPLY_TIMEOUT_S) -> Refreshed:
        """Get a new token for this device; the connection lives as long as that. Raises what `request` raises.

        :param token: the present one; it stays good for a day, in case the reply is lost.
        """
        return expect(Refreshed, await self.request(Refresh(0, token), timeout_s=timeout_s))

    async def status(self, conversation: bytes, seq: int, *, timeout_s: float = REPLY_TIMEOUT_S) -> Statuses:
        """How far each recipient of a message has come. Raises what `request` raises."""
        return expect(Statuses, await self.request(Status(0, conversation, seq), timeout_s=timeout_s))

    async def put_keys(
        self,
        identity: bytes | None = None,
        one_time_keys: list[OneTimeKey] | None = None,
        last_resort_keys: list[OneTimeKey] | None = None,
        *,
        is_anew: bool | None = None,
        key_history: bytes | None = None,
        timeout_s: float = REPLY_TIMEOUT_S,
    ) -> HeldKeys:
        """Publish identity and keys of this device; to do so again changes nothing. Raises what `request` raises.

        :param identity: public bytes, 1 to `limits.MAX_IDENTITY_BYTES`; None: it stays as it is.
        :param one_time_keys: (kind, number, key), with greater numbers than all before; at most `limits.MAX_POOL_KEYS`.
        :param last_resort_keys: (kind, number, key), to be handed out when there is no other of the kind.
        :param is_anew: the one-time keys take the place of those of their kinds with lesser numbers; not without them.
        :param key_history: of the last `HeldKeys`; for uploads of keys.
        """
        frame = PutKeys(0, identity, one_time_keys, last_resort_keys, is_anew, key_history)
        return expect(HeldKeys, await self.request(frame, timeout_s=timeout_s))

    async def key_status(self, *, timeout_s: float = REPLY_TIMEOUT_S) -> HeldKeys:
        """What the server holds of this device. Raises what `request` raises."""
        return expect(HeldKeys, await self.request(KeyStatus(0), timeout_s=timeout_s))

    async def add_envelopes(
        self,
        conversation: bytes,
        seq: int,
        envelopes: list[Envelope],
        *,
        revision: int,
        timeout_s: float = REPLY_TIMEOUT_S,
    ) -> None:
        """Give devices further envelopes for a message that this device has written; to do so again changes nothing.
        Raises what `request` raises.

        :param envelopes: they take the place of those that these devices have.
        :param revision: of the message, 0 if it was never edited.
        """
        frame = AddEnvelopes(0, conversation, seq, revision, envelopes)
        expect(Done, await self.request(frame, timeout_s=timeout_s))

    async def report_undecryptable(
        self, conversation: bytes, seq: int, reason: str, *, revision: int, timeout_s: float = REPLY_TIMEOUT_S
    ) -> None:
        """Say that this device cannot decrypt a message, so that the device which wrote it is told. Raises what
        `request` raises.

        :param reason: one of `protocol.undecryptable.REASONS`.
        :param revision: of the message, 0 if it was never edited.
        """
        frame = ReportUndecryptable(0, conversation, seq, revision, reason)
        expect(Done, await self.request(frame, timeout_s=timeout_s))

    async def devices(
        self,
        users: list[bytes],
        *,
        device: bytes | None = None,
        kinds: list[str] | None = None,
        timeout_s: float = REPLY_TIMEOUT_S,
    ) -> DeviceList:
        """A page of the devices of users, with their identities. Raises what `request` raises.

        :param users: at most `limits.MAX_LISTED_USERS`.
        :param device: only devices with greater ids; to read on, the page's last one.
        :param kinds: claim a key of each of these kinds of each device.
        """
        return expect(DeviceList, await self.request(Devices(0, device, users, kinds), timeout_s=timeout_s))

    async def upload(
        self, files: list[DeclaredFile], *, is_avatar: bool = False, timeout_s: float = REPLY_TIMEOUT_S
    ) -> Tickets:
        """Declare files, before they go to the object store. Raises what `request` raises.

        :param files: 1 to `limits.MAX_ATTACHMENTS`.
        :param is_avatar: they are avatars, which no message takes.
        """
        return expect(Tickets, await self.request(Upload(0, files, is_avatar or None), timeout_s=timeout_s))

    async def parts(
        self, attachment: bytes, *, after: int | None = None, timeout_s: float = REPLY_TIMEOUT_S
    ) -> PartRequests:
        """The requests of parts that the object store does not have. Raises what `request` raises.

        :param after: only parts with a greater number.
        """
        return expect(PartRequests, await self.request(Parts(0, after, attachment), timeout_s=timeout_s))

    async def complete(self, attachments: list[bytes], *, timeout_s: float = COMPLETE_TIMEOUT_S) -> None:
        """Have the server look whether it has all parts; to do so again changes nothing. Raises what `request`
        raises."""
        expect(Done, await self.request(Complete(0, attachments), timeout_s=timeout_s))

    async def download(self, wanted: list[bytes], *, timeout_s: float = REPLY_TIMEOUT_S) -> Downloads:
        """Tickets of those attachments that the user may read. Raises what `request` raises.

        :param wanted: ids of attachments, 1 to `limits.MAX_WANTED`.
        """
        return expect(Downloads, await self.request(Download(0, wanted), timeout_s=timeout_s))

    async def abort(self, attachments: list[bytes], *, timeout_s: float = REPLY_TIMEOUT_S) -> None:
        """Give up uploads that no message has. Raises what `request` raises."""
        expect(Done, await self.request(Abort(0, attachments), timeout_s=timeout_s))


def expect(type_: type[_R], reply: Reply) -> _R:
    if isinstance(reply, type_):
        return reply
    detail = f"the server answered with `{name_of(reply)}`, which is not a reply to that request"
    raise RemoteProtocolError(CloseCode.BAD_FRAME, detail)
