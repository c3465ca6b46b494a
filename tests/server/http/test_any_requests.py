"""Any requests in any order, over HTTP, compared with a model: what users see is what the requests before have made."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urljoin
from uuid import UUID

import trio
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from client.http import Credentials
from store.avatars import NO_AVATAR
from store.objects.folder import Folder
from store.postgres.pool import Pool
from tests.people import make_contacts, new_user
from tests.server.http.test_links import entries_of, links_of
from tests.server.http_world import Answer, Api, open_api, say
from tests.store.attachment_world import new_attachment

_T = TypeVar("_T")

FRIENDS = 4
"""Users who are contacts of each other, and begin conversations. The others are in contact lists alone."""

_numbers = itertools.count()

friends = st.integers(0, FRIENDS - 1)
outsiders = st.integers(FRIENDS, FRIENDS + 1)
picks = st.integers(0, 99)


@dataclass
class Room:
    """A conversation in the model.

    :ivar admins: users who are participants, in the order in which they joined -> whether each is an administrator.
    :ivar first: users -> the first message that each may read.
    :ivar left: users who have left it.
    :ivar messages: (sender, content), in order.
    :ivar avatar: the id of the one that it shows.
    """

    id: bytes
    name: str | None
    admins: dict[int, bool]
    first: dict[int, int]
    muted: set[int] = field(default_factory=set)
    left: set[int] = field(default_factory=set)
    messages: list[tuple[int, bytes]] = field(default_factory=list)
    avatar: bytes | None = None

    @property
    def path(self) -> str:
        return f"/v1/conversations/{UUID(bytes=self.id)}"

    def may_change(self, user: int) -> bool:
        """Administrators may; everybody if there is none."""
        return self.admins[user] or not any(self.admins.values())


def avatar_of(shown: Any) -> bytes | None:
    """The id of the avatar of a profile, a participant or a conversation."""
    avatar = shown["avatar"]
    return None if avatar is None else UUID(avatar["attachment"]).bytes


class AnyRequests(RuleBasedStateMachine):
    """Users who write, read and change what they share. Rules run in a thread, beside the server's event loop."""

    def __init__(self, pool: Pool, api: Api) -> None:
        super().__init__()
        self.pool = pool
        self.api = api
        self.users: list[Credentials] = []
        self.names: list[str | None] = []
        self.avatars: list[bytes | None] = []
        self.directs: dict[frozenset[int], Room] = {}
        self.groups: list[Room] = []
        self.contacts: list[dict[int, bool]] = []
        self.written = 0

    def run(self, function: Callable[..., Awaitable[_T]], *arguments: Any) -> _T:
        return trio.from_thread.run(function, *arguments)

    def ask(self, user: int, method: str, path: str, body: Any = None) -> Answer:
        mine = self.api.of(self.users[user].token)

        async def ask() -> Answer:
            return await mine.request(method, path, **({} if body is None else {"json": body}))

        return self.run(ask)

    def id_of(self, user: int) -> str:
        return str(UUID(bytes=self.users[user].user))

    def group(self, pick: int) -> Room:
        return self.groups[pick % len(self.groups)]

    @initialize()
    def begin(self) -> None:
        number = next(_numbers)
        for each in range(FRIENDS + 2):
            self.users.append(self.run(new_user, self.pool, f"user{number}-{each}"))
            self.names.append(None)
            self.avatars.append(None)
            self.contacts.append({})
        for one, other in itertools.combinations(range(FRIENDS), 2):
            self.run(make_contacts, self.pool, self.users[one], self.users[other])
            self.contacts[one][other] = self.contacts[other][one] = False

    @rule(user=friends, other=friends)
    def begins_a_direct_conversation(self, user: int, other: int) -> None:
        pair = frozenset((user, other))
        body = {"kind": "direct", "participants": [self.id_of(other)]}
        answer = self.ask(user, "POST", "/v1/conversations", body)
        if user == other:
            assert (answer.status, answer.code) == (400, "invalid_body")
            return
        assert answer.status == (200 if pair in self.directs else 201)
        room = Room(answer.body["conversation"], None, dict.fromkeys(pair, False), dict.fromkeys(pair, 1))
        assert self.directs.setdefault(pair, room).id == room.id

    @rule(user=friends, others=st.sets(friends, min_size=1), name=st.sampled_from(["Climbing", "Café", "x" * 128]))
    def begins_a_group(self, user: int, others: set[int], name: str) -> None:
        body = {"kind": "group", "name": name, "participants": [self.id_of(other) for other in others]}
        answer = self.ask(user, "POST", "/v1/conversations", body)
        assert answer.status == 201
        admins = {each: each == user for each in sorted(others | {user}, key=lambda each: self.users[each].user)}
        self.groups.append(Room(answer.body["conversation"], name, admins, dict.fromkeys(admins, 1)))
        self.write(self.groups[-1], user, b"welcome")

    @precondition(lambda self: self.groups)
    @rule(user=friends, pick=picks, name=st.sampled_from(["Climbing on Friday", "Ü"]))
    def renames_a_group(self, user: int, pick: int, name: str) -> None:
        room = self.group(pick)
        if self.is_admitted(room, user, self.ask(user, "PATCH", room.path, {"name": name})):
            room.name = name

    @precondition(lambda self: self.groups)
    @rule(user=friends, pick=picks, other=friends, is_allowed=st.booleans())
    def adds_a_participant(self, user: int, pick: int, other: int, is_allowed: bool) -> None:
        room = self.group(pick)
        if other in room.left:
            return
        if is_allowed and room.admins:
            user = max(room.admins, key=lambda each: room.admins[each])
        answer = self.ask(user, "POST", f"{room.path}/participants", {"user": self.id_of(other)})
        if self.is_admitted(room, user, answer) and other not in room.admins:
            room.admins[other] = False
            room.first[other] = len(room.messages) + 1

    @precondition(lambda self: self.groups)
    @rule(user=friends, pick=picks, other=friends)
    def removes_a_participant(self, user: int, pick: int, other: int) -> None:
        room = self.group(pick)
        answer = self.ask(user, "DELETE", f"{room.path}/participants/{self.id_of(other)}")
        if user == other and user in room.admins:
            assert answer.status == 204
        elif not self.is_admitted(room, user, answer, absent=other):
            return
        del room.admins[other]
        room.left.add(other)
        if not any(room.admins.values()):
            for heir in list(room.admins)[:1]:
                room.admins[heir] = True

    @precondition(lambda self: self.groups)
    @rule(user=friends, pick=picks)
    def leaves_a_group(self, user: int, pick: int) -> None:
        self.removes_a_participant(user, pick, user)

    @precondition(lambda self: self.groups)
    @rule(user=friends, pick=picks, other=friends, is_admin=st.booleans())
    def gives_a_role(self, user: int, pick: int, other: int, is_admin: bool) -> None:
        room = self.group(pick)
        body = {"role": "admin" if is_admin else "member"}
        answer = self.ask(user, "PATCH", f"{room.path}/participants/{self.id_of(other)}", body)
        is_last = not is_admin and [each for each in room.admins if room.admins[each]] == [other]
        if is_last and user in room.admins and room.may_change(user):
            assert (answer.status, answer.code) == (409, "last_administrator")
        elif self.is_admitted(room, user, answer, absent=other):
            room.admins[other] = is_admin

    def is_admitted(self, room: Room, user: int, answer: Answer, absent: int | None = None) -> bool:
        """Whether the user may change the group, and the participant in question is there; checks the answer."""
        if user not in room.admins:
            assert (answer.status, answer.code) == (404, "not_found")
        elif not room.may_change(user):
            assert (answer.status, answer.code) == (403, "not_an_administrator")
        elif absent is not None and absent not in room.admins:
            assert (answer.status, answer.code) == (404, "unknown_user")
        else:
            assert answer.status == 204
            return True
        return False

    def rooms_of(self, user: int) -> list[Room]:
        return [room for room in [*self.directs.values(), *self.groups] if user in room.admins]

    @rule(user=friends, pick=picks, content=st.binary(min_size=1, max_size=9))
    def writes(self, user: int, pick: int, content: bytes) -> None:
        if rooms := self.rooms_of(user):
            self.write(rooms[pick % len(rooms)], user, content)

    def write(self, room: Room, user: int, content: bytes) -> None:
        self.written += 1
        # say() makes temp_ids of the last 8 bytes, so those are the message's own.
        content += b"%08d" % self.written
        self.run(say, self.pool, room.id, self.users[user].user, content)
        room.messages.append((user, content))

    @rule(user=friends, pick=picks, seconds=st.sampled_from([0, 3600]))
    def mutes(self, user: int, pick: int, seconds: int) -> None:
        if rooms := [*self.directs.values(), *self.groups]:
            room = rooms[pick % len(rooms)]
            answer = self.ask(user, "PUT", f"{room.path}/mute", {"seconds": seconds})
            if user not in room.admins:
                assert (answer.status, answer.code) == (404, "not_found")
                return
            assert answer.status == 204
            (room.muted.add if seconds else room.muted.discard)(user)

    @rule(user=friends, name=st.sampled_from(["", "Ann", "Bo"]))
    def changes_the_display_name(self, user: int, name: str) -> None:
        answer = self.ask(user, "PATCH", "/v1/profile", {"display_name": name})
        self.names[user] = name or None
        assert (answer.status, answer.body["display_name"]) == (200, self.names[user])

    def upload(self, user: int) -> bytes:
        """An avatar that is complete, and not shown yet."""

        async def upload() -> bytes:
            return await new_attachment(self.pool, self.users[user].user, avatars="encrypted")

        return self.run(upload)

    @rule(user=friends, other=friends, is_new=st.booleans())
    def shows_an_avatar(self, user: int, other: int, is_new: bool) -> None:
        """A new one, uploaded by this user or by another; or the one that the other user shows already."""
        shown = self.avatars[other]
        avatar = self.upload(other) if is_new or shown is None else shown
        answer = self.ask(user, "PATCH", "/v1/profile", {"avatar": str(UUID(bytes=avatar))})
        if user != other:
            assert (answer.status, answer.code) == (404, "unknown_attachment")
            return
        self.avatars[user] = avatar
        assert (answer.status, avatar_of(answer.body)) == (200, avatar)

    @precondition(lambda self: self.groups)
    @rule(user=friends, pick=picks, is_new=st.booleans())
    def shows_an_avatar_of_a_group(self, user: int, pick: int, is_new: bool) -> None:
        """A new one, or the one that the user shows already."""
        room, shown = self.group(pick), self.avatars[user]
        avatar = self.upload(user) if is_new or shown is None else shown
        answer = self.ask(user, "PATCH", room.path, {"avatar": str(UUID(bytes=avatar))})
        if avatar == shown and user in room.admins and room.may_change(user):
            assert (answer.status, answer.code) == (409, "attachment_used")
        elif self.is_admitted(room, user, answer):
            room.avatar = avatar

    @rule(user=friends)
    def removes_the_avatar(self, user: int) -> None:
        answer = self.ask(user, "PATCH", "/v1/profile", {"avatar": str(UUID(bytes=NO_AVATAR))})
        self.avatars[user] = None
        assert (answer.status, answer.body["avatar"]) == (200, None)

    @precondition(lambda self: self.groups)
    @rule(user=friends, pick=picks)
    def removes_the_avatar_of_a_group(self, user: int, pick: int) -> None:
        room = self.group(pick)
        answer = self.ask(user, "PATCH", room.path, {"avatar": str(UUID(bytes=NO_AVATAR))})
        if self.is_admitted(room, user, answer):
            room.avatar = None

    @rule(user=friends, other=friends)
    def looks_at_a_profile(self, user: int, other: int) -> None:
        [(name,)] = self.run(
            self.pool.fetch, "select username from users where id = %s", (UUID(bytes=self.users[other].user),)
        )
        answer = self.ask(user, "GET", f"/v1/users/{name}")
        assert (answer.status, answer.body["display_name"], avatar_of(answer.body)) == (
            200,
            self.names[other],
            self.avatars[other],
        )

    @rule(user=friends, other=outsiders, is_blocked=st.booleans())
    def puts_a_contact(self, user: int, other: int, is_blocked: bool) -> None:
        answer = self.ask(user, "PUT", f"/v1/contacts/{self.id_of(other)}", {"is_blocked": is_blocked})
        assert answer.status == 204
        self.contacts[user][other] = is_blocked

    @rule(user=friends, other=outsiders)
    def removes_a_contact(self, user: int, other: int) -> None:
        assert self.ask(user, "DELETE", f"/v1/contacts/{self.id_of(other)}").status == 204
        if self.contacts[user].get(other) is False:
            del self.contacts[user][other]

    def entries(self, user: int, path: str) -> list[Any]:
        """The entries of all pages, by their links."""
        found: list[Any] = []
        address: str | None = path
        while address is not None:
            page = self.ask(user, "GET", address)
            assert page.status == 200
            found += entries_of(page)
            following = links_of(page).get("next")
            address = urljoin(address, following) if following else None
        return found

    @rule(user=friends, limit=st.sampled_from([1, 2, 50]))
    def lists_conversations(self, user: int, limit: int) -> None:
        listed = {each["conversation"]: each for each in self.entries(user, f"/v1/conversations?limit={limit}")}
        rooms = {room.id: room for room in self.rooms_of(user)}
        assert listed.keys() == rooms.keys()
        for id_, room in rooms.items():
            shown = listed[id_]
            seen = room.messages[room.first[user] - 1 :]
            assert shown["name"] == room.name
            assert (shown["muted_until"] is not None) == (user in room.muted)
            assert shown["last_seq"] == len(room.messages)
            assert (shown["last_message"] or {}).get("content") == (seen[-1][1] if seen else None)
            assert avatar_of(shown) == room.avatar
            assert {
                (each["user"], each["is_admin"], each["display_name"], avatar_of(each))
                for each in shown["participants"]
            } == {
                (self.users[each].user, is_admin, self.names[each], self.avatars[each])
                for each, is_admin in room.admins.items()
            }
            assert self.ask(user, "GET", room.path).body == shown

    @rule(user=friends, pick=picks, limit=st.sampled_from([1, 2, 50]), is_forward=st.booleans())
    def reads_history(self, user: int, pick: int, limit: int, is_forward: bool) -> None:
        if rooms := [*self.directs.values(), *self.groups]:
            self.read(user, rooms[pick % len(rooms)], limit, is_forward=is_forward)

    def read(self, user: int, room: Room, limit: int, *, is_forward: bool) -> None:
        path = f"{room.path}/messages?limit={limit}"
        if user not in room.admins:
            assert self.ask(user, "GET", path).code == "not_found"
            return
        found = self.entries(user, path + ("&after_seq=0" if is_forward else ""))
        ordered = found if is_forward else found[::-1]
        assert [(each["seq"], each["sender"], each["content"]) for each in ordered] == [
            (seq, self.users[sender].user, content)
            for seq, (sender, content) in enumerate(room.messages, 1)
            if seq >= room.first[user]
        ]

    @rule(user=friends, limit=st.sampled_from([1, 50]))
    def lists_contacts(self, user: int, limit: int) -> None:
        listed = self.entries(user, f"/v1/contacts?limit={limit}")
        assert {each["user"]: each["is_blocked"] for each in listed} == {
            self.users[other].user: is_blocked for other, is_blocked in self.contacts[user].items()
        }

    def teardown(self) -> None:
        """At the end each user reads everything, so that no wrong step goes unseen."""
        for user in range(FRIENDS):
            self.lists_conversations(user, 50)
            self.lists_contacts(user, 50)
            for room in [*self.directs.values(), *self.groups]:
                self.read(user, room, 50, is_forward=False)


async def test_users_see_what_the_requests_before_have_made(pool: Pool, redis_url: str, tmp_path: Path) -> None:
    # A failure is not made smaller, which takes minutes: the steps that led to it are shown.
    bounds = settings(
        max_examples=10,
        stateful_step_count=60,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    folder = Folder(tmp_path)
    await folder.start()
    async with open_api(pool, redis_url, objects=folder) as api:
        await trio.to_thread.run_sync(
            lambda: run_state_machine_as_test(lambda: AnyRequests(pool, api), settings=bounds)
        )
