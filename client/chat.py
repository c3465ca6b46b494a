"""A conversation in a terminal: what is typed goes out, what arrives is shown."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Final

import trio

from client.directory import list_all
from client.errors import OutcomeUnknown, RequestRefused, Unreachable
from client.http import Conversation, Credentials, HttpClient
from client.mailbox import Mailbox
from client.nursery import open_service_nursery
from client.session import Session, open_session
from client.terminal import local_time, printable, read_lines
from protocol.errors import LocalProtocolError
from protocol.frames import Message

RECENT: Final = 20
"""Messages from before that are shown when a chat begins."""

CONNECT_PATIENCE_S: Final = 10.0
"""For the first connection: long enough to try a second gateway, short enough to say that there is none."""

CONTENT_TYPE: Final = "text/plain"

Show = Callable[[str], object]


def line_of(message: Message, names: dict[bytes, str]) -> str:
    """One message as one line: time, sender, content."""
    name = printable(names.get(message.sender) or message.sender.hex()[:8])
    if message.content_type == CONTENT_TYPE:
        content = printable(message.content.decode("utf-8", errors="replace"))
    else:
        content = f"({len(message.content)} bytes of {printable(message.content_type)})"
    return f"{local_time(message.created)} {name}: {content}"


def names_in(conversation: Conversation) -> dict[bytes, str]:
    """The name of each participant."""
    return {person.user: person.username for person in conversation.participants}


async def run_chat(
    http: HttpClient,
    socket_urls: Sequence[str],
    credentials: Credentials,
    conversation: Conversation,
    show: Show,
    warn: Show,
) -> bool:
    """Chat until EOF or `/quit`; returns whether every line was acknowledged.

    :param http: asks as this user.
    :param show: prints a line for the user to read.
    :param warn: prints a line about something that went wrong.
    """
    mailbox = await _mailbox_since(http, conversation)
    async with open_session(http, socket_urls, credentials, mailbox=mailbox) as session:
        with trio.move_on_after(CONNECT_PATIENCE_S) as scope:
            await session.wait_online()
        if scope.cancelled_caught:
            raise Unreachable(f"no gateway at {' or '.join(socket_urls)}")
        chat = _Chat(session, conversation, show, warn)
        async with open_service_nursery() as nursery:
            nursery.start_soon(chat.show_arrivals)
            return await chat.send_lines()
    raise AssertionError("a session that ends by itself raises")


async def _mailbox_since(http: HttpClient, chosen: Conversation) -> Mailbox:
    """A mailbox that begins where this terminal does: here with the recent messages, elsewhere with the next one."""
    mailbox = Mailbox()
    mailbox.learn(chosen.conversation, max(chosen.first_seq, chosen.last_seq - RECENT + 1), chosen.last_seq)
    async with aclosing(list_all(http)) as conversations:
        async for other in conversations:
            if other.conversation != chosen.conversation:
                mailbox.learn(other.conversation, other.last_seq + 1, other.last_seq)
    return mailbox


class _Chat:
    def __init__(self, session: Session, conversation: Conversation, show: Show, warn: Show) -> None:
        self._session = session
        self._conversation = conversation.conversation
        self._names = names_in(conversation)
        self._typed: set[bytes] = set()
        self._show = show
        self._warn = warn

    async def show_arrivals(self) -> None:
        async for message in self._session.messages:
            # What was typed here is on the screen already. `send` puts a message into the mailbox and returns without
            # waiting in between, so by the time this task runs its id is in `_typed`.
            is_typed = message.message in self._typed
            self._typed.discard(message.message)
            if message.conversation == self._conversation and not is_typed:
                self._show(line_of(message, self._names))

    async def send_lines(self) -> bool:
        """One line after another, each acknowledged before the next goes out, so that their order is kept.

        Returns whether all were. A person at a terminal goes on after a failure; a pipe ends with it.
        """
        is_all_sent, is_terminal = True, os.isatty(0)
        async with aclosing(read_lines()) as lines:
            async for line in lines:
                if line.strip() == "/quit":
                    break
                if is_terminal and not self._session.is_online:
                    self._warn("not connected at the moment; this goes out as soon as the server answers")
                if line.strip() and not await self._send(line):
                    is_all_sent = False
                    if not is_terminal:
                        break
        return is_all_sent

    async def _send(self, line: str) -> bool:
        try:
            sent = await self._session.send(self._conversation, line.encode(), content_type=CONTENT_TYPE)
        except (OutcomeUnknown, RequestRefused, Unreachable, LocalProtocolError) as error:
            self._warn(f"not sent: {_why(error)}: {line[:40]}")
            return False
        self._typed.add(sent.message)
        return True


def _why(error: OutcomeUnknown | RequestRefused | Unreachable | LocalProtocolError) -> str:
    match error:
        case OutcomeUnknown():
            return "no acknowledgement came; it may have arrived or not"
        case RequestRefused():
            return f"refused ({printable(error.code)})"
        case Unreachable():
            return "the server did not answer"
        case _:
            return str(error)
