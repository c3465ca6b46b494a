"""Hashes of bcrypt, as the service before this one has made them: users who were imported log in with them once.

The check is that of Supabase's auth (golang.org/x/crypto/bcrypt): the bytes of the text as it was typed, without any
normal form, NULs among them; of more than 72 bytes the first 72 count.
"""

from __future__ import annotations

from typing import Final

import bcrypt

_KINDS: Final = ("$2a$", "$2b$", "$2y$")
"""One algorithm: the letters name bugs of other libraries."""

_MAX_BYTES: Final = 72
"""bcrypt reads no more of a password. The library refuses longer ones, since hashes made of them are weaker than users
expect; these are made already."""


def is_bcrypt(password_hash: str) -> bool:
    """Whether this is the kind of a hash."""
    return password_hash.startswith(_KINDS)


def fits(password_hash: str, typed: str) -> bool:
    """Whether a password is that of the hash. It takes as long as the hash says, without Python's lock."""
    try:
        password = typed.encode()
        return bcrypt.checkpw(password[:_MAX_BYTES], password_hash.encode())
    except ValueError:  # A lone surrogate; a salt that is none.
        return False
