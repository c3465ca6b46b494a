"""The inputs in the repository: one file for each target, one input in hexadecimal on each line.

`python -m tests.fuzz.corpus [TARGET ...]` rewrites the files: it keeps the fewest inputs, of these and of those that
`make fuzz` has found since, that reach the same branches, short ones first.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterable
from hashlib import sha1
from pathlib import Path

from tests.fuzz.targets import TARGETS

ROOT = Path(__file__).parents[2]
FOLDER = Path(__file__).parent / "corpus"
WORK = ROOT / "var" / "fuzz"

MERGE_LIMIT_S = 600


def read_corpus(target: str) -> list[bytes]:
    """The inputs of a target; none if it has no file."""
    file = FOLDER / f"{target}.hex"
    return [bytes.fromhex(line) for line in file.read_text().splitlines()] if file.exists() else []


def write_files(folder: Path, inputs: Iterable[bytes]) -> None:
    """Replace the folder's contents by one file for each input, as libFuzzer reads them."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for data in inputs:
        (folder / sha1(data, usedforsecurity=False).hexdigest()).write_bytes(data)


def minimise(target: str) -> None:
    work = WORK / target
    merged = work / "merged"
    write_files(merged, [])
    write_files(work / "seeds", [*TARGETS[target].seeds, *read_corpus(target)])
    found = work / "found"
    found.mkdir(exist_ok=True)
    # Merge by edges, without counts: that keeps a tenth of the inputs, and every run begins by loading all of them.
    options = ["-merge=1", "-use_counters=0", f"-max_len={TARGETS[target].max_bytes}"]
    # libFuzzer hands them to a shell as they are.
    folders = [str(folder.relative_to(ROOT)) for folder in (merged, work / "seeds", found)]
    command = [sys.executable, "-m", "tests.fuzz.engine", target, *options, *folders]
    subprocess.run(command, cwd=ROOT, check=True, timeout=MERGE_LIMIT_S, capture_output=True)
    inputs = sorted((file.read_bytes() for file in merged.iterdir()), key=lambda data: (len(data), data))
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{target}.hex").write_text("".join(f"{data.hex()}\n" for data in inputs))
    print(f"{target}: {len(inputs)} inputs, {sum(map(len, inputs))} bytes")


if __name__ == "__main__":
    for name in sys.argv[1:] or TARGETS:
        minimise(name)
