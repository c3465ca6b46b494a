"""Signatures are those that AWS publishes ("Authenticating Requests: Using the Authorization Header")."""

from __future__ import annotations

import pytest

from store.objects.sigv4 import SigningKey, encoded, presigned_query, signed_headers

HOST = {"host": "examplebucket.s3.amazonaws.com"}
CREDENTIALS = SigningKey("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "us-east-1")


@pytest.mark.parametrize(
    ("method", "path", "query", "headers", "body", "signature"),
    [
        (
            "GET",
            "/test.txt",
            {},
            {"range": "bytes=0-9"},
            b"",
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
        (
            "PUT",
            "/test%24file.text",
            {},
            {"date": "Fri, 24 May 2013 00:00:00 GMT", "x-amz-storage-class": "REDUCED_REDUNDANCY"},
            b"Welcome to Amazon S3.",
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
        ),
        (
            "GET",
            "/",
            {"lifecycle": ""},
            {},
            b"",
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
        ),
        (
            "GET",
            "/",
            {"prefix": "J", "max-keys": "2"},
            {},
            b"",
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ],
    ids=["get an object", "put an object", "get a bucket's lifecycle", "list objects"],
)
def test_signature_is_the_published_one(
    method: str, path: str, query: dict[str, str], headers: dict[str, str], body: bytes, signature: str
) -> None:
    signed = signed_headers(
        method,
        path,
        query,
        {**HOST, **headers},
        body,
        credentials=CREDENTIALS,
        date="20130524T000000Z",
    )
    assert signed["authorization"].endswith(f",Signature={signature}")


def test_query_is_sorted_and_encoded_to_the_last_reserved_character() -> None:
    assert encoded({"b": "a b/ü+&=~", "a": ""}) == "a=&b=a%20b%2F%C3%BC%2B%26%3D~"


def test_presigned_query_is_the_published_one() -> None:
    """ "Authenticating Requests: Using Query Parameters"."""
    query = presigned_query(
        "GET", "/test.txt", {}, HOST, credentials=CREDENTIALS, date="20130524T000000Z", expires_s=86400
    )
    assert query == (
        "X-Amz-Algorithm=AWS4-HMAC-SHA256"
        "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"
        "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
        "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    )


def test_credentials_do_not_show_themselves() -> None:
    assert repr(CREDENTIALS) == "SigningKey(us-east-1)"
