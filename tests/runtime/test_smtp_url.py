"""URLs of mail servers: valid ones, and invalid ones, whose error repeats no password."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from runtime.smtp_url import SmtpUrl, parse_smtp_url, smtp_url_fault
from tests.rows import each_row


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("smtp://mail.example", SmtpUrl("mail.example", 587, "starttls")),
        ("smtps://mail.example/", SmtpUrl("mail.example", 465, "implicit")),
        ("SMTP://a%40b:p%3A%2F%40@mail.example:25", SmtpUrl("mail.example", 25, "starttls", "a@b", "p:/@")),
        ("smtp://[::1]:2525?tls=none", SmtpUrl("::1", 2525, "none")),
        ("smtps://h?ca=%2Fetc/my%20ca.pem", SmtpUrl("h", 465, "implicit", ca="/etc/my ca.pem")),
    ],
)
def test_url_means(url: str, expected: SmtpUrl) -> None:
    parsed = parse_smtp_url(url)
    assert parsed == expected
    assert "p:/@" not in f"{parsed} {parsed!r}"


@each_row(
    ("url", "what"),
    [
        ("mail.example", "smtp:// or smtps://"),
        ("http://secret@h", "smtp:// or smtps://"),
        ("smtp://a:secret#b@h", "%23"),
        ("smtp://a:secret/b@h", "%2F"),
        ("smtp://a:secret@b@h", "%40"),
        ("smtp://secret@h", "smtp:// or smtps://"),
        ("smtp://:secret@h", "both a user and a password"),
        ("smtp://ü:secret@h", "of ASCII"),
        ("smtp://a:secret@", "must have a host"),
        ("smtp://h:0", "port of 1 to 65535"),
        ("smtp://h:65536", "port of 1 to 65535"),
        ("smtp://a:secret@h?tls=none", "without a password"),
        ("smtps://h?tls=none", "must be smtp://"),
        ("smtp://h?tls=none&ca=/x", "must be smtp://"),
        ("smtp://h?tls=maybe", "nothing in its query but"),
        ("smtp://h?secret=1", "nothing in its query but"),
        ("smtp://h?ca=/nowhere/ca.pem", "a readable file of certificates as ca: No such file"),
    ],
)
def test_url_that_cannot_be_used_is_refused(url: str, what: str) -> None:
    fault = smtp_url_fault(url)
    assert what in fault
    assert "secret" not in fault


def test_file_without_authorities_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    assert "a readable file of certificates" in smtp_url_fault(f"smtp://h?ca={tmp_path}/ca.pem")


@pytest.mark.parametrize("url", ["smtp://h", "smtps://h"])
def test_certificates_and_names_are_checked(url: str) -> None:
    context = parse_smtp_url(url).context()
    assert context is not None
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
