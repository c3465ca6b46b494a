"""What a send costs more that has envelopes, that names a version of the device set, or that is a control message.

    python -m bench.envelopes --rounds 60

64 users write to another user each, who has four devices, over one gateway; each has one send in flight. All of these
devices have an identity; two of the other user's are connected. In a round the sends are in turn of these kinds:

| kind | sends |
|---|---|
| `plain` | a content of 200 bytes |
| `versioned` | the same, with the `devices_version` |
| `control` | the same as `plain`, as a control message that follows the one before |
| `envelopes` | the same, with an envelope of 200 bytes for each of five devices, one of them the sender's second one |

The difference to `plain` of the same round counts, and rounds are short: a machine is not as fast in each second. The
median of the differences is sure to `unsure_us` (95%).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID, uuid4

import trio

from bench.cpu import CpuMeter, used
from bench.ours import Ours
from bench.program import FOLDER, report, run_alone, say, shared_services
from bench.summary import spread, unsure
from client.connection import ClientConnection, connect
from protocol.frames import Envelope
from store import conversations, devices, keys
from store.postgres.pool import Pool

PLAIN: Final = "plain"
KINDS: Final = (PLAIN, "versioned", "control", "envelopes")
OF_OTHER: Final = 4
"""Devices of the user who receives; the fifth envelope is for the sender's second device."""

CONNECTED: Final = 2
CONTENT: Final = bytes(200)
LIFETIME_S: Final = 86_400.0

BARS: Final = {
    ("envelopes", "postgres_us"): 20.0,
    ("envelopes", "server_us"): 15.0,
    ("control", "postgres_us"): 2.0,
    ("control", "server_us"): 2.0,
    ("versioned", "postgres_us"): 1.0,
    ("versioned", "server_us"): 1.0,
}
"""The most that a kind may cost above a plain send, in microseconds."""


@dataclass(frozen=True)
class EnvelopeSettings:
    """The settings.

    :ivar pairs: of users.
    :ivar sends: of each pair, of each kind in a round.
    """

    pairs: int
    sends: int
    rounds: int


@dataclass
class _Pair:
    """
    :ivar control_seq: the last control message.
    """

    conversation: bytes
    sender: ClientConnection
    version: int
    envelopes: list[Envelope]
    control_seq: int = 0


async def _send_all(pairs: Sequence[_Pair], kind: str, count: int) -> None:
    async def send(pair: _Pair) -> None:
        for _ in range(count):
            sent = await pair.sender.send(
                pair.conversation,
                CONTENT,
                temp_id=uuid4().bytes,
                devices_version=pair.version if kind in ("versioned", "envelopes") else None,
                envelopes=pair.envelopes if kind == "envelopes" else None,
                follows=pair.control_seq if kind == "control" else None,
            )
            if kind == "control":
                pair.control_seq = sent.seq

    async with trio.open_nursery() as nursery:
        for pair in pairs:
            nursery.start_soon(send, pair)


async def _pairs(stack: AsyncExitStack, server: Ours, url: str, users: Sequence[tuple[bytes, ...]]) -> list[_Pair]:
    """Connect the devices of each conversation (its id, the sender, the other user)."""
    found = []
    with closing(Pool(server.database_url, 4)) as pool:
        for conversation, sender, other in users:
            phone, token, _ = await devices.add_device(pool, sender, "bench", lifetime_s=LIFETIME_S)
            second, _, _ = await devices.add_device(pool, sender, "bench", lifetime_s=LIFETIME_S)
            others = [await devices.add_device(pool, other, "bench", lifetime_s=LIFETIME_S) for _ in range(OF_OTHER)]
            named = [second, *(device for device, *_ in others)]
            for device in (phone, *named):
                await keys.put(pool, device, bytes(64))
            for _, its_token, _ in others[:CONNECTED]:
                await stack.enter_async_context(connect(url, its_token))
            connection = await stack.enter_async_context(connect(url, token))
            version = (await conversations.one(pool, sender, conversation)).devices_version or 0
            found.append(_Pair(conversation, connection, version, [(device, bytes(200)) for device in named]))
    return found


