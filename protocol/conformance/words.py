"""A scenario in words, for a person who drives the client. Sans-IO."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from protocol.conformance.values import ANYTHING, ID_BYTES, Fields, id_of, show

_INSTRUCTIONS: Final = {
    "start": (
        "Start the client{keep}. Its server has the addresses {urls} (it adds /v1/socket); its token is {token},"
        " its user {user}, its device {device}."
    ),
    "stop": "Stop the client, so that it says goodbye. It keeps what it has stored.",
    "send": 'Send "{content}" to {conversation}{how}.',
    "edit": 'Edit message {seq} of {conversation}: "{content}".',
    "delete": "Delete message {seq} of {conversation} for everyone.",
    "mark_read": "Look at message {seq} of {conversation}, so that it counts as read.",
    "devices": "Look at the devices of {users}.",
}

_OUTCOMES: Final = {
    "send": 'shows "{content}" as sent to {conversation}',
    "edit": 'shows "{content}" as message {seq} of {conversation}',
    "delete": "shows message {seq} of {conversation} as deleted",
}


def instruction(command: str, fields: Fields) -> str:
    """What the person has the client do."""
    return _INSTRUCTIONS[command].format_map(_spoken(fields))


def outcome(command: str, fields: Fields, pattern: Fields) -> str:
    """What the client must show of what came of it."""
    code = pattern.get("refused")
    if code is None:
        return f"the client {_OUTCOMES[command].format_map(_spoken(fields))}"
    told = instruction(command, fields).rstrip(".")
    return f"the client shows that this was refused (`{code}`), and does not try again: {told}"


def _spoken(fields: Fields) -> Fields:
    """The arguments of a command, each as words."""
    spoken: dict[str, Any] = {name: _value(each) for name, each in fields.items()}
    spoken["keep"] = " again, with what it has stored" if fields.get("keep") else ", with nothing stored"
    reply_to, is_quiet = fields.get("reply_to"), fields.get("is_quiet")
    spoken["how"] = (f" as an answer to message {reply_to}" if reply_to else "") + (", quietly" if is_quiet else "")
    if "conversation" in fields:
        spoken["conversation"] = conversation(fields["conversation"])
    return spoken


def _value(value: Any) -> str:
    match value:
        case bytes() if len(value) == ID_BYTES and show(value).startswith("@"):
            return f"{UUID(bytes=value)} ({show(value)[1:]})"
        case list():
            return ", ".join(map(_value, value))
    return show(value).removeprefix("text:")


def conversation(id_: bytes) -> str:
    """A conversation; a client may show the other user instead, or the group's name."""
    return f"the conversation {_value(id_)}"


def state(pattern: Fields) -> str:
    """What the client must show."""
    told = [words for name, each in pattern.get("conversations", {}).items() for words in _of_talk(name, each)]
    if "ended" in pattern:
        told.append("the client says that it does not connect again by itself, and stays away")
    return "; ".join(told) or "the client is still there"


def _of_talk(name: str, told: Fields | None) -> list[str]:
    talk = conversation(id_of(name.removeprefix("@")))
    if told is None:
        return [f"the client does not show {talk}"]
    lines = _of_messages(talk, told.get("messages", ANYTHING))
    for field, value in told.items():
        if field == "unread_count":
            lines.append(f"{value} of its messages are unread")
        elif field != "messages":
            lines.append(f"its {field.replace('_', ' ')} is {_value(value)}")
    return lines


def _of_messages(talk: str, told: Any) -> list[str]:
    match told:
        case [*rows]:
            return [f"{talk} has these messages, and no others: " + "; ".join(map(_row, rows))]
        case {"has": [_, _] as row}:
            return [f"{talk} has message {_row(row)}"]
    return [f"the client shows {talk}"]


def _row(row: list[Any]) -> str:
    return f"{row[0]}. " + ("(deleted)" if row[1] is None else str(row[1]).removeprefix("text:"))


def event(verb: str, what: Any, fields: Fields, about: str = "") -> str:
    """What goes on without the person.

    :param about: what a step `server` does, in a sentence.
    """
    more = ", ".join(f"{name}: {_value(each)}" for name, each in fields.items())
    match verb:
        case "server":
            return f"The server acts: {what}" + (f" ({more})" if more else "") + (f". {about}" if about else "")
        case "fault":
            return f"The server answers the next `{what}` in another way: {show(fields['answers'])}"
    kind = what.get("type", "a frame") if isinstance(what, dict) else what
    return f"The kit waits for the client: {show(kind)}"
