"""The contents of a device, as data; and the fetch of a fresh device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from client.connection import ClientConnection, connect
from client.held import Entry, Gap
from client.mailbox import Mailbox
from protocol import limits
from protocol.frames import (
    Avatar,
    Participant,
    Push,
    Tombstone,
)
from tests.checker.history import ConversationView, MessageView, PersonView

NameOf = Callable[[bytes], str]


def view_of(mailbox: Mailbox, name_of: NameOf) -> tuple[ConversationView, ...]:
    """Everything that a screen could show of a mailbox."""
    views = [_conversation(mailbox, each, name_of) for each in mailbox.conversations()]
    return tuple(sorted(views, key=lambda view: view.conversation))


def _conversation(mailbox: Mailbox, id_: bytes, name_of: NameOf) -> ConversationView:
    head = mailbox.head(id_)
    assert head is not None
    return ConversationView(
        name_of(id_),
        head.kind,
        head.name,
        _picture(head.avatar),
        bool(head.joiners_see_all),
        head.lifetime_s,
        # Where many take part, devices are not told of changes live.
        head.devices_version if head.participant_count is None else None,
        head.control_seq,
        head.muted_until,
        bool(head.is_request),
        name_of(head.asked_by) if head.asked_by is not None else None,
        name_of(head.actor) if head.actor is not None else None,
        head.created,
        head.participant_count,
        head.active_at,
        head.first_seq,
        head.last_seq,
        head.unread_count,
        tuple(sorted((_person(each, name_of) for each in head.participants or ()), key=lambda each: each.user)),
        tuple(_message(mailbox, each, name_of) for each in mailbox.messages(id_)),
    )


def _person(each: Participant, name_of: NameOf) -> PersonView:
    shown = each.display_name or ""
    return PersonView(
        name_of(each.user),
        shown,
        _picture(each.avatar),
        each.joined_seq,
        bool(each.is_admin),
        each.revision or 0,
        each.delivered_seq,
        each.read_seq,
    )


def _picture(avatar: Avatar | None) -> str:
    """All that a device is told of an avatar."""
    return "" if avatar is None else f"{avatar[0].hex()} {avatar[1]} {avatar[2].hex()}"


def _message(mailbox: Mailbox, entry: Entry, name_of: NameOf) -> MessageView:
    content, revision, edited = parts_of(entry)
    status = mailbox.status(entry) if entry.sender == mailbox.user else None
    id_, counts = entry.message.hex(), mailbox.counts(entry) if status else None
    sender = name_of(entry.sender)
    view = MessageView(entry.seq, id_, entry.created, sender, content, revision, edited, status, counts)
    view = replace(view, is_quiet=bool(entry.is_quiet))
    if isinstance(entry, Tombstone):
        return view
    attachments = tuple(each.hex() for each in entry.attachments or ())
    device = None if entry.device is None else entry.device.hex()
    return replace(view, attachments=attachments, thumbnail=entry.thumbnail, device=device)


def parts_of(entry: Entry) -> tuple[bytes | None, int, int | None]:
    """(content, revision, edited); a tombstone has none of them."""
    if isinstance(entry, Tombstone):
        return None, 0, None
    return entry.content, entry.revision or 0, entry.edited


async def fetch(url: str, token: str, user: bytes) -> Mailbox:
    """Read everything into an empty mailbox, as a fresh device does; sends no marks."""
    mailbox = Mailbox(user)

    async def on_push(push: Push) -> None:
        mailbox.feed(push)

    async with connect(url, token, on_push=on_push) as connection:
        more = True
        while more:
            synced = await connection.sync(mailbox.cursor)
            mailbox.synced(synced)
            more = synced.more
        # The quiet messages behind the last one that a list shows.
        for gap in mailbox.gaps():
            await _fill(connection, mailbox, gap)
        for conversation in mailbox.conversations():
            await _read_all(connection, mailbox, conversation)
    return mailbox


async def _fill(connection: ClientConnection, mailbox: Mailbox, gap: Gap) -> None:
    after = gap.after_seq
    while after + 1 < gap.before_seq:
        page = await connection.history(gap.conversation, after=after, before=gap.before_seq, count=limits.MAX_COUNT)
        if not page.messages:
            return
        mailbox.apply(page.messages)
        after = page.messages[-1].seq


async def _read_all(connection: ClientConnection, mailbox: Mailbox, conversation: bytes) -> None:
    while (before := mailbox.older_before(conversation)) is not None:
        page = await connection.history(conversation, before=before, count=limits.MAX_COUNT)
        if page.first_seq is not None:
            mailbox.raise_floor(conversation, page.first_seq)
        if not page.messages:
            return
        mailbox.apply(page.messages)
