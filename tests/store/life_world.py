"""The world of attachments in which `test_attachment_life.py` lives: three users of a group, and what is stored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final, NamedTuple
from uuid import UUID

import trio

from client.http import Credentials
from jobs.tasks.orphans import Orphans
from protocol import limits
from store.attachments import File, Thumbnail
from store.objects.direct import FileStore, PresignedRequest
from store.objects.quotas import Quotas
from store.participant_lists import ParticipantsCache
from store.postgres.driver import uuid, uuids
from store.postgres.pool import Pool
from store.transfers import Transfers, UploadTicket
from tests.store.attachment_world import Put
from tests.store.failing_calls import FailingPool, FailingStore, Failures
from tests.waiting import wait_until

USERS: Final = 3
GROUP: Final = USERS
"""The owner of the group's avatar, beside the users."""
DAY_S: Final = 86_400.0


class AttachmentRow(NamedTuple):
    """An attachment as Postgres has it.

    :ivar seq: of the message that has it; None: none.
    :ivar is_old: it was declared more than a day ago.
    :ivar is_shown: a user or the group has it as its avatar.
    """

    id: bytes
    user: bytes
    key: str
    size_bytes: int
    digest: bytes
    thumbnail_of: bytes | None
    is_complete: bool
    seq: int | None
    is_orphaned: bool
    is_old: bool
    is_avatar: bool
    is_shown: bool

    @property
    def state(self) -> tuple[bool, int | None, bool]:
        return self.is_complete, self.seq, self.is_orphaned


@dataclass(frozen=True)
class SentMessage:
    """A message, as a user sees it."""

    sender: int
    temp_id: bytes
    attachments: tuple[bytes, ...]
    revision: int = 0
    is_deleted: bool = False


