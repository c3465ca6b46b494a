"""The logins of the command line: a file for each server and name, readable by its owner alone."""

from __future__ import annotations

import fcntl
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Final
from urllib.parse import quote

import msgspec
import trio
from msgspec import Struct

from client.errors import LoginBusy
from client.http import Credentials

LOCK_TIMEOUT_S: Final = 30.0
"""For another program's renewal, which has 15 s for its request; a stopped program keeps the lock."""

_LOCK_POLL_S: Final = 0.05


class _File(Struct, frozen=True):
    user: str
    device: str
    token: str
    renewed: float = 0.0


class LoginFile:
    """The login of one name at one server; a `client.renewal.LoginStore` for all programs of this user.

    :param server: its HTTP URL. Another server must not see the token, and may have the same names.
    :ivar path: `$XDG_CONFIG_HOME/alo-shield/SERVER/NAME.json`, or below `~/.config`; both are escaped, so it stays in
        there.
    """

    def __init__(self, server: str, username: str) -> None:
        base = os.environ.get("XDG_CONFIG_HOME")
        root = Path(base) if base else Path.home() / ".config"
        self.path: Final = root / "alo-shield" / _escaped(server.rstrip("/")) / f"{_escaped(username)}.json"

    def load(self) -> Credentials | None:
        """The login as it is stored now; None if no file can be read."""
        try:
            file = msgspec.json.decode(self.path.read_bytes(), type=_File)
            return Credentials(bytes.fromhex(file.user), bytes.fromhex(file.device), file.token, file.renewed)
        except (OSError, msgspec.DecodeError, ValueError):
            return None

    def token(self) -> str | None:
        """The token as it is stored now; None if no file can be read."""
        credentials = self.load()
        return None if credentials is None else credentials.token

    def save(self, credentials: Credentials) -> None:
        """Store a login in place of an earlier one; the token is never in a file that others may read. Needs the lock,
        since another program may be about to store a new token."""
        self._make_folder()
        data = msgspec.json.encode(
            _File(credentials.user.hex(), credentials.device.hex(), credentials.token, credentials.renewed)
        )
        # Temporary files have mode 600, and renaming keeps that; readers never see half a file.
        with NamedTemporaryFile(dir=self.path.parent, delete=False) as file:
            file.write(data)
            # The new token must outlive the machine's power before a server sees it: after that the old one ends.
            file.flush()
            os.fsync(file.fileno())
        os.replace(file.name, self.path)

    def forget(self) -> None:
        """Remove the login, if there is one. Needs the lock, as `save` does."""
        self.path.unlink(missing_ok=True)

    @asynccontextmanager
    async def locked(self) -> AsyncGenerator[None]:
        """No other program of this user saves inside the block. The system releases the lock of a program that ends.

        :raises LoginBusy: if another program has held it for `LOCK_TIMEOUT_S` seconds.
        """
        self._make_folder()
        # Not the file of the login: `save` puts another file in its place. The lock's own file stays: two programs
        # could lock two files of that name if one of them removed it.
        descriptor = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            await _lock(descriptor)
            yield
        finally:
            os.close(descriptor)

    def _make_folder(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)


def _escaped(text: str) -> str:
    return quote(text, safe="", errors="surrogatepass").replace(".", "%2E")


async def _lock(descriptor: int) -> None:
    with trio.move_on_after(LOCK_TIMEOUT_S):
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                await trio.sleep(_LOCK_POLL_S)
            else:
                return
    raise LoginBusy(LOCK_TIMEOUT_S)
