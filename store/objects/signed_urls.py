"""Signed URLs of files in a folder, which `web` serves: each allows one method on one key until its time is over.

    {base}/files/KEY?expires=T&signature=S
    {base}/files/KEY?expires=T&type=M&signature=S
    {base}/files/KEY?expires=T&size=N&digest=D&signature=S
    {base}/files/KEY?expires=T&size=N&digest=D&upload=U&part=P&signature=S

`T` is in seconds since 1970, `M` one of `SHOWN_TYPES`, `D` the SHA-256 of the body in hexadecimal, and `S` an
HMAC-SHA256 over the method and everything else. A URL with any other query, even in another order, is no ticket. The
first form is a download (GET, and HEAD with the same signature), the second is that of a picture that browsers show.
The others are uploads (PUT) of a whole object, and of a part.
"""

from __future__ import annotations

import hmac
import os
import re
import secrets
from collections.abc import Callable
from contextlib import suppress
from time import time
from typing import Final

from msgspec import Struct

from store.errors import TicketExpired, TicketInvalid
from store.objects.direct import SHOWN_TYPES, Part
from store.objects.interface import is_key
from store.objects.tree import Tree, open_file, write_all

PATH: Final = "/files/"
"""The beginning of the paths."""

SECRET: Final = ".secret"  # noqa: S105
"""The file with the secret, in the folder. No part of a key begins with a dot."""

SECRET_BYTES: Final = 32

_QUERY: Final = re.compile(
    r"expires=(?P<expires>0|[1-9][0-9]{0,11})"
    rf"(?:&type=(?P<type>{'|'.join(SHOWN_TYPES)})"
    r"|&size=(?P<size>0|[1-9][0-9]{0,12})&digest=(?P<digest>[0-9a-f]{64})"
    r"(?:&upload=(?P<upload>[0-9a-f]{1,64})&part=(?P<part>[1-9][0-9]{0,4}))?)?"
    r"&signature=(?P<signature>[0-9a-f]{64})"
)


class SignedUrl(Struct, frozen=True):
    """A request that a URL allows.

    :ivar part: of an upload; with the number 1 if it is the whole object.
    :ivar upload: the name of the multipart upload; None for a whole object.
    :ivar left_s: seconds until it expires.
    :ivar shown_as: of a download: the media type of the answer; None: browsers do not show it.
    """

    key: str
    part: Part | None
    upload: str | None
    left_s: float
    shown_as: str | None = None


class UrlSigner:
    """Makes and checks tickets.

    :param base: the URL before the path, without a slash at its end.
    :ivar now: the time in seconds since 1970.
    """

    def __init__(self, secret: bytes, base: str, now: Callable[[], float] = time) -> None:
        self._secret = secret
        self._base = base
        self.now = now

    def url(
        self,
        method: str,
        key: str,
        *,
        expires_s: int,
        part: Part | None = None,
        upload: str | None = None,
        shown_as: str | None = None,
    ) -> str:
        """The URL that allows a request for so many seconds.

        :param method: GET or PUT.
        :param shown_as: of GET: one of `SHOWN_TYPES`.
        """
        query = f"expires={int(self.now()) + expires_s}"
        if shown_as is not None:
            assert shown_as in SHOWN_TYPES
            query += f"&type={shown_as}"
        if part is not None:
            query += f"&size={part.size_bytes}&digest={part.digest.hex()}"
            if upload is not None:
                query += f"&upload={upload}&part={part.number}"
        return f"{self._base}{PATH}{key}?{query}&signature={self._signature(method, key, query)}"

    def check(self, method: str, path: str, query: str) -> SignedUrl:
        """The ticket of a request.

        :param method: GET, HEAD or PUT.
        :param path: it begins with `PATH`.
        :raises TicketInvalid: if this object did not make it, or for another method or key.
        :raises TicketExpired: if its time is over.
        """
        key, found = path.removeprefix(PATH), _QUERY.fullmatch(query)
        if found is None or not is_key(key):
            raise TicketInvalid
        signed = self._signature("GET" if method == "HEAD" else method, key, query.rpartition("&signature=")[0])
        if not hmac.compare_digest(signed, found["signature"]):
            raise TicketInvalid
        left_s = int(found["expires"]) - self.now()
        if left_s <= 0:
            raise TicketExpired
        if (found["size"] is None) != (method in ("GET", "HEAD")):
            raise TicketInvalid
        part = None
        if found["size"] is not None:
            part = Part(int(found["part"] or 1), int(found["size"]), bytes.fromhex(found["digest"]))
        return SignedUrl(key, part, found["upload"], left_s, found["type"])

    def _signature(self, method: str, key: str, query: str) -> str:
        # No part has a line end, so each text is of one request alone.
        return hmac.digest(self._secret, f"{method}\n{key}\n{query}".encode(), "sha256").hex()


def read_or_make_secret(tree: Tree) -> bytes:
    """The secret of a folder; made once, whichever process comes first. Blocking.

    :raises OSError: if that fails.
    :raises ValueError: if the file has another length.
    """
    with tree.folder("") as folder:
        try:
            descriptor = open_file(folder, SECRET, os.O_RDONLY)
        except FileNotFoundError:
            _make_secret(folder)
            descriptor = open_file(folder, SECRET, os.O_RDONLY)
        try:
            os.fchmod(descriptor, 0o600)
            secret = os.read(descriptor, SECRET_BYTES + 1)
        finally:
            os.close(descriptor)
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"{SECRET} must have {SECRET_BYTES} bytes: remove it, and start all processes again")
    return secret


def _make_secret(folder: int) -> None:
    """Write the file under another name first: it has its name once it is whole, and the first one stays."""
    name = f"{SECRET}.{secrets.token_hex(8)}"
    descriptor = os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600, dir_fd=folder)
    try:
        write_all(descriptor, secrets.token_bytes(SECRET_BYTES))
        os.fsync(descriptor)
        with suppress(FileExistsError):
            os.link(name, SECRET, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
        os.unlink(name, dir_fd=folder)
        os.fsync(folder)
    finally:
        os.close(descriptor)
