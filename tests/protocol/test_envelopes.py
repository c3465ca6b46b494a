"""Rules for all envelopes of a frame together."""

from __future__ import annotations

import pytest

from protocol.envelopes import fault_of
from protocol.limits import MAX_ENVELOPE_BYTES, MAX_ENVELOPES, MAX_ENVELOPES_BYTES
from protocol.requests import Envelope

OWN = b"o" * 16
LARGEST = bytes(MAX_ENVELOPE_BYTES)


def devices(count: int) -> list[bytes]:
    return [n.to_bytes(16, "big") for n in range(count)]


@pytest.mark.parametrize(
    "good",
    [
        [(device, b"e") for device in devices(MAX_ENVELOPES)],
        [(device, LARGEST) for device in devices(MAX_ENVELOPES_BYTES // MAX_ENVELOPE_BYTES)],
    ],
)
def test_as_many_devices_and_bytes_as_allowed_are_good(good: list[Envelope]) -> None:
    assert fault_of(good, OWN) is None


@pytest.mark.parametrize(
    ("bad", "fault"),
    [
        ([(OWN, b"e")], "envelopes (key 76) must not name the device that sends them"),
        ([(b"d" * 16, b"e"), (b"d" * 16, b"e")], "envelopes (key 76) must name each device once"),
        (
            [*((device, LARGEST) for device in devices(3)), (b"d" * 16, b"e")],
            f"envelopes (key 76) must have at most {MAX_ENVELOPES_BYTES} bytes together, and have 196609",
        ),
    ],
)
def test_an_error_says_which_rule_the_envelopes_break(bad: list[Envelope], fault: str) -> None:
    assert fault_of(bad, OWN) == fault
