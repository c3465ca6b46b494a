"""The file with all keys of a device: an SQLite database whose every value is encrypted.

A transaction is on the disk, or not at all, whenever the program is killed; SQLite writes over what it replaces.
Programs of one device share the file: each transaction reads what the one before has left. The names of values are
keyed hashes, so the file tells a thief how much there is, and nothing else.

A random key encrypts the values (ChaCha20-Poly1305, RFC 8439). A key that Argon2id (RFC 9106) makes of the passphrase
encrypts that random key, so another passphrase takes one row.
"""

from __future__ import annotations

import hmac
import os
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, TypeVar

import msgspec
from argon2.low_level import Type, hash_secret_raw
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from msgspec import Struct

from client.errors import ClientFailure

WAIT_S: Final = 30.0
"""For another program's transaction, which takes milliseconds; a stopped program keeps its lock."""

TIME_COST: Final = 3
MEMORY_KIB: Final = 64 * 1024
LANES: Final = 4
"""The second recommendation of RFC 9106 (section 4): some 0.1 s on a present machine."""

KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_SALT_BYTES: Final = 16

_SCHEMA: Final = """
create table if not exists header (salt blob, time_cost integer, memory_kib integer, lanes integer, wrapped blob);
create table if not exists entries (shelf blob, name blob, value blob, primary key (shelf, name)) without rowid;
"""

_T = TypeVar("_T", bound=Struct)


class VaultFailure(ClientFailure):
    """The file with the keys cannot be used; the error says why."""


class WrongPassphrase(VaultFailure):
    """The passphrase does not open the file."""

    def __init__(self) -> None:
        super().__init__(
            "that does not open the keys on this machine: use the password of this login, or set ALO_PASSPHRASE"
        )


class Transaction:
    """Reads and writes of one transaction. Values are structs with a tag, which names their shelf, or more by `of`."""

    def __init__(self, database: sqlite3.Connection, values: ChaCha20Poly1305, name_key: bytes) -> None:
        self._database = database
        self._values = values
        self._name_key = name_key

    def get(self, type_: type[_T], name: bytes = b"", *, of: bytes = b"") -> _T | None:
        """The value of a name; None if there is none."""
        key = self._shelf(type_, of), self._hash(name)
        row = self._database.execute("select value from entries where shelf = ? and name = ?", key).fetchone()
        return None if row is None else self._open(type_, *key, row[0])

    def all(self, type_: type[_T], *, of: bytes = b"") -> list[_T]:
        """The values of a shelf, in no order."""
        shelf = self._shelf(type_, of)
        rows = self._database.execute("select name, value from entries where shelf = ?", (shelf,)).fetchall()
        return [self._open(type_, shelf, name, value) for name, value in rows]

    def put(self, value: Struct, name: bytes = b"", *, of: bytes = b"") -> None:
        """Store a value in place of an earlier one."""
        shelf, hashed = self._shelf(type(value), of), self._hash(name)
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = nonce + self._values.encrypt(nonce, msgspec.msgpack.encode(value), shelf + hashed)
        self._database.execute("insert or replace into entries values (?, ?, ?)", (shelf, hashed, sealed))

    def drop(self, type_: type[Struct], name: bytes = b"", *, of: bytes = b"") -> None:
        """Remove a value, if there is one."""
        key = self._shelf(type_, of), self._hash(name)
        self._database.execute("delete from entries where shelf = ? and name = ?", key)

    def drop_all(self, type_: type[Struct], *, of: bytes = b"") -> None:
        """Remove all values of a shelf."""
        self._database.execute("delete from entries where shelf = ?", (self._shelf(type_, of),))

    @contextmanager
    def part(self) -> Iterator[None]:
        """All of the block, or nothing if an error leaves it, within the transaction."""
        self._database.execute("savepoint part")
        try:
            yield
        except BaseException:
            self._database.execute("rollback to part")
            raise
        finally:
            self._database.execute("release part")

    def _open(self, type_: type[_T], shelf: bytes, name: bytes, value: bytes) -> _T:
        try:
            plain = self._values.decrypt(value[:_NONCE_BYTES], value[_NONCE_BYTES:], shelf + name)
            return msgspec.msgpack.decode(plain, type=type_)
        except (InvalidTag, msgspec.DecodeError):
            raise VaultFailure("the file with the keys is damaged, or another program has written into it") from None

    def _shelf(self, type_: type[Struct], of: bytes) -> bytes:
        return self._hash(str(type_.__struct_config__.tag).encode() + b"\0" + of)

    def _hash(self, name: bytes) -> bytes:
        return hmac.digest(self._name_key, name, "sha256")


