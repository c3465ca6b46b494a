"""The routes of the HTTP interface, one file for each resource. `server.http.routing` says how to declare one.

A new route is a handler in one of these files, a struct for its body in `server.http.bodies`, one for its answer in
`server.http.answers`, an example in `server.http.reference.examples`, and a test (`docs/adding.md`).
"""

from __future__ import annotations

from typing import Final

from server.http.routes import (
    account_deletions,
    accounts,
    attachments,
    contacts,
    conversations,
    devices,
    emails,
    exports,
    group_states,
    health,
    keys,
    mail_links,
    message_requests,
    messages,
    notifiers,
    ops,
    ops_page,
    participants,
    password_resets,
    passwords,
    profiles,
    quiet_hours,
    reference,
    registration,
    security_events,
    web_client,
)
from server.http.routing import Access, Route

_FILES: Final = (
    registration,
    accounts,
    account_deletions,
    password_resets,
    exports,
    devices,
    keys,
    passwords,
    security_events,
    profiles,
    emails,
    mail_links,
    notifiers,
    quiet_hours,
    contacts,
    conversations,
    messages,
    attachments,
    participants,
    message_requests,
    group_states,
    health,
    reference,
    ops,
    ops_page,
    web_client,
)

ROUTES: Final[tuple[Route, ...]] = tuple(route for file in _FILES for route in file.routes.declared)

OPEN: Final = {
    "GET /v1/registration": "a client asks before its user chooses a name",
    "POST /v1/users": "a new user has no device yet",
    "POST /v1/devices": "the password is checked",
    "POST /v1/email/verifications": "the token is from a mail",
    "GET /v1/email/verifications/<token>": "a browser follows the link in a mail; nothing is read or changed",
    "POST /v1/email/verifications/<token>": "the token is from a mail",
    "GET /v1/unsubscribe/<token>": "a browser follows the link in a mail; nothing is read or changed",
    "POST /v1/unsubscribe/<token>": "the token is from a mail",
    "POST /v1/password-resets": "a user who does not know the password has no device",
    "PUT /v1/password-resets": "the token is from a mail",
    "GET /v1/password-resets/<token>": "a browser follows the link in a mail; nothing is read or changed",
    "POST /v1/password-resets/<token>": "the token is from a mail",
    "GET /healthz": "load balancers and supervisors have no token",
    "GET /readyz": "load balancers and supervisors have no token",
    "GET /openapi.json": "programs read it before they have a token",
    "GET /docs": "browsers show it to developers",
    "GET /ops": "the page that asks for the operators' token; it has no data",
    "GET /ops/page.css": "a file of that page",
    "GET /ops/page.js": "a file of that page",
    "GET /ops/charts.js": "a file of that page",
    "GET /ops/icon.svg": "a file of that page",
    "GET /app": "the web client, in which a user logs in; it has no data",
    "GET /app/<path:file>": "a file of the web client",
}
"""All routes that ask for no token -> the reason. The process does not start if a declaration says otherwise."""

if {route.rule for route in ROUTES if route.access is Access.OPEN} != OPEN.keys():
    raise ValueError("server.http.routes.OPEN must list all routes that are declared open, and no others")
