"""For each scenario of the conformance kit a client that does the thing wrong: the Python client with one change."""

from __future__ import annotations

import secrets
from itertools import count
from typing import Any, Final, NamedTuple

import trio
from msgspec.structs import replace

from client import backoff, connection, errors, link, synchronizer
from client.conformance import TestedClient
from client.connection import ClientConnection
from client.errors import RequestRefused, Unreachable
from client.held import HeldConversation
from client.known_devices import KnownDevices
from client.link import Link
from client.mailbox import Mailbox
from client.mark_sender import MarkSender
from client.participants import ParticipantList
from client.send_order import SendTurn
from client.session import Session
from client.signs import Signs
from client.stream import HeardStream
from client.synchronizer import Synchronizer
from client.watcher import Watcher
from protocol.codec import decode_from_server
from protocol.codes import CloseCode, ErrorCode, may_reconnect
from protocol.conformance.talk import ME
from protocol.errors import RemoteProtocolError
from protocol.features import NAMES
from protocol.fields import TYPES
from protocol.frames import (
    Conversation,
    Cursor,
    Departed,
    DevicesChanged,
    Error,
    HeldKeys,
    Hello,
    KeysLow,
    Lag,
    Message,
    PutKeys,
    Receipts,
    Send,
    Settings,
    Sync,
    Synced,
    Tombstone,
    Welcome,
)
from protocol.items import FROM_SERVER, items
from tests.protocol.conformance.seams import Change, around, both, deaf_to, hearing, instead, saying
from tests.waiting import let_pass

PONG: Final = 0xA
"""The opcode of a WebSocket pong (RFC 6455, section 5.2)."""


class WrongClient(NamedTuple):
    """A wrong client.

    :ivar change: makes the client wrong.
    :ivar reason: a part of the reason for which the scenario fails.
    """

    change: Change
    reason: str


def nothing(*_: Any, **__: Any) -> None:
    """It does nothing."""


async def not_at_all(*_: Any, **__: Any) -> None:
    """It does nothing, where it would wait for something."""


async def for_ever(*_: Any, **__: Any) -> None:
    await trio.sleep_forever()


def hasty(frame: Any) -> Any:
    return [replace(frame, request=77), Sync(78, None)] if isinstance(frame, Hello) else frame


def appending(put: Any, talk: HeldConversation, entry: Any) -> bool:
    if talk.is_in_run(entry.seq):
        talk.messages.append(entry)
        return True
    return bool(put(talk, entry))


def in_order_of_arrival(put: Any, talk: HeldConversation, entry: Any) -> bool:
    return entry.seq > max(talk.entries, default=0) and put(talk, entry)


def content_with_one_page() -> Change:
    asked: list[Any] = []

    def gaps(usual: Any, mailbox: Mailbox) -> Any:
        if not asked:
            asked.extend(usual(mailbox))
            return list(asked)
        return []

    return around(Mailbox, "gaps", gaps)


def without_cursor(synced: Any, mailbox: Mailbox, reply: Any) -> None:
    synced(mailbox, reply)
    mailbox.cursor = None


async def forgetful(start: Any, tested: TestedClient, *args: Any, keep: bool, **more: Any) -> Any:
    return await start(tested, *args, keep=False, **more)


def merging(drop: Any, mailbox: Mailbox) -> None:
    if hasattr(mailbox, "own"):
        mailbox.cursor = None
    else:
        drop(mailbox)


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


def taking_the_last_settings(take: Any, talk: HeldConversation, push: Any) -> None:
    take(talk, push)
    if isinstance(push, Settings):
        assert talk.head is not None
        talk.head = replace(talk.head, name=push.name)


def counting_deleted_messages(frame: Any) -> Any:
    match frame:
        case Tombstone():
            return replace(frame, is_quiet=True)
        case Conversation():
            return replace(frame, uncounted_seqs=None)
    return frame


def counting_quiet_messages(frame: Any) -> Any:
    match frame:
        case Message():
            return replace(frame, quiet_count=None)
        case Conversation() | Receipts():
            return replace(frame, quiet_counts=None)
    return frame


async def overwriting(edit: Any, session: Session, message: Any, content: bytes) -> Any:
    try:
        return await edit(session, message, content)
    except RequestRefused:
        return await edit(session, replace(message, revision=(message.revision or 0) + 1), content)


def without_tombstones(apply: Any, mailbox: Mailbox, entries: Any) -> Any:
    return apply(mailbox, [each for each in entries if not isinstance(each, Tombstone)])