class Vault:
    """An open file. Close it with `close`.

    :ivar pickle_key: 32 secret bytes for states that a library encrypts by itself.
    """

    def __init__(self, database: sqlite3.Connection, key: bytes) -> None:
        self._database = database
        self._key = key
        self._values = ChaCha20Poly1305(_derived(key, b"values"))
        self._name_key = _derived(key, b"names")
        self.pickle_key: Final = _derived(key, b"pickles")

    def close(self) -> None:
        self._database.close()

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """All of the block, or nothing if an error leaves it. It is on the disk once the block is left, and no other
        program writes meanwhile: the block must not wait.

        :raises VaultFailure: if the file cannot be read or written.
        """
        with _failures():
            self._database.execute("begin immediate")
        try:
            yield Transaction(self._database, self._values, self._name_key)
            with _failures():
                self._database.execute("commit")
        except BaseException:
            with suppress(sqlite3.Error):
                self._database.execute("rollback")
            raise

    def set_passphrase(self, passphrase: str) -> None:
        """From now on another passphrase opens the file, and the one before does not."""
        with _failures():
            self._database.execute("begin immediate")
            self._database.execute("delete from header")
            _write_header(self._database, self._key, passphrase)
            self._database.execute("commit")


def open_vault(path: Path, passphrase: str) -> Vault:
    """Open the file, or make it.

    :raises WrongPassphrase: if another passphrase opens it.
    :raises VaultFailure: if it cannot be read or written.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # SQLite gives its journal the mode of the database.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    with _failures():
        database = sqlite3.connect(path, timeout=WAIT_S, isolation_level=None)
    try:
        with _failures():
            # `extra`: also the end of the journal is on the disk when a transaction is; replaced bytes become zeros.
            for pragma in ("journal_mode = delete", "synchronous = extra", "secure_delete = on"):
                database.execute(f"pragma {pragma}")
            database.execute("begin immediate")
            for statement in _SCHEMA.strip().split("\n"):
                database.execute(statement)
            key = _read_key(database, passphrase)
            if key is None:
                key = secrets.token_bytes(KEY_BYTES)
                _write_header(database, key, passphrase)
            database.execute("commit")
    except BaseException:
        database.close()
        raise
    return Vault(database, key)


def open_temporary_vault() -> Vault:
    """A vault in memory, without a passphrase, which is gone once it is closed: for a device of a test."""
    database = sqlite3.connect(":memory:", isolation_level=None)
    for statement in _SCHEMA.strip().split("\n"):
        database.execute(statement)
    return Vault(database, secrets.token_bytes(KEY_BYTES))


def _read_key(database: sqlite3.Connection, passphrase: str) -> bytes | None:
    row = database.execute("select salt, time_cost, memory_kib, lanes, wrapped from header").fetchone()
    if row is None:
        return None
    *costs, wrapped = row
    try:
        opened = ChaCha20Poly1305(_stretched(passphrase, *costs))
        return opened.decrypt(wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:], None)
    except InvalidTag:
        raise WrongPassphrase from None


def _write_header(database: sqlite3.Connection, key: bytes, passphrase: str) -> None:
    salt, nonce = secrets.token_bytes(_SALT_BYTES), secrets.token_bytes(_NONCE_BYTES)
    sealed = ChaCha20Poly1305(_stretched(passphrase, salt, TIME_COST, MEMORY_KIB, LANES)).encrypt(nonce, key, None)
    database.execute("insert into header values (?, ?, ?, ?, ?)", (salt, TIME_COST, MEMORY_KIB, LANES, nonce + sealed))


def _stretched(passphrase: str, salt: bytes, time_cost: int, memory_kib: int, lanes: int) -> bytes:
    secret = passphrase.encode("utf-8", errors="surrogateescape")
    return hash_secret_raw(secret, salt, time_cost, memory_kib, lanes, KEY_BYTES, Type.ID)


def _derived(key: bytes, purpose: bytes) -> bytes:
    return hmac.digest(key, b"alo-shield vault 1 " + purpose, "sha256")


@contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise VaultFailure(f"the file with the keys cannot be used: {error}") from None
