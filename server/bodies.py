"""Bodies of the HTTP interface: what comes in as typed structs, what goes out as JSON or CBOR (`docs/http.md`)."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal, TypeVar
from uuid import UUID

import cbor2
import msgspec
from msgspec import Meta, Struct

from protocol.frames import Conversation, Message, Participant, Tombstone
from server.cursors import InvalidCursor, decode_cursor, encode_cursor
from store.accounts import Device
from store.messages import Page

CBOR: Final = "application/cbor"
JSON: Final = "application/json"

_T = TypeVar("_T")

# \Z: Python's $ also matches before a line feed at the end, Postgres' does not.
Username = Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9_.-]{0,31}\\Z")]
Password = Annotated[str, Meta(min_length=8, max_length=256)]
Title = Annotated[str, Meta(min_length=1, max_length=128, pattern="^[^\\x00]*$")]


class Register(Struct):
    """POST /v1/users"""

    username: Username
    password: Password


class LogIn(Struct):
    """POST /v1/devices"""

    username: str
    password: str
    name: Title


class NewDirect(Struct, tag_field="kind", tag="direct"):
    """POST /v1/conversations"""

    participants: Annotated[list[UUID], Meta(min_length=1, max_length=1)]


class NewGroup(Struct, tag_field="kind", tag="group"):
    """POST /v1/conversations"""

    name: Title
    participants: Annotated[list[UUID], Meta(min_length=1, max_length=999)]


NEW_CONVERSATION: Final[type[NewDirect | NewGroup]] = NewDirect | NewGroup  # type: ignore[assignment]
"""A union is as good as a type to msgspec, and the tag says which."""


class InvalidBody(Exception):
    """The body cannot be read as what the endpoint takes; the text says why."""


def decode(data: bytes, content_type: str, type_: type[_T]) -> _T:
    """A request's body.

    :raises InvalidBody: if it is not of that type.
    """
    try:
        if content_type.partition(";")[0].strip() == CBOR:
            return msgspec.convert(cbor2.loads(data, max_depth=8, strict_hashable_types=True), type_)
        return msgspec.json.decode(data, type=type_)
    except (msgspec.MsgspecError, cbor2.CBORDecodeError, UnicodeError, RecursionError) as error:
        raise InvalidBody(str(error)) from None


def encode(body: Any, form: Literal["json", "cbor"]) -> bytes:
    """An answer's body. In `body` ids are `UUID`s and byte fields are bytes."""
    if form == "cbor":
        return cbor2.dumps(body, encoders=_CBOR_ENCODERS)
    return msgspec.json.encode(body)


# Not tag 37: the wire protocol has no tags, and a client should need no second decoder.
_CBOR_ENCODERS: Final[dict[type, Callable[[cbor2.CBOREncoder, Any], Any]]] = {
    UUID: lambda encoder, value: encoder.encode(value.bytes)
}


def message_body(message: Message | Tombstone) -> dict[str, Any]:
    """Of a message that was deleted only where it was, by whom, and when."""
    content = message if isinstance(message, Message) else None
    return {
        "conversation": UUID(bytes=message.conversation),
        "seq": message.seq,
        "message": UUID(bytes=message.message),
        "created": message.created,
        "sender": UUID(bytes=message.sender),
        "is_deleted": content is None,
        "content_type": content and content.content_type,
        "content": content and content.content,
        "nonce": content and content.nonce,
        "ephemeral_public_key": content and content.ephemeral_public_key,
        "revision": content and (content.revision or 0),
        "edited": content and content.edited,
        "reply_to": content and content.reply_to,
    }


def device_body(device: Device) -> dict[str, Any]:
    return {
        "device": UUID(bytes=device.device),
        "name": device.name,
        "created": device.created,
        "expires": device.expires,
    }


def conversation_body(conversation: Conversation) -> dict[str, Any]:
    last = conversation.last_message
    return {
        "conversation": UUID(bytes=conversation.conversation),
        "kind": conversation.kind,
        "name": conversation.name,
        "created": conversation.created,
        "first_seq": conversation.first_seq,
        "last_seq": conversation.last_seq,
        "unread_count": conversation.unread_count,
        "participants": [_participant_body(participant) for participant in conversation.participants],
        "last_message": message_body(last) if last else None,
    }


def list_body(found: list[Conversation], limit: int) -> dict[str, Any]:
    """A page of the list.

    :param found: one more than `limit`, if there is one.
    """
    page = found[:limit]
    following = cursor_text("list", page[-1].active_at, page[-1].conversation) if len(found) > limit else None
    return {"conversations": [conversation_body(each) for each in page], "cursor": following}


def history_body(page: Page, conversation: bytes, direction: Literal["before", "after"]) -> dict[str, Any]:
    """A page of history, and the cursor for the next one in that direction."""
    following = cursor_text(direction, conversation, page.messages[-1].seq) if page.more else None
    return {"messages": [message_body(message) for message in page.messages], "cursor": following}


def _participant_body(participant: Participant) -> dict[str, Any]:
    return {
        "user": UUID(bytes=participant.user),
        "username": participant.username,
        "joined_seq": participant.joined_seq,
        "delivered_seq": participant.delivered_seq,
        "read_seq": participant.read_seq,
    }


def cursor_text(*parts: int | bytes | str) -> str:
    """A cursor as text."""
    return urlsafe_b64encode(encode_cursor(*parts)).rstrip(b"=").decode()


def cursor_parts(text: str, kind: str, *types: type) -> list[Any]:
    """The parts of a cursor of this kind.

    :raises InvalidCursor: if it is not one.
    """
    try:
        data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        raise InvalidCursor from None
    return decode_cursor(data, kind, *types)