def taking_the_last_version(take: Any, talk: HeldConversation, push: Any) -> None:
    take(talk, push)
    if isinstance(push, DevicesChanged):
        talk.devices_version = push.devices_version


def without_versions(remove: Any, listed: ParticipantList, users: Any, _: int) -> None:
    remove(listed, users, 2**62)


async def with_the_old_token(store: Any, credentials: Any, ask: Any) -> Any:
    return replace(await ask(credentials), token=credentials.token)


def forgetting_its_token() -> Change:
    hellos = count(1)

    def say(frame: Any) -> Any:
        is_second = isinstance(frame, Hello) and next(hellos) == 2
        return replace(frame, token="alo_forgotten") if is_second else frame

    return saying(say)


def taking_the_last_mark() -> Change:
    told: list[int] = []

    def hear(frame: Any) -> Any:
        if isinstance(frame, Receipts):
            told.extend(read for user, _, read in frame.receipts if user == ME)
        return frame

    def read_seq(usual: Any, listed: ParticipantList, user: bytes) -> Any:
        return told[-1] if told and user == ME else usual(listed, user)

    return both(hearing(hear), around(ParticipantList, "read_seq", read_seq))


def taking_the_last(put: Any, talk: HeldConversation, entry: Any) -> bool:
    talk.entries.pop(entry.seq, None)
    return bool(put(talk, entry))


def ending(frame: Any) -> Any:
    return replace(frame, more=False) if isinstance(frame, Cursor | Synced) else frame


def content_with_a_first_page() -> Change:
    welcomes: list[Any] = []

    def hear(frame: Any) -> Any:
        welcomes.extend([frame] if isinstance(frame, Welcome) else [])
        return ending(frame) if len(welcomes) > 1 else frame

    return hearing(hear)


def without_changes(take: Any, known: KnownDevices, users: Any, listed: Any) -> list[Any]:
    take(known, users, listed)
    return []


def repeating_a_refused_cursor(frame: Any) -> Any:
    is_refused = isinstance(frame, Error) and frame.code == "cursor_expired"
    return replace(frame, code="internal", retry_after_ms=100) if is_refused else frame


def deaf_to_early_edits(put: Any, talk: HeldConversation, entry: Any) -> bool:
    is_early = isinstance(entry, Message) and entry.revision and entry.seq not in talk.entries
    return not is_early and bool(put(talk, entry))


def reading_by_own_quiet_messages(frame: Any) -> Any:
    is_own = isinstance(frame, Message) and frame.sender == ME
    return replace(frame, is_quiet=None) if is_own else frame


def keeping_what_has_disappeared(raise_floor: Any, talk: HeldConversation, first_seq: int) -> None:
    entries, messages = talk.entries, talk.messages
    raise_floor(talk, first_seq)
    talk.entries, talk.messages = entries, messages


def taking_the_last_request(learn: Any, talk: HeldConversation, told: Conversation) -> None:
    learn(talk, told)
    assert talk.head is not None
    talk.head = replace(talk.head, is_request=told.is_request)


def without_envelopes(frame: Any) -> Any:
    return replace(frame, envelope=None) if isinstance(frame, Message) else frame


def with_new_bytes(frame: Any) -> Any:
    is_sealed = isinstance(frame, Send) and not frame.is_quiet
    return replace(frame, content=secrets.token_bytes(32)) if is_sealed else frame


def with_new_keys(frame: Any) -> Any:
    if not (isinstance(frame, PutKeys) and frame.one_time_keys):
        return frame
    return replace(frame, one_time_keys=[(kind, at, secrets.token_bytes(32)) for kind, at, _ in frame.one_time_keys])


def deaf_to_digests(frame: Any) -> Any:
    if not isinstance(frame, HeldKeys):
        return frame
    return replace(frame, pools=[(*pool[:4], None, *pool[5:]) for pool in frame.pools])


def with_the_first_key_history() -> Change:
    known: list[bytes] = []

    def say(frame: Any) -> Any:
        if not isinstance(frame, PutKeys):
            return frame
        known.append(frame.key_history or b"")
        return replace(frame, key_history=known[0])

    return saying(say)


def with_another_temp_id_for_other_devices(frame: Any) -> Any:
    is_again = isinstance(frame, Send) and frame.devices_version == 4
    return replace(frame, temp_id=secrets.token_bytes(16)) if is_again else frame


