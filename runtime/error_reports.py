"""Reports of errors to Sentry, if a DSN is configured. Without one nothing of it is imported."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runtime.config import Config, ConfigError

if TYPE_CHECKING:
    from runtime.sentry import SentryReports


def open_error_reports(config: Config, process: str) -> SentryReports | None:
    """The reports of a process; the caller closes them. None if no DSN is configured.

    :raises ConfigError: if one is configured and the packages are missing.
    """
    if not config.sentry_dsn:
        return None
    try:
        from runtime.sentry import SentryReports
    except ImportError as error:
        raise ConfigError(
            "SENTRY_DSN needs the packages of the extra `tracing`, or must be empty:"
            f" python -m embedded.requirements install tracing ({error.name} is missing)"
        ) from None
    return SentryReports(config.sentry_dsn, process)
