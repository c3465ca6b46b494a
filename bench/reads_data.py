"""The rows that `bench.reads` reads: the same for ours and for the plan.

Users sit in a ring, and each has a direct conversation with the `NEIGHBOURS` before and after. One group is deep.
"""

from __future__ import annotations

from typing import Final

import psycopg

from bench.rows import OUR_USERS, PEERS_USERS, Id, base64_sql, ciphertext_sql, id_sql, id_text
from bench.workload import NONCE_BYTES

NEIGHBOURS: Final = 25
"""Each user talks with this number of users before and after, which makes 50 conversations: a whole page."""

MESSAGES: Final = 5
"""Messages of a direct conversation."""

CONTENT_BYTES: Final = 96

DEEP_MESSAGES: Final = 2000
DEEP_PARTICIPANTS: Final = 20
DEEP: Final = id_text(Id.GROUP, 0)
"""The deep group; its participants are the first users."""

_SEED, _DEEP_SEED = "c || ':' || s", "s"
_CONTENT, _NONCE = ciphertext_sql(_SEED, CONTENT_BYTES), ciphertext_sql(f"'nonce' || {_SEED}", NONCE_BYTES)
_DEEP_CONTENT = ciphertext_sql(_DEEP_SEED, CONTENT_BYTES)
_DEEP_NONCE = ciphertext_sql(f"'nonce' || {_DEEP_SEED}", NONCE_BYTES)

_PAIRS: Final = f"""
create temporary table pairs as
    select n * {NEIGHBOURS} + k - 1 as c, n as one, (n + k) % {{users}} as other
    from generate_series(0, {{users}} - 1) n, generate_series(1, {NEIGHBOURS}) k;
"""

_OURS: Final = f"""
insert into conversations (id, kind, direct_low, direct_high, last_seq, active_at)
    select {id_sql(Id.CONVERSATION, "c")}, 'direct', least({id_sql(Id.USER, "one")}, {id_sql(Id.USER, "other")}),
           greatest({id_sql(Id.USER, "one")}, {id_sql(Id.USER, "other")}), {MESSAGES},
           now() - make_interval(secs => c % 1000) from pairs;
insert into participants (conversation_id, user_id, delivered_seq, read_seq)
    select {id_sql(Id.CONVERSATION, "c")}, {id_sql(Id.USER, "u")}, 2, 2 from pairs, unnest(array[one, other]) u;
insert into conversations (id, kind, name, last_seq) values ('{DEEP}', 'group', 'Deep', {DEEP_MESSAGES});
insert into participants (conversation_id, user_id)
    select '{DEEP}', {id_sql(Id.USER, "u")} from generate_series(0, {DEEP_PARTICIPANTS} - 1) u;
insert into messages (conversation_id, seq, id, sender_id, created, content_type, content, nonce)
    select {id_sql(Id.CONVERSATION, "c")}, s, gen_random_uuid(), {id_sql(Id.USER, "one")},
           now() - make_interval(secs => 100 - s), 'text', {_CONTENT}, {_NONCE}
    from pairs, generate_series(1, {MESSAGES}) s;
insert into messages (conversation_id, seq, id, sender_id, created, content_type, content, nonce)
    select '{DEEP}', s, gen_random_uuid(), {id_sql(Id.USER, f"s % {DEEP_PARTICIPANTS}")},
           now() - make_interval(secs => {DEEP_MESSAGES} - s), 'text', {_DEEP_CONTENT}, {_DEEP_NONCE}
    from generate_series(1, {DEEP_MESSAGES}) s;
"""

_PEERS: Final = f"""
insert into conversations (id, type, updated_at)
    select {id_sql(Id.CONVERSATION, "c")}, 'direct', now() - make_interval(secs => c % 1000) from pairs;
insert into conversation_participants (conversation_id, user_id, last_read_at)
    select {id_sql(Id.CONVERSATION, "c")}, {id_sql(Id.USER, "u")}, now() - make_interval(secs => 98)
    from pairs, unnest(array[one, other]) u;
insert into conversations (id, type, name) values ('{DEEP}', 'group', 'Deep');
insert into conversation_participants (conversation_id, user_id)
    select '{DEEP}', {id_sql(Id.USER, "u")} from generate_series(0, {DEEP_PARTICIPANTS} - 1) u;
insert into messages (conversation_id, sender_id, encrypted_content, nonce, created_at)
    select {id_sql(Id.CONVERSATION, "c")}, {id_sql(Id.USER, "one")}, {base64_sql(_CONTENT)}, {base64_sql(_NONCE)},
           now() - make_interval(secs => 100 - s)
    from pairs, generate_series(1, {MESSAGES}) s;
insert into messages (conversation_id, sender_id, encrypted_content, nonce, created_at)
    select '{DEEP}', {id_sql(Id.USER, f"s % {DEEP_PARTICIPANTS}")}, {base64_sql(_DEEP_CONTENT)},
           {base64_sql(_DEEP_NONCE)},
           now() - make_interval(secs => {DEEP_MESSAGES} - s)
    from generate_series(1, {DEEP_MESSAGES}) s;
"""


def fill_ours(database_url: str, users: int) -> None:
    """Insert the rows into our empty, migrated database."""
    _fill(database_url, OUR_USERS + _PAIRS + _OURS, users)


def fill_plans(database_url: str, users: int) -> None:
    """Insert the rows into the plan's empty database."""
    _fill(database_url, PEERS_USERS + _PAIRS + _PEERS, users)


def _fill(database_url: str, rows: str, users: int) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute(rows.format(users=users).encode())
