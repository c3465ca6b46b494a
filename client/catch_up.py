"""Bring a mailbox up to what the server holds, over HTTP. The caller is connected already, so what comes after the
reading began comes as pushes: *register first, then read*."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import trio

from client.errors import HttpRefused, Unreachable
from client.http import HttpClient
from client.mailbox import Hole, Mailbox
from protocol.frames import Message

PAGE: Final = 100
"""The most that the server gives at once, both of conversations and of messages."""

PARALLEL: Final = 4
"""Requests at once while catching up: hides the round trips, and leaves the server to others."""


async def list_conversations(http: HttpClient, mailbox: Mailbox) -> None:
    """Tell the mailbox of every conversation.

    One that moves to the top while the pages are read may be missed by them; but it moved because of a message, whose
    push tells the mailbox of it.
    """
    cursor = None
    while True:
        page = await http.conversations(limit=PAGE, cursor=cursor)
        for conversation in page.conversations:
            mailbox.learn(conversation.conversation, conversation.first_seq, conversation.last_seq)
        cursor = page.cursor
        if cursor is None:
            return


async def look_up(http: HttpClient, mailbox: Mailbox, conversations: Iterable[bytes]) -> None:
    """Tell the mailbox of conversations that it knows by a push alone."""
    for conversation in conversations:
        try:
            found = await http.conversation(conversation)
        except HttpRefused as refused:
            _forget_or_raise(mailbox, conversation, refused)
        else:
            mailbox.learn(conversation, found.first_seq, found.last_seq)


async def fill(http: HttpClient, mailbox: Mailbox, holes: Iterable[Hole], apply: Callable[[Message], object]) -> None:
    """Fetch what is missing, several holes at once; if some fail, the others are filled before the error is raised.

    :param apply: takes each message; brings it into the mailbox.
    """
    rest = iter(holes)
    errors: list[HttpRefused | Unreachable] = []

    async def work() -> None:
        # All workers draw from one iterator; `next` does not wait, so no two get the same hole.
        for hole in rest:
            try:
                await _fill_one(http, mailbox, hole, apply)
            except (HttpRefused, Unreachable) as error:
                errors.append(error)

    async with trio.open_nursery() as nursery:
        for _ in range(PARALLEL):
            nursery.start_soon(work)
    if errors:
        raise errors[0]


async def _fill_one(http: HttpClient, mailbox: Mailbox, hole: Hole, apply: Callable[[Message], object]) -> None:
    cursor, after_seq = None, hole.after_seq
    try:
        while mailbox.up_to(hole.conversation) < hole.until_seq:
            page = await http.history(
                hole.conversation, limit=PAGE, cursor=cursor, after_seq=after_seq if cursor is None else None
            )
            for message in page.messages:
                apply(message)
            cursor = page.cursor
            if cursor is None:
                return
    except HttpRefused as refused:
        _forget_or_raise(mailbox, hole.conversation, refused)


def _forget_or_raise(mailbox: Mailbox, conversation: bytes, refused: HttpRefused) -> None:
    if refused.status != 404:
        raise refused
    mailbox.forget_missing(conversation)
