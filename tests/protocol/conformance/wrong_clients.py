"""For each scenario of the conformance kit a client that does the thing wrong: the Python client with one change."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import pytest
import trio
import trio_websocket
from msgspec.structs import replace

from client import backoff, connection, errors, held, known_devices, link, participants, synchronizer, websocket
from client.conformance import TestedClient
from client.connection import ClientConnection
from client.errors import RequestRefused
from client.held import HeldConversation
from client.link import Link
from client.mailbox import Mailbox
from client.mark_sender import MarkSender
from client.participants import ParticipantList
from client.send_order import SendTurn
from client.session import Session
from client.stream import HeardStream
from client.synchronizer import Synchronizer
from protocol.codec import decode_from_server, encode_request
from protocol.codes import CloseCode, ErrorCode, may_reconnect
from protocol.errors import RemoteProtocolError
from protocol.features import NAMES
from protocol.fields import TYPES
from protocol.frames import Conversation, DevicesChanged, Lag, Sync, Tombstone
from protocol.items import FROM_SERVER, items
from tests.waiting import let_pass

Patch = pytest.MonkeyPatch


class WrongClient(NamedTuple):
    """A wrong client.

    :ivar change: makes the client wrong.
    :ivar reason: a part of the reason for which the scenario fails.
    """

    change: Callable[[Patch], None]
    reason: str


def instead(owner: Any, name: str, act: Callable[..., Any]) -> Callable[[Patch], None]:
    """The client does this instead."""
    return lambda patch: patch.setattr(owner, name, act)


def around(owner: Any, name: str, act: Callable[..., Any]) -> Callable[[Patch], None]:
    """The client does this instead, which gets what it does else as the first argument."""
    usual = getattr(owner, name)
    return lambda patch: patch.setattr(owner, name, lambda *args, **more: act(usual, *args, **more))


def both(*changes: Callable[[Patch], None]) -> Callable[[Patch], None]:
    def change(patch: Patch) -> None:
        for each in changes:
            each(patch)

    return change


def nothing(*_: Any, **__: Any) -> None:
    """It does nothing."""


async def not_at_all(*_: Any, **__: Any) -> None:
    """It does nothing, where it would wait for something."""


async def for_ever(*_: Any, **__: Any) -> None:
    await trio.sleep_forever()


async def hasty(say_hello: Any, connected: ClientConnection, hello: Any, timeout_s: float) -> Any:
    connected._outgoing += [encode_request(replace(hello, request=77)), encode_request(Sync(78, None))]
    return await say_hello(connected, hello, timeout_s)


def appending(put: Any, talk: HeldConversation, entry: Any) -> bool:
    if talk.is_in_run(entry.seq):
        talk.messages.append(entry)
        return True
    return bool(put(talk, entry))


def in_order_of_arrival(put: Any, talk: HeldConversation, entry: Any) -> bool:
    return entry.seq > max(talk.entries, default=0) and put(talk, entry)


def content_with_one_page(take_page: Any, synced: Synchronizer, conversation: bytes, page: Any) -> None:
    take_page(synced, conversation, page)
    synced._mailbox.forget_missing(conversation)


def without_cursor(synced: Any, mailbox: Mailbox, reply: Any) -> None:
    synced(mailbox, reply)
    mailbox.cursor = None


def content_with_a_cursor(synced: Synchronizer, push: Any) -> None:
    synced._mailbox.synced(push)
    synced._resumes_until, synced._is_stale = float("-inf"), False


async def content_with_pages(sync: Any, connected: ClientConnection, *args: Any, **more: Any) -> Any:
    return replace(await sync(connected, *args, **more), more=False)


async def forgetful(start: Any, tested: TestedClient, *args: Any, keep: bool, **more: Any) -> Any:
    return await start(tested, *args, keep=False, **more)


def merging(drop: Any, mailbox: Mailbox) -> None:
    if hasattr(mailbox, "_conversations"):
        mailbox.cursor = None
    else:
        drop(mailbox)


async def deaf_to_bare_lags(on_push: Any, session: Session, push: Any) -> None:
    if not (isinstance(push, Lag) and not push.heads):
        await on_push(session, push)


async def once(linked: Link, ask: Any, timeout_s: float) -> Any:
    return await ask(await linked.wait_online())


async def with_other_temp_ids(send: Any, connected: ClientConnection, *args: Any, **more: Any) -> Any:
    return await send(connected, *args, **{**more, "temp_id": b"\x77" + secrets.token_bytes(15)})


def sure_of_codes(init: Any, refused: RequestRefused, error: Any) -> None:
    init(refused, error)
    if error.code not in {code.value for code in ErrorCode}:
        refused.retry_after_ms = None


def stubborn(init: Any, refused: RequestRefused, error: Any) -> None:
    init(refused, error)
    refused.retry_after_ms = error.retry_after_ms or 100


async def last_first(turn: SendTurn, _: ClientConnection) -> bool:
    places = 0
    while (turn := turn.after or turn).after is not None:
        places += 1
    await let_pass(places, why="the messages after this one go out first")
    return True


def strict(data: bytes) -> Any:
    if any(item.get(0) not in TYPES for item in items(data, FROM_SERVER)):
        raise RemoteProtocolError(CloseCode.BAD_FRAME, "a frame of an unknown type")
    return decode_from_server(data)


async def taking_a_piece_for_the_end(receive: Any, stream: HeardStream, max_bytes: int | None = None) -> Any:
    data = await receive(stream, max_bytes)
    return data if len(data) > 1 else b""


def deaf_to_strangers(apply: Any, mailbox: Mailbox, entries: Any) -> Any:
    return apply(mailbox, [each for each in entries if mailbox.head(each.conversation) is not None])


def inventive(apply: Any, mailbox: Mailbox, entries: Any) -> Any:
    told = list(entries)
    for each in told:
        if mailbox.head(each.conversation) is None:
            mailbox.learn(Conversation(each.conversation, 1, "direct", None, 1, each.seq, 0, 1, None, None, 0))
    return apply(mailbox, told)


def taking_the_last_settings(talk: HeldConversation, push: Any) -> None:
    assert talk.head is not None
    talk.head = replace(talk.head, name=push.name)


def counting_deleted_messages(put: Any, talk: HeldConversation, entry: Any) -> bool:
    is_news = bool(put(talk, entry))
    talk._uncounted.clear()
    return is_news


async def overwriting(edit: Any, session: Session, message: Any, content: bytes) -> Any:
    try:
        return await edit(session, message, content)
    except RequestRefused:
        return await edit(session, replace(message, revision=(message.revision or 0) + 1), content)


def without_own_tombstones(apply: Any, session: Session, *entries: Any) -> None:
    apply(session, *(each for each in entries if not isinstance(each, Tombstone)))


def taking_the_last_version(take: Any, talk: HeldConversation, push: Any) -> None:
    take(talk, push)
    if isinstance(push, DevicesChanged):
        talk.devices_version = push.devices_version


def without_versions(remove: Any, listed: ParticipantList, users: Any, _: int) -> None:
    remove(listed, users, 2**62)


async def with_the_old_token(store: Any, credentials: Any, ask: Any) -> Any:
    return replace(await ask(credentials), token=credentials.token)


async def forgetting_its_token(keep_token: Any, linked: Link, connected: ClientConnection) -> None:
    await keep_token(linked, connected)
    linked._login.save(replace(linked.credentials, token="alo_forgotten"))


at_once = instead(backoff, "uniform", lambda *_: 0)
no_frame = "no frame like {type: %s"

WRONG: Final[dict[str, WrongClient]] = {
    "close_and_again": WrongClient(instead(errors, "may_reconnect", lambda _: False), no_frame % "connected"),
    "close_for_good": WrongClient(instead(errors, "may_reconnect", lambda _: True), "the client's state is"),
    "cursor_expired": WrongClient(instead(synchronizer, "_ANEW", ()), no_frame % "sync, cursor: absent"),
    "cursor_foreign": WrongClient(around(Mailbox, "drop", merging), "the client's state is"),
    "cut": WrongClient(around(Mailbox, "synced", without_cursor), "no frame like {any"),
    "cut_within_a_page": WrongClient(
        both(
            instead(link, "PAGES_AHEAD", 1),
            instead(synchronizer, "PAGES_AHEAD", 1),
            instead(Synchronizer, "take_cursor", content_with_a_cursor),
        ),
        "does not show the conversation",
    ),
    "deleted": WrongClient(around(HeldConversation, "put", counting_deleted_messages), "the client's state is"),
    "departed": WrongClient(instead(Mailbox, "_depart", nothing), "the client's state is"),
    "device_list": WrongClient(instead(known_devices, "_differences", lambda *_: []), "the outcome of `second`"),
    "devices_changed": WrongClient(around(HeldConversation, "take", taking_the_last_version), "the client's state is"),
    "drain": WrongClient(instead(Link, "insist", once), no_frame % "send, temp_id"),
    "early_frames": WrongClient(around(Mailbox, "apply", deaf_to_strangers), "the client's state is"),
    "edit_conflict": WrongClient(around(Session, "edit", overwriting), "the outcome of `edited`"),
    "few_features": WrongClient(
        instead(ClientConnection, "features", frozenset(NAMES)), "SPEC 11.1: the client gives `pages`"
    ),
    "first_sync": WrongClient(instead(MarkSender, "run", for_ever), no_frame % "mark_delivered"),
    "floor": WrongClient(instead(HeldConversation, "raise_floor", nothing), "the client's state is"),
    "gap": WrongClient(instead(Synchronizer, "_fill", not_at_all), no_frame % "history"),
    "hello": WrongClient(
        around(connection, "_say_hello", hasty), "SPEC 3: the client sends `sync` before it has got `welcome`"
    ),
    "history_pages": WrongClient(around(Synchronizer, "take_page", content_with_one_page), "the messages are"),
    "lag": WrongClient(instead(Synchronizer, "take_lag", nothing), no_frame % "sync"),
    "lag_without_heads": WrongClient(around(Session, "_on_push", deaf_to_bare_lags), no_frame % "sync"),
    "lost_edit": WrongClient(instead(Link, "insist", once), "the outcome of `edited`"),
    "lost_renewal": WrongClient(
        around(Link, "_keep_token", forgetting_its_token), "SPEC 13.1: the client shows a token"
    ),
    "lost_reply": WrongClient(around(ClientConnection, "send", with_other_temp_ids), "the outcome of `two`"),
    "mark_read": WrongClient(instead(Session, "mark_read", nothing), no_frame % "mark_read"),
    "move": WrongClient(around(Link, "move", lambda move, linked, _: move(linked, 0)), "too early"),
    "move_and_close": WrongClient(both(instead(Link, "move", nothing), at_once), "too early"),
    "old_settings": WrongClient(
        instead(HeldConversation, "_take_settings", taking_the_last_settings), "the client's state is"
    ),
    "other_device": WrongClient(instead(HeldConversation, "_note_written", nothing), "the client's state is"),
    "outgoing_order": WrongClient(instead(SendTurn, "wait", last_first), no_frame % "send, content: text:three"),
    "own_delete": WrongClient(around(Session, "_apply", without_own_tombstones), "the client's state is"),
    "pages": WrongClient(around(ClientConnection, "sync", content_with_pages), "the client's state is"),
    "participants": WrongClient(around(ParticipantList, "remove", without_versions), "`participants` is"),
    "pings": WrongClient(
        instead(trio_websocket.WebSocketConnection, "_handle_ping_event", not_at_all), no_frame % "websocket_pong"
    ),
    "quiet": WrongClient(instead(HeldConversation, "_quiet_count_at", lambda *_: 0), "the client's state is"),
    "read_elsewhere": WrongClient(instead(participants, "_most", lambda _, told: told), "`unread_count` is 2, not 0"),
    "refused_send": WrongClient(around(RequestRefused, "__init__", stubborn), "the outcome of `two`"),
    "renewal": WrongClient(instead(link, "renew", with_the_old_token), no_frame % "hello, token: alo_renewed_1"),
    "reordered_pushes": WrongClient(around(HeldConversation, "put", in_order_of_arrival), "the messages are"),
    "repeated_pushes": WrongClient(around(HeldConversation, "put", appending), "the messages are"),
    "retried_send": WrongClient(instead(backoff, "after_s", lambda *_: 0), "too early"),
    "revisions": WrongClient(instead(held, "_supersedes", lambda *_: True), "the client's state is"),
    "revoked": WrongClient(
        instead(errors, "may_reconnect", lambda code: code == 4505 or may_reconnect(code)), "the client's state is"
    ),
    "silence": WrongClient(instead(ClientConnection, "_keep_alive", for_ever), no_frame % "connected"),
    "slow": WrongClient(around(HeardStream, "receive_some", taking_a_piece_for_the_end), "the client's state is"),
    "stop_and_resume": WrongClient(around(TestedClient, "start", forgetful), "no frame like {any"),
    "strange_frames": WrongClient(around(Mailbox, "apply", inventive), no_frame % "sync"),
    "turned_away": WrongClient(both(instead(websocket, "_retry_after_s", lambda _: 0), at_once), "too early"),
    "unknown": WrongClient(instead(connection, "decode_from_server", strict), "the client's state is"),
    "unknown_conversation": WrongClient(
        both(instead(Mailbox, "unknown", lambda _: set()), instead(Mailbox, "is_complete", True)), "no frame like {any"
    ),
    "unknown_error": WrongClient(around(RequestRefused, "__init__", sure_of_codes), "the outcome of `two`"),
    "version": WrongClient(instead(connection, "_check_version", not_at_all), no_frame % "bye"),
}
"""Scenario -> a client that fails it."""
