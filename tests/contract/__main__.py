"""Starts a server, then runs schemathesis against its `/openapi.json`; the exit status says whether all is well.

The first run sends the example of each operation, and one more request that fits the document; each operation has to
succeed, since answers that refuse requests say little of the document. The second run sends requests that fit the
document and requests that do not, for `CONTRACT_SECONDS` (60). Both compare the answers with the document.
Arguments of the command line are options of schemathesis.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from demo.cluster import Cluster, open_cluster
from tests.contract.scenes import OPERATIONS, PLACEHOLDER
from tests.server.http.reference.scene import OPS_TOKEN

ROOT: Final = Path(__file__).parents[2]

CHECKS: Final = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "ignored_auth",
)
"""The checks of schemathesis that hold here. The server refuses some requests that fit the schema, such as one with a
wrong time zone, and accepts unknown fields, so the checks of positive and negative data are left out."""

EACH_S: Final = 300.0
"""For a run without a limit of its own, and for schemathesis to end by itself."""

STATUSES: Final = "statuses.json"

DOCUMENT: Final = "GET /openapi.json"
"""Schemathesis reads the document by it, and leaves it out of the operations that it tests."""

DRAIN: Final = "POST /v1/ops/nodes/{node}/drain"
"""Here no node runs; `tests/server/http/test_ops_page.py` drains one."""


def main() -> int:
    seconds = int(os.environ.get("CONTRACT_SECONDS", "60"))
    os.environ["OPS_TOKEN"] = OPS_TOKEN
    # How many requests a limit refuses would depend on the machine's speed: a request without a token met 429, not 401.
    os.environ["RATE_LIMIT_FACTOR"] = "1000"
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="alo-contract-"))
        os.environ["CONTRACT_OBJECTS"] = f"{folder}/objects"
        os.environ["OBJECT_STORE_URL"] = Path(folder, "objects").as_uri()
        cluster = stack.enter_context(open_cluster(Path(folder)))
        runs = (
            ("--phases", "examples,fuzzing", "--mode", "positive", "--max-examples", "1"),
            ("--phases", "coverage,fuzzing", "--max-examples", "30", "--max-time", str(seconds)),
        )
        failed, statuses = 0, Counter[tuple[str, str]]()
        for run in runs:
            failed |= _run(Path(folder), cluster, run, EACH_S + seconds)
            for operation, counted in json.loads((Path(folder) / STATUSES).read_text()).items():
                statuses.update({(operation, status): count for status, count in counted.items()})
    return failed | report(statuses)


def _run(folder: Path, cluster: Cluster, options: Sequence[str], timeout_s: float) -> int:
    """Run schemathesis in the folder, since it writes a cache where it runs."""
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{cluster.http_url}/openapi.json", *options),
        *("--header", f"Authorization: Bearer {PLACEHOLDER}", "--checks", ",".join(CHECKS)),
        *("--seed", "1", "--generation-database", "none", "--no-color", *sys.argv[1:]),
    ]
    settings = {
        "SCHEMATHESIS_HOOKS": "tests.contract.hooks",
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "CONTRACT_DATABASE_URL": cluster.database_url,
        "CONTRACT_STATUSES": str(folder / STATUSES),
    }
    return subprocess.run(
        command, cwd=folder, env={**os.environ, **settings}, timeout=timeout_s, check=False
    ).returncode


def report(statuses: Mapping[tuple[str, str], int]) -> int:
    """Print how often each operation had each status; 1 if an operation never succeeded, and 0 otherwise."""
    failed = []
    for operation in OPERATIONS:
        if operation in (DOCUMENT, DRAIN):
            continue
        counted = sorted((status, count) for (of, status), count in statuses.items() if of == operation)
        print(f"{operation}: {', '.join(f'{status} x {count}' for status, count in counted)}")
        if not any(status.startswith("2") for status, _ in counted):
            failed.append(operation)
    for operation in failed:
        print(f"{operation} was never answered with 2xx: has it an example, and the scene what that needs?")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
