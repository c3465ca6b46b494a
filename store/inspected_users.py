"""What operators see of users (`python -m server ops user`, `message`): no content, no address, no token.

Times are microseconds since 1970, by Postgres' clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from msgspec import Struct

from store import sql
from store.postgres.driver import uuid, uuids
from store.postgres.pool import Pool
from store.quiet_hours import QuietHours

_sql = sql.load("inspected_users")

MAX_NEAR: Final = 50
"""Names on each side of a name that does not exist, among which the operator may find the one that is meant."""

MAX_DEVICES: Final = 120
MAX_BEHIND: Final = 20
MAX_DEAD: Final = 5


class InspectedUser(Struct, frozen=True):
    """An account.

    :ivar due: when it is deleted; None: its user has not asked for that.
    :ivar issuer: of the external identity.
    :ivar has_address: a verified e-mail address.
    :ivar last_seen: None: unknown.
    :ivar starts: conversations with strangers that the user has begun in 24 hours.
    :ivar now: when this was read.
    """

    user: bytes
    username: str
    created: int
    suspended: int | None
    is_closed: bool
    deleted: int | None
    due: int | None
    deletes_messages: bool | None
    has_password: bool
    issuer: str | None
    has_address: bool
    last_seen: int | None
    quiet: QuietHours | None
    starts: int
    stored_bytes: int
    now: int


class InspectedDevice(Struct, frozen=True):
    """A device that is logged in, or ended lately.

    :ivar state: of its tokens: `good`, `expired`, `revoked`, `token reused` or `suspended`.
    """

    user: bytes
    device: bytes
    name: str
    client: str | None
    created: int
    last_used: int
    expires: int
    revoked: int | None
    state: str


class Behind(Struct, frozen=True):
    """A conversation with messages that no device of the user has marked delivered.

    :ivar delivered: the mark, or the floor below which nothing is to be delivered.
    :ivar by: the device that moved the mark last.
    """

    conversation: bytes
    last_seq: int
    delivered: int
    by: bytes | None
    active_at: int


class InspectedNotifier(Struct, frozen=True):
    """A notifier of a user; without id and kind the webhook of the deployment.

    :ivar told: when it took the last notice, which counted `unread` messages; 0: it was withdrawn.
    :ivar job: that is to tell it, begun `attempt` times, next at `due`.
    """

    user: bytes
    notifier: bytes | None
    kind: str | None
    device: bytes | None
    failing_since: int | None
    failures: int | None
    last_error: str | None
    told: int | None
    unread: int | None
    job: int | None
    due: int | None
    attempt: int | None
    is_running: bool


class NoticeJob(Struct, frozen=True):
    """The job that decides which notifiers of a user are told."""

    user: bytes
    job: int
    due: int
    attempt: int
    is_running: bool


class DeadUserJob(Struct, frozen=True):
    """A job about a user that has failed for good."""

    user: bytes
    job: int
    task: str
    died: int
    reason: str


async def find_user(pool: Pool, username: str, typed: str) -> bytes | None:
    """The user with this name, or else with this id; None if there is none.

    :param username: in the canonical form; empty if `typed` can be no name.
    """
    rows = await pool.fetch(_sql.by_name, {"username": username}) if username else []
    if not rows and (id_ := _id(typed)) is not None:
        rows = await pool.fetch(_sql.by_id, {"user": id_})
    return rows[0][0] if rows else None


def _id(typed: str) -> UUID | None:
    try:
        return UUID(typed)
    except ValueError:
        return None


async def names_near(pool: Pool, username: str) -> list[str]:
    """Names of users beside this one in the order of names."""
    rows = await pool.fetch(_sql.names_near, {"username": username, "limit": MAX_NEAR})
    return [name for (name,) in rows]


async def account_of(pool: Pool, user: bytes) -> InspectedUser:
    """The account of a user who exists."""
    [row] = await pool.fetch(_sql.account, {"user": uuid(user)})
    quiet = None if row[11] is None else QuietHours(*row[11:14])
    return InspectedUser(*[user, *row[:11], quiet, *row[14:]])


async def devices_of(pool: Pool, users: Sequence[bytes]) -> list[InspectedDevice]:
    """The devices of some users, at most `MAX_DEVICES` of each, those that were used last first."""
    rows = await pool.fetch(_sql.devices, {"users": uuids(users), "limit": MAX_DEVICES})
    return [InspectedDevice(*row) for row in rows]


async def behind_of(pool: Pool, user: bytes) -> list[Behind]:
    """The conversations where the user's devices lack messages, by the delivered marks; at most `MAX_BEHIND`."""
    return [Behind(*row) for row in await pool.fetch(_sql.behind, {"user": uuid(user), "limit": MAX_BEHIND})]


async def notifiers_of(pool: Pool, users: Sequence[bytes]) -> list[InspectedNotifier]:
    """The notifiers of some users, and the deployment's webhook where it has told them something or is to."""
    return [InspectedNotifier(*row) for row in await pool.fetch(_sql.notifiers, {"users": uuids(users)})]


async def notice_jobs_of(pool: Pool, users: Sequence[bytes]) -> list[NoticeJob]:
    """The jobs that decide on notices for some users."""
    return [NoticeJob(*row) for row in await pool.fetch(_sql.notice_jobs, {"users": uuids(users)})]


async def dead_jobs_of(pool: Pool, users: Sequence[bytes]) -> list[DeadUserJob]:
    """The last `MAX_DEAD` dead jobs about each of some users."""
    rows = await pool.fetch(_sql.dead_jobs, {"users": uuids(users), "limit": MAX_DEAD})
    return [DeadUserJob(*row) for row in rows]
