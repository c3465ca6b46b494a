"""Debian's node_exporter and blackbox_exporter, which Prometheus asks by the configuration of `ops/prometheus/`, and a
small disk that the first one sees."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple

from embedded.ports import free_port
from tests.programs import running_program
from tests.proxies import ROOT

_INSTALLED: Final = ROOT / ".venv" / "exporters" / "usr" / "bin"


def _program(name: str) -> str | None:
    return shutil.which(_INSTALLED / name) or shutil.which(name)


NODE_EXPORTER: Final = _program("prometheus-node-exporter")
BLACKBOX_EXPORTER: Final = _program("prometheus-blackbox-exporter")
"""The programs that `make ops` installs, or the machine's; None: there are neither."""

DISK_BYTES: Final = 16 << 20

_NAMESPACE: Final = ("unshare", "--user", "--map-root-user", "--mount")

# The first argument is the folder, the others are the command.
_MOUNT_AND_RUN: Final = f'mount -t tmpfs -o size={DISK_BYTES} small "$0" && exec "$@"'


class SmallDisk(NamedTuple):
    """A file system of `DISK_BYTES` in memory.

    Only processes in the mount namespace of node_exporter have it in their tree of files, so that no user needs root
    to mount it. Others reach it by the link that Linux has for the root of a process.

    :ivar path: for processes of this test.
    :ivar mountpoint: as node_exporter names it.
    :ivar exporter: the address of node_exporter.
    """

    path: Path
    mountpoint: str
    exporter: str

    @property
    def _filler(self) -> Path:
        return self.path / "filler"

    def fill(self, *, free: float) -> None:
        """Leave this share of it free."""
        usage = shutil.disk_usage(self.path)
        with self._filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, usage.free - round(free * usage.total))

    def clear(self) -> None:
        self._filler.unlink()


def may_mount() -> bool:
    """Whether users of this machine may mount a disk, in a namespace of their own. Containers often bar it."""
    return subprocess.run([*_NAMESPACE, "true"], check=False, capture_output=True).returncode == 0


@asynccontextmanager
async def small_disk(folder: Path) -> AsyncGenerator[SmallDisk, None]:
    """A small disk, and a node_exporter that sees it, until the end of the block. If users may not mount one, it
    is an ordinary folder, which the exporter does not show.

    :param folder: over which it is mounted; it must not be there yet.
    """
    assert NODE_EXPORTER is not None, "`make ops` installs it"
    own = folder.with_name("proc")
    _prepare(folder, own)
    address = f"127.0.0.1:{free_port()}"
    exporter = [
        *(NODE_EXPORTER, f"--web.listen-address={address}", "--log.level=error"),
        *("--collector.disable-defaults", "--collector.filesystem", f"--path.procfs={own}"),
    ]
    mount = [*_NAMESPACE, "sh", "-c", _MOUNT_AND_RUN, str(folder)] if may_mount() else []
    async with running_program([*mount, *exporter], int(address.rpartition(":")[2])) as process:
        path = Path(f"/proc/{process.pid}/root{folder}") if mount else folder
        yield SmallDisk(path, str(folder), address)


def _prepare(folder: Path, own: Path) -> None:
    """
    :param own: for node_exporter, in place of /proc: it asks for the mounts of process 1, which has another namespace.
    """
    folder.mkdir()
    (own / "1").mkdir(parents=True)
    for name in ("mounts", "mountinfo"):
        (own / "1" / name).symlink_to(f"/proc/self/{name}")


@asynccontextmanager
async def running_blackbox(folder: Path, authority: Path, factor: float) -> AsyncGenerator[str, None]:
    """A blackbox_exporter that trusts an authority, until the end of the block; its address.

    :param factor: by which the clock of its Prometheus is faster: it answers half a second, divided by that, before
        Prometheus stops waiting.
    """
    assert BLACKBOX_EXPORTER is not None, "`make ops` installs it"
    file, address = folder / "blackbox.yml", f"127.0.0.1:{free_port()}"
    # As Debian's own, but that the proxies of tests have no IPv6.
    module = {"prober": "http", "http": {"preferred_ip_protocol": "ip4"}}
    file.write_text(json.dumps({"modules": {"http_2xx": module}}))
    command = [
        *(BLACKBOX_EXPORTER, f"--config.file={file}", f"--web.listen-address={address}"),
        *(f"--timeout-offset={0.5 / factor:.3f}", "--log.level=error"),
    ]
    environment = {**os.environ, "SSL_CERT_FILE": str(authority)}
    async with running_program(command, int(address.rpartition(":")[2]), environment):
        yield address
