"""Secrets and addresses of persons are taken out of texts that are logged."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from runtime.redaction import redact, redacted
from store.tokens import first_token
from tests.planted import PLANTED, SECRETS
from tests.rows import each_row

KEPT: Final = (
    "Postgres at 10.0.0.7:5432: connection refused",
    "redis://127.0.0.1:6379/0",
    "smtps://mail.example.org:465: the mail was not accepted within 40 s",
    "https://fcm.googleapis.com",
    "GET /v1/email/verifications/<token>",
    "alo_retention_messages_removed_total",
    'duplicate key value violates unique constraint "users_username"',
    "UnicodeEncodeError: 'utf-8' codec can't encode character",
)
"""Texts without secrets stay as they are."""

SIGNATURE: Final = "0123456789abcdef" * 4

JWT: Final = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJ6cSJ9.c2lnbmF0dXJl"

SECRET: Final = {
    "a token": f"no route for /v1/email/verifications/{first_token()}",
    "a header": f"headers: Authorization: Bearer {PLANTED}-0123456789",
    "a header of a proxy": f"Proxy-Authorization: Basic {PLANTED}=",
    "a DSN as a URL": f"cannot read postgresql://alo:{PLANTED}@db:5432/alo",
    "a DSN as pairs": f"host=db user=alo password={PLANTED} dbname=alo",
    "a quoted password": f"connection to password='{PLANTED} x' failed",
    "the URL of Redis": f"rediss://:{PLANTED}@redis:6380/1",
    "the URL of Redis without a user": f"redis://{PLANTED}@redis",
    "a password of sentinels": f"redis+sentinel://a,b/chat?sentinel_password={PLANTED}",
    "the URL of an object store": f"s3://key:{PLANTED}@h:9000/bucket",
    "a presigned URL": f"HTTPStatusError for url 'https://h/b/k?X-Amz-Expires=60&X-Amz-Signature={SIGNATURE}'",
    "the target of a presigned URL": f"GET /files/a?expires=1&signature={SIGNATURE} HTTP/1.1",
    "a header of AWS": f"AWS4-HMAC-SHA256 Credential=key/20260101/auto/s3/aws4_request,Signature={SIGNATURE}",
    "the URL of a mail server": f"smtps://a:{PLANTED}@h",
    "the address of a webhook": f"no answer from https://hooks.example.org/services/{PLANTED}?key={PLANTED}",
    "a push endpoint": f"POST 'https://push.example.org/send/{PLANTED}' failed",
    "a JWT": f"cannot decode {JWT}: padding",
    "a JWT without a signature": f"b'{JWT.rpartition('.')[0]}.'",
    "a webhook's key": f"whsec_{PLANTED.replace('-', '')}",
    "a key of a row": f"DETAIL: Key (username)=({PLANTED}) already exists.",
    "a row": f"DETAIL: Failing row contains (1, {PLANTED}, \n(x), {PLANTED}).\nCONTEXT: x",
    "an e-mail address": "550 no such user alice@example.org here",
    "an international address": f"refused: j\u00f6rg.{PLANTED}@b\u00fccher.example.com,",
    "the repr of an address": "SMTPRecipientsRefused({'alice+tag@example.org': (550, b'no')})",
}
"""Texts as libraries write them."""


@each_row("text", KEPT)
def test_a_text_without_secrets_stays(text: str) -> None:
    assert redacted(text) == text


@each_row("name", SECRET)
def test_a_secret_is_taken_out_of_a_text(name: str) -> None:
    text = SECRET[name]
    assert SECRETS.search(text) or "whsec" in text
    found = redacted(text)
    assert "..." in found
    assert not SECRETS.search(found)
    assert PLANTED.replace("-", "") not in found
    assert redacted(found) == found


def test_each_value_of_a_line_is_searched_and_the_names_of_the_line_stay() -> None:
    token = first_token()
    line = redact(None, "", {"event": "x", "id": "<1@example.net>", "errors": [token, {"a": (token,)}], "count": 3})
    assert line == {"event": "x", "id": "<1@example.net>", "errors": ["alo_...", {"a": ["alo_..."]}], "count": 3}


CODE: Final = """
import logging, structlog, sys
from runtime.log import configure_logging
configure_logging("web", "info", sys.argv[1])
secret, log = sys.argv[2], structlog.get_logger("x")
log.warning("refused", error=secret, errors=[secret])
try:
    raise ValueError(secret)
except ValueError:
    log.exception("failed")
    logging.getLogger("library").exception("failed at %s", secret)
raise OSError(secret)
"""


@pytest.mark.parametrize("format", ["json", "console"])
def test_a_process_writes_no_secret_in_any_line(format: str) -> None:
    """Our lines, tracebacks in them, lines of libraries, and the error that ends the process."""
    secret = f"postgresql://alo:{PLANTED}@db {first_token()} alice@example.org"
    run = subprocess.run(
        [sys.executable, "-c", CODE, format, secret], capture_output=True, cwd=Path(__file__).parents[2], text=True
    )
    assert run.returncode == 1
    assert run.stderr.count("alo_...") >= 5
    assert not SECRETS.search(run.stderr), run.stderr
    if format == "json":
        assert "ValueError" in json.loads(run.stderr.splitlines()[1])["exception"]
