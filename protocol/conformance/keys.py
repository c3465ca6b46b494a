"""The keys of the tested client's device at the server double, and the rules for uploads. Sans-IO."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import Final

from protocol import limits
from protocol.codes import ErrorCode
from protocol.conformance.own_writes import Violation, refuse
from protocol.frames import HeldKeys, KeyStatus, OneTimeKey, PutKeys, Reply
from protocol.replies import KeyPool


class DoublePool:
    """The keys of one kind.

    :ivar keys: number -> key; they are claimed in the order of their numbers.
    :ivar last_resort: number and key; None: there is none.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.keys: dict[int, bytes] = {}
        self.highest = 0
        self.last_resort: tuple[int, bytes] | None = None
        self.is_given = False

    @property
    def is_low(self) -> bool:
        return len(self.keys) < limits.FEW_KEYS or self.is_given

    def put(self, keys: Iterable[tuple[int, bytes]], *, is_anew: bool) -> None:
        """Store one-time keys; numbers that were stored before change nothing."""
        new = {number: key for number, key in sorted(keys) if number > self.highest}
        if is_anew and new:
            self.keys.clear()
        for number, key in new.items():
            if len(self.keys) < limits.MAX_POOL_KEYS:
                self.keys[number] = key
                self.highest = number

    def put_last_resort(self, number: int, key: bytes) -> None:
        if self.last_resort is None or number > self.last_resort[0]:
            self.last_resort, self.is_given = (number, key), False

    def claim(self) -> None:
        """Another user takes a key."""
        if self.keys:
            del self.keys[min(self.keys)]
        elif self.last_resort is not None:
            self.is_given = True

    def told(self) -> KeyPool:
        held = [*sorted(self.keys.items()), *([self.last_resort] if self.last_resort else [])]
        digest = sha256(b"".join(number.to_bytes(8, "big") + sha256(key).digest() for number, key in held)).digest()
        last = self.last_resort[0] if self.last_resort else 0
        return self.kind, len(self.keys), min(self.keys, default=0), self.highest, digest, last, self.is_given


class DoubleKeys:
    """All keys of the device.

    :ivar history: as `key_history` of the protocol.
    """

    def __init__(self) -> None:
        self.history = b"key history 1"
        self.pools: Final[dict[str, DoublePool]] = {}
        self._identity: bytes | None = None
        self._attempts: Final[dict[tuple[str, int, bool], bytes]] = {}

    def note_attempt(self, request: PutKeys) -> None:
        """An upload has come, whatever becomes of it.

        :raises Violation: if it breaks a rule for identities or numbers.
        """
        if self._identity is not None and request.identity not in (None, self._identity):
            raise Violation("19.2", "the client changes the identity of its device")
        self._identity = self._identity or request.identity
        for is_last_resort, keys in ((False, request.one_time_keys), (True, request.last_resort_keys)):
            before = {kind: self._greatest(kind, is_last_resort) for kind, _, _ in keys or ()}
            for kind, number, key in keys or ():
                known = self._attempts.get((kind, number, is_last_resort))
                if known is None and number <= before[kind]:
                    raise Violation(
                        "19.5", f"the client gives a new key of the kind {kind} a number that is not above all before"
                    )
                if known not in (None, key):
                    raise Violation("19.5", f"the client gives two keys of the kind {kind} the number {number}")
                self._attempts[kind, number, is_last_resort] = key

    def _greatest(self, kind: str, is_last_resort: bool) -> int:
        of_kind = (number for told, number, is_last in self._attempts if (told, is_last) == (kind, is_last_resort))
        return max(of_kind, default=0)

    def put(self, request: PutKeys) -> Reply:
        """Store what is new of an upload."""
        one_time_keys, last_resort_keys = request.one_time_keys or [], request.last_resort_keys or []
        if (one_time_keys or last_resort_keys) and request.key_history != self.history:
            return refuse(request, ErrorCode.KEY_HISTORY_FOREIGN)
        for kind in {kind for kind, _, _ in one_time_keys}:
            self._pool(kind).put(_of(kind, one_time_keys), is_anew=bool(request.is_anew))
        for kind, number, key in last_resort_keys:
            self._pool(kind).put_last_resort(number, key)
        return self.status(request)

    def _pool(self, kind: str) -> DoublePool:
        return self.pools.setdefault(kind, DoublePool(kind))

    def status(self, request: KeyStatus | PutKeys) -> Reply:
        """What the server holds of the device."""
        pools = [self.pools[kind].told() for kind in sorted(self.pools)]
        return HeldKeys(request.request, self._identity, int(self._identity is not None), self.history, pools)

    def claim(self, count: int) -> None:
        """Other users claim so many keys of each kind."""
        for pool in self.pools.values():
            for _ in range(count):
                pool.claim()

    @property
    def low(self) -> list[str]:
        """The kinds of which the client should upload keys."""
        return sorted(kind for kind, pool in self.pools.items() if pool.is_low)

    def mix_up(self) -> None:
        """The server holds other keys than the client has uploaded, under the same numbers."""
        for pool in self.pools.values():
            pool.keys = {number: b"another " + key for number, key in pool.keys.items()}

    def begin_history(self) -> None:
        """The database may have forgotten which keys it has handed out: it hands out none of these."""
        self.history += b", and a later one"
        for pool in self.pools.values():
            pool.keys.clear()


def _of(kind: str, keys: Iterable[OneTimeKey]) -> list[tuple[int, bytes]]:
    return [(number, key) for told, number, key in keys if told == kind]
