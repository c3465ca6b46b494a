"""The bytes that each adapter sends, and its reading of the answers."""

import base64
import json
from dataclasses import dataclass, field
from uuid import UUID

import pytest

from bench.adapters import ADAPTERS, SYNCED, WRITERS, Adapter
from bench.adapters.base import FIRST_SEND, STAMP
from bench.mixture import OperationKind
from bench.workload import ChatParticipant, body
from protocol.codec import decode_from_client, encode
from protocol.frames import (
    Done,
    Error,
    Hello,
    MarkDelivered,
    MarkRead,
    Message,
    Send,
    Sent,
    SetTyping,
    Sync,
    Synced,
    Welcome,
)

USER, OTHER = str(UUID(int=1)), str(UUID(int=2))
CONVERSATION = str(UUID(int=3))
BODY = body(200)
STAMP_S = 1234.5


@dataclass
class Heard:
    """Events that records its calls."""

    opens: int = 0
    acks: list[int] = field(default_factory=list)
    stamps: list[float] = field(default_factory=list)
    unread: int = 0
    failures: list[str] = field(default_factory=list)
    replies: list[bytes] = field(default_factory=list)

    def opened(self) -> None:
        self.opens += 1

    def acked(self, request: int) -> None:
        self.acks.append(request)

    def delivered(self, stamp: float) -> None:
        self.stamps.append(stamp)

    def passed(self, messages: int) -> None:
        self.unread += messages

    def failed(self, why: str) -> None:
        self.failures.append(why)

    def reply(self, payload: bytes) -> None:
        self.replies.append(payload)


def adapter(protocol: str, *, is_reader: bool = True) -> tuple[Adapter, Heard]:
    heard = Heard()
    return (ADAPTERS if is_reader else WRITERS)[protocol](heard, ChatParticipant(USER, "secret"), BODY), heard


def pushed(seq: int, content: bytes, nonce: bytes | None = None) -> bytes:
    return encode(Message(UUID(CONVERSATION).bytes, seq, bytes(16), 1, UUID(OTHER).bytes, "text", content, nonce, None))


def test_ours_opens_with_its_token() -> None:
    alo, heard = adapter("alo")
    alo.start()
    assert [type(frame) for frame in decode_from_client(heard.replies[0])] == [Hello]
    alo.receive(encode(Welcome(0, 1, bytes(16), bytes(16), 1, 2, 30_000)))
    assert heard.opens == 1


def test_a_device_that_syncs_is_open_when_it_has_come_to_the_end() -> None:
    heard = Heard()
    alo = SYNCED["alo"](heard, ChatParticipant(USER, "secret"), BODY)
    alo.receive(encode(Welcome(0, 1, bytes(16), bytes(16), 1, 2, 30_000)))
    alo.receive(pushed(1, b"from before") + encode(Synced(1, b"one", True)))
    assert (heard.opens, heard.stamps) == (0, []), "what it missed is no message of the load"
    asked = [frame for reply in heard.replies for frame in decode_from_client(reply)]
    assert [frame.cursor for frame in asked if isinstance(frame, Sync)] == [None, b"one"]
    alo.receive(encode(Synced(1, b"two", False)))
    alo.receive(pushed(2, STAMP.pack(STAMP_S) + bytes(191)))
    assert (heard.opens, heard.stamps) == (1, [STAMP_S])


def test_a_send_is_what_the_reference_encoder_makes() -> None:
    alo, _ = adapter("alo")
    for request in (FIRST_SEND, FIRST_SEND + 1, 2**32 - 1):
        payload = alo.send(request, CONVERSATION, STAMP_S)
        [send] = decode_from_client(payload)
        assert isinstance(send, Send)
        assert (send.request, send.conversation) == (request, UUID(CONVERSATION).bytes)
        assert send.content == STAMP.pack(STAMP_S) + BODY.content[STAMP.size :]
        assert (send.nonce, send.ephemeral_public_key) == (BODY.nonce, BODY.public_key)
        assert encode(send) == payload


