"""Requests (`docs/blocking.md`): a stranger's conversations arrive apart, reveal nothing, and are bounded in number."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import cbor2
import pytest
import trio

from client.http import Credentials
from client.mailbox import Mailbox
from protocol.frames import (
    Conversation,
    Conversations,
    Departed,
    List,
    MarkDelivered,
    MarkRead,
    Message,
    Participants,
    Presence,
    Receipts,
    Send,
    Sent,
    SetTyping,
    Sync,
    Synced,
    Typing,
    Watch,
)
from server.delivery.broadcast import Broadcast
from store import contacts, conversations, outbox, participants
from store.errors import NotAccepted, TooManyPlaces, TooManyStarts
from store.postgres.driver import uuid
from store.postgres.pool import Pool
from store.redis.entries import AddressedPush
from tests.people import make_contacts, new_user
from tests.server.http_world import CBOR, Api, open_api, say
from tests.server.node_world import RawClient, TestNode, open_node
from tests.waiting import PATIENCE_S

KINDS: Final = ("direct", "group")


@dataclass
class StrangerAndAsked:
    """A stranger and the user that they ask; both are connected and synced, the asked user with two devices."""

    pool: Pool
    node: TestNode
    api: Api
    stranger: Credentials
    asked: Credentials
    asking: RawClient
    device: RawClient
    other_device: RawClient

    async def http(self, who: Credentials, method: str, path: str, **body: Any) -> Any:
        answer = await self.api.of(who.token).request(
            method, path, data=cbor2.dumps(body), headers={"Content-Type": CBOR}
        )
        assert answer.status < 300, answer.body
        return answer.body

    async def begin(self, kind: str) -> bytes:
        body: dict[str, Any] = {"kind": kind, "participants": [self.asked.user]}
        made = await self.http(
            self.stranger, "POST", "/v1/conversations", **body, **({"name": "G"} if kind == "group" else {})
        )
        return bytes(made["conversation"])

    async def lists(self) -> tuple[list[bytes], list[bytes]]:
        """The asked user's conversations and requests."""
        found = []
        for requests in (None, True):
            reply = (await self.device.ask(List(50, None, None, requests)))[-1]
            assert isinstance(reply, Conversations)
            listed = await self.api.of(self.asked.token).get(
                "/v1/conversations", requests="true" if requests else "false"
            )
            ids = [each.conversation for each in reply.conversations]
            assert [each["conversation"] for each in listed.body["conversations"]] == ids
            assert all(bool(each.is_request) == bool(requests) for each in reply.conversations)
            found.append(ids)
        return found[0], found[1]


