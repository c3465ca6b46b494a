"""Pages that are kept encoded, with the place of each entry: a page that has changed is made of the entries that have
not, and of the new ones.

Each function makes the same bytes as encoding the whole page does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Generic, TypeAlias, TypeVar

from msgspec import Struct

from server.http.answers.conversations import CURSOR_BYTES, ListAnswer, conversation_body
from server.http.answers.messages import MAX_CONTENT_BYTES, MAX_PAGE_BYTES, HistoryAnswer, message_body
from server.http.cursors import cursor_text
from server.http.encoding import Encoding, encode, encode_each
from store.history_pages import HistoryVersion, NewestPage
from store.list_pages import Digest, Listed, ListState
from store.rows import Entry

Parts = TypeVar("Parts", bound="ListParts | HistoryParts")


class KeptPage(Struct, Generic[Parts], frozen=True):
    """A page, encoded.

    :ivar cursor: of the next page; None: this page is the last.
    :ivar parts: its version, and the places of its entries.
    """

    body: bytes
    cursor: str | None
    parts: Parts


class ListParts(Struct, frozen=True):
    """The parts of a page of a list.

    :ivar entries: for each conversation the digest, and the place of its entry.
    """

    version: Digest
    entries: dict[bytes, tuple[Digest, slice]]


class HistoryParts(Struct, frozen=True):
    """The parts of the newest page of a history.

    :ivar entries: for each message the bytes that count for the size of a page, and the place of its entry.
    :ivar more: there are further messages.
    """

    version: HistoryVersion
    entries: list[tuple[int, int, slice]]
    more: bool


ListPage: TypeAlias = KeptPage[ListParts]
HistoryPage: TypeAlias = KeptPage[HistoryParts]


def lacking(held: ListPage, listed: Sequence[Listed]) -> list[Listed]:
    """The conversations that are to be read, so that a held page becomes one of these conversations."""
    entries = held.parts.entries
    return [each for each in listed if (entry := entries.get(each.conversation)) is None or entry[0] != each.digest]


def list_page(
    state: ListState,
    found: Mapping[bytes, Entry],
    limit: int,
    encoding: Encoding,
    held: ListPage | None = None,
) -> ListPage:
    """The first page of a list: at most `limit` conversations, and fewer if they are large (`MAX_PAGE_BYTES`).

    :param state: with one conversation more than `limit` if there are further ones.
    :param found: these conversations, without those that the held page has.
    """
    shown = state.listed[:limit]
    new = [found[each.conversation] for each in shown if each.conversation in found]
    bodies = encode_each([conversation_body(each, encoding) for each in new], encoding)
    encoded = {each.conversation: body for each, body in zip(new, bodies, strict=True)}
    if held is not None:
        for each in shown:
            if each.conversation not in encoded:
                encoded[each.conversation] = held.body[held.parts.entries[each.conversation][1]]
    count, size = 0, CURSOR_BYTES
    for each in shown:
        size += len(encoded[each.conversation]) + 1
        if count and size > MAX_PAGE_BYTES:
            break
        count += 1
    shown = shown[:count]
    last = shown[-1] if len(state.listed) > count else None
    cursor = cursor_text("list", last.active_at, last.conversation) if last else None
    body, places = _joined(ListAnswer([], cursor), [encoded[each.conversation] for each in shown], encoding)
    entries = {each.conversation: (each.digest, place) for each, place in zip(shown, places, strict=True)}
    return KeptPage(body, cursor, ListParts(state.version, entries))


def history_page(
    conversation: bytes, page: NewestPage, limit: int, encoding: Encoding, held: HistoryPage | None = None
) -> HistoryPage:
    """The newest page of a history: at most `limit` messages, and fewer if they are large (`MAX_CONTENT_BYTES`).

    :param page: all messages, or those that are newer than the ones of the held page.
    """
    bodies = encode_each([message_body(each, encoding) for each in page.messages], encoding)
    found = [(each.seq, size) for each, size in zip(page.messages, page.sizes, strict=True)]
    more = page.more
    if held is not None and not more:
        bodies += [held.body[place] for *_, place in held.parts.entries]
        found += [(seq, size) for seq, size, _ in held.parts.entries]
        more = held.parts.more
    count = _fitting([size for _, size in found[:limit]])
    more = more or count < len(found)
    cursor = cursor_text("before", conversation, found[count - 1][0]) if more else None
    body, places = _joined(HistoryAnswer([], cursor), bodies[:count], encoding)
    entries = [(*each, place) for each, place in zip(found[:count], places, strict=True)]
    return KeptPage(body, cursor, HistoryParts(page.version, entries, more))


def _fitting(sizes: Sequence[int]) -> int:
    """The number of entries on a page, by the rule of `fits` in history_pages.sql."""
    total = 0
    for count, size in enumerate(sizes):
        total += size
        if count and total > MAX_CONTENT_BYTES:
            return count
    return len(sizes)


def _joined(empty: Struct, entries: Sequence[bytes], encoding: Encoding) -> tuple[bytes, list[slice]]:
    """The body of a page with these entries, and the place of each.

    :param empty: the page without entries, as an answer with an empty array, which is the first field.
    """
    array, between = (b"[]", b",") if encoding == "json" else (b"\x80", b"")
    before, _, after = encode(empty, encoding).partition(array)
    before, after = (before + b"[", b"]" + after) if encoding == "json" else (before + _array_head(len(entries)), after)
    places, at = [], len(before)
    for each in entries:
        places.append(slice(at, at + len(each)))
        at += len(each) + len(between)
    return before + between.join(entries) + after, places


def _array_head(count: int) -> bytes:
    """The head of an array of CBOR (RFC 8949, section 3); a page has at most `MAX_LIMIT` entries."""
    return bytes([0x80 | count]) if count < 24 else bytes([0x98, count])
