from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.e2ee.files import (
    CHUNK_BYTES,
    SMALLEST_BYTES,
    TAG_BYTES,
    decrypt_file,
    encrypt_file,
    new_key,
    padded_length,
)
from client.e2ee.wire import Malformed

SIZES = [1, 255, 256, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES, 200_000]


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    return tmp_path / "plain"


def sealed_of(plain: Path, key: bytes) -> Path:
    sealed = plain.with_name("sealed")
    encrypt_file(key, plain, sealed)
    return sealed


@pytest.mark.parametrize("size", SIZES)
def test_a_file_comes_out_as_it_went_in(plain: Path, size: int) -> None:
    plain.write_bytes((b"some text, " * size)[:size])
    key = new_key()
    sealed = plain.with_name("sealed")
    assert encrypt_file(key, plain, sealed) == size
    assert b"some text" not in sealed.read_bytes()
    decrypt_file(key, sealed, plain.with_name("opened"), size)
    assert plain.with_name("opened").read_bytes() == plain.read_bytes()


def test_small_files_look_alike(plain: Path) -> None:
    lengths = set()
    for size in (1, 50, 190):
        plain.write_bytes(bytes(size))
        lengths.add(sealed_of(plain, new_key()).stat().st_size)
    assert len(lengths) == 1


@pytest.mark.parametrize("fault", ["another key", "a changed byte", "cut off", "a chunk less", "swapped", "longer"])
def test_a_file_that_is_not_the_one_that_was_sent_is_refused_and_leaves_nothing(plain: Path, fault: str) -> None:
    size = 4 * CHUNK_BYTES
    plain.write_bytes(bytes(range(256)) * (size // 256))
    key = new_key()
    sealed = sealed_of(plain, key)
    data, chunk = bytearray(sealed.read_bytes()), CHUNK_BYTES + TAG_BYTES
    match fault:
        case "a changed byte":
            data[-1] ^= 1
        case "cut off":
            del data[-1]
        case "a chunk less":
            del data[-chunk:]
        case "swapped":
            data[:chunk], data[chunk : 2 * chunk] = data[chunk : 2 * chunk], data[:chunk]
        case "longer":
            data += data[-chunk:]
    sealed.write_bytes(data)
    target = plain.with_name("opened")
    with pytest.raises(Malformed):
        decrypt_file(new_key() if fault == "another key" else key, sealed, target, size)
    assert not target.exists()


def test_no_file_is_overwritten(plain: Path) -> None:
    plain.write_bytes(b"text")
    key = new_key()
    with pytest.raises(FileExistsError):
        decrypt_file(key, sealed_of(plain, key), plain, 4)
    assert plain.read_bytes() == b"text"


@given(st.integers(1, 2**40))
def test_padding_costs_an_eighth_at_most_and_leaves_few_lengths(length: int) -> None:
    padded = padded_length(length)
    assert length <= padded
    assert padded == SMALLEST_BYTES or padded * 8 <= length * 9
    assert padded_length(padded) == padded
