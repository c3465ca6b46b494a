"""The first page of a user's list: its version, the page, and the conversations that a held page lacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from msgspec import Struct

from protocol.frames import Conversation
from protocol.limits import MAX_SHOWN
from store import conversations, sql
from store.postgres.columns import BIGINT
from store.postgres.pool import Pool
from store.readers import OwnRead
from store.rows import conversations_of
from store.tokens import Identity

_sql = sql.load("list_pages")
_of_conversations = sql.load("conversations")

_DIGESTS: Final = f"stamps as ({_sql.stamps}), digests as ({_sql.digests})"
LIST_STATE: Final = OwnRead(
    f"with page as materialized ({_sql.stamped}), people as ({_of_conversations.people}), {_DIGESTS} {_sql.state}",
    {"limit": BIGINT, "most": BIGINT, "one": BIGINT, "other": BIGINT},
    "list_pages.state",
)
FIRST_PAGE: Final = conversations.listing("list_pages.first", _DIGESTS, _sql.digest_rows)
CHANGED: Final = conversations.choosing("list_pages.changed", _DIGESTS, _sql.digest_rows)
_DIGEST: Final = 3
"""The kind of rows of `digest_rows`, beside those that `conversations_of` reads."""

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
    """The first page of a list."""

    state: ListState
    conversations: Mapping[bytes, Conversation]


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


async def listed(pool: Pool, user: bytes, chosen: Sequence[bytes]) -> dict[bytes, tuple[Conversation, Digest]]:
    """Some conversations, by id, as a user's list shows them, without those of others; in one query."""
    rows = await CHANGED.for_user(pool, user, conversations.chosen_of(chosen))
    found, digests = _with_digests(rows)
    return {id_: (each, digests[id_]) for id_, each in found.items()}


def _first_page(rows: list[tuple[Any, ...]]) -> FirstPage:
    found, digests = _with_digests(rows)
    one = other = 0
    for each in digests.values():
        one ^= each[0]
        other ^= each[1]
    listed = [Listed(each.active_at, id_, digests[id_]) for id_, each in found.items()]
    return FirstPage(ListState((one, other), sorted(listed, reverse=True)), found)


def _with_digests(rows: list[tuple[Any, ...]]) -> tuple[dict[bytes, Conversation], dict[bytes, Digest]]:
    found = {each.conversation: each for _, each in conversations_of(row for row in rows if row[0] != _DIGEST)}
    return found, {row[2]: (row[7], row[8]) for row in rows if row[0] == _DIGEST}