def test_no_temp_id_comes_twice_or_the_server_would_answer_without_work() -> None:
    one, other = adapter("alo")[0], adapter("alo")[0]
    payloads = [a.send(FIRST_SEND + n, CONVERSATION, 0.0) for a in (one, other) for n in range(100)]
    frames = [frame for payload in payloads for frame in decode_from_client(payload)]
    assert len({frame.temp_id for frame in frames if isinstance(frame, Send)}) == 200


def test_many_frames_in_one_message_are_all_seen() -> None:
    alo, heard = adapter("alo")
    stamped = STAMP.pack(STAMP_S) + bytes(191)
    alo.receive(encode(Sent(FIRST_SEND, 1, bytes(16), 1)) + pushed(2, stamped) + encode(Done(7)))
    assert (heard.acks, heard.stamps, heard.failures) == ([FIRST_SEND], [STAMP_S], [])


def test_a_refusal_is_a_failure() -> None:
    alo, heard = adapter("alo")
    alo.receive(encode(Error(FIRST_SEND, "overloaded", "too much", 10)))
    assert heard.failures == ["overloaded: too much"]


def test_marks_are_the_latest_of_each_conversation_and_said_once() -> None:
    alo, _ = adapter("alo")
    assert alo.take_marks() == b""
    alo.receive(pushed(5, bytes(200)) + pushed(6, bytes(200)))
    [marks] = decode_from_client(alo.take_marks())
    assert isinstance(marks, MarkDelivered)
    assert marks.marks == [(UUID(CONVERSATION).bytes, 6)]
    assert 0 < marks.request < FIRST_SEND
    assert alo.take_marks() == b""


def test_a_writer_finds_its_reply_among_messages_that_it_counts_unread() -> None:
    alo, heard = adapter("alo", is_reader=False)
    alo.receive(encode(Welcome(0, 1, bytes(16), bytes(16), 1, 2, 30_000)))
    for request in (FIRST_SEND, FIRST_SEND + 1):
        alo.send(request, CONVERSATION, STAMP_S)
    before, after = (pushed(seq, BODY.content, BODY.nonce) for seq in (1, 3))
    alo.receive(before + encode(Sent(FIRST_SEND, 2, bytes(16), 1)) + after)
    alo.receive(after + encode(Error(FIRST_SEND + 1, "overloaded", "too much", 10)) + encode(Done(7)))
    assert heard == Heard(opens=1, acks=[FIRST_SEND], failures=["overloaded: too much"], unread=3, replies=[])
    [marks] = decode_from_client(alo.take_marks())
    assert isinstance(marks, MarkDelivered)
    assert marks.marks == [(UUID(CONVERSATION).bytes, 2)]


def test_the_plans_peer_is_greeted_in_its_order() -> None:
    sio, heard = adapter("sio")
    sio.receive(b'0{"sid":"x","upgrades":[],"pingInterval":25000}')
    sio.receive(b'40{"sid":"y"}')
    sio.receive(b"2")
    assert heard.replies == [b'40{"userId": "%b"}' % USER.encode(), b"3"]
    assert (heard.opens, heard.failures) == (1, [])


def test_a_device_marks_what_it_has_received_as_read_and_says_that_its_user_types() -> None:
    alo, heard = adapter("alo")
    assert alo.operation(OperationKind.MARK, FIRST_SEND, CONVERSATION) == b"", "nothing has come"
    alo.receive(pushed(5, bytes(200)))
    [read] = decode_from_client(alo.operation(OperationKind.MARK, FIRST_SEND, CONVERSATION))
    assert read == MarkRead(FIRST_SEND, [(UUID(CONVERSATION).bytes, 5)])
    assert alo.operation(OperationKind.MARK, FIRST_SEND, CONVERSATION) == b"", "it has marked that"
    [typing] = decode_from_client(alo.operation(OperationKind.TYPING, FIRST_SEND + 1, CONVERSATION))
    assert typing == SetTyping(FIRST_SEND + 1, UUID(CONVERSATION).bytes, True)
    alo.receive(encode(Done(FIRST_SEND)) + encode(Done(7)))
    assert heard.acks == [FIRST_SEND], "replies to its own marks are no answers to operations"


