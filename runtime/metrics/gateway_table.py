"""The rows of `socket`."""

from __future__ import annotations

from typing import Final

from runtime.metrics.metric import SOCKET, Metric

_TYPE: Final = {"type": "name of a frame in `protocol/SPEC.md`, or `unknown`"}

_ENDS: Final = (
    "name of a close code, `other_code`, `lost`, `not_opened`, `slow_reader`, `stuck_reader`, `no_room` or"
    " `connection_lost`"
)

CONNECTIONS: Final = (
    Metric("alo_connections", "gauge", "Open connections, welcomed or not.", SOCKET),
    Metric("alo_connections_welcomed", "gauge", "Connections whose devices get pushes.", SOCKET),
    Metric("alo_users", "gauge", "Users with a connection here.", SOCKET),
    Metric("alo_connections_accepted_total", "counter", "Connections that were accepted.", SOCKET),
    Metric("alo_connections_refused_total", "counter", "Connections of addresses that had too many.", SOCKET),
    Metric(
        "alo_connections_ended_total",
        "counter",
        "Connections that have ended.",
        SOCKET,
        {"reason": _ENDS},
    ),
    Metric("alo_admissions", "gauge", "Connections whose hello or first sync is being answered.", SOCKET),
    Metric("alo_budgets", "gauge", "Users whose cost is counted.", SOCKET),
    Metric("alo_read_pauses_total", "counter", "Times that a connection was not read, for its user's debt.", SOCKET),
    Metric(
        "alo_requests_refused_total",
        "counter",
        "Requests that were refused.",
        SOCKET,
        {"error": "name of the error of the reply in `protocol/SPEC.md`, such as `rate_limited`"},
    ),
    Metric(
        "alo_resumes_total",
        "counter",
        "Cursors of hellos that were served.",
        SOCKET,
        {"outcome": "`complete`, `more` (pages follow), `cursor_refused` or `unavailable`"},
    ),
)

WIRE: Final = (
    Metric(
        "alo_frames_received_total",
        "counter",
        "Frames from clients.",
        SOCKET,
        {"type": "name of a frame in `protocol/SPEC.md`, or `invalid`"},
    ),
    Metric("alo_frames_offered_total", "counter", "Frames for clients; slow readers miss some of them.", SOCKET, _TYPE),
    Metric("alo_frames_dropped_total", "counter", "Pushes that slow readers have missed.", SOCKET),
    Metric("alo_received_bytes_total", "counter", "Bytes from clients, after the handshake.", SOCKET),
    Metric("alo_sent_bytes_total", "counter", "Bytes to clients that the kernel has taken.", SOCKET),
    Metric("alo_send_calls_total", "counter", "Calls of the system that sent these bytes.", SOCKET),
    Metric("alo_outbox_bytes", "gauge", "Bytes that wait for clients to read, of all connections.", SOCKET),
    Metric(
        "alo_outbox_connections",
        "gauge",
        "Connections by the bytes that wait for them.",
        SOCKET,
        {"bytes": "`0`, `1-4096`, `4097-65536`, `65537-1048576` or `more`"},
    ),
    Metric("alo_outbox_blocked_seconds", "histogram", "Times that a client's full buffer held frames back.", SOCKET),
    Metric(
        "alo_lags_total",
        "counter",
        "Times that a client was asked to fetch, as it had missed pushes.",
        SOCKET,
        {"reason": "`slow_reader`, `pushes_dropped`, `order_begun_anew`, `push_missed` or `user_not_found_here`"},
    ),
    Metric(
        "alo_cuts_total",
        "counter",
        "Ends of outboxes; all but `closed` cut the connection.",
        SOCKET,
        {"reason": "`closed`, `slow_reader`, `stuck_reader`, `no_room` or `connection_lost`"},
    ),
)

DELIVERY: Final = (
    Metric(
        "alo_sends_total",
        "counter",
        "Sends that were answered.",
        SOCKET,
        {"outcome": "`stored`, `repeated` (stored before) or `refused`"},
    ),
    Metric(
        "alo_delivery_hop_seconds",
        "histogram",
        "Ways of new messages, by Postgres' clock.",
        SOCKET,
        {
            "hop": "`received_committed`, `committed_offered`, `committed_offered_elsewhere`, `committed_streamed` or"
            " `offered_written` (`server/gateway/delivery_hops.py`)"
        },
    ),
    Metric("alo_pushes_waiting", "gauge", "Pushes that wait for their turn.", SOCKET),
    Metric("alo_pushes_dropped_total", "counter", "Pushes that were dropped, as too many waited.", SOCKET),
    Metric("alo_marks_awaited", "gauge", "Deliveries that wait for their mark, to be measured by day.", SOCKET),
)

CLUSTER: Final = (
    Metric("alo_other_nodes", "gauge", "Other nodes that live, as of the last heartbeat.", SOCKET),
    Metric("alo_fanout_waiting", "gauge", "Pushes for other nodes that wait for Redis.", SOCKET),
    Metric("alo_fanout_misses_total", "counter", "Times that pushes could not be written for other nodes.", SOCKET),
    Metric("alo_stream_entries", "gauge", "Entries of this node's stream, one of which it has read.", SOCKET),
    Metric("alo_catch_ups_total", "counter", "Requests to look for changes that the node may have missed.", SOCKET),
    Metric("alo_missed_pushes_total", "counter", "Messages that a device here should have got, and did not.", SOCKET),
    Metric("alo_missed_devices_total", "counter", "Devices here that other nodes did not find.", SOCKET),
)
