"""The certificate authorities that the client trusts: the machine's, or those that SSL_CERT_FILE names."""

from __future__ import annotations

import os
import ssl
from typing import Final

import certifi

from client.errors import InvalidAuthorities

BUNDLES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
"""The bundles of Debian, Fedora, openSUSE, and of Alpine and the BSDs: an interpreter that was built elsewhere brings
an OpenSSL that looks in another place."""


def trusting_context() -> ssl.SSLContext:
    """The context for a connection to a server, which must show a certificate for its name.

    SSL_CERT_FILE and SSL_CERT_DIR replace the machine's authorities, as they do in OpenSSL. Where the machine has none,
    Mozilla's count, from the package certifi.

    :raises InvalidAuthorities: if one of the two is set and cannot be used.
    """
    file, folder = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    if file or folder:
        return _context(file or None, folder or None)
    paths = ssl.get_default_verify_paths()
    if paths.cafile or paths.capath:
        return ssl.create_default_context()
    return _context(next(filter(os.path.isfile, BUNDLES), certifi.where()), None)


def _context(file: str | None, folder: str | None) -> ssl.SSLContext:
    if folder is not None and not any(map(os.path.isdir, folder.split(os.pathsep))):
        raise InvalidAuthorities(f"SSL_CERT_DIR must be a folder of certificates: {folder} is not one")
    try:
        return ssl.create_default_context(cafile=file, capath=folder)
    except ssl.SSLError:
        raise InvalidAuthorities(f"SSL_CERT_FILE must hold certificates in PEM: {file} holds none") from None
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else "it cannot be read"
        raise InvalidAuthorities(f"SSL_CERT_FILE must be a file of certificates: {file}: {why}") from None