@asynccontextmanager
async def open_stranger_and_asked(pool: Pool, redis_url: str) -> AsyncGenerator[StrangerAndAsked, None]:
    stranger, asked = await new_user(pool, "stranger"), await new_user(pool, "asked")
    async with (
        open_node(pool.url, redis_url) as node,
        open_api(pool, redis_url, "cbor") as api,
        node.open_websocket(stranger.token) as asking,
        node.open_websocket(asked.token) as device,
        node.open_websocket(asked.token) as other_device,
    ):
        # The first catch-up of the node covers the time before the test.
        await node.wait_event("caught_up")
        for client in (asking, device, other_device):
            await client.ask(Sync(1, None))
        yield StrangerAndAsked(pool, node, api, stranger, asked, asking, device, other_device)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_conversation_that_a_stranger_begins_is_a_request_and_gives_nothing_away(
    pool: Pool, redis_url: str, kind: str
) -> None:
    """Listed apart and pushed as a request; no marks, typing or presence come back before it is accepted."""
    async with open_stranger_and_asked(pool, redis_url) as s:
        talk = await s.begin(kind)
        told = await s.device.find(Conversation)
        assert (told.is_request, told.asked_by) == (True, s.stranger.user)
        own = await s.asking.find(Conversation)
        assert (own.is_request, own.asked_by) == (None, None)
        assert await s.lists() == ([], [talk])
        await s.asking.ask(Send(2, talk, "text", b"buy", None, None, b"a" * 16))
        assert (await s.device.find(Message)).content == b"buy"

        await s.device.ask(MarkDelivered(3, [(talk, 1)]))
        [own_marks, _] = await s.device.ask(MarkRead(4, [(talk, 1)]))
        assert own_marks == Receipts(talk, s.asked.device, [(s.asked.user, 1, 1)])
        assert await s.other_device.find(Receipts) == own_marks
        seen = await conversations.one(pool, s.asked.user, talk)
        assert (seen.unread_count, seen.is_request) == (0, True)
        for typist, reader in ((s.device, s.asking), (s.asking, s.device)):
            await typist.ask(SetTyping(5, talk, True))
            await reader.nothing_came()
        assert len(await s.asking.ask(Watch(6, [s.asked.user]))) == 1, "the watch gets no presence"
        shown = await conversations.one(pool, s.stranger.user, talk)
        assert {
            (each.delivered_seq, each.read_seq) for each in shown.participants or () if each.user == s.asked.user
        } == {(0, 0)}
        body = await s.http(s.stranger, "GET", f"/v1/conversations/{UUID(bytes=talk)}/messages/1/status")
        assert (body["status"], body["recipient_count"]) == ("sent", 1)

        await s.http(s.asked, "POST", f"/v1/conversations/{UUID(bytes=talk)}/accept")
        for device in (s.device, s.other_device):
            assert (await device.find(Conversation)).is_request is None
        [theirs] = (await s.asking.find(Participants)).participants
        assert (theirs.user, theirs.delivered_seq, theirs.read_seq) == (s.asked.user, 1, 0), (
            "the message counts as delivered"
        )
        assert await s.lists() == ([talk], [])
        await s.device.ask(SetTyping(7, talk, False))
        assert (await s.asking.find(Typing)).user == s.asked.user
        [presence, _] = await s.asking.ask(Watch(8, [s.asked.user]))
        assert presence == Presence(s.asked.user, True)


Accept = Callable[[StrangerAndAsked, bytes], Awaitable[Any]]
ACCEPTING: Final[dict[str, Accept]] = {
    "accept": lambda s, talk: s.http(s.asked, "POST", f"/v1/conversations/{UUID(bytes=talk)}/accept"),
    "a contact": lambda s, talk: s.http(s.asked, "PUT", f"/v1/contacts/{UUID(bytes=s.stranger.user)}"),
    "an answer": lambda s, talk: s.device.ask(Send(9, talk, "text", b"yes", None, None, b"y" * 16)),
    "an answer among others": lambda s, talk: _answer_at_once(s, talk),
}


async def _answer_at_once(s: StrangerAndAsked, talk: bytes) -> None:
    """Two sends in one message of the client are committed in one batch."""
    await s.device.send(*[Send(n, talk, "text", b"yes", None, None, bytes([n]) * 16) for n in (20, 21)])
    for _ in range(2):
        await s.device.find(Sent)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", ACCEPTING)
async def test_a_request_is_accepted_in_each_way_and_all_devices_know(
    pool: Pool, redis_url: str, kind: str, way: str
) -> None:
    """Live pushes, a resume and a fresh fetch show the same."""
    async with open_stranger_and_asked(pool, redis_url) as s:
        talk = await s.begin(kind)
        live = Mailbox(s.asked.user)
        live.learn(await s.other_device.find(Conversation))
        before = (await s.device.ask(Sync(3, None)))[-1]
        assert isinstance(before, Synced)
        await s.asking.ask(Send(2, talk, "text", b"hi", None, None, b"a" * 16))
        await ACCEPTING[way](s, talk)
        with trio.fail_after(PATIENCE_S):
            while (await s.lists()) != ([talk], []):
                pass
            while live.head(talk) is None or live.head(talk).is_request:  # type: ignore[union-attr]
                for frame in await s.other_device.read(1):
                    if isinstance(frame, Conversation):
                        live.learn(frame)
                    elif isinstance(frame, Message):
                        live.apply([frame])
        for cursor in (before.cursor, None):
            resumed = Mailbox(s.asked.user)
            async with s.node.open_websocket(s.asked.token) as again:
                for frame in await again.ask(Sync(4, cursor)):
                    if isinstance(frame, Conversation):
                        resumed.learn(frame)
            head = resumed.head(talk)
            assert head is not None
            assert (head.is_request, head.asked_by) == (None, None)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", ["decline", "block"])
