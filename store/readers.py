"""Reads of what belongs to a user, for that user: given by id, or by the token of one of the user's devices.

A token and what its owner reads take one round trip.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from store import sql
from store.errors import TokenUnknown
from store.postgres.columns import BYTEA, UUID, ColumnType
from store.postgres.pool import Pool
from store.postgres.reads import StatementReader
from store.postgres.statement import Statement
from store.tokens import Identity, admitted, hashes

_Rows: TypeAlias = list[tuple[Any, ...]]

_DEVICE: Final = sql.load("tokens").device_by_token
_DEVICE_COLUMNS: Final = 6


class OwnRead:
    """A read.

    :param text: SQL that takes the user from `reader`, a table with one row and the column `user_id`. The first column
        of its result is never null.
    :param parameters: as for a statement.
    :param label: in metrics; with `_for_token` behind it, if the token's owner is found in the same query.
    """

    def __init__(self, text: str, parameters: Mapping[str, ColumnType], label: str) -> None:
        self.by_user = Statement(
            f"with reader as (select %(user)s as user_id) select * from ({text}) as found",  # noqa: S608  (ours)
            {"user": UUID, **parameters},
            label=label,
        )
        # The device is a row of its own, without what was found: each row of a page would repeat it.
        self.by_token = Statement(
            f"with device as materialized ({_DEVICE}), reader as (select user_id from device)"  # noqa: S608
            f" select found.*, device.* from ({text}) as found full join device on false",
            {"family_hash": BYTEA, "token_hash": BYTEA, **parameters},
            label=f"{label}_for_token",
        )

    async def for_user(self, pool: StatementReader, user: bytes, values: Mapping[str, Any]) -> _Rows:
        """What the user reads."""
        return await pool.read(self.by_user, {"user": user, **values})

    async def for_token(self, pool: Pool, token: str, values: Mapping[str, Any]) -> tuple[Identity, _Rows]:
        """The owner of a token, and what the owner reads.

        :raises TokenUnknown: if no device has tokens of its family.
        :raises TokenExpired, DeviceRevoked, TokenReused, AccountSuspended: why it is not good.
        """
        rows = await pool.read(self.by_token, {**hashes(token), **values})
        device = next((row[-_DEVICE_COLUMNS:] for row in rows if row[0] is None), None)
        if device is None:
            raise TokenUnknown
        identity = await admitted(pool, token, *device)
        return identity, [row[:-_DEVICE_COLUMNS] for row in rows if row[0] is not None]