def with_the_greatest_version() -> Change:
    told = [0]

    def hear(frame: Any) -> Any:
        told.append(frame.devices_version if isinstance(frame, DevicesChanged) else 0)
        return frame

    def say(frame: Any) -> Any:
        is_sealed = isinstance(frame, Send) and not frame.is_quiet
        return replace(frame, devices_version=max(*told, frame.devices_version)) if is_sealed else frame

    def head(usual: Any, mailbox: Mailbox, conversation: bytes) -> Any:
        held = usual(mailbox, conversation)
        return held and replace(held, devices_version=None)

    return both(hearing(hear), saying(say), around(Mailbox, "head", head))


def forgetting_control_messages(learn: Any, mailbox: Mailbox, conversation: bytes, error: Error) -> None:
    learn(mailbox, conversation, replace(error, control_seq=None))


def never_pinging(frame: Any) -> Any:
    return replace(frame, keep_alive_ms=10**9) if isinstance(frame, Welcome) else frame


def sure_of_its_version(frame: Any) -> Any:
    return replace(frame, version=1) if isinstance(frame, Welcome) else frame


def deaf_to_retry_after(init: Any, error: Unreachable, message: str, _: float = 0) -> None:
    init(error, message)


async def silent_about_pings(send: Any, stream: HeardStream, data: Any) -> None:
    if data[0] & 0x0F != PONG:
        await send(stream, data)


at_once = instead(backoff, "uniform", lambda *_: 0)
no_frame = "no frame like {type: %s"

