"""`protocol.websocket.WebSocketReceiver`: any bytes give events and perhaps one error, however they are cut."""

from __future__ import annotations

from collections.abc import Iterable

from protocol import limits
from protocol.websocket import Close, Event, Ping, Pong, WebSocketError, WebSocketReceiver, is_sendable, pong_frame
from tests.fuzz.plan import read_plan

SMALL = 0x01
"""Flag: bounds so small that a short input reaches them."""

MAX_BYTE_BY_BYTE = 128
MAX_HEADER_BYTES = 14


def check(data: bytes) -> None:
    """Check an input: a plan and the client's bytes after the handshake."""
    plan = read_plan(data)
    bounds = (300, 4) if plan.flags & SMALL else (limits.MAX_WEBSOCKET_MESSAGE_BYTES, limits.MAX_FRAGMENTS)
    whole = _outcome((plan.body,), *bounds)
    if plan.sizes:
        assert _outcome(plan.pieces(), *bounds) == whole, f"cut into {plan.sizes} and the rest"
        assert _outcome(plan.pieces(repeat=True), *bounds) == whole, f"cut into {plan.sizes} again and again"
    if len(plan.body) <= MAX_BYTE_BY_BYTE:
        single = (plan.body[at : at + 1] for at in range(len(plan.body)))
        assert _outcome(single, *bounds) == whole, "cut into single bytes"


def _outcome(pieces: Iterable[bytes], max_bytes: int, max_fragments: int) -> tuple[list[Event], tuple[int, str] | None]:
    receiver = WebSocketReceiver(max_bytes, max_fragments)
    events: list[Event] = []
    failed: tuple[int, str] | None = None
    for piece in pieces:
        is_ended = failed is not None or (bool(events) and isinstance(events[-1], Close))
        before = len(events)
        try:
            events.extend(receiver.receive(piece))
        except WebSocketError as error:
            assert failed is None, "a second error"
            assert is_sendable(error.close_code)
            failed = error.close_code, error.detail
        if is_ended:
            assert len(events) == before, "an event after the end"
        of_frame, of_message = receiver.kept_bytes
        assert of_frame <= max_bytes + MAX_HEADER_BYTES, f"{of_frame} bytes of a frame are kept"
        assert of_message <= max_bytes, f"{of_message} bytes of a message are kept"
    for event in events:
        _check_event(event, max_bytes)
    return events, failed


def _check_event(event: Event, max_bytes: int) -> None:
    match event:
        case bytes():
            assert len(event) <= max_bytes
        case Ping(payload) | Pong(payload):
            assert pong_frame(payload)
        case Close(code, reason):
            assert code is None or is_sendable(code)
            assert len(reason.encode()) <= 123
