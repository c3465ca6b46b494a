"""The cost of catching up for a device that was away for 1, 100 or 10,000 messages.

    python -m bench.catchup --repeats 20

For each case a user's device has an old cursor, and has missed the case's number of messages in the case's number of
direct chats since. The device comes back with that cursor again and again (a cursor stays valid, so each return is the
same): it connects, says hello, and sends `sync` up to the last page. No other client is connected. The benchmark checks
each return: exactly the missed messages came, each once, in order of `seq` within its conversation.

The benchmark counts queries on a second gateway, whose sessions Postgres logs (`log_statement`), so that the timed
returns pay nothing for the log.
"""

from __future__ import annotations

import argparse
import time
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final, TypeAlias
from uuid import UUID, uuid4

import trio

from bench.cpu import CpuMeter, used
from bench.device import Frame, ReturningDevice
from bench.ours import AT_ONCE, NO_WAIT, Ours, add_chat, add_participant, map_some
from bench.processes import free_port
from bench.program import FOLDER, report, run_alone, say, shared_services
from bench.recorder import milliseconds
from bench.workload import Chat, body
from protocol.frames import Key, Type
from store.messages import Committed, NewMessage, send
from store.participant_lists import ParticipantsCache
from store.postgres.pool import Pool
from store.sync import sync

CASES: Final = ((0, 1), (1, 1), (100, 100), (100, 1), (10_000, 1), (10_000, 100))
"""Missed messages, and the conversations that they are spread over. With 0 messages a return costs the price of coming
back itself, which the other cases pay, too."""

CHANGED: Final = 100
MOST_ROUND_TRIPS: Final = 2
"""The most sync round trips after the welcome for 100 changed conversations."""

_BATCH: Final = 64
"""Messages of a commit while the database is filled: missed messages are the work of many transactions."""

_WARM: Final = 5
"""Returns before the timed ones: they fill caches and prepare statements."""

_COUNTED: Final = 5
"""Returns whose queries are counted; the least count holds, since the gateway's own queries, a few a second, only add
to it."""

_LOG_ALL: Final = "?options=-clog_statement%3Dall"
_LOGGED: Final = (b"LOG:  execute ", b"LOG:  statement: ")

Missed: TypeAlias = dict[bytes, list[tuple[int, bytes]]]
"""The `seq` and the id of each message, in order, by conversation."""

clock = time.perf_counter


@dataclass(frozen=True)
class CatchupSettings:
    """The settings.

    :ivar cases: messages and conversations of each case.
    :ivar repeats: timed returns of each case.
    """

    cases: tuple[tuple[int, int], ...]
    repeats: int
    content_bytes: int = 200


@dataclass(frozen=True)
class Absentee:
    """A device that was away.

    :ivar cursor: its cursor from before its absence.
    """

    token: str
    cursor: bytes
    missed: Missed


@dataclass(frozen=True)
class Return:
    """The cost of one return, until the device held everything.

    :ivar hello_s: from connecting to the welcome.
    :ivar sync_s: from the welcome to the last `synced`.
    :ivar requests: number of `sync` requests.
    :ivar received: bytes after the welcome.
    :ivar is_right: whether exactly the missed messages came.
    """

    hello_s: float
    sync_s: float
    requests: int
    received: int
    is_right: bool

    @property
    def complete_s(self) -> float:
        """From connecting to the last `synced`."""
        return self.hello_s + self.sync_s


def catchup(settings: CatchupSettings) -> bool:
    """Print a line for each case, then the requirements; returns whether every return was right."""
    with shared_services() as shared:
        return report(measure_catchup(Ours(shared, FOLDER), settings), requirements)


def measure_catchup(server: Ours, settings: CatchupSettings) -> Iterator[dict[str, Any]]:
    """Make the data, start two gateways, and measure; a line for each case."""
    say("storing the messages that the devices will have missed")
    server.prepare([])
    absentees = trio.run(_make_absentees, server.database_url + NO_WAIT, settings)
    durability = server.shared.even_out(server.database_url)
    port, logged_port = free_port(), free_port()
    logged = {"DATABASE_URL": server.database_url + _LOG_ALL}
    with server.gateway(port) as gateway, server.gateway(logged_port, environment=logged):
        meter = CpuMeter({"server": [gateway], "postgres": [server.shared.postgres_pid]})
        for (messages, conversations), absentee in zip(settings.cases, absentees, strict=True):
            say(f"{messages} messages in {conversations} conversations")
            case = {"kind": "run", "messages": messages, "conversations": conversations}
            for _ in range(_WARM):
                come_back(port, absentee)
            before = meter.read()
            returns = [come_back(port, absentee) for _ in range(settings.repeats)]
            cpu = used(before, meter.read())
            queries = _count_queries(logged_port, absentee, server.shared.postgres_log)
            yield {**case, **figures(returns, cpu), "sync_queries": queries, **durability}


def come_back(port: int, absentee: Absentee) -> Return:
    """Catch up once."""
    began = clock()
    with ReturningDevice(port) as device:
        device.hello(absentee.token)
        welcomed, before = clock(), device.received
        synced = device.sync(absentee.cursor)
        now = clock()
    is_right = messages_of(synced.pushes) == absentee.missed
    return Return(welcomed - began, now - welcomed, synced.requests, device.received - before, is_right)


