"""`python -m tests.compiled`: compile all that tests import, on two cores, before several processes of pytest begin.

pytest rewrites the assertions of a module when it first imports it, and keeps the result. For all modules of tests that
takes ten seconds of CPU, and processes that begin together would each do it.
"""

from __future__ import annotations

import compileall
import re
import subprocess
import sys
from importlib.util import cache_from_source
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[1]
FOLDERS: Final = ("bench", "client", "embedded", "jobs", "protocol", "runtime", "server", "store", "tests")
FEW: Final = 30
"""So many modules are rewritten sooner than two more processes of pytest begin."""


def stale() -> list[Path]:
    """The modules of tests whose assertions are to be rewritten."""
    return [file for file in sorted((ROOT / "tests").rglob("test_*.py")) if not _is_rewritten(file)]


def _is_rewritten(file: Path) -> bool:
    compiled = Path(cache_from_source(str(file)))
    kept = compiled.with_name(f"{compiled.stem}-pytest-{pytest.__version__}.pyc")
    return kept.exists() and kept.stat().st_mtime >= file.stat().st_mtime


def compile_all() -> None:
    """Compile what is stale; errors are left to the tests."""
    for folder in FOLDERS:
        compileall.compile_dir(ROOT / folder, quiet=2, rx=re.compile(r"/test_|node_modules"))
    if len(files := stale()) <= FEW:
        return
    collect = [sys.executable, "-m", "pytest", "--collect-only", "-qq", "-p", "no:cacheprovider", "-p", "no:xdist"]
    collecting = [
        subprocess.Popen(
            [*collect, *(str(file.relative_to(ROOT)) for file in half)],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for half in (files[::2], files[1::2])
    ]
    for process in collecting:
        process.wait()


if __name__ == "__main__":
    compile_all()
