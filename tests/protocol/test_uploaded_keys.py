"""Rules for all keys of an upload together."""

from __future__ import annotations

import pytest

from protocol.requests import OneTimeKey
from protocol.uploaded_keys import key_fault_of

A, B = ("otk", 1, b"a"), ("otk", 2, b"b")


@pytest.mark.parametrize(
    ("one_time_keys", "last_resort_keys"),
    [
        ([], []),
        ([A, B], [A]),
        ([A, A], [A, A]),  # repeated as they are
        ([A, ("ec", 1, b"c")], [A, ("ec", 1, b"c")]),
    ],
)
def test_keys_of_different_numbers_and_kinds_are_good(
    one_time_keys: list[OneTimeKey], last_resort_keys: list[OneTimeKey]
) -> None:
    assert key_fault_of(one_time_keys, last_resort_keys) is None


@pytest.mark.parametrize(
    ("one_time_keys", "last_resort_keys", "fault"),
    [
        (
            [A, B, ("otk", 1, b"c")],
            [],
            "one_time_keys must give each key of a kind a number of its own: two of otk have 1",
        ),
        ([A], [A, B], "last_resort_keys must have one key of each kind: there are two of otk"),
        ([], [A, ("otk", 1, b"c")], "last_resort_keys must have one key of each kind: there are two of otk"),
    ],
)
def test_an_error_says_which_rule_the_keys_break(
    one_time_keys: list[OneTimeKey], last_resort_keys: list[OneTimeKey], fault: str
) -> None:
    assert key_fault_of(one_time_keys, last_resort_keys) == fault


def test_keys_cannot_be_replaced_by_none() -> None:
    assert key_fault_of([A], [], is_anew=True) is None
    for last_resort_keys in ([], [A]):
        fault = key_fault_of([], last_resort_keys, is_anew=True)
        assert fault is not None
        assert "upload new keys, or leave is_anew out" in fault
