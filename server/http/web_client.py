"""The web client that `web` serves at `/app`: a closed list of files, and the policy under which a browser runs them.

The files are those of `client/web` and `client/js`, and those of npm packages that the page's import map names. A path
that is not in the list is not looked up on the disk.
"""

from __future__ import annotations

import html
import json
import re
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from msgspec import Struct
from msgspec.structs import replace

from runtime.config import Config
from server.http.compression import CompressedForms
from store.objects.bucket import Bucket
from store.objects.url import parse_objects_url

CLIENTS: Final = Path(__file__).parents[2] / "client"
"""The folder with `web` and `js`."""

PAGE: Final = ""
"""The name of the page among the files."""

PREFIX: Final = "/app/"

MEDIA_TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".mjs": "text/javascript", ".svg": "image/svg+xml"}

_IMPORT_MAP: Final = re.compile(r'<script type="importmap">(.*?)</script>', re.DOTALL)
_OWN: Final = (
    "web/*.js",
    "web/*.css",
    "web/*.svg",
    "js/*.js",
    "js/e2ee/*.js",
    "js/stores/indexeddb.js",
    "js/stores/memory.js",
)
_GATEWAYS: Final = 'content="" name="gateways"'
_TAG_BYTES: Final = 12

_MISSING: Final = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<title>ALO Shield: packages are missing</title>
<h1>The web client's packages are missing</h1>
<p>Not here: {packages}.</p>
<p><code>make run</code> installs them from npm when it has a network, and says why if it cannot. Everything else works
without them: <code>.venv/bin/python -m client --help</code> is a client for the terminal.</p>
"""


class ClientFile(Struct, frozen=True):
    """A file of the web client.

    :ivar tag: equal tags mean equal bytes, and for the page the same policy.
    """

    body: bytes
    media_type: str
    tag: str
    forms: CompressedForms


class WebClient:
    """The files of the web client, read once.

    :param gateways: URLs of `socket` that the page connects to.
    :param files: the URL of the object store for clients; empty if the deployment has none.
    :ivar headers: of all answers: the policy among them.
    :ivar missing: names of npm packages that are not installed. Without them there is a page that says so.
    """

    def __init__(self, gateways: Sequence[str], files: str = "", folder: Path = CLIENTS) -> None:
        page = (folder / "web" / "index.html").read_text()
        [import_map] = _IMPORT_MAP.findall(page)
        packages = dict(_packages(folder, import_map))
        self.missing: Final = sorted(name for name, found in packages.items() if not found)
        self.headers: Final = _headers(gateways, files, import_map)
        paths = [path for pattern in _OWN for path in folder.glob(pattern)]
        self._files = {str(path.relative_to(folder)): _file(path.read_bytes(), path.suffix) for path in paths}
        for found in packages.values():
            self._files |= {name: _file(path.read_bytes(), path.suffix) for name, path in found.items()}
        shown = page.replace(_GATEWAYS, _GATEWAYS.replace('""', f'"{html.escape(" ".join(gateways))}"'))
        if self.missing:
            shown = _MISSING.format(packages=html.escape(", ".join(self.missing)))
        made = _file(shown.encode(), ".html")
        # Browsers may keep the policy of a page that `304` confirms: another policy needs another tag.
        self._files[PAGE] = replace(made, tag=_tag(made.body + json.dumps(dict(self.headers)).encode()))

    def file(self, name: str) -> ClientFile | None:
        """A file by its path below `/app/`; None if the list does not have it."""
        return self._files.get(name)

    @property
    def names(self) -> set[str]:
        return set(self._files)


def web_client_of(config: Config) -> WebClient | None:
    """The web client of the deployment; None if it has none.

    :raises OSError: if its own files cannot be read.
    """
    if not config.web_client:
        return None
    gateways = [each.strip() for each in config.public_socket_url.split(",") if each.strip()]
    place = parse_objects_url(config.object_store_url, config.public_files_url)
    files = place.clients_url if isinstance(place, Bucket) else config.files_url if place else ""
    return WebClient(gateways or [config.socket_url], files)


def _packages(folder: Path, import_map: str) -> Iterator[tuple[str, Mapping[str, Path]]]:
    """Each npm package of the import map, with its files by their names; no files if it is not installed."""
    for target in json.loads(import_map)["imports"].values():
        name = target.removeprefix(f"{PREFIX}npm/")
        place = folder / "web" / "node_modules" / name
        below = place if name.endswith("/") else place.parent
        modules = (*below.rglob("*.js"), *below.rglob("*.mjs")) if place.exists() else ()
        root = folder / "web" / "node_modules"
        package = "/".join(name.split("/")[: 2 if name.startswith("@") else 1])
        yield package, {f"npm/{path.relative_to(root).as_posix()}": path for path in modules}


def _file(body: bytes, suffix: str) -> ClientFile:
    media_type = MEDIA_TYPES.get(suffix, "text/html")
    return ClientFile(body, media_type, _tag(body), CompressedForms())


def _tag(content: bytes) -> str:
    return blake2b(content, digest_size=_TAG_BYTES).hexdigest()


def _headers(gateways: Sequence[str], files: str, import_map: str) -> Mapping[str, str]:
    digest = b64encode(sha256(import_map.encode()).digest()).decode()
    places = " ".join(dict.fromkeys(_origin(url) for url in (*gateways, files) if url))
    policy = (
        "default-src 'none'",
        # The import map stands in the page, since browsers take none from a file; no other script does.
        f"script-src 'self' 'sha256-{digest}'",
        "style-src 'self'",
        # Pictures come decrypted, as URLs of blobs.
        "img-src 'self' blob:",
        f"connect-src 'self' {places}",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    )
    return {
        "content-security-policy": "; ".join(policy),
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
        "referrer-policy": "no-referrer",
        "permissions-policy": "camera=(), geolocation=(), microphone=()",
    }


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
