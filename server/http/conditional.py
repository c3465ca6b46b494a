"""Conditional requests: the entity tags of pages, and whether a client holds the current page (RFC 9110, 13.1.2).

A tag is made of the version of a page, which is checked anyway, so `304` costs no reading of the page. Equal tags mean
equal bytes. So a tag also has the history of the database, whose transactions number the versions (decision 9), and a
digest of the code, since another release may write the same page in other words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Final, NamedTuple

import trio
from msgspec import msgpack

from server.http.compression import CODINGS
from store.postgres.pool import Pool
from store.sync import history_id

_TAG_BYTES: Final = 12
"""Two of a million pages share a tag with a probability of 1 in 10^16."""

HISTORY_KEPT_S: Final = 30.0
"""The time after which the history is read again: an operator may begin a new one while processes are connected
(`python -m store restored`)."""

_ENTITY_TAG: Final = re.compile(r'(?:W/)?"([\x21\x23-\x7e\x80-\xff]*)"')
_CODED: Final = re.compile(f"-({'|'.join(CODINGS)})$")


class ReadHistory(NamedTuple):
    """The history of the database.

    :ivar connects: those of the pool when it was read.
    :ivar read_at: the time when it was read.
    """

    id: str
    connects: int
    read_at: float

    @property
    def epoch(self) -> tuple[str, int]:
        """Versions are comparable within it."""
        return self.id, self.connects


class EntityTags:
    """Makes the tags of a process."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._history = ReadHistory("", -1, 0)

    async def history(self) -> ReadHistory:
        """The history, to be asked for before a version is read. It is read again after each new connection: no back-up
        is restored, and no other server takes over, while a connection lasts."""
        while (
            self._history.connects != self._pool.connects
            or trio.current_time() > self._history.read_at + HISTORY_KEPT_S
        ):
            connects, now = self._pool.connects, trio.current_time()
            self._history = ReadHistory(await history_id(self._pool), connects, now)
        return self._history

    def of(self, history: ReadHistory, *state: object) -> str | None:
        """The tag of a page; None if the process has connected since, so that the version may be of another history.

        :param state: all that the page depends on: its kind, the user, the parameters, and the version.
        """
        if self._pool.connects != history.connects:
            return None
        return blake2b(msgpack.encode((release_digest(), history.id, state)), digest_size=_TAG_BYTES).hexdigest()


@cache
def release_digest() -> str:
    """A digest of the code that writes answers."""
    root, digest = Path(__file__).parents[2], blake2b(digest_size=16)
    for package in ("protocol", "server", "store"):
        for file in sorted((root / package).rglob("*")):
            if file.suffix in (".py", ".sql"):
                digest.update(file.read_bytes())
    return digest.hexdigest()


def tag_headers(tag: str | None) -> Mapping[str, str]:
    """The headers of a page with this tag, and of `304`. The client may keep the page, and asks each time whether it is
    current.

    The exchange adds the coding to the tag of a page that it compresses: its bytes are others (RFC 9110, 8.8.3.3).
    """
    return {"cache-control": "private, no-cache"} | ({} if tag is None else {"etag": f'"{tag}"'})


def held_tag(if_none_match: str, tag: str | None) -> str | None:
    """The tag of the current page, in any coding, that the client holds; None if it holds none.

    :param if_none_match: the header of that name; empty if it is absent. `*` means any page.
    """
    if not if_none_match or tag is None:
        return None
    if if_none_match.strip() == "*":
        return tag
    return next((held for held in _ENTITY_TAG.findall(if_none_match) if _CODED.sub("", held) == tag), None)
