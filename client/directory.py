"""Finds the conversation that the names on the command line mean."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Final

from client.http import HttpClient
from client.terminal import printable
from protocol.frames import Conversation, Participant

_PAGE: Final = 100


async def list_all(http: HttpClient) -> AsyncGenerator[Conversation]:
    """All conversations, latest message first, then all requests. Close it with `aclosing` unless you read it to the
    end."""
    for requests in (False, True):
        cursor = None
        while True:
            page = await http.conversations(limit=_PAGE, cursor=cursor, requests=requests)
            for conversation in page.conversations:
                yield conversation
            cursor = page.cursor
            if cursor is None:
                break


async def find(http: HttpClient, me: bytes, others: Sequence[bytes], title: str | None) -> Conversation | None:
    """The latest conversation of exactly these people: direct if there is one other and no title, else a group.

    :param title: of the group; None takes any.
    """
    everyone = {me, *others}
    kind = "direct" if is_direct(others, title) else "group"
    async with aclosing(list_all(http)) as conversations:
        async for conversation in conversations:
            if conversation.kind != kind or title not in (None, conversation.name):
                continue
            if {person.user for person in await everybody_in(http, conversation, len(everyone))} == everyone:
                return conversation
    return None


async def everybody_in(http: HttpClient, conversation: Conversation, only_if: int | None = None) -> list[Participant]:
    """The participants of a conversation; asks the server if there are many.

    :param only_if: the wanted number of participants; if it differs from theirs, the server need not be asked.
    """
    told = list(conversation.participants or ())
    if conversation.participant_count is None or only_if not in (None, conversation.participant_count):
        return told
    return await http.participants(conversation.conversation)


async def find_or_create(
    http: HttpClient, me: bytes, others: Sequence[bytes], names: Sequence[str], title: str | None
) -> Conversation:
    """`find`, or make it. Making a group twice makes two, so it is looked for first.

    :param names: everyone's, for the title of a new group without one.
    """
    if is_direct(others, title):
        return await http.create_direct(others[0])
    found = await find(http, me, others, title)
    return found or await http.create_group(title or ", ".join(sorted(names)), list(others))


def is_direct(others: Sequence[bytes], title: str | None) -> bool:
    """Whether a conversation between two is meant rather than a group."""
    return len(others) == 1 and title is None


def title_of(conversation: Conversation, me: bytes) -> str:
    """The title of a conversation, fit for a terminal."""
    if conversation.kind == "group":
        return printable(conversation.name or "(a group without a name)")
    if conversation.kind == "self":
        return "(your own devices)"
    return printable(" ".join(person.username for person in conversation.participants or () if person.user != me))
