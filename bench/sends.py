"""Sends in the store alone: group commit and Postgres, without clients, gateway and Redis.

    python -m bench.sends --in-flight 1,16,256,2048 --rounds 5 --seconds 3

One process, as a gateway is one, keeps `--in-flight` sends in flight, spread over direct chats whose participants take
turns: when a send is settled, the next one of its place leaves at once. The CPU of this process includes making the
messages and noting the latencies, which is little.

Each round begins with an empty database, and the levels come in an order that moves on by one from round to round.
Postgres runs with fsync and synchronous_commit on; each line repeats what Postgres reports.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final, NamedTuple
from uuid import UUID, uuid4

import trio

from bench.contest import rotated
from bench.cpu import CpuMeter, used
from bench.ours import Ours
from bench.program import FOLDER, report, run_alone, say, shared_services
from bench.recorder import Recorder, milliseconds
from bench.summary import spread
from bench.workload import Body, Chat, body
from runtime.config import Config
from store.batching.two_lanes import Lanes
from store.errors import Locked
from store.messages import Committed, NewMessage, Outcome, send
from store.participant_lists import ParticipantsCache
from store.postgres.pool import Pool

METRICS: Final = (
    "acked_per_s",
    "ack_p50_ms",
    "ack_p99_ms",
    "store_us_per_send",
    "postgres_us_per_send",
    "sends_per_commit",
    "others_cores",
)

_COUNTER_BYTES: Final = 8

clock = time.perf_counter


@dataclass(frozen=True)
class SendsSettings:
    """The settings.

    :ivar in_flight: the levels: numbers of sends that wait for their outcome at any moment.
    :ivar warm_s: seconds of each run before its measurement.
    """

    in_flight: tuple[int, ...]
    chats: int
    rounds: int
    warm_s: float
    seconds: float
    content_bytes: int = 200


class PlacedSend(NamedTuple):
    """A send, its place among those in flight, and the time when it left."""

    place: int
    stamp: float
    message: NewMessage


def lanes_of(
    pool: Pool, settle: Callable[[list[PlacedSend], list[Outcome | Locked]], None]
) -> Lanes[PlacedSend, Outcome]:
    """The lanes of the store, wired as `server.gateway.sends` wires them. Only this function knows the wiring."""
    lists = ParticipantsCache()

    async def commit(batch: list[PlacedSend], lock_wait_s: float) -> list[Outcome | Locked]:
        return [*await send(pool, lists, [placed.message for placed in batch], lock_wait_s=lock_wait_s)]

    return Lanes(
        "the send queue",
        commit,
        settle,
        lambda placed: len(placed.message.content) + 256,
        source_of=lambda placed: placed.message.sender,
        key_of=lambda placed: placed.message.conversation,
    )


class ClosedLoop:
    """A number of sends in flight, for one run.

    :ivar errors: outcomes other than a new message that is committed.
    """

    def __init__(self, pool: Pool, chats: Sequence[Chat], in_flight: int, content: Body) -> None:
        self._lanes = lanes_of(pool, self._settle)
        self._senders = [
            (UUID(chat.conversation).bytes, UUID(chat.participants[turn].user).bytes)
            for turn in range(2)
            for chat in chats
        ]
        self._in_flight = in_flight
        self._content = content
        self._recorder = Recorder()
        self._is_sending = False
        # To a repeated temp_id the store would answer with the earlier ack, without any work.
        self._temp_id_start = uuid4().bytes[:-_COUNTER_BYTES]
        self._sent = self._acked = self._commits = 0
        self.errors: list[str] = []

    async def run(self, warm_s: float, seconds: float, meter: CpuMeter) -> dict[str, Any]:
        """Warm up, measure, and wait for the sends in flight; returns the figures."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._lanes.run)
            self._is_sending = True
            for place in range(self._in_flight):
                self._send(place)
            await trio.sleep(warm_s)
            before, acked, commits = meter.read(), self._acked, self._commits
            self._recorder.open(clock())
            await trio.sleep(seconds)
            measured_s = self._recorder.close(clock())
            acked, commits = self._acked - acked, self._commits - commits
            cpu_s = used(before, meter.read())
            self._is_sending = False
            await self._lanes.wait_idle()
            nursery.cancel_scope.cancel()
        return self._figures(measured_s, acked, commits, cpu_s)

    def _send(self, place: int) -> None:
        conversation, sender = self._senders[place % len(self._senders)]
        content = self._content
        temp_id = self._temp_id_start + self._sent.to_bytes(_COUNTER_BYTES, "big")
        self._sent += 1
        message = NewMessage(conversation, sender, temp_id, "text", content.content, content.nonce, content.public_key)
        self._lanes.submit_nowait(PlacedSend(place, clock(), message))

    def _settle(self, batch: list[PlacedSend], outcomes: list[Outcome | Locked]) -> None:
        self._commits += 1
        now = clock()
        for placed, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, Committed) and outcome.is_new:
                self._acked += 1
                self._recorder.acked(placed.stamp, now)
            else:
                self.errors.append(repr(outcome))
            if self._is_sending:
                self._send(placed.place)

    def _figures(self, seconds: float, acked: int, commits: int, cpu_s: Mapping[str, float]) -> dict[str, Any]:
        unsettled = self._sent - self._acked - len(self.errors)
        return {
            "seconds": round(seconds, 3),
            "valid": not (self.errors or unsettled) and acked > 0,
            "errors": len(self.errors),
            "unsettled": unsettled,
            "first_error": self.errors[0] if self.errors else None,
            "acked_per_s": round(acked / seconds, 1),
            "ack_p50_ms": milliseconds(self._recorder.acks, 50),
            "ack_p99_ms": milliseconds(self._recorder.acks, 99),
            "store_us_per_send": round(cpu_s["generator"] / acked * 1e6, 1) if acked else None,
            "postgres_us_per_send": round(cpu_s["postgres"] / acked * 1e6, 1) if acked else None,
            "sends_per_commit": round(acked / commits, 1) if commits else None,
            "store_cores": round(cpu_s["generator"] / seconds, 3),
            "postgres_cores": round(cpu_s["postgres"] / seconds, 3),
            "others_cores": round(cpu_s["others"] / seconds, 3),
        }


