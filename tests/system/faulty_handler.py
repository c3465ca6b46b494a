"""`python -m tests.system.faulty_handler MODULE ...`: a process of ours in which a profile cannot be read.

The error has secrets in its text and in the variables of its frames.
"""

from __future__ import annotations

import runpy
import sys
from typing import Any
from unittest.mock import patch

CONTENT = "ciphertext-7f3a"
"""The log may have it, as part of an error's text; a report may not."""


async def fail(pool: object, user: bytes, **_: Any) -> None:
    content = f"{CONTENT} of alo_{'x' * 43} and ann@example.org"
    raise ValueError(f"cannot read {content} for {user.hex()}")


if __name__ == "__main__":
    module, *arguments = sys.argv[1:]
    sys.argv = [module, *arguments]
    with patch("store.profiles.profile_of", fail):
        runpy.run_module(module, run_name="__main__", alter_sys=True)
