"""Texts of bodies: each has a rule, and names that other users see are refused or kept in their normal form."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from msgspec.inspect import CollectionType, Metadata, StrType, UnionType, type_info

from server.http import attachment_bodies, bodies, notifiers
from server.http.decoding import InvalidBody, decode
from server.http.texts import visible_fields
from store.postgres.pool import Pool
from tests.people import make_contacts, new_user
from tests.server.http_world import PASSWORD, both_encodings, open_api

USERNAME = "runtime.usernames"
PASSWORD_RULE = "server.http.password_rules"
VISIBLE = "protocol.visible_text"
OPAQUE = "compared or called by programs, and shown to nobody else"

TEXTS: dict[tuple[str, str], str] = {
    ("Register", "username"): USERNAME,
    ("LogIn", "username"): USERNAME,
    ("Register", "password"): PASSWORD_RULE,
    ("LogIn", "password"): PASSWORD_RULE,
    ("Register", "invitation"): OPAQUE,
    ("LogIn", "invitation"): OPAQUE,
    ("LogIn", "external_token"): OPAQUE,
    ("Confirm", "external_token"): OPAQUE,
    ("Confirm", "password"): PASSWORD_RULE,
    ("ChangePassword", "old_password"): PASSWORD_RULE,
    ("ChangePassword", "new_password"): PASSWORD_RULE,
    ("LogIn", "name"): VISIBLE,
    ("LogIn", "client"): "ASCII that can be seen, and spaces",
    ("NewFile", "media_type"): "ASCII that can be seen",
    ("NewGroup", "name"): VISIBLE,
    ("PatchConversation", "name"): VISIBLE,
    ("PatchProfile", "display_name"): VISIBLE,
    ("ResetPassword", "new_password"): PASSWORD_RULE,
    ("ResetPasswordForm", "new_password"): PASSWORD_RULE,
    ("ResetPassword", "token"): OPAQUE,
    ("AskPasswordReset", "username"): USERNAME,
    ("AskPasswordReset", "address"): "runtime.email_address",
    ("PutEmail", "address"): "runtime.email_address",
    ("PutEmail", "zone"): "a zone of the IANA database",
    ("PutQuietHours", "zone"): "a zone of the IANA database",
    ("Verify", "token"): OPAQUE,
    ("NewWebhook", "url"): OPAQUE,
    ("NewWebPush", "endpoint"): OPAQUE,
    ("Keys", "p256dh"): OPAQUE,
    ("Keys", "auth"): OPAQUE,
    ("NewApns", "token"): OPAQUE,
    ("NewFcm", "token"): OPAQUE,
}
"""Struct and field -> the module of its rule, or the rule in words."""

SHOWN = [field for field, rule in TEXTS.items() if rule is VISIBLE]
HARMFUL = ["a\0", "a\nb", "a\x1b[2J", "a\u202eb", "a\u2066b", "a\u200bb", "\u200d", "\u3164", " ", "a\ue000", "x" * 129]


def test_each_text_of_a_body_has_a_rule() -> None:
    """A new field with a text fails here until it has a row."""
    structs = [
        struct
        for module in (attachment_bodies, bodies, notifiers)
        for struct in vars(module).values()
        if isinstance(struct, type) and issubclass(struct, msgspec.Struct) and struct.__module__ == module.__name__
    ]
    infos: list[Any] = [type_info(struct) for struct in structs]
    found = {(info.cls.__name__, field.name) for info in infos for field in info.fields if has_text(field.type)}
    assert found == TEXTS.keys()
    assert {(struct.__name__, field) for struct in structs for field in visible_fields(struct)} == set(SHOWN)


def has_text(info: Any) -> bool:
    match info:
        case StrType():
            return True
        case Metadata(type=inner) | CollectionType(item_type=inner):
            return has_text(inner)
        case UnionType(types=types):
            return any(map(has_text, types))
    return False


OTHERS = {
    "LogIn": {"username": "alice", "password": PASSWORD},
    "NewGroup": {"kind": "group", "participants": ["00000000-0000-4000-8000-000000000000"]},
    "PatchConversation": {},
    "PatchProfile": {},
}


@pytest.mark.parametrize(("struct", "field"), SHOWN, ids=str)
def test_a_name_that_harms_what_stands_beside_it_is_refused_by_field(struct: str, field: str) -> None:
    type_ = getattr(bodies, struct)
    good = {**OTHERS[struct], field: " Ann \u3000 Le\u0301a "}
    assert getattr(decode(json.dumps(good).encode(), "json", type_), field) == "Ann Léa"
    for text in HARMFUL:
        with pytest.raises(InvalidBody) as caught:
            decode(json.dumps(good | {field: text}).encode(), "json", type_)
        assert caught.value.pointer == f"#/{field}", ascii(text)
        assert str(caught.value).startswith(f"the {field} must "), ascii(text)
    for value in (5, True, [], {}):
        with pytest.raises(InvalidBody, match=f"^Expected a text(?: or null)?, got .*{field}`$"):
            decode(json.dumps(good | {field: value}).encode(), "json", type_)


@both_encodings
async def test_names_are_kept_in_their_normal_form(pool: Pool, redis_url: str, encoding: str) -> None:
    alice, bob = await new_user(pool, "alice"), await new_user(pool, "bob")
    await make_contacts(pool, alice, bob)
    async with open_api(pool, redis_url, encoding) as api:
        mine = api.of(alice.token)
        named = await mine.request(
            "PATCH",
            "/v1/profile",
            data=json.dumps({"display_name": " Ali\u0301ce\u00a0 L. "}),
            headers={"Content-Type": "application/json"},
        )
        assert named.body["display_name"] == "Alíce L."
        made = await mine.post(
            "/v1/conversations", {"kind": "group", "name": "  My \u3000group ", "participants": [bob.user]}
        )
        assert made.body["name"] == "My group"
        for text in HARMFUL:
            refused = await mine.post("/v1/conversations", {"kind": "group", "name": text, "participants": [bob.user]})
            assert (refused.code, refused.body["errors"][0]["pointer"]) == ("invalid_body", "#/name")
    assert await pool.fetch("select name from conversations") == [("My group",)]