async def test_a_declined_request_is_gone_and_the_stranger_cannot_tell(
    pool: Pool, redis_url: str, kind: str, way: str
) -> None:
    """Its messages no longer arrive, and the stranger sees the same as before."""
    async with open_stranger_and_asked(pool, redis_url) as s:
        talk = await s.begin(kind)
        await s.asking.find(Conversation)
        synced = (await s.asking.ask(Sync(2, None)))[-1]
        assert isinstance(synced, Synced)
        before = await conversations.one(pool, s.stranger.user, talk)
        if way == "decline":
            await s.http(s.asked, "POST", f"/v1/conversations/{UUID(bytes=talk)}/decline")
        else:
            await s.http(s.asked, "PUT", f"/v1/contacts/{UUID(bytes=s.stranger.user)}", is_blocked=True)
        for device in (s.device, s.other_device):
            gone = await device.find(Departed)
            assert (gone.conversation, gone.users) == (talk, [s.asked.user])
        assert await s.lists() == ([], [])
        await s.asking.nothing_came()
        assert await conversations.one(pool, s.stranger.user, talk) == before
        assert (await s.asking.ask(Sync(3, synced.cursor)))[:-1] == []
        await s.asking.ask(Send(4, talk, "text", b"hello?", None, None, b"b" * 16))
        await s.asking.ask(SetTyping(5, talk, True))
        for device in (s.device, s.other_device):
            await device.nothing_came()
        again = await s.api.of(s.asked.token).get(f"/v1/conversations/{UUID(bytes=talk)}")
        assert again.status == 404
        fresh = await s.device.ask(Sync(6, None))
        assert [each for each in fresh if isinstance(each, Conversation)] == []

        if kind == "direct" and way == "decline":
            opened = await s.http(s.asked, "POST", "/v1/conversations", kind="direct", participants=[s.stranger.user])
            assert (opened["conversation"], opened["is_request"], opened["unread_count"]) == (talk, False, 0)
            assert (await s.device.find(Conversation)).first_seq == 2, (
                "a message sent after the decline does not arrive"
            )
            await s.asking.ask(Send(7, talk, "text", b"at last", None, None, b"c" * 16))
            assert (await s.device.find(Message)).content == b"at last"


async def test_declining_what_is_accepted_or_foreign_is_refused(pool: Pool, redis_url: str) -> None:
    async with open_stranger_and_asked(pool, redis_url) as s:
        talk = await s.begin("direct")
        path = f"/v1/conversations/{UUID(bytes=talk)}"
        third = await new_user(pool, "third")
        for verb in ("accept", "decline"):
            assert (await s.api.of(third.token).post(f"{path}/{verb}", {})).status == 404
        for _ in range(2):
            assert (await s.api.of(s.asked.token).post(f"{path}/accept", {})).status == 204
        answer = await s.api.of(s.asked.token).post(f"{path}/decline", {})
        assert (answer.status, answer.code) == (409, "not_a_request")
        assert (await s.api.of(s.stranger.token).post(f"{path}/decline", {})).status == 409


async def test_a_request_is_worth_one_notice_and_no_digest(pool: Pool) -> None:
    """The notice is for the first message, however many follow; also in a group that existed before."""
    stranger, asked = await new_user(pool, "stranger"), await new_user(pool, "asked")
    friend = await new_user(pool, "friend")
    await make_contacts(pool, stranger, friend)
    group = await conversations.add_group(pool, "G", [stranger.user, friend.user], admin=stranger.user)
    await say(pool, group, stranger.user, b"before")
    await participants.add(pool, stranger.user, group, asked.user)
    direct, _ = await conversations.add_direct(pool, stranger.user, asked.user)
    while (await outbox.decide(pool, window_s=0))[0]:
        pass
    for talk in (direct, group):
        for round_ in range(3):
            await say(pool, talk, stranger.user, b"%d a" % round_, b"%d b" % round_)
            await pool.fetch("delete from jobs")
            while (await outbox.decide(pool, window_s=0))[0]:
                pass
            told = {row[0] for row in await pool.fetch("select key from jobs where task = 'offline_notice'")}
            assert (str(UUID(bytes=asked.user)) in told) == (round_ == 0)
    [(unread, _)] = await pool.fetch("select unread, conversations from unread_of(%s)", (uuid(asked.user),))
    assert unread == 0
    await participants.accept(pool, asked.user, direct)
    [(unread, _)] = await pool.fetch("select unread, conversations from unread_of(%s)", (uuid(asked.user),))
    assert unread == 6


