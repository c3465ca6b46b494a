"""Where tests lie: beside the modules that they test, or under a subject that is listed here."""

from __future__ import annotations

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
PACKAGES: Final = ("bench", "client", "embedded", "jobs", "ops", "protocol", "runtime", "server", "store")

SUBJECTS: Final[dict[str, dict[str, str]]] = {
    "bench": {"figures": "what the programs compute", "programs": "what the programs print"},
    "jobs/engine": {
        "boundary": "what the engine knows of the rest",
        "bounds": "how much of the queue lies in Redis",
        "killed": "workers that are killed at any moment",
        "leases": "which worker has a job, and when another may take it",
        "outages": "Postgres or Redis away",
        "shared_enqueues": "calls that enqueue at the same time",
        "soak": "many jobs under faults",
        "survival": "notices under faults of workers and services",
        "twice": "jobs that run twice",
        "wrong_clock": "workers with wrong clocks",
    },
    "jobs/tasks": {
        "notice_pauses": "the pauses between notices, and their withdrawal",
        "notice_tasks": "the tasks of notices, job by job",
    },
    "ops": {
        "incidents": "alerts and the runbook, in incidents",
        "pgbackrest": "back-ups and restores by that tool",
    },
    "protocol": {
        "cddl": "the grammar, protocol/alo.cddl",
        "js": "the tables of the JavaScript client",
        "reasons": "the sentences of errors",
        "spec": "the specification, protocol/SPEC.md",
        "tables": "the tables of frames and keys, and the unions of frames",
    },
    "protocol/conformance": {
        "command": "the command, as an author of a client types it",
        "rules": "the rules that hold in every scenario",
        "wrong_clients": "a wrong client for each scenario",
    },
    "server": {
        "access": "every route and frame, by every kind of caller",
        "account_deletion": "an account that is deleted",
        "account_export": "a file with all data of an account",
        "avatars": "pictures of users and groups, from upload to download",
        "blocking": "a blocked user and the blocker, way by way",
        "changes": "each change, live and as a fresh fetch",
        "consent": "requests of strangers",
        "device_sets": "changed device sets, live and as the refusal of a send",
        "control_chain": "the chain of control messages, over several nodes and cut connections",
        "undecryptable": "messages that a device cannot decrypt, and how they heal",
        "envelopes": "bytes of messages for single devices, by every way in which a device meets a message",
        "full_redis": "Redis without memory",
        "key_fail_over": "keys while Postgres fails over",
        "outages": "Postgres or Redis away",
        "own_devices": "which of a user's devices wrote or read",
        "own_settings": "a user's settings on several devices",
        "participants": "participants who come, go and change",
        "postgres_faults": "connections to Postgres that break",
        "quiet_messages": "messages that count neither as unread nor for notices",
        "retention": "messages that disappear",
        "self_conversation": "the conversation of a user's own devices",
        "shared_login": "programs that share one stored login",
        "tokens": "tokens that end, or are renewed or revoked",
    },
    "server/cluster": {
        "node_faults": "nodes that pause or die",
        "presence_outage": "presence while Redis is away",
    },
    "server/gateway": {
        "activity": "which users were active on a day",
        "bad_handshake": "clients that do harm before the handshake",
        "bad_input": "clients that do harm after it",
        "collector": "connections and the garbage collector",
        "drain": "a node that stops",
        "hello": "the first request",
        "lag": "a device that reads too slowly",
        "limits": "limits of requests",
        "pages_ahead": "several pages for one request",
        "receipts": "marks, and the users who are told of them",
        "room": "a node that is full of connections",
        "told_to_stop": "a process that is told to stop while something hangs",
    },
    "server/http": {
        "any_requests": "any requests in any order, beside a model",
        "bounds": "bounds of answers",
        "client_addresses": "whose a request is, behind proxies too",
        "confirmations": "what needs the password again",
        "email": "addresses, and the pages that mails lead to",
        "history": "pages of messages",
        "methods": "HEAD, OPTIONS and other methods",
        "not_modified": "conditional requests",
        "replicas": "pages that hot standbys read",
        "password_changes": "changing the password, and logging out",
        "slow_clients": "clients that hold connections without requests",
        "writes": "each write, and its announcements",
        "wrong_bodies": "bodies that are refused",
    },
    "store": {
        "attachment_life": "attachments and what happens to them, beside a model",
        "binding": "the files that a message takes",
        "binding_changes": "the files that edits and deletions keep, take and lose",
        "binding_races": "files that several transactions want",
        "binding_reads": "the files of messages, in every read",
        "constraints": "impossible states",
        "control_chain": "the chain of control messages",
        "device_sets": "versions of device sets, and sends for earlier ones",
        "history": "the history of Postgres that cursors belong to",
        "interleavings": "transactions at the same time",
        "key_history": "keys after a restore or a fail-over",
        "key_model": "keys against a plain model",
        "key_pools": "uploads and claims of one-time keys",
        "key_races": "claims at the same time",
        "million": "plans in a large database",
        "plans": "plans and counts of queries",
        "readable": "which messages a user may read",
        "token_schedules": "any schedule of an owner and a thief of a token",
        "reading": "pages, lists and unread counts beside a plain model",
        "recipients": "which users a change is told to",
        "schema": "store/schema.sql",
        "unread": "unread counts",
    },
    "store/imports": {
        "command": "the command, as an operator types it",
        "conversations": "conversations, participants, contacts and attachments",
        "messages": "messages, marks and unread counts",
        "runs": "runs that are repeated, interrupted or refused",
        "served": "what the server shows of it",
        "users": "users, names and passwords",
    },
    "store/objects": {
        "bad_requests": "requests that no honest client sends",
        "stores": "what each object store has to do",
        "transfers": "what clients do with it themselves",
    },
    "store/postgres": {"statements": "which statements write"},
    "store/redis": {"topologies": "the keys of nodes on several servers, and on a cluster"},
}
"""Folder -> the subjects of its test files that are not named after a module, and the meaning of each."""


def test_the_folders_of_tests_mirror_those_of_the_code() -> None:
    for folder in {file.parent.relative_to(ROOT / "tests") for file in files_of_tests()}:
        assert (ROOT / folder).is_dir(), f"tests/{folder} mirrors no folder"


def test_a_test_file_is_called_after_a_module_beside_it_or_after_a_subject_listed_here() -> None:
    subjects: dict[str, set[str]] = {}
    for file in files_of_tests():
        folder, subject = file.parent.relative_to(ROOT / "tests"), file.stem.removeprefix("test_")
        if subject not in modules(ROOT / folder):
            subjects.setdefault(str(folder), set()).add(subject)
    assert subjects == {folder: set(named) for folder, named in SUBJECTS.items()}


def files_of_tests() -> list[Path]:
    return [file for package in PACKAGES for file in (ROOT / "tests" / package).rglob("test_*.py")]


def modules(folder: Path) -> set[str]:
    """The modules and folders of a folder, and its own name. Routes count as modules of `server/http`."""
    files = [*folder.glob("*.py"), *folder.glob("routes/*.py")]
    return {folder.name, *(file.stem for file in files), *(each.name for each in folder.iterdir() if each.is_dir())}
