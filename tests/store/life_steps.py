"""What may happen to attachments, step by step, and what each step has to change (`test_attachment_life.py`)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple, TypeVar
from uuid import uuid4

from hypothesis import strategies as st

from protocol import limits
from store import profiles, retention, revisions
from store.avatars import NO_AVATAR
from store.errors import (
    AttachmentIncomplete,
    AttachmentUsed,
    NotAnAdministrator,
    NotAParticipant,
    QuotaExceeded,
    StoreError,
    UnknownAttachment,
)
from store.messages import Committed, NewMessage, send
from store.participants import add, change_settings, remove
from store.postgres.pool import Pool
from store.profiles import ProfileChange
from tests.ageing import age
from tests.jobs.jobs_world import a_job
from tests.store.failing_calls import KINDS, CallFault
from tests.store.life_world import (
    DAY_S,
    GROUP,
    USERS,
    AttachmentRow,
    KnownFile,
    LifeWorld,
    SentMessage,
    declaration_of,
)

_T = TypeVar("_T")
_F = TypeVar("_F", bound=Callable[..., Any])

JOB: Final = a_job("clean-up")

STEPS: Final = 16

users = st.integers(0, USERS - 1)
picks = st.integers(0, 99)
some_picks = st.lists(picks, min_size=1, max_size=3)
faults = st.one_of(st.none(), st.none(), st.builds(CallFault, st.sampled_from(KINDS), st.integers(1, 5)))


class LifeStep(NamedTuple):
    """A step, and what it is taken with."""

    name: str
    arguments: dict[str, Any]


_steps: list[st.SearchStrategy[LifeStep]] = []


def _step(weight: int, **arguments: st.SearchStrategy[Any]) -> Callable[[_F], _F]:
    """A method that is a step, as often as its weight says."""

    def note(method: _F) -> _F:
        strategy = st.builds(LifeStep, st.just(method.__name__), st.fixed_dictionaries(arguments))
        _steps.extend([strategy] * weight)
        return method

    return note


class AttachmentLives:
    """Steps, and the checks after each of them."""

    def __init__(self, life: LifeWorld) -> None:
        self.life = life

    async def step(self, step: Callable[[], Awaitable[_T]], fault: CallFault | None) -> _T | StoreError | None:
        answer = await self.life.failures.run(step, fault)
        if self.has_struck:
            await self.life.wait_idle()
        return answer

    @property
    def has_struck(self) -> bool:
        return self.life.failures.has_struck

    async def check(
        self, expected: dict[int, SentMessage] | None = None, avatars: dict[int, bytes] | None = None
    ) -> None:
        """That a step which changed the messages, or the avatars, like this has, and that all fits together."""
        before, shown = self.life.messages, self.life.avatars
        after = before if expected is None else expected
        shown_after = shown if avatars is None else avatars
        if self.has_struck:
            await self.life.check(before, after, avatars=[shown, shown_after])
        else:
            await self.life.check(after, avatars=[shown_after])

    def check_rows(self, states: dict[bytes, tuple[bool, int | None, bool]]) -> None:
        """That no row has another state. After a fault only the rest of `check` holds."""
        if not self.has_struck:
            assert {id_: row.state for id_, row in self.life.rows.items()} == states

    def states(self) -> dict[bytes, tuple[bool, int | None, bool]]:
        return {id_: row.state for id_, row in self.life.rows.items()}

    def with_thumbnails(self, ids: Sequence[bytes]) -> list[AttachmentRow]:
        return [row for row in self.life.rows.values() if row.id in ids or row.thumbnail_of in ids]

    def some_files(self, picks: list[int], user: int, *, ready: bool, is_avatar: bool = False) -> list[bytes]:
        """Files that clients know; most of them the user's own, which a message could take, or avatars."""
        known = list(self.life.files)
        if ready:
            rows = self.life.rows
            known = [id_ for id_ in known if id_ in rows and rows[id_].state == (True, None, False)]
            known = [
                id_
                for id_ in known
                if rows[id_].user == self.life.users[user]
                and not rows[id_].thumbnail_of
                and rows[id_].is_avatar == is_avatar
            ]
        return list(dict.fromkeys(known[pick % len(known)] for pick in picks)) if known else []

    def message(self, pick: int, user: int) -> int | None:
        """A message that a user sees, tombstones for everyone among them."""
        life = self.life
        if user not in life.joined:
            return None
        first = max(life.floor, life.joined[user])
        seen = [seq for seq in life.messages if seq > first and (user, seq) not in life.hidden]
        return seen[pick % len(seen)] if seen else None

    @_step(
        6,
        user=users,
        sizes=st.lists(st.sampled_from([1, 40, "large"]), min_size=1, max_size=2),
        small=st.booleans(),
        is_avatar=st.sampled_from([False, False, True]),
        whole=st.booleans(),
        fault=faults,
    )
    async def declares(
        self, user: int, sizes: list[int | str], small: bool, whole: bool, is_avatar: bool, fault: CallFault | None
    ) -> None:
        """And uploads it at once, or part by part in other steps."""
        life = self.life
        contents: list[KnownFile] = []
        files = []
        for size in sizes:
            bytes_ = limits.ATTACHMENT_PART_BYTES + 5 if size == "large" else int(size)
            file = KnownFile(user, bytes_ // 5 * b"12345" + bytes(bytes_ % 5))
            thumbnail = KnownFile(user, b"small") if small and not is_avatar else None
            contents += [file, thumbnail] if thumbnail else [file]
            files.append(declaration_of(file, thumbnail, is_avatar=is_avatar))
        wanted = sum(len(each.data) for each in contents)
        states, own = self.states(), [row for row in life.rows.values() if row.user == life.users[user]]
        is_open = [
            row
            for row in own
            if row.seq is None and not row.is_shown and not row.is_orphaned and row.thumbnail_of is None
        ]
        total = sum(row.size_bytes for row in life.rows.values())
        refused = (
            len(is_open) + len(files) > life.quotas.open_uploads_per_user
            or life.declared[user] + wanted > life.quotas.attachment_bytes_per_day
            or sum(row.size_bytes for row in own) + wanted > life.quotas.attachment_bytes_per_user
            or total + wanted > life.quotas.attachment_bytes_total
            or (is_avatar and any(each.size_bytes > life.quotas.avatar_bytes for each in files))
        )
        answer = await self.step(lambda: life.transfers.upload(life.users[user], files, is_avatar=is_avatar), fault)
        if self.has_struck:
            declared = await life.declared_today(user)
            assert declared in (life.declared[user], life.declared[user] + wanted)
            life.declared[user] = declared
        if isinstance(answer, list):
            assert not refused
            if not self.has_struck:
                life.declared[user] += wanted
            life.know(answer, contents)
            states |= {each.attachment: (False, None, False) for each in answer}
        elif not self.has_struck:
            assert refused
            assert isinstance(answer, QuotaExceeded)
        await self.check()
        self.check_rows(states)
        if whole and isinstance(answer, list):
            for ticket in answer:
                for number in range(1, life.files[ticket.attachment].part_count + 1):
                    await self.put(ticket.attachment, number)
            await self.complete(user, [each.attachment for each in answer if each.thumbnail_of is None], None)

    async def put(self, id_: bytes, number: int) -> None:
        file = self.life.files[id_]
        if number in file.tickets and await self.life.put(file.tickets[number], file.part(number)) < 300:
            file.stored.add(number)

    @_step(2, pick=picks, part=picks)
    async def uploads_a_part(self, pick: int, part: int) -> None:
        """Also of an upload that was given up."""
        known = list(self.life.files)
        if known:
            id_ = known[pick % len(known)]
            await self.put(id_, part % self.life.files[id_].part_count + 1)
            await self.check()

    @_step(2, pick=picks, fault=faults)
    async def asks_for_parts(self, pick: int, fault: CallFault | None) -> None:
        life = self.life
        known = list(life.files)
        if not known:
            return
        id_ = known[pick % len(known)]
        file, row, states = life.files[id_], life.rows.get(id_), self.states()
        answer = await self.step(lambda: life.transfers.parts(life.users[file.owner], id_), fault)
        if not self.has_struck:
            if row is None or row.is_orphaned:
                assert isinstance(answer, UnknownAttachment)
            else:
                assert not isinstance(answer, StoreError)
                assert answer is not None
                missing = set() if row.is_complete else set(range(1, file.part_count + 1)) - file.stored
                assert {each.number for each in answer.requests} == missing
                assert answer.stored == file.part_count - len(missing)
                file.tickets |= {each.number: each.request for each in answer.requests}
        await self.check()
        self.check_rows(states)

    @_step(2, user=users, picks=some_picks, fault=faults)
    async def completes(self, user: int, picks: list[int], fault: CallFault | None) -> None:
        ids = self.some_files(picks, user, ready=False)
        if ids:
            await self.complete(user, ids, fault)

    async def complete(self, user: int, ids: list[bytes], fault: CallFault | None) -> None:
        life, states = self.life, self.states()
        rows = [row for row in self.with_thumbnails(ids) if row.user == life.users[user] and not row.is_orphaned]
        answer = await self.step(lambda: life.transfers.complete(life.users[user], ids), fault)
        if not self.has_struck:
            if not {row.id for row in rows}.issuperset(ids):
                assert isinstance(answer, UnknownAttachment)
            else:
                there = {row.id for row in rows if row.is_complete or self.is_whole(row.id)}
                assert isinstance(answer, AttachmentIncomplete) == (len(there) < len(rows))
                assert answer is None or isinstance(answer, AttachmentIncomplete)
                states |= {id_: (True, *states[id_][1:]) for id_ in there}
        await self.check()
        self.check_rows(states)

    def is_whole(self, id_: bytes) -> bool:
        file = self.life.files[id_]
        return len(file.stored) == file.part_count

    def refusal(self, user: int, ids: list[bytes], kept: tuple[bytes, ...]) -> type[StoreError] | None:
        """Why a message cannot have these files."""
        for id_ in ids:
            row = self.life.rows.get(id_)
            if row is None or row.user != self.life.users[user] or row.thumbnail_of is not None or row.is_avatar:
                return UnknownAttachment
            if id_ in kept:
                continue
            small = self.life.thumbnail_of(id_)
            if row.seq is not None:
                return AttachmentUsed
            if row.is_orphaned or (small and small.is_orphaned):
                return UnknownAttachment
            if not row.is_complete or (small and not small.is_complete):
                return AttachmentIncomplete
        return None

    @_step(6, user=users, picks=some_picks, ready=st.booleans(), fault=faults)
    async def sends(self, user: int, picks: list[int], ready: bool, fault: CallFault | None) -> None:
        """And repeats it after a fault, as clients do."""
        life = self.life
        if user not in life.joined:
            return
        ids = self.some_files(picks, user, ready=ready)
        message = NewMessage(life.group, life.users[user], uuid4().bytes, "text", b"x", None, None, None, ids or None)
        refused = self.refusal(user, ids, ())
        for each in (fault, None) if fault else (None,):
            states, after = self.states(), dict(life.messages)
            answer = await self.step(lambda: send(life.failing_pool, life.cache, [message]), each)
            is_there = any(known.temp_id == message.temp_id for known in life.messages.values())
            seq = max(life.messages, default=life.floor) + 1
            if refused is None and not is_there:
                after[seq] = SentMessage(user, message.temp_id, tuple(ids))
                states |= {row.id: (True, seq, False) for row in self.with_thumbnails(ids)}
            if not self.has_struck:
                assert isinstance(answer, list)
                [outcome] = answer
                assert isinstance(outcome, refused or Committed)
                assert not isinstance(outcome, Committed) or outcome.is_new == (not is_there)
            await self.check(after)
            self.check_rows(states)

    @_step(4, pick=picks, picks=st.lists(picks, max_size=3), keeps=st.booleans(), ready=st.booleans(), fault=faults)
    async def edits(self, pick: int, picks: list[int], keeps: bool, ready: bool, fault: CallFault | None) -> None:
        life = self.life
        own = [
            seq
            for seq, each in life.messages.items()
            if not each.is_deleted and self.message(0, each.sender) and seq in self.seen_by(each.sender)
        ]
        if not own:
            return
        seq = own[pick % len(own)]
        old = life.messages[seq]
        new = self.some_files(picks, old.sender, ready=ready)
        ids = list(dict.fromkeys([*(old.attachments[:1] if keeps else ()), *new]))
        refused = self.refusal(old.sender, ids, old.attachments)
        states, after = self.states(), dict(life.messages)
        answer = await self.step(
            lambda: revisions.edit(
                life.failing_pool,
                life.users[old.sender],
                life.group,
                seq,
                old.revision,
                "text",
                b"y%d" % old.revision,
                None,
                None,
                ids or None,
            ),
            fault,
        )
        if refused is None:
            after[seq] = SentMessage(old.sender, old.temp_id, tuple(ids), old.revision + 1)
            lost = self.with_thumbnails([id_ for id_ in old.attachments if id_ not in ids])
            states |= {row.id: (True, seq, False) for row in self.with_thumbnails(ids)}
            states |= {row.id: (True, None, True) for row in lost}
        if not self.has_struck:
            assert isinstance(answer, refused or tuple)
        await self.check(after)
        self.check_rows(states)

    def seen_by(self, user: int) -> list[int]:
        life = self.life
        if user not in life.joined:
            return []
        first = max(life.floor, life.joined[user])
        return [seq for seq in life.messages if seq > first and (user, seq) not in life.hidden]

    @_step(2, pick=picks, fault=faults)
    async def deletes_for_everyone(self, pick: int, fault: CallFault | None) -> None:
        """The administrator, who reads all."""
        life = self.life
        if (seq := self.message(pick, 0)) is None:
            return
        old, states = life.messages[seq], self.states()
        await self.step(lambda: revisions.delete_for_everyone(life.failing_pool, life.users[0], life.group, seq), fault)
        states |= {row.id: (True, None, True) for row in self.with_thumbnails(old.attachments)}
        await self.check({**life.messages, seq: SentMessage(old.sender, old.temp_id, (), old.revision, True)})
        self.check_rows(states)

    @_step(1, user=users, pick=picks)
    async def deletes_for_me(self, user: int, pick: int) -> None:
        life = self.life
        if (seq := self.message(pick, user)) is not None:
            await revisions.delete_for_me(life.pool, life.users[user], life.group, seq)
            life.hidden.add((user, seq))
            await self.check()

    @_step(2, user=st.integers(1, USERS - 1))
    async def joins_or_leaves(self, user: int) -> None:
        life = self.life
        if user in life.joined:
            await remove(life.pool, life.users[user], life.group, life.users[user])
            del life.joined[user]
        else:
            await add(life.pool, life.users[0], life.group, life.users[user])
            life.joined[user] = max(life.messages, default=life.floor)
        await self.check()

    @_step(4, user=users, of_group=st.booleans(), pick=picks, ready=st.booleans(), fault=faults)
    async def sets_an_avatar(self, user: int, of_group: bool, pick: int, ready: bool, fault: CallFault | None) -> None:
        """Of the user, or of the group, to a file that is an avatar more often than not."""
        ids = self.some_files([pick], user, ready=ready, is_avatar=True)
        if ids:
            await self.set_avatar(user, GROUP if of_group else user, ids[0], fault)

    @_step(1, user=users, of_group=st.booleans(), fault=faults)
    async def removes_an_avatar(self, user: int, of_group: bool, fault: CallFault | None) -> None:
        await self.set_avatar(user, GROUP if of_group else user, None, fault)

    async def set_avatar(self, user: int, owner: int, id_: bytes | None, fault: CallFault | None) -> None:
        life, states, after = self.life, self.states(), dict(self.life.avatars)
        former, refused = life.avatars.get(owner), self.avatar_refusal(user, owner, id_)
        new = NO_AVATAR if id_ is None else id_
        if owner == GROUP:
            answer: object = await self.step(
                lambda: change_settings(life.failing_pool, life.users[user], life.group, avatar=new), fault
            )
        else:
            answer = await self.step(lambda: profiles.change(life.failing_pool, life.users[user], avatar=new), fault)
        if refused is None:
            after.pop(owner, None)
            if id_ is not None:
                after[owner] = id_
            if former not in (None, id_):
                states[former] = (True, None, True)
        if not self.has_struck:
            assert isinstance(answer, refused or (ProfileChange, tuple))
        await self.check(avatars=after)
        self.check_rows(states)

    def avatar_refusal(self, user: int, owner: int, id_: bytes | None) -> type[StoreError] | None:
        """Why a user cannot set an avatar to this file."""
        life = self.life
        if owner == GROUP and user not in life.joined:
            return NotAParticipant
        if owner == GROUP and user != 0:
            return NotAnAdministrator
        if id_ is None or id_ == life.avatars.get(owner):
            return None
        row = life.rows.get(id_)
        if row is None or row.user != life.users[user] or not row.is_avatar or row.is_orphaned:
            return UnknownAttachment
        if row.is_shown:
            return AttachmentUsed
        return None if row.is_complete else AttachmentIncomplete

    @_step(2, user=users, picks=some_picks, fault=faults)
    async def aborts(self, user: int, picks: list[int], fault: CallFault | None) -> None:
        life, states = self.life, self.states()
        ids = self.some_files(picks, user, ready=False)
        if not ids:
            return
        rows = [row for row in self.with_thumbnails(ids) if row.user == life.users[user] and not row.is_orphaned]
        answer = await self.step(lambda: life.transfers.abort(life.users[user], ids), fault)
        if not self.has_struck:
            if not {row.id for row in rows}.issuperset(ids):
                assert isinstance(answer, UnknownAttachment)
            elif any(row.seq is not None or row.is_shown for row in rows):
                assert isinstance(answer, AttachmentUsed)
            else:
                assert answer is None
                states = {id_: state for id_, state in states.items() if id_ not in {row.id for row in rows}}
        await self.check()
        self.check_rows(states)

    @_step(2, fault=faults)
    async def orphaned_attachments(self, fault: CallFault | None) -> None:
        await self.clean_up(fault)

    async def clean_up(self, fault: CallFault | None) -> None:
        life = self.life
        states = {
            row.id: row.state
            for row in life.rows.values()
            if (row.seq or 0) > life.floor
            or (row.seq is None and not row.is_orphaned and (row.is_shown or not row.is_old))
        }
        await self.step(lambda: life.orphans.orphaned_attachments(JOB), fault)
        await self.check()
        self.check_rows(states)

    @_step(2, name=st.sampled_from(["orphaned_objects", "abandoned_multiparts"]), fault=faults)
    async def sweeps(self, name: str, fault: CallFault | None) -> None:
        states = self.states()
        await self.step(lambda: getattr(self.life.orphans, name)(JOB), fault)
        await self.check()
        self.check_rows(states)

    @_step(2, hours=st.sampled_from([1, 25]))
    async def time_passes(self, hours: int) -> None:
        await self.life.let_pass(hours * 3600.0)
        await self.check()

    @_step(1, pick=picks, fault=faults)
    async def messages_disappear(self, pick: int, fault: CallFault | None) -> None:
        """Those up to one of them, in the steps of retention."""
        life = self.life
        if (seq := self.message(pick, 0)) is None:
            return
        await age(life.pool, life.group, upto=seq)
        await self.step(lambda: self.retain(life.failing_pool), fault)
        await self.check()

    async def retain(self, pool: Pool) -> int:
        """The steps of retention; returns how many messages they have deleted, at most 2."""
        await retention.move_floors(pool, days=30, archives=False, limit=50)
        await retention.note_announced(pool, [self.life.group])
        return await retention.clear(pool, self.life.group, limit=2)

    async def end(self) -> None:
        """In the end only what messages have is there, and the avatars; and nothing at all once they are gone: avatars
        that are removed, messages that the administrator sees by a deletion for everyone, the others by their age. The
        next life finds an empty store."""
        life = self.life
        await self.settle()
        kept = {row.key for row in life.rows.values() if row.seq is not None or row.is_shown}
        assert {row.key for row in life.rows.values()} == kept
        assert await life.stored() == (kept, [])
        for owner in list(life.avatars):
            await self.set_avatar(0 if owner == GROUP else owner, owner, None, None)
        seen = self.seen_by(0)
        left = {row.key for row in life.rows.values() if row.seq not in (None, *seen)}
        for seq in seen:
            await revisions.delete_for_everyone(life.pool, life.users[0], life.group, seq)
        await self.settle()
        assert {row.key for row in life.rows.values()} == left
        assert await life.stored() == (left, [])
        await age(life.pool, life.group)
        while await self.retain(life.pool):
            pass
        await self.settle()
        assert life.rows == {}
        assert await life.stored() == (set(), [])

    async def settle(self) -> None:
        """Two days pass, and the tasks run."""
        for _ in range(2):
            await self.life.let_pass(DAY_S + 3600)
            for name in ("orphaned_attachments", "orphaned_objects", "abandoned_multiparts"):
                await getattr(self.life.orphans, name)(JOB)
            await self.life.look()


steps: Final = st.lists(st.one_of(_steps), min_size=STEPS, max_size=STEPS)
