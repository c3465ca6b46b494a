"""Redis URLs, and the errors for URLs that cannot be used: they never show any part of a password."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.connection import parse_url

from store.redis.url import TLS, Address, Login, RedisUrl, parse_redis_url, redis_url_fault
from tests.rows import each_row


def meaning(*addresses: Address, **changes: Any) -> RedisUrl:
    values: dict[str, Any] = {
        "service": "",
        "login": Login(),
        "sentinel_login": Login(),
        "database": 0,
        "tls": None,
        "sentinel_tls": None,
    }
    return RedisUrl(addresses, **values | changes)


THREE = (Address("a", 26379), Address("::1", 5), Address("c", 26379))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://", meaning(Address("localhost", 6379))),
        ("redis://h", meaning(Address("h", 6379))),
        ("redis://[::1]:1/2", meaning(Address("::1", 1), database=2)),
        ("redis://h?db=3", meaning(Address("h", 6379), database=3)),
        ("redis://:p%40%2F%3a@h/", meaning(Address("h", 6379), login=Login("", "p@/:"))),
        ("redis://u:p@ss@h", meaning(Address("h", 6379), login=Login("u", "p@ss"))),
        ("redis://h?username=u&password=p", meaning(Address("h", 6379), login=Login("u", "p"))),
        ("rediss://h:1", meaning(Address("h", 1), tls=TLS(), sentinel_tls=TLS())),
        ("unix:///run/my%20redis?db=4", meaning(Address("/run/my redis", None), database=4)),
        ("unix://u:p@/run/redis", meaning(Address("/run/redis", None), login=Login("u", "p"))),
        ("redis+sentinel://a,[::1]:5,c/my-chat.1", meaning(*THREE, service="my-chat.1")),
        (
            "redis+sentinel://u:p@a,[::1]:5,c/chat/7?sentinel_username=s&sentinel_password=t",
            meaning(*THREE, service="chat", login=Login("u", "p"), sentinel_login=Login("s", "t"), database=7),
        ),
        ("redis+cluster://a,b:7", meaning(Address("a", 6379), Address("b", 7), is_cluster=True)),
        (
            "rediss+cluster://u:p@a/0",
            meaning(Address("a", 6379), login=Login("u", "p"), tls=TLS(), sentinel_tls=TLS(), is_cluster=True),
        ),
        ("rediss+sentinel://a,[::1]:5,c/chat", meaning(*THREE, service="chat", tls=TLS(), sentinel_tls=TLS())),
        ("rediss+sentinel://a,[::1]:5,c/chat?sentinel_ssl=false", meaning(*THREE, service="chat", tls=TLS())),
    ],
)
def test_each_form_is_understood(url: str, expected: RedisUrl) -> None:
    assert parse_redis_url(url) == expected
    assert redis_url_fault(url) == ""


_some = st.text("a/?#@:%+ é", max_size=4).map(quote_plus)


@given(
    st.sampled_from(["redis://", "rediss://"]),
    st.sampled_from(["{}@", ":{1}@", "{}:{}@", ""]),
    _some,
    _some,
    st.sampled_from(["", "/", "/3", "/3/"]),
    st.lists(
        st.sampled_from(["db=7", "db=", "username=u%2Bv", "password=p+q", "password=", "username=a&username=b"]),
        max_size=3,
    ),
)
def test_login_and_database_mean_what_they_mean_to_redis_py(
    scheme: str, form: str, username: str, password: str, path: str, query: list[str]
) -> None:
    url = f"{scheme}{form.format(username, password)}h{path}?{'&'.join(query)}"
    theirs = parse_url(url)
    ours = parse_redis_url(url)
    assert ours.login == Login(theirs.get("username", ""), theirs.get("password", ""))
    assert ours.database == theirs.get("db", 0)


@pytest.mark.parametrize("word", ["true", "1", "yes", "false", "False", "0", "f", "n", "no", "maybe"])
def test_choice_to_check_the_name_of_the_server_means_what_it_means_to_redis_py(word: str) -> None:
    url = f"rediss://h?ssl_check_hostname={word}"
    tls = parse_redis_url(url).tls
    assert tls is not None
    assert tls.is_hostname_checked == parse_url(url)["ssl_check_hostname"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", TLS()),
        ("ssl_cert_reqs=required", TLS()),
        ("ssl_cert_reqs=none", TLS(is_verified=False)),
        ("ssl_check_hostname=false", TLS(is_hostname_checked=False)),
        ("ssl_ca_certs=/a.pem&ssl_certfile=/b&ssl_keyfile=/c", TLS("/a.pem", "/b", "/c")),
    ],
)
def test_tls_is_as_the_query_says(query: str, expected: TLS) -> None:
    assert parse_redis_url(f"rediss://h?{query}").tls == expected


@each_row(
    ("url", "fault"),
    [
        ("", "must be a redis://"),
        ("localhost:6379", "must be a redis://"),
        ("http://h", "must be a redis://"),
        ("redis://h#1", "must be a redis://"),
        ("redis://h:port", "must have a host"),
        ("redis://h:0", "must have a host"),
        ("redis://h:65536", "must have a host"),
        ("redis://a,b", "must have a host"),
        ("redis://a b", "must be a redis://"),
        ("redis://a redis://a", "must name each server once"),
        ("redis://a redis+cluster://b", "must have one URL of a cluster"),
        (" ".join(f"redis://h{n}" for n in range(17)), "must have at most 16"),
        ("redis+cluster://a/1", "must have no database but 0"),
        ("redis+cluster://a,", "must have a host"),
        ("redis://::1", "must have a host"),
        ("redis://h/chat", "must end with the number"),
        ("redis://h/1/2", "must end with the number"),
        ("redis://h?db=x", "has an invalid value in its query"),
        ("redis://h?db=-1", "must have a database of 0 or more"),
        ("redis://h?db", "must have NAME=VALUE"),
        ("redis://h?socket_timeout=3", "unknown name in its query; known names are db, password, username"),
        ("redis://h?ssl_cert_reqs=none", "unknown name"),
        ("redis://h?sentinel_password=x", "unknown name"),
        ("redis://h?host=x", "unknown name"),
        ("rediss://h?sentinel_ssl=true", "unknown name"),
        ("rediss://h?ssl_cert_reqs=never", "must have one of required, optional, none as ssl_cert_reqs"),
        ("rediss://h?ssl_keyfile=/x", "must have ssl_certfile"),
        ("unix://run/redis", "must name a socket"),
        ("unix:///", "must name a socket"),
        ("redis+sentinel://h", "must name the service"),
        ("redis+sentinel://h/", "must name the service"),
        ("redis+sentinel:///chat", "must have a host"),
        ("redis+sentinel://a,,b/chat", "must have a host"),
        ("redis+sentinel://a/chat/x", "must end with the number"),
        ("redis+sentinel://a/chat?sentinel_ssl=true", "unknown name"),
        ("rediss+sentinel://a/chat?sentinel_ssl=maybe", "must have one of true, false as sentinel_ssl"),
        ("rediss://h?ssl_ca_certs=/nowhere/ca.pem", "certificates that cannot be used: No such file"),
    ],
)
def test_fault_is_named(url: str, fault: str) -> None:
    assert fault in redis_url_fault(url)


def test_file_that_is_no_certificate_is_a_fault(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("not a certificate")
    assert "certificates that cannot be used" in redis_url_fault(f"rediss://h?ssl_ca_certs={file}")


@settings(deadline=None)  # may read the system's certificates
@given(
    st.sampled_from(["redis://:", "rediss://user:", "redis+sentinel://:", "rediss+sentinel://user:", "unix://:"]),
    st.text("/?#@:[],%&=a1 ", max_size=6),
    st.text("/?#@:[],%&=a1 ", max_size=6),
    st.sampled_from(["@h", "@h:1/2", "@a,b/chat", "@/run/redis", "@h?db=1"]),
)
def test_password_that_is_not_escaped_is_shown_nowhere(start: str, before: str, after: str, end: str) -> None:
    url = f"{start}{before}secret{after}{end}"
    if fault := redis_url_fault(url):
        assert "secret" not in fault
    else:
        parsed = parse_redis_url(url)
        assert "secret" not in str(parsed)
        assert "secret" not in repr(parsed)
