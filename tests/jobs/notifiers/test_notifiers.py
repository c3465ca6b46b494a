"""Each kind of notifier against a double of its service, which checks signatures, tokens and encryption."""

from __future__ import annotations

import re
import time
from base64 import b64encode
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import http_ece  # type: ignore[import-untyped]
import httpx
import msgspec
import pytest
import trio

from embedded.ports import free_port
from jobs.engine.job import GiveUp
from jobs.notifiers import calls
from jobs.notifiers.apns import Apns
from jobs.notifiers.configured import Notifiers, open_notifiers
from jobs.notifiers.fcm import Fcm
from jobs.notifiers.http2 import LoneStreams
from jobs.notifiers.notifier import Notice, NotifyError, TargetGone
from jobs.notifiers.webhook import Webhook
from runtime.config import Config, ConfigError
from store.notifiers import ApnsTarget, EmailTarget, FcmTarget, Target, WebhookTarget
from tests.jobs.notice_world import RecordingMailer
from tests.jobs.push_services import (
    AppleService,
    GoogleService,
    PushService,
    ScriptedAnswer,
    Service,
    Subscription,
    Trust,
    base64url,
    open_service,
    open_services,
)

ROOT = Path(__file__).parents[3]
NOTICE = Notice("17-1", UUID(int=7), unread=12, conversations=3)
WITHDRAWAL = Notice("17-1", UUID(int=7), is_withdrawn=True)
SECRET = "whsec_" + b64encode(b"0123456789abcdef0123456789abcdef").decode()


@asynccontextmanager
async def notifiers_for(trust: Trust, *services: Service, **settings: Any) -> AsyncGenerator[Notifiers, None]:
    """Notifiers that are configured for these services, which run meanwhile."""
    async with (
        open_services(trust, *services) as found,
        open_notifiers(Config(**{**found, **settings}), context=trust.context) as notifiers,
    ):
        yield notifiers


async def refusal(notifiers: Notifiers, target: Target | None) -> NotifyError:
    with pytest.raises(NotifyError) as raised:
        await notifiers.notify(target, NOTICE)
    return raised.value


# Web Push


async def test_web_push_is_signed_encrypted_for_the_subscription_and_says_nothing(trust: Trust) -> None:
    """The double verifies the VAPID token; only the subscription's private key opens what was sent."""
    service = PushService()
    async with notifiers_for(trust, service) as notifiers:
        browser = Subscription(f"{service.url}/push/1")
        await notifiers.notify(browser.target, NOTICE)
    [call] = service.calls
    assert (call.method, call.path) == ("POST", "/push/1")
    assert browser.read(call) == {"type": "offline_notice", "notice": "17-1", "unread": 12, "conversations": 3}
    assert b"notice" not in call.body
    with pytest.raises(http_ece.ECEException):
        Subscription(service.url).read(call)
    # The next notice replaces it, at a service that keeps it for a device that is off.
    assert (call.headers["topic"], call.headers["ttl"]) == ("offline_notice", "2419200")


async def test_subscription_that_has_ended_is_gone(trust: Trust) -> None:
    service = PushService()
    service.answers = [ScriptedAnswer(404), ScriptedAnswer(410)]
    async with notifiers_for(trust, service) as notifiers:
        for _ in range(2):
            with pytest.raises(TargetGone):
                await notifiers.notify(Subscription(service.url).target, NOTICE)


async def test_subscription_with_invalid_keys_is_gone_without_a_call(trust: Trust) -> None:
    service = PushService()
    async with notifiers_for(trust, service) as notifiers:
        good = Subscription(service.url).target
        off_the_curve = base64url(b"\x04" + bytes(range(64)))
        for broken in ({"p256dh": off_the_curve}, {"p256dh": "AAAA"}, {"p256dh": "é"}):
            with pytest.raises(TargetGone):
                await notifiers.notify(msgspec.structs.replace(good, **broken), NOTICE)
    assert service.calls == []


