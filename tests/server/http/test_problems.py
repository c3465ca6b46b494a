"""Each error of the store as an answer over HTTP, and the table of codes in docs/http.md."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from server.http.problems import Problem, problem_of
from store import errors
from store.errors import StoreError
from store.redis.client import RedisError

ROOT = Path(__file__).parents[3]

INTERNAL = {
    *(errors.StoreError, errors.DatabaseError, errors.Retryable, errors.BadValue, errors.PoolerRefused, errors.Refused),
    # The WebSocket alone.
    *(errors.TempIdConflict, errors.TempIdExpired, errors.NotTheSender, errors.MessageDeleted),
    *(errors.RevisionConflict, errors.ExpiredCursor, errors.ForeignCursor),
    # Jobs and commands alone.
    *(errors.BadJob, errors.BadKey, errors.ObjectMissing, errors.ObjectTooLarge),
    *(errors.ObjectStoreRefused, errors.BadArchive),
    # Answered with a page for the browser (server/http/routes/mail_links.py).
    errors.UnsubscribeUnknown,
}
"""Errors that HTTP does not expect: the answer is `internal`, and the log has the error."""

KINDS = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, StoreError)]


def made(kind: type[StoreError]) -> StoreError:
    """An error of this kind with the attributes that answers show."""
    error: Any = kind.__new__(kind)
    Exception.__init__(error, "the inside")
    error.users, error.wait_s = [b"u" * 16], 7.5
    return error  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", [*KINDS, RedisError], ids=lambda kind: kind.__name__)
def test_an_error_of_the_store_is_answered_by_name_or_logged_as_internal(
    kind: type[StoreError], log_output: list[dict[str, object]]
) -> None:
    problem = problem_of(made(kind), "/v1/path")
    assert (problem.code == "internal") == (kind in INTERNAL)
    assert (problem.status == 500) == (kind in INTERNAL)
    assert "inside" not in problem.detail
    assert [line["event"] for line in log_output if line["log_level"] == "error"] == ["request_failed"] * (
        kind in INTERNAL
    )
    is_retryable = problem.status in (429, 500, 503)
    assert ("retry_after_ms" in problem.body()["error"]) == ("retry-after" in problem.headers()) == is_retryable


def test_seconds_to_wait_are_rounded_up() -> None:
    problem = Problem(429, "too_many_mails", "wait", retry_after_s=1.0001)
    assert problem.body()["error"]["retry_after_ms"] == 1001
    assert problem.headers() == {"retry-after": "2"}


def test_docs_have_every_code_with_its_status_and_no_other() -> None:
    text = (ROOT / "docs" / "http.md").read_text()
    rows = {(int(status), code) for status, code in re.findall(r"^\| (\d{3}) \| `(\w+)` \|", text, re.MULTILINE)}
    code = "\n".join(file.read_text() for file in (ROOT / "server" / "http").rglob("*.py"))
    assert rows == {(int(status), code) for status, code in re.findall(r"\b([45]\d\d)(?:,|:)\s+\"(\w+)\"", code)}
