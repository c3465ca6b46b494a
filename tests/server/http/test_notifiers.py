"""Notifiers and quiet hours over HTTP, in both encodings (docs/http.md)."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import cbor2
import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from py_vapid import Vapid02  # type: ignore[import-untyped]

from jobs.notifiers.webhook import signature
from runtime.config import Config
from server.http.app import create_app
from server.http.offered import Offered, offered_by
from store import emails
from store import notifiers as store
from store.postgres.pool import Pool
from tests.people import new_device, new_user
from tests.server.http_world import CBOR, Answer, Api, both_encodings, open_api, open_services

ALL = Offered(frozenset({"webhook", "email", "web_push", "apns", "fcm"}), "the public key")

_KEY = ec.generate_private_key(ec.SECP256R1()).public_key()
POINT = _KEY.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def base64url(data: bytes) -> str:
    return msgspec.json.encode(data)[1:-1].decode().replace("+", "-").replace("/", "_").rstrip("=")


SUBSCRIPTION = {
    "kind": "web_push",
    "endpoint": "https://push.example/subscription/1",
    "expirationTime": None,
    "keys": {"p256dh": base64url(POINT), "auth": base64url(bytes(16))},
}


@asynccontextmanager
async def open_offering(pool: Pool, redis_url: str, offered: Offered, encoding: str) -> AsyncGenerator[Api, None]:
    async with open_services(pool, redis_url, offered=offered) as services:
        yield Api(create_app(services), encoding)


async def put(api: Api, path: str, body: Any) -> Answer:
    data = cbor2.dumps(body) if api.encoding == "cbor" else msgspec.json.encode(body)
    content_type = CBOR if api.encoding == "cbor" else "application/json"
    return await api.request("PUT", path, data=data, headers={"Content-Type": content_type})


def path_of(notifier: bytes | str) -> str:
    return f"/v1/notifiers/{UUID(bytes=notifier) if isinstance(notifier, bytes) else notifier}"


@both_encodings
async def test_from_adding_to_removing(pool: Pool, redis_url: str, encoding: str) -> None:
    bob = await new_user(pool, "bob")
    async with open_offering(pool, redis_url, ALL, encoding) as anyone:
        api = anyone.of(bob.token)
        assert (await api.get("/v1/notifiers")).body == {"notifiers": []}
        made = {}
        for body in (
            {"kind": "webhook", "url": "https://hook.example/a?b=c"},
            {"kind": "email"},
            SUBSCRIPTION,
            {"kind": "apns", "token": "A1B2C3D4E5"},
            {"kind": "fcm", "token": "abc:DEF-_123"},
        ):
            answer = await api.post("/v1/notifiers", body)
            assert answer.status == 201
            assert answer.body["kind"] == body["kind"]
            assert ("secret" in answer.body) == (body["kind"] == "webhook")
            made[body["kind"]] = answer.body["notifier"]
        listed = {each["kind"]: each for each in (await api.get("/v1/notifiers")).body["notifiers"]}
        assert {kind: each["notifier"] for kind, each in listed.items()} == made
        assert {kind: each["address"] for kind, each in listed.items()} == {
            "webhook": "https://hook.example/a?b=c",
            "email": None,
            "web_push": None,
            "apns": None,
            "fcm": None,
        }
        assert {kind: each["device"] for kind, each in listed.items()} == {
            "webhook": None,
            "email": None,
            "web_push": bob.device,
            "apns": bob.device,
            "fcm": bob.device,
        }
        assert all(each["failing_since"] is each["last_error"] is None for each in listed.values())
        for notifier in made.values():
            assert (await api.request("DELETE", path_of(notifier))).status == 204
        assert (await api.get("/v1/notifiers")).body == {"notifiers": []}
        assert (await api.request("DELETE", path_of(made["fcm"]))).code == "unknown_notifier"


async def test_secret_of_a_webhook_is_shown_once_and_another_one_each_time(pool: Pool, redis_url: str) -> None:
    bob = await new_user(pool, "bob")
    async with open_api(pool, redis_url) as anyone:
        api = anyone.of(bob.token)
        first = await api.post("/v1/notifiers", {"kind": "webhook", "url": "https://hook.example/"})
        again = await api.post("/v1/notifiers", {"kind": "webhook", "url": "https://hook.example/"})
        assert (first.status, again.status) == (201, 200)
        assert first.body["notifier"] == again.body["notifier"]
        assert first.body["secret"] != again.body["secret"]
        assert signature(again.body["secret"], "1-1", 0, b"").startswith("v1,")
        listed = await api.get("/v1/notifiers")
        for secret in (first.body["secret"], again.body["secret"]):
            assert secret.encode() not in listed.data
        [kept] = await store.notifiers_of(pool, bob.user)
        assert getattr(kept.target, "secret", None) == again.body["secret"]


async def test_kind_that_is_not_configured_is_refused_by_name(pool: Pool, redis_url: str) -> None:
    bob = await new_user(pool, "bob")
    async with open_api(pool, redis_url) as anyone:
        api = anyone.of(bob.token)
        for body in (
            {"kind": "email"},
            SUBSCRIPTION,
            {"kind": "apns", "token": "A1B2C3D4E5"},
            {"kind": "fcm", "token": "abc:DEF-_123"},
        ):
            answer = await api.post("/v1/notifiers", body)
            assert (answer.status, answer.code) == (409, "notifier_not_offered")
            assert f"no {body['kind']}; it has webhook" in answer.body["detail"]


def test_the_offered_kinds_are_those_with_keys() -> None:
    assert offered_by(Config()) == Offered(frozenset({"webhook"}), None)
    vapid = Vapid02()
    vapid.generate_keys()
    number = vapid.private_key.private_numbers().private_value
    config = Config(
        vapid_private_key=base64url(number.to_bytes(32, "big")),
        vapid_contact="mailto:ops@alo.example",
        apns_key="key",
        fcm_credentials="{}",
        smtp_url="smtp://mail.example",
    )
    offered = offered_by(config)
    assert offered.kinds == ALL.kinds
    # The key of the workers, as the library writes it.
    token = vapid.sign({"sub": "mailto:ops@alo.example", "aud": "https://push.example"})["Authorization"]
    assert token.partition(",k=")[2] == offered.vapid_public_key


@both_encodings
async def test_keys_are_shown_to_a_device(pool: Pool, redis_url: str, encoding: str) -> None:
    bob = await new_user(pool, "bob")
    async with open_offering(pool, redis_url, ALL, encoding) as anyone:
        answer = await anyone.of(bob.token).get("/v1/notifiers/keys")
        assert answer.body == {"kinds": sorted(ALL.kinds), "vapid_public_key": "the public key"}
        for method, path in (
            ("GET", "/v1/notifiers/keys"),
            ("GET", "/v1/notifiers"),
            ("POST", "/v1/notifiers"),
            ("DELETE", path_of(bytes(16))),
            ("GET", "/v1/quiet-hours"),
            ("PUT", "/v1/quiet-hours"),
            ("DELETE", "/v1/quiet-hours"),
        ):
            assert (await anyone.request(method, path)).code == "unauthenticated"


WRONG: list[Any] = [
    {},
    {"kind": "pigeon"},
    {"kind": "webhook"},
    {"kind": "webhook", "url": ""},
    {"kind": "webhook", "url": "http://hook.example/"},
    {"kind": "webhook", "url": "ftp://hook.example/"},
    {"kind": "webhook", "url": "https://"},
    {"kind": "webhook", "url": "https:///path"},
    {"kind": "webhook", "url": "https://user@hook.example/"},
    {"kind": "webhook", "url": "https://user:password@hook.example/"},
    {"kind": "webhook", "url": "https://hook.example:port/"},
    {"kind": "webhook", "url": "https://hook.example:99999/"},
    {"kind": "webhook", "url": "https://hook.example/#fragment"},
    {"kind": "webhook", "url": "https://hook.example/\n"},
    {"kind": "webhook", "url": "https://hook.example/ü"},
    {"kind": "webhook", "url": "https://[::1/"},
    {"kind": "webhook", "url": "https://hook.example/" + "x" * 1024},
    {"kind": "apns", "token": "not hexadecimal"},
    {"kind": "apns", "token": "a1b2c3d4/../x"},
    {"kind": "fcm", "token": "short"},
    {"kind": "fcm", "token": "with space and\n"},
    SUBSCRIPTION | {"endpoint": "http://push.example/"},
    SUBSCRIPTION | {"keys": {}},
    SUBSCRIPTION | {"keys": {"p256dh": "AAAA", "auth": base64url(bytes(16))}},
    SUBSCRIPTION | {"keys": {"p256dh": base64url(b"\x05" + POINT[1:]), "auth": base64url(bytes(16))}},
    SUBSCRIPTION | {"keys": {"p256dh": base64url(POINT), "auth": base64url(bytes(15))}},
    SUBSCRIPTION | {"keys": {"p256dh": "é" * 88, "auth": base64url(bytes(16))}},
]


@both_encodings
async def test_a_target_that_cannot_be_notified_is_refused(pool: Pool, redis_url: str, encoding: str) -> None:
    bob = await new_user(pool, "bob")
    async with open_offering(pool, redis_url, ALL, encoding) as anyone:
        api = anyone.of(bob.token)
        for body in WRONG:
            answer = await api.post("/v1/notifiers", body)
            assert (answer.status, answer.code) == (400, "invalid_body"), body
        assert (await api.get("/v1/notifiers")).body == {"notifiers": []}


async def test_a_user_has_no_more_notifiers_than_allowed(pool: Pool, redis_url: str) -> None:
    bob = await new_user(pool, "bob")
    async with open_api(pool, redis_url) as anyone:
        api = anyone.of(bob.token)
        for number in range(store.MAX_NOTIFIERS):
            url = f"https://hook.example/{number}"
            assert (await api.post("/v1/notifiers", {"kind": "webhook", "url": url})).status == 201
        answer = await api.post("/v1/notifiers", {"kind": "webhook", "url": "https://hook.example/more"})
        assert (answer.status, answer.code) == (409, "too_many_notifiers")


async def test_email_goes_to_the_verified_address(pool: Pool, redis_url: str) -> None:
    bob = await new_user(pool, "bob")
    async with open_offering(pool, redis_url, ALL, "json") as anyone:
        api = anyone.of(bob.token)
        assert (await api.post("/v1/notifiers", {"kind": "email"})).status == 201
        assert (await api.post("/v1/notifiers", {"kind": "email", "address": "mallory@mail.example"})).status == 200
        assert (await put(api, "/v1/email", {"address": "bob@mail.example"})).status == 200
        [listed] = (await api.get("/v1/notifiers")).body["notifiers"]
        assert listed["address"] is None
        mail = await emails.take_verification(pool, bob.user)
        assert mail is not None
        await emails.verify(pool, mail.token)
        [listed] = (await api.get("/v1/notifiers")).body["notifiers"]
        assert listed["address"] == "bob@mail.example"


async def test_a_user_does_not_see_or_remove_notifiers_of_others(pool: Pool, redis_url: str) -> None:
    bob, carol = await new_user(pool, "bob"), await new_user(pool, "carol")
    async with open_api(pool, redis_url) as anyone:
        made = await anyone.of(bob.token).post("/v1/notifiers", {"kind": "webhook", "url": "https://hook.example/"})
        other = anyone.of(carol.token)
        assert (await other.get("/v1/notifiers")).body == {"notifiers": []}
        assert (await other.request("DELETE", path_of(made.body["notifier"]))).code == "unknown_notifier"
        assert len((await anyone.of(bob.token).get("/v1/notifiers")).body["notifiers"]) == 1


async def test_device_that_is_revoked_takes_its_notifier_along(pool: Pool, redis_url: str) -> None:
    bob = await new_user(pool, "bob")
    phone = await new_device(pool, bob.user, "phone")
    async with open_offering(pool, redis_url, ALL, "json") as anyone:
        for device in (bob, phone):
            body = {"kind": "apns", "token": device.device.hex()}
            assert (await anyone.of(device.token).post("/v1/notifiers", body)).status == 201
        api = anyone.of(bob.token)
        assert (await api.request("DELETE", f"/v1/devices/{UUID(bytes=phone.device)}")).status == 204
        listed = (await api.get("/v1/notifiers")).body["notifiers"]
        assert [each["device"] for each in listed] == [bob.device]


@both_encodings
async def test_quiet_hours_are_set_shown_and_taken_away(pool: Pool, redis_url: str, encoding: str) -> None:
    bob = await new_user(pool, "bob")
    none = {"from_minute": None, "until_minute": None, "zone": None}
    night = {"from_minute": 1380, "until_minute": 420, "zone": "Europe/Berlin"}
    async with open_api(pool, redis_url, encoding) as anyone:
        api = anyone.of(bob.token)
        assert (await api.get("/v1/quiet-hours")).body == none
        assert (await put(api, "/v1/quiet-hours", night)).status == 204
        assert (await api.get("/v1/quiet-hours")).body == night
        for wrong in (
            {},
            night | {"from_minute": 1440},
            night | {"from_minute": -1},
            night | {"until_minute": 1380},
            night | {"zone": "Berlin"},
            night | {"zone": ""},
            night | {"zone": "../etc/passwd"},
            night | {"zone": "Europe/Berlin\0"},
        ):
            assert (await put(api, "/v1/quiet-hours", wrong)).code == "invalid_body", wrong
        assert (await api.get("/v1/quiet-hours")).body == night
        for _ in range(2):
            assert (await api.request("DELETE", "/v1/quiet-hours")).status == 204
        assert (await api.get("/v1/quiet-hours")).body == none