async def test_refusals_of_push_services_are_told_apart(trust: Trust) -> None:
    service = PushService()
    async with notifiers_for(trust, service) as notifiers:
        for answer, is_final, retry_after_s in (
            (ScriptedAnswer(429, headers={"Retry-After": "120"}), False, 120),
            (ScriptedAnswer(503, headers={"Retry-After": "Fri, 01 Jan 2100 00:00:00 GMT"}), False, 86400),
            (ScriptedAnswer(503, headers={"Retry-After": "soon"}), False, None),
            (ScriptedAnswer(500), False, None),
            (ScriptedAnswer(301, headers={"Location": "https://localhost/"}), False, None),
            (ScriptedAnswer(403), True, None),
            (ScriptedAnswer(413), True, None),
        ):
            service.answers = [answer]
            error = await refusal(notifiers, Subscription(service.url).target)
            assert str(answer.status) in str(error)
            assert (error.is_final, error.retry_after_s) == (is_final, retry_after_s), answer


# APNs


def apns(trust: Trust, service: AppleService, clock: Any) -> tuple[httpx.AsyncClient, Apns]:
    client = httpx.AsyncClient(transport=LoneStreams(trust.context))
    keys = {"key": service.key, "key_id": "KEYIDKEYID", "team_id": "TEAMIDTEAM", "topic": "app.alo.shield"}
    return client, Apns(client, service.url, clock=clock, **keys)


async def test_apns_takes_what_is_sent_and_one_token_serves_for_50_minutes(trust: Trust) -> None:
    service = AppleService()
    now = time.time()
    async with open_service(service, trust.cert, trust.key):
        client, notifier = apns(trust, service, lambda: now)
        async with client:
            for _ in range(2):
                await notifier.notify(ApnsTarget("a1b2"), NOTICE)
            now += 49 * 60
            await notifier.notify(ApnsTarget("a1b2"), NOTICE)
            assert len(service.tokens) == 1
            now += 2 * 60
            await notifier.notify(ApnsTarget("a1b2"), NOTICE)
            assert len(service.tokens) == 2
    call = service.calls[0]
    assert (call.http_version, call.headers["apns-push-type"], call.headers["apns-collapse-id"]) == (
        "2",
        "alert",
        "offline_notice",
    )
    assert call.json == {
        "aps": {
            "alert": {"loc-key": "offline_notice", "loc-args": ["12", "3"]},
            "badge": 12,
            "sound": "default",
            "mutable-content": 1,
        },
        "type": "offline_notice",
        "notice": "17-1",
        "unread": 12,
        "conversations": 3,
    }


async def test_app_that_is_no_longer_on_the_device_is_gone(trust: Trust) -> None:
    service = AppleService()
    async with notifiers_for(trust, service) as notifiers:
        with pytest.raises(TargetGone, match="Unregistered"):
            await notifiers.notify(ApnsTarget("ffff"), NOTICE)


async def test_after_a_stale_token_the_next_attempt_has_another(trust: Trust) -> None:
    service = AppleService()
    service.answers = [ScriptedAnswer(403, b'{"reason": "ExpiredProviderToken"}')]
    times = iter(range(int(time.time()), 2**40))
    async with open_service(service, trust.cert, trust.key):
        client, notifier = apns(trust, service, lambda: next(times))
        async with client:
            with pytest.raises(NotifyError, match="ExpiredProviderToken") as raised:
                await notifier.notify(ApnsTarget("a1b2"), NOTICE)
            assert not raised.value.is_final
            await notifier.notify(ApnsTarget("a1b2"), NOTICE)
    first, second = (call.headers["authorization"] for call in service.calls)
    assert first != second


async def test_refusals_of_apns_are_told_apart(trust: Trust) -> None:
    """An error that a wrong configuration of ours may cause deletes no target."""
    service = AppleService()
    async with notifiers_for(trust, service) as notifiers:
        for status, body, is_final in (
            (400, b'{"reason": "BadDeviceToken"}', True),
            (400, b'{"reason": "DeviceTokenNotForTopic"}', True),
            (429, b'{"reason": "TooManyRequests"}', False),
            (429, b'{"reason": "TooManyProviderTokenUpdates"}', False),
            (500, b'{"reason": "InternalServerError"}', False),
            (503, b"", False),
            (503, b"[" * 10000, False),
            (500, b"\xff[1]", False),
            (500, b"[]", False),
        ):
            service.answers = [ScriptedAnswer(status, body)]
            error = await refusal(notifiers, ApnsTarget("a1b2"))
            assert str(status) in str(error)
            assert error.is_final == is_final, body


# FCM