async def _rounds(
    server: Ours, settings: EnvelopeSettings, url: str, gateway: int, users: Sequence[tuple[bytes, ...]]
) -> list[dict[str, Any]]:
    meter = CpuMeter({"server": [gateway], "postgres": [server.shared.postgres_pid]})
    count = settings.pairs * settings.sends
    lines = []
    async with AsyncExitStack() as stack:
        pairs = await _pairs(stack, server, url, users)
        for round_ in range(1, settings.rounds + 1):
            if round_ % 10 == 1:
                say(f"round {round_} of {settings.rounds}")
            turn = round_ % len(KINDS)
            for kind in (*KINDS[turn:], *KINDS[:turn]):
                before, began = meter.read(), trio.current_time()
                await _send_all(pairs, kind, settings.sends)
                seconds, cpu_s = trio.current_time() - began, used(before, meter.read())
                lines.append(
                    {
                        "kind": "run",
                        "round": round_,
                        "what": kind,
                        "sends": count,
                        "valid": True,
                        "postgres_us": round(cpu_s["postgres"] / count * 1e6, 1),
                        "server_us": round(cpu_s["server"] / count * 1e6, 1),
                        "per_s": round(count / seconds, 1),
                        "others_cores": round(cpu_s["others"] / seconds, 3),
                    }
                )
    return lines


def measure_envelopes(server: Ours, settings: EnvelopeSettings) -> Iterator[dict[str, Any]]:
    """A line for each kind of send in each round. The first round warms up, and is left out."""
    chats = server.prepare([2] * settings.pairs)
    users = [(UUID(chat.conversation).bytes, *(UUID(each.user).bytes for each in chat.participants)) for chat in chats]
    durability = server.shared.even_out(server.database_url)
    with server.gateways(1) as gateways:
        [(port, pid)] = gateways.items()
        for line in trio.run(_rounds, server, settings, f"ws://127.0.0.1:{port}", pid, users):
            if line["round"] > 1:
                yield {**line, **durability}


def summarize_envelopes(runs: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A line for each kind of send, with its cost above a plain one of the same round; and whether it is within the
    bar."""
    by_round: dict[int, dict[str, Mapping[str, Any]]] = {}
    for run in runs:
        by_round.setdefault(run["round"], {})[run["what"]] = run
    rounds = [each for each in by_round.values() if len(each) == len(KINDS)]
    lines: list[dict[str, Any]] = []
    for kind in KINDS:
        line: dict[str, Any] = {"kind": "summary", "what": kind, "rounds": len(rounds)}
        for metric in ("postgres_us", "server_us"):
            line[metric] = spread((each[kind][metric] for each in rounds), 1)
            if kind != PLAIN:
                more = [each[kind][metric] - each[PLAIN][metric] for each in rounds]
                line[f"more_{metric}"] = spread(more, 1)
                line[f"unsure_{metric}"] = unsure(more, 1)
        lines.append(line)
    for (kind, metric), most in BARS.items():
        more = lines[KINDS.index(kind)][f"more_{metric}"]
        is_within = more is not None and more["median"] <= most
        lines.append({"kind": "requirement", "what": kind, f"more_{metric}_at_most": most, "is_within": is_within})
    return lines


def envelopes_of_sends(settings: EnvelopeSettings) -> bool:
    """Print a line for each run, then the summary; returns whether every run was valid."""
    with shared_services() as shared:
        return report(measure_envelopes(Ours(shared, FOLDER), settings), summarize_envelopes)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.envelopes", description=__doc__.partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=64)
    parser.add_argument("--sends", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=60, help="one more than are counted")
    options = parser.parse_args()
    run_alone(lambda: envelopes_of_sends(EnvelopeSettings(options.pairs, options.sends, options.rounds)))


if __name__ == "__main__":
    main()
