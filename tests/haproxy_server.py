"""Debian's HAProxy with the configuration of `ops/haproxy/`, in front of processes of a test."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from embedded.ports import free_port
from tests.programs import running_program
from tests.proxies import ROOT, Certificate, Servers

RECOMMENDED: Final = ROOT / "ops" / "haproxy" / "haproxy.cfg"

_INSTALLED: Final = ROOT / ".venv" / "ops"

HAPROXY: Final = shutil.which(_INSTALLED / "usr" / "sbin" / "haproxy") or shutil.which("haproxy")
"""The program that `make ops` installs, or the machine's; None: there is neither."""


def environment() -> Mapping[str, str]:
    """With the libraries that were installed beside the program."""
    libraries = [str(folder) for folder in sorted(_INSTALLED.glob("usr/lib/*-linux-gnu*"))]
    return {**os.environ, "LD_LIBRARY_PATH": os.pathsep.join(libraries)}


def for_a_test(text: str, port: int, servers: Servers, certificate: Certificate) -> str:
    """The recommended configuration on a port of this machine, for other servers, and for few connections: HAProxy ends
    if it may not open two files for each."""
    text = text.replace("maxconn 50000", "maxconn 1000")
    text = text.replace("bind :443 ", f"bind 127.0.0.1:{port} ")
    text = text.replace("/etc/ssl/private/chat.example.pem", str(certificate.both))
    for name, addresses in servers.items():
        [lines] = re.findall(rf"(?:^    server {name}\d .*\n)+", text, re.MULTILINE)
        line = lines.splitlines(keepends=True)[0]
        own = (
            re.sub(r"127\.0\.0\.1:\d+", address, line).replace(f"{name}1", f"{name}{number}")
            for number, address in enumerate(addresses, start=1)
        )
        text = text.replace(lines, "".join(own))
    return text


@asynccontextmanager
async def running_haproxy(
    folder: Path, servers: Servers, certificate: Certificate, *, port: int = 0
) -> AsyncGenerator[str, None]:
    """HAProxy until the end of the block; gives its URL.

    :param folder: for its configuration.
    :param servers: `web` and `socket` -> the addresses of their processes.
    :param port: on which it listens; 0: any free one.
    """
    assert HAPROXY is not None, "`make ops` installs it"
    file = folder / "haproxy.cfg"
    port = port or free_port()
    file.write_text(for_a_test(RECOMMENDED.read_text(), port, servers, certificate))
    async with running_program([HAPROXY, "-db", "-f", str(file)], port, environment()):
        yield f"https://localhost:{port}"
