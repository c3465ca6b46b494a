"""Rows of queries as parts of frames: conversations, participants, former stays, messages, tombstones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final, NamedTuple, TypeAlias

from protocol.frames import Conversation, Departed, Message, Participant, Settings, Stay, Tombstone
from protocol.limits import MAX_SHOWN
from store.avatars import avatar_of


def settings_of(
    conversation: bytes,
    name: str | None,
    floor: int,
    version: int,
    joiners_see_all: bool,
    lifetime_s: int | None,
    actor: bytes | None,
    avatar: bytes | None,
    quiet_count: int | None,
) -> Settings:
    """The settings of a conversation, for participants who are told of them; columns in this order."""
    return Settings(
        conversation,
        name,
        floor + 1,
        version,
        joiners_see_all or None,
        lifetime_s,
        actor,
        avatar_of(avatar),
        None if quiet_count is None else [(floor, quiet_count)],
    )


def message_of(
    conversation: bytes,
    seq: int,
    message: bytes,
    created: int,
    sender: bytes,
    content_type: str,
    content: bytes,
    nonce: bytes | None,
    ephemeral_public_key: bytes | None,
    revision: int | None,
    edited: int | None,
    reply_to: int | None,
    attachments: list[bytes] | None,
    thumbnail: bytes | None,
    temp_id: bytes | None,
    device: bytes | None,
    is_quiet: bool,
    quiet_count: int | None,
    is_gone: bool,
    deleted_by: bytes | None,
    has_envelopes: bool,
    follows: int | None,
    *_: Any,
) -> Message | Tombstone:
    """A message, or its tombstone if it was deleted for everyone or for the reader; columns in this order."""
    if is_gone:
        return Tombstone(conversation, seq, message, created, sender, is_quiet or None, deleted_by, quiet_count)
    return Message(
        conversation,
        seq,
        message,
        created,
        sender,
        content_type,
        content,
        nonce,
        ephemeral_public_key,
        temp_id,
        device,
        revision,
        edited,
        reply_to,
        attachments,
        thumbnail,
        is_quiet or None,
        has_envelopes or None,
        follows,
        quiet_count,
    )


def stay_of(user: bytes, delivered: int, read: int, since: int, actor: bytes | None, left: int) -> Stay:
    """A former stay; columns in this order. Marks of -1 are not shown; an actor who is the user becomes None."""
    shown = delivered >= 0
    return Stay(
        user, delivered if shown else None, read if shown else None, since, actor if actor != user else None, left
    )


def departed_of(conversation: bytes, version: int, user: bytes, *stay: Any) -> Departed:
    """A user who has left, with the stay that ended; columns in this order."""
    return Departed(conversation, [user], version, former=[stay_of(user, *stay)])


Row: TypeAlias = tuple[Any, ...]

_CONVERSATION, _PARTICIPANT, _PROFILE, _STAY = range(4)
"""The kinds of rows of `heads`, `participants_shown`, `profiles` and `former` in conversations.sql."""

_by_user: Final = itemgetter(3)


class Entry(NamedTuple):
    """A conversation as a user sees it, in rows of conversations.sql: `conversation_of` makes a frame of it, and
    `server.http.answers` an answer.

    :ivar head: of `heads`.
    :ivar shown: of `participants_shown`, by the ids of the users.
    :ivar profiles: username, display name, revision and avatar by user, of all entries that were read together.
    :ivar stays: of `former`.
    """

    head: Row
    shown: Sequence[Row]
    profiles: Mapping[bytes, Row]
    stays: Sequence[Row]

    @property
    def viewer(self) -> bytes | None:
        """The user who sees the conversation so; None: the user who has read it."""
        viewer: bytes | None = self.head[1]
        return viewer

    @property
    def conversation(self) -> bytes:
        conversation: bytes = self.head[2]
        return conversation

    @property
    def active_at(self) -> int:
        active_at: int = self.head[11]
        return active_at

    @property
    def is_listed(self) -> bool:
        """Whether all participants are shown."""
        return told_count(self.head[16]) is None

    @property
    def settings(self) -> Row:
        """The columns of the conversation itself, from `asked_by` to `quiet_counts`."""
        return self.head[3:20]

    @property
    def avatar(self) -> bytes | None:
        """As `avatar_of` takes it."""
        avatar: bytes | None = self.head[41]
        return avatar

    @property
    def devices_version(self) -> int | None:
        """None for 0."""
        version: int | None = self.head[42]
        return version

    @property
    def control_seq(self) -> int | None:
        """None for 0."""
        seq: int | None = self.head[43]
        return seq

    @property
    def last_message(self) -> Row | None:
        """The columns of the last message, as `message_of` takes them; None if the user may read none."""
        return None if self.head[20] is None else self.head[20:41]

    def participants(self) -> Iterator[Row]:
        """The columns of each participant, as `participant_of` takes them."""
        profiles = self.profiles
        for row in self.shown:
            user = row[3]
            username, name, revision, avatar = profiles[user]
            if row[37]:
                name = avatar = None
            yield user, row[4], username, name, revision, *row[7:11], row[17], avatar


def entries_of(rows: Iterable[Row]) -> list[Entry]:
    """Rows of `heads` and of its sequels in conversations.sql, in any order."""
    heads: list[Row] = []
    shown: dict[Row, list[Row]] = {}
    profiles: dict[bytes, Row] = {}
    stays: dict[Row, list[Row]] = {}
    for row in rows:
        kind = row[0]
        if kind == _PARTICIPANT:
            shown.setdefault(row[1:3], []).append(row)
        elif kind == _PROFILE:
            profiles[row[3]] = (*row[5:8], row[41])
        elif kind == _CONVERSATION:
            heads.append(row)
        elif kind == _STAY:
            stays.setdefault(row[1:3], []).append(row)
    for each in shown.values():
        each.sort(key=_by_user)
    return [Entry(head, shown.get(head[1:3], ()), profiles, stays.get(head[1:3], ())) for head in heads]


def conversation_of(entry: Entry) -> Conversation:
    asked_by, actor, kind, name, created, first_seq, last_seq, unread, active_at, *settings = entry.settings
    version, lifetime_s, muted_until, own_revision, size, joiners_see_all, uncounted, quiet = settings
    conversation, last = entry.conversation, entry.last_message
    return Conversation(
        conversation,
        created,
        kind,
        name,
        first_seq,
        last_seq,
        unread,
        active_at,
        [participant_of(*each) for each in entry.participants()],
        None if last is None else message_of(conversation, *last),
        version,
        joiners_see_all or None,
        lifetime_s,
        entry.devices_version,
        entry.control_seq,
        muted_until,
        own_revision,
        told_count(size),
        None if asked_by is None else True,
        asked_by,
        uncounted,
        actor,
        _former(entry.stays) or None,
        avatar_of(entry.avatar),
        quiet_counts_of(quiet),
    )


def quiet_counts_of(numbers: Sequence[int] | None) -> list[tuple[int, int]] | None:
    """`quiet_counts` of a frame.

    :param numbers: of a conversation some of whose messages are quiet: the user's base, how many messages up to it are
        quiet, and the same for the last message.
    """
    if numbers is None:
        return None
    base, base_count, last, count = numbers
    return [(base, base_count), (last, count)] if base < last else [(last, count)]


def _former(rows: Sequence[Row]) -> list[Stay]:
    """The last stay first."""
    latest = sorted(rows, key=lambda row: (-row[11], row[3]))
    return [stay_of(user, row[9], row[10], row[7], actor, row[8]) for row in latest for user, actor in (row[3:5],)]


def participant_of(
    user: bytes,
    actor: bytes,
    username: str,
    name: str | None,
    revision: int,
    joined: int,
    since: int,
    delivered: int,
    read: int,
    is_admin: bool | None,
    avatar: bytes | None,
) -> Participant:
    """A participant; columns in this order. Marks of -1 are not shown; an actor who is the user becomes None."""
    shown = delivered >= 0
    return Participant(
        user,
        revision or None,
        username,
        joined,
        delivered if shown else None,
        read if shown else None,
        is_admin or None,
        name,
        since if since != joined else None,
        actor if actor != user else None,
        avatar_of(avatar),
    )


def told_count(size: int) -> int | None:
    """The number of participants for the wire: only if they are too many to be listed."""
    return size if size > MAX_SHOWN else None
