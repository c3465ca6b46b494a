"""`make fuzz`: each target for a while; one JSON line for each, and status 1 if there is a finding.

`python -m tests.fuzz [TARGET ...]`; FUZZ_SECONDS (60) is for each target. A run writes its new inputs, its findings and
its log to `var/fuzz/TARGET/`; the next run begins from there.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from tests.fuzz.corpus import ROOT, WORK, read_corpus, write_files
from tests.fuzz.mutators import dictionary
from tests.fuzz.targets import TARGETS

SECONDS: Final = 60
GRACE_S: Final = 120
"""Time to load the corpus and to end; libFuzzer looks at its own clock only between two inputs."""

TIMEOUT_S: Final = 20
RSS_MIB: Final = 2048

_STATUS: Final = re.compile(r"^#(\d+)\s.*?cov: (\d+) ft: (\d+) corp: (\d+)/\S+.*?exec/s: (\d+)", re.MULTILINE)
_RUNS: Final = re.compile(r"^stat::number_of_executed_units:\s*(\d+)", re.MULTILINE)
_ERROR: Final = re.compile(r"^[ |]*(\w+(?:\.\w+)*(?:Error|Exception): .*)|^SUMMARY: (libFuzzer: .*)", re.MULTILINE)


@dataclass(frozen=True)
class BreakingInput:
    """An input that broke a promise.

    :ivar file: below the root of the checkout.
    :ivar hex: the input.
    """

    file: str
    hex: str


@dataclass(frozen=True)
class Report:
    """The result of a run.

    :ivar corpus: number of inputs that libFuzzer kept: each reaches a branch that no other input reaches.
    :ivar coverage: branches reached, in the modules of `protocol` and `server` that the target imports.
    :ivar features: branches reached, each counted by the power of two of how often the target took it.
    :ivar error: the error of an input, or of a target that could not run, in one line; the rest is in the log.
    """

    target: str
    inputs: int
    per_s: int
    corpus: int
    coverage: int
    features: int
    findings: list[BreakingInput]
    error: str | None


def run(target: str, seconds: int) -> Report:
    """Fuzz one target in a process of its own."""
    work = WORK / target
    (work / "found").mkdir(parents=True, exist_ok=True)
    write_files(work / "seeds", [*TARGETS[target].seeds, *read_corpus(target)])
    words = ("".join(f"\\x{byte:02x}" for byte in word) for word in dictionary())
    (work / "words").write_text("".join(f'"{word}"\n' for word in words))
    before = _artifacts(work)
    options = {
        "max_total_time": seconds,
        "max_len": TARGETS[target].max_bytes,
        "len_control": 100,  # Short inputs first; libFuzzer would not, as the mutator is ours.
        "timeout": TIMEOUT_S,
        "rss_limit_mb": RSS_MIB,
        "dict": work / "words",
        "artifact_prefix": f"{work}/",
        "print_final_stats": 1,
    }
    command = [sys.executable, "-m", "tests.fuzz.engine", target]
    command += [f"-{name}={value}" for name, value in options.items()]
    command += [str(work / "found"), str(work / "seeds")]
    with (work / "log").open("w") as log:
        try:
            status = subprocess.run(command, cwd=ROOT, stdout=log, stderr=log, timeout=seconds + GRACE_S).returncode
        except subprocess.TimeoutExpired:
            status = -1
    return _report(target, (work / "log").read_text(errors="replace"), status, _artifacts(work) - before)


def _artifacts(work: Path) -> set[Path]:
    return {file for kind in ("crash", "timeout", "oom", "leak") for file in work.glob(f"{kind}-*")}


def _report(target: str, log: str, status: int, artifacts: set[Path]) -> Report:
    # The last status line; after a finding, it counts the inputs before it.
    last = [("0",) * 5, *_STATUS.findall(log)][-1]
    shown, coverage, features, corpus, per_s = map(int, last)
    runs = _RUNS.search(log)
    findings = [BreakingInput(str(file.relative_to(ROOT)), file.read_bytes().hex()) for file in sorted(artifacts)]
    error = None
    if status:
        said = [python or engine for python, engine in _ERROR.findall(log)]
        error = said[0] if said else f"status {status}, see var/fuzz/{target}/log"
    return Report(target, int(runs[1]) if runs else shown, per_s, corpus, coverage, features, findings, error)


def main(names: list[str]) -> int:
    if find_spec("atheris") is None:
        print("There is no atheris for this platform (setup.cfg, extra `fuzz`): nothing was fuzzed.", file=sys.stderr)
        return 1
    seconds = int(os.environ.get("FUZZ_SECONDS") or SECONDS)
    failed = False
    for name in names or TARGETS:
        report = run(name, seconds)
        failed |= report.error is not None or bool(report.findings)
        print(json.dumps(asdict(report)), flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
