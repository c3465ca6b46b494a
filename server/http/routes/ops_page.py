"""The operations page, for the browsers of operators. The page itself holds no secret; its answers need OPS_TOKEN."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Final

from server.http.routing import HtmlAnswer, Request, Routes

routes = Routes()

HEADERS: Final = {
    "cache-control": "no-store",
    # The page runs and loads its own files alone, asks this server alone, and stands in no frame.
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none';"
        " form-action 'none'; frame-ancestors 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
}

CSS: Final = "text/css"
JAVASCRIPT: Final = "text/javascript"
SVG: Final = "image/svg+xml"


@routes.page("GET /ops", is_operators_page=True)
async def get_ops_page(request: Request[None]) -> HtmlAnswer:
    """Show the operations page."""
    return _file("page.html", "text/html")


@routes.page("GET /ops/page.css", is_operators_page=True, media_type=CSS)
async def get_ops_style(request: Request[None]) -> HtmlAnswer:
    """Get the style of the operations page."""
    return _file("page.css", CSS)


@routes.page("GET /ops/page.js", is_operators_page=True, media_type=JAVASCRIPT)
async def get_ops_script(request: Request[None]) -> HtmlAnswer:
    """Get the script of the operations page."""
    return _file("page.js", JAVASCRIPT)


@routes.page("GET /ops/charts.js", is_operators_page=True, media_type=JAVASCRIPT)
async def get_ops_charts(request: Request[None]) -> HtmlAnswer:
    """Get the script of the operations page's charts."""
    return _file("charts.js", JAVASCRIPT)


@routes.page("GET /ops/icon.svg", is_operators_page=True, media_type=SVG)
async def get_ops_icon(request: Request[None]) -> HtmlAnswer:
    """Get the icon of the operations page."""
    return _file("icon.svg", SVG)


@cache
def _file(name: str, media_type: str) -> HtmlAnswer:
    text = resources.files("server.http.ops_page").joinpath(name).read_text()
    return HtmlAnswer(text, {**HEADERS, "content-type": f"{media_type}; charset=utf-8"})
