"""Where values come from, what is masked, and which variables count as misspelled."""

from __future__ import annotations

import re
from dataclasses import fields

import pytest

from runtime.config import Config
from runtime.config_sources import FILES, SECRET_URLS, SECRETS, URLS, Setting, misspelled, settings_of
from tests.rows import each_row

OPEN = frozenset(
    (
        *("public_url", "public_files_url", "public_socket_url", "external_jwks_url", "apns_url", "fcm_url"),
        *("apns_key_id", "token_lifetime_s"),
    )
)
"""Fields whose names sound secret, and that hold no secret."""


def setting(name: str, environment: dict[str, str]) -> Setting:
    [found] = [each for each in settings_of(Config.from_environment(environment), environment) if each.name == name]
    return found


def test_every_field_that_sounds_secret_is_masked_or_known_to_be_open() -> None:
    secret = re.compile("secret|token|key|credential|password|url|dsn")
    sounds = {each.name for each in fields(Config) if secret.search(each.name)}
    assert sounds == SECRETS | FILES | URLS | SECRET_URLS | OPEN


def test_a_value_comes_from_the_default_the_environment_a_file_or_the_old_variables() -> None:
    assert setting("PORT", {}) == ("PORT", "8000", "default")
    assert setting("PORT", {"PORT": "8000"}) == ("PORT", "8000", "environment")
    key = {"APNS_KEY": "/run/key.p8", "APNS_KEY_ID": "I" * 10, "APNS_TEAM_ID": "T" * 10, "APNS_TOPIC": "app"}
    assert setting("APNS_KEY", key) == ("APNS_KEY", "/run/key.p8", "file /run/key.p8")
    assert setting("APNS_KEY", {**key, "APNS_KEY": "-----BEGIN"}) == ("APNS_KEY", "...", "environment")
    old = {"REDIS_HOST": "h", "REDIS_PASSWORD": "x"}
    assert setting("REDIS_URL", old) == ("REDIS_URL", "redis://...@h:6379/0", "environment: REDIS_HOST, REDIS_PASSWORD")


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("DATABASE_URL", "postgresql://alo:hunter2@h:5433/chat?sslmode=require", "...@h:5433/chat?sslmode=require"),
        ("DATABASE_URL", "postgresql://h/chat?user=alo&password=hunter2&sslmode=require", "password=...&sslmode"),
        ("DATABASE_URL", "host=h user=alo password=hunter2 dbname=chat", "host=h user=alo password=... dbname=chat"),
        ("DATABASE_URL", r"host=h password='it\'s hunter2' dbname=chat", "host=h password=... dbname=chat"),
        ("DATABASE_URL", r"host=h password = hunter2\ hunter2 dbname=chat", "password=... dbname=chat"),
        ("REDIS_URL", "rediss://alo:hunter2@h:1/2", "rediss://...@h:1/2"),
        ("REDIS_URL", "redis://h/2?password=hunter2&username=alo", "redis://h/2?password=...&username=alo"),
        ("REDIS_URL", "redis+sentinel://h/chat?sentinel_password=hunter2", "sentinel_password=..."),
        ("OBJECT_STORE_URL", "s3://key:hunter2@h:9000/chat?region=eu", "s3://...@h:9000/chat?region=eu"),
        ("OFFLINE_NOTICE_URL", "https://hooks.example/hunter2?key=hunter2", "https://hooks.example/..."),
        ("OPS_TOKEN", "hunter2hunter2hunter2", "..."),
    ],
)
def test_secrets_are_masked_and_the_rest_is_shown(name: str, value: str, shown: str) -> None:
    found = setting(name, {name: value})
    assert shown in found.value
    assert "hunter2" not in found.value


@each_row(
    ("name", "meant"),
    [
        ("DATABSE_URL", "DATABASE_URL"),
        ("DATABASE_URI", "DATABASE_URL"),
        ("SOCKETPORT", "SOCKET_PORT"),
        ("redis_url", "REDIS_URL"),
        ("RETENTION_DAY", "RETENTION_DAYS"),
        ("OPS_TOKN", "OPS_TOKEN"),
    ],
)
def test_a_misspelled_variable_is_named_with_the_one_that_is_meant(name: str, meant: str) -> None:
    [found] = misspelled({name: "x"})
    assert (found.name, found.meant[0]) == (name, meant)
    assert str(found).startswith(f"{name} is not read: do you mean {meant}")


def test_an_unknown_variable_with_a_prefix_of_ours_is_named() -> None:
    [found] = misspelled({"APNS_CERTIFICATE": "x"})
    assert str(found) == "APNS_CERTIFICATE is not read: docs/configuration.md lists the variables"


def test_variables_of_others_are_left_alone() -> None:
    others = "PATH HOME HOSTNAME HOSTTYPE LANG LOGNAME PWD PORT_RANGE REDIS_TLS_URL REDIS_SERVICE_HOST"
    others += " REDIS_PORT_6379_TCP SMTP_SERVICE_HOST METRICS_PORT_9000_TCP_ADDR"
    others += " PGHOST PGPORT LOG_DIR PUBLIC_IP NO_COLOR NOTIFY_SOCKET WATCHDOG_USEC DATABASE_NAME TOKEN HTTP_PROXY"
    others += " ALO_HTTP_URL ALO_SOCKET_URL PYTHONPATH SSL_CERT_FILE XDG_CONFIG_HOME"
    others += " REDIS_HOST REDIS_PORT REDIS_PASSWORD"
    ours = [each.name.upper() for each in fields(Config)]
    assert [str(each) for each in misspelled(dict.fromkeys([*others.split(), *ours], "x"))] == []
