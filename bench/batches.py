"""What a send costs Postgres more that has envelopes, or is of another kind of `bench.envelopes`: one session alone.

    python -m bench.batches --rounds 500

One session commits batches of sends, of each kind in turn, and the processor time of this session counts. The sends of
a batch go to different direct chats. A round takes some milliseconds, so other work on the machine weighs on all of its
kinds alike: differences of 1 us can be told, which are lost in the noise of whole programs. Commits do not wait for the
disk, and their cost does not count.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from statistics import median
from typing import Any, Final
from uuid import UUID, uuid4

import trio

from bench.contest import rotated
from bench.cpu import clock_of
from bench.envelopes import BARS, CONTENT, KINDS, LIFETIME_S, OF_OTHER, PLAIN
from bench.ours import NO_WAIT, Ours
from bench.program import FOLDER, report, run_alone, shared_services
from bench.summary import spread, unsure
from store import conversations, devices, keys
from store.envelopes import PackedEnvelopes, pack
from store.messages import Committed, NewMessage, send
from store.participant_lists import ParticipantsCache
from store.postgres.pool import Pool

WARM: Final = 20
"""Rounds before those that count: plans are made and caches filled."""


@dataclass(frozen=True)
class BatchSettings:
    """The settings.

    :ivar size: sends of a batch.
    """

    size: int
    rounds: int


@dataclass
class _Chat:
    """
    :ivar control_seq: the last control message.
    """

    conversation: bytes
    sender: bytes
    device: bytes
    version: int
    envelopes: PackedEnvelopes | None
    control_seq: int = 0

    def message(self, kind: str) -> NewMessage:
        return NewMessage(
            self.conversation,
            self.sender,
            uuid4().bytes,
            "text",
            CONTENT,
            None,
            None,
            device=self.device,
            devices_version=self.version if kind in ("versioned", "envelopes") else None,
            envelopes=self.envelopes if kind == "envelopes" else None,
            follows=self.control_seq if kind == "control" else None,
        )


async def _chat(pool: Pool, conversation: bytes, sender: bytes, other: bytes) -> _Chat:
    of = [sender, sender, *[other] * OF_OTHER]
    made = [(await devices.add_device(pool, user, "bench", lifetime_s=LIFETIME_S))[0] for user in of]
    for device in made:
        await keys.put(pool, device, bytes(64))
    version = (await conversations.one(pool, sender, conversation)).devices_version or 0
    return _Chat(conversation, sender, made[0], version, pack([(device, bytes(200)) for device in made[1:]]))


async def _rounds(server: Ours, settings: BatchSettings, users: Sequence[tuple[bytes, ...]]) -> list[dict[str, Any]]:
    lines, cache = [], ParticipantsCache()
    with closing(Pool(server.database_url + NO_WAIT, 1)) as pool:
        chats = [await _chat(pool, *each) for each in users]
        server.shared.even_out(server.database_url)
        [(backend,)] = await pool.fetch("select pg_backend_pid()")
        for round_ in range(-WARM, settings.rounds):
            line: dict[str, Any] = {"kind": "run", "round": round_, "valid": True}
            for kind in rotated(KINDS, round_):
                batch = [chat.message(kind) for chat in chats]
                before = clock_of(backend)
                outcomes = await send(pool, cache, batch)
                line[kind] = round((clock_of(backend) - before) / len(batch) * 1e6, 2)
                for chat, outcome in zip(chats, outcomes, strict=True):
                    assert isinstance(outcome, Committed), outcome
                    if kind == "control":
                        chat.control_seq = outcome.seq
            if round_ >= 0:
                lines.append(line)
    return lines


def measure_batches(server: Ours, settings: BatchSettings) -> Iterator[dict[str, Any]]:
    """A line for each round, with the microseconds of Postgres for a send of each kind."""
    made = server.prepare([2] * settings.size)
    users = [(UUID(chat.conversation).bytes, *(UUID(each.user).bytes for each in chat.participants)) for chat in made]
    yield from trio.run(_rounds, server, settings, users)


def summarize_batches(runs: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A line for each kind of send, with its cost above a plain one of the same round; and whether it is within the
    bar."""
    rounds = list(runs)
    lines: list[dict[str, Any]] = []
    for kind in KINDS:
        more = [each[kind] - each[PLAIN] for each in rounds]
        line: dict[str, Any] = {"kind": "summary", "what": kind, "rounds": len(rounds)}
        line["postgres_us"] = spread((each[kind] for each in rounds), 2)
        if kind != PLAIN and rounds:
            line |= {"more_postgres_us": round(median(more), 2), "unsure_postgres_us": unsure(more, 2)}
        lines.append(line)
    for (kind, metric), most in BARS.items():
        if metric == "postgres_us" and rounds:
            line = {"kind": "requirement", "what": kind, "more_postgres_us_at_most": most}
            lines.append(line | {"is_within": lines[KINDS.index(kind)]["more_postgres_us"] <= most})
    return lines


def batches_of_sends(settings: BatchSettings) -> bool:
    """Print a line for each round, then the summary; returns whether every round was valid."""
    with shared_services() as shared:
        return report(measure_batches(Ours(shared, FOLDER), settings), summarize_batches)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.batches", description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=int, default=32, help="sends of a batch")
    parser.add_argument("--rounds", type=int, default=500)
    options = parser.parse_args()
    run_alone(lambda: batches_of_sends(BatchSettings(options.size, options.rounds)))


if __name__ == "__main__":
    main()
