"""Postgres' processor time for a send, in its parts: one session, with the kinds in turn.

`empty_query` is a round trip that does nothing, `sends` a batch as the gateway commits it, without a wait for the disk,
and `sends_flushed` the same with it. `bare_writes` adds and moves the same rows in one statement that locks, checks and
returns nothing: what no design with these tables can avoid.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from statistics import median
from typing import Any, Final
from uuid import UUID, uuid4

import trio

from bench.contest import rotated
from bench.cpu import clock_of
from bench.ours import NO_WAIT, Ours
from bench.workload import Chat
from store.messages import Committed, NewMessage, send
from store.participant_lists import ParticipantsCache
from store.postgres.columns import BIGINTS, BYTEAS, UUIDS
from store.postgres.pool import Pool
from store.postgres.statement import Statement

CONTENT: Final = bytes(200)

WARM: Final = 20
"""Rounds before those that count: plans are made and caches filled."""

KINDS: Final = ("empty_query", "sends", "sends_flushed", "bare_writes", "bare_writes_flushed")

_EMPTY: Final = Statement("select 1", {}, label="empty")
_BARE: Final = Statement(
    """
    with input as (
        select * from unnest(%(conversation)s, %(seq)s, %(id)s, %(sender)s, %(temp_id)s, %(digest)s, %(content)s)
            as i(conversation_id, seq, id, sender_id, temp_id, digest, content)
    ), to_messages as (
        insert into messages (conversation_id, seq, id, sender_id, created, content_type, content, temp_id)
        select i.conversation_id, i.seq, i.id, i.sender_id, now(), 'text', i.content, i.temp_id from input i
    ), to_sends as (
        insert into sends (sender_id, temp_id, conversation_id, digest, seq, message_id, created)
        select i.sender_id, i.temp_id, i.conversation_id, i.digest, i.seq, i.id, now() from input i
    ), to_outbox as (
        insert into outbox (conversation_id, seq) select i.conversation_id, i.seq from input i
    ), moved as (
        update conversations c set last_seq = i.seq, active_at = now(), changed = pg_current_xact_id()
        from input i where c.id = i.conversation_id
    )
    update participants p set read_seq = i.seq, delivered_seq = i.seq, written_seq = i.seq
    from input i where p.conversation_id = i.conversation_id and p.user_id = i.sender_id
    """,
    {
        "conversation": UUIDS,
        "seq": BIGINTS,
        "id": UUIDS,
        "sender": UUIDS,
        "temp_id": UUIDS,
        "digest": BYTEAS,
        "content": BYTEAS,
    },
    label="bare_writes",
)


def postgres_us(server: Ours, batch: int, rounds: int) -> dict[str, Any]:
    """The median of each kind for a send, as `postgres_us`."""
    chats = server.prepare([2] * batch)
    took = trio.run(_measure, server, chats, rounds)
    return {"postgres_us": {kind: round(median(each) / batch, 2) for kind, each in took.items()}}


async def _measure(server: Ours, chats: Sequence[Chat], rounds: int) -> dict[str, list[float]]:
    """The microseconds of each batch, by kind."""
    took: dict[str, list[float]] = {kind: [] for kind in KINDS}
    with closing(Pool(server.database_url + NO_WAIT, 1)) as pool:
        senders = [(UUID(each.conversation).bytes, UUID(each.participants[0].user).bytes) for each in chats]
        session = _Session(pool, senders)
        server.shared.even_out(server.database_url)
        [(backend,)] = await pool.fetch("select pg_backend_pid()")
        for round_ in range(-WARM, rounds):
            for kind in rotated(KINDS, round_):
                await pool.fetch(f"set synchronous_commit = {'on' if kind.endswith('_flushed') else 'off'}")
                before = clock_of(backend)
                await session.run(kind)
                if round_ >= 0:
                    took[kind].append((clock_of(backend) - before) * 1e6)
    return took


class _Session:
    """One conversation and its sender for each send of a batch."""

    def __init__(self, pool: Pool, chats: Sequence[tuple[bytes, bytes]]) -> None:
        self._pool = pool
        self._chats = chats
        self._cache = ParticipantsCache()
        self._seq = 0

    async def run(self, kind: str) -> None:
        """Commit a batch of this kind."""
        if kind == "empty_query":
            await self._pool.run(_EMPTY, {})
            return
        self._seq += 1
        messages = [
            NewMessage(chat, sender, uuid4().bytes, "text", CONTENT, None, None) for chat, sender in self._chats
        ]
        if kind.startswith("bare_writes"):
            await self._pool.run(_BARE, self._rows(messages))
            return
        for outcome in await send(self._pool, self._cache, messages):
            assert isinstance(outcome, Committed), outcome

    def _rows(self, messages: Sequence[NewMessage]) -> dict[str, list[Any]]:
        return {
            "conversation": [each.conversation for each in messages],
            "seq": [self._seq] * len(messages),
            "id": [uuid4().bytes for _ in messages],
            "sender": [each.sender for each in messages],
            "temp_id": [each.temp_id for each in messages],
            "digest": [each.digest() for each in messages],
            "content": [each.content for each in messages],
        }
