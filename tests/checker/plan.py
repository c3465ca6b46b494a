"""A seed becomes a list of steps. A step names its user, kind and time as numbers; `world.py` knows their meaning.

The plan does not know the state that a step meets (which messages exist by then, whether a node is up), so a step
chooses by a fraction: `pick` 0.5 is the middle one of the candidates.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

USERS: Final = 5
DEVICES: Final = 2
"""Devices of each user."""

NODES: Final = 3
CONVERSATIONS: Final = 8
"""Conversations at the beginning; steps that open one come on top."""

STEPS_PER_S: Final = 30.0


class Kind(StrEnum):
    """The kind of a step; the comment says what `place`, `pick`, `other` and `flag` mean to it, beyond the usual."""

    SEND = "send"  # place: conversation
    BURST = "burst"  # several at once
    AGAIN = "again"  # pick: an acked message, sent a second time through another node
    EDIT = "edit"  # pick: an own message
    DELETE = "delete"  # flag: for everyone
    READ = "read"  # pick: up to this message
    TYPING = "typing"  # flag: begins
    ADD = "add"  # pick: the new participant
    REMOVE = "remove"  # pick: the removed participant
    LEAVE = "leave"
    ROLE = "role"  # pick: the participant; flag: administrator
    RENAME = "rename"
    SHOW_ALL = "show_all"  # flag: joiners see earlier messages
    PROFILE = "profile"
    RECEIPTS = "receipts"  # flag: gives receipts
    BLOCK = "block"  # place: direct conversation; pick: the blocker; flag: blocks

    EXPIRE = "expire"  # pick: the age in seconds, for the conversation with the oldest messages
    OPEN = "open"  # place: how many others
    AWAY = "away"  # flag: says bye; pick: for how long
    FRESH = "fresh"  # a device that holds nothing replaces a device
    KILL = "kill"  # place: node; pick: for how long
    STOP = "stop"  # place: node
    FLUSH = "flush"
    UNKNOWN = (
        "unknown"  # place: a node, or the process for HTTP: it loses the next answer of Postgres, to any statement
    )
    LIFETIME = "lifetime"  # flag: messages disappear after a time; in groups and direct conversations
    ENCRYPT = "encrypt"  # a message for exactly the devices of the participants; flag: and an edit of it
    PUBLISH = "publish"  # flag: a device that others encrypt for comes; else one (pick) has another identity
    REVOKE = "revoke"  # pick: such a device


WEIGHTS: Final = {
    Kind.SEND: 300,
    Kind.BURST: 30,
    Kind.AGAIN: 20,
    Kind.EDIT: 60,
    Kind.DELETE: 25,
    Kind.READ: 60,
    Kind.TYPING: 15,
    Kind.ADD: 25,
    Kind.REMOVE: 20,
    Kind.LEAVE: 4,
    Kind.ROLE: 8,
    Kind.RENAME: 8,
    Kind.SHOW_ALL: 6,
    Kind.PROFILE: 6,
    Kind.RECEIPTS: 5,
    Kind.BLOCK: 14,
    Kind.EXPIRE: 8,
    Kind.OPEN: 3,
    Kind.AWAY: 20,
    Kind.FRESH: 4,
    Kind.KILL: 5,
    Kind.STOP: 3,
    Kind.FLUSH: 2,
    Kind.UNKNOWN: 8,
    Kind.LIFETIME: 5,
    Kind.ENCRYPT: 50,
    Kind.PUBLISH: 25,
    Kind.REVOKE: 15,
}
"""How often each kind comes, relative to the others."""


@dataclass(frozen=True, slots=True)
class Step:
    """One action, begun `at_s` seconds after the start of the plan."""

    at_s: float
    kind: Kind
    user: int
    device: int
    place: int
    other: int
    pick: float
    flag: bool


def make_plan(seed: int, seconds: float) -> list[Step]:
    """The steps of a seed, the same each time; a longer plan begins with the steps of a shorter one."""
    chance = random.Random(seed)
    kinds, weights = list(WEIGHTS), list(WEIGHTS.values())
    steps: list[Step] = []
    at_s = 0.0
    while (at_s := at_s + chance.expovariate(STEPS_PER_S)) < seconds:
        [kind] = chance.choices(kinds, weights)
        steps.append(
            Step(
                round(at_s, 4),
                kind,
                chance.randrange(USERS),
                chance.randrange(DEVICES),
                chance.randrange(1000),
                chance.randrange(USERS),
                chance.random(),
                chance.random() < 0.5,
            )
        )
    return steps


def count(steps: Iterable[Step]) -> Counter[str]:
    """How many steps each kind has."""
    return Counter(step.kind.value for step in steps)