WRONG: Final[dict[str, WrongClient]] = {
    "changed_set": WrongClient(saying(with_another_temp_id_for_other_devices), no_frame % "send, devices_version: 4"),
    "close_and_again": WrongClient(instead(errors, "may_reconnect", lambda _: False), no_frame % "connected"),
    "close_for_good": WrongClient(instead(errors, "may_reconnect", lambda _: True), "the client's state is"),
    "control_conflict": WrongClient(around(Mailbox, "learn_from", forgetting_control_messages), no_frame % "history"),
    "cursor_expired": WrongClient(hearing(repeating_a_refused_cursor), no_frame % "sync, cursor: absent"),
    "cursor_foreign": WrongClient(around(Mailbox, "drop", merging), "the client's state is"),
    "cut": WrongClient(around(Mailbox, "synced", without_cursor), "no frame like {any"),
    "cut_within_a_page": WrongClient(
        both(
            instead(link, "PAGES_AHEAD", 1),
            instead(synchronizer, "PAGES_AHEAD", 1),
            content_with_a_first_page(),
        ),
        "does not show the conversation",
    ),
    "deleted": WrongClient(hearing(counting_deleted_messages), "the client's state is"),
    "departed": WrongClient(deaf_to(Departed), "the client's state is"),
    "device_list": WrongClient(around(KnownDevices, "take", without_changes), "the outcome of `second`"),
    "devices_changed": WrongClient(around(HeldConversation, "take", taking_the_last_version), "the client's state is"),
    "disappearing": WrongClient(
        around(HeldConversation, "raise_floor", keeping_what_has_disappeared), "the client's state is"
    ),
    "drain": WrongClient(instead(Link, "insist", once), no_frame % "send, temp_id"),
    "early_frames": WrongClient(around(Mailbox, "apply", deaf_to_strangers), "the client's state is"),
    "edit_conflict": WrongClient(around(Session, "edit", overwriting), "the outcome of `edited`"),
    "envelopes": WrongClient(hearing(without_envelopes), "the client's state is"),
    "few_features": WrongClient(
        instead(ClientConnection, "features", frozenset(NAMES)), "SPEC 11.1: the client gives `pages`"
    ),
    "first_sync": WrongClient(instead(MarkSender, "run", for_ever), no_frame % "mark_delivered"),
    "floor": WrongClient(instead(HeldConversation, "raise_floor", nothing), "the client's state is"),
    "gap": WrongClient(instead(Mailbox, "gaps", lambda _: []), no_frame % "history"),
    "hello": WrongClient(saying(hasty), "SPEC 3: the client sends `sync` before it has got `welcome`"),
    "history_pages": WrongClient(content_with_one_page(), "the messages are"),
    "key_history": WrongClient(with_the_first_key_history(), no_frame % "put_keys"),
    "keys": WrongClient(deaf_to(KeysLow), no_frame % "key_status"),
    "lag": WrongClient(instead(Synchronizer, "take_lag", nothing), no_frame % "sync"),
    "lag_without_heads": WrongClient(deaf_to(Lag, where=lambda lag: not lag.heads), no_frame % "sync"),
    "late_edits": WrongClient(around(HeldConversation, "put", deaf_to_early_edits), "the client's state is"),
    "lost_control": WrongClient(around(ClientConnection, "send", with_other_temp_ids), "the outcome of `change`"),
    "lost_edit": WrongClient(instead(Link, "insist", once), "the outcome of `edited`"),
    "lost_keys": WrongClient(saying(with_new_keys), "SPEC 19.5: the client gives two keys"),
    "lost_renewal": WrongClient(forgetting_its_token(), "SPEC 13.1: the client shows a token"),
    "lost_reply": WrongClient(around(ClientConnection, "send", with_other_temp_ids), "the outcome of `two`"),
    "mark_read": WrongClient(instead(Session, "mark_read", nothing), no_frame % "mark_read"),
    "move": WrongClient(around(Link, "move", lambda move, linked, _: move(linked, 0)), "too early"),
    "move_and_close": WrongClient(both(instead(Link, "move", nothing), at_once), "too early"),
    "old_settings": WrongClient(around(HeldConversation, "take", taking_the_last_settings), "the client's state is"),
    "other_device": WrongClient(instead(ParticipantList, "has_written", nothing), "the client's state is"),
    "other_keys": WrongClient(hearing(deaf_to_digests), no_frame % "put_keys"),
    "outgoing_order": WrongClient(instead(SendTurn, "wait", last_first), no_frame % "send, content: text:three"),
    "own_delete": WrongClient(around(Mailbox, "apply", without_tombstones), "the client's state is"),
    "own_quiet": WrongClient(hearing(reading_by_own_quiet_messages), "the client's state is"),
    "pages": WrongClient(hearing(ending), "the client's state is"),
    "participants": WrongClient(around(ParticipantList, "remove", without_versions), "`participants` is"),
    "pings": WrongClient(around(HeardStream, "send_all", silent_about_pings), no_frame % "websocket_pong"),
    "presence": WrongClient(instead(Watcher, "renew", nothing), no_frame % "watch"),
    "pushed_sets": WrongClient(with_the_greatest_version(), "SPEC 19.10: the client gives the devices_version"),
    "quiet": WrongClient(hearing(counting_quiet_messages), "the client's state is"),
    "read_elsewhere": WrongClient(taking_the_last_mark(), "`unread_count` is 2, not 0"),
    "refused_send": WrongClient(around(RequestRefused, "__init__", stubborn), "the outcome of `two`"),
    "renewal": WrongClient(instead(link, "renew", with_the_old_token), no_frame % "hello, token: alo_renewed_1"),
    "reordered_pushes": WrongClient(around(HeldConversation, "put", in_order_of_arrival), "the messages are"),
    "repeated_pushes": WrongClient(around(HeldConversation, "put", appending), "the messages are"),
    "requests": WrongClient(around(HeldConversation, "learn", taking_the_last_request), "the client's state is"),
    "retried_send": WrongClient(instead(backoff, "after_s", lambda *_: 0), "too early"),
    "revisions": WrongClient(around(HeldConversation, "put", taking_the_last), "the client's state is"),
    "revoked": WrongClient(
        instead(errors, "may_reconnect", lambda code: code == 4505 or may_reconnect(code)), "the client's state is"
    ),
    "sealed_retry": WrongClient(saying(with_new_bytes), "SPEC 4.2: the client sends two different messages"),
    "silence": WrongClient(hearing(never_pinging), no_frame % "connected"),
    "slow": WrongClient(around(HeardStream, "receive_some", taking_a_piece_for_the_end), "the client's state is"),
    "stop_and_resume": WrongClient(around(TestedClient, "start", forgetful), "no frame like {any"),
    "strange_frames": WrongClient(around(Mailbox, "apply", inventive), no_frame % "sync"),
    "turned_away": WrongClient(both(around(Unreachable, "__init__", deaf_to_retry_after), at_once), "too early"),
    "typing": WrongClient(instead(Signs, "end_typing", nothing), "the client's state is"),
    "unknown": WrongClient(instead(connection, "decode_from_server", strict), "the client's state is"),
    "unknown_conversation": WrongClient(
        both(instead(Mailbox, "unknown", lambda _: set()), instead(Mailbox, "is_complete", True)), "no frame like {any"
    ),
    "unknown_error": WrongClient(around(RequestRefused, "__init__", sure_of_codes), "the outcome of `two`"),
    "version": WrongClient(hearing(sure_of_its_version), no_frame % "bye"),
}
"""Scenario -> a client that fails it."""
