"""One input again, without atheris: `python -m tests.fuzz.replay TARGET HEX | FILE`; a traceback if it is a finding."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.fuzz.targets import TARGETS


def main(target: str, text: str) -> None:
    """
    :param text: the input in hexadecimal, or a file that is one.
    """
    data = Path(text).read_bytes() if Path(text).is_file() else bytes.fromhex(text)
    with TARGETS[target].open() as check:
        check(data)


if __name__ == "__main__":
    main(*sys.argv[1:])
