"""The steps of a run. A run that was killed at any moment is repeated, and does the rest."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any, Final, Protocol

import msgspec

from protocol.limits import MAX_PARTICIPANTS
from store import sql
from store.imports.report import Report, report
from store.imports.rules import OldUser, Rules
from store.imports.source import OldDatabase, open_source
from store.imports.target import NewDatabase, check_rows, check_source, finish, open_target
from store.postgres.driver import uuid

_people = sql.load("imports/people")
_conversations = sql.load("imports/conversations")
_messages = sql.load("imports/messages")
_marks = sql.load("imports/marks")
_attachments = sql.load("imports/attachments")

PAGE: Final = 5_000
"""Users or titles that this process holds at a time: 5 MB."""

COPIED_AT_A_TIME: Final = 20_000
"""Messages that one statement asks the source for, by their ids: 740 KB of SQL."""

ROWS_OF_BATCH: Final = 20_000
"""Messages and participants that one transaction takes, unless one conversation has more: half a second."""

_FUNCTIONS: Final = (
    _conversations.participants_function,
    _messages.messages_function,
    _messages.changes_function,
    _marks.marks_function,
    _attachments.key_function,
    _attachments.attachments_function,
    _messages.batch_function,
)
_COPIES: Final = {
    "users": "old_users",
    "conversations": "old_conversations",
    "participants": "old_participants",
    "contacts": "old_contacts",
    "attachments": "old_attachments",
    "marks": "old_marks",
}
"""Query of the source -> the table that holds its rows."""

_FIRST: Final = uuid(bytes(16))


class ImportProgress(Protocol):
    """The progress of a run, for people."""

    def begin(self, step: str, total: int) -> None:
        """Another step begins.

        :param total: the number of rows; 0: it is not known.
        """

    def advance(self, rows: int) -> None: ...


async def import_from(source_url: str, target_url: str, rules: Rules, progress: ImportProgress) -> Report:
    """Take what is new at the source, and follow what has changed. Safe to run again, and beside running processes.

    :raises Unavailable: if one of the two cannot be reached any longer; the next run goes on.
    :raises NotTheOldService: if the source lacks columns, or hides rows.
    :raises ImportRefused: if the target is not migrated, has rows of another source, or another import runs.
    """
    async with open_target(target_url, _FUNCTIONS) as target, open_source(source_url) as source:
        await check_source(target, await source.identity())
        for query, table in _COPIES.items():
            progress.begin(f"copying {query}", 0)
            await target.replace(table, source.rows(query))
        await check_rows(target)
        await _take_users(target, rules, progress)
        await _take_conversations(target, rules, progress)
        await _copy_messages(source, target, progress)
        await _take_messages(target, progress)
        made = await report(target)
        await finish(target)
        return made


async def _take_users(target: NewDatabase, rules: Rules, progress: ImportProgress) -> None:
    progress.begin("users", 0)
    await target.script(_people.forget)
    after = _FIRST
    while rows := await target.fetch(_people.changed, {"after": after, "limit": PAGE}):
        people = [rules.person(OldUser(*row)) for row in rows]
        await target.fetch(_people.note, {"rows": _json(people)})
        progress.advance(len(rows))
        after = uuid(rows[-1][0])
    await target.script(_people.take)


async def _take_conversations(target: NewDatabase, rules: Rules, progress: ImportProgress) -> None:
    progress.begin("conversations", 0)
    await target.script(_conversations.forget_titles)
    after = _FIRST
    while rows := await target.fetch(_conversations.new_titles, {"after": after, "limit": PAGE}):
        await target.fetch(_conversations.note_titles, {"rows": _json([rules.title(*row) for row in rows])})
        progress.advance(len(rows))
        after = uuid(rows[-1][0])
    await target.script(_conversations.take.replace("{participants}", str(MAX_PARTICIPANTS)))
    await target.script(_conversations.take_contacts)


async def _copy_messages(source: OldDatabase, target: NewDatabase, progress: ImportProgress) -> None:
    """Copy the messages that are new or have changed. Which these are follows from the rows alone, so a run that was
    killed loses no more than one piece."""
    progress.begin("listing messages", 0)
    await target.replace("listed", source.rows("listing"), "(id, fingerprint)")
    await target.script(_messages.note_listed)
    [(wanted,)] = await target.fetch(_messages.count_wanted)
    progress.begin("copying messages", wanted)
    after = 0
    while True:
        [(last, ids)] = await target.fetch(_messages.wanted, {"after": after, "limit": COPIED_AT_A_TIME})
        if last is None:
            return
        async with aclosing(source.messages(ids)) as pieces:
            async for piece in pieces:
                await target.add("arrivals", piece)
                progress.advance(piece.count(b"\n"))
        after = last


async def _take_messages(target: NewDatabase, progress: ImportProgress) -> None:
    await target.script(_messages.prepare)
    await target.script(_attachments.prepare)
    [(due,)] = await target.fetch(_messages.count_due)
    progress.begin("messages and participants", due)
    after = _FIRST
    while True:
        [(last, rows)] = await target.fetch(_messages.take_batch, {"after": after, "rows": ROWS_OF_BATCH})
        if last is None:
            return
        progress.advance(int(rows))
        after = uuid(last)


def _json(rows: list[Any]) -> str:
    return msgspec.json.encode(rows).decode()
