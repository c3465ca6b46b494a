"""How long does it take to move in: an import of a generated database of the service before this one?

    python -m bench.moving_in

It fills a database with `--messages` messages of `--users` users in direct conversations and groups, some of them
deleted, with receipts, attachments and contacts, and imports it with `python -m store import`; then a second time, when
nothing is new; then a third time with a hundredth more. After each run the counts and checksums of both databases are
compared: those of users, of participants, and for each conversation those of its messages in order of (created_at, id)
and of `seq`. The lines have the time and the peak memory of the process.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any, Final

import psycopg

from bench.databases import Shared
from bench.program import FOLDER, report, run_alone, say, shared_services

SCHEMA: Final = """
create schema auth;
create table auth.users (id uuid primary key, email text, encrypted_password text, email_confirmed_at timestamptz,
    banned_until timestamptz, deleted_at timestamptz, created_at timestamptz, raw_user_meta_data jsonb);
create table users (id uuid primary key, username text not null unique, display_name text, avatar_url text,
    last_seen_at timestamptz, created_at timestamptz not null);
create table conversations (id uuid primary key, type text not null, name text, avatar_url text,
    created_at timestamptz not null);
create table conversation_participants (conversation_id uuid not null, user_id uuid not null, last_read_at timestamptz,
    joined_at timestamptz not null, primary key (conversation_id, user_id));
create table messages (id uuid primary key, conversation_id uuid not null, sender_id uuid not null,
    encrypted_content text not null, content_type text not null, nonce text, ephemeral_public_key text,
    created_at timestamptz not null, deleted_at timestamptz);
create table message_receipts (message_id uuid not null, user_id uuid not null, status text not null,
    read_at timestamptz, primary key (message_id, user_id));
create table attachments (id uuid primary key, message_id uuid not null, r2_key text not null, file_name text,
    file_size bigint, mime_type text, thumbnail_r2_key text);
create table contacts (user_id uuid not null, contact_user_id uuid not null, primary key (user_id, contact_user_id));
"""

FILL: Final = """
insert into users select md5('u' || n)::uuid, 'user' || n, 'User ' || n, null, '2025-06-01', '2024-01-01'
    from generate_series(0, {users} - 1) n;
insert into auth.users select id, username || '@example.org',
    '$2a$10$XajjQvNhvvRt5GSeFk1xFeyqRrsxkhBkUiQeg0dt.wU1qD4aFDcga', created_at, null, null, created_at, null from users;
-- Nine of ten are direct: user n with the users after n. A group has ten participants.
insert into conversations select md5('c' || n)::uuid, case when n % 10 = 0 then 'group' else 'direct' end,
    case when n % 10 = 0 then 'Group ' || n end, null, '2024-01-02' from generate_series(0, {conversations} - 1) n;
insert into conversation_participants
    select md5('c' || n)::uuid, md5('u' || (n + k * (1 + n / {users})) % {users})::uuid,
        timestamptz '2024-01-03' + (n % 500) * interval '1 day', '2024-01-02'
    from generate_series(0, {conversations} - 1) n, generate_series(0, case when n % 10 = 0 then 9 else 1 end) k;
insert into contacts select user_id, md5('u0')::uuid from conversation_participants group by 1;
"""

MESSAGES: Final = """
insert into messages
    select md5('m' || n)::uuid, md5('c' || c)::uuid, md5('u' || (c + (n % 2) * (1 + c / {users})) % {users})::uuid,
        encode(sha256(('a' || n)::bytea) || sha256(('b' || n)::bytea) || sha256(('c' || n)::bytea), 'base64'), 'text',
        encode(substr(sha256(('n' || n)::bytea), 1, 24), 'base64'), encode(sha256(('k' || n)::bytea), 'base64'),
        timestamptz '2024-01-03' + (hashint8(n) & 1073741823) * interval '40 ms',
        case when n % 100 = 0 then timestamptz '2025-06-01' end
    from (select n, (hashint8(n + 1) & 1073741823) % {conversations} as c from generate_series({first}, {last}) n) n;
insert into message_receipts
    select m.id, p.user_id, 'read', m.created_at from messages m
    join conversation_participants p on p.conversation_id = m.conversation_id and p.user_id <> m.sender_id
    where m.id in (select md5('m' || n)::uuid from generate_series({first}, {last}) n) and hashtext(m.id::text) % 3 = 0;
insert into attachments
    select md5('a' || n)::uuid, md5('m' || n)::uuid, 'k/' || n, n || '.jpg', 100000 + n, 'image/jpeg', 't/' || n
    from generate_series({first}, {last}) n where n % 50 = 1;