async def test_fcm_takes_what_is_sent_and_one_access_token_serves_until_it_expires(trust: Trust) -> None:
    """The double verifies the account's assertion. Several at once ask for one token."""
    service = GoogleService()
    now = time.time()
    async with (
        open_service(service, trust.cert, trust.key),
        httpx.AsyncClient(transport=LoneStreams(trust.context)) as client,
    ):
        notifier = Fcm(client, service.url, service.credentials, clock=lambda: now)
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(notifier.notify, FcmTarget("device-1"), NOTICE)
        assert service.granted == ["access-0"]
        now += 3600 - 10
        await notifier.notify(FcmTarget("device-1"), NOTICE)
        assert service.granted == ["access-0", "access-1"]
    sent = service.calls[-1]
    assert sent.http_version == "2"
    told = {"type": "offline_notice", "notice": "17-1", "unread": "12", "conversations": "3"}
    assert sent.json["message"]["data"] == told
    assert sent.json["message"]["android"]["collapse_key"] == "offline_notice"


async def test_instance_that_fcm_does_not_know_is_gone(trust: Trust) -> None:
    service = GoogleService()
    async with notifiers_for(trust, service) as notifiers:
        with pytest.raises(TargetGone, match="UNREGISTERED"):
            await notifiers.notify(FcmTarget("gone"), NOTICE)


async def test_after_an_access_token_was_refused_the_next_attempt_has_another(trust: Trust) -> None:
    service = GoogleService()
    async with notifiers_for(trust, service) as notifiers:
        await notifiers.notify(FcmTarget("device-1"), NOTICE)
        service.granted[:] = ["withdrawn"]
        assert not (await refusal(notifiers, FcmTarget("device-1"))).is_final
        await notifiers.notify(FcmTarget("device-1"), NOTICE)


