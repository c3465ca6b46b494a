"""Starts a server, then runs schemathesis against its `/openapi.json`; the exit status is that of schemathesis.

It sends requests that fit the document and requests that do not, and compares the answers with the document.
`CONTRACT_SECONDS` bounds the run (60).
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import httpx

from demo.cluster import open_cluster

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

MARGIN_S: Final = 60.0
"""For schemathesis to end by itself."""


def main() -> int:
    seconds = int(os.environ.get("CONTRACT_SECONDS", "60"))
    with tempfile.TemporaryDirectory(prefix="alo-contract-") as folder, open_cluster(Path(folder)) as cluster:
        command = [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{cluster.http_url}/openapi.json"),
            *("--header", f"Authorization: Bearer {token_of(cluster.http_url)}"),
            *("--checks", ",".join(CHECKS), "--phases", "examples,coverage,fuzzing", "--max-time", str(seconds)),
            *("--max-examples", "30", "--seed", "1", "--generation-database", "none", "--no-color"),
        ]
        # In the folder, since schemathesis writes a cache where it runs.
        hooks = {"SCHEMATHESIS_HOOKS": "tests.contract.cbor_bodies", "PYTHONPATH": str(ROOT)}
        return subprocess.run(
            command, cwd=folder, env={**os.environ, **hooks}, timeout=seconds + MARGIN_S, check=False
        ).returncode


def token_of(address: str) -> str:
    """The token of a device of a new user."""
    password = "correct horse battery staple"
    with httpx.Client(base_url=address) as http:
        http.post("/v1/users", json={"username": "alice", "password": password}).raise_for_status()
        device = http.post("/v1/devices", json={"username": "alice", "password": password, "name": "Phone"})
        return str(device.raise_for_status().json()["token"])


if __name__ == "__main__":
    sys.exit(main())
