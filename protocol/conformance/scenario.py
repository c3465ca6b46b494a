"""Scenario files: `scenarios/*.json`, one scenario each; `README.md` describes their steps."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any, Final

from msgspec import Struct, field

from protocol.conformance.values import Fields
from protocol.features import FEATURES

FOLDER: Final = files("protocol.conformance") / "scenarios"

STEPS: Final = frozenset({"client", "outcome", "await", "never", "count", "label", "server", "fault", "state", "ping"})
"""The first key of a step says what it is."""

ONE_MESSAGE: Final[Fields] = {"talk": {"messages": ["one"]}}
"""A direct conversation with one message of the other user, `bob`: each scenario begins with it, or with its own."""


class WrongScenario(ValueError):
    """A scenario file is not as `README.md` says."""


class Scenario(Struct, frozen=True):
    """One scenario.

    :ivar name: of its file.
    :ivar title: what a client must do, in a sentence.
    :ivar sections: of the specification, that it is about.
    :ivar needs: the optional commands and fields of adapters without which it cannot be played.
    :ivar features: that the server lists; None: all that the double has.
    :ivar talks: the conversations at the beginning, by name.
    :ivar is_settled: at the end the client must show the same as a fresh fetch.
    """

    name: str
    title: str
    sections: list[str]
    steps: list[Fields]
    needs: list[str] = field(default_factory=list)
    features: list[str] | None = None
    talks: Fields = field(default_factory=ONE_MESSAGE.copy)
    is_settled: bool = True


def read_scenario(name: str, told: Any) -> Scenario:
    """The scenario of a file.

    :raises WrongScenario: if it is not one; says what is wrong.
    """
    allowed = set(Scenario.__struct_fields__) - {"name"}
    if not isinstance(told, dict) or not {"title", "sections", "steps"} <= told.keys() <= allowed:
        raise WrongScenario(f"{name}: must be an object with title, sections, steps, and no other keys than {allowed}")
    for number, step in enumerate(told["steps"], 1):
        if not isinstance(step, dict) or len(STEPS & step.keys()) != 1:
            raise WrongScenario(f"{name}, step {number}: must have one of the keys {', '.join(sorted(STEPS))}")
    if unknown := set(told.get("features") or ()) - FEATURES.keys():
        raise WrongScenario(f"{name}: no feature is called {', '.join(sorted(unknown))}")
    return Scenario(name, **told)


def load_scenarios() -> list[Scenario]:
    """All scenarios, by name.

    :raises WrongScenario: if a file is not one.
    """
    names = sorted(file.name for file in FOLDER.iterdir() if file.name.endswith(".json"))
    return [read_scenario(name.removesuffix(".json"), json.loads((FOLDER / name).read_text())) for name in names]