async def test_refusals_of_fcm_are_told_apart(trust: Trust) -> None:
    service = GoogleService()
    async with notifiers_for(trust, service) as notifiers:
        await notifiers.notify(FcmTarget("device-1"), NOTICE)
        for answer, is_final in (
            (GoogleService.no(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT"), True),
            (GoogleService.no(403, "PERMISSION_DENIED", "SENDER_ID_MISMATCH"), True),
            (GoogleService.no(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED"), False),
            (GoogleService.no(503, "UNAVAILABLE", "UNAVAILABLE"), False),
            (ScriptedAnswer(502, b"<!DOCTYPE html>"), False),
            (ScriptedAnswer(500, b'{"error": {"details": [1, {"@type": 2}]}}'), False),
            (ScriptedAnswer(500, b'{"error": 1}'), False),
        ):
            service.answers = [answer]
            error = await refusal(notifiers, FcmTarget("device-1"))
            assert str(answer.status) in str(error)
            assert error.is_final == is_final, answer


async def test_without_an_access_token_the_notice_is_not_taken(trust: Trust) -> None:
    service = GoogleService()
    async with notifiers_for(trust, service) as notifiers:
        for answer in (
            ScriptedAnswer(400, b'{"error": "invalid_grant"}'),
            ScriptedAnswer(200, b'{"access_token": 1, "expires_in": 2}'),
            ScriptedAnswer(200, b"{}"),
        ):
            service.answers = [answer]
            assert "no access token" in str(await refusal(notifiers, FcmTarget("device-1")))
    assert [call.path for call in service.calls] == ["/token"] * 3


# Webhooks


def documented_check() -> Any:
    """The function that the documentation tells receivers to use."""
    [code] = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "webhooks.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    return names["check"]


async def test_webhook_is_signed_so_that_the_documented_check_accepts_it_and_nothing_else(trust: Trust) -> None:
    check = documented_check()
    service = Service()
    async with notifiers_for(trust, service) as notifiers:
        await notifiers.notify(WebhookTarget(f"{service.url}/hook", SECRET), NOTICE)
    [call] = service.calls
    counts = {"unread": 12, "conversations": 3}
    assert call.json == {"type": "offline_notice", "notice": "17-1", "user": str(NOTICE.user), **counts}
    assert call.headers["webhook-id"] == "17-1"
    assert check(SECRET, call.headers, call.body)
    other = "whsec_" + b64encode(b"another key, of another notifier").decode()
    assert not check(other, call.headers, call.body)
    assert not check(SECRET, call.headers, call.body.replace(b"17-1", b"17-2"))
    later = str(int(call.headers["webhook-timestamp"]) + 1)
    assert not check(SECRET, call.headers | {"webhook-timestamp": later}, call.body)
    assert not check(SECRET, call.headers | {"webhook-id": "17-2"}, call.body)


async def test_recorded_webhook_call_is_refused_later(trust: Trust) -> None:
    check = documented_check()
    service = Service()
    async with (
        open_service(service, trust.cert, trust.key),
        httpx.AsyncClient(verify=trust.context) as client,
    ):
        for age_s in (310, 290, -310):
            notifier = Webhook(client, clock=lambda age_s=age_s: time.time() - age_s)  # type: ignore[misc]
            await notifier.notify(WebhookTarget(service.url, SECRET), NOTICE)
    assert [check(SECRET, call.headers, call.body) for call in service.calls] == [False, True, False]


async def test_deployments_webhook_is_signed_if_there_is_a_secret(trust: Trust) -> None:
    service = Service()
    async with open_service(service, trust.cert, trust.key):
        for secret in ("", SECRET):
            async with notifiers_for(trust, offline_notice_url=service.url, offline_notice_secret=secret) as notifiers:
                assert notifiers.has_deployment
                await notifiers.notify(None, NOTICE)
    unsigned, signed = service.calls
    assert "webhook-signature" not in unsigned.headers
    assert documented_check()(SECRET, signed.headers, signed.body)


async def test_webhook_that_is_gone_for_good_is_forgotten_unless_it_is_the_deployments(trust: Trust) -> None:
    service = Service()
    service.answers = [ScriptedAnswer(410), ScriptedAnswer(410), ScriptedAnswer(404)]
    async with (
        open_service(service, trust.cert, trust.key),
        notifiers_for(trust, offline_notice_url=service.url) as notifiers,
    ):
        with pytest.raises(TargetGone):
            await notifiers.notify(WebhookTarget(service.url, SECRET), NOTICE)
        assert not (await refusal(notifiers, None)).is_final
        assert not (await refusal(notifiers, WebhookTarget(service.url, SECRET))).is_final


async def test_answer_of_a_webhook_is_read_no_further_than_it_may_be_long(trust: Trust) -> None:
    service = Service()
    service.answers = [ScriptedAnswer(200, bytes(5_000_000))]
    async with (
        open_service(service, trust.cert, trust.key),
        httpx.AsyncClient(transport=LoneStreams(trust.context)) as client,
    ):
        answer = await calls.post(client, service.url, b"", {})
        assert answer.status == 200
        assert calls.MAX_ANSWER_BYTES < len(answer.body) < 10 * calls.MAX_ANSWER_BYTES
        # The connection, or another, still serves.
        assert (await calls.post(client, service.url, b"", {})).body == b""


async def test_call_that_is_given_up_harms_no_other(trust: Trust, monkeypatch: pytest.MonkeyPatch) -> None:
    """And calls one after the other, or those that are not given up, share connections."""
    monkeypatch.setattr(calls, "TIMEOUT_S", 1.0)
    service = Service()
    service.hanging["/hangs"] = trio.Event()
    outcomes: list[str] = []

    async def call(client: httpx.AsyncClient, path: str) -> None:
        try:
            outcomes.append(f"{path} {(await calls.post(client, service.url + path, b'x', {})).status}")
        except NotifyError as error:
            outcomes.append(f"{path} {error}")

    async with (
        open_service(service, trust.cert, trust.key),
        httpx.AsyncClient(transport=LoneStreams(trust.context)) as client,
    ):
        await call(client, "/first")
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(call, client, "/hangs")
                nursery.start_soon(call, client, "/answers")
        service.hanging.pop("/hangs").set()
        for _ in range(3):
            await call(client, "/later")
    assert Counter(outcomes) == {
        "/first 200": 1,
        "/answers 200": 3,
        "/hangs no answer within 1 s": 3,
        "/later 200": 3,
    }
    assert len({call.peer for call in service.calls if call.path in ("/first", "/later")}) <= 2
    assert {call.http_version for call in service.calls} == {"2"}


# Withdrawals


async def test_withdrawal_replaces_the_notice_at_each_service_without_an_alert(trust: Trust) -> None:
    """One topic, one collapse id: at a service that keeps one for a device that is off, only the last is left."""
    web, apple, google, own = PushService(), AppleService(), GoogleService(), Service()
    async with notifiers_for(trust, web, apple, google, own) as notifiers:
        browser = Subscription(f"{web.url}/push/1")
        for target in (browser.target, ApnsTarget("a1b2"), FcmTarget("device-1"), WebhookTarget(own.url, SECRET)):
            for notice in (NOTICE, WITHDRAWAL):
                await notifiers.notify(target, notice)
    said = {"type": "withdrawn", "notice": "17-1"}
    assert browser.read(web.calls[1]) == said
    assert [call.headers["topic"] for call in web.calls] == ["offline_notice"] * 2
    assert [call.headers["urgency"] for call in web.calls] == ["high", "normal"]
    assert apple.calls[1].json == {"aps": {"content-available": 1, "badge": 0}, **said}
    assert [call.headers["apns-collapse-id"] for call in apple.calls] == ["offline_notice"] * 2
    assert [call.headers["apns-push-type"] for call in apple.calls] == ["alert", "background"]
    assert [call.headers["apns-priority"] for call in apple.calls] == ["10", "5"]
    told, withdrawn = (call.json for call in google.calls[1:])
    assert withdrawn["message"]["data"] == said
    assert told["message"]["android"]["collapse_key"] == withdrawn["message"]["android"]["collapse_key"]
    assert (told["message"]["android"]["priority"], withdrawn["message"]["android"]["priority"]) == ("high", "normal")
    assert own.calls[1].json == {**said, "user": str(NOTICE.user)}
    # For a receiver that ignores repetitions, it is a new event, and it is signed too.
    assert [call.headers["webhook-id"] for call in own.calls] == ["17-1", "17-1-withdrawn"]
    assert documented_check()(SECRET, own.calls[1].headers, own.calls[1].body)


# URLs of users


class Names(trio.abc.HostnameResolver):
    """Name service by a table: the addresses of each name, one answer after the other; the last one stays."""

    def __init__(self, **answers: list[list[str]]) -> None:
        self.answers = {name.replace("_", "."): given for name, given in answers.items()}
        self.asked = 0

    async def getaddrinfo(
        self, host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
    ) -> Any:
        self.asked += 1
        given = self.answers.get(host if isinstance(host, str) else host.decode())
        if given is None:
            raise OSError("no such name")
        addresses = given.pop(0) if len(given) > 1 else given[0]
        inet = trio.socket.AF_INET6, trio.socket.AF_INET
        return [(inet["." in each], trio.socket.SOCK_STREAM, 6, "", (each, port)) for each in addresses]

    async def getnameinfo(self, sockaddr: Any, flags: int) -> Any:
        raise NotImplementedError


async def test_url_that_leads_inside_is_not_called_however_it_is_written(trust: Trust) -> None:
    service = Service()
    settings = {"notifier_networks": "", **PushService().settings}
    hosts = ["localhost", "127.0.0.1", "[::1]", "0x7f.1", "2130706433", "[::ffff:127.0.0.1]", "169.254.169.254"]
    async with open_service(service, trust.cert, trust.key), notifiers_for(trust, **settings) as notifiers:
        for host in hosts:
            url = service.url.replace("localhost", host)
            assert "must have only public addresses" in str(await refusal(notifiers, WebhookTarget(url, SECRET)))
        for host in hosts[:2]:
            url = service.url.replace("localhost", host)
            assert "must have only public addresses" in str(await refusal(notifiers, Subscription(url).target))
    assert service.calls == []


async def test_name_with_one_private_address_among_others_is_not_called(trust: Trust) -> None:
    trio.socket.set_custom_hostname_resolver(Names(mixed_example=[["1.1.1.1", "10.0.0.1"]]))
    async with notifiers_for(trust, notifier_networks="") as notifiers:
        assert "public addresses" in str(await refusal(notifiers, WebhookTarget("https://mixed.example/", SECRET)))


async def test_call_goes_to_the_address_that_was_checked_under_the_name_that_was_given(trust: Trust) -> None:
    """The guard does not resolve a name twice, so a change of its address has no effect; TLS verifies the name."""
    service = Service()
    async with open_service(service, trust.cert, trust.key), notifiers_for(trust) as notifiers:
        names = Names(rebound_example=[["127.0.0.1"], ["192.0.2.1"]], other_example=[["127.0.0.1"]])
        trio.socket.set_custom_hostname_resolver(names)
        await notifiers.notify(WebhookTarget(service.url.replace("localhost", "rebound.example"), SECRET), NOTICE)
        assert names.asked == 1
        assert service.calls[0].headers["host"].startswith("rebound.example:")
        error = await refusal(notifiers, WebhookTarget(service.url.replace("localhost", "other.example"), SECRET))
        assert "certificate" in str(error).lower()
    assert len(service.calls) == 1


async def test_a_user_sees_one_reason_for_whatever_has_no_answer(trust: Trust, monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator sees each reason by itself."""
    monkeypatch.setattr(calls, "TIMEOUT_S", 1.0)
    service = Service()
    service.hanging["/hangs"] = trio.Event()
    table = {"inside_example": [["10.0.0.1"]], "refused_example": [["127.0.0.9"]], "other_example": [["127.0.0.1"]]}
    trio.socket.set_custom_hostname_resolver(Names(**table, localhost=[["127.0.0.1"]]))
    async with (
        open_service(service, trust.cert, trust.key),
        notifiers_for(trust, notifier_networks="127.0.0.0/8") as notifiers,
    ):
        urls = [
            "https://no-such-name.example/",
            "https://inside.example/",
            f"https://refused.example:{free_port()}/",
            service.url.replace("localhost", "other.example"),
            f"{service.url}/hangs",
        ]
        errors = [await refusal(notifiers, WebhookTarget(url, SECRET)) for url in urls]
    assert {error.shown for error in errors} == {calls.UNREACHABLE}
    assert len({str(error) for error in errors}) == len(urls)
    assert {(error.is_final, error.retry_after_s) for error in errors} == {(False, None)}


async def test_second_address_is_tried_if_the_first_refuses(trust: Trust) -> None:
    service = Service()
    async with open_service(service, trust.cert, trust.key), notifiers_for(trust) as notifiers:
        trio.socket.set_custom_hostname_resolver(Names(rebound_example=[["127.0.0.9", "127.0.0.1"]]))
        await notifiers.notify(WebhookTarget(service.url.replace("localhost", "rebound.example"), SECRET), NOTICE)
    assert len(service.calls) == 1


# E-mail, and what is not configured


COUNTS = {"unread": "12", "conversations": "3"}


async def test_mail_says_how_much_waits_and_no_more() -> None:
    """A repeated notice is the same mail."""
    mailer = RecordingMailer()
    async with open_notifiers(Config(), mailer) as notifiers:
        for _ in range(2):
            await notifiers.notify(EmailTarget("bob@alo.example"), NOTICE)
    assert mailer.sent == [("bob@alo.example", "offline_notice", f"17-1 {NOTICE.user}", COUNTS)] * 2


async def test_mail_that_cannot_be_sent_is_a_notice_that_was_not_taken() -> None:
    mailer = RecordingMailer(GiveUp("no such mailbox"), OSError("connection refused"))
    async with open_notifiers(Config(), mailer) as notifiers:
        for is_final in (False, True):
            assert (await refusal(notifiers, EmailTarget("bob@alo.example"))).is_final == is_final


async def test_kind_without_keys_is_refused_by_name() -> None:
    targets: dict[str, Target] = {
        "web_push": Subscription("https://push.example").target,
        "apns": ApnsTarget("a1b2"),
        "fcm": FcmTarget("device-1"),
        "email": EmailTarget("bob@alo.example"),
    }
    async with open_notifiers(Config()) as notifiers:
        assert not notifiers.has_deployment
        for kind, target in targets.items():
            error = await refusal(notifiers, target)
            assert error.is_final
            assert kind in str(error)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"apns_key": "-----BEGIN NONSENSE-----"}, "APNS_KEY"),
        ({"apns_key": "/no/such/file"}, "APNS_KEY"),
        ({"fcm_credentials": "{}"}, "FCM_CREDENTIALS"),
        ({"fcm_credentials": "/no/such/file"}, "FCM_CREDENTIALS"),
    ],
)
async def test_key_that_cannot_be_read_is_named(settings: dict[str, str], name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        async with open_notifiers(Config(**settings)):  # type: ignore[arg-type]
            pass


async def test_keys_are_read_from_files_and_from_one_line(trust: Trust, tmp_path: Path) -> None:
    service = AppleService()
    (tmp_path / "key.p8").write_text(service.key)
    for written in (str(tmp_path / "key.p8"), service.key.replace("\n", "\\n")):
        async with notifiers_for(trust, service, apns_key=written) as notifiers:
            await notifiers.notify(ApnsTarget("a1b2"), NOTICE)
    assert len(service.calls) == 2
