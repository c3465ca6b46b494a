"""The rules of this service, for users and titles of the service before it (docs/moving-in.md)."""

from __future__ import annotations

import re
from hashlib import md5
from typing import Final
from uuid import UUID

from protocol.limits import MAX_DISPLAY_NAME_CHARACTERS, MAX_TITLE_CHARACTERS, MAX_USERNAME_CHARACTERS
from protocol.visible_text import visible_text
from runtime.email_address import BadAddress, normal
from runtime.usernames import BadUsername, ReservedUsername, new_username
from store.imports.rules import OldUser, Rules, TakenUser, Title

MAX_BCRYPT_COST: Final = 14
"""Rounds, as a power of two: a check takes a second of a core. Supabase's auth uses 10."""

DEFAULT_TITLE: Final = "Group"

_BCRYPT: Final = re.compile(r"\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}")
_ARGON2: Final = re.compile(r"\$argon2id?\$v=19\$m=(\d{1,6}),t=(\d{1,2}),p=(\d{1,2})\$[^$]+\$[^$]+")
_MARK_CHARACTERS: Final = 12


def _person(old: OldUser) -> TakenUser:
    notes: list[tuple[str, str | None]] = []
    username, username_reason = _username(old.username)
    display_name = _display_name(old.display_name, notes)
    email = _email(old.email, notes)
    password_hash = _password_hash(old, notes)
    if old.has_avatar:
        notes.append(("avatar_not_taken", None))
    if old.is_banned:
        notes.append(("banned", None))
    if old.is_deleted:
        # The import keeps nothing else of a deleted user, so it has nothing else to say.
        notes = [("deleted_after_import" if old.is_known else "deleted", None)]
        password_hash, email, display_name = "", None, None
    return TakenUser(
        str(UUID(bytes=old.id)),
        username,
        username_reason,
        other_username(old.id, username),
        password_hash,
        display_name,
        email,
        notes,
    )


def other_username(user: bytes, username: str | None) -> str:
    """The name of a user whose own is taken (`username`), or not allowed (None). The same in each run."""
    mark = md5(user, usedforsecurity=False).hexdigest()[:_MARK_CHARACTERS]
    if username is not None:
        try:
            return new_username(f"{username[: MAX_USERNAME_CHARACTERS - 1 - len(mark)]}-{mark}")
        except BadUsername:
            pass
    return f"user-{mark}"


def _username(old: str | None) -> tuple[str | None, str | None]:
    if not old:
        return None, "username_missing"
    try:
        return new_username(old), None
    except ReservedUsername:
        return None, "username_reserved"
    except BadUsername:
        return None, "username_not_allowed"


def _display_name(old: str | None, notes: list[tuple[str, str | None]]) -> str | None:
    if not old or old.isspace():
        return None
    try:
        return visible_text(old, MAX_DISPLAY_NAME_CHARACTERS)
    except ValueError:
        notes.append(("display_name_not_allowed", None))
        return None


def _email(old: str | None, notes: list[tuple[str, str | None]]) -> str | None:
    if not old:
        return None
    try:
        return normal(old)
    except BadAddress:
        notes.append(("email_not_allowed", None))
        return None


def _password_hash(old: OldUser, notes: list[tuple[str, str | None]]) -> str:
    if not old.has_login:
        notes.append(("no_login", None))
    elif not old.password_hash:
        notes.append(("password_missing", None))
    elif found := _BCRYPT.fullmatch(old.password_hash):
        if 4 <= int(found[1]) <= MAX_BCRYPT_COST:
            return old.password_hash
        notes.append(("password_costly", None))
    elif found := _ARGON2.fullmatch(old.password_hash):
        memory_kib, passes, _ = map(int, found.groups())
        if memory_kib <= 128 * 1024 and passes <= 10:
            return old.password_hash
        notes.append(("password_costly", None))
    else:
        notes.append(("password_unknown", None))
    return ""


def _title(conversation: bytes, old: str | None) -> Title:
    id_ = str(UUID(bytes=conversation))
    if not old or old.isspace():
        return Title(id_, DEFAULT_TITLE, "title_missing")
    try:
        return Title(id_, visible_text(old, MAX_TITLE_CHARACTERS), None)
    except ValueError:
        return Title(id_, DEFAULT_TITLE, "title_not_allowed")


RULES: Final = Rules(_person, _title)
