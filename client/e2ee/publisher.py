"""The keys of this device at the server: identity, one-time keys, last-resort key."""

from __future__ import annotations

from typing import Final

import trio

from client import backoff
from client.e2ee.keyring import Keyring
from client.errors import NoReply, RequestRefused, Unreachable
from client.session import Session
from protocol.codes import ErrorCode

ROUNDS: Final = 8
"""For one upload: each round needs another history of the server's keys meanwhile, or a pool that is emptied."""


class KeyPublisher:
    """Publishes the keys of a keyring over a session."""

    def __init__(self, session: Session, keyring: Keyring) -> None:
        self._session = session
        self._keyring = keyring
        self._low = trio.Event()
        self._low.set()

    def note_low_keys(self) -> None:
        """The server has few keys of this device: `run` uploads more."""
        self._low.set()

    async def run(self) -> None:
        """Upload keys whenever the server has few; ends only by being cancelled."""
        failures = 0
        while True:
            await self._low.wait()
            self._low = trio.Event()
            try:
                await self.publish()
                failures = 0
            except (NoReply, Unreachable, RequestRefused):
                self._low.set()
                await trio.sleep(backoff.delay_s(failures))
                failures += 1

    async def publish(self) -> None:
        """Publish identity and keys, unless the server has them and enough.

        :raises RequestRefused, NoReply, Unreachable: if the server does not take them; the next call goes on.
        """
        for _ in range(ROUNDS):
            held = await self._session.insist(lambda connection: connection.key_status())
            upload = self._keyring.next_upload(held)
            if upload is None:
                return
            try:
                await self._session.insist(
                    lambda connection, upload=upload: connection.put_keys(  # type: ignore[misc]
                        upload.identity,
                        upload.one_time_keys or None,
                        upload.last_resort_keys or None,
                        is_anew=upload.is_anew or None,
                        key_history=upload.key_history,
                    )
                )
            except RequestRefused as refused:
                if refused.code != ErrorCode.KEY_HISTORY_FOREIGN.value:
                    raise
