"""300 attackers on one web process, beside users that behave.

    python -m bench.attack --rounds 3 --seconds 10

Users list their conversations, read history, log in (with the token of a device that they have, and without one) and
send on the gateway. Each run starts servers of its own, measures the users alone, and then beside one kind of attackers
(`bench.attackers`). The requirement: their p99 at most doubles.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from statistics import median
from typing import Any, Final

import psycopg
from argon2 import PasswordHasher

from bench.attackers import ATTACKS
from bench.contest import Traffic, generate
from bench.http import request
from bench.ours import Ours
from bench.program import FOLDER, report, run_alone, say, shared_services
from bench.servers import Endpoint
from bench.summary import spread
from bench.well_behaved import Pace, behaving, login
from bench.workload import Chat

PASSWORD: Final = "correct horse battery staple"
CHATS: Final = 40
ATTACKERS_CHATS: Final = 10
"""Chats whose first participants are attackers."""

PER_S: Final = {"list": 10.0, "history": 10.0, "login": 0.5, "new_login": 0.5}
SENDS: Final = "20"
WARM_S: Final = 2.0
"""From the beginning of an attack until the measurement: the attackers use up their bursts meanwhile."""

MOST: Final = 2.0
MEASURED: Final = ("list", "history", "login", "new_login", "ack")


@dataclass(frozen=True)
class AttackSettings:
    attacks: tuple[str, ...]
    rounds: int
    seconds: float
    connections: int


class AttackedServer(Ours):
    """Ours with the limits of a usual deployment; users 0, 1, 2 and so on have a password."""

    def _environment(self) -> dict[str, str]:
        return {**super()._environment(), "RATE_LIMIT_FACTOR": "1"}

    def set_passwords(self) -> None:
        with psycopg.connect(self.database_url) as connection:
            connection.execute("update users set password_hash = %s", (PasswordHasher().hash(PASSWORD),))


def attack(settings: AttackSettings) -> bool:
    """Print a line for each run, then the summary; returns whether every run was valid."""
    with shared_services() as shared:
        server = AttackedServer(shared, FOLDER)
        say(f"making {CHATS} chats")
        chats = server.prepare([2] * CHATS)
        server.set_passwords()
        return report(_rounds(server, chats, settings), summarize_attacks)


def _rounds(server: AttackedServer, chats: Sequence[Chat], settings: AttackSettings) -> Iterator[dict[str, Any]]:
    for round_ in range(1, settings.rounds + 1):
        for name in settings.attacks:
            say(f"round {round_} of {settings.rounds}: {name}")
            durability = server.shared.even_out(server.database_url)
            with server.started() as endpoint:
                alone = _measured(server, endpoint, chats, settings, "127.2.1.1")
                with _attackers(endpoint, chats, name, settings) as answers:
                    time.sleep(WARM_S)
                    attacked = _measured(server, endpoint, chats, settings, "127.2.2.1")
            yield {
                "kind": "run",
                "round": round_,
                "attack": name,
                "alone": alone,
                "attacked": attacked,
                "valid": alone["valid"] and attacked["valid"],
                "attackers": answers,
                **durability,
            }


def _measured(
    server: AttackedServer, endpoint: Endpoint, chats: Sequence[Chat], settings: AttackSettings, address: str
) -> dict[str, Any]:
    mine, sends = chats[ATTACKERS_CHATS], chats[ATTACKERS_CHATS + 1 :]
    token, numbers = mine.participants[0].token, count()
    headers = {"Authorization": f"Bearer {token}"}
    number = 2 * ATTACKERS_CHATS
    history = f"/v1/conversations/{mine.conversation}/messages"
    makers: dict[str, tuple[Callable[[], bytes], int]] = {
        "list": (lambda: request("/v1/conversations", **headers), 200),
        "history": (lambda: request(history, **headers), 200),
        "login": (lambda: login(f"user{number}", PASSWORD, token), 201),
        "new_login": (lambda: login(f"user{number + 2 + next(numbers) % 40}", PASSWORD), 201),
    }
    paces = [Pace(kind, PER_S[kind], make, status, address) for kind, (make, status) in makers.items()]
    with behaving(endpoint.http_port, paces):
        [line] = generate(server, endpoint, sends, Traffic(SENDS, warm_s=1.0, seconds=settings.seconds))
    figures = {key: value for pace in paces for key, value in pace.figures().items()}
    errors = [error for pace in paces for error in pace.errors]
    return {
        "valid": line["valid"],
        "ack_p50_ms": line.get("ack_p50_ms"),
        "ack_p99_ms": line.get("ack_p99_ms"),
        "web_cores": line.get("web_cores"),
        **figures,
        "first_error": errors[0] if errors else None,
    }


@contextmanager
def _attackers(
    endpoint: Endpoint, chats: Sequence[Chat], name: str, settings: AttackSettings
) -> Iterator[dict[str, int]]:
    """Let attackers attack while the block runs; the statuses of their answers are there after it."""
    tokens = FOLDER / "attackers.json"
    tokens.write_text(json.dumps({chat.participants[0].token: chat.conversation for chat in chats[:ATTACKERS_CHATS]}))
    command = [sys.executable, "-m", "bench.attackers", "--port", str(endpoint.http_port), "--attack", name]
    command += ["--connections", str(settings.connections), "--tokens-file", str(tokens)]
    answers: dict[str, int] = {}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=FOLDER.parent.parent) as process:
        try:
            yield answers
        finally:
            output, _ = process.communicate()
            answers |= json.loads(output or b"{}")


def summarize_attacks(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each attack a line for each kind of request, and one with the requirement."""
    lines: list[dict[str, Any]] = []
    for name in dict.fromkeys(run["attack"] for run in runs):
        its = [run for run in runs if run["attack"] == name and run["valid"]]
        is_met: dict[str, bool] = {}
        for kind in MEASURED:
            key = f"{kind}_p99_ms"
            found = [(run["alone"][key], run["attacked"][key]) for run in its]
            known = [(alone, attacked) for alone, attacked in found if alone and attacked]
            ratios = [attacked / alone for alone, attacked in known]
            is_met[kind] = len(ratios) == len(found) and median(ratios) <= MOST if found else False
            lines.append(
                {
                    "kind": "summary",
                    "attack": name,
                    "requests": kind,
                    "alone_p99_ms": spread([alone for alone, _ in known], 1),
                    "attacked_p99_ms": spread([attacked for _, attacked in known], 1),
                    "ratio": spread(ratios, 2),
                    "refused": sum(run["attacked"].get(f"{kind}_refused", 0) for run in its),
                }
            )
        lines.append(
            {
                "kind": "requirement",
                "attack": name,
                "runs": len(its),
                "p99_at_most_doubles": is_met,
            }
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.attack", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--attacks", default=",".join(ATTACKS), help="with commas; by default all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="measured seconds of each half of a run")
    parser.add_argument("--connections", type=int, default=300, help="of the attackers")
    options = parser.parse_args()
    settings = AttackSettings(tuple(options.attacks.split(",")), options.rounds, options.seconds, options.connections)
    run_alone(lambda: attack(settings))


if __name__ == "__main__":
    main()
