"""OBJECT_STORE_URL: which object store a deployment uses.

| form | |
|---|---|
| `file:///PATH` | a folder; several machines must see the same one |
| `s3://KEY:SECRET@HOST[:PORT]/BUCKET` | an existing bucket of an S3-compatible service |

`KEY` and `SECRET` are percent-encoded. `?region=` is `auto` by default, which Cloudflare R2 uses; AWS needs its own.
`?tls=false` is for a service on this machine. `?part_checksums=false` is for a service that takes no SHA-256 with the
parts of a multipart upload; R2 has it by itself. Certificates are checked against the system's authorities, or those of
SSL_CERT_FILE.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import httpx

from store.objects.bucket import Bucket
from store.objects.folder import Folder
from store.objects.s3 import CONNECTIONS, S3
from store.objects.s3_copied_parts import CopyingS3
from store.objects.sigv4 import SigningKey

_FILE: Final = re.compile(r"file://(?:localhost)?(/[^?#\0]*)")
_S3: Final = re.compile(
    r"s3://(?P<key>[^/?#:@]+):(?P<secret>[^/?#:@]+)@(?P<host>(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>\d{1,5}))?)"
    r"/(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/?(?:\?(?P<query>[^#]*))?"
)
_QUERY: Final = re.compile(
    r"region=(?P<region>[A-Za-z0-9-]+)|tls=(?P<tls>true|false)|part_checksums=(?P<part_checksums>true|false)"
)

R2: Final = ".r2.cloudflarestorage.com"
"""The end of the hosts of Cloudflare R2, which answers 501 to a part with a SHA-256."""


def objects_url_fault(url: str) -> str:
    """The fault of a URL; empty if it has none. The text repeats no part of the URL: any may be the secret."""
    try:
        parse_objects_url(url)
    except ValueError as error:
        return str(error)
    return ""


def public_url_fault(public_url: str, url: str) -> str:
    """The reason why presigned requests cannot name this public URL; empty if they can.

    :param url: of the object store, without a fault.
    """
    if isinstance(parse_objects_url(url), Bucket) and urlsplit(public_url).path not in ("", "/"):
        return "must have no path, since OBJECT_STORE_URL names a bucket: the path of the bucket is what is signed"
    return ""


def parse_objects_url(url: str, public_url: str = "") -> Path | Bucket | None:
    """The folder or the bucket that a URL names; None for an empty one.

    :param public_url: of the bucket.
    :raises ValueError: the text says what the URL should be, and repeats no part of it.
    """
    if not url:
        return None
    if folder := _FILE.fullmatch(url):
        return Path(unquote(folder[1]))
    found = _S3.fullmatch(url)
    if found is None:
        raise ValueError(
            "must be file:///PATH, or s3://KEY:SECRET@HOST[:PORT]/BUCKET with special characters of KEY and SECRET"
            " percent-encoded, or empty"
        )
    if int(found["port"] or 0) > 65535:
        raise ValueError("must have a port of 0 to 65535")
    region, tls = "auto", "true"
    part_checksums = "false" if found["host"].partition(":")[0].lower().endswith(R2) else "true"
    for each in filter(None, (found["query"] or "").split("&")):
        option = _QUERY.fullmatch(each)
        if option is None:
            raise ValueError("must have only region=NAME, tls=false and part_checksums=false in its query")
        region, tls = option["region"] or region, option["tls"] or tls
        part_checksums = option["part_checksums"] or part_checksums
    return Bucket(
        host=found["host"],
        name=found["bucket"],
        credentials=SigningKey(unquote(found["key"]), unquote(found["secret"]), region),
        tls=tls == "true",
        part_checksums=part_checksums == "true",
        public_url=public_url.rstrip("/"),
    )


async def keep_time(objects: Folder | S3 | None) -> None:
    """Until cancelled, keep the time by a service's clock, which ends the requests that this process signs.

    A folder has the clock of this machine.
    """
    if isinstance(objects, S3):
        await objects.keep_time()


@asynccontextmanager
async def open_objects(url: str, public_url: str = "", web_url: str = "") -> AsyncGenerator[Folder | S3 | None, None]:
    """The object store of this URL for the length of the block; None for an empty URL. Sends no request to a service.

    :param public_url: scheme and host that presigned requests to a service name, if they are not those of `url`.
    :param web_url: the URL where clients reach `web`, which serves the files of a folder.
    :raises ValueError: if the URL cannot be read.
    :raises ObjectStoreRefused: if the folder cannot be created.
    """
    place = parse_objects_url(url, public_url)
    if place is None:
        yield None
    elif isinstance(place, Path):
        folder = Folder(place, web_url)
        await folder.start()
        yield folder
    else:
        limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)
        # The deadlines are ours, for whole calls: httpx' own apply to each read.
        async with httpx.AsyncClient(limits=limits, timeout=None) as client:  # noqa: S113
            yield S3(place, client) if place.part_checksums else CopyingS3(place, client)