"""

OLD_CHECKS: Final = {
    "users": "select count(*), md5(string_agg(md5(concat(id, username, display_name)), '' order by id)) from users",
    "participants": "select count(*), md5(string_agg(md5(concat(conversation_id, user_id)), ''"
    " order by conversation_id, user_id)) from conversation_participants",
    "attachments": "select count(*), md5(string_agg(md5(concat(a.id, r2_key, file_size)), '' order by a.id))"
    " from attachments a join messages m on m.id = a.message_id where m.deleted_at is null",
    "messages": "select sum(n), md5(string_agg(sums, '' order by conversation_id)) from (select conversation_id,"
    " count(*) as n, md5(string_agg(md5(concat(id, sender_id, extract(epoch from created_at), case when deleted_at is"
    " null then concat(encrypted_content, '|', nonce, '|', ephemeral_public_key) end)), '' order by created_at, id)) as"
    " sums from messages group by conversation_id) m",
}
NEW_CHECKS: Final = {
    "users": "select count(*), md5(string_agg(md5(concat(id, username, display_name)), '' order by id)) from users",
    "participants": "select count(*), md5(string_agg(md5(concat(conversation_id, user_id)), ''"
    " order by conversation_id, user_id)) from participants",
    "attachments": "select count(*), md5(string_agg(md5(concat(id, object_key, size_bytes)), '' order by id))"
    " from attachments where thumbnail_of is null",
    "messages": "select sum(n), md5(string_agg(sums, '' order by conversation_id)) from (select conversation_id,"
    " count(*) as n, md5(string_agg(md5(concat(id, sender_id, extract(epoch from created), case when deleted is null"
    " then concat(convert_from(content, 'UTF8'), '|', convert_from(nonce, 'UTF8'), '|',"
    " convert_from(ephemeral_public_key, 'UTF8')) end)), '' order by seq)) as sums from messages"
    " group by conversation_id) m",
}
"""Table -> the same figures of both databases, if an import has taken everything (docs/moving-in.md has them, too)."""


def moving_in(users: int, messages: int) -> bool:
    """Print a line for each run; return whether both databases have the same counts and checksums each time."""
    with shared_services() as shared:
        try:
            return report(_runs(shared, users, messages), lambda _: [])
        finally:
            for name in ("bench_old", "bench_new"):
                shared.drop_database(name)


def _runs(shared: Shared, users: int, messages: int) -> Iterator[dict[str, Any]]:
    old, new = shared.create_database("bench_old"), shared.create_database("bench_new")
    say(f"storing {messages:,} messages")
    sizes = {"users": users, "conversations": max(10, messages // 50)}
    with psycopg.connect(old, autocommit=True) as connection:
        connection.execute("set synchronous_commit = off")
        connection.execute(SCHEMA.encode() + FILL.format(**sizes).encode())
        connection.execute(MESSAGES.format(**sizes, first=1, last=messages).encode())
        connection.execute("create index on messages (conversation_id, created_at desc)")
        connection.execute("vacuum analyze")
    environment = {**os.environ, "DATABASE_URL": new, "LOG_LEVEL": "error"}
    subprocess.run([sys.executable, "-m", "store", "migrate"], env=environment, check=True)
    yield {"run": "all", **_outcome(old, new, environment)}
    yield {"run": "nothing new", **_outcome(old, new, environment)}
    with psycopg.connect(old, autocommit=True) as connection:
        late = MESSAGES.format(**sizes, first=messages + 1, last=messages + messages // 100)
        connection.execute(late.replace("'2024-01-03' + (hash", "'2026-01-03' + (hash").encode())
    yield {"run": "a hundredth more", **_outcome(old, new, environment)}


def _outcome(old: str, new: str, environment: dict[str, str]) -> dict[str, Any]:
    measured, compared = _measured(old, environment), _compared(old, new)
    is_same = all(value for key, value in compared.items() if key.endswith("_same"))
    return {**measured, **compared, "valid": measured["status"] == 0 and is_same}


def _measured(old: str, environment: dict[str, str]) -> dict[str, Any]:
    began = time.perf_counter()
    with (FOLDER / "moving_in.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "store", "import", old, "--json"], env=environment, stdout=log, stderr=log
        )
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return {
        "seconds": round(time.perf_counter() - began, 1),
        "process_cpu_s": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_mib": round(usage.ru_maxrss / 1024, 1),
        "status": process.returncode,
    }


def _compared(old: str, new: str) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    with psycopg.connect(old) as source, psycopg.connect(new) as target:
        for table, query in OLD_CHECKS.items():
            ours = target.execute(NEW_CHECKS[table].encode()).fetchone()
            theirs = source.execute(query.encode()).fetchone()
            assert ours is not None
            figures[table] = int(ours[0] or 0)
            figures[f"{table}_same"] = ours == theirs
        for name, connection in (("old_mib", source), ("new_mib", target)):
            size = connection.execute("select pg_database_size(current_database()) / 1048576").fetchone()
            assert size is not None
            figures[name] = size[0]
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.moving_in", description=__doc__.partition("\n")[0])
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--messages", type=int, default=1_000_000)
    options = parser.parse_args()
    run_alone(lambda: moving_in(options.users, options.messages))


if __name__ == "__main__":
    main()
