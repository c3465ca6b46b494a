"""The metrics of a node at a scrape: of its connections, its deliveries and its place among the others."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from protocol.encoded import type_of
from protocol.errors import RequestError
from protocol.frames import name_of
from protocol.numbers import Type
from runtime.metrics.samples import Sample, by_label
from server.cluster.node import Node
from server.delivery.hub import Hub
from server.gateway.delivery_hops import DeliveryHops
from server.gateway.sends import Sends
from server.transport.outbox import Outbox
from server.transport.wire_counts import WireCounts

_NAMES: Final = {each.value: each.name.lower() for each in Type}
_BOUNDS: Final = (0, 4096, 65_536, 1_048_576)
_DEPTHS: Final = ("0", "1-4096", "4097-65536", "65537-1048576", "more")


def wire_samples(counts: WireCounts) -> Iterator[Sample]:
    """Figures of the frames and bytes between the node and its clients."""
    for kind, frames in counts.received.items():
        yield Sample("alo_frames_received_total", frames, ("invalid" if kind is RequestError else name_of(kind),))
    yield from by_label("alo_frames_offered_total", _by_type(counts.offered))
    yield Sample("alo_frames_dropped_total", counts.dropped)
    yield Sample("alo_received_bytes_total", counts.received_bytes)
    yield Sample("alo_sent_bytes_total", counts.sent_bytes)
    yield Sample("alo_send_calls_total", counts.send_calls)
    yield Sample("alo_outbox_blocked_seconds", counts.blocked_seconds)
    yield Sample("alo_read_pauses_total", counts.pauses)
    yield from by_label("alo_requests_refused_total", counts.refused)
    yield from by_label("alo_lags_total", counts.lags)
    yield from by_label("alo_cuts_total", counts.cuts)


def _by_type(offered: Mapping[bytes, int]) -> Counter[str]:
    found: Counter[str] = Counter()
    for mark, frames in offered.items():
        # A node of another release may have written a frame that this one does not know.
        found[_NAMES.get(type_of(mark), "unknown")] += frames
    return found


def outbox_samples(outboxes: Iterable[Outbox]) -> Iterator[Sample]:
    """Figures of the bytes that wait; the cost is 0.1 us for each connection."""
    total, depths = 0, [0] * len(_DEPTHS)
    for outbox in outboxes:
        total += outbox.size
        depths[bisect_left(_BOUNDS, outbox.size)] += 1
    yield Sample("alo_outbox_bytes", total)
    yield from by_label("alo_outbox_connections", dict(zip(_DEPTHS, depths, strict=True)))


def delivery_samples(sends: Sends, hub: Hub, hops: DeliveryHops, node: Node) -> Iterator[Sample]:
    """Figures of the ways of messages."""
    outcomes = {"stored": sends.stored, "repeated": sends.repeated, "refused": sends.refused}
    yield from by_label("alo_sends_total", outcomes)
    yield Sample("alo_delivery_hop_seconds", hops.received_committed, ("received_committed",))
    yield Sample("alo_delivery_hop_seconds", hub.flush_seconds, ("offered_written",))
    yield Sample("alo_delivery_hop_seconds", node.fanout.write_seconds, ("committed_streamed",))
    yield from by_label("alo_delivery_hop_seconds", hops.offered)
    found = hub.statistics()
    yield Sample("alo_connections_welcomed", found.connections)
    yield Sample("alo_users", found.users)
    yield Sample("alo_pushes_waiting", found.waiting)
    yield Sample("alo_pushes_dropped_total", hub.dropped)


def cluster_samples(node: Node) -> Iterator[Sample]:
    """Figures of this node among the others."""
    missed = node.missed.statistics()
    yield Sample("alo_other_nodes", len(node.live_nodes()) - 1)
    yield Sample("alo_fanout_waiting", node.fanout.waiting)
    yield Sample("alo_fanout_misses_total", node.fanout.misses)
    yield Sample("alo_stream_entries", node.stream_entries)
    yield Sample("alo_catch_ups_total", node.catch_up.requests)
    yield Sample("alo_missed_pushes_total", missed.pushes)
    yield Sample("alo_missed_devices_total", missed.devices)