def test_the_plans_peer_marks_the_message_that_came_last() -> None:
    sio, heard = adapter("sio")
    assert sio.operation(OperationKind.MARK, FIRST_SEND, CONVERSATION) == b""
    fields = {"id": "m1", "conversation_id": CONVERSATION, "sender_id": OTHER, "encrypted_content": "A" * 12}
    sio.receive(b"42" + json.dumps(["message:new", fields]).encode())
    read = sio.operation(OperationKind.MARK, FIRST_SEND, CONVERSATION)
    assert json.loads(read.removeprefix(b"4265536")) == [
        "message:read",
        {"conversationId": CONVERSATION, "messageId": "m1"},
    ]
    sio.receive(b'4365536[{"success":true}]')
    assert (heard.acks, heard.failures) == ([FIRST_SEND], [])
    typing = json.loads(sio.operation(OperationKind.TYPING, FIRST_SEND, CONVERSATION).removeprefix(b"42"))
    assert typing == ["typing:start", {"conversationId": CONVERSATION}]


@pytest.mark.parametrize("kind", [OperationKind.HISTORY, OperationKind.LIST])
def test_the_lean_peer_reads_pages_where_it_sends(kind: OperationKind) -> None:
    lean, heard = adapter("ws")
    assert json.loads(lean.operation(kind, FIRST_SEND, CONVERSATION)) == {
        "t": kind,
        "id": FIRST_SEND,
        "conversationId": CONVERSATION,
    }
    lean.receive(b'{"t":"ack","id":65536,"success":true,"messages":[{"id":"m"}]}')
    assert heard.acks == [FIRST_SEND]


@pytest.mark.parametrize("protocol", ["sio", "ws"])
def test_json_peers_get_the_same_fields(protocol: str) -> None:
    payload = adapter(protocol)[0].send(FIRST_SEND, CONVERSATION, STAMP_S)
    message = json.loads(payload) if protocol == "ws" else json.loads(payload.removeprefix(b"4265536"))[1]
    assert message["conversationId"] == CONVERSATION
    assert base64.b64decode(message["encryptedContent"]) == STAMP.pack(STAMP_S) + BODY.content[STAMP.size :]
    assert base64.b64decode(message["nonce"]) == BODY.nonce
    assert base64.b64decode(message["ephemeralPublicKey"]) == BODY.public_key


@pytest.mark.parametrize(
    ("protocol", "ack", "refusal", "new"),
    [
        (
            "sio",
            b'4370000[{"success":true,"message":{"id":"m"}}]',
            b'4370001[{"success":false,"error":"no"}]',
            '42["message:new",{"id":"m","sender_id":"%s","encrypted_content":"%s"}]',
        ),
        (
            "ws",
            b'{"t":"ack","id":70000,"success":true,"message":{"id":"m"}}',
            b'{"t":"ack","id":70001,"success":false,"error":"no"}',
            '{"t":"new","message":{"id":"m","sender_id":"%s","encrypted_content":"%s"}}',
        ),
    ],
)
@pytest.mark.parametrize("is_reader", [True, False])
def test_json_peers_are_understood(protocol: str, ack: bytes, refusal: bytes, new: str, is_reader: bool) -> None:
    json_peer, heard = adapter(protocol, is_reader=is_reader)
    content = base64.b64encode(STAMP.pack(STAMP_S) + bytes(191)).decode()
    for payload in (ack, refusal, *((new % (sender, content)).encode() for sender in (USER, OTHER))):
        json_peer.receive(payload)
    stamps, unread = ([STAMP_S], 0) if is_reader else ([], 1)
    expected = Heard(acks=[70000], failures=["no"], stamps=stamps, unread=unread)
    assert heard == expected, "a sender's own message is no delivery"
