"""No answer but one has more than 1 MiB, whatever is in it, before it is compressed (`docs/http.md`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import cbor2
import msgspec

from protocol.frames import Message, Participant, Tombstone
from protocol.limits import (
    MAX_ATTACHMENTS,
    MAX_CONTENT_TYPE_BYTES,
    MAX_GROUP_STATE_BYTES,
    MAX_NONCE_BYTES,
    MAX_PARTICIPANTS,
    MAX_PASSWORD_CHARACTERS,
    MAX_PUBLIC_KEY_BYTES,
    MAX_SHOWN,
    MAX_TITLE_CHARACTERS,
    MAX_USERNAME_CHARACTERS,
)
from server.http.answers.avatars import avatar_or_none
from server.http.answers.conversations import ConversationAnswer, most_bytes, participant_body
from server.http.answers.messages import MAX_PAGE_BYTES, message_body, most_bytes_of
from server.http.encoding import IDENT, encode
from server.http.problem_codes import MAX_LARGE_BODY_BYTES
from server.http.routes import ROUTES
from store.notifiers import MAX_NOTIFIERS
from store.objects.folder import Folder
from store.postgres.pool import Pool
from tests.rows import each_row
from tests.server.http.full_data import (
    BASE,
    DEEP,
    DEVICES,
    EVEN,
    EVENTS,
    FIRST_DAY,
    GROUPS,
    LARGE,
    MESSAGES,
    NAME,
    fill,
    user_id,
)
from tests.server.http_world import CBOR, WEB_CLIENT, Api, both_encodings, open_api

OPS_TOKEN = "the operators' token"


class Ask(NamedTuple):
    """A request that is answered at length.

    :ivar body: of a write.
    :ivar entries: the name of the list in the answer, and how many entries all its pages have together.
    """

    path: str
    query: dict[str, Any] = {}  # noqa: RUF012  (nothing changes it)
    body: Any = None
    entries: tuple[str, int] | None = None
    status: int = 200


_WHOLE: Final = {"limit": 100}
_USERNAME: Final = "\U00020000" * MAX_USERNAME_CHARACTERS
_NAME: Final = '"' * MAX_TITLE_CHARACTERS
_EMAIL: Final = {"address": f"{'a' * 64}@{'.'.join(['b' * 45] * 4)}", "zone": "America/Argentina/ComodRivadavia"}
_WEBHOOK: Final = {"kind": "webhook", "url": "https://" + "\\" * 1016}
_PASSWORD: Final = 'q"\\x7 Zw' * (MAX_PASSWORD_CHARACTERS // 8)

_THUMBNAIL: Final = {"size_bytes": 1, "digest": "A" * 43 + "="}
_FILES: Final = {
    "files": [{"size_bytes": 1, "part_digests": "A" * 43 + "=", "thumbnail": _THUMBNAIL} for _ in range(10)]
}

STATE: Final = "GET /v1/conversations/<uuid:conversation>/state"
"""Its answer has 1 MiB of bytes, as the body of the PUT has."""

LONGEST: Final[dict[str, list[Ask]]] = {
    "POST /v1/users": [Ask("/v1/users", body={"username": _USERNAME, "password": _PASSWORD}, status=201)],
    "POST /v1/devices": [
        Ask("/v1/devices", body={"username": _USERNAME, "password": _PASSWORD, "name": _NAME}, status=201)
    ],
    "POST /v1/confirmations": [Ask("/v1/confirmations", body={"password": _PASSWORD}, status=401)],
    "POST /v1/password-resets": [
        Ask("/v1/password-resets", body={"address": _EMAIL["address"]}, status=202),
    ],
    "GET /v1/password-resets/<token>": [Ask(f"/v1/password-resets/{'x' * 64}")],
    "POST /v1/password-resets/<token>": [
        Ask(f"/v1/password-resets/{'x' * 64}", body={}, status=400),
    ],
    "POST /v1/exports": [Ask("/v1/exports", body={}, status=202)],
    "GET /v1/exports": [Ask("/v1/exports")],
    # No part has more than 1 MiB: tests/server/test_account_export.py.
    "GET /v1/exports/<uuid:export>/parts/<int:part>": [Ask(f"/v1/exports/{DEEP}/parts/1", status=404)],
    # As many tickets as there may be; a URL of S3 has less than 1 KiB: store/objects/test_direct.py.
    "POST /v1/attachments": [Ask("/v1/attachments", body=_FILES, status=201)],
    "GET /v1/attachments/<uuid:attachment>/parts": [Ask(f"/v1/attachments/{DEEP}/parts", status=404)],
    "POST /v1/attachments/downloads": [
        Ask("/v1/attachments/downloads", body={"attachments": [str(user_id(n)) for n in range(100)]})
    ],
    STATE: [Ask(f"/v1/conversations/{LARGE}/state")],
    "PUT /v1/keys": [Ask("/v1/keys", body={"identity": "A" * 5460 + "AA=="})],
    "GET /v1/keys": [Ask("/v1/keys")],
    "POST /v1/keys/claims": [
        Ask("/v1/keys/claims", body={"users": [str(user_id(0))], "kinds": [f"kind{n}" for n in range(8)]})
    ],
    "GET /v1/users/<uuid:user>/devices": [Ask(f"/v1/users/{user_id(0)}/devices", _WHOLE, entries=("devices", DEVICES))],
    "POST /v1/tokens": [Ask("/v1/tokens", body={}, status=201)],
    "GET /v1/users/<username>": [Ask(f"/v1/users/{quote('1'.rjust(32, _USERNAME[0]))}")],
    "GET /v1/devices": [Ask("/v1/devices", _WHOLE, entries=("devices", DEVICES))],
    # The wrong password of the confirmation and the asked export are events, too.
    "GET /v1/security-events": [Ask("/v1/security-events", _WHOLE, entries=("events", EVENTS + 2))],
    # The request is one more.
    "GET /v1/ops/security-events": [
        Ask(
            "/v1/ops/security-events",
            {**_WHOLE, "username": "0".rjust(32, _USERNAME[0])},
            entries=("events", EVENTS + 3),
        ),
    ],
    "GET /v1/profile": [Ask("/v1/profile")],
    "PATCH /v1/profile": [Ask("/v1/profile", body={"gives_receipts": True})],
    "PUT /v1/email": [Ask("/v1/email", body=_EMAIL)],
    "GET /v1/email": [Ask("/v1/email")],
    "GET /v1/email/verifications/<token>": [Ask(f"/v1/email/verifications/{'x' * 64}")],
    "POST /v1/email/verifications/<token>": [Ask(f"/v1/email/verifications/{'x' * 64}", body={}, status=404)],
    "GET /v1/unsubscribe/<token>": [Ask(f"/v1/unsubscribe/{'x' * 64}")],
    "POST /v1/unsubscribe/<token>": [Ask(f"/v1/unsubscribe/{'x' * 64}", body={}, status=404)],
    "GET /v1/notifiers/keys": [Ask("/v1/notifiers/keys")],
    "GET /v1/notifiers": [Ask("/v1/notifiers", entries=("notifiers", MAX_NOTIFIERS))],
    "POST /v1/notifiers": [Ask("/v1/notifiers", body=_WEBHOOK, status=409)],
    "GET /v1/quiet-hours": [Ask("/v1/quiet-hours")],
    "GET /v1/contacts": [Ask("/v1/contacts", _WHOLE, entries=("contacts", MAX_PARTICIPANTS - 1))],
    "POST /v1/conversations": [
        Ask(
            "/v1/conversations",
            body={"kind": "group", "name": _NAME, "participants": [str(user_id(n)) for n in range(1, 32)]},
            status=201,
        ),
        Ask(
            "/v1/conversations",
            body={
                "kind": "group",
                "name": _NAME,
                "participants": [str(user_id(n)) for n in range(1, MAX_PARTICIPANTS)],
            },
            status=403,
        ),
    ],
    "GET /v1/conversations": [
        Ask("/v1/conversations", _WHOLE, entries=("conversations", GROUPS + 4)),
        Ask("/v1/conversations", {**_WHOLE, "requests": "true"}, entries=("conversations", 0)),
    ],
    "GET /v1/conversations/<uuid:conversation>": [
        Ask(f"/v1/conversations/{each}") for each in (LARGE, DEEP, EVEN, "00000001-0000-4000-8000-000000000001")
    ],
    "GET /v1/conversations/<uuid:conversation>/messages/<int:seq>/status": [
        Ask(f"/v1/conversations/{LARGE}/messages/{BASE + 1}/status", entries=("recipients", MAX_PARTICIPANTS - 1))
    ],
    "GET /v1/conversations/<uuid:conversation>/messages": [
        Ask(f"/v1/conversations/{each}/messages", {**_WHOLE, **query}, entries=("messages", count))
        for each in (LARGE, DEEP, EVEN)
        for query, count in (
            ({}, MESSAGES),
            ({"after_seq": BASE}, MESSAGES),
            ({"around_seq": BASE + MESSAGES // 2}, MESSAGES),
        )
    ],
    "GET /v1/conversations/<uuid:conversation>/participants": [
        Ask(f"/v1/conversations/{LARGE}/participants", _WHOLE, entries=("participants", MAX_PARTICIPANTS))
    ],
    "GET /v1/ops/analytics": [
        Ask("/v1/ops/analytics", {"from": FIRST_DAY, "until": "2026-01-01"}, entries=("days", 366)),
    ],
    "GET /healthz": [Ask("/healthz")],
    "GET /v1/registration": [Ask("/v1/registration")],
    "GET /readyz": [Ask("/readyz")],
    "GET /openapi.json": [Ask("/openapi.json")],
    "GET /docs": [Ask("/docs")],
    "GET /ops": [Ask("/ops")],
    "GET /ops/page.css": [Ask("/ops/page.css")],
    "GET /ops/page.js": [Ask("/ops/page.js")],
    "GET /ops/charts.js": [Ask("/ops/charts.js")],
    "GET /ops/icon.svg": [Ask("/ops/icon.svg")],
    "GET /app": [Ask("/app")],
    "GET /app/<path:file>": [Ask("/app/web/app.js")],
    "GET /v1/ops/live": [Ask("/v1/ops/live")],
    # The last one: it logs out all devices.
    "PUT /v1/account/deletion": [Ask("/v1/account/deletion", body={})],
}
"""Each route whose answers have a body -> requests that fill the answer as far as it goes, after `fill`."""


def test_each_route_whose_answers_have_a_body_is_in_the_table() -> None:
    assert LONGEST.keys() == {route.rule for route in ROUTES if route.answer is not None}


@both_encodings
async def test_no_answer_has_more_than_a_mebibyte(pool: Pool, redis_url: str, encoding: str, tmp_path: Path) -> None:
    user = await fill(pool)
    await fill_state(pool)
    folder = Folder(tmp_path)
    await folder.start()
    lengths: dict[str, int] = {}
    async with open_api(pool, redis_url, encoding, ops_token=OPS_TOKEN, web_client=WEB_CLIENT, objects=folder) as api:
        for rule, asks in LONGEST.items():
            asking = api.of(OPS_TOKEN if "/v1/ops/" in rule else user.token)
            for ask in asks:
                lengths[rule] = max(lengths.get(rule, 0), await longest(asking, rule.partition(" ")[0], ask))
    assert MAX_GROUP_STATE_BYTES < lengths.pop(STATE) <= MAX_LARGE_BODY_BYTES
    assert {rule: length for rule, length in lengths.items() if length > MAX_PAGE_BYTES} == {}
    # The data fills the pages: a bound that nothing comes near to is not tested.
    assert lengths["GET /v1/conversations"] > MAX_PAGE_BYTES * 0.5
    assert lengths["GET /v1/conversations/<uuid:conversation>/messages"] > MAX_PAGE_BYTES * 0.5


async def fill_state(pool: Pool) -> None:
    await pool.fetch("update conversations set control_seq = last_seq where id = %s", (LARGE,))
    await pool.fetch(
        "insert into group_states (conversation_id, control_seq, user_id, device_id, body)"
        " select id, control_seq, (select u.id from users u limit 1), id, convert_to(repeat('x', %s), 'UTF8')"
        " from conversations where id = %s",
        (MAX_GROUP_STATE_BYTES, LARGE),
    )


async def longest(api: Api, method: str, ask: Ask) -> int:
    """The length of the longest answer to a request, and to those for its further pages. Together they have all entries
    once."""
    data = await answer_to(api, method, ask, ask.query)
    lengths = [len(data)]
    if ask.entries is None:
        return lengths[0]
    name, count = ask.entries
    first = decoded(api, data)
    found = first[name]
    shared = {key: value for key, value in ask.query.items() if key in ("limit", "requests", "username")}
    for cursor in (first.get("cursor"), first.get("older")):
        while cursor is not None:
            data = await answer_to(api, method, ask, {**shared, "cursor": cursor})
            lengths.append(len(data))
            page = decoded(api, data)
            assert page[name]
            found += page[name]
            cursor = page["cursor"]
    assert len(found) == len({repr(entry) for entry in found}) == count, ask
    return max(lengths)


async def answer_to(api: Api, method: str, ask: Ask, query: dict[str, Any]) -> bytes:
    headers = {"Authorization": f"Bearer {api.token}", "Accept": CBOR if api.encoding == "cbor" else "*/*"}
    what: dict[str, Any] = {"query_string": query} if query else {}
    if ask.body is not None:
        what["json"] = ask.body
    response = await api.app.test_client().open(ask.path, method=method, headers=headers, **what)
    data = await response.get_data()
    assert response.status_code == ask.status, (ask, data[:300])
    return bytes(data)


def decoded(api: Api, data: bytes) -> Any:
    return cbor2.loads(data) if api.encoding == "cbor" else msgspec.json.decode(data)


def test_a_conversation_and_a_message_count_at_least_as_many_bytes_as_they_have() -> None:
    user, great, small = bytes(16), 2**63 - 1, 2**31 - 1
    message = Message(
        conversation=user,
        seq=great,
        message=user,
        created=great,
        sender=user,
        device=user,
        content_type="\x01" * MAX_CONTENT_TYPE_BYTES,
        content=b"x",
        nonce=bytes(MAX_NONCE_BYTES),
        ephemeral_public_key=bytes(MAX_PUBLIC_KEY_BYTES),
        revision=small,
        edited=great,
        reply_to=great,
        attachments=[user] * MAX_ATTACHMENTS,
        thumbnail=b"x",
        has_envelopes=True,
        follows=great,
        envelope=b"x",
    )
    tombstone = Tombstone(user, great, user, great, user, None, user)
    avatar = (user, great, bytes(32))
    participant = Participant(user, small, _USERNAME, great, great, great, False, NAME, great, user, avatar)
    conversation = ConversationAnswer(
        conversation=IDENT["json"](user),
        kind="direct",
        name=NAME,
        avatar=avatar_or_none(avatar, "json"),
        created=great,
        first_seq=great,
        last_seq=great,
        participants_version=great,
        joiners_see_all=False,
        devices_version=great,
        control_seq=great,
        lifetime_s=small,
        muted_until=great,
        is_request=False,
        asked_by=IDENT["json"](user),
        actor=IDENT["json"](user),
        unread_count=great,
        participants=[participant_body(participant, "json")] * MAX_SHOWN,
        participant_count=MAX_PARTICIPANTS,
        last_message=None,
    )
    for each in (message_body(message, "json"), message_body(tombstone, "json")):
        assert len(encode(each, "json")) <= most_bytes_of(each)
        whole = msgspec.structs.replace(conversation, last_message=each)
        assert len(encode(whole, "json")) <= most_bytes(whole)
    lone = msgspec.structs.replace(conversation, participants=[])
    assert len(encode(lone, "json")) <= most_bytes(lone)


@each_row("character", ["\x01", "\x7f", '"', "\\", "\u20ac", "\U0001f600"])
def test_json_escapes_no_character_with_more_bytes_than_those_of_the_data(character: str) -> None:
    assert len(msgspec.json.encode(character)) <= len(msgspec.json.encode(NAME[0]))
