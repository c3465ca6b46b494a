"""What messages say, and their files, in the bytes that both reference clients make: `client/js/test/contents.test.js`
reads the same vectors."""

from __future__ import annotations

import json
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from client.e2ee.contents import (
    EncryptedFile,
    NotContent,
    Plaintext,
    Quote,
    Reaction,
    decode_content,
    encode_content,
)
from client.e2ee.files import decrypt_file, encrypt_file
from tests.rows import checked_rows

VECTORS = Path(__file__).parents[3] / "protocol" / "vectors"

ids = st.binary(min_size=16, max_size=16)
sizes = st.integers(0, 2**40)
contents = st.builds(
    Plaintext,
    st.text(),
    st.lists(
        st.builds(
            EncryptedFile,
            ids,
            st.text(),
            sizes,
            st.binary(min_size=32, max_size=32),
            st.none() | st.text(),
            st.none() | st.binary(),
            st.none() | sizes,
            st.none() | sizes,
        ),
        max_size=3,
    ),
    st.none() | st.builds(Quote, ids, st.text()),
    st.none() | st.builds(Reaction, ids, st.text()),
)


def vectors(name: str) -> list[dict[str, Any]]:
    return list(json.loads((VECTORS / f"{name}.json").read_text()))


def shown(value: Any) -> Any:
    """A content as the vectors show it: without absent fields, and with bytes in hexadecimal."""
    match value:
        case bytes():
            return value.hex()
        case list():
            return [shown(each) for each in value]
        case Struct():
            fields = {name: getattr(value, name) for name in value.__struct_fields__}
            is_content = isinstance(value, Plaintext)
            return {
                name: shown(field)
                for name, field in fields.items()
                if not (field is None or (is_content and not field))
            }
    return value


def test_contents_mean_what_the_vectors_say_and_are_encoded_to_the_same_bytes() -> None:
    with checked_rows() as rows:
        for vector in vectors("contents"):
            with rows.row(vector["name"]):
                data = bytes.fromhex(vector["hex"])
                if vector["content"] is None:
                    with pytest.raises(NotContent):
                        decode_content(data)
                    continue
                content = decode_content(data)
                assert shown(content) == vector["content"]
                if vector.get("is_canonical", True):
                    assert encode_content(content) == data


@given(contents)
def test_each_content_is_decoded_as_it_was_encoded(content: Plaintext) -> None:
    assert decode_content(encode_content(content)) == content


@given(st.binary())
def test_any_other_bytes_are_refused_by_name(data: bytes) -> None:
    with suppress(NotContent):
        decode_content(data)


def test_files_are_encrypted_to_the_bytes_of_the_vectors(tmp_path: Path) -> None:
    plain, sealed, opened = (tmp_path / name for name in ("plain", "sealed", "opened"))
    for vector in vectors("files"):
        size, key = vector["size_bytes"], bytes.fromhex(vector["key"])
        plain.write_bytes(bytes(number % 251 for number in range(size)))
        encrypt_file(key, plain, sealed)
        data = sealed.read_bytes()
        assert (len(data), sha256(data).hexdigest()) == (vector["sealed_bytes"], vector["sealed_sha256"])
        opened.unlink(missing_ok=True)
        decrypt_file(key, sealed, opened, size)
        assert opened.read_bytes() == plain.read_bytes()
