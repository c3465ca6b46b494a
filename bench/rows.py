"""Rows that the benchmarks insert with SQL: the same users, with the same ids, for ours and for the peers."""

from __future__ import annotations

from enum import IntEnum
from hashlib import md5
from typing import Final
from uuid import UUID

from bench.workload import ChatParticipant


class Id(IntEnum):
    """The first number of an id, which names its kind."""

    USER = 1
    DEVICE = 2
    CONVERSATION = 3
    GROUP = 4


def id_sql(kind: Id, number: str) -> str:
    """An SQL expression for the id of this number: a UUID of version 4's form, which the plan insists on.

    It looks random, since answers full of similar ids would compress too well.
    """
    digits = f"md5('{kind:d}:' || ({number}))"
    return f"overlay(overlay({digits} placing '4' from 13) placing '8' from 17)::uuid"


def id_text(kind: Id, number: int) -> str:
    """The same id as text."""
    digits = md5(f"{kind:d}:{number}".encode(), usedforsecurity=False).hexdigest()
    return str(UUID(f"{digits[:12]}4{digits[13:16]}8{digits[17:]}"))


def participant(number: int) -> ChatParticipant:
    """The user of this number."""
    return ChatParticipant(id_text(Id.USER, number), f"token{number}")


def ciphertext_sql(seed: str, bytes_: int) -> str:
    """An SQL expression for bytes that look like ciphertext: no two messages have the same, and they do not compress.

    :param seed: an SQL expression for a text that only this message has.
    """
    parts = (f"sha256(convert_to({part} || ':' || {seed}, 'UTF8'))" for part in range(-(-bytes_ // 32)))
    return f"substr({' || '.join(parts)}, 1, {bytes_})"


def base64_sql(data: str) -> str:
    """An SQL expression for these bytes in base64, which Postgres breaks into lines."""
    return f"replace(encode({data}, 'base64'), chr(10), '')"


OUR_USERS: Final = f"""
insert into users (id, username, password_hash)
    select {id_sql(Id.USER, "n")}, 'user' || n, 'nobody logs in' from generate_series(0, {{users}} - 1) n;
insert into devices (id, user_id, name, family_hash, token_hash)
    select {id_sql(Id.DEVICE, "n")}, {id_sql(Id.USER, "n")}, 'bench', h, h
    from generate_series(0, {{users}} - 1) n, sha256(convert_to('token' || n, 'UTF8')) h;
"""
"""Users 0, 1, 2 and so on with a device each, as `str.format` takes them."""

PEERS_USERS: Final = f"""
insert into users (id, username)
    select {id_sql(Id.USER, "n")}, 'user' || n from generate_series(0, {{users}} - 1) n;
"""
