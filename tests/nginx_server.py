"""Debian's nginx with the configuration of `ops/nginx/`, in front of processes of a test."""

from __future__ import annotations

import re
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from embedded.ports import free_port
from tests.programs import running_program
from tests.proxies import ROOT, Certificate, Servers

RECOMMENDED: Final = ROOT / "ops" / "nginx" / "alo.conf"

NGINX: Final = shutil.which(ROOT / ".venv" / "nginx" / "usr" / "sbin" / "nginx") or shutil.which("nginx")
"""The program that `make nginx` installs, or the machine's; None: there is neither."""

_MAIN: Final = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log error;
events {{ worker_connections 2048; }}
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


def _for_a_test(text: str, port: int, servers: Servers, more: str, certificate: Certificate | None) -> str:
    """The recommended configuration on a port of this machine, for other servers, and without TLS if there is no
    certificate."""
    text = re.sub(r"^ *listen \[::\].*\n", "", text, flags=re.MULTILINE)
    if certificate is None:
        text = re.sub(r"^ *ssl_.*\n", "", text, flags=re.MULTILINE)
        text = text.replace("listen 443 ssl http2;", f"listen 127.0.0.1:{port}; {more}")
    else:
        text = text.replace("listen 443 ssl http2;", f"listen 127.0.0.1:{port} ssl http2; {more}")
        text = text.replace("/etc/ssl/chat.example.pem", str(certificate.chain))
        text = text.replace("/etc/ssl/private/chat.example.key", str(certificate.key))
    for name, addresses in servers.items():
        [block] = re.findall(rf"^upstream {name} {{\n.*?^}}\n", text, re.MULTILINE | re.DOTALL)
        [lines] = re.findall(r"(?:^ *server .*\n)+", block, re.MULTILINE)
        line = lines.splitlines(keepends=True)[0]
        own = "".join(re.sub(r"127\.0\.0\.1:\d+", address, line) for address in addresses)
        text = text.replace(block, block.replace(lines, own))
    return text


@asynccontextmanager
async def running_nginx(
    folder: Path, servers: Servers, more: str = "", *, certificate: Certificate | None = None, port: int = 0
) -> AsyncGenerator[str, None]:
    """nginx until the end of the block; gives its URL.

    :param folder: for its files and `error.log`.
    :param servers: name of an upstream -> the addresses of its servers; other upstreams stay as they are.
    :param more: directives for the server.
    :param certificate: of the server; None: it has no TLS, and no HTTP/2.
    :param port: on which it listens; 0: any free one.
    """
    assert NGINX is not None, "`make nginx` installs it"
    file, port = folder / "nginx.conf", port or free_port()
    recommended = _for_a_test(RECOMMENDED.read_text(), port, servers, more, certificate)
    file.write_text(_MAIN.format(folder=folder, recommended=recommended))
    async with running_program([NGINX, "-p", str(folder), "-c", str(file)], port):
        yield f"https://localhost:{port}" if certificate else f"http://127.0.0.1:{port}"
