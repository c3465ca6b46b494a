"""Bodies of requests about the keys of devices, as those of `server.http.bodies`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated
from uuid import UUID

from msgspec import Meta, Struct

from protocol import limits
from protocol.frames import OneTimeKey

Kind = Annotated[str, Meta(min_length=1, max_length=limits.MAX_KEY_KIND_BYTES, pattern="^[!-~]*$")]


class NewKey(Struct):
    """A public key of this device.

    :ivar kind: visible ASCII.
    :ivar number: grows from key to key of a kind.
    """

    kind: Kind
    number: Annotated[int, Meta(ge=1, le=limits.MAX_SEQ)]
    key: Annotated[bytes, Meta(min_length=1, max_length=limits.MAX_ONE_TIME_KEY_BYTES)]


class NewKeys(Struct, omit_defaults=True):
    """What this device publishes.

    :ivar identity: its public, long-lived bytes; without it they stay as they are.
    :ivar one_time_keys: to be handed out once each. Numbers that the server has stored before are skipped.
    :ivar last_resort_keys: at most one of a kind, to be handed out when there is no other.
    :ivar is_anew: these one-time keys take the place of those of their kinds with lesser numbers; not
        without such keys.
    :ivar key_history: that of the last answer; for uploads of keys.
    """

    identity: Annotated[bytes, Meta(min_length=1, max_length=limits.MAX_IDENTITY_BYTES)] | None = None
    one_time_keys: Annotated[list[NewKey], Meta(max_length=limits.MAX_POOL_KEYS)] = []
    last_resort_keys: Annotated[list[NewKey], Meta(max_length=limits.MAX_KEY_KINDS)] = []
    is_anew: bool = False
    key_history: Annotated[bytes, Meta(min_length=1, max_length=limits.MAX_KEY_HISTORY_BYTES)] | None = None


class ClaimKeys(Struct, omit_defaults=True):
    """Users for whose devices you want to encrypt.

    :ivar kinds: a key of each of them is claimed of each device.
    :ivar after: only devices with greater ids: the last one of the answer before.
    """

    users: Annotated[list[UUID], Meta(min_length=1, max_length=limits.MAX_LISTED_USERS)]
    kinds: Annotated[list[Kind], Meta(min_length=1, max_length=limits.MAX_KEY_KINDS)]
    after: UUID | None = None


def keys_in(keys: Sequence[NewKey]) -> list[OneTimeKey]:
    return [(each.kind, each.number, each.key) for each in keys]