SETTINGS: Final = [
    (setting, relation, setting == "everybody" or (setting, relation) == ("contacts", "contact"))
    for setting in ("everybody", "contacts", "nobody")
    for relation in ("stranger", "contact", "blocked")
]


@pytest.mark.parametrize(("setting", "relation", "is_taken"), SETTINGS)
async def test_the_users_settings_decide_which_users_may_begin_conversations(
    pool: Pool, redis_url: str, setting: str, relation: str, is_taken: bool
) -> None:
    """A block must not show: a blocked user gets the same answer as a stranger."""
    asked, other = await new_user(pool, "asked"), await new_user(pool, "other")
    group = await conversations.add_group(pool, "G", [other.user], admin=other.user)
    if relation == "contact":
        await contacts.add(pool, asked.user, other.user)
    elif relation == "blocked":
        await contacts.set_blocked(pool, asked.user, other.user, is_blocked=True)
    async with open_api(pool, redis_url, "cbor") as api:
        mine, theirs = api.of(asked.token), api.of(other.token)
        body = cbor2.dumps({"messages_from": setting, "groups_from": setting})
        answer = await mine.request("PATCH", "/v1/profile", data=body, headers={"Content-Type": CBOR})
        assert answer.status == 200
        shown = (await mine.get("/v1/profile")).body
        assert (shown["messages_from"], shown["groups_from"]) == (setting, setting)
        for path, what in (
            ("/v1/conversations", {"kind": "direct", "participants": [asked.user]}),
            ("/v1/conversations", {"kind": "group", "name": "G", "participants": [asked.user]}),
            (f"/v1/conversations/{UUID(bytes=group)}/participants", {"user": asked.user}),
        ):
            answer = await theirs.post(path, what)
            if is_taken:
                assert answer.status in (201, 204)
            else:
                assert (answer.status, answer.code) == (403, "not_accepted")
                assert answer.body["users"] == [asked.user]
        wrong = await mine.request(
            "PATCH", "/v1/profile", data=cbor2.dumps({"messages_from": "friends"}), headers={"Content-Type": CBOR}
        )
        assert (wrong.status, wrong.code) == (400, "invalid_body")
    listed = await conversations.list_of(pool, asked.user, limit=9)
    asking = await conversations.list_of(pool, asked.user, limit=9, is_request=True)
    assert (len(listed), len(asking)) == {
        "contact": (3 * is_taken, 0),
        "stranger": (0, 3 * is_taken),
        "blocked": (0, 0),
    }[relation]


