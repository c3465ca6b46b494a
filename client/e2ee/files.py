"""The encryption of a file: chunks of 64 KiB, each by AES-256-GCM (SPEC 20.12).

The nonce of a chunk is its number, and whether it is the last: so no chunk can be left out, moved or cut off (STREAM,
Hoang and others, 2015; https://age-encryption.org/v1).

Each file has a key of its own, which is in the content of its message. The last bytes are zeros, as many as
`padded_length` says: the size tells little of the file.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from client.e2ee.wire import Malformed

KEY_BYTES: Final = 32
CHUNK_BYTES: Final = 64 * 1024
TAG_BYTES: Final = 16
SMALLEST_BYTES: Final = 256


def padded_length(length: int) -> int:
    """At least `SMALLEST_BYTES`, and at most an eighth more than the length (PADME, Nikitin and others: Reducing
    Metadata Leakage from Encrypted Files, 2019)."""
    if length <= SMALLEST_BYTES:
        return SMALLEST_BYTES
    exponent = length.bit_length() - 1
    step = 1 << (exponent - exponent.bit_length())
    return -(-length // step) * step


def new_key() -> bytes:
    """A key of one file, and of no other."""
    return secrets.token_bytes(KEY_BYTES)


def encrypt_file(key: bytes, source: Path, target: Path) -> int:
    """Encrypt a file into another one, which is on the disk when this returns; returns the size of the source.

    :raises OSError: if one cannot be read or the other not be written.
    """
    cipher = AESGCM(key)
    with source.open("rb") as plain, open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as made:
        size = os.fstat(plain.fileno()).st_size
        chunks = _padded(plain, size)
        number, chunk = 0, next(chunks)
        for following in chunks:
            made.write(cipher.encrypt(_nonce(number, is_last=False), chunk, None))
            number, chunk = number + 1, following
        made.write(cipher.encrypt(_nonce(number, is_last=True), chunk, None))
        made.flush()
        os.fsync(made.fileno())
    return size


def decrypt_file(key: bytes, source: Path, target: Path, size_bytes: int) -> None:
    """Decrypt a file into another one, without the zeros at its end.

    :param target: of a file that does not exist.
    :param size_bytes: of the file before its encryption.
    :raises Malformed: if these are not the bytes that were encrypted; then there is no target.
    :raises OSError: if one cannot be read or the other not be written.
    """
    cipher = AESGCM(key)
    length = source.stat().st_size
    if length < padded_length(size_bytes) + TAG_BYTES:
        raise Malformed("the file is shorter than its message says")
    last = (length - 1) // (CHUNK_BYTES + TAG_BYTES)
    with source.open("rb") as sealed, target.open("xb") as made:
        try:
            left = size_bytes
            for number in range(last + 1):
                sealed_chunk = sealed.read(CHUNK_BYTES + TAG_BYTES)
                chunk = cipher.decrypt(_nonce(number, is_last=number == last), sealed_chunk, None)
                made.write(chunk[:left])
                left -= min(left, len(chunk))
        except InvalidTag:
            target.unlink()
            raise Malformed("the file is not the one that was sent") from None


def _padded(plain: BinaryIO, size: int) -> Iterator[bytes]:
    left = padded_length(size)
    while left:
        chunk = plain.read(min(CHUNK_BYTES, left)).ljust(min(CHUNK_BYTES, left), b"\0")
        yield chunk
        left -= len(chunk)


def _nonce(number: int, *, is_last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([is_last])
