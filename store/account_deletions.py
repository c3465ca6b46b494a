"""Deletion of accounts: a user asks for it, may keep the account for a while, and then a worker deletes it in steps.

Each step is one transaction, and the steps of an account are done again and again until none finds anything:
`erase_own_messages` (if the user wants that), `leave_conversations`, `delete_contacts`, `delete_rows`; then
`anonymise`, once. A worker that is killed has finished or not begun its step, and the next worker goes on.

The steps change what devices of other users hold. The nodes are told afterwards that they may have missed changes, and
catch up; `untold` says of which steps they have not been told yet, and no cursor passes those
(`server.cluster.cursor_advance`). See `docs/accounts.md`.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from store import sql
from store.emails import AccountNotice
from store.postgres.driver import bigints, uuid, uuids
from store.postgres.pool import Pool
from store.security_events import SYSTEM, Source

_sql = sql.load("account_deletions")

USERNAME_HELD_DAYS: Final = 180
"""How long no other user can take the name of a deleted user. People who look up a name that they remember, or have
written down, would write to a stranger."""


class Closing(Struct, frozen=True):
    """An account that its user has asked to delete.

    :ivar due: when that begins, in microseconds since 1970.
    :ivar has_begun: it is too late to keep the account.
    """

    due: int
    has_begun: bool


class DueDeletion(Struct, frozen=True):
    """An account to delete now."""

    user: bytes
    deletes_messages: bool


class UntoldSteps(Struct, frozen=True):
    """The steps of one deletion, with steps among them that the nodes were not told of.

    :ivar steps: how many there were.
    :ivar ago_s: how long ago the first of those began that the nodes do not know.
    """

    user: bytes
    steps: int
    ago_s: float


async def close(pool: Pool, user: bytes, *, delay_s: float, deletes_messages: bool, source: Source = SYSTEM) -> int:
    """Log out all devices of a user, and have the account deleted; return when (microseconds since 1970). A repeat
    changes `deletes_messages`, and moves it to no later time.

    :param deletes_messages: the user's messages are deleted for everyone; else they stay, as those of a deleted user.
    """
    parameters = {
        "user": uuid(user),
        "delay_s": delay_s,
        "deletes_messages": deletes_messages,
        "source": source.encoded(),
    }
    [(due,)] = await pool.fetch(_sql.close, parameters)
    return int(due)


async def closing_of(pool: Pool, user: bytes) -> Closing | None:
    """None if the user has not asked to delete the account."""
    rows = await pool.fetch(_sql.due_of, {"user": uuid(user)})
    return Closing(*rows[0]) if rows else None


async def keep(pool: Pool, user: bytes, *, source: Source = SYSTEM) -> bool:
    """Do not delete the account after all; whether that was possible."""
    return bool(await pool.fetch(_sql.keep, {"user": uuid(user), "source": source.encoded()}))


async def closing_notice(pool: Pool, user: bytes) -> AccountNotice | None:
    """The mail about the deletion to send; None if it is not wanted by now. `at` is when that is due."""
    rows = await pool.fetch(_sql.closing_notice, {"user": uuid(user)})
    return AccountNotice(*rows[0]) if rows else None


async def next_due(pool: Pool) -> DueDeletion | None:
    """The account to delete next, by Postgres' clock."""
    rows = await pool.fetch(_sql.due)
    return DueDeletion(*rows[0]) if rows else None


async def erase_own_messages(pool: Pool, user: bytes, *, look_at: int, limit: int) -> int:
    """Delete some of the user's messages for everyone, in one conversation; return how many messages of all senders it
    looked at, 0 at the end.

    :param look_at: the most messages to look at. No index has messages by sender.
    :param limit: the most messages to delete.
    """
    [(looked_at,)] = await pool.fetch(_sql.erase_own_messages, {"user": uuid(user), "look_at": look_at, "limit": limit})
    return looked_at or 0


async def leave_conversations(pool: Pool, user: bytes, *, limit: int) -> int:
    """Leave some groups, and close direct conversations; return how many, 0 at the end."""
    [(count,)] = await pool.fetch(_sql.leave_conversations, {"user": uuid(user), "limit": limit})
    return int(count)


async def delete_contacts(pool: Pool, user: bytes, *, limit: int) -> int:
    """Delete contacts and blocks of the user, and those of others that name the user; return how many, 0 at the end."""
    [(count,)] = await pool.fetch(_sql.delete_contacts, {"user": uuid(user), "limit": limit})
    return int(count)


async def delete_rows(pool: Pool, user: bytes, *, limit: int) -> int:
    """Delete the user's keys of sends, and what the user has hidden; return how many, 0 at the end."""
    [(count,)] = await pool.fetch(_sql.delete_rows, {"user": uuid(user), "limit": limit})
    return int(count)


async def anonymise(pool: Pool, user: bytes) -> bool:
    """Delete what is left, and the names of the user; False if a step before has to be repeated."""
    [(is_done,)] = await pool.fetch(_sql.anonymise, {"user": uuid(user), "held_s": USERNAME_HELD_DAYS * 86400.0})
    return bool(is_done)


async def untold(pool: Pool) -> list[UntoldSteps]:
    """The deletions with steps that the nodes were not told of."""
    return [UntoldSteps(*row) for row in await pool.fetch(_sql.untold)]


async def note_told(pool: Pool, told: list[UntoldSteps]) -> None:
    """Note that the nodes were told of these steps; later ones are told again."""
    parameters = {"users": uuids([each.user for each in told]), "steps": bigints([each.steps for each in told])}
    await pool.fetch(_sql.note_told, parameters)


async def forget_usernames(pool: Pool, *, limit: int) -> int:
    """Forget names of deleted users that other users may take by now; return how many, 0 at the end."""
    [(gone,)] = await pool.fetch(_sql.forget_usernames, {"limit": limit})
    return int(gone)
