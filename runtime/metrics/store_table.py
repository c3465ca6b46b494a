"""The rows of Postgres, Redis, batches, caches and the object store."""

from __future__ import annotations

from typing import Final

from protocol.undecryptable import REASONS
from runtime.metrics.metric import EACH, SOCKET, Metric

_STATEMENT: Final = {"statement": "file and name of a query in `store/sql/`, or `unnamed`"}

POSTGRES: Final = (
    Metric("alo_postgres_query_seconds", "histogram", "Queries, from sending to the last row.", EACH, _STATEMENT),
    Metric("alo_postgres_pool_wait_seconds", "histogram", "Waits for a connection; 0 if one is free.", EACH),
    Metric("alo_postgres_pool_waiting", "gauge", "Callers that wait for a connection.", EACH),
    Metric(
        "alo_postgres_connections",
        "gauge",
        "Connections of the pool.",
        EACH,
        {"state": "`in_use`, `idle` or `unopened`"},
    ),
    Metric("alo_postgres_connects_total", "counter", "Connections that were opened.", EACH),
    Metric("alo_postgres_discarded_total", "counter", "Connections that were closed as broken.", EACH),
    Metric("alo_postgres_unknown_outcomes_total", "counter", "Writes whose outcome is not known.", EACH),
    Metric("alo_postgres_reads_total", "counter", "Reads of the hot path, which may share round trips.", EACH),
    Metric("alo_postgres_read_round_trips_total", "counter", "Round trips of these reads.", EACH),
    Metric("alo_postgres_reads_waiting", "gauge", "Reads of the hot path that wait for a round trip.", EACH),
    Metric(
        "alo_replica_reads_total",
        "counter",
        "Pages of history and exports for which a replica was asked.",
        ("web", "worker"),
        {
            "outcome": "`served`, `behind` (the primary read it), `other_history` (after a fail-over), or `failed` (no"
            " answer in time, or an error)"
        },
    ),
)

_USE: Final = {"use": "`bus` (REDIS_BUS_URL), `jobs` (REDIS_JOBS_URL, `worker` alone)"}

REDIS: Final = (
    Metric("alo_redis_commands_total", "counter", "Commands, those that block apart.", EACH, _USE),
    Metric("alo_redis_failures_total", "counter", "Commands without a reply.", EACH, _USE),
    Metric("alo_redis_reply_seconds", "histogram", "Replies to commands that are sent together.", EACH, _USE),
    Metric("alo_redis_in_flight", "gauge", "Commands that wait for a reply.", EACH, _USE),
    Metric("alo_redis_connects_total", "counter", "Connections that were opened, the first included.", EACH, _USE),
    Metric("alo_redis_moves_total", "counter", "Connections to another server than the last one.", EACH, _USE),
    Metric("alo_redis_connected", "gauge", "1 while there is a connection.", EACH, _USE),
)

_QUEUE: Final = {"queue": "`sends`, `sends_slow`, `marks` or `last_seen`"}

BATCHES: Final = (
    Metric("alo_batch_items", "histogram", "Items of a commit.", SOCKET, _QUEUE),
    Metric("alo_batch_commit_seconds", "histogram", "Commits, with their retries.", SOCKET, _QUEUE),
    Metric("alo_batch_queued", "gauge", "Items that wait for a commit.", SOCKET, _QUEUE),
    Metric("alo_sends_diverted_total", "counter", "Sends that went to the slow lane.", SOCKET),
)

_CACHE: Final = {"cache": "`participants`, `presence` (`socket`); `list`, `history` (`web`)"}

CACHES: Final = (
    Metric(
        "alo_cache_uses_total",
        "counter",
        "Uses of a cache.",
        ("web", "socket"),
        {**_CACHE, "outcome": "`hit`, `mended` (a page that was brought up to date) or `miss`"},
    ),
    Metric("alo_cache_values", "gauge", "Values in a cache.", ("web", "socket"), _CACHE),
    Metric("alo_cache_bytes", "gauge", "Bytes in a cache of pages.", ("web",), _CACHE),
)

_CLAIMING: Final = ("web", "socket")

KEYS: Final = (
    Metric(
        "alo_claimed_keys_total",
        "counter",
        "Answers to claims of one-time keys, one for each kind of each device.",
        _CLAIMING,
        {"outcome": "`one_time`, `last_resort`, or `none` (the device has no key of the kind)"},
    ),
    Metric("alo_key_claims_total", "counter", "Claims of keys that Postgres has answered.", _CLAIMING),
    Metric("alo_key_claim_commits_total", "counter", "Transactions of these claims, which may share them.", _CLAIMING),
    Metric("alo_key_claims_waiting", "gauge", "Claims of keys that wait for a transaction.", _CLAIMING),
    Metric(
        "alo_key_pools_low_total",
        "counter",
        "Times that a claim here has left few keys of a kind to a device, or was the first to get its last-resort key.",
        _CLAIMING,
    ),
    Metric("alo_keys_low_told_total", "counter", "Times that a connected device was told so.", SOCKET),
    Metric(
        "alo_undecryptable_total",
        "counter",
        "Messages that a device has reported as undecryptable. A few belong to devices that were away for long; many of"
        " one reason show a fault of a client.",
        SOCKET,
        {"reason": "the reason that the device gave: " + ", ".join(f"`{reason}`" for reason in REASONS)},
    ),
    Metric("alo_undecryptable_told_total", "counter", "Times that a connected device was told so.", SOCKET),
    Metric("alo_messages_healed_total", "counter", "Requests that have added envelopes to a message.", SOCKET),
)

OBJECTS: Final = (
    Metric(
        "alo_object_store_call_seconds",
        "histogram",
        "Calls of the object store.",
        ("web", "worker"),
        {
            "method": "of a service the method of HTTP; of a folder `file`",
            "outcome": "`ok`, `missing`, `refused`, `unavailable` or `cancelled`",
        },
    ),
)
