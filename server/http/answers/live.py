"""What the operations page shows: the deployment as it is now."""

from __future__ import annotations

from msgspec import Struct


class ProcessAnswer(Struct, frozen=True):
    """A process that has shared its figures in the last seconds.

    :ivar id: as its log lines have it.
    :ivar process: `web`, `socket` or `worker`.
    :ivar fault: why it is not ready; empty if it is.
    :ivar cpu: the share of a core that it used, 0.0 to 1.0.
    :ivar loop_lag_p99_ms: how late its event loop was; null: not known yet.
    """

    id: str
    process: str
    host: str
    pid: int
    fault: str
    cpu: float
    memory_bytes: int
    loop_lag_p99_ms: float | None


class NodeAnswer(Struct, frozen=True):
    """A node that Redis knows.

    :ivar status: `serves`; `silent`: it has a lease and shares no figures, so it hangs or has just begun; or its fault,
        such as `stopping`.
    :ivar host: null: the node is silent, and so is each figure of it.
    :ivar connections: open ones, welcomed or not.
    :ivar users: of the welcomed ones.
    :ivar stream_entries: entries of its stream, one of which it has read: the others wait.
    :ivar fanout_waiting: pushes that it has yet to write to other nodes.
    :ivar outbox_bytes: that wait for clients to read.
    """

    node: str
    status: str
    host: str | None
    pid: int | None
    connections: int | None
    users: int | None
    stream_entries: int | None
    fanout_waiting: int | None
    outbox_bytes: int | None


class TimesAnswer(Struct, frozen=True):
    """Times in milliseconds, read off a histogram of the last 30 s.

    :ivar name: a hop of the delivery of a message, or `http`.
    :ivar per_s: how many were measured a second.
    :ivar p50: null, as the others: none was measured.
    """

    name: str
    per_s: float
    p50: float | None
    p95: float | None
    p99: float | None


class CacheAnswer(Struct, frozen=True):
    """The uses of a cache in the last 30 s, of all processes.

    :ivar hit_ratio: 0.0 to 1.0, pages that were brought up to date included; null: the cache was not used.
    """

    cache: str
    uses_per_s: float
    hit_ratio: float | None


class TaskAnswer(Struct, frozen=True):
    """The jobs of a task, as Postgres has them.

    :ivar oldest_s: how long the oldest waiting job has been due; null: no job waits.
    """

    task: str
    waiting: int
    delayed: int
    running: int
    dead: int
    oldest_s: float | None
    is_paused: bool


class DeadJobAnswer(Struct, frozen=True):
    """A job that failed for good. Its arguments and its traceback are shown by `python -m jobs dead` alone.

    :ivar died: microseconds since 1970-01-01T00:00Z.
    :ivar reason: the first 200 characters.
    """

    job: int
    task: str
    attempts: int
    died: int
    reason: str


class StatementAnswer(Struct, frozen=True):
    """A statement of the database in the last 30 s, in all processes.

    :ivar statement: file and name of the query in `store/sql/`.
    :ivar busy: time that it took in a second, in seconds, of all processes together.
    """

    statement: str
    per_s: float
    busy: float
    mean_ms: float
    p99_ms: float | None


class LiveAnswer(Struct, frozen=True):
    """The deployment as it is now. Rates and times are of the last 30 s; they begin some seconds after the first look.

    :ivar at: microseconds since 1970-01-01T00:00Z.
    :ivar connections: of all nodes.
    :ivar users: of all nodes; a user with devices on two nodes counts twice.
    :ivar sends_per_s: messages that were stored.
    :ivar requests_per_s: of HTTP.
    :ivar times: of the hops of deliveries and of HTTP.
    :ivar statements: those that took most time, at most 10.
    :ivar dead_jobs: the latest, at most 20.
    """

    at: int
    connections: int
    users: int
    sends_per_s: float
    requests_per_s: float
    times: list[TimesAnswer]
    caches: list[CacheAnswer]
    tasks: list[TaskAnswer]
    dead_jobs: list[DeadJobAnswer]
    nodes: list[NodeAnswer]
    statements: list[StatementAnswer]
    processes: list[ProcessAnswer]
