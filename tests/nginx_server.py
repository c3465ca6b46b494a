"""Debian's nginx, with the configuration that docs/deployment.md recommends, in front of processes of a test."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import trio

from embedded.ports import free_port
from tests.waiting import wait_until

ROOT: Final = Path(__file__).parent.parent
DOCUMENT: Final = ROOT / "docs" / "deployment.md"

NGINX: Final = shutil.which(ROOT / ".venv" / "nginx" / "usr" / "sbin" / "nginx") or shutil.which("nginx")
"""The program that `make nginx` installs, or the machine's; None: there is neither."""

_MAIN: Final = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log error;
events {{ worker_connections 512; }}
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    access_log off;
{recommended}
}}
"""


def recommended() -> str:
    """The configuration in docs/deployment.md, to be included in `http`."""
    [block] = re.findall(r"^```nginx\n(.*?)^```", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    return str(block)


def _for_a_test(text: str, port: int, addresses: dict[str, str], more: str) -> str:
    """The recommended configuration on a port of this machine, without TLS, for servers at other addresses.

    :param more: directives for the server.
    """
    text = re.sub(r"^ *ssl_.*\n", "", text, flags=re.MULTILINE)
    text = re.sub(r"listen 443 ssl.*;", f"listen 127.0.0.1:{port}; {more}", text)
    for name, address in addresses.items():
        text = text.replace(name, address)
    return text


@asynccontextmanager
async def running_nginx(folder: Path, addresses: dict[str, str], more: str = "") -> AsyncGenerator[str, None]:
    """nginx until the end of the block; gives its URL.

    :param folder: for its files and `error.log`.
    :param addresses: those of docs/deployment.md -> those of the test.
    :param more: directives for the server.
    """
    assert NGINX is not None, "`make nginx` installs it"
    port = free_port()
    file = folder / "nginx.conf"
    file.write_text(_MAIN.format(folder=folder, recommended=_for_a_test(recommended(), port, addresses, more)))
    command = [NGINX, "-p", str(folder), "-c", str(file)]
    async with trio.open_nursery() as nursery:
        process: trio.Process = await nursery.start(_run, command)
        await wait_until(lambda: _listens(process, port), "nginx listens")
        yield f"http://127.0.0.1:{port}"
        nursery.cancel_scope.cancel()


async def _run(command: list[str], *, task_status: trio.TaskStatus[Any]) -> None:
    await trio.run_process(command, check=False, stdin=subprocess.DEVNULL, task_status=task_status, deliver_cancel=_end)


async def _end(process: trio.Process) -> None:
    process.terminate()


async def _listens(process: trio.Process, port: int) -> bool:
    assert process.returncode is None, "nginx has ended"
    try:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
    except OSError:
        return False
    await stream.aclose()
    return True
