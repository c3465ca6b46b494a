"""A client's state beside what the server double holds: the same as a fresh fetch would show. Sans-IO.

An adapter tells the state as JSON, ids and contents in hex (`README.md`). What it leaves out is not compared.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from protocol.conformance.talk import ME, Talk
from protocol.conformance.values import Fields, show
from protocol.frames import Message


def read_state(state: Fields) -> Fields:
    """The state with contents as bytes, and each message as [seq, content], whose content is None if it is deleted.

    `envelopes` of a conversation has [seq, envelope] of each message that was sent with envelopes: None for a device
    that was not named. Users are bytes in `typing` and `online`.
    """
    told = {id_: None if each is None else _talk(each) for id_, each in state["conversations"].items()}
    return {**state, "conversations": told, "online": [bytes.fromhex(user) for user in state.get("online", ())]}


def _talk(told: Fields) -> Fields:
    messages = told.get("messages", [])
    return {
        **told,
        "messages": [_row(each) for each in messages],
        "envelopes": [[each["seq"], _bytes(each["envelope"])] for each in messages if "envelope" in each],
        "typing": [bytes.fromhex(user) for user in told.get("typing", ())],
    }


def _row(message: Fields) -> list[Any]:
    return [message.get("seq"), _bytes(message.get("content"))]


def _bytes(told: str | None) -> bytes | None:
    return None if told is None else bytes.fromhex(told)


def complaint_of(state: Fields, talks: Iterable[Talk]) -> str | None:
    """What the client shows otherwise than a fresh fetch would; None if nothing."""
    read, by_id = read_state(state)["conversations"], {talk.id.hex(): talk for talk in talks if talk.is_shown}
    for id_ in read.keys() - by_id.keys():
        return f"the client shows a conversation that is not the user's: {show(bytes.fromhex(id_))}"
    for id_, talk in by_id.items():
        if id_ not in read:
            return f"the client does not show the conversation {show(talk.id)}"
        if (complaint := _complaint_of_talk(read[id_], talk)) is not None:
            return f"in the conversation {show(talk.id)} {complaint}"
    return None


def _complaint_of_talk(told: Fields, talk: Talk) -> str | None:
    shown = told["messages"]
    least = talk.readable[0].seq if talk.readable else talk.last_seq + 1
    first = min([least, *(row[0] for row in shown)])
    expected = [[each.seq, each.content if isinstance(each, Message) else None] for each in talk.entries]
    expected = [row for row in expected if row[0] >= max(first, talk.first_seq)]
    if shown != expected:
        return f"the messages are {show(shown)}, not {show(expected)}"
    wanted: Fields = {
        "kind": talk.kind,
        "name": talk.name,
        "first_seq": talk.first_seq,
        "last_seq": talk.last_seq,
        "unread_count": talk.unread_count,
        "devices_version": talk.device_set.version,
        "control_seq": talk.control_seq,
        "lifetime_s": talk.lifetime_s,
        "is_request": talk.asked_by is not None,
        "participants": sorted(user.hex() for user in [ME, *talk.others]),
    }
    for field, value in wanted.items():
        if field in told and told[field] != value:
            return f"`{field}` is {show(told[field])}, not {show(value)}"
    return None


def describe(talks: Iterable[Talk]) -> str:
    """The same in words, for a person who looks at the client."""
    lines = []
    for talk in talks:
        if talk.is_shown:
            rows = [f"{each.seq}. {_words(each)}" for each in talk.readable]
            lines.append(f"{talk.name or show(talk.id)} ({talk.unread_count} unread): " + "; ".join(rows))
    return "the client shows these conversations, and no others:\n  " + "\n  ".join(lines or ["(none)"])


def _words(entry: Any) -> str:
    return show(entry.content).removeprefix("text:") if isinstance(entry, Message) else "(deleted)"
