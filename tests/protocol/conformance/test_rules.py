"""The rules that hold in every scenario: the double blames a client that breaks one, and no other."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import Struct
from msgspec.structs import replace

from protocol.codec import encode
from protocol.codes import ErrorCode
from protocol.conformance.double import FIRST_TOKEN, Double
from protocol.conformance.handshake import WrongHandshake, accept
from protocol.conformance.offered import OFFERED
from protocol.conformance.own_writes import Violation
from protocol.conformance.peer import FEATURES_OF_REQUESTS, Action, DoubleConnection
from protocol.conformance.talk import Talk
from protocol.conformance.values import id_of
from protocol.features import FEATURES
from protocol.frames import (
    Bye,
    Delete,
    Devices,
    Edit,
    Error,
    Hello,
    History,
    MarkDelivered,
    MarkRead,
    Ping,
    PutKeys,
    Refresh,
    Request,
    Send,
    Sync,
    Watch,
)
from tests.rows import each_row

TALK, BOB = id_of("talk"), id_of("bob")
HELLO = Hello(0, FIRST_TOKEN, 1)
SEND = Send(1, TALK, "text/plain", b"two", None, None, b"t" * 16)
UPLOAD = PutKeys(1, b"identity", [("k", 1, b"a"), ("k", 2, b"b")], [("k", 1, b"last")], None, b"key history 1")


def served(features: list[str] | None = None) -> tuple[Double, DoubleConnection, list[Action]]:
    """A double with one conversation of one message, a client on it, and what the double does."""
    double = Double(lambda: 0.0, features)
    talk = Talk("talk")
    talk.write(BOB, b"one")
    double.talks[TALK] = talk
    actions: list[Action] = []
    return double, DoubleConnection(double, actions.append, 1, 0), actions


def say(peer: DoubleConnection, *frames: Request | bytes) -> None:
    for frame in frames:
        peer.receive(frame if isinstance(frame, bytes) else encode(frame))


class LaterRequest(Struct):
    """A request of a later version, which the double has no answer for."""

    request: int


RIGHT = [
    [HELLO, Sync(1, None), SEND, replace(SEND, request=2), Ping(1), Bye(3)],
    [HELLO, Sync(1, None), MarkDelivered(2, [(TALK, 1)]), MarkRead(3, [(TALK, 9)])],
    [HELLO, Sync(1, None), SEND, MarkDelivered(2, [(TALK, 2)])],
    [HELLO, History(1, TALK, 10, None, None), MarkDelivered(2, [(TALK, 1)])],
    [HELLO, Refresh(1, FIRST_TOKEN), Refresh(2, "alo_renewed_1")],
    [HELLO, SEND, Edit(2, TALK, 2, "text/plain", b"x", None, None, 0), Delete(3, TALK, 2, True)],
    [HELLO, Sync(1, None, pages=2), Watch(2, [BOB]), Devices(3, None, [BOB])],
    [HELLO, UPLOAD, replace(UPLOAD, request=2), replace(UPLOAD, request=3, one_time_keys=[("k", 3, b"c")])],
    [HELLO, Devices(1, None, [BOB]), replace(SEND, request=2, devices_version=0)],
]


@each_row("frames", RIGHT, ids=range(len(RIGHT)))
def test_a_client_that_keeps_the_rules_is_not_blamed(frames: list[Request]) -> None:
    say(served()[1], *frames)


WRONG: dict[str, tuple[str, list[Request | bytes]]] = {
    "other bytes": ("2.2", [b"\xff"]),
    "an invalid frame": ("2.1", [HELLO, encode(replace(SEND, temp_id=b"short"))]),
    "a first frame that is no hello": ("3", [Ping(1)]),
    "a second hello": ("3", [HELLO, replace(HELLO, request=1)]),
    "a frame after bye": ("3", [HELLO, Bye(1), Ping(2)]),
    "two messages with one temp_id": ("4.2", [HELLO, SEND, replace(SEND, request=2, content=b"other")]),
    "a mark without the message": ("5.5", [HELLO, MarkDelivered(1, [(TALK, 1)])]),
    "a mark beyond the last message": ("5.5", [HELLO, Sync(1, None), MarkDelivered(2, [(TALK, 2)])]),
    "a made-up cursor in sync": ("6.1", [HELLO, Sync(1, b"cursor")]),
    "a made-up cursor in hello": ("6.1", [replace(HELLO, cursor=b"cursor")]),
    "another identity": ("19.2", [HELLO, UPLOAD, replace(UPLOAD, request=2, identity=b"other")]),
    "two keys with one number": ("19.5", [HELLO, UPLOAD, replace(UPLOAD, request=2, one_time_keys=[("k", 2, b"c")])]),
    "two last-resort keys with one number": (
        "19.5",
        [HELLO, UPLOAD, replace(UPLOAD, request=2, last_resort_keys=[("k", 1, b"c")])],
    ),
    "a lesser number": (
        "19.5",
        [HELLO, replace(UPLOAD, one_time_keys=[("k", 9, b"a")]), replace(UPLOAD, request=2, last_resort_keys=None)],
    ),
    "a device set that it was not told": ("19.10", [HELLO, replace(SEND, devices_version=0)]),
    "another token": ("13.1", [replace(HELLO, token="alo_other")]),
    "another token to renew": ("13.1", [HELLO, Refresh(1, "alo_other")]),
    "an old token after a new one": (
        "13.1",
        [HELLO, Refresh(1, FIRST_TOKEN), Refresh(2, "alo_renewed_1"), Refresh(3, FIRST_TOKEN)],
    ),
}


@each_row("what", WRONG)
def test_a_client_that_breaks_a_rule_is_blamed_by_its_section(what: str) -> None:
    section, frames = WRONG[what]
    _, peer, _ = served()
    say(peer, *frames[:-1])
    with pytest.raises(Violation, match=f"^SPEC {section}: ") as blamed:
        say(peer, frames[-1])
    assert blamed.value.section == section


@each_row(
    "frame",
    [
        Sync(1, None, pages=2),
        Sync(1, None, count=2),
        replace(SEND, reply_to=1),
        replace(SEND, is_quiet=True),
        replace(SEND, devices_version=1),
        Edit(1, TALK, 1, "text/plain", b"x", None, None, 0),
        Delete(1, TALK, 1, False),
        Watch(1, [BOB]),
        Devices(1, None, [BOB]),
    ],
    ids=repr,
)
def test_a_client_that_uses_a_feature_that_is_not_listed_is_blamed(frame: Request) -> None:
    _, peer, _ = served([])
    say(peer, HELLO)
    with pytest.raises(Violation, match=r"^SPEC 11\.1: "):
        say(peer, frame)


def test_the_double_offers_features_of_the_protocol_and_answers_a_request_that_it_does_not_know() -> None:
    assert FEATURES.keys() >= OFFERED
    assert set(FEATURES_OF_REQUESTS.values()) <= FEATURES.keys()
    double, _, _ = served()
    assert double.answer(LaterRequest(7)) == [Error(7, "unknown_frame", ErrorCode.UNKNOWN_FRAME.info.meaning)]


def test_a_client_is_blamed_for_a_frame_before_welcome_and_for_a_number_in_use() -> None:
    double, peer, actions = served()
    double.faults["hello"].append({"hold": True})
    double.faults["ping"].append({"silence": True})
    say(peer, HELLO)
    with pytest.raises(Violation, match="before it has got `welcome`"):
        say(peer, Ping(1))
    assert actions == []
    peer.release()
    say(peer, Ping(2))
    with pytest.raises(Violation, match=r"^SPEC 2\.5: "):
        say(peer, Ping(2))


def test_a_client_marks_no_further_than_its_first_gap() -> None:
    double, peer, _ = served()
    say(peer, HELLO, Sync(1, None))
    talk = double.talks[TALK]
    talk.write(BOB, b"two")
    peer.push([talk.write(BOB, b"three")])
    say(peer, MarkDelivered(2, [(TALK, 1)]))
    with pytest.raises(Violation, match="up to 1 at most"):
        say(peer, MarkDelivered(3, [(TALK, 3)]))
    say(peer, History(4, TALK, None, 3, 1), MarkDelivered(5, [(TALK, 3)]))


def test_a_client_may_mark_a_message_that_a_scenario_gives_field_by_field() -> None:
    double, peer, _ = served()
    told = {"conversation": TALK, "seq": 1, "message": b"m" * 16, "created": 1, "sender": BOB}
    message = {"type": "message", **told, "content_type": "text/plain", "content": b"one"}
    reply = {"type": "messages", "more": False, "messages": [{"type": 253, "240": 1}, message]}
    double.faults["history"].append({"reply": reply})
    say(peer, HELLO, History(1, TALK, None, None, None), MarkDelivered(2, [(TALK, 1)]))


def request(path: str = "/v1/socket", **headers: str) -> bytes:
    usual = {
        "Upgrade": "websocket",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Protocol": "alo.v1",
    }
    told: dict[str, Any] = {**usual, **{name.replace("_", "-"): each for name, each in headers.items()}}
    return "\r\n".join([f"GET {path} HTTP/1.1", *(f"{name}: {each}" for name, each in told.items())]).encode()


def test_a_handshake_is_answered_as_rfc_6455_shows() -> None:
    answer = accept(request(Sec_WebSocket_Protocol="x, alo.v1"))
    assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in answer
    assert b"Sec-WebSocket-Protocol: alo.v1\r\n" in answer


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (request("/"), 404),
        (request(Upgrade="h2c"), 426),
        (request(Sec_WebSocket_Protocol="x"), 400),
        (b"POST /v1/socket HTTP/1.1", 404),
        (b"\xff\xfe", 404),
    ],
)
def test_a_wrong_handshake_is_refused_as_a_server_does(head: bytes, status: int) -> None:
    with pytest.raises(WrongHandshake) as refused:
        accept(head)
    assert (refused.value.status, refused.value.section) == (status, "1.1")
