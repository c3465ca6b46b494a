"""The cost of a conversation that another transaction has locked, for all other conversations.

    python -m bench.locked --rounds 3 --seconds 10 --chats 64

Each round restarts our gateway, and all chats but the last write, in a closed loop or at a steady rate. They write for
some seconds to warm up, for the same time while nothing is locked, and for the same time while a transaction outside
our server holds the row of the last chat's conversation (`select ... for update`). The benchmark compares the acks of
the other chats in the last two stretches. The lock comes within milliseconds of the beginning of its stretch, so the
stretch includes any stall at its arrival.

The locked chat's own participant writes all the time and follows the server's errors: it sends each refused send again,
with the same temp_id. In the end each of its sends must have one ack and one row in Postgres.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

import psycopg

from bench.contest import Traffic, generate
from bench.ours import Ours
from bench.program import FOLDER, report, run_alone, say, shared_services
from bench.retrier import Retrier
from bench.summary import ratios, spread
from bench.workload import Chat

P99: Final = "ack_p99_ms"
METRICS: Final = ("ack_p50_ms", P99, "acked_per_s", "server_us_per_send", "postgres_us_per_send", "others_cores")

MOST_P99: Final = 2.0
"""The most p99 of the other chats while the row is locked, as a multiple of their p99 while nothing is locked."""

WARM, FREE, LOCKED = "warm", "free", "locked"


@dataclass(frozen=True)
class LockedSettings:
    """The settings.

    :ivar chats: number of chats, the locked one included.
    :ivar window: sends in flight in the locked chat; each other chat has one.
    :ivar seconds: length of each stretch, and of the lock.
    :ivar rate: sends a second of the other chats, evenly spaced; 0 for a closed loop, which fills the machine.
    """

    chats: int
    window: int
    rounds: int
    seconds: float
    rate: float = 0.0


def locked(settings: LockedSettings) -> bool:
    """Print the lines of each round, then the summary; returns whether every run was valid."""
    with shared_services() as shared:
        return report(_rounds(Ours(shared, FOLDER), settings), summarize_locked)


def _rounds(server: Ours, settings: LockedSettings) -> Iterator[dict[str, Any]]:
    say(f"making {settings.chats} chats")
    chats = server.prepare([2] * settings.chats)
    for round_ in range(1, settings.rounds + 1):
        say(f"round {round_} of {settings.rounds}")
        for line in measure_locked(server, chats, settings):
            yield {**line, "round": round_}


def measure_locked(server: Ours, chats: Sequence[Chat], settings: LockedSettings) -> Iterator[dict[str, Any]]:
    """One round: a line for each of the other chats' two stretches, and one for the locked chat."""
    *others, chat = chats
    durability = server.shared.even_out(server.database_url)
    before = _seqs(server.database_url, chat)
    stretches = (WARM, FREE, LOCKED)
    # Each load begins where the one before it ends, so the locked stretch has no warm-up.
    load = f"{settings.rate:g}" if settings.rate else "closed"
    traffic = Traffic(",".join([load] * len(stretches)), warm_s=0.0, seconds=settings.seconds)
    with server.started() as endpoint, foreign_lock(server.database_url, chat) as lock:
        retrier = Retrier(endpoint.url, chat, settings.window)
        with retrier.present():
            for stretch, line in zip(stretches, generate(server, endpoint, others, traffic), strict=True):
                if stretch == FREE:
                    lock.hold(settings.seconds)
                if stretch != WARM:
                    held_s = lock.wait_released() if stretch == LOCKED else 0.0
                    yield {"kind": "run", "stretch": stretch, "locked_s": round(held_s, 3), **line, **durability}
    yield {"kind": "locked_chat", **account(retrier, _seqs(server.database_url, chat) - before)}


class ForeignLock:
    """A transaction that can hold a conversation's row."""

    def __init__(self, connection: psycopg.Connection, chat: Chat) -> None:
        self._connection = connection
        self._chat = chat
        self._timer: threading.Timer | None = None
        self._since = self._held_s = 0.0

    def hold(self, seconds: float) -> None:
        """Lock the row, after any other transaction that holds it, and release it after this number of seconds."""
        self._connection.execute("select from conversations where id = %s for update", [self._chat.conversation])
        self._since = time.monotonic()
        self._timer = threading.Timer(seconds, self._release)
        self._timer.start()

    def wait_released(self) -> float:
        """Wait until the row is released; returns how many seconds the lock was held."""
        if self._timer is not None:
            self._timer.join()
        return self._held_s

    def _release(self) -> None:
        self._connection.rollback()
        self._held_s = time.monotonic() - self._since


