"""Bodies of the HTTP interface: what comes in as typed structs, what goes out as JSON or CBOR (`docs/http.md`)."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal, TypeAlias, TypeVar
from uuid import UUID

import cbor2
import msgspec
from msgspec import Meta, Struct

from protocol.codec import why_not_read
from protocol.frames import Conversation, Message, Participant, Tombstone
from protocol.limits import (
    MAX_LIFETIME_S,
    MAX_PASSWORD_CHARACTERS,
    MAX_TITLE_CHARACTERS,
    MIN_LIFETIME_S,
    MIN_PASSWORD_CHARACTERS,
    USERNAME_PATTERN,
)
from runtime.email_address import BadAddress, normal
from store.accounts import Device
from store.contacts import Contact
from store.emails import Settings as EmailSettings
from store.marks import Status
from store.messages import Page
from store.page_cursor import InvalidCursor, decode_cursor, encode_cursor
from store.profiles import From, Settings, Shown

CBOR: Final = "application/cbor"
JSON: Final = "application/json"

MAX_PAGE_BYTES: Final = 1024 * 1024
"""Of a page of a list or of history, whatever is in it; one entry has at most 90 KB."""

MAX_CONTENT_BYTES: Final = MAX_PAGE_BYTES * 3 // 4
"""Of the messages of a page of history: base64 makes four bytes of three."""

_T = TypeVar("_T")

Form: TypeAlias = Literal["json", "cbor"]

Username = Annotated[str, Meta(pattern=USERNAME_PATTERN)]
Password = Annotated[str, Meta(min_length=MIN_PASSWORD_CHARACTERS, max_length=MAX_PASSWORD_CHARACTERS)]
Title = Annotated[str, Meta(min_length=1, max_length=MAX_TITLE_CHARACTERS, pattern="^[^\\x00]*$")]


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


class PatchConversation(Struct):
    """PATCH /v1/conversations/{conversation}"""

    name: Title | None = None
    joiners_see_all: bool | None = None
    lifetime_s: Annotated[int, Meta(ge=0, le=MAX_LIFETIME_S)] | None = None

    def __post_init__(self) -> None:
        if self.lifetime_s and self.lifetime_s < MIN_LIFETIME_S:
            raise ValueError(f"lifetime_s: 0 (none), or {MIN_LIFETIME_S} to {MAX_LIFETIME_S} seconds")


class PatchProfile(Struct):
    """PATCH /v1/profile"""

    display_name: Annotated[str, Meta(max_length=128, pattern="^[^\\x00]*$")] | None = None
    gives_receipts: bool | None = None
    shows_presence: bool | None = None
    messages_from: From | None = None
    groups_from: From | None = None


class PutEmail(Struct):
    """PUT /v1/email"""

    address: Annotated[str, Meta(max_length=320)]
    wants_digest: bool = False
    wants_device_notice: bool = True
    digest_hour: Annotated[int, Meta(ge=0, le=23)] = 8
    # Without digits, but in those of Etc, Postgres would read some as rules of its own.
    zone: Annotated[
        str, Meta(max_length=64, pattern="^(UTC|Etc/GMT([+-][0-9]{1,2})?|[A-Z][A-Za-z_-]*(/[A-Z][A-Za-z_-]*){1,2})\\Z")
    ] = "UTC"


class Verify(Struct):
    """POST /v1/email/verifications"""

    token: Annotated[str, Meta(max_length=64)]


class PutContact(Struct):
    """PUT /v1/contacts/{user}"""

    is_blocked: bool = False


class AddParticipant(Struct):
    """POST /v1/conversations/{conversation}/participants"""

    user: UUID


class PatchParticipant(Struct):
    """PATCH /v1/conversations/{conversation}/participants/{user}"""

    role: Literal["admin", "member"]


class Mute(Struct):
    """PUT /v1/conversations/{conversation}/mute"""

    seconds: Annotated[int, Meta(ge=0, le=3650 * 86400)]


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
    except msgspec.MsgspecError as error:
        raise InvalidBody(_plain(str(error))) from None
    except cbor2.CBORDecodeError as error:
        raise InvalidBody(f"the body: {why_not_read(error)}") from None
    except UnicodeError:
        raise InvalidBody("the body: a text must be UTF-8") from None
    except RecursionError:
        raise InvalidBody("the body: it has more levels than are allowed") from None


_KINDS: Final = {
    "array": "an array",
    "bool": "true or false",
    "bytes": "bytes",
    "float": "a number",
    "int": "an integer",
    "null": "null",
    "object": "a map",
    "str": "a text",
    "uuid": "an id (16 bytes, or a UUID in JSON)",
}
"""What msgspec calls the kinds of values -> what JSON and CBOR call them."""


def _plain(said: str) -> str:
    """What msgspec says of a body, without the names of Python's types, and without what the client has sent."""
    said = re.sub(
        r"^Invalid (?:enum )?value '.*'", "This is none of the values that are allowed", said, flags=re.DOTALL
    )
    return re.sub(r"(Expected|got) `([^`$]*)`", lambda found: f"{found[1]} {_kinds(found[2])}", said)


