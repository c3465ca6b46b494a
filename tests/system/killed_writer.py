"""A device that is killed after each of its steps: `python -m tests.system.killed_writer FILE`.

FILE has the arguments as JSON. For each step a child process sends one text, and kills itself by SIGKILL at that step;
the next one goes on with the same vault. The program ends after a child that has done all its steps. A log has each
content and envelope that leaves a child, before it does, and each text once it is in the vault.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import trio

from client.e2ee import vault, writing
from client.e2ee.keyring import Keyring
from client.e2ee.records import Outgoing
from client.http import Credentials
from client.requests import Requests
from tests.system.encryption_world import phone

STEPS = ("take_set", "take_claimed", "share_key", "have_shared", "seal", "have_sent", "next_upload")


class Killer:
    """Kills this process at the given step."""

    def __init__(self, at: int) -> None:
        self._left = at

    def step(self) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def call(*arguments: Any, **named: Any) -> Any:
            self.step()
            result = method(*arguments, **named)
            self.step()
            return result

        return call


def install(killer: Killer, log: Path) -> None:
    """Count the steps of this process, and write down what leaves it."""
    for name in STEPS:
        setattr(Keyring, name, killer.around(getattr(Keyring, name)))
    queue = Keyring.queue

    def queued(self: Keyring, message: Outgoing) -> None:
        killer.step()
        queue(self, message)
        with log.open("a") as file:
            file.write(json.dumps(message.body.text) + "\n")
        killer.step()

    Keyring.queue = queued  # type: ignore[method-assign]
    send = Requests.send

    async def recorded(self: Requests, conversation: bytes, content: bytes, **named: Any) -> Any:
        with log.open("a") as file:
            file.write(json.dumps([content.hex(), [each.hex() for _, each in named["envelopes"] or ()]]) + "\n")
        killer.step()
        result = await send(self, conversation, content, **named)
        killer.step()
        return result

    Requests.send = recorded  # type: ignore[method-assign]


async def write(arguments: dict[str, Any], text: str) -> None:
    credentials = msgspec.convert(arguments["credentials"], Credentials)
    async with phone(arguments["urls"], credentials, Path(arguments["folder"]), "the killed one") as made:
        await made.say(bytes.fromhex(arguments["conversation"]), text)


def main(path: str) -> None:
    arguments = json.loads(Path(path).read_text())
    vault.TIME_COST, vault.MEMORY_KIB = 1, 32  # type: ignore[misc]
    # A key message before each content: its steps count, too.
    writing.MOST_CONTENTS = 1  # type: ignore[misc]
    for at in count(1):
        child = os.fork()
        if child == 0:
            install(Killer(at), Path(arguments["log"]))
            trio.run(write, arguments, f"{arguments['text']} {at}")
            sys.exit(0)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{at} {os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()  # before the next child copies what waits to be written
        if status == 0:
            return
        assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL


if __name__ == "__main__":
    main(sys.argv[1])
