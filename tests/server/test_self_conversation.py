"""The conversation of a user's own devices: one for each user, which no other user reaches, and which goes with the
account."""

from __future__ import annotations

from uuid import UUID

import pytest
import trio

from client.http import Credentials
from jobs.tasks.account_deletions import AccountDeletions
from protocol.frames import Conversation, Message, Send, Sent, Sync
from store import account_deletions, conversations, messages, outbox, retention
from store.errors import DeviceRevoked, NotAParticipant
from store.messages import Committed, send
from store.participant_lists import ParticipantsCache
from store.postgres.driver import uuid
from store.postgres.pool import Pool
from tests.jobs.jobs_world import a_job
from tests.people import new_device
from tests.server.http_world import open_api
from tests.server.node_world import open_node
from tests.store.store_world import a_message, running


async def test_each_user_has_one_also_if_several_devices_ask_at_once(pool: Pool, people: list[Credentials]) -> None:
    alice, bob, _ = people
    found: list[tuple[bytes, bool]] = []

    async def ask(user: bytes) -> None:
        found.append(await conversations.add_self(pool, user))

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(ask, alice.user)
            nursery.start_soon(ask, bob.user)
    assert len({conversation for conversation, _ in found}) == 2
    assert sum(is_new for _, is_new in found) == 2
    conversation, is_new = await conversations.add_self(pool, alice.user)
    shown = await conversations.one(pool, alice.user, conversation)
    assert (is_new, shown.kind, [each.user for each in shown.participants or ()]) == (False, "self", [alice.user])


async def test_its_messages_come_to_the_users_other_devices_and_never_count_as_unread(
    pool: Pool, redis_url: str, people: list[Credentials]
) -> None:
    alice, _, _ = people
    tablet = await new_device(pool, alice.user)
    async with (
        open_node(pool.url, redis_url) as node,
        open_api(pool, redis_url, "cbor") as api,
        node.open_websocket(alice.token) as phone,
        node.open_websocket(tablet.token) as other,
    ):
        await node.gateway.node.catch_up.settled.wait()
        for client in (phone, other):
            await client.ask(Sync(1, None))
        made = await api.of(alice.token).post("/v1/conversations", {"kind": "self"})
        assert (made.status, made.body["kind"], made.body["participant_count"]) == (201, "self", 1)
        told = await other.find(Conversation)
        assert (told.conversation, told.kind) == (made.body["conversation"], "self")
        again = await api.of(tablet.token).post("/v1/conversations", {"kind": "self"})
        assert (again.status, again.body["conversation"]) == (200, told.conversation)
        for n, is_quiet in enumerate((True, None)):
            frame = Send(2, told.conversation, "key", b"k", None, None, bytes([n]) * 16, is_quiet=is_quiet)
            sent = (await phone.ask(frame))[-1]
            assert isinstance(sent, Sent)
            assert (await other.find(Message)).device == alice.device
        shown = await conversations.one(pool, alice.user, told.conversation)
        assert (shown.last_seq, shown.unread_count) == (2, 0)
        status = await api.of(alice.token).get(f"/v1/conversations/{UUID(bytes=told.conversation)}/messages/2/status")
        assert (status.body["status"], status.body["recipient_count"]) == ("sent", 0)
    assert await outbox.decide(pool, window_s=0) == (2, 0), "no notice follows from it"


@pytest.mark.parametrize("encoding", ["json", "cbor"])
async def test_no_other_user_reaches_it_and_its_user_can_change_nothing_of_who_takes_part(
    pool: Pool, redis_url: str, people: list[Credentials], encoding: str
) -> None:
    alice, bob, _ = people
    own, _ = await conversations.add_self(pool, alice.user)
    path, them = f"/v1/conversations/{UUID(bytes=own)}", str(UUID(bytes=bob.user))
    me = str(UUID(bytes=alice.user))
    async with open_api(pool, redis_url, encoding) as api:  # type: ignore[arg-type]
        for who, refusal in ((alice, (409, "not_a_group")), (bob, (404, "not_found"))):
            caller = api.of(who.token)
            for answer in (
                await caller.post(f"{path}/participants", {"user": bob.user if encoding == "cbor" else them}),
                await caller.request("DELETE", f"{path}/participants/{me}"),
                await caller.request("DELETE", f"{path}/participants/{them}"),
            ):
                assert (answer.status, answer.code) == refusal
        for read in (path, f"{path}/messages", f"{path}/participants"):
            assert (await api.of(alice.token).get(read)).status == 200
            assert (await api.of(bob.token).get(read)).code == "not_found"
    [refused] = await send(pool, ParticipantsCache(), [a_message(own, bob.user)])
    assert isinstance(refused, NotAParticipant)
    assert [each.user for each in (await conversations.one(pool, alice.user, own)).participants or ()] == [alice.user]


@pytest.mark.parametrize("deletes_messages", [False, True])
async def test_it_goes_with_the_account(
    pool: Pool, redis_url: str, people: list[Credentials], deletes_messages: bool
) -> None:
    alice, _, _ = people
    own, _ = await conversations.add_self(pool, alice.user)
    [sent] = await send(pool, ParticipantsCache(), [a_message(own, alice.user)])
    assert isinstance(sent, Committed)
    await account_deletions.close(pool, alice.user, delay_s=0, deletes_messages=deletes_messages)
    async with running(redis_url) as redis:
        with trio.fail_after(60):
            await AccountDeletions(pool, redis, None).delete_accounts(a_job("delete_accounts"))
    assert await pool.fetch("select 1 from users where id = %s and deleted is null", (uuid(alice.user),)) == []
    with pytest.raises(NotAParticipant):
        await messages.history(pool, alice.user, own, limit=9)
    for each in await retention.uncleared(pool, limit=9):
        await retention.clear(pool, each.conversation, limit=9)
    assert await pool.fetch("select 1 from messages where conversation_id = %s", (uuid(own),)) == []


async def test_a_request_that_began_before_the_deletion_of_the_account_makes_no_conversation_after_it(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials
) -> None:
    await account_deletions.close(pool, alice.user, delay_s=0, deletes_messages=False)
    async with running(redis_url) as redis:
        with trio.fail_after(60):
            await AccountDeletions(pool, redis, None).delete_accounts(a_job("delete_accounts"))
    with pytest.raises(DeviceRevoked):
        await conversations.add_self(pool, alice.user)
    with pytest.raises(DeviceRevoked):
        await conversations.add_direct(pool, alice.user, bob.user)
    assert await pool.fetch("select 1 from conversations") == []
