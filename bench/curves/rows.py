"""The rows of the curves of pages: users in a ring, each in direct conversations with neighbours, and messages."""

from __future__ import annotations

from typing import Final

import psycopg

from bench.rows import OUR_USERS, PEERS_USERS, Id, base64_sql, ciphertext_sql, id_sql, id_text, participant
from bench.servers import Server
from bench.summary import OURS
from bench.workload import NONCE_BYTES, Chat

CONTENT_BYTES: Final = 96

_SEED = "c || ':' || s"
_CONTENT, _NONCE = ciphertext_sql(_SEED, CONTENT_BYTES), ciphertext_sql(f"'nonce' || {_SEED}", NONCE_BYTES)

_PAIRS: Final = """
create temporary table pairs as
    select n * {neighbours} + k - 1 as c, n as one, (n + k) % {users} as other
    from generate_series(0, {users} - 1) n, generate_series(1, {neighbours}) k;
"""
"""Conversation c is that of users one and other."""

_OURS: Final = f"""
insert into conversations (id, kind, direct_low, direct_high, last_seq, active_at)
    select {id_sql(Id.CONVERSATION, "c")}, 'direct', least({id_sql(Id.USER, "one")}, {id_sql(Id.USER, "other")}),
           greatest({id_sql(Id.USER, "one")}, {id_sql(Id.USER, "other")}), {{messages}},
           now() - make_interval(secs => c % 1000) from pairs;
insert into participants (conversation_id, user_id, delivered_seq, read_seq)
    select {id_sql(Id.CONVERSATION, "c")}, {id_sql(Id.USER, "u")}, {{messages}} - 1, {{messages}} - 1
    from pairs, unnest(array[one, other]) u;
insert into contacts (user_id, contact_id)
    select {id_sql(Id.USER, "a")}, {id_sql(Id.USER, "b")}
    from pairs, lateral (values (one, other), (other, one)) x (a, b);
insert into messages (conversation_id, seq, id, sender_id, created, content_type, content, nonce)
    select {id_sql(Id.CONVERSATION, "c")}, s, gen_random_uuid(), {id_sql(Id.USER, "one")},
           now() - make_interval(secs => {{messages}} - s), 'text', {_CONTENT}, {_NONCE}
    from pairs, generate_series(1, {{messages}}) s;
"""

_PEERS: Final = f"""
insert into conversations (id, type, updated_at)
    select {id_sql(Id.CONVERSATION, "c")}, 'direct', now() - make_interval(secs => c % 1000) from pairs;
insert into conversation_participants (conversation_id, user_id, last_read_at)
    select {id_sql(Id.CONVERSATION, "c")}, {id_sql(Id.USER, "u")}, now() - make_interval(secs => 0.5)
    from pairs, unnest(array[one, other]) u;
insert into contacts (user_id, contact_user_id)
    select {id_sql(Id.USER, "a")}, {id_sql(Id.USER, "b")}
    from pairs, lateral (values (one, other), (other, one)) x (a, b);
insert into messages (conversation_id, sender_id, encrypted_content, nonce, created_at)
    select {id_sql(Id.CONVERSATION, "c")}, {id_sql(Id.USER, "one")}, {base64_sql(_CONTENT)}, {base64_sql(_NONCE)},
           now() - make_interval(secs => {{messages}} - s)
    from pairs, generate_series(1, {{messages}}) s;
"""


def fill(server: Server, users: int, neighbours: int, messages: int) -> None:
    """Make the server's database: each user talks with this number of users before and after, and each conversation has
    this number of messages, the last one unread."""
    server.prepare([])
    rows = OUR_USERS + _PAIRS + _OURS if server.name == OURS else PEERS_USERS + _PAIRS + _PEERS
    with psycopg.connect(server.database_url) as connection:
        connection.execute("set local synchronous_commit = off")
        connection.execute(rows.format(users=users, neighbours=neighbours, messages=messages).encode())


def chats(users: int, neighbours: int) -> list[Chat]:
    """A conversation of each second user with the next one: no two of them share a user."""
    return [
        Chat(id_text(Id.CONVERSATION, user * neighbours), (participant(user), participant(user + 1)))
        for user in range(0, users - 1, 2)
    ]
