"""Bodies of requests about the keys of devices, as those of `server.http.bodies`."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from protocol import limits


class NewKeys(Struct, omit_defaults=True):
    """What this device publishes.

    :ivar identity: its public, long-lived bytes; without it they stay as they are.
    """

    identity: Annotated[bytes, Meta(min_length=1, max_length=limits.MAX_IDENTITY_BYTES)] | None = None
