"""The newest page of a conversation's history: its version, the page, and the messages that a held page lacks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from protocol.frames import Message, Tombstone
from store import sql
from store.errors import NotAParticipant
from store.postgres.columns import BIGINT, UUID
from store.postgres.pool import Pool
from store.postgres.reads import StatementReader
from store.readers import OwnRead
from store.rows import message_of
from store.tokens import Identity

_sql = sql.load("history_pages")
HISTORY_VERSION: Final = OwnRead(f"select {_sql.state} {_sql.version}", {"conversation": UUID}, "history_pages.version")
NEWEST: Final = OwnRead(
    f"select {_sql.state}, {_sql.newest}",
    {"conversation": UUID, "after": BIGINT, "limit": BIGINT, "bytes": BIGINT},
    "history_pages.newest",
)
_STATE: Final = 6
"""Columns of the state, before those of a message."""


class HistoryVersion(NamedTuple):
    """The state of a conversation's history for a user: equal versions mean equal pages.

    :ivar floor: the user may not read messages at or below this seq.
    :ivar last_seq: of the conversation.
    :ivar revised: the transaction that edited a message last, or deleted one for everyone.
    :ivar is_personal: the user's view differs from that of others with the same floor.
    :ivar added: the transaction that added the user; None unless the view is personal.
    :ivar own: the transaction that hid a message from the user last, or wrote something else for the user alone; None
        unless the view is personal.
    """

    floor: int
    last_seq: int
    revised: int | None
    is_personal: bool
    added: int | None
    own: int | None

    def view(self, user: bytes) -> bytes | int:
        """All users with the same view see the same pages."""
        return user if self.is_personal else self.floor

    def follows(self, held: HistoryVersion) -> bool:
        """Whether there is nothing new since a held version but messages."""
        return self.last_seq >= held.last_seq and (self.floor, *self[2:]) == (held.floor, *held[2:])

    def up_to(self, before: int | None) -> HistoryVersion:
        """The least version that has all messages below a seq; None: all messages."""
        return self if before is None else self._replace(last_seq=min(self.last_seq, before - 1))


class NewestPage(Struct, frozen=True):
    """The newest messages above a seq, newest first.

    :ivar sizes: the bytes of each: content, nonce and key, and the envelope if it has one.
    :ivar more: there are further messages above that seq.
    """

    version: HistoryVersion
    messages: list[Message | Tombstone]
    sizes: list[int]
    more: bool

    def with_envelopes(self, messages: list[Message | Tombstone]) -> NewestPage:
        """The same page with these messages, which have envelopes beside what the sizes count."""
        envelopes = [each.envelope if isinstance(each, Message) else None for each in messages]
        sizes = [size + len(envelope or b"") for size, envelope in zip(self.sizes, envelopes, strict=True)]
        return replace(self, messages=messages, sizes=sizes)


async def history_version_for(pool: Pool, token: str, conversation: bytes) -> tuple[Identity, HistoryVersion]:
    """The owner of a token, and the state of a conversation's history for the owner.

    :raises TokenUnknown: and the other errors of `OwnRead.for_token`.
    :raises NotAParticipant: if the owner may not see the conversation.
    """
    identity, rows = await HISTORY_VERSION.for_token(pool, token, {"conversation": conversation})
    return identity, _version(rows)


async def newest(
    pool: StatementReader, user: bytes, conversation: bytes, *, limit: int, max_bytes: int, after: int = 0
) -> NewestPage:
    """The newest messages above a seq, and the version, in one query.

    :param max_bytes: of all contents, nonces and keys together; the first message is returned even if it has more.
    :raises NotAParticipant: if the user may not see the conversation.
    """
    rows = await NEWEST.for_user(pool, user, _values(conversation, limit, max_bytes, after))
    return _newest(conversation, limit, rows)


async def newest_for(
    pool: Pool, token: str, conversation: bytes, *, limit: int, max_bytes: int
) -> tuple[Identity, NewestPage]:
    """The owner of a token, and the newest messages of a conversation, in one query.

    :raises TokenUnknown: and the other errors of `OwnRead.for_token`.
    :raises NotAParticipant: if the owner may not see the conversation.
    """
    identity, rows = await NEWEST.for_token(pool, token, _values(conversation, limit, max_bytes, 0))
    return identity, _newest(conversation, limit, rows)


def _values(conversation: bytes, limit: int, max_bytes: int, after: int) -> dict[str, Any]:
    return {"conversation": conversation, "after": after, "limit": limit + 1, "bytes": max_bytes}


def _newest(conversation: bytes, limit: int, rows: list[tuple[Any, ...]]) -> NewestPage:
    version = _version(rows)
    found = [row[_STATE:] for row in rows if row[_STATE] is not None]
    page = [row for row in found[:limit] if row[-1]]
    messages = [message_of(conversation, *row) for row in page]
    return NewestPage(version, messages, [row[-2] for row in page], len(page) < len(found))


def _version(rows: list[tuple[Any, ...]]) -> HistoryVersion:
    if not rows:
        raise NotAParticipant
    return version_of(rows[0][:_STATE])


def version_of(state: Sequence[Any]) -> HistoryVersion:
    """The version of the columns of `state`."""
    floor, last_seq, revised, is_personal, added, own = state
    return HistoryVersion(floor, last_seq, revised, is_personal, *((added, own) if is_personal else (None, None)))
