"""Checks the types of client/js, starts a server with two gateways, then runs `node --test` there; the exit status is
that of the first of them that fails."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from demo.cluster import open_cluster

FOLDER: Final = Path(__file__).parents[2] / "client" / "js"
TIMEOUT_S: Final = 600 if os.environ.get("ALO_LONG") else 300


def main() -> int:
    types = subprocess.run(["node", "node_modules/typescript/bin/tsc"], cwd=FOLDER, timeout=TIMEOUT_S, check=False)
    if types.returncode:
        return types.returncode
    # All tests register users from one address: in a minute more than the limit allows on a fast machine.
    limits = {"RATE_LIMIT_FACTOR": "1000"}
    with tempfile.TemporaryDirectory(prefix="alo-js-") as folder, open_cluster(Path(folder), **limits) as cluster:
        environment = {
            **os.environ,
            "ALO_HTTP_URL": cluster.http_url,
            "ALO_SOCKET_URLS": ",".join(cluster.socket_urls),
            "ALO_GATEWAY_PIDS": ",".join(str(gateway.pid) for gateway in cluster.gateways),
        }
        # Most of them wait, for timers of the server and for passwords to be hashed.
        command = ["node", "--test", "--test-concurrency=3", "--test-reporter=spec", "test/"]
        return subprocess.run(command, cwd=FOLDER, env=environment, timeout=TIMEOUT_S, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
