"""The owners of the tokens that were shown last: a guess at whose page a request asks for, before Postgres has said it.

Postgres checks each token all the same, and its answer counts. The guess only chooses the query.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from store.tokens import token_hash

MAX_OWNERS: Final = 50_000
"""Tokens that are kept, as hashes, in some 12 MB."""


class Owners:
    """Users by token, least recently shown out first."""

    def __init__(self) -> None:
        self._users: OrderedDict[bytes, bytes] = OrderedDict()

    def guess(self, token: str) -> bytes | None:
        """The user whose token this was."""
        return self._users.get(token_hash(token))

    def note(self, token: str, user: bytes) -> None:
        """Postgres has said whose token this is."""
        hashed = token_hash(token)
        self._users[hashed] = user
        self._users.move_to_end(hashed)
        if len(self._users) > MAX_OWNERS:
            self._users.popitem(last=False)
