"""Checks of this machine: open files, disks, and the object store as it is reached from here."""

from __future__ import annotations

import resource
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

from runtime.config import Config
from runtime.open_files import OTHER_FILES
from server.cli.checks.database import check_clock
from server.cli.checks.finding import Finding, error, ok, warning
from store.errors import StoreError
from store.objects.folder import Folder
from store.objects.s3 import S3
from store.objects.service_clock import SUSPICIOUS_S
from store.objects.url import open_objects

FEW_FILES: Final = 4096
"""Connections that one process should have room for."""

_OWN_VIEW: Final = "/proc/self/"
"""A path that leads each process elsewhere; `make run` gives Postgres one."""

LOW: Final = 0.10
FULL: Final = 0.03
"""The free share of a disk: below the first the check warns, below the second it reports an error."""


def check_open_files() -> Iterator[Finding]:
    """The limit of open files, as processes get it that are started like this command."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or hard >= FEW_FILES:
        shown = "no limit" if hard == resource.RLIM_INFINITY else f"{hard}"
        yield ok("open files", f"{shown}; each connection takes one (systemd units may have another limit)")
    else:
        advice = "set LimitNOFILE=65536 in the units, or ulimit -Hn, for those that start the processes"
        yield warning("open files", f"{hard}, so room for {max(0, hard - OTHER_FILES)} connections", advice)


def check_disk(name: str, folder: Path, hint: str) -> Finding:
    """
    :param hint: what to do, if the disk is almost full.
    """
    try:
        usage = shutil.disk_usage(folder)
    except OSError as fault:
        return error(name, f"{folder}: {fault.strerror or fault}", "mount the disk, or correct the path")
    free = usage.free / usage.total if usage.total else 0.0
    text = f"{folder}: {usage.free // 1024**2} MiB of {usage.total // 1024**2} are free ({free:.0%})"
    if free < FULL:
        return error(name, text, hint)
    return warning(name, text, hint) if free < LOW else ok(name, text)


def check_database_disk(data_directory: str | None) -> Finding:
    """Postgres' disk, where this machine has it.

    :param data_directory: None: the role may not know it.
    """
    name = "disk of Postgres"
    if data_directory is None or data_directory.startswith(_OWN_VIEW) or not Path(data_directory).is_dir():
        # On another machine, in a container, or not for this role to know: there is nothing to do here.
        return ok(name, "not visible from here: watch it on Postgres' own machine")
    hint = "make room: Postgres stops when its disk is full. Look for slots that keep WAL, and for pg_wal itself"
    return check_disk(name, Path(data_directory), hint)


async def check_objects(config: Config) -> AsyncIterator[Finding]:
    """The object store: whether it answers, its clock, and the disk of a folder."""
    name = "object store"
    if not config.object_store_url:
        yield ok(name, "none: OBJECT_STORE_URL is empty, so there are no attachments, archives and exports")
        return
    try:
        async with open_objects(config.object_store_url, config.public_files_url, config.files_url) as objects:
            assert objects is not None
            await objects.list("", "", 1)
            yield ok(name, f"{objects} answers")
            if isinstance(objects, Folder):
                hint = "make room, or move the folder: uploads fail when the disk is full"
                yield check_disk("disk of files", Path(str(objects)), hint)
            if isinstance(objects, S3):
                yield check_clock("the object store", objects.clock_lead_s, SUSPICIOUS_S)
    except StoreError as fault:
        yield error(name, str(fault), "correct OBJECT_STORE_URL, or the rights of its key (docs/object-store.md)")
