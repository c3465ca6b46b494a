"""`REDIS_HOST`, `REDIS_PORT` and `REDIS_PASSWORD`, as the service before this one had them."""

from __future__ import annotations

import pytest

from runtime.config import Config, ConfigError
from store.redis.url import parse_redis_url

PASSWORD = "p@ss/word:#?% ü"


def test_they_are_the_url_if_that_is_not_set() -> None:
    config = Config.from_environment({"REDIS_HOST": "redis.internal", "REDIS_PORT": "6380", "REDIS_PASSWORD": PASSWORD})
    parsed = parse_redis_url(config.redis_url)
    assert [str(each) for each in parsed.addresses] == ["redis.internal:6380"]
    assert (parsed.login.username, parsed.login.password, parsed.database) == ("", PASSWORD, 0)
    assert config.bus_url == config.jobs_url == config.redis_url


@pytest.mark.parametrize(
    ("given", "where"),
    [
        ({"REDIS_HOST": "h"}, "h:6379"),
        ({"REDIS_PORT": "6380"}, "localhost:6380"),
        ({"REDIS_PASSWORD": "x"}, "localhost:6379"),
        ({"REDIS_HOST": "::1", "REDIS_PORT": "1"}, "[::1]:1"),
        ({"REDIS_HOST": "h", "REDIS_PORT": "tcp://10.0.0.1:6379"}, "h:6379"),
    ],
)
def test_a_missing_part_has_the_default_of_redis(given: dict[str, str], where: str) -> None:
    assert str(parse_redis_url(Config.from_environment(given).redis_url)) == where


def test_a_port_that_kubernetes_has_set_is_left_alone() -> None:
    assert Config.from_environment({"REDIS_PORT": "tcp://10.0.0.1:6379"}) == Config()


@pytest.mark.parametrize(
    "given",
    [
        {"REDIS_HOST": "h"},
        {"REDIS_HOST": "h", "REDIS_PORT": "6380", "REDIS_PASSWORD": PASSWORD},
    ],
)
def test_both_may_be_set_if_they_say_the_same(given: dict[str, str]) -> None:
    url = Config.from_environment(given).redis_url
    assert Config.from_environment({"REDIS_URL": url, **given}).redis_url == url


@pytest.mark.parametrize(
    ("url", "given", "named"),
    [
        ("redis://h", {"REDIS_HOST": "other"}, "REDIS_HOST"),
        ("redis://h", {"REDIS_HOST": "h", "REDIS_PORT": "6380"}, "REDIS_PORT"),
        ("redis://:one@h", {"REDIS_HOST": "h", "REDIS_PASSWORD": "secret-one"}, "REDIS_PASSWORD"),
        ("redis+sentinel://h/chat", {"REDIS_HOST": "h"}, "REDIS_HOST"),
        ("unix:///run/redis.sock", {"REDIS_PORT": "6379"}, "REDIS_PORT"),
    ],
)
def test_both_may_not_be_set_if_they_differ(url: str, given: dict[str, str], named: str) -> None:
    with pytest.raises(ConfigError, match=f"^{named} says something else than REDIS_URL: remove ") as told:
        Config.from_environment({"REDIS_URL": url, **given})
    assert "secret" not in str(told.value)


@pytest.mark.parametrize("port", ["0", "65536", "six", "-1", "٣"])
def test_a_port_that_is_none_is_refused_by_name(port: str) -> None:
    with pytest.raises(ConfigError, match=r"^REDIS_PORT must be 1 to 65535$"):
        Config.from_environment({"REDIS_PORT": port})


def test_a_wrong_url_is_named_before_it_is_compared() -> None:
    with pytest.raises(ConfigError, match=r"^REDIS_URL must be a redis://"):
        Config.from_environment({"REDIS_URL": "http://h", "REDIS_HOST": "h"})
