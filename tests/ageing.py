"""Letting time pass for stored messages."""

from __future__ import annotations

from store.postgres.driver import uuid
from store.postgres.pool import Pool


async def age(pool: Pool, conversation: bytes, *, upto: int = 2**62) -> None:
    """Let 100 days pass for the first messages of a conversation that are still there."""
    await pool.fetch(
        "update messages m set created = m.created - interval '100 days' from conversations c"
        " where c.id = %(id)s and m.conversation_id = c.id and m.seq > c.floor_seq and m.seq <= %(upto)s",
        {"id": uuid(conversation), "upto": upto},
    )
    await pool.fetch(
        "update expiries set oldest = oldest - interval '100 days', due = due - interval '100 days'"
        " where conversation_id = %s",
        (uuid(conversation),),
    )
