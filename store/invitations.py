"""Invitations: codes with which users register where the operator wants that. Only the hashes of codes are stored.

A use is taken by `store.accounts.add_user`, in the transaction that adds the user.
"""

from __future__ import annotations

import os
import secrets
from typing import Final

from msgspec import Struct

from store import sql
from store.errors import InvitationVoid, UnknownInvitation
from store.postgres.driver import uuid
from store.postgres.pool import Pool
from store.security_events import Source
from store.tokens import TOKEN_PREFIX, token_hash

_sql = sql.load("invitations")

OPERATOR: Final = Source("operator")
"""The source of the events of making and revoking an invitation."""

MAX_SHOWN: Final = 10_000
"""Invitations in one list."""


class Invitation(Struct, frozen=True):
    """An invitation; times in microseconds since 1970.

    :ivar most_uses: how many users may register with it.
    :ivar uses: how many have.
    """

    invitation: bytes
    created: int
    expires: int
    most_uses: int
    uses: int


async def add(pool: Pool, *, uses: int, lifetime_s: float) -> tuple[bytes, str, int]:
    """Make an invitation; return its id, its code, and when it expires (microseconds). The code cannot be read
    again."""
    invitation, code = os.urandom(16), TOKEN_PREFIX + secrets.token_urlsafe(30)
    parameters = {
        "invitation": uuid(invitation),
        "code_hash": token_hash(code),
        "uses": uses,
        "lifetime_s": lifetime_s,
        "source": OPERATOR.encoded(),
    }
    [(expires,)] = await pool.fetch(_sql.add, parameters)
    return invitation, code, int(expires)


async def check(pool: Pool, code: str) -> None:
    """Check that a user can register with this code.

    :raises InvitationVoid: if there is no such invitation, or it has expired or has no use left.
    """
    if not await pool.fetch(_sql.check, {"code_hash": token_hash(code)}):
        raise InvitationVoid


async def open_invitations(pool: Pool) -> list[Invitation]:
    """Those with which a user can register, the first to expire first; at most `MAX_SHOWN`."""
    return [Invitation(*row) for row in await pool.fetch(_sql.open, {"limit": MAX_SHOWN})]


async def revoke(pool: Pool, invitation: bytes) -> None:
    """Remove an invitation. Users who have registered with it stay.

    :raises UnknownInvitation: if there is none with this id.
    """
    if not await pool.fetch(_sql.revoke, {"invitation": uuid(invitation), "source": OPERATOR.encoded()}):
        raise UnknownInvitation(invitation)


async def forget_invitations(pool: Pool, *, limit: int) -> int:
    """Delete at most `limit` invitations that have expired; return how many, 0 at the end."""
    [(count,)] = await pool.fetch(_sql.forget, {"limit": limit})
    return int(count)
