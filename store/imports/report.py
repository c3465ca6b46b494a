"""The report of a run: what is here of the source, what is not, and why."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from store import sql
from store.imports.reasons import REASONS
from store.imports.target import NewDatabase

_sql = sql.load("imports/report")

EXAMPLES: Final = 5
"""Rows that the report names for each reason; the table imported.notes has all."""


class Count(Struct, frozen=True):
    """The rows of one table.

    :ivar source: of the source, now.
    :ivar here: of those, in this service.
    """

    table: str
    source: int
    here: int


class ReportedRow(Struct, frozen=True):
    """A row that was not taken, or not as it was; `detail` says more."""

    id: str
    detail: str | None


class Note(Struct, frozen=True):
    """Rows that one reason applies to.

    :ivar meaning: what is here instead of such a row.
    """

    table: str
    reason: str
    meaning: str
    count: int
    examples: list[ReportedRow]


class Report(Struct, frozen=True):
    """The report."""

    counts: list[Count]
    notes: list[Note]


async def report(target: NewDatabase) -> Report:
    """The report, as long as the copies are there."""
    counts = [Count(*row) for row in await target.fetch(_sql.counts)]
    notes = []
    for table, reason, count, ids, details in await target.fetch(_sql.notes, {"examples": EXAMPLES}):
        examples = [ReportedRow(id_, detail) for id_, detail in zip(ids, details, strict=True)]
        notes.append(Note(table, reason, REASONS[table][reason], count, examples))
    return Report(counts, notes)


def lines(made: Report) -> list[str]:
    """The report for people."""
    shown = [f"{'table':<14}{'source':>12}{'here':>12}"]
    shown += [f"{count.table:<14}{count.source:>12,}{count.here:>12,}" for count in made.counts]
    for note in made.notes:
        shown += ["", f"{note.table}: {note.reason} ({note.count:,}): {note.meaning}"]
        shown += [f"    {' '.join(filter(None, (each.id, each.detail)))}" for each in note.examples]
        if note.count > len(note.examples):
            shown.append(f"    and {note.count - len(note.examples):,} more")
    return shown
