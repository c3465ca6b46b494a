"""Messages and signs as lines of a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, assert_never

from client.e2ee.contents import Plaintext, Reaction
from client.e2ee.reading import Reason, UnreadableMessage
from client.held import Entry
from client.signs import Sign
from client.terminal import local_time, printable
from protocol.frames import Message, Participant, Presence, Tombstone, Typing

CONTENT_TYPE: Final = "text/plain"
"""The content type of messages that are not encrypted."""

QUOTED: Final = 40
"""Characters of a message that a reply shows."""

UNREADABLE: Final[dict[Reason, str]] = {
    "before": "(sent before this device)",
    "no_key": "(encrypted; the key has not come to this device)",
    "broken": "(this is not what its sender has encrypted for this device)",
}

Reading = Plaintext | UnreadableMessage | None


def line_of(entry: Entry, names: dict[bytes, str], reading: Reading = None) -> str:
    """One message as one line: time, sender, content.

    :param reading: of an encrypted message.
    """
    return f"{local_time(entry.created)} {name_of(entry.sender, names)}: {_content_of(entry, names, reading)}"


def name_of(user: bytes, names: dict[bytes, str]) -> str:
    """The name of a user, fit for a terminal."""
    return printable(names.get(user) or user.hex()[:8])


def names_of(participants: Iterable[Participant]) -> dict[bytes, str]:
    """The name of each participant."""
    return {person.user: person.username for person in participants}


def text_of(entry: Entry, reading: Reading) -> str:
    """The text of a message, or why it cannot be read."""
    match reading:
        case Plaintext(reaction=Reaction(text=emoji)):
            return f"(reacts with {emoji})" if emoji else "(takes a reaction back)"
        case Plaintext():
            return reading.text or ", ".join(file.name for file in reading.files)
        case UnreadableMessage():
            return UNREADABLE[reading.reason]
    if isinstance(entry, Tombstone):
        return "(deleted)"
    if entry.content_type != CONTENT_TYPE:
        return f"({len(entry.content)} bytes of {entry.content_type})"
    return entry.content.decode("utf-8", errors="replace")


def _content_of(entry: Entry, names: dict[bytes, str], reading: Reading) -> str:
    content = printable(text_of(entry, reading))
    if not isinstance(entry, Message) or isinstance(reading, UnreadableMessage):
        return content
    if isinstance(reading, Plaintext) and reading.quote is not None:
        quote = reading.quote
        content = f"[to {name_of(quote.user, names)}: {printable(quote.text)}] {content}"
    if entry.attachments and (reading is not None or entry.content_type == CONTENT_TYPE):
        content += f" [{_count_of(entry.attachments)}; /save {entry.seq}]"
    return f"{content} (edited)" if entry.revision else content


def _count_of(attachments: Sequence[bytes]) -> str:
    return "file" if len(attachments) == 1 else f"{len(attachments)} files"


def line_of_sign(sign: Sign, names: dict[bytes, str]) -> str:
    """A sign as one line."""
    name = name_of(sign.user, names)
    match sign:
        case Presence():
            return f"-- {name} is {'online' if sign.is_online else 'offline'}"
        case Typing():
            return f"-- {name} is typing"
        case _:
            assert_never(sign)
