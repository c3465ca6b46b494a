"""A server that speaks S3 and checks signatures, lengths and digests: SeaweedFS, as a process.

`docs/decisions/0042-presigned-requests-of-s3.md` says what it checks, and which other servers were tried.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import httpx

from embedded.ports import free_port
from embedded.process import die_with
from store.objects.bucket import Bucket
from store.objects.service_clock import amz_date
from store.objects.sigv4 import SigningKey, signed_headers
from tests.memory import in_memory
from tests.waiting import wait_until_blocking

PROGRAM: Final = Path(sys.executable).parent / "weed"
BUCKET: Final = "chat-files"
KEY: Final = SigningKey("planted", "planted-secret-of-s3", "us-east-1")
START_TIMEOUT_S: Final = 60.0

SOCKETS: Final = Path("/tmp")
"""Where SeaweedFS makes sockets, whatever it is told; killed, it leaves them."""

_PORTS: Final = tuple(f"-{name}.port{kind}" for name in ("master", "volume", "filer", "s3") for kind in ("", ".grpc"))
_IDENTITIES: Final = {
    "identities": [
        {
            "name": "server",
            "credentials": [{"accessKey": KEY.access_key, "secretKey": KEY.secret_key}],
            "actions": ["Admin", "Read", "Write", "List"],
        }
    ]
}


MAX_CHUNK_MB: Final = 16
"""A part is one chunk: of several, SeaweedFS makes a tag that is no MD5 of the bytes."""


@contextmanager
def s3_server() -> Iterator[str]:
    """The URL of an empty bucket, for OBJECT_STORE_URL. It blocks: a fixture enters it."""
    with TemporaryDirectory() as disk, in_memory(Path(disk)) as folder:
        identities = folder / "identities.json"
        identities.write_text(json.dumps(_IDENTITIES))
        ports = {name: free_port() for name in _PORTS}
        command = [
            *(
                str(PROGRAM),
                f"-logdir={folder}",
                "server",
                f"-dir={folder}",
                "-ip=127.0.0.1",
                "-master.telemetry=false",
            ),
            *(
                "-master.volumeSizeLimitMB=64",
                "-volume.max=64",
                "-filer",
                f"-filer.maxMB={MAX_CHUNK_MB}",
                f"-filer.localSocket={folder}/filer.sock",
            ),
            *("-s3", f"-s3.config={identities}", f"-s3.localSocket={folder}/s3.sock", "-s3.iam=false"),
            *("-s3.autoCreateBucket=false", "-s3.port.iceberg=0", "-s3.port.lance=0"),
            *(f"{name}={port}" for name, port in ports.items()),
        ]
        with subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=die_with(os.getpid(), signal.SIGKILL),
        ) as process:
            try:
                host = f"127.0.0.1:{ports['-s3.port']}"
                bucket = Bucket(host, BUCKET, KEY, tls=False)
                wait_until_blocking(lambda: _is_made(process, bucket), "SeaweedFS answers", timeout_s=START_TIMEOUT_S)
                yield f"s3://{KEY.access_key}:{KEY.secret_key}@{host}/{BUCKET}?tls=false&region={KEY.region}"
            finally:
                process.kill()
                for file in (each for port in ports.values() for each in SOCKETS.glob(f"seaweedfs-*-{port}.sock")):
                    file.unlink(missing_ok=True)


def _is_made(process: subprocess.Popen[bytes], bucket: Bucket) -> bool:
    """Make the bucket; False if the server does not take it yet."""
    assert process.poll() is None, "SeaweedFS has ended"
    path, date = bucket.path(""), amz_date(time.time())
    headers = signed_headers("PUT", path, {}, {"host": bucket.host}, b"", credentials=bucket.credentials, date=date)
    try:
        return httpx.put(bucket.url + path, headers=headers, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False
