"""Conversations: creating them, and a user's list of them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Final

from protocol.frames import Conversation, Participant
from protocol.limits import MAX_FORMER, MAX_SHOWN, MAX_UNCOUNTED
from store import sql
from store.errors import DeviceRevoked, NotAccepted, NotAParticipant, TooManyPlaces, TooManyStarts, UnknownUser
from store.postgres.columns import BIGINT, BOOL, TEXT, TEXTS, UUID, UUIDS
from store.postgres.driver import uuid, uuids
from store.postgres.pool import Pool
from store.postgres.statement import Statement
from store.readers import OwnRead
from store.rows import Entry, conversation_of, entries_of, participant_of
from store.tokens import Identity

_sql = sql.load("conversations")


_BOUNDS: Final = {"most": BIGINT, "uncounted": BIGINT, "former": BIGINT}
MOST: Final = {"most": MAX_SHOWN, "uncounted": MAX_UNCOUNTED, "former": MAX_FORMER}
_PAGE: Final = {"is_request": BOOL, "before": BIGINT, "before_id": UUID, "limit": BIGINT, **_BOUNDS}


def _entries(page: str, *, has_former: bool = False, more: Sequence[tuple[str, str]] = ()) -> str:
    """The rows for `store.rows.entries_of` of the conversations that a query finds.

    :param page: the query, without the columns that all have.
    :param has_former: with former stays.
    :param more: further columns: of a conversation in `page`, and of a participant in `shown`.
    """
    heads = ", ".join((_sql.heads, *(head for head, _ in more)))
    participants = ", ".join((_sql.participants_shown, *(participant for _, participant in more)))
    profiles = ", ".join((_sql.profiles, *("null" for _ in more)))
    rows = [
        f"select {heads} {_sql.of_heads}",
        f"select {participants} from shown s",  # noqa: S608  (ours)
        f"select {profiles} from users u where u.id = any(array(select s.user_id from shown s))",  # noqa: S608
    ]
    return (
        f"with page as materialized (select {_sql.columns}, {page}), people as materialized ({_sql.people}),"
        f" shown as materialized ({_sql.shown}) {' union all '.join([*rows, _sql.former] if has_former else rows)}"
    )


def listing(label: str, more: Sequence[tuple[str, str]] = ()) -> OwnRead:
    """A read of a page of a user's list; the other parameters are like those of `_entries`."""
    return OwnRead(_entries(_sql.page, more=more), _PAGE, label)


def choosing(label: str, *, has_former: bool = False, more: Sequence[tuple[str, str]] = ()) -> OwnRead:
    """A read of some conversations of a user; the other parameters are like those of `_entries`."""
    parameters = {"conversations": UUIDS, "bases": TEXTS, "marks": TEXT, **_BOUNDS}
    return OwnRead(_entries(_sql.chosen, has_former=has_former, more=more), parameters, label)


LIST_PAGE: Final = listing("conversations.page")
CHOSEN: Final = choosing("conversations.chosen", has_former=True)
_ONE: Final = choosing("conversations.one")
_SEEN: Final = Statement(
    _entries(_sql.seen, has_former=True),
    {"conversation": UUID, "users": UUIDS, **_BOUNDS},
    label="conversations.seen",
)
_PARTICIPANTS: Final = Statement(
    _sql.participants,
    {"conversation": UUID, "user": UUID, "after": UUID, "limit": BIGINT, "most": BIGINT},
)
_ONE_PARTICIPANT: Final = Statement(_sql.participant, {"conversation": UUID, "user": UUID, "most": BIGINT})


STARTS_PER_DAY: Final = 50
"""Conversations with strangers that a user may begin in 24 hours, unless the operator sets another number: more than
people need, and too few for a spammer."""

PLACES_PER_DAY: Final = 20_000
"""Places in groups that a user may fill in 24 hours: 20 groups of 1,000. Each place costs a row and a push; a user who
made 318 groups of 981 in 12 s kept a node busy for a minute."""


