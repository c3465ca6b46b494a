"""Writes `docs/states.md`, the diagram of the table in `protocol/states.py`, when the table has changed:
`python -m tests.protocol.make_states`.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Final

from protocol.codes import CloseCode, ErrorCode
from protocol.frames import REQUESTS
from protocol.states import TRANSITIONS, State

STATES = Path(__file__).parents[2] / "docs" / "states.md"

HEAD: Final = """# The states of a connection

`python -m tests.protocol.make_states` makes this page from the table in `protocol/states.py`. Section 3 of
`protocol/SPEC.md` has the same as a table. An arrow with frames is what the client sends, an arrow in brackets what the
server does; `close` ends the connection. Other causes, such as a lost network, end it in any state.

```mermaid
stateDiagram-v2
"""

AFTER_HELLO: Final = (
    CloseCode.UNAVAILABLE,
    CloseCode.TOO_MANY_CONNECTIONS,
    CloseCode.UNAUTHENTICATED,
    CloseCode.UNSUPPORTED_VERSION,
    CloseCode.TOKEN_EXPIRED,
    CloseCode.DEVICE_REVOKED,
    CloseCode.TOKEN_REUSED,
    CloseCode.ACCOUNT_SUSPENDED,
)
"""The close codes that the server answers `hello` with, if not with `welcome`."""

OF_THE_SERVER: Final = [
    f"[*] --> {State.NEW.value}",
    f"{State.GREETING.value} --> {State.OPEN.value}: [welcome]",
    f"{State.GREETING.value} --> [*]: [close {', '.join(str(code.value) for code in AFTER_HELLO)}]",
    *(
        f"{state.value} --> {State.DRAINING.value}: [the node stops]"
        for state in (State.NEW, State.GREETING, State.OPEN)
    ),
    f"{State.LEAVING.value} --> [*]: [done, close {CloseCode.BYE.value}]",
    f"{State.DRAINING.value} --> [*]: [close {CloseCode.GOING_AWAY.value}]",
]
"""Transitions without a frame: `StateMachine.welcome`, `StateMachine.drain`, and the ends of both ways out."""


def diagram() -> str:
    """The whole page."""
    lines = list(OF_THE_SERVER)
    for state, table in TRANSITIONS.items():
        frames: dict[State | ErrorCode | CloseCode, list[str]] = defaultdict(list)
        for struct in REQUESTS:
            frames[table[struct]].append(struct.TYPE.name.lower())
        for outcome, names in frames.items():
            lines.append(_arrow(state, outcome, "any frame" if len(names) == len(REQUESTS) else _listed(names)))
    return HEAD + "".join(f"    {line}\n" for line in lines) + "```\n"


def _listed(names: list[str]) -> str:
    return ", ".join(names) if len(names) < 5 else f"any but {', '.join(_others(names))}"


def _others(names: list[str]) -> list[str]:
    return [struct.TYPE.name.lower() for struct in REQUESTS if struct.TYPE.name.lower() not in names]


def _arrow(state: State, outcome: State | ErrorCode | CloseCode, frames: str) -> str:
    match outcome:
        case State():
            return f"{state.value} --> {outcome.value}: {frames}"
        case ErrorCode():
            return f"{state.value} --> {state.value}: {frames} / error {outcome.value}"
        case CloseCode():
            return f"{state.value} --> [*]: {frames} / close {outcome.value}"


if __name__ == "__main__":
    STATES.write_text(diagram())
