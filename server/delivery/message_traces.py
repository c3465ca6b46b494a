"""The spans of sampled messages on one node.

| span | parent | from | to |
|---|---|---|---|
| `send` | | the bytes of the request come | the reply is written to the socket |
| `commit` | `send` | a commit with the message begins; each attempt has a span | it has ended |
| `stream` | `send` | the push is queued for other nodes | Redis has the entries |
| `push` | `send` here, `stream` on another node | the entry is read; here the push is offered | sockets have the push |
| `write` | `push` | the push is offered to connections | the kernel has its bytes, or has refused them |

A push of a sampled message carries the context of its parent span (`AddressedPush.trace`), also in the stream entry: 24
bytes. Other messages carry none, and cost one `is None` at each place.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import structlog
import trio

from store.errors import StoreError
from store.redis.client import Redis
from store.redis.entries import AddressedPush
from store.redis.traces import note_trace

if TYPE_CHECKING:
    from runtime.tracing.tracer import Span, Tracer

log = structlog.get_logger(__name__)

MAX_RECEIVED: Final = 1000
"""Pushes that were read and not offered yet: those that wait for their turn, or for an earlier `seq`."""

MAX_NOTED: Final = 1000
"""Sampled messages that wait to be noted for their notices. Without Redis further ones are not."""


class SendTrace(NamedTuple):
    """A sampled send under way."""

    span: Span
    conversation: bytes


class _Offered(NamedTuple):
    parent: bytes
    began_ns: int
    offered_ns: int
    connections: int


class _Noted(NamedTuple):
    users: Sequence[bytes]
    conversation: bytes
    seq: int
    context: bytes


class MessageTraces:
    """Run `run` in a nursery. Everything else is synchronous.

    :param redis: keeps the contexts for the jobs of notices (`store.redis.traces`).
    :param node: the id of the node.
    """

    def __init__(self, tracer: Tracer, redis: Redis, node: bytes) -> None:
        self._tracer = tracer
        self._redis = redis
        self._node = node.hex()
        self._received: OrderedDict[bytes, int] = OrderedDict()
        self._offered: list[_Offered] = []
        self._to_note, self._noted = trio.open_memory_channel[_Noted](MAX_NOTED)

    def begin(self, conversation: bytes, received_at: float) -> SendTrace | None:
        """A send has come; None if it is not sampled.

        :param received_at: by Trio's clock.
        """
        if not self._tracer.is_sampled():
            return None
        return SendTrace(self._tracer.start("send", "server", began_ns=_ns_of(received_at)), conversation)

    def committed(self, sends: Sequence[SendTrace | None], began_at: float, lane: str) -> None:
        """A commit has ended, whatever its outcome.

        :param sends: of all items.
        :param began_at: by Trio's clock.
        :param lane: "fast" or "slow".
        """
        for send in sends:
            if send is not None:
                span = self._tracer.start("commit", parent=send.span.context, began_ns=_ns_of(began_at))
                span.end(items=len(sends), lane=lane)

    def settled(self, send: SendTrace, outcome: str, seq: int = 0, recipients: Sequence[bytes] = ()) -> None:
        """The reply has been written.

        :param outcome: "sent", "again", or the name of an error.
        :param recipients: the users who may get a notice of the message.
        """
        send.span.end(node=self._node, conversation=send.conversation.hex(), seq=seq, outcome=outcome)
        log.debug("send_traced", trace_id=send.span.trace_id, conversation=send.conversation.hex(), seq=seq)
        if recipients:
            try:
                self._to_note.send_nowait(_Noted(recipients, send.conversation, seq, send.span.context))
            except trio.WouldBlock:
                log.warning("trace_not_noted", error=f"{MAX_NOTED} wait already")

    def streams(self, pushes: list[AddressedPush], queued_at: Sequence[float]) -> list[Span]:
        """Begin a span for each sampled push, whose context takes the place of its parent's in the push.

        :param pushes: of a batch; the list is changed.
        :param queued_at: of each, by Trio's clock.
        """
        begun = []
        for number, (push, at) in enumerate(zip(pushes, queued_at, strict=True)):
            if push.trace is not None:
                span = self._tracer.start("stream", "producer", parent=push.trace, began_ns=_ns_of(at))
                pushes[number] = push._replace(trace=span.context)
                begun.append(span)
        return begun

    def received(self, trace: bytes) -> None:
        """A sampled push was read from this node's stream."""
        self._received[trace] = time.time_ns()
        if len(self._received) > MAX_RECEIVED:
            self._received.popitem(last=False)

    def offered(self, trace: bytes, connections: int) -> None:
        """A sampled push has been offered to the outboxes of this number of connections; `written` follows."""
        now = time.time_ns()
        began_ns = self._received.pop(trace, now)
        if connections:
            self._offered.append(_Offered(trace, began_ns, now, connections))

    def written(self) -> None:
        """All outboxes have been flushed."""
        if self._offered:
            offered, self._offered = self._offered, []
            now = time.time_ns()
            for each in offered:
                push = self._tracer.start("push", "consumer", parent=each.parent, began_ns=each.began_ns)
                write = self._tracer.start("write", parent=push.context, began_ns=each.offered_ns)
                write.end(now, connections=each.connections)
                push.end(now, node=self._node)

    async def run(self) -> None:
        """Note sampled messages for the jobs of their notices, until cancelled."""
        async for each in self._noted:
            try:
                await note_trace(self._redis, each.users, each.conversation, each.seq, each.context)
            except StoreError as error:
                log.warning("trace_not_noted", error=str(error))


def _ns_of(at: float) -> int:
    """Nanoseconds since 1970 of a time by Trio's clock."""
    return time.time_ns() - round((trio.current_time() - at) * 1e9)
