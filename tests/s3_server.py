"""A server that speaks S3 and checks signatures: moto, as a process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote
from xml.etree import ElementTree

import httpx

from embedded.ports import answers, free_port
from embedded.process import die_with
from tests.waiting import wait_until_blocking

BUCKET = "chat-files"
START_TIMEOUT_S = 30.0
_NOBODY = "AWS4-HMAC-SHA256 Credential=x/20130524/us-east-1/iam/aws4_request, SignedHeaders=host, Signature=x"
_ALL = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}'


@contextmanager
def s3_server() -> Iterator[str]:
    """The URL of an empty bucket, for OBJECT_STORE_URL. It blocks: a fixture enters it."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=die_with(os.getpid(), signal.SIGKILL),
    ) as process:
        try:
            wait_until_blocking(lambda: answers(port), "moto answers", timeout_s=START_TIMEOUT_S)
            key, secret = _prepare(f"http://127.0.0.1:{port}")
            yield f"s3://{key}:{quote(secret, safe='')}@127.0.0.1:{port}/{BUCKET}?tls=false&region=us-east-1"
        finally:
            process.kill()


def _prepare(url: str) -> tuple[str, str]:
    """Make the bucket and an account with all rights in it; from then on the server checks signatures."""
    with httpx.Client(base_url=url, trust_env=False) as client:
        client.put(f"/{BUCKET}").raise_for_status()
        user = {"UserName": "server"}
        _call(client, "CreateUser", user)
        _call(client, "PutUserPolicy", {**user, "PolicyName": "all", "PolicyDocument": _ALL})
        made = ElementTree.fromstring(_call(client, "CreateAccessKey", user))
        client.post("/moto-api/reset-auth", content=b"0").raise_for_status()
    found = {element.tag.rpartition("}")[2]: element.text or "" for element in made.iter()}
    return found["AccessKeyId"], found["SecretAccessKey"]


def _call(client: httpx.Client, action: str, arguments: dict[str, str]) -> str:
    form = {"Action": action, "Version": "2010-05-08", **arguments}
    response = client.post("/", data=form, headers={"authorization": _NOBODY, "host": "iam.amazonaws.com"})
    return response.raise_for_status().text
