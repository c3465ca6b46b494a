"""Postgres fails over to a standby that has lost claims and uploads, under claimers on two nodes: no key is handed out
twice, and no claimer gets nothing (P13)."""

from __future__ import annotations

from contextlib import closing
from typing import Final
from uuid import uuid4

import pytest
import trio

from client.connection import ClientConnection, connect
from client.errors import NoReply, RequestRefused
from client.http import Credentials
from embedded.postgres import PostgresServer
from protocol.codes import ErrorCode
from protocol.frames import HeldKeys
from store.postgres.pool import Pool
from tests.people import make_contacts, new_user
from tests.server.node_world import open_node
from tests.standby import Standby, either
from tests.store.key_world import IDENTITY, KIND, a_last_resort, some_keys
from tests.waiting import DEADLINE_S, let_pass, wait_until

LATE: Final = {ErrorCode.UNAVAILABLE.value, ErrorCode.OVERLOADED.value}
CLAIMERS: Final = 4
BATCH: Final = 12
"""Keys of an upload."""


class KeyUploader:
    """A device that uploads as the specification says (19.5): the same keys again while it has no reply; after a
    fail-over, only keys that it has never uploaded.

    :ivar foreign: how often the server was in another history.
    """

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._history = b""
        self._next = 1
        self.foreign = 0

    async def ask(self) -> None:
        """Learn the history of now."""
        self._history = (await self._connection.key_status()).key_history

    async def upload(self) -> HeldKeys:
        """Upload the next keys."""
        first = self._next
        self._next += BATCH
        return await self._insist(first)

    async def upload_last_again(self) -> HeldKeys:
        """As a device does that has not had the reply."""
        return await self._insist(self._next - BATCH)

    async def _insist(self, first: int) -> HeldKeys:
        while True:
            try:
                if not self._history:
                    await self.ask()
                fresh = some_keys(range(first, first + BATCH))
                return await self._connection.put_keys(IDENTITY, fresh, [a_last_resort(1)], key_history=self._history)
            except RequestRefused as error:
                if error.code == "key_history_foreign":
                    self._history, self.foreign = b"", self.foreign + 1
                    first, self._next = self._next, self._next + BATCH
                elif error.code not in LATE:
                    raise
            except NoReply:
                pass
            await let_pass(0.05, why="a client waits before it tries again")


class KeyClaimers:
    """Claim all the time, each over its connection, until the end.

    :ivar found: the numbers, those of last-resort keys negative, in the order of the answers.
    """

    def __init__(self, owner: Credentials) -> None:
        self._owner = owner
        self.found: list[int] = []

    async def claim(self, connection: ClientConnection, pause_s: float) -> None:
        while True:
            try:
                [device] = (await connection.devices([self._owner.user], kinds=[KIND])).devices
            except RequestRefused as error:
                if error.code not in LATE:
                    raise
            except NoReply:
                pass
            else:
                got = [number for _, number, _ in device.one_time_keys or ()]
                got += [-number for _, number, _ in device.last_resort_keys or ()]
                assert len(got) == 1, "a claimer got nothing, or more than one key of a kind"
                self.found += got
            await let_pass(pause_s, why="the pace of the claims")

    async def wait_more(self, count: int) -> list[int]:
        """Wait for so many answers; returns them."""
        before = len(self.found)
        await wait_until(lambda: len(self.found) >= before + count, "further claims", timeout_s=2 * DEADLINE_S)
        return self.found[before:]


@pytest.mark.parametrize("repeats", [True, False])
async def test_no_key_is_handed_out_twice_after_a_fail_over_to_a_standby_that_lost_claims(
    primary: PostgresServer, standby: Standby, redis_url: str, repeats: bool
) -> None:
    """The standby has neither the claims nor the upload of the last moments.

    repeats: the device repeats its last upload, whose reply it has not read; else it asks what the server holds.
    """
    url = either(primary.port, standby.port)
    with closing(Pool(url, 2)) as pool:
        owner = await new_user(pool, f"owner{uuid4().hex[:8]}")
        users = [await new_user(pool, f"claimer{number}") for number in range(CLAIMERS)]
        for each in users:
            await make_contacts(pool, each, owner)
        async with (
            open_node(url, redis_url) as here,
            open_node(url, redis_url) as there,
            connect(here.url, owner.token) as phone,
            trio.open_nursery() as nursery,
        ):
            device = KeyUploader(phone)
            await device.upload()
            await trio.to_thread.run_sync(standby.wait_replayed)
            await trio.to_thread.run_sync(standby.cut_off)
            claimers = KeyClaimers(owner)
            for number, each in enumerate(users):
                node = (here, there)[number % 2]
                connection = await nursery.start(_connected, node.url, each.token)
                nursery.start_soon(claimers.claim, connection, 0.4)
            # Claims of the first upload, and of one that the standby does not have either.
            await claimers.wait_more(6)
            held = await device.upload()
            await claimers.wait_more(4)
            lost = max(claimers.found)
            assert lost > 6
            await trio.to_thread.run_sync(primary.kill)
            await trio.to_thread.run_sync(standby.promote)
            # The last answers of the primary may come after its death.
            await claimers.wait_more(CLAIMERS)
            assert set(await claimers.wait_more(4)) == {-1}, "until the device uploads anew"
            if repeats:
                held = await device.upload_last_again()
                assert device.foreign == 1
            else:
                await device.ask()
                assert (await device.upload()).key_history != held.key_history
                assert device.foreign == 0
            await claimers.wait_more(CLAIMERS)
            further = [number for number in await claimers.wait_more(4) if number > 0]
            assert further, "keys are handed out again"
            assert min(further) > 2 * BATCH
            nursery.cancel_scope.cancel()
        taken = [number for number in claimers.found if number > 0]
        assert len(set(taken)) == len(taken), "a key was handed out twice"


async def _connected(url: str, token: str, task_status: trio.TaskStatus[ClientConnection]) -> None:
    async with connect(url, token) as connection:
        task_status.started(connection)
        await trio.sleep_forever()
