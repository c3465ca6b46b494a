"""Rows of attachments, as uploads leave them, without an object store."""

from __future__ import annotations

from uuid import uuid4

from store.postgres.driver import uuid
from store.postgres.pool import Pool


async def new_upload(
    pool: Pool,
    user: bytes,
    *,
    key: str = "",
    is_complete: bool = True,
    thumbnail_of: bytes | None = None,
    message: tuple[bytes, int] | None = None,
    age_s: float = 0.0,
) -> bytes:
    """Insert an upload of 10 bytes; return its id.

    :param key: of its object; by default one of its own.
    :param message: conversation and seq of the message that has it already.
    """
    id_ = uuid4().bytes
    conversation, seq = message or (None, None)
    await pool.fetch(
        "insert into attachments (id, user_id, object_key, size_bytes, media_type, digest, part_digests, thumbnail_of,"
        " completed, conversation_id, seq, created) select %(id)s, %(user)s, %(key)s, 10, 'image/jpeg', sha256('x'),"
        " case when not %(is_complete)s then sha256('x') end, %(thumbnail_of)s,"
        " case when %(is_complete)s then now() end, %(conversation)s, %(seq)s,"
        " now() - make_interval(secs => %(age_s)s)",
        {
            "id": uuid(id_),
            "user": uuid(user),
            "key": key or f"attachments/{id_.hex()}",
            "is_complete": is_complete,
            "thumbnail_of": None if thumbnail_of is None else uuid(thumbnail_of),
            "conversation": None if conversation is None else uuid(conversation),
            "seq": seq,
            "age_s": age_s,
        },
    )
    return id_


async def new_uploads(pool: Pool, user: bytes, count: int) -> list[bytes]:
    """The ids of this many complete uploads, inserted by one statement."""
    rows = await pool.fetch(
        "insert into attachments (id, user_id, object_key, size_bytes, media_type, digest, completed)"
        " select i.id, %(user)s, 'attachments/' || i.id, 10, 'image/jpeg', sha256('x'), now()"
        " from (select gen_random_uuid() as id from generate_series(1, %(count)s)) i returning id",
        {"user": uuid(user), "count": count},
    )
    return [id_ for (id_,) in rows]