@contextmanager
def foreign_lock(database_url: str, chat: Chat) -> Iterator[ForeignLock]:
    """A lock for the chat, on a connection that is open while the block runs."""
    with psycopg.connect(database_url) as connection:
        lock = ForeignLock(connection, chat)
        try:
            yield lock
        finally:
            lock.wait_released()


def _seqs(database_url: str, chat: Chat) -> set[int]:
    with psycopg.connect(database_url) as connection:
        rows = connection.execute("select seq from messages where conversation_id = %s", [chat.conversation])
        return {seq for (seq,) in rows}


def account(retrier: Retrier, stored: set[int]) -> dict[str, Any]:
    """The outcomes of the locked chat's sends."""
    seqs = [seq for seqs in retrier.acks.values() for seq in seqs]
    unacked = sum(not seqs for seqs in retrier.acks.values())
    is_exact = not unacked and len(seqs) == len(retrier.acks) == len(stored) and set(seqs) == stored
    return {
        "valid": retrier.error is None,
        "first_error": retrier.error,
        "sends": len(retrier.acks),
        "unacked": unacked,
        "stored": len(stored),
        "acked_exactly_once": is_exact,
        "errors": dict(sorted(retrier.errors.items())),
        "longest_s": round(retrier.longest_s, 3),
    }


def summarize_locked(lines: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A line for each metric, one for the locked chat, and one with the requirement (None: unknown)."""
    runs, chats = ([line for line in lines if line["kind"] == kind] for kind in ("run", "locked_chat"))
    tables = {
        stretch: [run for run in runs if run["stretch"] == stretch and run["valid"]] for stretch in (FREE, LOCKED)
    }
    summary: list[dict[str, Any]] = []
    for metric in METRICS:
        free, held = (_by_round(tables[stretch], metric) for stretch in (FREE, LOCKED))
        line: dict[str, Any] = {FREE: spread(free.values(), 3), LOCKED: spread(held.values(), 3)}
        summary.append({"kind": "summary", "metric": metric, **line, "locked_to_free": spread(ratios(held, free), 3)})
    errors: dict[str, int] = {}
    for chat in chats:
        for code, count in chat["errors"].items():
            errors[code] = errors.get(code, 0) + count
    summary.append({"kind": "summary", "metric": "locked_chat_errors", "errors": errors})
    of_rounds = ratios(_by_round(tables[LOCKED], P99), _by_round(tables[FREE], P99))
    # An error of another chat is worse than a wait, so a stretch with errors fails the requirement.
    harmed = [run for run in runs if run["stretch"] == LOCKED and not run["valid"]]
    summary.append(
        {
            "kind": "requirement",
            "invalid_runs": sum(not line["valid"] for line in [*runs, *chats]),
            "p99_at_most_double": not harmed and median(of_rounds) <= MOST_P99 if of_rounds or harmed else None,
            "locked_chat_acked_exactly_once": all(chat["acked_exactly_once"] for chat in chats) if chats else None,
        }
    )
    return summary


def _by_round(runs: Iterable[Mapping[str, Any]], metric: str) -> dict[int, float]:
    return {run["round"]: run[metric] for run in runs if run.get(metric) is not None}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.locked", description=__doc__.partition("\n")[0])
    parser.add_argument("--chats", type=int, default=64, help="direct chats; the last of them is locked")
    parser.add_argument("--window", type=int, default=4, help="sends in flight in the locked chat")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each stretch, and of the lock")
    parser.add_argument("--rate", type=float, default=0.0, help="sends a second of the other chats; 0: closed loop")
    options = parser.parse_args()
    settings = LockedSettings(options.chats, options.window, options.rounds, options.seconds, options.rate)
    run_alone(lambda: locked(settings))


if __name__ == "__main__":
    main()
