from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.e2ee.wire import (
    SMALLEST_BYTES,
    DeviceIdentity,
    Envelope,
    KeyContent,
    KeyShare,
    Malformed,
    Sealed,
    SealedContent,
    decode,
    encode,
    identity_of,
    pad,
    padded_length,
    signed_identity,
    signed_key,
    unpad,
)

ids = st.binary(min_size=16, max_size=16)
revisions = st.integers(0, 2**31)
structs = st.one_of(
    st.builds(Sealed, ids, ids, ids, ids, ids, revisions, st.text(), revisions, st.booleans(), st.binary()),
    st.builds(Envelope, st.integers(0, 9), st.binary(), st.integers(0, 1), st.binary()),
    st.builds(SealedContent, st.integers(0, 9), st.text(), st.binary()),
    st.builds(KeyContent, st.integers(0, 9), st.text()),
    st.builds(KeyShare, ids, ids, ids, ids, ids, st.binary()),
)


@given(structs)
def test_each_struct_is_decoded_as_it_was_encoded(
    value: Sealed | Envelope | SealedContent | KeyContent | KeyShare,
) -> None:
    assert decode(encode(value), type(value)) == value


@given(st.binary())
def test_any_other_bytes_are_refused_by_name(data: bytes) -> None:
    for type_ in (Sealed, Envelope, SealedContent, KeyContent, KeyShare):
        try:
            decode(data, type_)
        except Malformed:
            continue


@given(st.binary(max_size=5000))
def test_padding_comes_off_again(data: bytes) -> None:
    padded = pad(data)
    assert unpad(padded) == data
    assert len(padded) >= SMALLEST_BYTES


@pytest.mark.parametrize("padded", [b"", bytes(200), b"text" + bytes(196)])
def test_padding_without_its_mark_is_refused(padded: bytes) -> None:
    with pytest.raises(Malformed):
        unpad(padded)


@given(st.integers(1, 2**20))
def test_padded_lengths_are_few(length: int) -> None:
    padded = padded_length(length)
    assert length <= padded
    assert padded in (128, 256, 512) or (padded % 1024 == 0 and padded < length + 1024)


def test_signed_bytes_tell_users_devices_numbers_and_kinds_apart() -> None:
    one, other, key = b"a" * 16, b"b" * 16, b"k" * 32
    assert signed_identity(one, other, key, key) != signed_identity(other, one, key, key)
    made = {
        signed_key(*ids, number, key, is_last_resort=is_last)
        for ids in ((one, other), (other, one))
        for number in (1, 256)
        for is_last in (False, True)
    }
    assert len(made) == 8
    assert signed_identity(one, other, key, key) not in made


def test_an_identity_of_another_format_is_refused() -> None:
    identity = DeviceIdentity(b"c" * 32, b"e" * 32, b"s" * 64)
    data = identity.encode()
    assert identity_of(data) == identity
    for other in (b"", data[:-1], data + b"x", b"\x02" + data[1:]):
        with pytest.raises(Malformed):
            identity_of(other)