@dataclass
class KnownFile:
    """A file or thumbnail that its client knows.

    :ivar tickets: number of a part -> the request that uploads it.
    :ivar stored: the parts that the client has uploaded, into the present multipart upload.
    """

    owner: int
    data: bytes
    tickets: dict[int, PresignedRequest] = field(default_factory=dict)
    stored: set[int] = field(default_factory=set)

    @property
    def part_count(self) -> int:
        return -(-len(self.data) // limits.ATTACHMENT_PART_BYTES)

    def part(self, number: int) -> bytes:
        size = limits.ATTACHMENT_PART_BYTES
        return self.data[(number - 1) * size : number * size]

    def digests(self) -> bytes:
        return b"".join(sha256(self.part(n)).digest() for n in range(1, self.part_count + 1))


def digest_of(data: bytes) -> bytes:
    """The digest of a file with this content, which the object store does not tell."""
    file = KnownFile(0, data)
    return file.digests() if file.part_count == 1 else sha256(file.digests()).digest()


def declaration_of(file: KnownFile, small: KnownFile | None, *, is_avatar: bool = False) -> File:
    thumbnail = None if small is None else Thumbnail(len(small.data), sha256(small.data).digest())
    return File(len(file.data), "application/octet-stream" if is_avatar else "image/jpeg", file.digests(), thumbnail)


def _row(each: dict[str, Any]) -> AttachmentRow:
    def id_of(text: str | None) -> bytes | None:
        return None if text is None else UUID(text).bytes

    return AttachmentRow(
        UUID(each["id"]).bytes,
        UUID(each["user"]).bytes,
        each["key"],
        each["size"],
        bytes.fromhex(each["digest"][2:]),
        id_of(each["thumbnail_of"]),
        each["is_complete"],
        each["seq"],
        each["is_orphaned"],
        each["is_old"],
        each["is_avatar"],
        each["is_shown"],
    )


_SNAPSHOT: Final = """
    select coalesce((
        select jsonb_agg(jsonb_build_object(
            'id', a.id, 'user', a.user_id, 'key', a.object_key, 'size', a.size_bytes, 'digest', a.digest,
            'thumbnail_of', a.thumbnail_of, 'is_complete', a.completed is not null, 'seq', a.seq,
            'is_orphaned', a.orphaned is not null, 'is_old', a.created < now() - interval '24 hours',
            'is_avatar', a.is_avatar, 'is_shown', a.is_shown))
        from attachments a where a.user_id = any(%(users)s::uuid[])), '[]'), coalesce((
        select jsonb_agg(jsonb_build_object(
            'seq', m.seq, 'sender', m.sender_id, 'temp_id', m.temp_id, 'attachments', m.attachments,
            'revision', m.revision, 'is_deleted', m.deleted is not null) order by m.seq)
        from messages m where m.conversation_id = %(group)s::uuid), '[]'),
        (select c.floor_seq from conversations c where c.id = %(group)s::uuid), coalesce((
        select jsonb_agg(jsonb_build_object('user', u.user_id, 'stored', u.stored_bytes, 'declared',
            case when u.day = (now() at time zone 'UTC')::date then u.declared_bytes else 0 end))
        from attachment_usage u where u.user_id = any(%(users)s::uuid[])), '[]'), (
        select jsonb_build_object('stored', t.stored_bytes, 'today', (now() at time zone 'UTC')::date,
            'bytes', (select coalesce(sum(size_bytes), 0) from attachments),
            'complete', (select count(*) from attachments where completed is not null),
            'complete_bytes', (select coalesce(sum(size_bytes), 0) from attachments where completed is not null),
            'total', jsonb_build_array(t.complete_files, t.complete_bytes),
            'figures', (select coalesce(sum(case metric when 'attachments_uploaded' then value else -value end), 0)
                from analytics where metric in ('attachments_uploaded', 'attachments_removed')))
        from attachment_total t), coalesce((
        select jsonb_object_agg(u.id, u.avatar) from users u
        where u.id = any(%(users)s::uuid[]) and u.avatar is not null), '{}'),
        (select c.avatar from conversations c where c.id = %(group)s::uuid)
"""
"""All in one statement: the test takes thousands of these."""


@dataclass
class LifeWorld:
    """Three users of a group, the first one its administrator, and their files.

    :ivar pool: without faults, as `store`.
    :ivar is_idle: whether no call of the object store is under way.
    :ivar rows: as the last look found them.
    :ivar messages: seq -> message, of those that Postgres has.
    :ivar joined: users who take part -> the seq where each joined.
    :ivar hidden: messages that a user has deleted for themselves.
    :ivar declared: bytes that each user has declared today.
    :ivar avatars: of users, by their numbers, and of the group (`GROUP`).
    """

    pool: Pool
    store: FileStore
    put: Put
    quotas: Quotas
    people: list[Credentials]
    group: bytes
    is_idle: Callable[[], bool]
    failures: Failures = field(default_factory=Failures)
    rows: dict[bytes, AttachmentRow] = field(default_factory=dict)
    files: dict[bytes, KnownFile] = field(default_factory=dict)
    messages: dict[int, SentMessage] = field(default_factory=dict)
    floor: int = 0
    joined: dict[int, int] = field(default_factory=lambda: {0: 0, 1: 0})
    hidden: set[tuple[int, int]] = field(default_factory=set)
    declared: list[int] = field(default_factory=lambda: [0] * USERS)
    avatars: dict[int, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.failing_pool = FailingPool(self.pool.url, self.failures)
        self.failing_store: Any = FailingStore(self.store, self.failures)
        self.transfers = Transfers(self.failing_pool, self.failing_store, self.quotas)
        self.orphans = Orphans(self.failing_pool, self.failing_store)
        self.cache = ParticipantsCache()
        self.users = [each.user for each in self.people]
        self._today: object = None
        self._found: list[Any] = []
        self._usage: list[Any] = []
        self._totals: dict[str, Any] = {}
        self._shown: dict[int, bytes] = {}
        self._seen: dict[str, tuple[int, int]] = {}
        self._declared_as: dict[bytes, tuple[int, bytes]] = {}

    async def wait_idle(self) -> None:
        """What a cancelled step has begun may still be under way, in a thread or in Postgres."""
        await wait_until(lambda: self.is_idle(), "the object store has done it")
        await wait_until(self._is_postgres_idle, "Postgres has done it")

    async def _is_postgres_idle(self) -> bool:
        [(active,)] = await self.pool.fetch(
            "select count(*) from pg_stat_activity"
            " where datname = current_database() and state <> 'idle' and pid <> pg_backend_pid()"
        )
        return not active

    def close(self) -> None:
        self.failing_pool.close()

    def know(self, tickets: Sequence[UploadTicket], contents: Sequence[KnownFile]) -> None:
        for ticket, content in zip(tickets, contents, strict=True):
            content.tickets = {each.number: each.request for each in ticket.requests}
            self.files[ticket.attachment] = content

    def thumbnail_of(self, id_: bytes) -> AttachmentRow | None:
        return next((row for row in self.rows.values() if row.thumbnail_of == id_), None)

    def readable_by(self, user: int) -> set[bytes]:
        """The attachments that a user may download now."""
        of_users = {id_ for owner, id_ in self.avatars.items() if owner != GROUP}
        if user not in self.joined:
            return of_users
        first = max(self.floor, self.joined[user])
        files = {
            id_
            for seq, each in self.messages.items()
            if seq > first and not each.is_deleted and (user, seq) not in self.hidden
            for id_ in each.attachments
        }
        thumbnails = {row.id for row in self.rows.values() if row.thumbnail_of in files}
        return files | thumbnails | {*self.avatars.values()}

    async def declared_today(self, user: int) -> int:
        """The bytes that the quota of the day counts."""
        rows = await self.pool.fetch(
            "select declared_bytes from attachment_usage where user_id = %s and day = (now() at time zone 'UTC')::date",
            (uuid(self.users[user]),),
        )
        return int(rows[0][0]) if rows else 0

    async def stored(self) -> tuple[set[str], list[str]]:
        """The keys of all objects, and of all multipart uploads."""
        objects, multiparts = await self.failing_store.look()
        return {each.key for each in objects}, [each.key for each in multiparts]

    async def let_pass(self, seconds: float) -> None:
        """For all that is stored. Tickets expire, and a new day begins for the quotas."""
        await self.pool.fetch(
            "update attachments set created = created - make_interval(secs => %(s)s),"
            " completed = completed - make_interval(secs => %(s)s), orphaned = orphaned - make_interval(secs => %(s)s)"
            " where user_id = any(%(users)s::uuid[])",
            {"s": seconds, "users": uuids(self.users)},
        )
        await self.pool.fetch(
            "update attachment_usage set day = day - 1 where user_id = any(%(users)s::uuid[])",
            {"users": uuids(self.users)},
        )
        self.failing_store.passed_s += seconds
        self.declared = [0] * USERS
        for file in self.files.values():
            file.tickets.clear()
        await self.look()

    async def look(self) -> None:
        """Read what is stored, and check that each complete attachment has its object."""
        [(rows, self._found, self.floor, self._usage, self._totals, of_users, of_group)] = await self.pool.fetch(
            _SNAPSHOT, {"users": uuids(self.users), "group": uuid(self.group)}
        )
        self._shown = {self.users.index(UUID(user).bytes): UUID(id_).bytes for user, id_ in of_users.items()}
        if of_group is not None:
            self._shown[GROUP] = of_group
        self.rows = {row.id: row for row in (_row(each) for each in rows)}
        for row in self.rows.values():
            first = self._declared_as.setdefault(row.id, (row.size_bytes, row.digest))
            assert first == (row.size_bytes, row.digest), "a declaration does not change"
        await self._check_objects()

    async def _check_objects(self) -> None:
        """Each attachment that is complete and not given up has its object, with the declared size and digest."""
        objects, _ = await self.failing_store.look()
        there = {each.key: each for each in objects}
        for row in self.rows.values():
            if not row.is_complete or row.is_orphaned:
                continue
            assert row.key in there, "an attachment has lost its object"
            found = there[row.key]
            mark = found.size_bytes, found.modified
            if self._seen.get(row.key) != mark:
                state = await self.store.stat(row.key)
                digest = state.digest or digest_of(await self.store.get(row.key))
                assert (state.size_bytes, digest) == (row.size_bytes, row.digest)
                self._seen[row.key] = mark

    async def check(self, *expected: dict[int, SentMessage], avatars: Sequence[dict[int, bytes]]) -> None:
        """All that must hold between two steps.

        :param expected: the messages; one of these, if it is not known which.
        :param avatars: in the same way.
        """
        tickets: dict[int, set[bytes]] = {}

        async def download(user: int) -> None:
            found = await Transfers(self.pool, self.store, self.quotas).download(self.users[user], known)
            tickets[user] = {each.of.id for each in found}

        known = list(self._declared_as)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.look)
            for user in range(USERS):
                nursery.start_soon(download, user)
        self._check_messages(expected)
        assert self._shown in avatars
        self.avatars = dict(self._shown)
        self._check_binding()
        self._check_quotas()
        for user, found in tickets.items():
            assert found == self.readable_by(user) & {*known}, "who may read gets tickets, and nobody else"

    def _check_messages(self, expected: Sequence[dict[int, SentMessage]]) -> None:
        found = {
            each["seq"]: SentMessage(
                self.users.index(UUID(each["sender"]).bytes),
                UUID(each["temp_id"]).bytes,
                tuple(UUID(id_).bytes for id_ in each["attachments"] or ()),
                each["revision"],
                each["is_deleted"],
            )
            for each in self._found
        }
        visible = {seq: each for seq, each in found.items() if seq > self.floor}
        assert visible in [{seq: each for seq, each in some.items() if seq > self.floor} for some in expected]
        self.messages = found

    def _check_binding(self) -> None:
        """Each live message has its attachments and their thumbnails, and no other has any."""
        bound: dict[int, set[bytes]] = {}
        shown = {row.id for row in self.rows.values() if row.is_shown}
        assert shown == {*self.avatars.values()}, "what is shown is an avatar, of one owner"
        assert len(self.avatars) == len(shown)
        for row in self.rows.values():
            assert not (row.seq is not None and (row.is_orphaned or not row.is_complete))
            assert not (row.is_shown and (row.is_orphaned or not row.is_complete or not row.is_avatar))
            assert not (row.is_avatar and (row.seq is not None or row.thumbnail_of))
            if row.seq is not None:
                bound.setdefault(row.seq, set()).add(row.id)
        for seq, each in self.messages.items():
            thumbnails = {row.id for row in self.rows.values() if row.thumbnail_of in each.attachments}
            if seq > self.floor:
                assert bound.get(seq, set()) == {*each.attachments, *thumbnails}
        assert bound.keys() <= self.messages.keys()

    def _check_quotas(self) -> None:
        counted = {UUID(each["user"]).bytes: (each["stored"], each["declared"]) for each in self._usage}
        if self._today not in (None, self._totals["today"]):
            self.declared = [0] * USERS  # midnight
        self._today = self._totals["today"]
        for n, user in enumerate(self.users):
            stored = sum(row.size_bytes for row in self.rows.values() if row.user == user)
            assert counted.get(user, (0, 0)) == (stored, self.declared[n])
        assert self._totals["stored"] == self._totals["bytes"], "the total of the deployment is exact"
        assert self._totals["figures"] == self._totals["complete"], "the figures of the day are exact"
        complete = [self._totals["complete"], self._totals["complete_bytes"]]
        assert self._totals["total"] == complete, "the total of complete files is exact"
