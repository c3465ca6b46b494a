"""A message that changes a page between two reads: as the server would store it, without the server.

So the CPU of the process that answers is that of the reads alone. Postgres pays for the send as well.
"""

from __future__ import annotations

import os
import socket
from binascii import b2a_base64
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from typing import Final
from urllib.parse import urlsplit

import psycopg

from bench.rows import Id, id_text
from bench.servers import Server
from bench.summary import OURS
from bench.workload import NONCE_BYTES

CONTENT_BYTES: Final = 96

_OURS: Final = """
select outcome from send_batch(
    p_lock_ms => 1000, p_conversations => array[%(conversation)s]::uuid[],
    p_conversation => array[%(conversation)s]::uuid[], p_known_version => array[null]::bigint[],
    p_id => array[gen_random_uuid()], p_sender => array[%(sender)s]::uuid[], p_temp_id => array[gen_random_uuid()],
    p_digest => array[sha256(%(content)s)], p_content_type => array['text'], p_content => array[%(content)s],
    p_nonce => array[%(nonce)s], p_ephemeral_public_key => array[null]::bytea[], p_reply_to => array[null]::bigint[],
    p_attachments => null, p_thumbnail => null, p_device => array[null]::uuid[], p_is_quiet => array[false],
    p_devices_version => null, p_envelopes => null, p_envelope_devices => null, p_envelope_ends => null,
    p_envelope_of => null, p_envelope_upto => null, p_follows => null)
"""

_PLANS: Final = """
with touched as (update conversations set updated_at = now() where id = %(conversation)s)
insert into messages (conversation_id, sender_id, encrypted_content, nonce)
values (%(conversation)s, %(sender)s, %(content)s, %(nonce)s) returning 'sent'
"""


@contextmanager
def sends_to(server: Server, conversations: Sequence[tuple[str, Sequence[int]]]) -> Iterator[Callable[[], None]]:
    """A function that adds a message to the next of the conversations, by its first participant.

    The plan keeps lists in Redis until a send drops them from there; ours keeps nothing that a send has to drop.

    :param conversations: ids and participants.
    """
    turns = cycle(conversations)
    address = urlsplit(server.shared.redis_url)
    with (
        psycopg.connect(server.database_url, autocommit=True) as connection,
        socket.create_connection((address.hostname or "localhost", address.port or 6379), 10) as redis,
    ):
        connection.execute("set synchronous_commit = off")

        def send() -> None:
            conversation, participants = next(turns)
            users = [id_text(Id.USER, each) for each in participants]
            content, nonce = os.urandom(CONTENT_BYTES), os.urandom(NONCE_BYTES)
            values: dict[str, str | bytes]
            if server.name == OURS:
                values = {"content": content, "nonce": nonce}
            else:
                values = {"content": _base64(content), "nonce": _base64(nonce)}
            values |= {"conversation": conversation, "sender": users[0]}
            found = connection.execute(_OURS if server.name == OURS else _PLANS, values)
            assert found.fetchall() == [("sent",)]
            if server.name != OURS:
                dropped = [f"conversation:{conversation}", *(f"conversations:{user}" for user in users)]
                redis.sendall(f"UNLINK {' '.join(dropped)}\r\n".encode())
                redis.recv(64)

        yield send


def _base64(data: bytes) -> str:
    return b2a_base64(data, newline=False).decode()
