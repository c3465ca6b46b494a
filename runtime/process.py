"""Runs a process, from its configuration to its exit status."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

import structlog
import trio

from runtime.config import Config, ConfigError
from runtime.config_sources import misspelled
from runtime.error_reports import open_error_reports
from runtime.log import configure_logging
from runtime.open_files import raise_limit
from runtime.redaction import redacted
from store.errors import DatabaseError, EvictingRedis, PoolerRefused

if TYPE_CHECKING:
    from runtime.sentry import SentryReports

COLLECT_AFTER: Final = (10_000, 4, 1)
"""`gc.set_threshold`: objects that are made, and not freed, before the collector looks at the youngest ones, instead
of 700. Some thousands belong to requests in flight, and are freed without it: for 65,000 sends, 500 in flight, the
collector looked at them 731 times, and 15 times with this. A full collection still comes after about 100,000 objects;
connections that have ended do not wait for it (`runtime.collector`)."""


def run_process(
    name: str, main: Callable[[Config], Awaitable[object]], *told: type[Exception], level: str = ""
) -> None:
    """Run a process to its end. Errors that an operator can mend end it with a sentence, others with a traceback. A
    `DatabaseError` is a fault of the program, even if `told` has `StoreError`.

    :param told: types of errors that an operator can mend, besides those of the configuration.
    :param level: of the log, instead of the configured one.
    """

    def is_told(error: BaseException) -> bool:
        return isinstance(error, (ConfigError, PoolerRefused, EvictingRedis, *told)) and not isinstance(
            error, DatabaseError
        )

    reports: SentryReports | None = None
    try:
        config = Config.from_environment()
        reports = open_error_reports(config, name)
        configure_logging(name, level or config.log_level, config.log_format, reports)
        _warn_of_misspelled()
        raise_limit()
        _spare_collector()
        trio.run(main, config)
    except Exception as error:
        mendable = _first_told(error, is_told)
        if mendable is None:
            if reports is not None:
                reports.died(error)
            raise
        sys.exit(redacted(str(mendable)))
    finally:
        if reports is not None:
            reports.close()


def _warn_of_misspelled() -> None:
    """One line for all variables that seem to be ours and are read by no process."""
    if found := list(misspelled(os.environ)):
        structlog.get_logger(__name__).warning("variables_not_read", variables=[str(each) for each in found])


def tell_ready(config: Config) -> None:
    """Tell the runner of this process that it serves, and that its start is logged."""
    if config.ready_line:
        sys.stderr.write(f"{config.ready_line}\n")
        sys.stderr.flush()


def _spare_collector() -> None:
    """Take the modules off the garbage collector's lists: they live as long as the process. Otherwise each full
    collection looks at their 90,000 objects, too, and the process serves no client for 60 ms. Objects that reference
    counts free are not its business either (`COLLECT_AFTER`)."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)


def _first_told(error: Exception, is_told: Callable[[BaseException], bool]) -> BaseException | None:
    """The error that an operator can mend; None if the error is none, or a group that has others."""
    if not isinstance(error, ExceptionGroup):
        return error if is_told(error) else None
    errors, rest = error.split(is_told)
    return None if errors is None or rest is not None else _first(errors)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
