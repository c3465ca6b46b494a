"""A conversation in a terminal: it sends typed lines, and shows messages and the users who are online or type."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final, Literal, TypeAlias

import trio

from client import VERSION
from client.chat_failures import FAILURES, why_not_done
from client.chat_files import path_of, upload_avatar
from client.commands import Command, NotPossible, help_lines, read_line
from client.e2ee import KEYS
from client.e2ee.correspondent import Correspondent
from client.e2ee.keyring import Keyring
from client.errors import Unreachable
from client.held import Entry
from client.http import Credentials
from client.lines import line_of_sign, name_of
from client.mailbox import Mailbox
from client.message_lines import MessageLines
from client.nursery import open_service_nursery
from client.renewal import LoginStore
from client.safety import Safety
from client.sealed_files import SealedFiles
from client.session import Session, open_session
from client.signs import Sign, Signs
from client.terminal import printable, read_lines
from client.upload_log import UploadLog
from client.writers import ChatWriter, OpenWriter, SealedWriter
from protocol.frames import Conversation, Message

RECENT: Final = 20
"""Messages from before that are shown when a chat begins."""

CONNECT_PATIENCE_S: Final = 10.0
"""For the first connection: long enough to try a second gateway, short enough for a user who waits."""

NAME: Final = f"alo-terminal/{VERSION}"

LONGEST_PAUSE_S: Final = 3.0
"""Between two attempts to connect, while the user looks on (`protocol/SPEC.md`, 13.3)."""

AVATAR_IS_OPEN: Final = "the avatar is set, and not encrypted: the server and each user who is told of it can see it"
"""Decision 47 says why the terminal client encrypts no avatars, and which clients do."""

Show = Callable[[str], object]
Answer: TypeAlias = Literal["accept", "decline", "block"]
Decide = Callable[[Answer], Awaitable[None]]
"""Answers a request, or blocks the other user of the conversation."""
SetAvatar = Callable[[bytes | None, bytes | None], Awaitable[None]]
"""Sets the avatar of the user, or of a group. Takes the attachment, or None to remove it; and the group, or None."""


async def run_chat(
    socket_urls: Sequence[str],
    credentials: Credentials,
    conversation: Conversation,
    names: dict[bytes, str],
    show: Show,
    warn: Show,
    login: LoginStore,
    decide: Decide,
    set_avatar: SetAvatar,
    uploads: UploadLog,
    keyring: Keyring | None,
    sending: Path,
) -> bool:
    """Chat until EOF or `/quit`, or until the conversation is declined; returns whether every line was acknowledged.

    :param names: of the participants.
    :param show: prints a line for the user to read.
    :param warn: prints a line about something that went wrong.
    :param login: the store of the token.
    :param decide: answers a request.
    :param set_avatar: sets an avatar.
    :param uploads: the uploads that were begun before.
    :param keyring: the keys of this device; None: the chat does not encrypt.
    :param sending: the folder for encrypted files on their way.
    """
    me, talk = credentials.user, conversation.conversation
    safety = Safety(me, names, show)
    signs = Signs(talk)

    def show_sign(sign: Sign) -> None:
        if signs.take(sign, trio.current_time()):
            show(line_of_sign(sign, names))

    def show_link(is_online: bool) -> None:
        show("-- connected again" if is_online else "-- the connection is lost; reconnecting")

    mailbox = Mailbox(me) if keyring is None else Mailbox(me, keyring.keep)
    async with open_session(
        socket_urls,
        credentials,
        mailbox=mailbox,
        login=login,
        on_sign=show_sign,
        on_link=show_link,
        on_keys_low=lambda _: safety.note_low_keys(),
        on_undecryptable=safety.note_undecryptable,
        client=NAME,
        longest_pause_s=LONGEST_PAUSE_S,
    ) as session:
        with trio.move_on_after(CONNECT_PATIENCE_S) as scope:
            await session.wait_caught_up()
        if scope.cancelled_caught:
            why = f"; the last attempt: {session.last_error}" if session.last_error is not None else ""
            raise Unreachable(f"no gateway at {' or '.join(socket_urls)}{why}")
        async with open_service_nursery() as nursery:
            writer: ChatWriter = OpenWriter(session, uploads)
            if keyring is not None:
                correspondent = Correspondent(
                    session, keyring, on_change=safety.show_change, on_left_out=safety.show_left_out
                )
                safety.watch(correspondent)
                nursery.start_soon(correspondent.publisher.run)
                await correspondent.catch_up()
                nursery.start_soon(correspondent.healer.run)
                nursery.start_soon(correspondent.sets.watch, talk, partial(safety.show_without_keys, talk))
                writer = SealedWriter(session, correspondent, SealedFiles(keyring, uploads, sending))
            while len(session.mailbox.messages(talk)) < RECENT and await session.load_older(talk, RECENT):
                pass
            # It follows from here on: older messages that were loaded are shown once.
            chat = _Chat(session, conversation, names, signs, show, warn, decide, set_avatar, writer, safety)
            chat.show_recent()
            session.watch([user for user in names if user != me])
            nursery.start_soon(chat.show_arrivals)
            await chat.send_again()
            return await chat.obey_lines()
    raise AssertionError("a session that ends by itself raises")


class _Chat:
    def __init__(
        self,
        session: Session,
        conversation: Conversation,
        names: dict[bytes, str],
        signs: Signs,
        show: Show,
        warn: Show,
        decide: Decide,
        set_avatar: SetAvatar,
        writer: ChatWriter,
        safety: Safety,
    ) -> None:
        self._writer = writer
        self._safety = safety
        self._signs = signs
        self._session = session
        self._conversation = conversation.conversation
        self._is_group = conversation.kind == "group"
        self._names = names
        self._typed: set[bytes] = set()
        self._arrivals = session.follow()
        self._show = show
        self._warn = warn
        self._decide = decide
        self._set_avatar = set_avatar
        self._is_over = False
        self._lines = MessageLines(writer.read, names, show)

    def show_recent(self) -> None:
        head = self._session.mailbox.head(self._conversation)
        if head is not None and head.lifetime_s is not None:
            self._show(f"-- messages disappear after {timedelta(seconds=head.lifetime_s)}")
        if head is not None and head.asked_by is not None:
            asks = name_of(head.asked_by, self._names)
            self._show(f"-- {asks} asks to write to you: answer, or /accept, /decline or /block")
        for entry in self._session.mailbox.messages(self._conversation)[-RECENT:]:
            self._show_entry(entry)

    async def show_arrivals(self) -> None:
        async for entry in self._arrivals:
            # A line that was typed here is on the screen already. `send` puts the message into the mailbox and returns
            # without waiting in between, so by the time this task runs its id is in `_typed`.
            is_typed = entry.message in self._typed
            self._typed.discard(entry.message)
            if entry.conversation == self._conversation and not is_typed:
                self._signs.end_typing(entry.sender)
                self._show_entry(entry)

    def _show_entry(self, entry: Entry) -> None:
        if not isinstance(entry, Message) or entry.content_type != KEYS:
            self._lines.show(entry)
        self._session.mark_read(self._conversation, entry.seq)

    async def obey_lines(self) -> bool:
        """Send one line after the other, each after the acknowledgement of the one before, which keeps their order.

        Returns whether all were acknowledged. A person at a terminal goes on after a failure; a pipe ends with it.
        """
        is_all_done, is_terminal = True, os.isatty(0)
        async with aclosing(read_lines()) as lines:
            async for line in lines:
                if line.strip() and not await self._obey(line):
                    is_all_done = False
                    if not is_terminal:
                        break
                if self._is_over:
                    break
        return is_all_done

    async def _obey(self, line: str) -> bool:
        try:
            match read_line(line, COMMANDS):
                case str(text):
                    await self._send(text)
                case command, argument:
                    await command.run(self, argument)
        except FAILURES as error:
            self._warn(f"not done: {why_not_done(error)}: {printable(line[:40])}")
            return False
        return True

    async def help(self, _: str) -> None:
        for line in help_lines(COMMANDS):
            self._show(f"-- {line}")

    async def edit(self, text: str) -> None:
        message = self._last(is_own=True)
        self._say_if_offline()
        await self._writer.edit(message, text)

    async def send_file(self, name: str) -> None:
        path = path_of(name)
        self._say_if_offline()
        sent, size_bytes = await self._writer.send_file(self._conversation, path)
        self._typed.add(sent.message)
        self._show(f"-- sent {printable(path.name)} ({size_bytes} bytes)")

    async def reply(self, text: str) -> None:
        message = self._last(is_own=False)
        self._say_if_offline()
        sent = await self._writer.send(self._conversation, text, message)
        self._typed.add(sent.message)

    async def verify(self, argument: str) -> None:
        await self._safety.verify(self._conversation, argument)

    async def save(self, argument: str) -> None:
        number, _, name = argument.partition(" ")
        held = {entry.seq: entry for entry in self._session.mailbox.messages(self._conversation)}
        message = held.get(int(number)) if number.isdecimal() else None
        if not isinstance(message, Message) or message.content_type == KEYS:
            raise NotPossible(f"there is no message {printable(number[:20])} here; N is the number beside the file")
        path = path_of(name.strip()) if name.strip() else None
        for saved in await self._writer.save(message, path):
            self._show(f"-- saved {printable(str(saved))}")

    async def avatar(self, name: str) -> None:
        await self._change_avatar(name, None)

    async def group_avatar(self, name: str) -> None:
        if not self._is_group:
            raise NotPossible("this is no group; /avatar sets your own avatar")
        await self._change_avatar(name, self._conversation)

    async def _change_avatar(self, name: str, group: bytes | None) -> None:
        self._say_if_offline()
        attachment = await upload_avatar(self._session, path_of(name)) if name else None
        await self._set_avatar(attachment, group)
        self._show(f"-- {AVATAR_IS_OPEN}" if name else "-- the avatar is removed")

    async def delete(self, _: str) -> None:
        message = self._last(is_own=True)
        self._say_if_offline()
        await self._session.delete(message, for_everyone=True)

    async def accept(self, _: str) -> None:
        await self._decide("accept")

    async def decline(self, _: str) -> None:
        await self._decide("decline")
        self._is_over = True

    async def block(self, _: str) -> None:
        await self._decide("block")
        self._is_over = True

    async def quit(self, _: str) -> None:
        self._is_over = True

    def _say_if_offline(self) -> None:
        if os.isatty(0) and not self._session.is_online:
            self._warn("not connected at the moment; this goes out as soon as the server answers")

    async def _send(self, line: str) -> None:
        self._say_if_offline()
        sent = await self._writer.send(self._conversation, line)
        self._typed.add(sent.message)

    async def send_again(self) -> None:
        """Send what an earlier program could not finish."""
        try:
            refused = await self._writer.resume()
        except FAILURES as error:
            self._warn(f"an earlier message waits: {why_not_done(error)}")
        else:
            for text in refused:
                self._warn(f"not done: the server refuses an earlier message: {printable(text[:40])}")

    def _last(self, *, is_own: bool) -> Message:
        for entry in reversed(self._session.mailbox.messages(self._conversation)):
            if not isinstance(entry, Message) or entry.content_type == KEYS:
                continue
            if (entry.sender == self._session.user) == is_own:
                return entry
        raise NotPossible(
            "you have no message here to edit or delete" if is_own else "there is no message here to answer"
        )


COMMANDS: Final[tuple[Command[_Chat], ...]] = (
    Command("/reply", "TEXT", "answer the last message of another user, and quote it", _Chat.reply),
    Command("/verify", "[NAME] [NUMBER]", "show the safety number with NAME, or compare it with theirs", _Chat.verify),
    Command("/send", "FILE", "send a file; after an interruption the same command goes on", _Chat.send_file),
    Command("/save", "N [FILE]", "save the file of message N; after an interruption, too", _Chat.save),
    Command("/avatar", "[FILE]", "set your avatar, which is not encrypted; without FILE, remove it", _Chat.avatar),
    Command("/group-avatar", "[FILE]", "the same for this group, whose administrator you are", _Chat.group_avatar),
    Command("/edit", "TEXT", "put TEXT in the place of your last message", _Chat.edit),
    Command("/delete", "", "delete your last message for everyone", _Chat.delete),
    Command("/accept", "", "accept a request; sending a message accepts it, too", _Chat.accept),
    Command("/decline", "", "decline a request, and leave; the asker is not told", _Chat.decline),
    Command("/block", "", "block the asker, or the other user here, and leave; they are not told", _Chat.block),
    Command("/help", "", "show this", _Chat.help),
    Command("/quit", "", "leave, as Ctrl-D does", _Chat.quit),
)