async def test_how_many_strangers_a_user_may_address_is_bounded_exactly(pool: Pool, redis_url: str) -> None:
    """Also for concurrent attempts, and in every way; contacts do not count; the error says when to try again."""
    spammer = await new_user(pool, "spammer")
    victims = [await new_user(pool, f"victim{n}") for n in range(12)]
    friend = await new_user(pool, "friend")
    await make_contacts(pool, spammer, friend)
    group = await conversations.add_group(pool, "Friends", [spammer.user, friend.user], admin=spammer.user)
    outcomes: list[str] = []

    async def attempt(begin: Callable[[], Awaitable[Any]]) -> None:
        try:
            await begin()
            outcomes.append("begun")
        except TooManyStarts as error:
            outcomes.append("refused" if 86_000 < error.wait_s <= 86_400 else "refused for another time")

    limit = {"starts_per_day": 5}
    async with trio.open_nursery() as nursery:
        for n, victim in enumerate(victims):
            users = sorted([spammer.user, victim.user])
            ways: list[Callable[[], Awaitable[Any]]] = [
                lambda victim=victim: conversations.add_direct(pool, spammer.user, victim.user, **limit),  # type: ignore[misc]
                lambda users=users: conversations.add_group(pool, "S", users, admin=spammer.user, **limit),  # type: ignore[misc]
                lambda victim=victim: participants.add(pool, spammer.user, group, victim.user, **limit),  # type: ignore[misc]
            ]
            nursery.start_soon(attempt, ways[n % 3])
    assert sorted(outcomes) == ["begun"] * 5 + ["refused"] * 7
    [(count,)] = await pool.fetch(
        "select (select count(*) from conversations) + (select count(*) from participants p"
        " where p.conversation_id = %s) - 3",
        (uuid(group),),
    )
    assert count == 5, "refused requests leave no rows"
    await conversations.add_direct(pool, spammer.user, friend.user, **limit)
    await contacts.add(pool, victims[0].user, spammer.user)
    await conversations.add_direct(pool, spammer.user, victims[0].user, **limit)
    async with open_api(pool, redis_url) as api:
        await pool.fetch("update starts set at = array(select clock_timestamp() from generate_series(1, 50))")
        body = {"kind": "direct", "participants": [(await new_user(pool, "more")).user]}
        answer = await api.of(spammer.token).post("/v1/conversations", body)
        assert (answer.status, answer.code) == (429, "too_many_conversations")
        assert 86_000 < int(answer.headers["Retry-After"]) <= 86_400
        await pool.fetch("update starts set at = array(select t - interval '25 hours' from unnest(at) t)")
        assert (await api.of(spammer.token).post("/v1/conversations", body)).status == 201


async def test_the_places_in_groups_that_a_user_fills_in_24_hours_are_limited(pool: Pool, redis_url: str) -> None:
    """Among contacts, too: each place is a row and a push. Refused requests fill none and leave no group."""
    admin, *friends = [await new_user(pool, f"user{n}") for n in range(5)]
    for friend in friends:
        await contacts.add(pool, friend.user, admin.user)
    users = sorted(each.user for each in (admin, *friends))

    async def make(places: int, *, starts: int = 50) -> bytes:
        return await conversations.add_group(
            pool, "G", users, admin=admin.user, places_per_day=places, starts_per_day=starts
        )

    group = await make(12)
    await make(12)
    with pytest.raises(TooManyPlaces) as refused:
        await make(12)
    assert 3 / 12 * 86_400 - 60 < refused.value.wait_s <= 3 / 12 * 86_400, "15 places, of which 12 are free in a day"
    more = [await new_user(pool, f"more{n}") for n in range(3)]
    for each in more[:2]:
        await contacts.add(pool, each.user, admin.user)
        await participants.add(pool, admin.user, group, each.user, places_per_day=12)
    with pytest.raises(TooManyPlaces):
        await participants.add(pool, admin.user, group, more[2].user, places_per_day=12)
    assert await pool.fetch("select count(*) from conversations") == [(2,)]
    await pool.fetch("update starts set places_free_at = places_free_at - interval '24 hours'")
    stranger = await new_user(pool, "stranger")
    users = sorted([admin.user, stranger.user])
    with pytest.raises(TooManyStarts):
        await make(12, starts=0)
    # A group that is refused for another reason fills no places.
    assert await pool.fetch("select places_free_at < clock_timestamp() + interval '1 s' from starts") == [(True,)]
    async with open_api(pool, redis_url) as api:
        await pool.fetch("update starts set places_free_at = clock_timestamp() + interval '24 hours'")
        body = {"kind": "group", "name": "G", "participants": [each.user for each in friends]}
        answer = await api.of(admin.token).post("/v1/conversations", body)
        assert (answer.status, answer.code) == (429, "too_many_conversations")
        assert int(answer.headers["Retry-After"]) >= 1


