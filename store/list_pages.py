"""The first page of a user's list: its version, the page, and the conversations that a held page lacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from msgspec import Struct

from protocol.limits import MAX_SHOWN
from store import conversations, sql
from store.postgres.columns import BIGINT
from store.postgres.pool import Pool
from store.readers import OwnRead
from store.rows import Entry, entries_of
from store.tokens import Identity

_sql = sql.load("list_pages")
_of_conversations = sql.load("conversations")

_HASHES: Final = [
    (f"hash_record_extended({_sql.head_stamp}, {seed})", f"hash_record_extended({_sql.participant_stamp}, {seed})")
    for seed in (1, 2)
]
_STAMPS: Final = (
    "select each.conversation_id, hash_record_extended(each.stamp, 1) as one,"  # noqa: S608  (ours)
    f" hash_record_extended(each.stamp, 2) as other from (select me.conversation_id, {_sql.head_stamp} as stamp"
    f" from page me union all select s.conversation_id, {_sql.participant_stamp} from people s) each"
)
LIST_STATE: Final = OwnRead(
    f"with page as materialized ({_sql.stamped}), people as ({_of_conversations.people}),"
    f" stamps as ({_STAMPS}), digests as ({_sql.digests}) {_sql.state}",
    {"limit": BIGINT, "most": BIGINT, "one": BIGINT, "other": BIGINT},
    "list_pages.state",
)
FIRST_PAGE: Final = conversations.listing("list_pages.first", more=_HASHES)
CHANGED: Final = conversations.choosing("list_pages.changed", more=_HASHES)
_STAMP: Final = slice(44, 46)
"""The columns behind those that `store.rows.Entry` knows: the two hashes of a row's stamps."""

Digest: TypeAlias = tuple[int, int]
"""The digest of a conversation as a user's list shows it, or of the first page: equal only if nothing has changed."""


class Listed(NamedTuple):
    """A conversation's place on a list, the latest message first, and the digest of all that is shown of it."""

    active_at: int
    conversation: bytes
    digest: Digest


class ListState(NamedTuple):
    """The state of the first page of a list.

    :ivar listed: its conversations, in order; empty if the caller knew the version.
    """

    version: Digest
    listed: list[Listed]


class FirstPage(Struct, frozen=True):
    """The first page of a list.

    :ivar entries: the conversations of the state, by id.
    """

    state: ListState
    entries: Mapping[bytes, Entry]


NO_DIGEST: Final = (0, 0)
"""The version of an empty list."""


async def list_state_for(
    pool: Pool, token: str, *, limit: int, known: Digest = NO_DIGEST
) -> tuple[Identity, ListState]:
    """The owner of a token, and the state of the first `limit` conversations of the owner's list, in one query that
    costs a quarter of reading them.

    :param known: the version that the caller knows.
    :raises TokenUnknown: and the other errors of `OwnRead.for_token`.
    """
    one, other = known
    values = {"limit": limit, "most": MAX_SHOWN, "one": one, "other": other}
    identity, [(one, other, *columns)] = await LIST_STATE.for_token(pool, token, values)
    listed = (
        []
        if columns[0] is None
        else [
            Listed(active_at, conversation, (one, other))
            for conversation, active_at, one, other in zip(*columns, strict=True)
        ]
    )
    return identity, ListState((one, other), sorted(listed, reverse=True))


async def first_page(pool: Pool, user: bytes, *, limit: int) -> FirstPage:
    """The first page of a user's list, in one query."""
    return _first_page(await FIRST_PAGE.for_user(pool, user, conversations.page_of(limit)))


async def first_page_for(pool: Pool, token: str, *, limit: int) -> tuple[Identity, FirstPage]:
    """The owner of a token, and the first page of the owner's list, in one query.

    :raises TokenUnknown: and the other errors of `OwnRead.for_token`.
    """
    identity, rows = await FIRST_PAGE.for_token(pool, token, conversations.page_of(limit))
    return identity, _first_page(rows)


async def listed(pool: Pool, user: bytes, chosen: Sequence[bytes]) -> dict[bytes, tuple[Entry, Digest]]:
    """Some conversations, by id, as a user's list shows them, without those of others; in one query."""
    rows = await CHANGED.for_user(pool, user, conversations.chosen_of(chosen))
    return {each.conversation: (each, _digest(each)) for each in entries_of(rows)}


def _first_page(rows: list[tuple[Any, ...]]) -> FirstPage:
    found = entries_of(rows)
    listed = [Listed(each.active_at, each.conversation, _digest(each)) for each in found]
    one = other = 0
    for place in listed:
        one ^= place.digest[0]
        other ^= place.digest[1]
    return FirstPage(ListState((one, other), sorted(listed, reverse=True)), {each.conversation: each for each in found})


def _digest(entry: Entry) -> Digest:
    """As `digests` in list_pages.sql computes it."""
    one, other = entry.head[_STAMP]
    if entry.is_listed:
        for row in entry.shown:
            its_one, its_other = row[_STAMP]
            one ^= its_one
            other ^= its_other
    return one, other
