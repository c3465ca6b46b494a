"""What the proxies in front of processes of a test have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, TypeAlias

import trustme

ROOT: Final = Path(__file__).parent.parent

Servers: TypeAlias = Mapping[str, Sequence[str]]
"""Kind of process -> the addresses of its processes, as HOST:PORT."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate of a proxy.

    :ivar authority: the file of the authority that has signed it.
    :ivar chain, key: its files.
    :ivar both: a file with both, as HAProxy wants it.
    """

    authority: Path
    chain: Path
    key: Path
    both: Path


def new_certificate(
    folder: Path, name: str = "localhost", *, authority: trustme.CA | None = None, ends: datetime | None = None
) -> Certificate:
    """A certificate in files; those of an earlier one in this folder are overwritten.

    :param authority: that signs it; None: a new one.
    :param ends: the last moment at which it is good; None: long after any test.
    """
    signs = authority or trustme.CA()
    issued = signs.issue_cert(name, not_after=ends)
    made = Certificate(*(folder / name for name in ("ca.pem", "chain.pem", "key.pem", "both.pem")))
    signs.cert_pem.write_to_path(made.authority)
    issued.private_key_and_cert_chain_pem.write_to_path(made.both)
    issued.private_key_pem.write_to_path(made.key)
    for number, pem in enumerate(issued.cert_chain_pems):
        pem.write_to_path(made.chain, append=number > 0)
    return made