async def test_pushes_of_a_request_over_http_are_in_the_name_of_its_user(
    pool: Pool, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The nodes serve them in turn with those of other users. Each participant of a large group is told of it in a
    frame that does not grow with the group."""
    pushes: list[AddressedPush] = []
    monkeypatch.setattr(Broadcast, "push", lambda _, push: pushes.append(push))
    admin, *friends = [await new_user(pool, f"user{n}") for n in range(120)]
    sizes = []
    async with open_api(pool, redis_url) as api:
        for count in (40, 119):
            pushes.clear()
            body = {"kind": "group", "name": "G", "participants": [each.user for each in friends[:count]]}
            assert (await api.of(admin.token).post("/v1/conversations", body)).status == 201
            assert [push.cause for push in pushes] == [admin.user] * (count + 1)
            assert {user for push in pushes for user in push.users} == {admin.user, *(f.user for f in friends[:count])}
            sizes.append(max(len(push.frame) for push in pushes))
    assert sizes[1] <= sizes[0] + 4


async def test_no_24_hours_have_more_starts_than_the_limit(pool: Pool) -> None:
    """Every window of 24 hours counts: one start, two more 23 hours later, and only one more at 25 hours."""
    spammer = await new_user(pool, "spammer")
    victims = [(await new_user(pool, f"victim{n}")).user for n in range(7)]

    async def begin(some: list[bytes]) -> int:
        begun = 0
        for victim in some:
            try:
                await conversations.add_direct(pool, spammer.user, victim, starts_per_day=3)
                begun += 1
            except TooManyStarts as error:
                waits_s.append(error.wait_s)
        return begun

    async def later(hours: int) -> None:
        moved = "update starts set at = array(select t - make_interval(hours => %s) from unnest(at) t)"
        await pool.fetch(moved, (hours,))

    waits_s: list[float] = []
    assert await begin(victims[:1]) == 1
    await later(23)
    assert await begin(victims[1:4]) == 2
    assert [round(each / 3600) for each in waits_s] == [1]
    await later(2)
    assert await begin(victims[3:]) == 1
    assert [round(each / 3600) for each in waits_s] == [1, 22, 22, 22]
    await later(22)
    assert await begin(victims[4:]) == 2


async def test_only_a_contact_can_add_a_user_again_that_has_left(pool: Pool) -> None:
    """A user that an administrator removed has not chosen to leave, and can be added again."""
    admin, leaver = await new_user(pool, "admin"), await new_user(pool, "leaver")
    group = await conversations.add_group(pool, "G", sorted([admin.user, leaver.user]), admin=admin.user)
    await participants.remove(pool, admin.user, group, leaver.user)
    added = await participants.add(pool, admin.user, group, leaver.user)
    assert leaver.user in added.participants
    await participants.remove(pool, leaver.user, group, leaver.user)
    added = await participants.add(pool, admin.user, group, leaver.user)
    assert (added.is_new, leaver.user in added.participants) == (True, False)
    assert len((await conversations.one(pool, admin.user, group)).participants or ()) == 2
    assert not (await participants.add(pool, admin.user, group, leaver.user)).is_new
    await contacts.add(pool, leaver.user, admin.user)
    added = await participants.add(pool, admin.user, group, leaver.user)
    assert leaver.user in added.participants
    assert (await conversations.one(pool, leaver.user, group)).is_request is None


async def test_a_group_with_a_user_that_refuses_is_not_created_and_the_error_names_that_user(pool: Pool) -> None:
    """A group is created with all users or not at all, and the error names the users that refuse it."""
    admin, willing, unwilling = [await new_user(pool, name) for name in ("admin", "willing", "unwilling")]
    await pool.fetch("update users set groups_from = 'nobody' where id = %s", (uuid(unwilling.user),))
    users = sorted(each.user for each in (admin, willing, unwilling))
    with pytest.raises(NotAccepted) as refused:
        await conversations.add_group(pool, "G", users, admin=admin.user)
    assert refused.value.users == [unwilling.user]
    assert await pool.fetch("select 1 from conversations") == []
    own = await conversations.add_group(pool, "G", [unwilling.user], admin=unwilling.user)
    assert (await conversations.one(pool, unwilling.user, own)).is_request is None, (
        "a user's own groups need no consent"
    )
