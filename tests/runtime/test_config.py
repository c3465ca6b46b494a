"""The environment, variable by variable: values that are read, and values that are refused by name."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields
from pathlib import Path

import pytest

from runtime.config import Config, ConfigError
from runtime.operations import operator_port
from tests.rows import each_row

ROOT = Path(__file__).parents[2]
FILES = [file for folder in ("jobs", "runtime", "server", "store") for file in (ROOT / folder).rglob("*.py")]
SECRET = "whsec_" + "A" * 32
VAPID_KEY = "A" * 42 + "E"

GOOD = {
    "HOST": ("0.0.0.0", "0.0.0.0"),
    "PORT": ("0", 0),
    "SOCKET_PORT": ("65535", 65535),
    "INSTANCE": ("2", 2),
    "DATABASE_URL": ("postgresql://a:b@c,d/e", "postgresql://a:b@c,d/e"),
    "DATABASE_REPLICA_URLS": ("postgresql://a:b@c/e  postgresql://d/e", "postgresql://a:b@c/e  postgresql://d/e"),
    "DATABASE_POOL": ("2", 2),
    "REDIS_URL": ("rediss://h:1/2", "rediss://h:1/2"),
    "REDIS_BUS_URL": ("unix:///run/redis.sock", "unix:///run/redis.sock"),
    "REDIS_JOBS_URL": ("redis+sentinel://a,b:1/chat", "redis+sentinel://a,b:1/chat"),
    "OBJECT_STORE_URL": ("s3://key:a%2Fb@h:9000/chat", "s3://key:a%2Fb@h:9000/chat"),
    "MAX_ATTACHMENT_BYTES": ("1000", 1000),
    "ATTACHMENT_BYTES_PER_USER": ("0", 0),
    "ATTACHMENT_BYTES_PER_DAY": ("1000", 1000),
    "OPEN_UPLOADS_PER_USER": ("5", 5),
    "ATTACHMENT_BYTES_TOTAL": ("1000", 1000),
    "MAX_AVATAR_BYTES": ("1000", 1000),
    "AVATARS": ("public", "public"),
    "TOKEN_LIFETIME_S": ("3600", 3600.0),
    "TRUSTED_PROXIES": ("10.0.0.0/8", "10.0.0.0/8"),
    "MAX_ADDRESS_CONNECTIONS": ("5", 5),
    "WORKER_CONCURRENCY": ("4", 4),
    "METRICS_HOST": ("0.0.0.0", "0.0.0.0"),
    "METRICS_PORT": ("9100", 9100),
    "READY_GRACE_S": ("5", 5.0),
    "OFFLINE_NOTICE_URL": ("https://h/x", "https://h/x"),
    "OFFLINE_NOTICE_AFTER_S": ("0.5", 0.5),
    "READ_NOTICE_AFTER_S": ("60", 60.0),
    "NOTICE_PAUSES_S": ("30, 30,3600", "30, 30,3600"),
    "SMTP_URL": ("smtps://a:b@h", "smtps://a:b@h"),
    "MAIL_FROM": ("ALO <a@b.example>", "ALO <a@b.example>"),
    "PUBLIC_URL": ("https://h/alo", "https://h/alo"),
    "PUBLIC_FILES_URL": ("https://files.h", "https://files.h"),
    "PUBLIC_SOCKET_URL": ("wss://a.example, ws://h:1", "wss://a.example, ws://h:1"),
    "WEB_CLIENT": ("1", 1),
    "CORS_ORIGINS": ("https://a.example, http://localhost:3000", "https://a.example, http://localhost:3000"),
    "REGISTRATION": ("invitation", "invitation"),
    "EXTERNAL_ISSUER": ("https://h/auth/v1", "https://h/auth/v1"),
    "EXTERNAL_AUDIENCE": ("authenticated", "authenticated"),
    "EXTERNAL_JWKS_URL": ("https://h/jwks.json", "https://h/jwks.json"),
    "EXTERNAL_SECRET": ("s" * 32, "s" * 32),
    "NEW_CONVERSATIONS_PER_DAY": ("0", 0),
    "RATE_LIMIT_FACTOR": ("2.5", 2.5),
    "RETENTION_DAYS": ("30.5", 30.5),
    "RETENTION_ARCHIVES": ("0", 0),
    "SECURITY_EVENTS_DAYS": ("30", 30),
    "ACCOUNT_DELETION_DAYS": ("30.5", 30.5),
    "OPS_TOKEN": ("0123456789abcdef", "0123456789abcdef"),
    "OFFLINE_NOTICE_SECRET": (SECRET, SECRET),
    "NOTIFIER_NETWORKS": ("10.0.0.0/8, ::1", "10.0.0.0/8, ::1"),
    "VAPID_PRIVATE_KEY": (VAPID_KEY, VAPID_KEY),
    "VAPID_CONTACT": ("mailto:ops@h", "mailto:ops@h"),
    "APNS_KEY": ("/run/key.p8", "/run/key.p8"),
    "APNS_KEY_ID": ("KEYIDKEYID", "KEYIDKEYID"),
    "APNS_TEAM_ID": ("TEAMIDTEAM", "TEAMIDTEAM"),
    "APNS_TOPIC": ("app.h", "app.h"),
    "APNS_URL": ("https://h", "https://h"),
    "FCM_CREDENTIALS": ("/run/fcm.json", "/run/fcm.json"),
    "FCM_URL": ("https://h", "https://h"),
    "LOG_LEVEL": ("debug", "debug"),
    "LOG_FORMAT": ("console", "console"),
    "LOG_LINES_PER_S": ("10", 10),
    "SLOW_QUERY_S": ("0.5", 0.5),
    "OTEL_EXPORTER_OTLP_ENDPOINT": ("http://127.0.0.1:4318", "http://127.0.0.1:4318"),
    "OTEL_TRACES_SAMPLER_ARG": ("0.5", 0.5),
    "SENTRY_DSN": ("https://key@sentry.h/42", "https://key@sentry.h/42"),
    "READY_LINE": ("ready", "ready"),
}
NEEDED = {
    "SMTP_URL": {"MAIL_FROM": "a@b.example", "PUBLIC_URL": "http://h"},
    "EXTERNAL_ISSUER": {"EXTERNAL_AUDIENCE": "authenticated", "EXTERNAL_SECRET": "s" * 32},
    "EXTERNAL_AUDIENCE": {"EXTERNAL_ISSUER": "https://h", "EXTERNAL_SECRET": "s" * 32},
    "EXTERNAL_JWKS_URL": {"EXTERNAL_ISSUER": "https://h", "EXTERNAL_AUDIENCE": "authenticated"},
    "EXTERNAL_SECRET": {"EXTERNAL_ISSUER": "https://h", "EXTERNAL_AUDIENCE": "authenticated"},
    "VAPID_PRIVATE_KEY": {"VAPID_CONTACT": "mailto:ops@h"},
    "APNS_KEY": {"APNS_KEY_ID": "KEYIDKEYID", "APNS_TEAM_ID": "TEAMIDTEAM", "APNS_TOPIC": "app.h"},
}
"""Other variables that must be set."""


def test_every_variable_is_known_here() -> None:
    assert {field.name.upper() for field in fields(Config)} == set(GOOD)


def test_every_variable_is_handed_to_code_that_uses_it() -> None:
    """As an attribute of a `Config`, by its own name or by that of a property which reads it."""
    read = {name for file in FILES for name in re.findall(r"config\.(\w+)", file.read_text())}
    for name, each in vars(Config).items():
        if isinstance(each, property) and name in read:
            read |= {*re.findall(r"\bself\.(\w+)", inspect.getsource(each.fget))}
    assert {field.name for field in fields(Config)} - read == set()


def test_nothing_set_is_the_defaults() -> None:
    assert Config.from_environment({}) == Config()


@each_row("name", GOOD)
def test_variable_is_read_into_its_field_alone(name: str) -> None:
    text, value = GOOD[name]
    needed = NEEDED.get(name, {})
    config = Config.from_environment({name: text, "UNRELATED": "x", **needed})
    for field in fields(Config):
        if field.name.upper() not in needed:
            assert getattr(config, field.name) == (value if field.name == name.lower() else field.default)


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("VAPID_PRIVATE_KEY", "VAPID_CONTACT"),
        ("APNS_KEY", "APNS_KEY_ID"),
        ("APNS_KEY", "APNS_TEAM_ID"),
        ("APNS_KEY", "APNS_TOPIC"),
    ],
)
def test_variable_that_is_needed_by_another_is_named_when_it_is_missing(name: str, missing: str) -> None:
    given = {name: GOOD[name][0], **NEEDED[name]}
    del given[missing]
    with pytest.raises(ConfigError, match=f"^{missing} .*{name}"):
        Config.from_environment(given)


@each_row(
    ("given", "named"),
    [
        ("EXTERNAL_ISSUER", "EXTERNAL_AUDIENCE"),
        ("EXTERNAL_AUDIENCE", "EXTERNAL_AUDIENCE"),
        ("EXTERNAL_JWKS_URL", "EXTERNAL_ISSUER"),
        ("EXTERNAL_SECRET", "EXTERNAL_ISSUER"),
        ("EXTERNAL_ISSUER EXTERNAL_AUDIENCE", "EXTERNAL_ISSUER"),
        ("EXTERNAL_ISSUER EXTERNAL_SECRET", "EXTERNAL_AUDIENCE"),
        ("EXTERNAL_ISSUER EXTERNAL_AUDIENCE EXTERNAL_JWKS_URL EXTERNAL_SECRET", "EXTERNAL_ISSUER"),
    ],
)
def test_an_external_issuer_is_configured_as_a_whole_with_one_source_of_keys(given: str, named: str) -> None:
    with pytest.raises(ConfigError, match=f"^{named} "):
        Config.from_environment({name: GOOD[name][0] for name in given.split()})


def test_bus_and_jobs_share_a_redis_unless_told_otherwise() -> None:
    shared = Config.from_environment({"REDIS_URL": "redis://shared"})
    assert (shared.bus_url, shared.jobs_url) == ("redis://shared", "redis://shared")
    apart = Config.from_environment({"REDIS_BUS_URL": "redis://bus", "REDIS_JOBS_URL": "redis://jobs"})
    assert (apart.bus_url, apart.jobs_url) == ("redis://bus", "redis://jobs")


def test_a_further_process_of_a_kind_has_ports_of_its_own() -> None:
    second = Config.from_environment({"INSTANCE": "2", "PORT": "8000", "SOCKET_PORT": "8001", "METRICS_PORT": "9464"})
    assert (second.web_port, second.gateway_port) == (8010, 8011)
    assert [operator_port(second, process) for process in ("web", "socket", "worker")] == [9474, 9475, 9476]
    none = Config.from_environment({"INSTANCE": "2", "PORT": "0", "SOCKET_PORT": "0", "METRICS_PORT": "0"})
    assert (none.web_port, none.gateway_port, operator_port(none, "web")) == (0, 0, 0)
    with pytest.raises(ConfigError, match=r"^PORT must be 0 to 65525, since INSTANCE is 2"):
        Config.from_environment({"INSTANCE": "2", "PORT": "65526"})


def test_a_public_url_of_files_has_a_path_for_a_folder_and_none_for_a_bucket() -> None:
    """The path of a bucket is part of what is signed."""
    with_path = {"PUBLIC_FILES_URL": "https://files.h/alo"}
    for url in ("", "file:///files"):
        Config.from_environment(with_path | {"OBJECT_STORE_URL": url})
    bucket = {"OBJECT_STORE_URL": "s3://key:secret@h/bucket"}
    Config.from_environment(bucket | {"PUBLIC_FILES_URL": "https://files.h/"})
    with pytest.raises(ConfigError, match="PUBLIC_FILES_URL must have no path, since OBJECT_STORE_URL names"):
        Config.from_environment(bucket | with_path)


def test_archives_need_somewhere_to_go() -> None:
    both = {"RETENTION_ARCHIVES": "1", "OBJECT_STORE_URL": "file:///archives"}
    assert Config.from_environment(both).retention_archives == 1
    with pytest.raises(ConfigError, match="RETENTION_ARCHIVES needs OBJECT_STORE_URL"):
        Config.from_environment({"RETENTION_ARCHIVES": "1"})


@each_row("name", GOOD)
def test_empty_variable_is_like_none(name: str) -> None:
    assert Config.from_environment({name: ""}) == Config()


REFUSED_ORIGINS = (
    *("*", "null", "chat.example", "https://chat.example/", "https://Chat.example", "https://chat.example:443"),
    *("http://chat.example:80", "https://chat.example:0", "https://chat.example:65536", "https://*.chat.example"),
    *("https://user@chat.example", "https://chät.example", "https://a.example https://b.example", "https://"),
    *("https://chat.example?x", "https://a.example,*", "https://chat..example"),
)
INVALID = [
    ("PORT", "http"),
    ("PORT", "-1"),
    ("PORT", "65536"),
    ("PORT", "80.5"),
    ("SOCKET_PORT", "65536"),
    *(("INSTANCE", text) for text in ("0", "-1", "101", "web.2")),
    *(("CORS_ORIGINS", text) for text in REFUSED_ORIGINS),
    ("SOCKET_PORT", "0x50"),
    ("DATABASE_URL", "postgres"),
    ("DATABASE_URL", "mysql://user:secret@h/db"),
    ("DATABASE_URL", "postgresql://h:port/db"),
    ("DATABASE_URL", "host=a,b port=1,2,3 password=secret"),
    ("DATABASE_REPLICA_URLS", "host=a password=secret"),
    ("DATABASE_REPLICA_URLS", "postgresql://a/b, postgresql://user:secret@h:port/db"),
    *(("SECURITY_EVENTS_DAYS", text) for text in ("0", "-1", "3651", "1.5")),
    *(("REGISTRATION", text) for text in ("Open", "invite", "0", "open ")),
    ("EXTERNAL_ISSUER", "h" * 256),
    ("EXTERNAL_ISSUER", "https://h/a b"),
    *(("EXTERNAL_JWKS_URL", text) for text in ("http://h/jwks.json", "https:///jwks.json", "https://h:x/", "jwks")),
    ("EXTERNAL_SECRET", "s" * 31),
    ("EXTERNAL_SECRET", "-----BEGIN PUBLIC KEY-----" + "A" * 99),
    ("EXTERNAL_SECRET", "ssh-rsa " + "A" * 99),
    ("DATABASE_POOL", "1"),
    ("DATABASE_POOL", "0"),
    ("DATABASE_POOL", "many"),
    ("TOKEN_LIFETIME_S", "0"),
    ("TOKEN_LIFETIME_S", "-1"),
    ("TOKEN_LIFETIME_S", "nan"),
    ("TOKEN_LIFETIME_S", "inf"),
    ("TOKEN_LIFETIME_S", "90d"),
    ("METRICS_PORT", "65534"),
    ("READY_GRACE_S", "-1"),
    ("READY_GRACE_S", "601"),
    ("WORKER_CONCURRENCY", "0"),
    ("WORKER_CONCURRENCY", "1001"),
    ("MAX_ADDRESS_CONNECTIONS", "0"),
    ("MAX_ADDRESS_CONNECTIONS", "few"),
    ("REDIS_URL", "localhost:6379"),
    ("REDIS_URL", "http://:secret@localhost"),
    ("REDIS_URL", "redis://h:port/0"),
    ("REDIS_BUS_URL", "redis://:secret#@h"),
    ("REDIS_JOBS_URL", "redis+sentinel://:secret@h"),
    ("REDIS_JOBS_URL", "rediss://:secret@h?ssl_ca_certs=/nowhere/ca.pem"),
    ("OBJECT_STORE_URL", "/var/objects"),
    ("OBJECT_STORE_URL", "file://host/var/objects"),
    ("OBJECT_STORE_URL", "https://key:secret@h/bucket"),
    ("OBJECT_STORE_URL", "s3://key:secret@h"),
    ("OBJECT_STORE_URL", "s3://key:secret/@h/bucket"),
    ("OBJECT_STORE_URL", "s3://key:secret@h:65536/bucket"),
    ("OBJECT_STORE_URL", "s3://key:secret@h/Bucket"),
    ("OBJECT_STORE_URL", "s3://key:secret@h/bucket?region=a b"),
    ("OBJECT_STORE_URL", "s3://key:secret@h/bucket?tls=no"),
    ("MAX_ATTACHMENT_BYTES", "0"),
    ("MAX_ATTACHMENT_BYTES", "8589934593"),
    ("MAX_AVATAR_BYTES", "0"),
    ("MAX_AVATAR_BYTES", "8388609"),
    *(("AVATARS", text) for text in ("Public", "private", "0", "public ")),
    ("ATTACHMENT_BYTES_PER_USER", "-1"),
    ("ATTACHMENT_BYTES_PER_DAY", "10 GiB"),
    ("ATTACHMENT_BYTES_TOTAL", "1152921504606846977"),
    ("OPEN_UPLOADS_PER_USER", "-1"),
    ("OPEN_UPLOADS_PER_USER", "1000001"),
    ("RATE_LIMIT_FACTOR", "0"),
    ("RATE_LIMIT_FACTOR", "2000000"),
    ("NEW_CONVERSATIONS_PER_DAY", "-1"),
    ("NEW_CONVERSATIONS_PER_DAY", "1000001"),
    ("RETENTION_DAYS", "-1"),
    ("RETENTION_DAYS", "nan"),
    ("RETENTION_DAYS", "3651"),
    ("RETENTION_ARCHIVES", "2"),
    ("RETENTION_ARCHIVES", "yes"),
    ("OFFLINE_NOTICE_URL", "hook.example/notices"),
    ("OFFLINE_NOTICE_URL", "ftp://hook.example"),
    ("OFFLINE_NOTICE_AFTER_S", "0"),
    ("OFFLINE_NOTICE_AFTER_S", "-1"),
    ("OFFLINE_NOTICE_AFTER_S", "86400"),
    ("OFFLINE_NOTICE_AFTER_S", "nan"),
    ("OFFLINE_NOTICE_AFTER_S", "inf"),
    ("OFFLINE_NOTICE_AFTER_S", "soon"),
    ("READ_NOTICE_AFTER_S", "0"),
    ("READ_NOTICE_AFTER_S", "86400"),
    ("NOTICE_PAUSES_S", "60,"),
    ("NOTICE_PAUSES_S", "0,60"),
    ("NOTICE_PAUSES_S", "60,30"),
    ("NOTICE_PAUSES_S", "60,nan,60"),
    ("NOTICE_PAUSES_S", "60,inf"),
    ("NOTICE_PAUSES_S", ",".join(["60"] * 21)),
    ("SMTP_URL", "http://secret@h"),
    ("SMTP_URL", "smtp://a:secret@h?tls=none"),
    ("SMTP_URL", "smtp://h?ca=/nowhere/ca.pem"),
    ("MAIL_FROM", "ALO"),
    ("MAIL_FROM", "ALO <a@b.example>\r\nBcc: secret@h"),
    ("PUBLIC_URL", "chat.example"),
    ("PUBLIC_URL", "https://h/?secret"),
    ("PUBLIC_URL", "https://h/<secret>"),
    ("PUBLIC_URL", f"https://h/{'x' * 200}"),
    ("PUBLIC_FILES_URL", "files.example"),
    *(("PUBLIC_SOCKET_URL", text) for text in ("https://h", "chat.example", "wss://h/v1", "wss://h 'unsafe-eval'")),
    *(("WEB_CLIENT", text) for text in ("2", "yes", "-1")),
    ("PUBLIC_FILES_URL", "https://h/?secret"),
    ("ACCOUNT_DELETION_DAYS", "-1"),
    ("ACCOUNT_DELETION_DAYS", "366"),
    ("OPS_TOKEN", "secret"),
    ("OPS_TOKEN", "secret and more words"),
    ("OPS_TOKEN", "secret-with-an-umläut"),
    ("OFFLINE_NOTICE_SECRET", "secret"),
    ("OFFLINE_NOTICE_SECRET", "whsec_secret"),
    ("OFFLINE_NOTICE_SECRET", "whsec_" + "A" * 88 + "AAAA"),
    ("NOTIFIER_NETWORKS", "home"),
    ("NOTIFIER_NETWORKS", "10.0.0.1/8"),
    ("VAPID_PRIVATE_KEY", "secret"),
    ("VAPID_PRIVATE_KEY", "A" * 44),
    ("VAPID_CONTACT", "ops@h"),
    ("APNS_URL", "http://h"),
    ("FCM_URL", "h"),
    ("LOG_LEVEL", "INFO"),
    ("LOG_LEVEL", "loud"),
    ("LOG_FORMAT", "pretty"),
    *(("OTEL_EXPORTER_OTLP_ENDPOINT", text) for text in ("127.0.0.1:4318", "grpc://h:4317", "http://")),
    *(("OTEL_TRACES_SAMPLER_ARG", text) for text in ("-0.1", "1.1", "nan", "always_on")),
    *(
        ("SENTRY_DSN", text)
        for text in ("https://sentry.h/42", "https://secret@h/project", "secret@h/42", "https://secret@h/4?a")
    ),
    *(("LOG_LINES_PER_S", text) for text in ("0", "100001", "1.5")),
    *(("SLOW_QUERY_S", text) for text in ("0", "11", "nan", "slow")),
]
"""Variable, a value that is refused."""

ANY_VALUE = {
    "HOST": "the system says whether it can listen there",
    "METRICS_HOST": "the system says whether it can listen there",
    "TRUSTED_PROXIES": "`server.transport.proxies` reads it, and refuses it by name",
    "READY_LINE": "any text",
    "EXTERNAL_AUDIENCE": "any text that the issuer writes",
    "APNS_KEY": "a path: the notifier says if it cannot read the file",
    "APNS_KEY_ID": "any text",
    "APNS_TEAM_ID": "any text",
    "APNS_TOPIC": "any text",
    "FCM_CREDENTIALS": "a path: the notifier says if it cannot read the file",
}
"""Variables without a rule of `Config`, and why they have none."""


def test_every_variable_has_values_that_are_refused_or_a_reason_to_take_any() -> None:
    refused = {name for name, _ in INVALID}
    assert refused | ANY_VALUE.keys() == GOOD.keys()
    assert not refused & ANY_VALUE.keys()


@each_row(("name", "text"), INVALID)
def test_invalid_value_is_refused_by_name_without_its_secrets(name: str, text: str) -> None:
    """At the start, and not with a traceback when it is first used."""
    with pytest.raises(ConfigError, match=f"^{name} ") as caught:
        Config.from_environment({name: text})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("PORT", "65536", "PORT must be 0 to 65535"),
        ("PORT", "8000.5", "PORT must be a whole number, not '8000.5'"),
        ("RETENTION_DAYS", "ten", "RETENTION_DAYS must be a number, not 'ten'"),
        ("READ_NOTICE_AFTER_S", "0", "READ_NOTICE_AFTER_S must be more than 0 and less than 86400 (a day)"),
        ("RETENTION_ARCHIVES", "1", "RETENTION_ARCHIVES needs OBJECT_STORE_URL, which keeps the archives"),
    ],
)
def test_error_says_what_is_allowed(name: str, text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Config.from_environment({name: text})
    assert str(caught.value) == says


@pytest.mark.parametrize("missing", ["MAIL_FROM", "PUBLIC_URL"])
def test_mail_server_without_a_sender_or_a_place_for_links_is_refused(missing: str) -> None:
    mail = {"SMTP_URL": "smtp://h", "MAIL_FROM": "a@b.example", "PUBLIC_URL": "http://h"}
    Config.from_environment(mail)
    with pytest.raises(ConfigError, match=f"^{missing} must be "):
        Config.from_environment(mail | {missing: ""})
