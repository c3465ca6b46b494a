"""A process that claims keys for some users and begins an Olm session with each of them, or that opens such sessions.

    python -m tests.system.claiming_process claim FOLDER NUMBER
    python -m tests.system.claiming_process open FOLDER NUMBER

It reads its plan in the folder, and writes there what it has found.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec
import trio
from msgspec import Struct
from vodozemac import Account, AnyOlmMessage, Curve25519PublicKey

from client.connection import ClientConnection, connect
from client.errors import ClientFailure
from protocol.frames import ListedDevice
from tests.waiting import let_pass

PICKLE_KEY: Final = bytes(32)


class ClaimPlan(Struct):
    """What a process claims.

    :ivar tokens: of the users who claim, a device of each.
    :ivar owners: whose devices these are.
    :ivar devices: of each owner.
    :ivar turns: claims of each user for the devices of each owner.
    :ivar deaths: that there will be. The claims have one part more than these: before each but the first, a process
        waits until the file `deaths` tells of as many.
    """

    urls: list[str]
    tokens: list[str]
    owners: list[bytes]
    devices: int
    kinds: list[str]
    turns: int
    deaths: int


class BegunSession(Struct):
    """A key that a claimer got, and the first message of the session that begins with it.

    :ivar asked_at, answered_at: by the machine's monotonic clock, which all processes share.
    :ivar sender: the claimer's identity key.
    """

    device: bytes
    kind: str
    number: int
    is_last_resort: bool
    asked_at: float
    answered_at: float
    sender: bytes
    message: tuple[int, bytes]

    def plaintext(self) -> bytes:
        return b"%s %s %d" % (self.device.hex().encode(), self.kind.encode(), self.number)


class ClaimReport(Struct):
    """
    :ivar lost: claims without an answer.
    """

    sessions: list[BegunSession]
    lost: int


class OpeningPlan(Struct):
    """Sessions to be opened, and the pickled accounts of their devices."""

    accounts: dict[str, str]
    sessions: list[BegunSession]


class Claimer:
    """A user who claims, over as many connections as it takes, and checks that each claim gets a key of each kind."""

    def __init__(self, plan: ClaimPlan, token: str, deaths: Path) -> None:
        self._plan = plan
        self._deaths = deaths
        self._token = token
        self._account = Account()
        self.sessions: list[BegunSession] = []
        self.lost = 0

    async def run(self) -> None:
        left = self._plan.owners * self._plan.turns
        random.shuffle(left)
        most = len(left)
        while left:
            with suppress(OSError):
                try:
                    async with connect(random.choice(self._plan.urls), self._token) as connection:
                        while left:
                            await self._wait_deaths((most - len(left)) * (self._plan.deaths + 1) // most)
                            await self._claim(connection, left[-1])
                            left.pop()
                except ClientFailure:
                    self.lost += 1
            await let_pass(0.05, why="a client waits before it connects again")

    async def _wait_deaths(self, count: int) -> None:
        while int(self._deaths.read_text()) < count:
            await let_pass(0.05, why="a server comes back")

    async def _claim(self, connection: ClientConnection, owner: bytes) -> None:
        asked_at = time.monotonic()
        page = await connection.devices([owner], kinds=self._plan.kinds)
        answered_at = time.monotonic()
        assert len(page.devices) == self._plan.devices
        for device in page.devices:
            for kind, number, key, is_last_resort in _keys_of(device, self._plan.kinds):
                session = BegunSession(
                    device.device, kind, number, is_last_resort, asked_at, answered_at, b"", (0, b"")
                )
                session.sender = bytes(self._account.curve25519_key.to_bytes())
                session.message = self._begin(device.identity, key, session.plaintext())
                self.sessions.append(session)

    def _begin(self, identity: bytes, key: bytes, plaintext: bytes) -> tuple[int, bytes]:
        session = self._account.create_outbound_session(
            Curve25519PublicKey.from_bytes(identity), Curve25519PublicKey.from_bytes(key)
        )
        kind, body = session.encrypt(plaintext).to_parts()
        return kind, bytes(body)


def _keys_of(device: ListedDevice, kinds: list[str]) -> Iterator[tuple[str, int, bytes, bool]]:
    one_time, last = device.one_time_keys or [], device.last_resort_keys or []
    assert sorted(kind for kind, _, _ in one_time + last) == kinds, "a claimer got nothing of a kind, or two keys"
    for keys in (one_time, last):
        for kind, number, key in keys:
            yield kind, number, key, keys is last


async def claim(plan: ClaimPlan, deaths: Path) -> ClaimReport:
    claimers = [Claimer(plan, token, deaths) for token in plan.tokens]
    async with trio.open_nursery() as nursery:
        for each in claimers:
            nursery.start_soon(each.run)
    return ClaimReport([session for each in claimers for session in each.sessions], sum(each.lost for each in claimers))


def open_sessions(plan: OpeningPlan) -> list[str]:
    """Open each session by the private part of the key that it has begun with; returns the failures."""
    accounts = {device: Account.from_pickle(pickle, PICKLE_KEY) for device, pickle in plan.accounts.items()}
    failures = []
    for each in plan.sessions:
        message = AnyOlmMessage.from_parts(*each.message).to_pre_key()
        assert message is not None, "the first message of a session has the key that it begins with"
        try:
            sender = Curve25519PublicKey.from_bytes(each.sender)
            _, plaintext = accounts[each.device.hex()].create_inbound_session(sender, message)
        except Exception as error:
            failures.append(f"{each.plaintext()!r}: {error}")
        else:
            if bytes(plaintext) != each.plaintext():
                failures.append(f"{each.plaintext()!r}: it says {plaintext!r}")
    return failures


def main(what: str, folder: Path, number: str) -> None:
    plan = (folder / f"{what}-{number}").read_bytes()
    # Servers that come back go before it.
    os.nice(5)
    found: ClaimReport | list[str]
    if what == "claim":
        found = trio.run(claim, msgspec.msgpack.decode(plan, type=ClaimPlan), folder / "deaths")
    else:
        found = open_sessions(msgspec.msgpack.decode(plan, type=OpeningPlan))
    report = msgspec.msgpack.encode(found)
    (folder / f"{what}-{number}.report").write_bytes(report)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
