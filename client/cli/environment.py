"""Variables of the environment that commands read."""

from __future__ import annotations

import os
from typing import Final

from client.cli.console import CommandFailure

DEFAULT_HTTP_URL: Final = "http://127.0.0.1:8000"


DEFAULT_SOCKET_URL: Final = "ws://127.0.0.1:8001"


EXTERNAL_TOKEN: Final = "ALO_EXTERNAL_TOKEN"  # noqa: S105  (a name)


VARIABLES: Final = {
    "ALO_HTTP_URL": f"the server for accounts, lists and history (default {DEFAULT_HTTP_URL})",
    "ALO_SOCKET_URL": f"the gateway for live chats (default {DEFAULT_SOCKET_URL}); several, separated by commas, are"
    " tried in turn",
    "ALO_PASSWORD": "the password; without it you are asked",
    "ALO_PASSPHRASE": "the passphrase of the keys on this machine, if it is another one than the password",
    "ALO_NEW_PASSWORD": "the new password, for `password`; without it you are asked",
    EXTERNAL_TOKEN: "a token of the external issuer, for `login --external-token`; without it you are asked. It is"
    " also shown where the server wants the password again",
    "SSL_CERT_FILE": "certificate authorities in PEM, in place of the system's, for addresses with https: and wss:",
}
"""Variable of the environment -> its use."""


def http_url() -> str:
    """The server for HTTP."""
    return os.environ.get("ALO_HTTP_URL") or DEFAULT_HTTP_URL


def socket_urls() -> list[str]:
    """The gateways."""
    urls = os.environ.get("ALO_SOCKET_URL") or DEFAULT_SOCKET_URL
    found = [url.strip() for url in urls.split(",") if url.strip()]
    if not found:
        raise CommandFailure("ALO_SOCKET_URL must be addresses of gateways, separated by commas; it has none")
    return found
