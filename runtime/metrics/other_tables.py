"""The rows of `web`, of `worker` and of every process itself."""

from __future__ import annotations

from typing import Final

from runtime.metrics.metric import EACH, WEB, WORKER, Metric

PROCESS: Final = (
    Metric(
        "alo_process_cpu_seconds_total", "counter", "CPU time of the process.", EACH, {"mode": "`user` or `system`"}
    ),
    Metric("alo_process_start_time_seconds", "gauge", "When the process began, in seconds since 1970.", EACH),
    Metric("alo_process_resident_memory_bytes", "gauge", "Memory of the process in RAM.", EACH),
    Metric("alo_process_open_files", "gauge", "Open files; each connection is one.", EACH),
    Metric("alo_process_max_open_files", "gauge", "The most files that the process may open.", EACH),
    Metric("alo_trio_tasks", "gauge", "Tasks of the event loop.", EACH),
    Metric("alo_event_loop_lag_seconds", "histogram", "How late a task ran that was due every 0.1 s.", EACH),
    Metric("alo_event_loop_stalls_total", "counter", "Times that the event loop had no turn for 10 s.", EACH),
    Metric("alo_gc_pause_seconds", "histogram", "Pauses for garbage collection.", EACH),
    Metric("alo_gc_collections_total", "counter", "Garbage collections.", EACH, {"generation": "`0`, `1` or `2`"}),
    Metric("alo_live", "gauge", "1 if /healthz answers 200, else 0.", EACH),
    Metric("alo_ready", "gauge", "1 if /readyz answers 200, else 0.", EACH),
)

_CODING: Final = {"coding": "`zstd`, `br`, `gzip` or `identity`"}

_REQUESTS_OF: Final = {"source": "`users`, `strangers` or `large_bodies`"}

_HASHES_OF: Final = {"source": "`strangers` or `known_devices`"}

_TASK: Final = {"task": "a task of `jobs/tasks/registry.py`"}

JOBS: Final = (
    Metric("alo_job_wait_seconds", "histogram", "From when a job is due until its run begins.", WORKER, _TASK),
    Metric("alo_job_run_seconds", "histogram", "Duration of runs.", WORKER, _TASK),
    Metric(
        "alo_job_runs_total",
        "counter",
        "Runs that have ended.",
        WORKER,
        {**_TASK, "outcome": "`done`, `retry`, `snoozed`, `dead`, `cancelled`, or `left` to another worker"},
    ),
    Metric("alo_jobs_running", "gauge", "Runs of this worker that are under way.", WORKER),
    Metric(
        "alo_jobs",
        "gauge",
        "Durable jobs of all workers.",
        WORKER,
        {**_TASK, "state": "`waiting`, `delayed`, `running` or `dead`"},
    ),
    Metric(
        "alo_jobs_in_redis",
        "gauge",
        "Entries in Redis: volatile jobs, and durable ones that are handed in.",
        WORKER,
        _TASK,
    ),
    Metric("alo_job_oldest_seconds", "gauge", "How long the oldest waiting job has been due; else 0.", WORKER, _TASK),
    Metric("alo_task_paused", "gauge", "1 while the task is paused.", WORKER, _TASK),
    Metric("alo_retention_messages_removed_total", "counter", "Messages that this worker has deleted as over.", WORKER),
)

HTTP: Final = (
    Metric(
        "alo_http_request_seconds",
        "histogram",
        "Requests, from their head to the answer, which is not yet written.",
        WEB,
        {"route": "method and path of a route, such as `GET /healthz`", "status": "`1xx` to `5xx`"},
    ),
    Metric("alo_http_requests_in_flight", "gauge", "Requests to routes that are being answered.", WEB),
    Metric(
        "alo_http_unrouted_total",
        "counter",
        "Answers to requests that come to no route.",
        WEB,
        {"status": "`1xx` to `5xx`"},
    ),
    Metric(
        "alo_http_limited_total",
        "counter",
        "Answers of routes that a limit is reached.",
        WEB,
        {"class": "a class of requests in `docs/http.md`"},
    ),
    Metric(
        "alo_http_connections", "gauge", "Open connections.", WEB, {"state": "`waiting` for their clients, or `in_use`"}
    ),
    Metric("alo_http_connections_accepted_total", "counter", "Connections that were accepted.", WEB),
    Metric("alo_http_connections_refused_total", "counter", "Connections of addresses that had too many.", WEB),
    Metric(
        "alo_http_connections_expired_total",
        "counter",
        "Connections that waited for their clients, and were closed to make room for others.",
        WEB,
    ),
    Metric("alo_http_requests_waiting", "gauge", "Requests that wait for their turn.", WEB, _REQUESTS_OF),
    Metric(
        "alo_http_turn_wait_seconds",
        "histogram",
        "Waits for a turn, of the requests that had none at once.",
        WEB,
        _REQUESTS_OF,
    ),
    Metric(
        "alo_http_request_bytes",
        "histogram",
        "Lengths of the bodies that routes have read, those of files apart.",
        WEB,
    ),
    Metric(
        "alo_http_answer_bytes",
        "histogram",
        "Lengths of the bodies of answers of routes, as they go out, those of files apart.",
        WEB,
        _CODING,
    ),
    Metric("alo_password_hashes_waiting", "gauge", "Hashes of passwords that wait for their turn.", WEB, _HASHES_OF),
    Metric(
        "alo_password_hash_wait_seconds",
        "histogram",
        "Waits for a turn, of the hashes that had none at once.",
        WEB,
        _HASHES_OF,
    ),
    Metric("alo_password_hash_seconds", "histogram", "Hashes of passwords, without their wait.", WEB),
)

NOTICES: Final = (
    Metric(
        "alo_notice_seconds",
        "histogram",
        "Calls of services that tell users of messages.",
        WORKER,
        {
            "service": "`deployment`, `webhook`, `email`, `web_push`, `apns` or `fcm`",
            "outcome": "`taken`, `gone` (the notifier is deleted), `failed` (for now), `refused` or `cancelled`",
        },
    ),
    Metric(
        "alo_mail_seconds",
        "histogram",
        "Mails.",
        WORKER,
        {
            "template": "a mail in `jobs/mail/templates/`",
            "outcome": "`accepted`, `put_off` (for now), `refused`, `cancelled` or `unsent` (no mail server is set)",
        },
    ),
    Metric("alo_mail_conversations", "gauge", "Conversations with the mail server that are under way.", WORKER),
    Metric("alo_mails_waiting", "gauge", "Mails that wait for a conversation.", WORKER),
)
