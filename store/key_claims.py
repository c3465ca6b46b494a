"""Claims of one-time keys (decision 55): those that queue up in a process share a transaction.

Most of what a claim costs Postgres is the beginning and the end of its statement, and of its commit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import trio
from msgspec import Struct

from protocol.frames import ListedDevice
from protocol.limits import CLAIMS_PER_HOUR, FEW_KEYS, MAX_LISTED_DEVICES
from store import sql
from store.errors import DatabaseError, Locked, StaleDevices
from store.keys import DevicesPage, devices_of
from store.postgres.columns import BIGINTS, BOOL, INT, TEXTS, UUID, UUIDS
from store.postgres.pool import Pool
from store.postgres.shared import SharedStatistics, SharedTrips
from store.postgres.statement import Statement

_sql = sql.load("keys")
_SHOWN_AMONG: Final = Statement(_sql.shown_among, {"conversation": UUID, "users": UUIDS})
_CLAIM: Final = Statement(
    _sql.claim,
    {
        "waits": BOOL,
        "user": UUIDS,
        "after": UUIDS,
        "limit": BIGINTS,
        "bytes": BIGINTS,
        "of": BIGINTS,
        "other": UUIDS,
        "kinds": TEXTS,
        "most": INT,
        "few": INT,
    },
)

MAX_SHARED: Final = 32
"""Claims in one transaction: a page of each may have `MAX_CLAIMED_BYTES`. More of them cost hardly less each."""

MAX_CLAIMED_BYTES: Final = 212 * 1024
"""Identities and keys of a page; those of a device are 132 KiB at most. Kinds and numbers of small keys add 25 KiB, the
changed users of a refusal 17: all together fit into a WebSocket message."""

MAX_WAITING: Final = 1024
"""Claims that wait; the next gets `Overloaded`. At 3 ms for `MAX_SHARED`: 0.1 s of work."""

_MAX_WAITS: Final = 3
"""The waits of one claim: each after the first needs a pool that was made while the claim waited."""


class KeyClaim(Struct, frozen=True):
    """A claim of one key of each kind of each device of some users.

    :ivar user: the claimer.
    :ivar users, kinds: each once.
    :ivar after: only devices with greater ids.
    :ivar limit: the most devices of the page.
    :ivar max_bytes: of identities and keys together; the first device is listed even if it has more.
    """

    user: bytes
    users: Sequence[bytes]
    kinds: Sequence[str]
    after: bytes
    limit: int
    max_bytes: int


_Rows: TypeAlias = list[tuple[Any, ...]]


class KeyClaims:
    """The claims of one process.

    :ivar given: how many keys were handed out, and how often there was none.
    :ivar low: how many pools have run low, or have given their last-resort key for the first time.
    :ivar answered: claims, in so many `commits`.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.given = {"one_time": 0, "last_resort": 0, "none": 0}
        self.low = 0
        self.answered = 0
        self.commits = 0
        self._trips: SharedTrips[KeyClaim, _Rows] = SharedTrips(
            "the claims of keys", self._run, most=1, most_items=MAX_SHARED, most_waiting=MAX_WAITING, fits=_fits
        )

    async def claim(
        self,
        user: bytes,
        users: Iterable[bytes],
        kinds: Iterable[str],
        *,
        after: bytes | None = None,
        limit: int = MAX_LISTED_DEVICES,
        max_bytes: int = MAX_CLAIMED_BYTES,
    ) -> DevicesPage:
        """As `devices_of`, with a key of each kind of each device, which no other claim gets, or its last-resort key.

        There are last-resort keys alone for a user who is blocked, or has claimed keys of the device more than
        `limits.CLAIMS_PER_HOUR` times in an hour, and in another history until the device uploads keys again. If the
        outcome is unknown, the keys may be gone: another claim gets other ones.

        :param limit: the most devices; of several kinds as many fewer, so that the most keys are as many.
        :param max_bytes: of identities and keys together; the first device is listed even if it has more.
        :raises Locked: if other claims have kept keys of the same devices locked for long. Nothing was done.
        """
        of = list(dict.fromkeys(kinds))
        most = min(limit, MAX_LISTED_DEVICES // max(1, len(of)))
        claim = KeyClaim(user, list(dict.fromkeys(users)), of, after or bytes(16), most, max_bytes)
        try:
            rows = await self._trips.request(claim)
        except (Locked, DatabaseError):
            # Another transaction has locked a pool that it needs, or that a claim beside it needs. It waits by itself.
            rows = await self._run_alone(claim)
        page = _page_of(rows)
        self.answered += 1
        self._count(page, len(claim.kinds))
        return page

    async def list_changed(
        self, user: bytes, conversation: bytes, changed: StaleDevices, kinds: Sequence[str] | None = None
    ) -> None:
        """Add to the refusal of a user's message the devices of the users whose devices have changed and who still take
        part: a page of them, as of that version or a later one.

        :param kinds: of keys to claim of each device, as `claim` does; None: none.
        :raises Locked: as `claim` does.
        """
        rows = await self._pool.read(_SHOWN_AMONG, {"conversation": conversation, "users": changed.users})
        users = [other for (other,) in rows]
        if kinds:
            page = await self.claim(user, users, kinds)
        else:
            page = await devices_of(self._pool, user, users)
        changed.devices, changed.more = page.devices, page.more

    def statistics(self) -> SharedStatistics:
        """Figures of the claims that queue, and of their transactions."""
        return self._trips.statistics()

    async def _run(self, take: Callable[[], list[KeyClaim]]) -> list[_Rows | Exception]:
        # The tasks that the last transaction has answered go on first: their next claims share this one.
        for _ in range(2):
            await trio.lowlevel.checkpoint()
        taken: list[KeyClaim] = []

        def values() -> Mapping[str, Any]:
            taken.extend(take())
            return _values(taken, waits=False)

        found = await self._pool.run_taken(_CLAIM, values)
        self._note_commit(found)
        rows: list[_Rows] = [[] for _ in taken]
        locked = set()
        for row in found:
            rows[row[0] - 1].append(row)
            if row[-2]:
                locked.add(row[0] - 1)
        return [Locked() if n in locked else its_rows for n, its_rows in enumerate(rows)]

    async def _run_alone(self, claim: KeyClaim) -> _Rows:
        for _ in range(_MAX_WAITS):
            rows = await self._pool.run(_CLAIM, _values([claim], waits=True))
            if not any(row[-2] for row in rows):
                self._note_commit(rows)
                return rows
            # It waited for the pools that it knew. Meanwhile another was made, which is locked: nothing was done.
        raise Locked

    def _note_commit(self, rows: _Rows) -> None:
        self.commits += 1
        self.low += len({(row[2], row[5]) for row in rows if row[-1]})

    def _count(self, page: DevicesPage, kinds: int) -> None:
        one_time = sum(len(each.one_time_keys or ()) for each in page.devices)
        last = sum(len(each.last_resort_keys or ()) for each in page.devices)
        self.given["one_time"] += one_time
        self.given["last_resort"] += last
        self.given["none"] += len(page.devices) * kinds - one_time - last


def _fits(taken: Sequence[KeyClaim], claim: KeyClaim) -> bool:
    """Claims of a transaction are of the same kinds, each by another user. With more than that, all would cost more."""
    return not taken or (claim.kinds == taken[0].kinds and all(claim.user != each.user for each in taken))


def _values(claims: Sequence[KeyClaim], *, waits: bool) -> dict[str, Any]:
    numbered = list(enumerate(claims, 1))
    return {
        "waits": waits,
        "user": [claim.user for claim in claims],
        "after": [claim.after for claim in claims],
        "limit": [claim.limit for claim in claims],
        "bytes": [claim.max_bytes for claim in claims],
        "of": [n for n, claim in numbered for _ in claim.users],
        "other": [user for claim in claims for user in claim.users],
        "kinds": claims[0].kinds,
        "most": CLAIMS_PER_HOUR,
        "few": FEW_KEYS,
    }


def _page_of(rows: _Rows) -> DevicesPage:
    page: list[ListedDevice] = []
    one_time: list[tuple[str, int, bytes]] = []
    last: list[tuple[str, int, bytes]] = []
    for _, owner, device, identity, revision, kind, number, key, is_last_resort, *_ in rows:
        if not page or page[-1].device != device:
            one_time, last = [], []
            page.append(ListedDevice(owner, device, identity, revision, one_time, last))
        if kind is not None:
            (last if is_last_resort else one_time).append((kind, number, key))
    return DevicesPage([_without_empty(each) for each in page], bool(rows) and rows[0][-3])


def _without_empty(device: ListedDevice) -> ListedDevice:
    """A list without keys is left out of a frame."""
    keys, last = device.one_time_keys or None, device.last_resort_keys or None
    return ListedDevice(device.user, device.device, device.identity, device.identity_revision, keys, last)
