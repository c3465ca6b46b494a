"""AWS Signature Version 4: authenticates a request to an S3-compatible service.

https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html;
`docs/decisions/0022-object-store.md` explains why this is not a library.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from hashlib import sha256
from typing import Final
from urllib.parse import quote

ALGORITHM: Final = "AWS4-HMAC-SHA256"


def signed_headers(
    method: str,
    path: str,
    query: Mapping[str, str],
    headers: Mapping[str, str],
    body: bytes,
    *,
    access_key: str,
    secret_key: str,
    region: str,
    date: str,
) -> dict[str, str]:
    """The headers of a request with those that authenticate it; all of them are signed.

    :param path: as sent, percent-encoded: S3 does not encode it again.
    :param query: not encoded; `encoded` returns it as sent.
    :param headers: names in lower case, `host` among them.
    :param date: the current time, as in 20130524T000000Z.
    """
    digest = sha256(body).hexdigest()
    headers = {**headers, "x-amz-content-sha256": digest, "x-amz-date": date}
    names = sorted(headers)
    signed = ";".join(names)
    canonical_headers = "".join(f"{name}:{' '.join(headers[name].split())}\n" for name in names)
    request = "\n".join((method, path, encoded(query), canonical_headers, signed, digest))
    scope = f"{date[:8]}/{region}/s3/aws4_request"
    to_sign = "\n".join((ALGORITHM, date, scope, sha256(request.encode()).hexdigest()))
    signature = _hmac(_key(secret_key, scope), to_sign).hex()
    credential = f"Credential={access_key}/{scope}"
    return {**headers, "authorization": f"{ALGORITHM} {credential},SignedHeaders={signed},Signature={signature}"}


def encoded(query: Mapping[str, str]) -> str:
    """A query string in canonical form: sorted, and all but unreserved characters percent-encoded."""
    return "&".join(sorted(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in query.items()))


def _key(secret_key: str, scope: str) -> bytes:
    key = f"AWS4{secret_key}".encode()
    for part in scope.split("/"):
        key = _hmac(key, part)
    return key


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")
