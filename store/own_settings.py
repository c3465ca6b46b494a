"""A user's settings that concern no other user, as pushed to the user's own devices.

Triggers ensure that each change, by any function, raises a revision and is found by `sync`
(`store/sql/functions/note_own_settings.sql` and `note_set_beside.sql`). A user may have thousands of contacts, so
`sync` says only how often they have changed: a device that holds another state reads the list.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from protocol.frames import OwnSettings
from store import sql
from store.errors import UnknownUser
from store.postgres.columns import UUIDS
from store.postgres.driver import uuids
from store.postgres.pool import Pool
from store.postgres.statement import Statement

_sql = sql.load("own_settings")
_OF: Final = Statement(_sql.of, {"users": UUIDS})


async def own_settings_of(pool: Pool, user: bytes) -> OwnSettings:
    """
    :raises UnknownUser: if there is no such user.
    """
    found = await own_settings_of_all(pool, [user])
    if not found:
        raise UnknownUser
    return found[user]


async def own_settings_of_all(pool: Pool, users: Sequence[bytes]) -> dict[bytes, OwnSettings]:
    """The settings of several users; leaves out unknown users."""
    return {row[0]: _own_settings(*row[1:]) for row in await pool.read(_OF, {"users": users})}


def _own_settings(
    revision: int,
    gives_receipts: bool,
    shows_presence: bool,
    contacts_revision: int,
    messages_from: str,
    groups_from: str,
    *quiet: Any,
) -> OwnSettings:
    quiet_hours = None if quiet[0] is None else quiet
    return OwnSettings(
        revision, gives_receipts, shows_presence, quiet_hours, contacts_revision, messages_from, groups_from
    )


async def changed_since(
    pool: Pool, users: Sequence[bytes], base: str
) -> tuple[dict[bytes, OwnSettings], list[tuple[bytes, bytes]]]:
    """The settings of the users among these who have changed their settings or contacts since a snapshot; and (user,
    conversation) where the user's own data have changed."""
    rows = await pool.fetch(_sql.changed_since, {"users": uuids(users), "base": base})
    settings = await own_settings_of_all(pool, [user for user, conversation in rows if conversation is None])
    return settings, [(user, conversation) for user, conversation in rows if conversation is not None]
