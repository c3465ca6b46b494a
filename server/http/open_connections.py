"""The connections of the process: their room, and how many each address has."""

from __future__ import annotations

from typing import Final

from server.transport.admission import ConnectionCounts
from server.transport.proxies import TrustedProxies, address_key
from server.transport.room import Room

MAX_CONNECTIONS: Final = 10_000
"""The most connections of a process, if its limit of open files allows as many: 130 MB if they are idle, some
400 MB with half heads. nginx has 512 to 1,024 of a worker by default."""


class OpenConnections(Room):
    """All connections, from accepting to closing. Those that wait for a request, or the rest of one, may give way.

    :param most: connections that are open at once.
    :param max_each: connections of one address.
    :param proxies: they may have any number of connections; each request names its client.
    :ivar refused: connections whose address had `max_each`.
    """

    def __init__(self, most: int, max_each: int, proxies: TrustedProxies) -> None:
        super().__init__(most)
        self._addresses: ConnectionCounts[str] = ConnectionCounts(max_each)
        self._proxies = proxies
        self.refused = 0

    def count(self, address: str) -> tuple[bool, str | None]:
        """Count a connection of this address; whether it may go on, and the key for `uncount`, if it was counted."""
        if address in self._proxies:
            return True, None
        key = address_key(address)
        if self._addresses.enter(key):
            return True, key
        self.refused += 1
        return False, None

    def uncount(self, key: str | None) -> None:
        """The connection that was counted under this key is closed."""
        if key is not None:
            self._addresses.leave(key)
