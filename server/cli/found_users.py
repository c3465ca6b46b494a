"""The user whom an operator names: by username, or by id."""

from __future__ import annotations

from runtime.commands import CommandError, suggestion
from runtime.usernames import form_of
from store import inspected_users
from store.postgres.pool import Pool


async def named_user(pool: Pool, typed: str) -> bytes:
    """
    :raises CommandError: if there is no such user; it names users with names that are like it.
    """
    username = form_of(typed)
    user = await inspected_users.find_user(pool, username, typed)
    if user is None:
        near = await inspected_users.names_near(pool, username) if username else []
        raise CommandError(f"there is no user {typed}{suggestion(username, near)}")
    return user