async def add_direct(
    pool: Pool, user: bytes, other: bytes, *, starts_per_day: int = STARTS_PER_DAY
) -> tuple[bytes, bool]:
    """The direct conversation of two users, and whether it is new for `user`.

    A user who does not know `user` is asked, and a user who blocks `user` is not told: the result is the same.

    :raises UnknownUser: if the other user does not exist.
    :raises NotAccepted: if the other user does not accept first messages from this user.
    :raises TooManyStarts: if `user` has begun as many conversations with strangers as a user may.
    :raises DeviceRevoked: if `user` has been deleted.
    """
    parameters = {
        "conversation": uuid(os.urandom(16)),
        "user": uuid(user),
        "other": uuid(other),
        "starts": starts_per_day,
    }
    [(outcome, conversation, wait_s)] = await pool.fetch(_sql.add_direct, parameters)
    _refuse(outcome, [other], wait_s)
    return conversation, outcome != "found"


async def add_self(pool: Pool, user: bytes) -> tuple[bytes, bool]:
    """The conversation of a user's own devices, and whether it is new. Made at once by several, there is one.

    :raises DeviceRevoked: if the user has been deleted.
    """
    parameters = {"conversation": uuid(os.urandom(16)), "user": uuid(user)}
    [(outcome, conversation)] = await pool.fetch(_sql.add_self, parameters)
    _refuse(outcome, [], None)
    return conversation, outcome == "made"


async def add_group(
    pool: Pool,
    name: str,
    users: Sequence[bytes],
    *,
    admin: bytes,
    starts_per_day: int = STARTS_PER_DAY,
    places_per_day: int = PLACES_PER_DAY,
) -> bytes:
    """Create a group; return its id. Users who do not know the administrator are asked. After an error nothing exists.

    :param users: its participants, each once.
    :param admin: the administrator, one of `users`.
    :raises UnknownUser: if one of the users does not exist.
    :raises NotAccepted: if some users do not accept groups from the administrator.
    :raises TooManyStarts: if the administrator has begun as many conversations with strangers as a user may.
    :raises TooManyPlaces: if the administrator has filled as many places in groups as a user may.
    """
    conversation = os.urandom(16)
    parameters = {
        "conversation": uuid(conversation),
        "name": name,
        "users": uuids(users),
        "admin": uuid(admin),
        "starts": starts_per_day,
        "places": places_per_day,
    }
    [(outcome, refused, wait_s)] = await pool.fetch(_sql.add_group, parameters)
    _refuse(outcome, refused or [], wait_s)
    return conversation


def _refuse(outcome: str, users: Sequence[bytes], wait_s: float | None) -> None:
    if outcome == "ended":
        raise DeviceRevoked
    if outcome == "unknown":
        raise UnknownUser
    if outcome == "refused":
        raise NotAccepted(users)
    if outcome == "limited":
        raise TooManyStarts(wait_s or 0)
    if outcome == "crowded":
        raise TooManyPlaces(wait_s or 0)


async def list_of(
    pool: Pool, user: bytes, *, limit: int, before: tuple[int, bytes] | None = None, is_request: bool = False
) -> list[Conversation]:
    """A page of a user's conversations in one query, the latest message first.

    :param before: `active_at` and id of the last conversation of the page before.
    :param is_request: list requests instead of conversations that the user has accepted.
    """
    found = await entries_of_list(pool, user, limit=limit, before=before, is_request=is_request)
    return [conversation_of(each) for each in found]


async def entries_of_list(
    pool: Pool, user: bytes, *, limit: int, before: tuple[int, bytes] | None = None, is_request: bool = False
) -> list[Entry]:
    """Like `list_of`, in rows."""
    rows = await LIST_PAGE.for_user(pool, user, page_of(limit, before, is_request=is_request))
    return sorted(entries_of(rows), key=lambda each: (each.active_at, each.conversation), reverse=True)


def page_of(limit: int, before: tuple[int, bytes] | None = None, *, is_request: bool = False) -> dict[str, Any]:
    """The parameters of `LIST_PAGE`."""
    active_at, conversation = before or (None, None)
    return {
        "is_request": is_request,
        "before": active_at,
        "before_id": conversation,
        "limit": limit,
        **MOST,
    }