def _kinds(said: str) -> str:
    return " or ".join(_KINDS.get(kind, "something else") for kind in said.split(" | "))


def address_in(body: PutEmail) -> str:
    """The address, in the spelling that it is kept in.

    :raises InvalidBody: if it is none.
    """
    try:
        return normal(body.address)
    except BadAddress as error:
        raise InvalidBody(f"the address {error} - at `$.address`") from None


def encode(body: Any, form: Form) -> bytes:
    """An answer's body. In `body` ids are `UUID`s, or made for this form, and byte fields are bytes."""
    if form == "cbor":
        return cbor2.dumps(body, encoders=_CBOR_ENCODERS)
    return msgspec.json.encode(body)


# Not tag 37: the wire protocol has no tags, and a client should need no second decoder.
_CBOR_ENCODERS: Final[dict[type, Callable[[cbor2.CBOREncoder, Any], Any]]] = {
    UUID: lambda encoder, value: encoder.encode(value.bytes)
}


def _uuid_text(id_: bytes) -> str:
    # uuid.UUID takes twice as long, and a list has hundreds of ids.
    text = id_.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


_IDENT: Final[dict[Form, Callable[[bytes], str | bytes]]] = {"json": _uuid_text, "cbor": bytes}


def ident(id_: bytes, form: Form) -> str | bytes:
    """An id in an answer."""
    return _IDENT[form](id_)


def _ident_or_none(id_: bytes | None, form: Form) -> str | bytes | None:
    return None if id_ is None else _IDENT[form](id_)


def message_body(message: Message | Tombstone, form: Form) -> dict[str, Any]:
    """Of a message that was deleted only where it was, by whom, and when."""
    ident = _IDENT[form]
    content = message if isinstance(message, Message) else None
    return {
        "conversation": ident(message.conversation),
        "seq": message.seq,
        "message": ident(message.message),
        "created": message.created,
        "sender": ident(message.sender),
        "is_deleted": content is None,
        "actor": _ident_or_none(None if isinstance(message, Message) else message.actor, form),
        "content_type": content and content.content_type,
        "content": content and content.content,
        "nonce": content and content.nonce,
        "ephemeral_public_key": content and content.ephemeral_public_key,
        "revision": content and (content.revision or 0),
        "edited": content and content.edited,
        "reply_to": content and content.reply_to,
    }


def device_body(device: Device, form: Form) -> dict[str, Any]:
    return {
        "device": _IDENT[form](device.device),
        "name": device.name,
        "created": device.created,
        "expires": device.expires,
    }


def contact_body(contact: Contact, form: Form) -> dict[str, Any]:
    return {
        "user": _IDENT[form](contact.user),
        "username": contact.username,
        "display_name": contact.display_name,
        "is_blocked": contact.is_blocked,
        "created": contact.created,
    }


def user_body(user: bytes, shown: Settings | Shown, form: Form) -> dict[str, Any]:
    return {
        "user": _IDENT[form](user),
        "username": shown.username,
        "display_name": shown.display_name,
        "revision": shown.revision,
    }


