"""`python -m tests.checker --seed N --seconds S`: makes one run on services of its own; prints its counts and findings.

Exits with status 1 if there is a finding. Without `--seed` each run takes a random seed, and prints it.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import tempfile
from pathlib import Path

import trio

from embedded.services import services
from store.postgres.migrate import migrate
from store.postgres.pool import Pool
from tests.checker.plan import make_plan
from tests.checker.run import Outcome, run


def report(seed: int, seconds: float, outcome: Outcome) -> str:
    """The counts, all findings, and the command that repeats the run."""
    lines = [f"seed {seed}, {seconds:g} s: {json.dumps(outcome.counts)}"]
    lines += [f"{finding.check}: {finding.what}" for finding in outcome.findings]
    if outcome.findings:
        lines.append(f"to repeat: python -m tests.checker --seed {seed} --seconds {seconds:g}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.checker")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--history", type=Path, help="a file to write everything to that has happened")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="alo-checker-") as folder, services(Path(folder), durable=False) as running:
        trio.run(migrate, running.postgres.url)
        pool = Pool(running.postgres.url, 4)
        try:
            outcome = trio.run(run, pool, running.redis.url, make_plan(options.seed, options.seconds))
        finally:
            pool.close()
    if options.history is not None:
        options.history.write_text("".join(f"{event}\n" for event in outcome.history.events))
    print(report(options.seed, options.seconds, outcome))
    return int(bool(outcome.findings))


if __name__ == "__main__":
    sys.exit(main())
