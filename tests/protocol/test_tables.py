"""The tables: every code has an entry, every state has an answer for every request, every field has its place."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from protocol import limits
from protocol.codec import encode
from protocol.codes import CLOSES, ERRORS, CloseCode, ErrorCode, may_reconnect
from protocol.errors import RemoteProtocolError, RequestError
from protocol.frames import (
    PUSHES,
    REPLIES,
    REQUESTS,
    Conversation,
    Done,
    Downloads,
    DownloadTicket,
    Edit,
    Frame,
    Key,
    Lag,
    MarkDelivered,
    MarkRead,
    Message,
    Participant,
    Request,
    Revised,
    Send,
    Sent,
    Stay,
    Sync,
    Synced,
    Tombstone,
    Type,
)
from protocol.numbers import PUSH_TYPES, REPLY_TYPES, REQUEST_TYPES
from protocol.states import TRANSITIONS, State, StateMachine
from tests.protocol.strategies import full
from tests.rows import checked_rows, each_row

FRAMES: dict[type[Request], Request] = {struct: full(struct) for struct in REQUESTS}


def test_every_error_code_has_an_entry_and_a_wire_name() -> None:
    assert set(ERRORS) == set(ErrorCode)
    for code in ErrorCode:
        assert re.fullmatch("[a-z]+(_[a-z]+)*", code.value)
        assert code.info.meaning.endswith(".")


def test_every_close_code_has_an_entry() -> None:
    assert set(CLOSES) == set(CloseCode)
    for code in CloseCode:
        assert code.info.meaning.endswith(".")
        # Each code after which clients reconnect has a delay, and no other code: else all clients come back at once.
        assert bool(code.info.delay_s) == code.info.reconnect


def test_close_codes_say_by_their_range_what_to_do() -> None:
    """Clients reconnect after 4000 to 4499 and not after 4500 to 4999, so they can act on a code that they do not
    know."""
    for code in CloseCode:
        assert 1000 <= code.value <= 1015 or 4000 <= code.value <= 4999
        assert may_reconnect(code.value) == code.info.reconnect
        if code.value >= 4000:
            assert code.info.reconnect == (code.value < 4500)


@given(st.integers(4000, 4999).filter(lambda code: code not in [each.value for each in CloseCode]))
def test_unknown_close_codes_go_by_their_range(code: int) -> None:
    assert may_reconnect(code) == (code < 4500)


@each_row("code", [1000, 1001, 1005, 1006, 1013, 1014, 1015])
def test_accidents_are_worth_another_attempt(code: int) -> None:
    assert may_reconnect(code)


def test_the_table_of_states_answers_every_request_in_every_state() -> None:
    assert set(TRANSITIONS) == set(State)
    for state in State:
        assert set(TRANSITIONS[state]) == set(REQUESTS) == set(FRAMES)


def test_receive_does_what_the_table_says() -> None:
    with checked_rows() as rows:
        for state, kind in itertools.product(State, REQUESTS):
            with rows.row((state, kind)):
                check_transition(state, kind)


def check_transition(state: State, kind: type[Request]) -> None:
    machine, frame = StateMachine(), FRAMES[kind]
    machine.state = state
    match TRANSITIONS[state][kind]:
        case State() as following:
            machine.receive(frame)
            assert machine.state is following
        case ErrorCode() as code:
            with pytest.raises(RequestError) as refused:
                machine.receive(frame)
            assert (refused.value.request, refused.value.code) == (7, code)
            assert machine.state is state
        case CloseCode() as close:
            with pytest.raises(RemoteProtocolError) as closed:
                machine.receive(frame)
            assert closed.value.close_code is close
            assert machine.state is state


def test_a_request_that_is_refused_while_draining_may_be_retried() -> None:
    assert {ERRORS[code].retry for code in TRANSITIONS[State.DRAINING].values() if isinstance(code, ErrorCode)} == {
        True
    }
    assert all(isinstance(outcome, ErrorCode) for outcome in TRANSITIONS[State.DRAINING].values())


def test_every_type_has_one_struct_in_the_range_of_its_kind() -> None:
    structs: list[type[Frame]] = [*REQUESTS, *REPLIES, *PUSHES]
    assert sorted(struct.TYPE for struct in structs) == sorted(Type)
    assert all(struct.TYPE in REQUEST_TYPES for struct in REQUESTS)
    assert all(struct.TYPE in REPLY_TYPES for struct in REPLIES)
    assert all(struct.TYPE in PUSH_TYPES for struct in PUSHES)
    assert all(struct.__struct_fields__[0] == "request" for struct in (*REQUESTS, *REPLIES))


def test_every_key_of_a_frame_that_is_sent_for_each_message_takes_one_byte() -> None:
    """These are the frames of sends, deliveries and reads; other frames, and the fields in `few`, are rarer: their keys
    may take two bytes."""
    for struct in (Send, Sent, Message, Tombstone, MarkDelivered, MarkRead, Done, Edit, Revised, Sync, Synced):
        few = {"reply_to", "attachments", "thumbnail", "is_quiet", "quiet_count", "count", "pages", "actor"}
        few |= {"devices_version", "kinds", "wants_devices", "envelopes", "has_envelopes", "envelope", "follows"}
        assert max(Key[name.upper()] for name in struct.__struct_fields__ if name not in few) <= 23, struct


def test_the_largest_frames_fit_into_one_websocket_message() -> None:
    """So do three of the largest sends, as the limit says, and each push and mark."""
    send = Send(
        limits.MAX_REQUEST,
        b"c" * 16,
        "t" * limits.MAX_CONTENT_TYPE_BYTES,
        bytes(limits.MAX_CONTENT_BYTES),
        bytes(limits.MAX_NONCE_BYTES),
        bytes(limits.MAX_PUBLIC_KEY_BYTES),
        b"t" * 16,
        limits.MAX_SEQ,
        [b"a" * 16] * limits.MAX_ATTACHMENTS,
        bytes(limits.MAX_THUMBNAIL_BYTES),
    )
    assert 3 * len(encode(send)) <= limits.MAX_WEBSOCKET_MESSAGE_BYTES
    push = Message(
        b"c" * 16,
        limits.MAX_SEQ,
        b"m" * 16,
        2**63 - 1,
        b"s" * 16,
        *[getattr(send, name) for name in ("content_type", "content", "nonce", "ephemeral_public_key")],
        attachments=send.attachments,
        thumbnail=send.thumbnail,
        has_envelopes=True,
        envelope=bytes(limits.MAX_ENVELOPE_BYTES),
    )
    assert len(encode(push)) <= limits.MAX_WEBSOCKET_MESSAGE_BYTES
    envelope = limits.MAX_ENVELOPES_BYTES // limits.MAX_ENVELOPES
    envelopes = [(b"d" * 16, bytes(envelope))] * limits.MAX_ENVELOPES
    small = replace(send, content=bytes(32 * 1024), thumbnail=None, envelopes=envelopes)
    assert len(encode(small)) <= limits.MAX_WEBSOCKET_MESSAGE_BYTES
    marks = MarkDelivered(limits.MAX_REQUEST, [(b"c" * 16, limits.MAX_SEQ)] * limits.MAX_MARKS)
    assert len(encode(marks)) <= limits.MAX_WEBSOCKET_MESSAGE_BYTES
    lag = Lag([(b"c" * 16, limits.MAX_SEQ)] * limits.MAX_HEADS)
    assert len(encode(lag)) <= limits.MAX_WEBSOCKET_MESSAGE_BYTES
    participant = Participant(
        b"u" * 16,
        2**31 - 1,
        "u" * 32,
        *[limits.MAX_SEQ] * 3,
        True,
        "n" * limits.MAX_DISPLAY_NAME_BYTES,
        limits.MAX_SEQ,
        b"a" * 16,
        (b"a" * 16, 2**63 - 1, bytes(32)),
    )
    conversation = replace(
        full(Conversation),
        participants=[participant] * limits.MAX_SHOWN,
        last_message=push,
        uncounted_seqs=[limits.MAX_SEQ] * limits.MAX_UNCOUNTED,
        former=[Stay(b"u" * 16, None, None, limits.MAX_SEQ, b"a" * 16, limits.MAX_SEQ)] * limits.MAX_FORMER,
    )
    assert len(encode(conversation)) <= limits.MAX_WEBSOCKET_MESSAGE_BYTES
    download = DownloadTicket(
        2**63 - 1,
        b"a" * 16,
        b"t" * 16,
        2**63 - 1,
        "m" * limits.MAX_MEDIA_TYPE_BYTES,
        bytes(32),
        "u" * limits.MAX_URL_BYTES,
    )
    page_bytes = len(encode(Downloads(limits.MAX_REQUEST, [download] * limits.MAX_PAGE_DOWNLOADS * 2)))
    assert limits.MAX_PAGE_BYTES + page_bytes <= limits.MAX_WEBSOCKET_MESSAGE_BYTES - 20_000