def measure_sends(server: Ours, settings: SendsSettings) -> Iterator[dict[str, Any]]:
    """A line for each run."""
    for round_ in range(1, settings.rounds + 1):
        say(f"round {round_} of {settings.rounds}")
        chats = server.prepare([2] * settings.chats)
        for in_flight in rotated(settings.in_flight, round_ - 1):
            durability = server.shared.even_out(server.database_url)
            figures = trio.run(_measure_one, server, chats, in_flight, settings)
            yield {
                "kind": "run",
                "round": round_,
                "in_flight": in_flight,
                "chats": settings.chats,
                "content_bytes": settings.content_bytes,
                **figures,
                **durability,
            }


async def _measure_one(server: Ours, chats: Sequence[Chat], in_flight: int, settings: SendsSettings) -> dict[str, Any]:
    meter = CpuMeter({"postgres": [server.shared.postgres_pid]})
    with closing(Pool(server.database_url, Config().database_pool)) as pool:
        loop = ClosedLoop(pool, chats, in_flight, body(settings.content_bytes))
        return await loop.run(settings.warm_s, settings.seconds, meter)


def summarize_sends(runs: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One line for each level, with the spread of each metric over the valid runs."""
    levels: dict[int, list[Mapping[str, Any]]] = {}
    for run in runs:
        levels.setdefault(run["in_flight"], []).append(run)
    lines = []
    for in_flight, its_runs in sorted(levels.items()):
        valid = [run for run in its_runs if run["valid"]]
        line: dict[str, Any] = {
            "kind": "summary",
            "in_flight": in_flight,
            "rounds": len(valid),
            "invalid_runs": len(its_runs) - len(valid),
        }
        line |= {metric: spread((run[metric] for run in valid), 3) for metric in METRICS}
        lines.append(line)
    return lines


def sends(settings: SendsSettings) -> bool:
    """Print a line for each run, then the summary; returns whether every run was valid."""
    with shared_services() as shared:
        return report(measure_sends(Ours(shared, FOLDER), settings), summarize_sends)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.sends", description=__doc__.partition("\n")[0])
    parser.add_argument("--in-flight", default="1,16,256,2048", help="levels: sends in flight at any moment")
    parser.add_argument("--chats", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="measured seconds of each run")
    parser.add_argument("--warm", type=float, default=1.0, help="seconds of each run before its measurement")
    parser.add_argument("--content-bytes", type=int, default=200)
    options = parser.parse_args()
    levels = tuple(map(int, options.in_flight.split(",")))
    settings = SendsSettings(
        levels, options.chats, options.rounds, options.warm, options.seconds, options.content_bytes
    )
    run_alone(lambda: sends(settings))


if __name__ == "__main__":
    main()