def profile_body(user: bytes, settings: Settings, form: Form) -> dict[str, Any]:
    return user_body(user, settings, form) | {
        "gives_receipts": settings.gives_receipts,
        "shows_presence": settings.shows_presence,
        "messages_from": settings.messages_from,
        "groups_from": settings.groups_from,
    }


def email_body(settings: EmailSettings) -> dict[str, Any]:
    return msgspec.structs.asdict(settings)


def status_body(status: Status, seq: int, form: Form) -> dict[str, Any]:
    """How far a message has come: with everybody, with how many, with whom."""
    delivered = sum(delivered_seq >= seq for _, delivered_seq, _ in status.receipts)
    read = sum(read_seq >= seq for *_, read_seq in status.receipts)
    count = len(status.receipts)
    word = "sent" if not count or delivered < count else "delivered" if read < count else "read"
    return {
        "status": word,
        "recipient_count": count,
        "delivered_count": delivered,
        "read_count": read,
        "recipients": [
            {"user": _IDENT[form](user), "is_delivered": delivered_seq >= seq, "is_read": read_seq >= seq}
            for user, delivered_seq, read_seq in status.receipts
        ],
    }


def conversation_body(conversation: Conversation, form: Form) -> dict[str, Any]:
    last, ident, participants = conversation.last_message, _IDENT[form], conversation.participants or ()
    return {
        "conversation": ident(conversation.conversation),
        "kind": conversation.kind,
        "name": conversation.name,
        "created": conversation.created,
        "first_seq": conversation.first_seq,
        "last_seq": conversation.last_seq,
        "participants_version": conversation.participants_version,
        "joiners_see_all": bool(conversation.joiners_see_all),
        "lifetime_s": conversation.lifetime_s,
        "muted_until": conversation.muted_until,
        "is_request": bool(conversation.is_request),
        "asked_by": _ident_or_none(conversation.asked_by, form),
        "actor": _ident_or_none(conversation.actor, form),
        "unread_count": conversation.unread_count,
        "participants": [participant_body(each, form) for each in participants],
        "participant_count": conversation.participant_count or len(participants),
        "last_message": message_body(last, form) if last else None,
    }


def participant_body(participant: Participant, form: Form) -> dict[str, Any]:
    return {
        "user": _IDENT[form](participant.user),
        "username": participant.username,
        "display_name": participant.display_name,
        "revision": participant.revision or 0,
        "is_admin": bool(participant.is_admin),
        "joined_seq": participant.joined_seq,
        "since_seq": participant.since,
        "delivered_seq": participant.delivered_seq,
        "read_seq": participant.read_seq,
        "actor": _ident_or_none(participant.actor, form),
    }


def list_body(found: list[Conversation], limit: int, form: Form, kind: str = "list") -> dict[str, Any]:
    """A page of the list: at most `limit` conversations, and fewer if they are large (`MAX_PAGE_BYTES`).

    :param found: one more than `limit`, if there is one.
    :param kind: of the cursor: "list", or "requests".
    """
    count, size = 0, 0
    for each in found[:limit]:
        size += _size_of(each)
        if count and size > MAX_PAGE_BYTES:
            break
        count += 1
    page = found[:count]
    following = cursor_text(kind, page[-1].active_at, page[-1].conversation) if len(found) > count else None
    return {"conversations": [conversation_body(each, form) for each in page], "cursor": following}


def _size_of(conversation: Conversation) -> int:
    """About how many bytes it has in JSON, and not fewer than in CBOR."""
    people, last = conversation.participants or (), conversation.last_message
    # As they are escaped: a control character is six bytes.
    names = sum(len(msgspec.json.encode(each.display_name)) for each in people)
    content = len(last.content) * 4 // 3 if isinstance(last, Message) else 0
    return 1200 + 300 * len(people) + names + content


def history_body(page: Page, conversation: bytes, direction: Literal["before", "after"], form: Form) -> dict[str, Any]:
    """A page of history, and the cursor for the next one in that direction."""
    following = cursor_text(direction, conversation, page.messages[-1].seq) if page.more else None
    return {"messages": [message_body(message, form) for message in page.messages], "cursor": following}


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
