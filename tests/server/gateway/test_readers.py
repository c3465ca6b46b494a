"""The notices of users that read or write here are checked soon, as they may be pointless now."""

from __future__ import annotations

import secrets
from typing import Any

import pytest
import trio

from client.http import Credentials
from protocol.frames import Done, MarkDelivered, MarkRead, Send
from server.gateway import readers
from store.postgres.driver import uuid
from store.postgres.pool import Pool
from tests.people import new_direct, new_user
from tests.server.http_world import say
from tests.server.node_world import open_node
from tests.waiting import wait_until


async def show_notices(pool: Pool, *users: Credentials) -> None:
    for user in users:
        await pool.fetch(
            "insert into notices (user_id, name, told, times, unread, delivered, read, look)"
            " values (%s, '1-1', now(), 1, 1, 0, 0, now() + interval '1 hour')",
            (uuid(user.user),),
        )


async def hurried(pool: Pool) -> set[bytes]:
    rows = await pool.fetch("select user_id from notices where look < now() + interval '1 minute'")
    return {user for (user,) in rows}


@pytest.mark.parametrize("does", ["reads", "writes"])
async def test_only_notices_of_users_that_read_or_write_are_checked_soon(
    pool: Pool, redis_url: str, monkeypatch: pytest.MonkeyPatch, does: str
) -> None:
    """Notices of a user that is only connected, and receives, are not checked either."""
    monkeypatch.setattr(readers, "PATIENCE_S", 0.05)
    alice, bob, carol = [await new_user(pool, name) for name in ("alice", "bob", "carol")]
    direct, other = await new_direct(pool, alice, bob), await new_direct(pool, alice, carol)
    for conversation in (direct, other):
        await say(pool, conversation, alice.user, b"1")
    await show_notices(pool, alice, bob, carol)
    async with (
        open_node(pool.url, redis_url) as node,
        node.open_websocket(bob.token) as reader,
        node.open_websocket(carol.token) as receiver,
    ):
        assert Done(1) in await receiver.ask(MarkDelivered(1, [(other, 1)]))
        if does == "reads":
            assert Done(1) in await reader.ask(MarkRead(1, [(direct, 1)]))
        else:
            await reader.ask(Send(1, direct, "text", b"2", None, None, secrets.token_bytes(16)))
        await wait_until(lambda: hurried(pool), "Postgres is told")
    assert await hurried(pool) == {bob.user}


async def test_node_that_cannot_reach_postgres_goes_on_and_says_so(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, log_output: list[dict[str, Any]]
) -> None:
    """A worker finds the users that the node could not report."""
    monkeypatch.setattr(readers, "PATIENCE_S", 0.05)
    here = readers.Readers(Pool("postgresql://nobody@127.0.0.1:1/none", 1))
    nursery.start_soon(here.run)
    for times in (1, 2):
        here.note(b"u" * 16)
        await wait_until(
            lambda times=times: [each["event"] for each in log_output].count("notices_stay_for_now") == times,  # type: ignore[misc]
            "it is logged",
        )
