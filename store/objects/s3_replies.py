"""The bodies of S3's answers, and of the one request that has XML.

Readers raise ValueError for a body that they cannot read. Names have no namespaces here: some services leave them out.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from datetime import datetime
from xml.etree import ElementTree

from msgspec import Struct

from store.objects.direct import OpenMultipart, Part
from store.objects.interface import Listing, StoredObject


class StoredPart(Struct, frozen=True):
    """A part that the service has.

    :ivar etag: the service's name of these bytes, which a join has to repeat.
    """

    part: Part
    etag: str


class PartsPage(Struct, frozen=True):
    """A page of the parts of a multipart upload.

    :ivar after: the parameter `part-number-marker` of the next page; empty on the last one.
    """

    parts: Sequence[StoredPart]
    after: str


class MultipartsPage(Struct, frozen=True):
    """A page of multipart uploads.

    :ivar after: the parameters of the next page; empty on the last one.
    """

    uploads: Sequence[OpenMultipart]
    after: Mapping[str, str]


def parse(reply: bytes) -> ElementTree.Element:
    """
    :raises ValueError: if the reply is not XML.
    """
    try:
        # Expat limits the size of entities, and the operator has chosen the service.
        root = ElementTree.fromstring(reply)  # noqa: S314
    except ElementTree.ParseError as error:
        raise ValueError(error) from None
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


def code_of(reply: bytes) -> str:
    """S3's code of an error; empty if the reply has none."""
    try:
        root = parse(reply)
    except ValueError:
        return ""
    code = root.findtext("Code") or ""
    return code if root.tag == "Error" and code.isalnum() and len(code) < 64 else ""


def read_objects(reply: bytes) -> Listing:
    """The answer to ListObjectsV2."""
    return [
        StoredObject(_text(each, "Key"), int(_text(each, "Size")), _time(each, "LastModified"))
        for each in parse(reply).iter("Contents")
    ]


def read_tags(reply: bytes) -> dict[str, str]:
    """The same answer: the tag of each object, by its key."""
    return {_text(each, "Key"): _text(each, "ETag") for each in parse(reply).iter("Contents")}


def read_upload(reply: bytes) -> str:
    """The answer to CreateMultipartUpload: the name of the upload."""
    return _text(parse(reply), "UploadId")


def read_parts(reply: bytes) -> PartsPage:
    """The answer to ListParts."""
    root = parse(reply)
    parts = [
        StoredPart(
            Part(int(_text(each, "PartNumber")), int(_text(each, "Size")), _digest(_text(each, "ChecksumSHA256"))),
            _text(each, "ETag"),
        )
        for each in root.iter("Part")
    ]
    return PartsPage(parts, _text(root, "NextPartNumberMarker") if _is_truncated(root) else "")


def read_multiparts(reply: bytes) -> MultipartsPage:
    """The answer to ListMultipartUploads."""
    root = parse(reply)
    uploads = [
        OpenMultipart(_text(each, "Key"), _text(each, "UploadId"), _time(each, "Initiated"))
        for each in root.iter("Upload")
    ]
    # Garage refuses an empty name of an upload.
    markers = {"key-marker": _text(root, "NextKeyMarker"), "upload-id-marker": _text(root, "NextUploadIdMarker")}
    after = {name: value for name, value in markers.items() if value}
    return MultipartsPage(uploads, after if _is_truncated(root) else {})


def read_copy(reply: bytes) -> str:
    """The answer to UploadPartCopy: the tag of the part."""
    root = parse(reply)
    if root.tag != "CopyPartResult":
        raise ValueError(f"a {root.tag} instead of a CopyPartResult")
    return _text(root, "ETag")


def join_of(parts: Sequence[Part], etags: Mapping[int, str], *, has_digests: bool = True) -> bytes:
    """The body of CompleteMultipartUpload.

    :param etags: the tag of each part, by its number.
    :param has_digests: whether the service compares the digests of the parts.
    """
    root = ElementTree.Element("CompleteMultipartUpload", xmlns="http://s3.amazonaws.com/doc/2006-03-01/")
    for part in parts:
        element = ElementTree.SubElement(root, "Part")
        if has_digests:
            ElementTree.SubElement(element, "ChecksumSHA256").text = base64_of(part.digest)
        ElementTree.SubElement(element, "ETag").text = etags[part.number]
        ElementTree.SubElement(element, "PartNumber").text = str(part.number)
    return ElementTree.tostring(root)


def base64_of(digest: bytes) -> str:
    return b64encode(digest).decode()


def digest_of(checksum: str) -> bytes:
    """The 32 bytes of a SHA-256 in base64; a composite one ends with the number of its parts.

    :raises ValueError: if the text is none.
    """
    digest = b64decode(checksum.partition("-")[0], validate=True)
    if len(digest) != 32:
        raise ValueError("a SHA-256 has not 32 bytes")
    return digest


def _digest(checksum: str) -> bytes:
    """Empty if there is none: not every service lists those that it has checked."""
    return digest_of(checksum) if checksum else b""


def _text(element: ElementTree.Element, name: str) -> str:
    return element.findtext(name) or ""


def _time(element: ElementTree.Element, name: str) -> int:
    return round(datetime.fromisoformat(_text(element, name)).timestamp() * 1_000_000)


def _is_truncated(root: ElementTree.Element) -> bool:
    return _text(root, "IsTruncated") == "true"
