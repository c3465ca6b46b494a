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

from msgspec import Struct

ALGORITHM: Final = "AWS4-HMAC-SHA256"
UNSIGNED_PAYLOAD: Final = "UNSIGNED-PAYLOAD"


class SigningKey(Struct, frozen=True):
    """An access key, its secret, and the region that signatures name."""

    access_key: str
    secret_key: str
    region: str

    def __repr__(self) -> str:
        return f"SigningKey({self.region})"


def signed_headers(
    method: str,
    path: str,
    query: Mapping[str, str],
    headers: Mapping[str, str],
    body: bytes,
    *,
    credentials: SigningKey,
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
    scope = _scope(credentials, date)
    signature = _signature(method, path, query, headers, digest, credentials=credentials, date=date)
    credential = f"Credential={credentials.access_key}/{scope}"
    signed = _signed_names(headers)
    return {**headers, "authorization": f"{ALGORITHM} {credential},SignedHeaders={signed},Signature={signature}"}


def presigned_query(
    method: str,
    path: str,
    query: Mapping[str, str],
    headers: Mapping[str, str],
    *,
    credentials: SigningKey,
    date: str,
    expires_s: int,
) -> str:
    """The query string, as sent, with which anybody may send a request of any body until `expires_s` after `date`.

    The parameters are those of `signed_headers`; the request has to have all `headers`, as they are here.
    https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
    """
    query = {
        **query,
        "X-Amz-Algorithm": ALGORITHM,
        "X-Amz-Credential": f"{credentials.access_key}/{_scope(credentials, date)}",
        "X-Amz-Date": date,
        "X-Amz-Expires": str(expires_s),
        "X-Amz-SignedHeaders": _signed_names(headers),
    }
    signature = _signature(method, path, query, headers, UNSIGNED_PAYLOAD, credentials=credentials, date=date)
    return f"{encoded(query)}&X-Amz-Signature={signature}"


def encoded(query: Mapping[str, str]) -> str:
    """A query string in canonical form: sorted, and all but unreserved characters percent-encoded."""
    return "&".join(sorted(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in query.items()))


def _signature(
    method: str,
    path: str,
    query: Mapping[str, str],
    headers: Mapping[str, str],
    payload: str,
    *,
    credentials: SigningKey,
    date: str,
) -> str:
    canonical_headers = "".join(f"{name}:{' '.join(headers[name].split())}\n" for name in sorted(headers))
    request = "\n".join((method, path, encoded(query), canonical_headers, _signed_names(headers), payload))
    scope = _scope(credentials, date)
    to_sign = "\n".join((ALGORITHM, date, scope, sha256(request.encode()).hexdigest()))
    return _hmac(_key(credentials.secret_key, scope), to_sign).hex()


def _signed_names(headers: Mapping[str, str]) -> str:
    return ";".join(sorted(headers))


def _scope(credentials: SigningKey, date: str) -> str:
    return f"{date[:8]}/{credentials.region}/s3/aws4_request"


def _key(secret_key: str, scope: str) -> bytes:
    key = f"AWS4{secret_key}".encode()
    for part in scope.split("/"):
        key = _hmac(key, part)
    return key


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")
