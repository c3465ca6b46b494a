"""What the command line remembers between runs: one file for each name, readable by its owner alone."""

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


def path_of(username: str) -> Path:
    """`$XDG_CONFIG_HOME/alo-shield/NAME.json`, or below `~/.config`; the name is escaped, so it stays in there."""
    base = os.environ.get("XDG_CONFIG_HOME")
    root = Path(base) if base else Path.home() / ".config"
    return root / "alo-shield" / f"{quote(username, safe='')}.json"


def save(username: str, credentials: Credentials) -> None:
    """Remember a login in place of an earlier one; the token is never in a file that others may read."""
    path = path_of(username)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    data = msgspec.json.encode(_File(credentials.user.hex(), credentials.device.hex(), credentials.token))
    # Temporary files are made with mode 600, and renaming keeps that; half a file is never seen.
    with NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(data)
    os.replace(file.name, path)


def load(username: str) -> Credentials | None:
    """The login of that name; None if there is none that can be read."""
    try:
        file = msgspec.json.decode(path_of(username).read_bytes(), type=_File)
        return Credentials(bytes.fromhex(file.user), bytes.fromhex(file.device), file.token)
    except (FileNotFoundError, msgspec.DecodeError, ValueError):
        return None
