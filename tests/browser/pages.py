"""A server of pages that use `client/js`, under a policy that allows no script but its files."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Final

ROOT: Final = Path(__file__).parents[2]
SHOWN: Final = ("/client/js/", "/protocol/vectors/", "/tests/browser/client_pages/")


def hash_of_import_map() -> str:
    """As a policy names it: import maps are within their page, and a browser takes none without its hash."""
    page = (ROOT / "tests" / "browser" / "client_pages" / "mls.html").read_text()
    [text] = re.findall(r'<script type="importmap">(.*?)</script>', page, re.DOTALL)
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        f"script-src 'self' {hash_of_import_map()}",
        "connect-src 'self' ws://127.0.0.1:*",
        "frame-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "require-trusted-types-for 'script'",
    )
)
"""Without 'unsafe-inline' and 'unsafe-eval': a program that makes code at run time breaks, and the console says so."""


class _Pages(SimpleHTTPRequestHandler):
    extensions_map: Final = {".html": "text/html", ".js": "text/javascript", ".json": "application/json"}

    def send_head(self):  # type: ignore[no-untyped-def]
        if not self.path.startswith(SHOWN):
            self.send_error(404)
            return None
        return super().send_head()

    def end_headers(self) -> None:
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("Cache-Control", "no-store")
        super().end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serve_pages() -> Generator[str]:
    """The URL below which `client_pages/` of this folder is at `/tests/browser/client_pages/`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Pages, directory=str(ROOT)))
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