async def some_of(
    pool: Pool,
    user: bytes,
    conversations: Sequence[bytes],
    bases: Sequence[str | None] | None = None,
    marks: str | None = None,
) -> list[Conversation]:
    """Some conversations, without those in which the user is not a participant; in one query, in any order.

    :param bases: for each a snapshot: return only the participants who have changed since; None for all participants.
    :param marks: a snapshot: a participant whose marks have moved since counts as changed.
    """
    rows = await CHOSEN.for_user(pool, user, chosen_of(conversations, bases, marks))
    return [conversation_of(each) for each in entries_of(rows)]


def chosen_of(
    conversations: Sequence[bytes], bases: Sequence[str | None] | None = None, marks: str | None = None
) -> dict[str, Any]:
    """The parameters of `CHOSEN`."""
    return {
        "conversations": conversations,
        "bases": [None] * len(conversations) if bases is None else bases,
        "marks": marks,
        **MOST,
    }


async def one(pool: Pool, user: bytes, conversation: bytes) -> Conversation:
    """One conversation in one query.

    :raises NotAParticipant: if the user is not a participant of it, or it does not exist.
    """
    found = await some_of(pool, user, [conversation])
    if not found:
        raise NotAParticipant
    return found[0]


async def entry_of(pool: Pool, user: bytes, conversation: bytes) -> Entry:
    """One conversation in rows, without former stays, in one query.

    :raises NotAParticipant: as `one` does.
    """
    return _entry(await _ONE.for_user(pool, user, chosen_of([conversation])))


async def entry_for(pool: Pool, token: str, conversation: bytes) -> tuple[Identity, Entry]:
    """The owner of a token, and what `entry_of` returns for the owner, in one query.

    :raises TokenUnknown: and the other errors of `OwnRead.for_token`.
    :raises NotAParticipant: if the owner is not a participant of it, or it does not exist.
    """
    identity, rows = await _ONE.for_token(pool, token, chosen_of([conversation]))
    return identity, _entry(rows)


def _entry(rows: list[tuple[Any, ...]]) -> Entry:
    found = entries_of(rows)
    if not found:
        raise NotAParticipant
    return found[0]


async def seen_by(pool: Pool, conversation: bytes, users: Sequence[bytes]) -> dict[bytes, Conversation]:
    """A conversation as each of these users sees it, without users who are not participants; in one query."""
    rows = await pool.read(_SEEN, {"conversation": conversation, "users": users, **MOST})
    return {each.viewer: conversation_of(each) for each in entries_of(rows) if each.viewer is not None}


async def participants_of(
    pool: Pool, user: bytes, conversation: bytes, *, limit: int, after: bytes = bytes(16)
) -> list[Participant]:
    """A page of a conversation's participants, by their ids.

    :param after: the last id of the page before.
    :raises NotAParticipant: if the user is not a participant, or the conversation does not exist.
    """
    parameters = {"conversation": conversation, "user": user, "after": after, "limit": limit, "most": MAX_SHOWN}
    rows = await pool.read(_PARTICIPANTS, parameters)
    if not rows:
        await one(pool, user, conversation)
    return [participant_of(*row) for row in rows]


async def participant(pool: Pool, conversation: bytes, user: bytes) -> Participant | None:
    """A participant as the others see them; None if this user is not one."""
    rows = await pool.read(_ONE_PARTICIPANT, {"conversation": conversation, "user": user, "most": MAX_SHOWN})
    return participant_of(*rows[0]) if rows else None


async def participants_versions(pool: Pool, conversations: Sequence[bytes]) -> list[tuple[bytes, int]]:
    """(conversation, version of its list of participants) for some conversations."""
    rows = await pool.fetch(_sql.participants_versions, {"conversations": uuids(conversations)})
    return [(conversation, version) for conversation, version in rows]


async def participant_count(pool: Pool, conversation: bytes) -> int:
    """The number of a conversation's participants, as shown to them."""
    rows = await pool.fetch(_sql.participant_count, {"conversation": uuid(conversation)})
    return int(rows[0][0]) if rows else 0
