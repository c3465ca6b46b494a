"""What a message says, in the bytes that are encrypted (SPEC 20.11), which other clients have within other ciphers.

A content is a map in CBOR; its keys, and the places in the arrays within it, are those of the fields below.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeVar

import cbor2
import msgspec
from msgspec import Meta, Struct

from protocol.errors import RemoteProtocolError
from protocol.items import FROM_CLIENT, each_item

CONTENT: Final = "application/alo"
"""The content type, which is within the plaintext."""

Id = Annotated[bytes, Meta(min_length=16, max_length=16)]
FileKey = Annotated[bytes, Meta(min_length=32, max_length=32)]
Size = Annotated[int, Meta(ge=0)]
_T = TypeVar("_T", bound=Struct)


class NotContent(Exception):
    """These bytes are no content."""


class EncryptedFile(Struct, frozen=True):
    """An attachment of the message: the file as it was.

    :ivar name: as its sender had it: no path.
    :ivar size_bytes: before its encryption.
    :ivar key: of `client.e2ee.files`.
    :ivar preview: a small picture, in JPEG.
    :ivar width: of the picture that the file is, in pixels.
    """

    attachment: Id
    name: str
    size_bytes: Size
    key: FileKey
    media_type: str | None = None
    preview: bytes | None = None
    width: Size | None = None
    height: Size | None = None


class Quote(Struct, frozen=True):
    """The message that a reply answers (its `reply_to`), as the writer of the reply saw it."""

    user: Id
    text: str


class Reaction(Struct, frozen=True):
    """What the user feels about another message; a quiet message has it. The latest one of a user counts.

    :ivar message: its id.
    :ivar text: an emoji; an empty one takes the reaction back.
    """

    message: Id
    text: str


class Plaintext(Struct, frozen=True):
    """What a user has written."""

    text: str = ""
    files: list[EncryptedFile] = []
    quote: Quote | None = None
    reaction: Reaction | None = None


def encode_content(content: Plaintext) -> bytes:
    fields = {
        0: content.text or None,
        1: [_array(file) for file in content.files] or None,
        2: content.quote and _array(content.quote),
        3: content.reaction and _array(content.reaction),
    }
    return cbor2.dumps({key: value for key, value in fields.items() if value is not None})


def _array(value: EncryptedFile | Quote | Reaction) -> list[Any]:
    """Its fields, without absent ones at the end."""
    fields = [getattr(value, name) for name in value.__struct_fields__]
    while fields[-1] is None:
        fields.pop()
    return fields


def decode_content(data: bytes) -> Plaintext:
    """Read a content; keys and places of later versions are left out.

    :raises NotContent: if it is none.
    """
    try:
        [item] = each_item(data, FROM_CLIENT)
        files = [_struct(EncryptedFile, each) for each in msgspec.convert(item.get(1, []), list[list[Any]])]
        quote = _struct(Quote, item[2]) if 2 in item else None
        reaction = _struct(Reaction, item[3]) if 3 in item else None
        return Plaintext(msgspec.convert(item.get(0, ""), str), files, quote, reaction)
    except (RemoteProtocolError, msgspec.ValidationError, ValueError) as error:
        raise NotContent(f"bytes of another format: {error}") from None


def _struct(type_: type[_T], fields: Any) -> _T:
    names = type_.__struct_fields__
    return msgspec.convert(dict(zip(names, msgspec.convert(fields, list[Any]), strict=False)), type_)
