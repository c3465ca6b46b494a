"""The logins of the command line: a file for each server and name, readable by its owner alone."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import NamedTemporaryFile
from urllib.parse import quote

import msgspec
from msgspec import Struct

from client.http import Credentials


class _File(Struct, frozen=True):
    user: str
    device: str
    token: str
    renewed: float = 0.0


def path_of(server: str, username: str) -> Path:
    """`$XDG_CONFIG_HOME/alo-shield/SERVER/NAME.json`, or below `~/.config`; both are escaped, so it stays in there.

    :param server: its HTTP URL. Another server must not see the token, and may have the same names.
    """
    base = os.environ.get("XDG_CONFIG_HOME")
    root = Path(base) if base else Path.home() / ".config"
    return root / "alo-shield" / _escaped(server.rstrip("/")) / f"{_escaped(username)}.json"


def _escaped(text: str) -> str:
    return quote(text, safe="", errors="surrogatepass").replace(".", "%2E")


def save(server: str, username: str, credentials: Credentials) -> None:
    """Store a login in place of an earlier one; the token is never in a file that others may read."""
    path = path_of(server, username)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    data = msgspec.json.encode(
        _File(credentials.user.hex(), credentials.device.hex(), credentials.token, credentials.renewed)
    )
    # Temporary files have mode 600, and renaming keeps that; readers never see half a file.
    with NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(data)
        # The new token must outlive the machine's power before a server sees it: after that the old one ends.
        file.flush()
        os.fsync(file.fileno())
    os.replace(file.name, path)


def forget(server: str, username: str) -> None:
    """Remove the login of that name at that server, if there is one."""
    path_of(server, username).unlink(missing_ok=True)


def load(server: str, username: str) -> Credentials | None:
    """The login of that name at that server; None if no file can be read."""
    try:
        file = msgspec.json.decode(path_of(server, username).read_bytes(), type=_File)
        return Credentials(bytes.fromhex(file.user), bytes.fromhex(file.device), file.token, file.renewed)
    except (OSError, msgspec.DecodeError, ValueError):
        return None
