"""The operator who types a command, as the audit log names the actor."""

from __future__ import annotations

import argparse
import os
import pwd
from typing import Final

from runtime.commands import CommandError
from store.security_events import Source

MAX_NAME: Final = 64
"""Characters of a name in the audit log."""

PROGRAM: Final = "python -m server ops"


def source_of_options(options: argparse.Namespace) -> Source:
    """The source of the events of a command: the name given by `--as`, or that of the user who has logged in.

    :raises CommandError: if the name cannot stand in the audit log.
    """
    name = options.operator if options.operator is not None else login_name()
    if not 1 <= len(name) <= MAX_NAME or not name.isprintable():
        raise CommandError(f"--as must be 1 to {MAX_NAME} characters that can be seen")
    return Source("operator", client=PROGRAM, operator=name)


def login_name() -> str:
    """The name of the user of the operating system: with sudo, the one who typed sudo."""
    if os.geteuid() == 0 and (name := os.environ.get("SUDO_USER")):
        return name
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        # A container may run under a number that no user has.
        return f"uid {os.geteuid()}"
