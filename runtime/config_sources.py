"""Where each value of the configuration comes from, with secrets masked; and variables that only look like ours."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from difflib import get_close_matches
from typing import Final, NamedTuple

from runtime.config import Config
from runtime.old_variables import OLD_REDIS, old_redis
from runtime.redaction import redacted

MASK: Final = "..."

SECRETS: Final = frozenset(("external_secret", "ops_token", "offline_notice_secret", "vapid_private_key", "sentry_dsn"))
"""Fields that are secrets as a whole."""

FILES: Final = frozenset(("apns_key", "fcm_credentials"))
"""Fields that are a secret, or the path of a file that holds it."""

URLS: Final = frozenset(
    (
        "database_url",
        "database_replica_urls",
        "redis_url",
        "redis_bus_url",
        "redis_jobs_url",
        "object_store_url",
        "smtp_url",
    )
)
"""Fields with URLs that may have a login. What they have beside it is shown."""

SECRET_URLS: Final = frozenset(("offline_notice_url",))
"""Fields with URLs whose path may be a secret, too."""

OURS: Final = (
    *("APNS_", "ATTACHMENT_", "EXTERNAL_", "FCM_", "METRICS_", "NOTIFIER_", "OFFLINE_NOTICE_", "RETENTION_"),
    *("SECURITY_EVENTS_", "SMTP_", "VAPID_"),
)
"""A variable that begins so is meant for this product. Other programs have names such as REDIS_X and LOG_X, too, so of
those only a name that is almost one of ours counts."""

ALIKE: Final = 0.86
"""How alike a name must be to count as a misspelled one, as difflib measures it: one letter in seven may differ."""

_LOGIN: Final = re.compile(r"^([a-z][a-z0-9+.-]*)://(.*)@", re.IGNORECASE | re.DOTALL)
_QUERY_SECRET: Final = re.compile(r"(?i)([?&][^=&]*(?:password|secret|token)[^=&]*=)[^&]*")
_DSN_SECRET: Final = re.compile(r"(?i)\b(\w*password)\s*=\s*('(?:[^'\\]|\\.)*'?|(?:[^\s\\]|\\.)*)")
_LINKS: Final = re.compile(r"_SERVICE_(HOST|PORT)|_PORT_\d+_(TCP|UDP)")
"""Kubernetes and Docker set such variables for each service beside."""


class Setting(NamedTuple):
    """One variable as a process reads it.

    :ivar value: for people: secrets are masked.
    :ivar source: `default`, `environment`, `file PATH`, or the old variables that it comes from.
    """

    name: str
    value: str
    source: str


class Misspelled(NamedTuple):
    """A variable that is set and that no process reads.

    :ivar meant: the names that are like it, the closest first; empty: none is.
    """

    name: str
    meant: list[str]

    def __str__(self) -> str:
        if self.meant:
            return f"{self.name} is not read: do you mean {' or '.join(self.meant)}?"
        return f"{self.name} is not read: docs/configuration.md lists the variables"


def settings_of(config: Config, environment: Mapping[str, str]) -> list[Setting]:
    """Each variable of the configuration, in the order of the documentation.

    :param environment: from which the configuration was made.
    """
    found = []
    for field in fields(config):
        name, value = field.name.upper(), getattr(config, field.name)
        found.append(Setting(name, _masked(field.name, value), _source(field.name, value, environment)))
    return found


def misspelled(environment: Mapping[str, str]) -> Iterator[Misspelled]:
    """The variables that seem to be meant for this product, and are none of it."""
    known = [field.name.upper() for field in fields(Config)]
    for name in sorted(environment):
        if name in known or name in OLD_REDIS or not environment[name] or _LINKS.search(name):
            continue
        meant = get_close_matches(name.upper(), known, n=2, cutoff=ALIKE)
        if meant or name.upper().startswith(OURS):
            yield Misspelled(name, meant)


def _source(field: str, value: object, environment: Mapping[str, str]) -> str:
    if field == "redis_url" and not environment.get("REDIS_URL") and (old := old_redis(environment)):
        return f"environment: {', '.join(old)}"
    if not environment.get(field.upper()):
        return "default"
    return f"file {value}" if field in FILES and _is_path(str(value)) else "environment"


def _masked(field: str, value: object) -> str:
    text = f"{value:.15g}" if isinstance(value, float) else str(value)
    if not text:
        return ""
    if field in SECRETS or (field in FILES and not _is_path(text)):
        return MASK
    if field in URLS:
        # Several URLs are separated by spaces, and so are the parts of a DSN.
        return " ".join(map(_without_login, text.split())) if "://" in text else _without_login(text)
    return redacted(text) if field in SECRET_URLS else text


def _without_login(url: str) -> str:
    """A URL or DSN without user and password."""
    if "://" not in url:
        return _DSN_SECRET.sub(rf"\1={MASK}", url)
    return _QUERY_SECRET.sub(rf"\1{MASK}", _LOGIN.sub(rf"\1://{MASK}@", url))


def _is_path(text: str) -> bool:
    """Whether the text names a file, and is not what such a file holds."""
    return "\n" not in text and not text.startswith(("{", "-----"))
