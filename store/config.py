"""Every environment variable that the processes read, with its default. README.md prints this table."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from urllib.parse import urlsplit

from store.postgres import is_url


class ConfigError(Exception):
    """A variable has a value that cannot be used; the text names the variable and what it should be."""


@dataclass(frozen=True, slots=True)
class Config:
    """The configuration of one process. Field `x_y` is read from the variable `X_Y`."""

    host: str = "127.0.0.1"
    """Address that `web` and `socket` listen on; 0.0.0.0 to be reached from elsewhere."""
    port: int = 8000
    """Port of `web` (HTTP)."""
    socket_port: int = 8001
    """Port of `socket` (WebSocket)."""
    database_url: str = "postgresql://postgres@127.0.0.1:5432/postgres"
    """Postgres 15 or newer, as a libpq URL or DSN; several hosts allowed."""
    database_pool: int = 8
    """Postgres connections of one process."""
    redis_url: str = "redis://127.0.0.1:6379/0"
    """Redis 6.2 or newer: redis://, rediss:// (TLS) or unix://."""
    offline_notice_url: str = ""
    """Webhook that is told of users who have undelivered messages; empty: they are logged."""
    offline_notice_after_s: float = 10.0
    """Debounce window: how long a message may stay undelivered before its recipients are notified."""
    log_level: str = "info"
    """debug, info, warning or error. Logs are JSON lines on stderr."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Config:
        """
        :raises ConfigError: if a number is not one, or out of range, or a URL not of a kind that can be used.
        """
        values: dict[str, object] = {}
        for field in fields(cls):
            name = field.name.upper()
            text = environment.get(name, "")
            if not text:
                continue
            convert = {"int": int, "float": float, "str": str}[str(field.type)]
            try:
                values[field.name] = convert(text)
            except ValueError:
                raise ConfigError(f"{name} must be a number, not {text!r}") from None
        config = cls(**values)  # type: ignore[arg-type]
        config._check()
        return config

    def _check(self) -> None:
        for name in ("port", "socket_port"):
            if not 0 <= getattr(self, name) <= 65535:
                raise ConfigError(f"{name.upper()} must be a port number, 0 to 65535")
        if self.database_pool < 2:
            raise ConfigError(
                "DATABASE_POOL must be at least 2: one connection commits sends, the others serve the rest"
            )
        if not 0 < self.offline_notice_after_s < 86400:
            raise ConfigError("OFFLINE_NOTICE_AFTER_S must be more than 0 and less than a day")
        if not is_url(self.database_url):
            raise ConfigError(
                "DATABASE_URL must be a libpq URL (postgresql://...) or DSN, with one port or a port per host"
            )
        if not _has_scheme(self.redis_url, "redis", "rediss", "unix"):
            raise ConfigError("REDIS_URL must be a redis://, rediss:// or unix:// URL")
        if self.offline_notice_url and not _has_scheme(self.offline_notice_url, "http", "https"):
            raise ConfigError("OFFLINE_NOTICE_URL must be an http:// or https:// URL, or empty")
        if self.log_level not in ("debug", "info", "warning", "error"):
            raise ConfigError("LOG_LEVEL must be debug, info, warning or error")


def _has_scheme(url: str, *schemes: str) -> bool:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  (raises if it is no number)
    except ValueError:
        return False
    return parts.scheme in schemes and bool(parts.netloc or parts.path)
