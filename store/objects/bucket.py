"""A bucket of an S3-compatible service: its address, and the credentials for it."""

from __future__ import annotations

from dataclasses import dataclass

from store.objects.sigv4 import SigningKey


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket. It is part of the path, not of the host name: every service accepts that form.

    :ivar host: with its port, unless it is the scheme's.
    :ivar part_checksums: whether the service takes a SHA-256 with each part of a multipart upload.
    :ivar public_url: scheme and host where clients reach the service; empty if they are those of the server.
    """

    host: str
    name: str
    credentials: SigningKey
    tls: bool = True
    part_checksums: bool = True
    public_url: str = ""

    def __str__(self) -> str:
        """For logs, without the credentials."""
        return f"{self.host}/{self.name}"

    @property
    def url(self) -> str:
        """Scheme and host where the server reaches the service."""
        return f"{'https' if self.tls else 'http'}://{self.host}"

    @property
    def clients_url(self) -> str:
        """Scheme and host where clients reach the service."""
        return self.public_url or self.url

    def path(self, key: str) -> str:
        """The path of an object; that of the bucket for an empty key."""
        return f"/{self.name}/{key}" if key else f"/{self.name}"
