"""Takes secrets and personal data out of texts before they are logged.

It is the second net. The first is that no line names such a value: a request is logged by the rule of its route and not
by its path, a service by host and port, an error of Postgres without the values of its row. But errors of libraries and
tracebacks have texts that we do not write.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from structlog.typing import EventDict, WrappedLogger

_RULES: Final = (
    # Our tokens (`store.tokens.TOKEN_PREFIX`): of devices, and in the links of mails.
    (re.compile(r"\balo_[A-Za-z0-9_-]{40,}"), "alo_..."),
    # JWTs: of an external issuer, and those that the server shows to push services. They begin with `{"` in base64url.
    (re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*(\.[A-Za-z0-9_-]*)*"), "eyJ..."),
    (re.compile(r"\bwhsec_[A-Za-z0-9+/=]+"), "whsec_..."),
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}"), r"\1 ..."),
    # Signatures of requests to an object store: whoever has one may send the request.
    (re.compile(r"(?i)(signature\s?=\s?)(?!\.\.\.)[^\s&'\",)]+"), r"\1..."),
    # User and password of a URL.
    (re.compile(r"\b([a-z][a-z0-9+.-]*://)[^\s/@'\"]*@", re.IGNORECASE), r"\1...@"),
    # The path and the query of a URL: those of webhooks and push services are secrets of their users.
    (re.compile(r"\b(https?://[^\s/?#'\"<>)]+)[/?#][^\s'\"<>)]+", re.IGNORECASE), r"\1/..."),
    (
        re.compile(r"(?i)\b(\w*(?:password|passwd|secret|token))\s?=\s?(?!\.\.\.)('[^']*'|\"[^\"]*\"|[^\s&'\",)]+)"),
        r"\1=...",
    ),
    # Values of a row in an error of Postgres.
    (re.compile(r"(Key \([^()]*\)=)\(.*?\)(?= |$)", re.MULTILINE), r"\1(...)"),
    (re.compile(r"(Failing row contains )\(.*\)", re.DOTALL), r"\1(...)"),
    # E-mail addresses.
    (re.compile(r"[^\s<>\"'@=(),;:/]+@(?=[^\s<>\"'@(),;:]*\.)[^\s<>\"'@(),;:/]+"), "...@..."),
)

_NAMES: Final = frozenset(("id", "event", "level", "timestamp", "process", "request_id", "trace_id"))
"""Fields whose values are ours. `id` is the Message-ID of a mail, which looks like an address."""


def redacted(text: str) -> str:
    """The text with `...` in place of tokens, passwords, paths of URLs, values of rows and e-mail addresses."""
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return text


def redact(logger: WrappedLogger, method: str, line: EventDict) -> EventDict:
    """A processor of structlog, after the one that writes tracebacks as texts."""
    return {key: value if key in _NAMES else _redacted_value(value) for key, value in line.items()}


def _redacted_value(value: Any) -> Any:
    match value:
        case str():
            return redacted(value)
        case Mapping():
            return {key: _redacted_value(each) for key, each in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_redacted_value(each) for each in value]
        case _:
            return value
