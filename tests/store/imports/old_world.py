"""A database of the service before this one, in the same Postgres, and imports of it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from hashlib import md5
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import psycopg
from psycopg import sql

from store.cli.import_rules import RULES
from store.imports.report import Report
from store.imports.steps import import_from

SCHEMA: Final = (Path(__file__).parent / "old_schema.sql").read_text()
BEGAN: Final = datetime(2025, 1, 1, tzinfo=UTC)
HASH: Final = "$2a$10$XajjQvNhvvRt5GSeFk1xFeyqRrsxkhBkUiQeg0dt.wU1qD4aFDcga"

RELAXED: Final = """
alter table conversation_participants drop constraint conversation_participants_pkey cascade,
    drop constraint conversation_participants_conversation_id_fkey,
    drop constraint conversation_participants_user_id_fkey;
alter table messages drop constraint messages_conversation_id_fkey, drop constraint messages_sender_id_fkey,
    alter conversation_id drop not null, alter sender_id drop not null, alter encrypted_content drop not null,
    alter content_type drop not null, alter created_at drop not null;
alter table message_receipts drop constraint message_receipts_user_id_fkey;
alter table attachments drop constraint attachments_message_id_fkey, alter r2_key drop not null;
alter table contacts drop constraint contacts_contact_user_id_fkey;
alter table conversations drop constraint conversations_type_check;
alter table users alter username drop not null;
"""
"""Without the constraints that a database of a real deployment may have lost, or never had."""


def named(name: str) -> UUID:
    """The id of a row that tests call by this name."""
    return UUID(md5(name.encode(), usedforsecurity=False).hexdigest())


def at(minutes: float) -> datetime:
    return BEGAN + timedelta(minutes=minutes)


class OldWorld:
    """The database. Rows are named by texts.

    :ivar url: of the database.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._connection = psycopg.connect(url, autocommit=True)

    def close(self) -> None:
        self._connection.close()

    def run(self, statement: str, *parameters: Any) -> None:
        self._connection.execute(statement.encode(), parameters or None)

    def fetch(self, statement: str) -> list[tuple[Any, ...]]:
        return self._connection.execute(statement.encode()).fetchall()

    def relax(self) -> None:
        self.run(RELAXED)

    def add(self, table: str, **values: Any) -> None:
        """Add a row; names of ids become ids."""
        values = {
            key: named(value) if key == "id" or (key.endswith("_id") and isinstance(value, str)) else value
            for key, value in values.items()
        }
        names = sql.SQL(", ").join(map(sql.Identifier, values))
        marks = sql.SQL(", ").join([sql.Placeholder()] * len(values))
        into = sql.SQL(table)
        self._connection.execute(
            sql.SQL("insert into {} ({}) values ({})").format(into, names, marks), [*values.values()]
        )

    def user(self, name: str, /, *, login: Mapping[str, Any] | None = None, **profile: Any) -> None:
        """A user with a profile and a login.

        :param login: other values of auth.users.
        """
        self.login(name, **(login or {}))
        self.add("users", id=name, **{"username": name, "created_at": at(0), **profile})

    def login(self, name: str, **login: Any) -> None:
        usual = {"email": f"{name}@example.org", "encrypted_password": HASH, "created_at": at(0)}
        self.add("auth.users", id=name, **{**usual, **login})

    def conversation(self, name: str, /, *users: str, **values: Any) -> None:
        """A conversation; with two users and no type it is direct."""
        kind = "direct" if len(users) == 2 else "group"
        usual = {"type": kind, "name": None if kind == "direct" else name, "created_at": at(0)}
        self.add("conversations", id=name, **{**usual, **values})
        for n, user in enumerate(users):
            self.participant(name, user, joined_at=at(n / 1000))

    def participant(self, conversation: str, user: str, **values: Any) -> None:
        values = {"joined_at": at(0), **values}
        self.add("conversation_participants", conversation_id=conversation, user_id=user, **values)

    def message(
        self, name: str, conversation: str | None, sender: str | None, minutes: float | None, /, **values: Any
    ) -> None:
        created = None if minutes is None else at(minutes)
        usual = {"encrypted_content": f"content of {name}", "nonce": "bm9uY2U=", "ephemeral_public_key": "a2V5"}
        self.add(
            "messages",
            id=name,
            conversation_id=conversation,
            sender_id=sender,
            **{**usual, "created_at": created, **values},
        )

    def receipt(self, message: str, user: str, status: str) -> None:
        self.add("message_receipts", id=f"receipt {message} {user}", message_id=message, user_id=user, status=status)


class Unseen:
    """A progress that nobody sees."""

    def begin(self, step: str, total: int) -> None: ...

    def advance(self, rows: int) -> None: ...


async def imported(old: OldWorld, url: str) -> Report:
    return await imported_from(old.url, url)


async def imported_from(source_url: str, url: str) -> Report:
    return await import_from(source_url, url, RULES, Unseen())


def reasons(made: Report) -> dict[tuple[str, str], int]:
    """(table, reason) -> the number of rows."""
    return {(note.table, note.reason): note.count for note in made.notes}


_STATE: Final = {
    "users": "select id, username, password_hash, created, display_name, is_closed, deleted from users",
    "emails": "select user_id, address, verified from emails",
    "last_seen": "select user_id, at from last_seen",
    "contacts": "select user_id, contact_id, is_contact, is_blocked from contacts",
    "conversations": "select id, kind, name, created, direct_low, direct_high, last_seq, active_at, is_closed,"
    " floor_seq, participant_count from conversations",
    "participants": "select conversation_id, user_id, joined_seq, since_seq, delivered_seq, read_seq, written_seq,"
    " role, joined, uncounted, asked_by from participants",
    "departures": "select user_id, conversation_id, since_seq, left_seq, delivered_seq, read_seq from departures",
    "messages": "select conversation_id, seq, id, sender_id, created, content_type, content, nonce,"
    " ephemeral_public_key, revision, deleted, attachments from messages",
    "attachments": "select id, user_id, object_key, size_bytes, media_type, digest, thumbnail_of, conversation_id, seq"
    " from attachments",
    "expiries": "select conversation_id, oldest from expiries",
    "notes": "select about, reason, id, detail from imported.notes",
}


def state(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """All that an import makes, without what differs from run to run: transactions and random values."""
    with psycopg.connect(url) as connection:
        return {
            table: connection.execute(f"select * from ({query}) s order by s::text".encode()).fetchall()
            for table, query in _STATE.items()
        }


def versions(url: str) -> dict[str, str | None]:
    """For each table a text that changes when any row is written."""
    with psycopg.connect(url) as connection:
        tables = connection.execute(
            "select relname from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace order by 1"
        ).fetchall()
        found = {}
        for (table,) in tables:
            query = f"select md5(string_agg(concat(t.ctid, t.xmin, t), ',' order by t.ctid)) from {table} t"
            [(found[table],)] = connection.execute(query.encode()).fetchall()
        return found
