"""The encryption of the adapter for the conformance kit (`client.conformance`), where the library is installed."""

from __future__ import annotations

from typing import Final

from client.e2ee.contents import Plaintext
from client.e2ee.correspondent import Correspondent
from client.e2ee.keyring import Keyring
from client.e2ee.vault import open_temporary_vault
from client.e2ee.vodozemac_ratchets import VodozemacRatchets
from client.nursery import open_service_nursery
from client.session import Session
from protocol.frames import Sent


class AdapterKeys:
    """A device's keys, in memory, over one session after the other."""

    def __init__(self, user: bytes, device: bytes) -> None:
        vault = open_temporary_vault()
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
