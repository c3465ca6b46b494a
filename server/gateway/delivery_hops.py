"""How long messages take from hop to hop, by Postgres' clock, which all nodes know (`store.clock`).

| hop | from | to |
|---|---|---|
| `received_committed` | the bytes of a send come | its commit |
| `committed_offered` | the commit | the push is offered to the recipients' connections on the same node |
| `committed_offered_elsewhere` | the commit | the push is offered to connections on another node |
| `committed_streamed` | the commit | Redis has the entries for other nodes, for the oldest push of a batch |
| `offered_written` | the first frame of a flush is offered | the kernel has the last one, or has refused it |

All but `offered_written` and `committed_streamed` are measured for each message that has a recipient there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from server.delivery.hub import HubConnection
from store.distribution import Distribution, DistributionsBy
from store.redis.entries import AddressedPush

HERE: Final = "committed_offered"
ELSEWHERE: Final = "committed_offered_elsewhere"


class DeliveryHops:
    """The times of one node. Synchronous.

    :param now_us: the time by Postgres' clock, in microseconds since 1970.
    :ivar received_committed: for each send that is stored.
    """

    def __init__(self, now_us: Callable[[], int]) -> None:
        self._now_us = now_us
        self.received_committed = Distribution()
        self.offered: DistributionsBy[str] = DistributionsBy()

    def pushed(self, push: AddressedPush, connections: Sequence[HubConnection]) -> None:
        """A new message has been offered to these connections."""
        if push.committed_us and connections:
            seconds = (self._now_us() - push.committed_us) / 1e6
            # A message that was sent here has the connection that sent it.
            self.offered[ELSEWHERE if push.origin is None else HERE].observe(seconds)
