"""Lists of participants: kept in memory and checked on each use; which users may watch each other; changes to them.

A commit returns the conversation's `participants_version`; a list of another version is never used. There are no events
and no time to live: unused lists fall out when the cache is full.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from msgspec import Struct

from protocol.frames import Departed, Settings
from protocol.limits import MAX_SHOWN
from store import sql
from store.listed_devices import ListedDevices
from store.postgres.driver import uuid, uuids
from store.postgres.pool import Pool
from store.rows import departed_of, settings_of

_sql = sql.load("participant_lists")

MAX_USERS: Final = 1_000_000
"""Participants of all lists together; 16 bytes and two pointers each, so about 60 MB when full."""


@dataclass(frozen=True, slots=True)
class ParticipantsStatistics:
    """A snapshot of the cache's counters since its start."""

    conversations: int
    users: int
    hits: int
    misses: int


class ParticipantsCache:
    """Participant lists by conversation, least recently used out first.

    :ivar devices: of the conversations' device sets.
    """

    def __init__(self, max_users: int = MAX_USERS) -> None:
        self.devices = ListedDevices()
        self._max_users = max_users
        self._lists: OrderedDict[bytes, tuple[int, tuple[bytes, ...]]] = OrderedDict()
        self._users = 0
        self._hits = 0
        self._misses = 0

    def get(self, conversation: bytes) -> tuple[int, tuple[bytes, ...]] | None:
        """The cached version and participants, if there are any. Check the version before any use."""
        entry = self._lists.get(conversation)
        if entry is None:
            self._misses += 1
        else:
            self._hits += 1
            self._lists.move_to_end(conversation)
        return entry

    def size_for(self, conversation: bytes, user: bytes) -> int:
        """The number of participants in the cached list, which may be out of date; 0 if there is none, or the user is
        not among them: what a user pays must not tell of conversations of others."""
        entry = self._lists.get(conversation)
        return len(entry[1]) if entry is not None and user in entry[1] else 0

    def put(self, conversation: bytes, version: int, participants: tuple[bytes, ...]) -> None:
        """Keep a list that was read together with this version."""
        old = self._lists.pop(conversation, None)
        if old is not None:
            self._users -= len(old[1])
        self._lists[conversation] = (version, participants)
        self._users += len(participants)
        while self._users > self._max_users and len(self._lists) > 1:
            _, (_, dropped) = self._lists.popitem(last=False)
            self._users -= len(dropped)

    def forget(self) -> None:
        """Drop all lists: after Postgres is restored from a backup it issues the same versions again."""
        self.devices.forget()
        self._lists.clear()
        self._users = 0

    def statistics(self) -> ParticipantsStatistics:
        return ParticipantsStatistics(len(self._lists), self._users, self._hits, self._misses)


async def participant_counts(pool: Pool, asked: Sequence[tuple[bytes, bytes]]) -> dict[tuple[bytes, bytes], int]:
    """How many participants some conversations have, by conversation and participant; nothing for a user who is no
    participant."""
    conversations, users = zip(*asked, strict=True)
    parameters = {"conversations": uuids(conversations), "users": uuids(users)}
    return {(row[0], row[1]): row[2] for row in await pool.fetch(_sql.participant_counts, parameters)}


class Watchable(Struct, frozen=True):
    """A user whose presence another user may watch.

    :ivar is_frozen: always shown as offline since `last_seen` (or an unknown time), because the watched user blocks the
        other one.
    """

    user: bytes
    is_frozen: bool
    last_seen: int | None


async def watchable(pool: Pool, user: bytes, users: Sequence[bytes]) -> list[Watchable]:
    """The users among `users` whose presence `user` may watch."""
    rows = await pool.fetch(_sql.watchable, {"user": uuid(user), "users": uuids(users)})
    return [Watchable(*row) for row in rows]


async def unwatchable(pool: Pool, pairs: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes, bool, int | None]]:
    """The pairs (user, watched user) in which the user may not watch the other's presence, or not any longer. With
    each: whether the watched user blocks the user, and so must seem offline, and since when."""
    parameters = {"user": uuids([user for user, _ in pairs]), "watched": uuids([watched for _, watched in pairs])}
    return [tuple(row) for row in await pool.fetch(_sql.unwatchable, parameters)]


async def acquainted(pool: Pool, user: bytes) -> list[bytes]:
    """The users that see a user by name, including that user."""
    return [row[0] for row in await pool.fetch(_sql.acquainted, {"user": uuid(user), "most": MAX_SHOWN})]


class ChangedParticipants(Struct, frozen=True):
    """Changes in a conversation other than messages.

    :ivar is_other: whether the list of participants, or the data about them, has changed.
    :ivar users: the participants.
    :ivar marks: (user, delivered, read, read as the user's own devices see it, how many messages up to that are quiet),
        for marks that have moved; None: no message of the conversation is quiet, or it is not known.
    :ivar counted_upto: in conversations of many, if marks have moved: the seq of the last message.
    :ivar settings: with the floor, if it has moved.
    """

    conversation: bytes
    is_other: bool
    users: tuple[bytes, ...]
    marks: list[tuple[bytes, int, int, int, int | None]]
    counted_upto: int | None
    settings: Settings | None


async def changed_since(pool: Pool, users: Sequence[bytes], base: str) -> list[ChangedParticipants]:
    """Changes for these users other than messages, since a snapshot in Postgres' own form."""
    parameters = {"users": uuids(users), "base": base, "most": MAX_SHOWN}
    changed = []
    for conversation, is_other, participants, upto, *rest in await pool.fetch(_sql.changed_since, parameters):
        columns, (floor, name, version, sees_all, lifetime_s, actor, avatar, quiet_count) = rest[:5], rest[5:]
        marks = list(zip(*columns, strict=True))
        settings = None
        if floor is not None:
            settings = settings_of(conversation, name, floor, version, sees_all, lifetime_s, actor, avatar, quiet_count)
        changed.append(ChangedParticipants(conversation, bool(is_other), tuple(participants), marks, upto, settings))
    return changed


async def departed_since(pool: Pool, users: Sequence[bytes], base: str) -> list[Departed]:
    """The users among these who have left conversations since a snapshot, or were removed; one entry for each."""
    rows = await pool.fetch(_sql.departed_since, {"users": uuids(users), "base": base})
    return [departed_of(*row) for row in rows]
