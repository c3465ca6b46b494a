"""Each error of the store as an answer over HTTP, problem documents, and the table of their codes."""

from __future__ import annotations

from typing import Any

import cbor2
import msgspec
import pytest
from msgspec import UNSET

from server.http.encoding import Encoding, encode
from server.http.problem_codes import PROBLEMS, ProblemCode
from server.http.problems import Problem, problem_of
from store import errors
from store.errors import StoreError
from store.redis.client import RedisError
from tests.rows import each_row

INTERNAL = {
    *(errors.StoreError, errors.DatabaseError, errors.Retryable, errors.BadValue, errors.PoolerRefused, errors.Refused),
    errors.EvictingRedis,
    # The WebSocket alone.
    *(errors.RecipientDeleted, errors.TempIdConflict, errors.TempIdExpired, errors.NotTheSender, errors.MessageDeleted),
    *(errors.RevisionConflict, errors.ExpiredCursor, errors.ForeignCursor, errors.StaleDevices),
    *(errors.UnlistedDevices, errors.TooManyParts, errors.ControlConflict, errors.OwnMessage, errors.NoIdentity),
    # Jobs and commands alone.
    *(errors.BadJob, errors.BadKey, errors.ObjectDiffers, errors.ObjectMissing, errors.ObjectTooLarge),
    *(errors.ObjectStoreRefused, errors.BadArchive, errors.UnknownInvitation),
    # Known to the route, which then logs in the user that there is.
    errors.IdentityTaken,
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
    error.says, error.quota, error.value = "wrong", "attachment_bytes", 5
    return error  # type: ignore[no-any-return]


@each_row("kind", [*KINDS, RedisError], ids=lambda kind: kind.__name__)
def test_an_error_of_the_store_is_answered_by_name_or_logged_as_internal(
    kind: type[StoreError], log_output: list[dict[str, object]]
) -> None:
    before = len(log_output)
    problem = problem_of(made(kind), "GET /v1/path")
    assert (problem.code is ProblemCode.INTERNAL) == (kind in INTERNAL)
    assert (problem.status == 500) == (kind in INTERNAL)
    assert "inside" not in problem.detail
    assert [line["event"] for line in log_output[before:] if line["log_level"] == "error"] == ["request_failed"] * (
        kind in INTERNAL
    )
    is_retryable = problem.body("json").retry_after_ms is not UNSET
    assert is_retryable == ("retry-after" in problem.headers()) == problem.code.info.retry


def test_seconds_to_wait_are_rounded_up() -> None:
    problem = Problem(ProblemCode.TOO_MANY_MAILS, "wait", retry_after_s=1.0001)
    assert problem.body("json").retry_after_ms == 1001
    assert problem.headers() == {"retry-after": "2"}


def test_a_problem_document_has_the_fields_of_rfc_9457_and_only_those_extensions_that_say_something() -> None:
    problem = Problem(ProblemCode.NOT_FOUND, "no such conversation")
    assert encode(problem.body("json"), "json") == (
        b'{"type":"/docs#problem-not_found","title":"Not found","status":404,"detail":"no such conversation",'
        b'"code":"not_found"}'
    )
    assert b'"instance":"urn:uuid:5"' in encode(problem.body("json", "urn:uuid:5"), "json")


@pytest.mark.parametrize("encoding", ["json", "cbor"])
def test_both_encodings_have_the_same_fields(encoding: Encoding) -> None:
    problem = Problem(ProblemCode.NOT_ACCEPTED, "these users do not accept", users=[bytes(16)])
    data = encode(problem.body(encoding), encoding)
    assert (msgspec.json.decode(data) if encoding == "json" else cbor2.loads(data)) == {
        "type": "/docs#problem-not_accepted",
        "title": "Not accepted",
        "status": 403,
        "detail": "these users do not accept",
        "code": "not_accepted",
        "users": ["00000000-0000-0000-0000-000000000000" if encoding == "json" else bytes(16)],
    }


def test_the_table_has_every_code_with_a_title_of_its_own() -> None:
    assert PROBLEMS.keys() == set(ProblemCode)
    assert len({info.title for info in PROBLEMS.values()}) == len(PROBLEMS)
    assert all(400 <= info.status < 600 and info.meaning.endswith(".") for info in PROBLEMS.values())
