"""One-time keys in the store alone: the cost of an upload and of a claim in Postgres.

    python -m bench.keys --rounds 5

Each user of 64 pairs has two devices. In a round each device uploads 100 keys of a kind; then each user claims keys of
both devices of the other user of the pair, as often as the rate allows; then the devices of all users are listed as
often. Uploads, claims and lists are measured apart, with `--in-flight` of them at any moment, and claims once more
with one. The CPU of Postgres includes that of its background processes.
"""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from uuid import UUID

import trio

from bench.cpu import CpuMeter, used
from bench.ours import Ours
from bench.program import FOLDER, report, run_alone, say, shared_services
from bench.summary import spread
from protocol.limits import CLAIMS_PER_HOUR
from store import devices, keys
from store.key_claims import KeyClaims
from store.postgres.pool import Pool

KEYS: Final = 100
"""Of an upload."""

KEY_BYTES: Final = 32
KIND: Final = "otk"
WHAT: Final = ("upload", "claim", "claim_alone", "list")
"""`claim_alone`: one claim at any moment, so none shares its transaction."""

METRICS: Final = ("postgres_us", "store_us", "per_s")

CLAIM_BAR_US: Final = 60.0
"""Of Postgres, for a claim of two devices, among others."""

CONNECTIONS: Final = 8
"""Of the pool, as a gateway has them."""


@dataclass(frozen=True)
class KeysSettings:
    """The settings.

    :ivar pairs: of users.
    :ivar in_flight: operations at any moment.
    """

    pairs: int
    in_flight: int
    rounds: int


class KeyedPairs:
    """Pairs of users with two devices each.

    :param users: (user, devices) of each; those of a pair follow each other.
    """

    def __init__(self, pool: Pool, users: Sequence[tuple[bytes, Sequence[bytes]]]) -> None:
        self._pool = pool
        self._claims = KeyClaims(pool)
        self._users = users

    async def publish(self) -> None:
        """Each device gets an identity."""
        for _, its_devices in self._users:
            for device in its_devices:
                await keys.put(self._pool, device, bytes(64))

    async def work(self, what: str, first: int) -> list[Callable[[], Awaitable[Any]]]:
        """The operations of one kind of a round.

        :param first: number of a key; greater than all before.
        """
        pool, users = self._pool, self._users
        if what == "upload":
            history = (await keys.status(pool, users[0][1][0])).history
            new = [(KIND, first + number, number.to_bytes(KEY_BYTES, "big")) for number in range(KEYS)]
            every = [device for _, its_devices in users for device in its_devices]
            return [partial(keys.put, pool, device, None, new, is_anew=True, history=history) for device in every]
        pairs = [(user, users[number ^ 1][0]) for number, (user, _) in enumerate(users)] * CLAIMS_PER_HOUR
        if what == "list":
            return [partial(keys.devices_of, pool, user, [other]) for user, other in pairs]
        await pool.fetch("delete from key_claims")
        return [partial(self._claims.claim, user, [other], [KIND]) for user, other in pairs]


async def _all_of(work: Sequence[Callable[[], Awaitable[Any]]], in_flight: int) -> None:
    waiting = iter(work)

    async def some() -> None:
        for operation in waiting:
            await operation()

    async with trio.open_nursery() as nursery:
        for _ in range(in_flight):
            nursery.start_soon(some)


async def _rounds(server: Ours, settings: KeysSettings, users: Sequence[bytes]) -> list[dict[str, Any]]:
    meter = CpuMeter({"postgres": [server.shared.postgres_pid]})
    lines = []
    with closing(Pool(server.database_url, CONNECTIONS)) as pool:
        owners = []
        for user in users:
            made = [(await devices.add_device(pool, user, "bench", lifetime_s=86_400.0))[0] for _ in range(2)]
            # The device that the other programs use has no identity, so it is not listed.
            owners.append((user, made))
        pairs = KeyedPairs(pool, owners)
        await pairs.publish()
        for round_ in range(1, settings.rounds + 1):
            say(f"round {round_} of {settings.rounds}")
            for what in WHAT:
                work = await pairs.work(what, 1 + KEYS * round_)
                before, began = meter.read(), trio.current_time()
                await _all_of(work, 1 if what == "claim_alone" else settings.in_flight)
                seconds, cpu_s = trio.current_time() - began, used(before, meter.read())
                lines.append(
                    {
                        "kind": "run",
                        "round": round_,
                        "what": what,
                        "operations": len(work),
                        "valid": True,
                        "postgres_us": round(cpu_s["postgres"] / len(work) * 1e6, 1),
                        "store_us": round(cpu_s["generator"] / len(work) * 1e6, 1),
                        "per_s": round(len(work) / seconds, 1),
                        "others_cores": round(cpu_s["others"] / seconds, 3),
                    }
                )
    return lines


def measure_keys(server: Ours, settings: KeysSettings) -> Iterator[dict[str, Any]]:
    """A line for each kind of operation in each round. The first round warms up, and is left out."""
    chats = server.prepare([2] * settings.pairs)
    users = [UUID(each.user).bytes for chat in chats for each in chat.participants]
    durability = server.shared.even_out(server.database_url)
    for line in trio.run(_rounds, server, settings, users):
        if line["round"] > 1:
            yield {**line, **durability}


def summarize_keys(runs: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A line for each kind of operation, with the spread of each metric; and whether claims are within the bar."""
    runs = list(runs)
    lines: list[dict[str, Any]] = []
    for what in WHAT:
        its_runs = [run for run in runs if run["what"] == what]
        line: dict[str, Any] = {"kind": "summary", "what": what, "rounds": len(its_runs)}
        lines.append(line | {metric: spread((run[metric] for run in its_runs), 1) for metric in METRICS})
    [claim] = [line for line in lines if line["what"] == "claim"]
    is_within = claim["postgres_us"] is not None and claim["postgres_us"]["median"] <= CLAIM_BAR_US
    return [*lines, {"kind": "requirement", "claim_postgres_us_at_most": CLAIM_BAR_US, "is_within": is_within}]


def keys_of_store(settings: KeysSettings) -> bool:
    """Print a line for each run, then the summary; returns whether every run was valid."""
    with shared_services() as shared:
        return report(measure_keys(Ours(shared, FOLDER), settings), summarize_keys)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.keys", description=__doc__.partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=64)
    parser.add_argument("--in-flight", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5, help="one more than are counted")
    options = parser.parse_args()
    run_alone(lambda: keys_of_store(KeysSettings(options.pairs, options.in_flight, options.rounds)))


if __name__ == "__main__":
    main()
