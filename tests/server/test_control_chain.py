"""Control messages over the socket: conflicts over several nodes, and connections that are cut before the ack (P16)."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
import trio
from msgspec.structs import replace

from client.http import Credentials
from protocol import limits
from protocol.frames import Conversation, Error, Message, Send, Sent, Sync
from server.gateway import sends
from store import keys, messages
from store.messages import Committed, Outcome
from store.postgres.pool import Pool
from tests.people import new_group
from tests.server.node_world import RawClient, open_node, wait_caught_up
from tests.waiting import PATIENCE_S


def control(group: bytes, follows: int, temp_id: bytes | None = None) -> Send:
    return Send(7, group, "text", b"commit", None, None, temp_id or uuid4().bytes, is_quiet=True, follows=follows)


async def test_a_loser_is_told_the_winner_and_nothing_of_the_loser_is_shown(
    pool: Pool, redis_url: str, people: list[Credentials]
) -> None:
    """On another node than the winner. The devices of all are pushed the winner, with the one that it follows."""
    alice, bob, carol = people
    await keys.put(pool, carol.device, b"identity")
    group = await new_group(pool, *people)
    async with open_node(pool.url, redis_url) as here, open_node(pool.url, redis_url) as there:
        await wait_caught_up(here, there)
        async with here.open_synced(alice) as [one], there.open_synced(bob, carol) as (other, third):
            for last in range(3):
                assert isinstance((sent := (await one.ask(control(group, last)))[-1]), Sent)
                given = [(carol.device, b"lost")]
                loser = replace(control(group, last), content=b"lost", envelopes=given)
                refused = (await other.ask(loser))[-1]
                assert isinstance(refused, Error)
                assert (refused.code, refused.control_seq, refused.retry_after_ms) == (
                    "control_conflict",
                    sent.seq,
                    None,
                )
                message = await third.find(Message)
                assert (message.seq, message.follows, message.content) == (sent.seq, last, b"commit")
            await third.nothing_came()
            told = await third.ask(Sync(9, None))
            assert [each.control_seq for each in told if isinstance(each, Conversation)] == [3]
    assert await pool.fetch("select seq, content from messages order by seq") == [(n, b"commit") for n in (1, 2, 3)]
    assert await pool.fetch("select 1 from envelopes") == []


class CutBehindCommit:
    """Sends of a node whose client is cut off once they are committed, before the node hears of it."""

    def __init__(self) -> None:
        self.next: RawClient | None = None
        self.cut = trio.Event()

    async def send(self, *arguments: Any, **named: Any) -> list[Outcome]:
        outcomes = await messages.send(*arguments, **named)
        if self.next is not None:
            [outcome] = outcomes
            assert isinstance(outcome, Committed)
            assert outcome.is_new
            self.next.reset()
            self.next = None
            self.cut.set()
        return outcomes


@pytest.mark.parametrize("cuts", [40, pytest.param(1000, marks=pytest.mark.long)])
async def test_a_committer_whose_connection_is_cut_between_commit_and_ack_gets_its_own_seq_when_it_tries_again(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, monkeypatch: pytest.MonkeyPatch, cuts: int
) -> None:
    """It never loses against itself: on another node, and after others have gone on."""
    group, cutter = await new_group(pool, alice, bob), CutBehindCommit()
    monkeypatch.setattr(sends, "send", cutter.send)
    # She connects more than a hundred times a second, which the server would refuse.
    monkeypatch.setattr(limits, "MAX_COST_PER_S", 10**9)
    async with open_node(pool.url, redis_url) as here, open_node(pool.url, redis_url) as there:
        await wait_caught_up(here, there)
        async with there.open_websocket(alice.token) as again, there.open_websocket(bob.token) as other:
            last = 0
            for cut in range(cuts):
                frame = control(group, last)
                async with here.open_websocket(alice.token) as client:
                    cutter.next, cutter.cut = client, trio.Event()
                    await client.send(frame)
                    with trio.fail_after(PATIENCE_S):
                        await cutter.cut.wait()
                sent = (await again.ask(frame))[-1]
                assert isinstance(sent, Sent)
                assert sent.seq == last + 1
                last = sent.seq
                if cut % 4 == 0:
                    followed = (await other.ask(control(group, last)))[-1]
                    assert isinstance(followed, Sent)
                    assert (await again.ask(frame))[-1] == sent
                    last = followed.seq
    found = await pool.fetch("select follows, seq from messages order by seq")
    assert found == [(seq - 1, seq) for seq in range(1, last + 1)]