def messages_of(pushes: Iterable[Frame]) -> Missed:
    """The messages among these frames, in their order of arrival."""
    found: Missed = {}
    for frame in pushes:
        if frame[Key.TYPE] == Type.MESSAGE:
            found.setdefault(frame[Key.CONVERSATION], []).append((frame[Key.SEQ], frame[Key.MESSAGE]))
    return found


def figures(returns: Sequence[Return], cpu: Mapping[str, float]) -> dict[str, Any]:
    """The figures of a case's returns; `cpu` has the seconds of all returns together."""
    line: dict[str, Any] = {
        "valid": all(each.is_right for each in returns),
        "returns": len(returns),
        "sync_requests": max(each.requests for each in returns),
        "sync_bytes": round(median(each.received for each in returns)),
    }
    for name in ("complete", "hello", "sync"):
        seconds = array("d", [getattr(each, f"{name}_s") for each in returns])
        line |= {f"{name}_p50_ms": milliseconds(seconds, 50), f"{name}_p99_ms": milliseconds(seconds, 99)}
    for name in ("server", "postgres", "generator"):
        line[f"{name}_ms"] = round(cpu[name] / len(returns) * 1e3, 3)
    return {**line, "others_cores": round(cpu["others"] / sum(each.complete_s for each in returns), 3)}


def requirements(lines: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Whether 100 changed conversations come in at most `MOST_ROUND_TRIPS` round trips."""
    return [
        {
            "kind": "requirement",
            "messages": line["messages"],
            "conversations": line["conversations"],
            "round_trips": line["sync_requests"],
            "round_trips_at_most_2": line["valid"] and line["sync_requests"] <= MOST_ROUND_TRIPS,
        }
        for line in lines
        if line["messages"] == line["conversations"] == CHANGED
    ]


def queries_in(log: bytes) -> int:
    """The number of queries in this part of Postgres' log; the statements themselves go on in further lines."""
    return sum(any(mark in line for mark in _LOGGED) for line in log.splitlines())


def _count_queries(port: int, absentee: Absentee, log: Path) -> int:
    """The fewest queries that this gateway, whose queries are logged, needed for all syncs of a return."""
    counts = []
    for _ in range(_COUNTED):
        with ReturningDevice(port) as device:
            device.hello(absentee.token)
            before = log.stat().st_size
            device.sync(absentee.cursor)
            counts.append(queries_in(log.read_bytes()[before:]))
    return min(counts)


async def _make_absentees(database_url: str, settings: CatchupSettings) -> list[Absentee]:
    with closing(Pool(database_url, AT_ONCE)) as pool:
        made = [
            await _make_absentee(pool, f"case{number}", messages, conversations, settings.content_bytes)
            for number, (messages, conversations) in enumerate(settings.cases)
        ]
        # A gateway that starts pushes recent messages, since it does not know which devices have them. No return gets
        # that.
        await pool.fetch("update messages set created = created - interval '1 hour'")
        return made


async def _make_absentee(pool: Pool, name: str, messages: int, conversations: int, content_bytes: int) -> Absentee:
    """A user with this number of direct chats that hold a message each, and the messages sent there after it has
    left."""
    participant = await add_participant(pool, name)

    async def add(number: int) -> Chat:
        return await add_chat(pool, [await add_participant(pool, f"{name}-{number}"), participant])

    chats = await map_some(add, range(conversations))
    await _write(pool, chats, len(chats), content_bytes)
    user, cursor, more = UUID(participant.user).bytes, None, True
    while more:
        page = await sync(pool, user, cursor)
        cursor, more = page.cursor, page.more
    assert cursor is not None
    return Absentee(participant.token, cursor, await _write(pool, chats, messages, content_bytes))


async def _write(pool: Pool, chats: Sequence[Chat], count: int, content_bytes: int) -> Missed:
    """Let the first participant of each chat write in turn."""
    cache, written = ParticipantsCache(), body(content_bytes)
    stored: Missed = {}
    for first in range(0, count, _BATCH):
        batch = []
        for number in range(first, min(first + _BATCH, count)):
            chat = chats[number % len(chats)]
            conversation, sender = UUID(chat.conversation).bytes, UUID(chat.participants[0].user).bytes
            temp_id = uuid4().bytes
            batch.append(
                NewMessage(conversation, sender, temp_id, "text", written.content, written.nonce, written.public_key)
            )
        for message, outcome in zip(batch, await send(pool, cache, batch), strict=True):
            assert isinstance(outcome, Committed), outcome
            stored.setdefault(message.conversation, []).append((outcome.seq, outcome.message))
    return stored


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.catchup", description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=20, help="timed returns of each case")
    parser.add_argument("--content-bytes", type=int, default=200, help="size of each message")
    options = parser.parse_args()
    run_alone(lambda: catchup(CatchupSettings(CASES, options.repeats, options.content_bytes)))


if __name__ == "__main__":
    main()
