"""How many processes of a kind run: `SCALE=socket=2,web=2`.

Each process gets its number among those of its kind as `INSTANCE`, and takes its ports by it: those of the second one
are `PORT_STEP` above those of the first.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from embedded.errors import EmbeddedError

SCALE = "SCALE"

PORT_STEP = 10
"""As `runtime.config.PORT_STEP`, which a deployment has without this package."""

MOST = 20
"""Processes of a kind; more of them than a machine has cores gain nothing."""

_ONE = re.compile(r"([A-Za-z0-9_-]+)=([0-9]+)")


class Instance(NamedTuple):
    """One process to run.

    :ivar number: its number among those of its kind, from 1.
    """

    command: str
    number: int = 1


def read_scale(text: str, names: Mapping[str, object]) -> dict[str, int]:
    """Kind of process -> how many of it run; 1 if the text does not name it.

    :param names: the kinds that there are.
    :raises EmbeddedError: if the text is not a list of kinds with numbers.
    """
    counts = dict.fromkeys(names, 1)
    for part in filter(None, (part.strip() for part in text.split(","))):
        found = _ONE.fullmatch(part)
        if found is None or found[1] not in counts or int(found[2]) > MOST:
            kinds = ", ".join(names)
            raise EmbeddedError(
                f"{SCALE}={text}: it must be a list such as socket=2,web=2, of {kinds}, each 0 to {MOST}."
            )
        counts[found[1]] = int(found[2])
    return counts


def instances(commands: Mapping[str, str], counts: Mapping[str, int]) -> dict[str, Instance]:
    """Name in the output -> process: `web` if there is one of its kind, else `web.1`, `web.2` and so on."""
    return {
        name if counts[name] == 1 else f"{name}.{number}": Instance(command, number)
        for name, command in commands.items()
        for number in range(1, counts[name] + 1)
    }


def ports_of(first: int, count: int) -> list[int]:
    """The ports of `count` processes of a kind."""
    return [first + step * PORT_STEP for step in range(count)]
