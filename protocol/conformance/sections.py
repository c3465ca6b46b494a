"""The sections of the specification that are tested in every scenario, and those that none tests, with the reason."""

from __future__ import annotations

from typing import Final

RULES: Final = frozenset({"1.1", "1.2", "2.1", "2.2", "2.5", "3", "4.2", "5.5", "6.1", "11.1", "13.1"})
"""Whatever a scenario is about, it fails if the client breaks a rule of these (`README.md`)."""

_REASONS: Final = {
    "It says what the server does: a client can do nothing wrong with it.": (
        "1.3 2.2.1 2.6 3.2 3.3 4.1 4.4 5.1 5.9 6.2.2 6.6.2 6.9 7.2 8.3 10.2 10.3 11.2 11.3 11.4 11.5 13.1.2 16.4 18.1"
        " 18.7 19.1 19.14"
    ),
    "It is about what a client shows beyond messages and numbers of unread ones, which adapters do not tell.": (
        "4.4.1 4.7 5.7.1 5.7.2 5.8 5.8.1 6.7 6.8 6.10 6.11 13.2.1 16.5"
    ),
    "It needs routes over HTTP, which the server double does not have.": "1.4 18.9 18.10 19.16",
    "It is about bytes of frames: the test vectors test it.": "2.3 2.3.1 14 15",
    "It is about several programs with one login, or about the operating system of a phone.": "13.1.1 13.1.3 17.6",
    "It is about the inside of a client's cryptography: the kit does not know what its bytes mean.": (
        "6.4.1 18.1.1 18.3 20.*"
    ),
    "It introduces the sections that follow it.": "17",
    "No scenario is about it yet.": ("18.2 18.4 18.5 18.6 18.8 19.6 19.18"),
}

NOT_COVERED: Final[dict[str, str]] = {section: why for why, told in _REASONS.items() for section in told.split()}
"""Section -> why no scenario is about it; `20.*` stands for all sections of chapter 20 that no scenario is about."""
