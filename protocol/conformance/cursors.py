"""The cursors that the server double gives out, and the pages that it sends for them. Sans-IO."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from protocol.codes import ErrorCode
from protocol.conformance.talk import Talk
from protocol.frames import Push

_Known = dict[bytes, int]
"""Conversation -> the number of its changes that a client has been told."""


class NewsPage(NamedTuple):
    """A part of the news.

    :ivar cursor: of everything up to its end.
    :ivar more: whether there are further pages.
    """

    frames: list[Push]
    cursor: bytes
    more: bool


class Cursors:
    """All cursors of a double.

    :ivar conversations_per_page: None: all news are one page.
    """

    def __init__(self) -> None:
        self.conversations_per_page: int | None = None
        self._history = 1
        self._issued: Final[dict[bytes, _Known]] = {}
        self._expired: set[bytes] = set()

    def begin_history(self) -> None:
        """The database is another one from now on: cursors from before are foreign to it."""
        self._history += 1

    def expire(self) -> None:
        """The cursors that were given out until now are too old."""
        self._expired |= self._issued.keys()

    def is_issued(self, cursor: bytes) -> bool:
        return cursor in self._issued

    def refusal(self, cursor: bytes) -> ErrorCode | None:
        """The error in answer to a cursor that cannot be served."""
        if not cursor.startswith(self._prefix):
            return ErrorCode.CURSOR_FOREIGN
        return ErrorCode.CURSOR_EXPIRED if cursor in self._expired else None

    def present(self, talks: Iterable[Talk]) -> bytes:
        """The cursor of a client that has been told everything."""
        return self._issue({talk.id: len(talk.changes) for talk in talks})

    def pages(self, talks: list[Talk], cursor: bytes | None, count: int | None, most: int) -> list[NewsPage]:
        """The first pages of the news since a cursor that can be served; at least one.

        :param count: the greatest number of new messages of each conversation.
        :param most: the greatest number of pages.
        """
        known = {} if cursor is None else dict(self._issued[cursor])
        latest_first = sorted(talks, key=lambda talk: talk.last_seq, reverse=True)
        changed = [(talk, news) for talk in latest_first if (news := talk.news(known.get(talk.id), count))]
        size = self.conversations_per_page or len(changed) or 1
        starts = range(0, len(changed), size) or range(1)
        pages = []
        for start in starts[:most]:
            frames = []
            for talk, news in changed[start : start + size]:
                frames += news
                known[talk.id] = len(talk.changes)
            is_last = start + size >= len(changed)
            pages.append(NewsPage(frames, self.present(talks) if is_last else self._issue(known), not is_last))
        return pages

    @property
    def _prefix(self) -> bytes:
        return b"history %d, " % self._history

    def _issue(self, known: _Known) -> bytes:
        cursor = self._prefix + b"cursor %d" % len(self._issued)
        self._issued[cursor] = dict(known)
        return cursor
