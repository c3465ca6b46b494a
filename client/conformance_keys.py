"""The encryption of the adapter for the conformance kit (`client.conformance`), where the library is installed."""

from __future__ import annotations

import secrets
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from client.e2ee.contents import Plaintext
from client.e2ee.correspondent import Correspondent
from client.e2ee.keyring import Keyring
from client.e2ee.vault import open_vault
from client.e2ee.vodozemac_ratchets import VodozemacRatchets
from client.nursery import open_service_nursery
from client.session import Session
from protocol.frames import Sent


class AdapterKeys:
    """A device's keys, in a folder that goes with this object, over one session after the other."""

    def __init__(self, user: bytes, device: bytes) -> None:
        self._folder = TemporaryDirectory(prefix="alo-kit-")
        vault = open_vault(Path(self._folder.name) / "keys", secrets.token_hex())
        self.keyring: Final = Keyring(vault, VodozemacRatchets(vault.pickle_key), user, device)
        self._correspondent: Correspondent | None = None

    def use(self, session: Session) -> None:
        """From now on this session is the device's."""
        self._correspondent = Correspondent(session, self.keyring)

    def note_low_keys(self, _: list[str]) -> None:
        if self._correspondent is not None:
            self._correspondent.publisher.note_low_keys()

    async def run(self) -> None:
        """Publish keys, and send what an earlier session has left; ends only by being cancelled."""
        assert self._correspondent is not None
        async with open_service_nursery() as nursery:
            nursery.start_soon(self._correspondent.resume)
            await self._correspondent.publisher.run()

    async def send(self, conversation: bytes, content: bytes, reply_to: int | None) -> Sent:
        assert self._correspondent is not None
        return await self._correspondent.send(conversation, Plaintext(content.decode()), reply_to=reply_to)

    def close(self) -> None:
        self.keyring.close()
        self._folder.cleanup()
