"""Commands about conversations: chatting, reading, listing."""

from __future__ import annotations

import argparse
import os
from contextlib import aclosing

from client import directory
from client.chat import Answer, run_chat
from client.cli.console import CommandFailure, check, show, warn
from client.cli.environment import http_url, socket_urls
from client.cli.logins import at_server, find_users, history_reader, load_login, open_http, open_keys
from client.commands import NotPossible
from client.e2ee import KEYS
from client.http import Credentials, HttpClient
from client.lines import line_of, names_of
from client.login import LoginFile
from client.rules import fault_of_title, title_of
from client.terminal import local_time
from client.unlock import NOT_ENCRYPTED, HistoryReader, is_possible, sending_folder
from client.upload_log import UploadLog
from protocol.frames import Conversation, Message


async def chat(arguments: argparse.Namespace) -> None:
    """`chat NAME WITH... [--group TITLE]`"""
    if arguments.group is not None:
        check(fault_of_title(arguments.group))
        arguments.group = title_of(arguments.group)
    credentials = load_login(arguments.name)
    keyring = open_keys(arguments.name) if is_possible() else None
    async with open_http(arguments.name) as http:
        others = await find_users(http, arguments.others)
        names = [arguments.name, *arguments.others]
        conversation = await directory.find_or_create(
            http, credentials.user, [other.user for other in others], names, arguments.group
        )
        called = names_of(await directory.everybody_in(http, conversation))
        if os.isatty(0):
            title = directory.title_of(conversation, credentials.user)
            show(f"{title}: type to send; /help lists the commands; /quit or Ctrl-D leaves")
    if keyring is None:
        warn(NOT_ENCRYPTED)
    stored = LoginFile(http_url(), arguments.name)

    async def decide(answer: Answer) -> None:
        async with at_server(stored.token) as http:
            await _decide(http, credentials.user, conversation, answer)

    async def set_avatar(attachment: bytes | None, group: bytes | None) -> None:
        async with at_server(stored.token) as http:
            await http.set_avatar(attachment, group=group)

    uploads = UploadLog(stored.path.with_suffix(".uploads"))
    if not await run_chat(
        socket_urls(),
        credentials,
        conversation,
        called,
        show,
        warn,
        stored,
        decide,
        set_avatar,
        uploads,
        keyring,
        sending_folder(stored),
    ):
        raise CommandFailure("not everything was done")


async def _decide(http: HttpClient, me: bytes, conversation: Conversation, answer: Answer) -> None:
    if answer == "accept":
        await http.accept(conversation.conversation)
    elif answer == "decline":
        await http.decline(conversation.conversation)
    else:
        others = [person.user for person in conversation.participants or () if person.user != me]
        asks = conversation.asked_by or (others[0] if conversation.kind == "direct" else None)
        if asks is None:
            raise NotPossible(
                "there is no request here, and a group cannot be blocked: leave it, or block its participants"
            )
        await http.block(asks)


async def history(arguments: argparse.Namespace) -> None:
    """`history NAME WITH... [--group TITLE] [--limit N]`"""
    credentials = load_login(arguments.name)
    async with open_http(arguments.name) as http:
        others = [other.user for other in await find_users(http, arguments.others)]
        conversation = await directory.find(http, credentials.user, others, arguments.group)
        if conversation is None:
            what = "conversation" if arguments.group is None else f"group of that title ({arguments.group})"
            raise CommandFailure(f"{arguments.name} has no {what} with {' and '.join(arguments.others)}")
        page = await http.history(conversation.conversation, limit=arguments.limit)
        names = names_of(await directory.everybody_in(http, conversation))
        reader = history_reader(http, arguments.name)
        for entry in reversed(page.messages):
            if not isinstance(entry, Message):
                show(line_of(entry, names))
            elif entry.content_type != KEYS:
                show(line_of(entry, names, await reader.read(entry)))


async def list_conversations(arguments: argparse.Namespace) -> None:
    """`list NAME`"""
    credentials = load_login(arguments.name)
    async with (
        open_http(arguments.name) as http,
        aclosing(directory.list_all(http)) as conversations,
    ):
        reader = history_reader(http, arguments.name)
        async for conversation in conversations:
            show(await _summary(conversation, credentials, reader))


async def _summary(conversation: Conversation, credentials: Credentials, reader: HistoryReader) -> str:
    title = ("request: " if conversation.is_request else "") + directory.title_of(conversation, credentials.user)
    unread = f" [{conversation.unread_count} unread]" if conversation.unread_count else ""
    last = conversation.last_message
    if last is None:
        return f"{title}{unread}: no message since {local_time(conversation.created)}"
    reading = await reader.read(last) if isinstance(last, Message) else None
    return f"{title}{unread}: {line_of(last, names_of(conversation.participants or ()), reading)}"
