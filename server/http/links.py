"""The header `Link` of pages (RFC 8288), which says the same as the cursors in their bodies."""

from __future__ import annotations

from collections.abc import Mapping

from server.http.queries import PageQuery
from server.http.routing import NO_HEADERS


def page_links(query: PageQuery, cursor: str | None, older: str | None = None) -> Mapping[str, str]:
    """The headers of a page.

    The links are relative to the address of the request (RFC 3986, section 5.4: a query alone), so they hold behind a
    proxy that serves the routes below another path.

    :param query: of the request.
    :param cursor: of the next page.
    :param older: of the page before this one, if both directions go on.
    """
    links = [
        f'<?{query.following(each)}>; rel="{relation}"'
        for each, relation in ((cursor, "next"), (older, "prev"))
        if each is not None
    ]
    return {"link": ", ".join(links)} if links else NO_HEADERS
