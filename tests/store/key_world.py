"""Keys of devices for tests: bytes that begin with a planted secret, uploads and claims."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import closing
from typing import Final, TypeVar

import pytest
import trio

from client.http import Credentials
from protocol.frames import OneTimeKey
from store import keys
from store.errors import ForeignKeyHistory
from store.key_claims import KeyClaims
from store.keys import DeviceKeys
from store.postgres.pool import Pool
from tests.people import new_direct, new_user
from tests.planted import PLANTED

_T = TypeVar("_T")

IDENTITY: Final = f"{PLANTED} identity".encode()
KIND: Final = "otk"


def a_key(number: int, kind: str = KIND, device: bytes = b"") -> OneTimeKey:
    """A key whose bytes tell which one it is."""
    return kind, number, f"{PLANTED} {kind} {number} ".encode() + device


def some_keys(numbers: Iterable[int], kind: str = KIND, device: bytes = b"") -> list[OneTimeKey]:
    return [a_key(number, kind, device) for number in numbers]


def a_last_resort(number: int, kind: str = KIND, device: bytes = b"") -> OneTimeKey:
    return kind, number, f"{PLANTED} last {kind} {number} ".encode() + device


async def upload(
    pool: Pool,
    device: bytes,
    one_time: Sequence[OneTimeKey] = (),
    last_resort: Sequence[OneTimeKey] = (),
    *,
    is_anew: bool = False,
    identity: bytes | None = IDENTITY,
) -> DeviceKeys:
    """Upload keys under the history of now."""
    history = (await keys.status(pool, device)).history
    return await keys.put(pool, device, identity, one_time, last_resort, is_anew=is_anew, history=history)


async def claimed(
    place: Pool | KeyClaims, who: Credentials, *owners: Credentials, kinds: Sequence[str] = (KIND,)
) -> list[tuple[bytes, str, int, bool]]:
    """Claim of all devices of these users: (device, kind, number, whether it is a last resort) of each key.

    :param place: the claims of a process, which share transactions; a pool: this one has its own.

    The bytes must be those of that key of that device.
    """
    found: list[tuple[bytes, str, int, bool]] = []
    claims = place if isinstance(place, KeyClaims) else KeyClaims(place)
    page = await claims.claim(who.user, [owner.user for owner in owners], kinds)
    assert not page.more
    for each in page.devices:
        for keys_, is_last in ((each.one_time_keys or (), False), (each.last_resort_keys or (), True)):
            for kind, number, key in keys_:
                make = a_last_resort if is_last else a_key
                assert key in (make(number, kind)[2], make(number, kind, each.device)[2]), (kind, number, key)
                found.append((each.device, kind, number, is_last))
    return found


async def numbers(pool: Pool, who: Credentials, owner: Credentials, count: int = 1) -> list[int | None]:
    """Claim so often of the only device of a user: the numbers, those of last-resort keys negative, None for no key."""
    found: list[int | None] = []
    for _ in range(count):
        got = await claimed(pool, who, owner)
        assert len(got) <= 1
        found.append(None if not got else -got[0][2] if got[0][3] else got[0][2])
    return found


async def forgive(pool: Pool) -> None:
    """No user has claimed anything in the last hour."""
    await pool.fetch("delete from key_claims")


FIRST: Final = some_keys(range(1, 11))
LAST: Final = [a_last_resort(1)]


class KeyOwner:
    """A user uploads keys, and another one claims them.

    :param url: of the database that they reach now.
    """

    def __init__(self, url: Callable[[], str]) -> None:
        self._url = url
        self.history = b""

    def run(self, act: Callable[[Pool], Awaitable[_T]]) -> _T:
        async def with_pool() -> _T:
            with closing(Pool(self._url(), 1)) as pool:
                return await act(pool)

        return trio.run(with_pool)

    async def begin(self, pool: Pool) -> None:
        self.owner, self.claimer = await new_user(pool, "owner"), await new_user(pool, "claimer")
        await new_direct(pool, self.claimer, self.owner)
        self.history = (await upload(pool, self.owner.device, FIRST, LAST)).history

    async def claim(self, pool: Pool) -> list[int | None]:
        return await numbers(pool, self.claimer, self.owner, 3)

    async def upload_again(self, pool: Pool) -> None:
        """As a client that has had no reply, or makes up for what the server has lost; then as one that asks first."""
        for is_anew in (False, True):
            with pytest.raises(ForeignKeyHistory):
                await keys.put(pool, self.owner.device, IDENTITY, FIRST, LAST, is_anew=is_anew, history=self.history)
        await upload(pool, self.owner.device, some_keys(range(11, 14)), is_anew=True)

    def check(self) -> None:
        """What was claimed before the back-up, or after it, is not handed out again."""
        assert self.run(self.claim) == [-1, -1, -1]
        self.run(self.upload_again)
        assert self.run(self.claim) == [11, 12, 13]
