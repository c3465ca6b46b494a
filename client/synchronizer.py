"""Fetches what a device has missed: news with `sync`, gaps that last with `history`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import trio

from client import backoff
from client.connection import PAGES_AHEAD, ClientConnection
from client.errors import ConnectionLost, NoReply, RequestRefused
from client.held import Gap
from client.link import Link
from client.mailbox import Mailbox
from client.requests import SYNC_TIMEOUT_S
from protocol import limits
from protocol.codes import ErrorCode
from protocol.frames import Cursor, Messages

GAP_PATIENCE_S: Final = 0.3
"""The time that a gap may last before it is fetched: pushes and own replies overtake each other by less."""

_ANEW: Final = (ErrorCode.CURSOR_FOREIGN.value, ErrorCode.CURSOR_EXPIRED.value)
"""The errors of a `sync` after which the device starts without a cursor."""


class Synchronizer:
    """Brings the mailbox up to date whenever frames are known to be missing.

    All its state changes in calls without `await`; `run` waits for a condition on that state and acts on it.

    :param on_change: called when the mailbox may have changed.
    """

    def __init__(self, link: Link, mailbox: Mailbox, on_change: Callable[[], object]) -> None:
        self._link = link
        self._mailbox = mailbox
        self._on_change = on_change
        self._is_stale = True
        self._is_syncing = False
        self._resumes_until = -math.inf
        self._pages_due = 0
        self._amiss = trio.lowlevel.ParkingLot()

    @property
    def is_done(self) -> bool:
        """Whether the mailbox holds everything up to the last welcome, and nothing is known to be missing."""
        return not (self._is_stale or self._is_syncing or self._is_resuming) and self._mailbox.is_complete

    def statistics(self) -> dict[str, Any]:
        """Its state, for debugging."""
        resumes_for_s = max(self._resumes_until - trio.current_time(), 0)
        return {"is_stale": self._is_stale, "is_syncing": self._is_syncing, "resumes_for_s": resumes_for_s}

    def begin(self, *, is_resumed: bool) -> None:
        """Welcomed: from here on pushes come, so a `sync` from now on leaves nothing out.

        :param is_resumed: the news since the mailbox's cursor come by themselves.
        """
        self._is_stale = not is_resumed
        self._pages_due = PAGES_AHEAD if is_resumed and "pages" in self._link.features else 0
        self._resumes_until = trio.current_time() + SYNC_TIMEOUT_S if is_resumed else -math.inf
        self._amiss.unpark_all()

    def take_lag(self) -> None:
        """The server has dropped pushes, and sends none before a `sync`."""
        self._resumes_until = -math.inf
        self._is_stale = True
        self._amiss.unpark_all()

    def take_cursor(self, push: Cursor) -> None:
        """The mailbox holds all frames before it: of a page that was asked for, or pushes."""
        if self._is_syncing:
            # During a `sync` the cursors of its pages, which have `more`, say how far it has come.
            if push.more:
                self._mailbox.synced(push)
            self._resumes_until = -math.inf
            return
        self._mailbox.synced(push)
        self._pages_due = max(self._pages_due - 1, 0) if push.more else 0
        if self._pages_due:
            self._resumes_until = trio.current_time() + SYNC_TIMEOUT_S
        else:
            self._is_stale = self._is_stale or push.more
            self._resumes_until = -math.inf

    def take_page(self, conversation: bytes, page: Messages) -> None:
        """A page of history has come."""
        if page.first_seq is not None:
            self._mailbox.raise_floor(conversation, page.first_seq)
        self._mailbox.apply(page.messages)
        self._on_change()

    def wake(self) -> None:
        """The mailbox may have changed."""
        if self._is_amiss:
            self._amiss.unpark_all()

    @property
    def _is_resuming(self) -> bool:
        return trio.current_time() < self._resumes_until

    @property
    def _is_amiss(self) -> bool:
        is_missing = not self._is_resuming and not self._mailbox.is_complete
        return self._link.connection is not None and (self._is_stale or is_missing)

    async def run(self) -> None:
        """Ends only by being cancelled."""
        failures = 0
        while True:
            while not self._is_amiss:
                with trio.move_on_at(self._resumes_until if self._is_resuming else math.inf) as patience:
                    await self._amiss.park()
                # The news that were to come by themselves have not come.
                self._is_stale = self._is_stale or patience.cancelled_caught
            connection, pause_s = await self._link.wait_online(), backoff.delay_s(failures)
            try:
                is_better = await self._catch_up(connection)
            except (ConnectionLost, NoReply):
                is_better = False
            except RequestRefused as refused:
                is_better, pause_s = False, max(pause_s, (refused.retry_after_ms or 0) / 1000)
            self._on_change()
            if is_better:
                failures = 0
            else:
                failures += 1
                await trio.sleep(pause_s)

    async def _catch_up(self, connection: ClientConnection) -> bool:
        """Fetch missing frames once; returns whether it helped."""
        if self._is_stale or self._mailbox.unknown():
            await self._sync(connection)
            return not self._mailbox.unknown()
        before = {gap[:2] for gap in self._mailbox.gaps()}
        await trio.sleep(GAP_PATIENCE_S)
        lasting = [gap for gap in self._mailbox.gaps() if gap[:2] in before]
        for gap in lasting:
            await self._fill(connection, gap)
        after = {gap[:2] for gap in self._mailbox.gaps()}
        return not any(gap[:2] in after for gap in lasting)

    async def _sync(self, connection: ClientConnection) -> None:
        # Before asking: a `lag` or a reconnection meanwhile sets it again, and then this is repeated.
        self._is_stale, self._is_syncing = False, True
        pages = PAGES_AHEAD if "pages" in connection.features else None
        try:
            while True:
                synced = await connection.sync(self._mailbox.cursor, pages=pages)
                self._mailbox.synced(synced)
                if not synced.more:
                    return
        except BaseException as error:
            self._is_stale = True
            if isinstance(error, RequestRefused) and error.code in _ANEW:
                self._mailbox.drop()
                return
            raise
        finally:
            self._is_syncing = False

    async def _fill(self, connection: ClientConnection, gap: Gap) -> None:
        try:
            page = await connection.history(
                gap.conversation, after=gap.after_seq, before=gap.before_seq, count=limits.MAX_COUNT
            )
        except RequestRefused as refused:
            if refused.code != ErrorCode.NOT_A_PARTICIPANT.value:
                raise
            self._mailbox.forget_missing(gap.conversation)
        else:
            self.take_page(gap.conversation, page)
