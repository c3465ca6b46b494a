"""Redis URLs: the server, or the sentinels that know it, and the login.

| form | |
|---|---|
| `redis://[USER:PASSWORD@]HOST[:PORT][/DB]` | one server |
| `rediss://…` | the same with TLS |
| `unix://[USER:PASSWORD@]/PATH[?db=DB]` | one server, by its Unix socket |
| `redis+sentinel://[USER:PASSWORD@]HOST[:PORT],HOST[:PORT]/SERVICE[/DB]` | the master that these sentinels name |
| `rediss+sentinel://…` | the same with TLS |
| `redis+cluster://[USER:PASSWORD@]HOST[:PORT],HOST[:PORT]` | the Redis Cluster of these servers; two or three do |
| `rediss+cluster://…` | the same with TLS |

Several servers are several of the first five forms, separated by spaces. A cluster has database 0 alone.

User, password, database and query mean what they mean to redis-py: they are percent-decoded, and the query may also
have `username`, `password` and `db`. To import redis-py takes a tenth of a second of CPU, so nothing of it runs here;
a test compares the two.

With TLS: `ssl_ca_certs` (a file; without it the system's authorities), `ssl_certfile` and `ssl_keyfile` (for servers
that ask for a certificate), `ssl_cert_reqs=none`, `ssl_check_hostname=false`.

Sentinels have port 26379. They have no password, unless the URL gives `sentinel_password` (with `sentinel_username`).
In `rediss+sentinel://` they use TLS like the servers, unless `sentinel_ssl=false`.
"""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs, unquote

PORT: Final = 6379
SENTINEL_PORT: Final = 26379

MAX_SERVERS: Final = 16
"""As many as there are virtual buses (`store.redis.buses`)."""

_FORM: Final = re.compile(r"(rediss?|unix|rediss?\+(?:sentinel|cluster))://([^/?#]*)([^?#]*)(\?[^#]*)?", re.IGNORECASE)
_HOST: Final = re.compile(r"(?:\[([0-9a-fA-F:.]+(?:%\w+)?)\]|([^\[\]:@,\s]+))(?::(\d{1,5}))?")
_DATABASE: Final = re.compile(r"/?|/\d{1,9}/?")
_SERVICE: Final = re.compile(r"/([A-Za-z0-9._-]+)(.*)")
_QUERY: Final = re.compile(r"\??|\?\w+=[^&]*(?:&\w+=[^&]*)*")

_IN: Final = frozenset({"username", "password", "db"})
_TLS: Final = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname"})
_FALSE: Final = frozenset({"0", "F", "FALSE", "N", "NO"})
_SENTINEL: Final = frozenset({"sentinel_username", "sentinel_password"})


class Address(NamedTuple):
    """The address of a server. Without a port, `host` is the path of a Unix socket."""

    host: str
    port: int | None

    def __str__(self) -> str:
        if self.port is None:
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class TLS:
    """How the client verifies the server's certificate, and its own certificate."""

    ca_certs: str | None = None
    certfile: str | None = None
    keyfile: str | None = None
    is_verified: bool = True
    is_hostname_checked: bool = True

    def context(self) -> ssl.SSLContext:
        """
        :raises OSError: if a file cannot be read, or is not a certificate or key (`ssl.SSLError`).
        """
        context = ssl.create_default_context(cafile=self.ca_certs)
        context.check_hostname = self.is_verified and self.is_hostname_checked
        if not self.is_verified:
            context.verify_mode = ssl.CERT_NONE
        if self.certfile:
            context.load_cert_chain(self.certfile, self.keyfile)
        return context


@dataclass(frozen=True, slots=True)
class Login:
    """User and password; both empty for none."""

    username: str = ""
    password: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """The parts of a Redis URL.

    :ivar addresses: of the one server, of the sentinels, or of servers of the cluster.
    :ivar service: the sentinels' name for the master; empty without sentinels.
    """

    addresses: tuple[Address, ...]
    service: str
    login: Login
    sentinel_login: Login
    database: int
    tls: TLS | None
    sentinel_tls: TLS | None
    is_cluster: bool = False

    def __str__(self) -> str:
        """For logs, without the password."""
        at = ",".join(map(str, self.addresses))
        if self.is_cluster:
            return f"the cluster of {at}"
        return f"{self.service} of the sentinels {at}" if self.service else at


def parse_redis_url(url: str) -> RedisUrl:
    """
    :raises ValueError: the text says what the URL should be, and repeats no part of it: any may be the password.
    """
    form = _FORM.fullmatch(url)
    if form is None:
        raise ValueError(
            "must be a redis://, rediss://, unix://, redis+sentinel://, rediss+sentinel://, redis+cluster:// or"
            " rediss+cluster:// URL (in a password, write # as %23)"
        )
    scheme, authority, path, query = form[1].lower(), form[2], form[3], form[4] or ""
    inside, _, hosts = authority.rpartition("@")
    service, is_cluster = "", scheme.endswith("+cluster")
    if scheme == "unix":
        addresses = _socket(hosts, path)
        path = ""
    elif scheme.endswith("+sentinel"):
        service, path = _service(path)
        addresses = tuple(_address(host, SENTINEL_PORT) for host in hosts.split(","))
    elif is_cluster:
        addresses = tuple(_address(host, PORT) for host in hosts.split(","))
    else:
        addresses = (_address(hosts or "localhost", PORT),)
    if not _DATABASE.fullmatch(path):
        raise ValueError("must end with the number of a database, or without one (in a password, write / as %2F)")
    if not _QUERY.fullmatch(query):
        raise ValueError("must have NAME=VALUE and & in its query, and nothing else (in a password, write ? as %3F)")
    said = _said(query, with_tls=scheme.startswith("rediss"), with_sentinels=bool(service))
    username, _, password = inside.partition(":")
    tls = _tls(said) if scheme.startswith("rediss") else None
    database = said.get("db", int(path.strip("/") or 0))
    if is_cluster and database:
        raise ValueError("must have no database but 0: a cluster has no other")
    return RedisUrl(
        addresses,
        service,
        Login(unquote(username) or said.get("username", ""), unquote(password) or said.get("password", "")),
        Login(said.get("sentinel_username", ""), said.get("sentinel_password", "")),
        database,
        tls,
        tls if _choice(said, "sentinel_ssl", {"true": True, "false": False}, True) else None,
        is_cluster,
    )


def parse_redis_urls(urls: str) -> list[RedisUrl]:
    """One URL, or those of several servers.

    :raises ValueError: as `parse_redis_url`; or if a cluster is among several, or there are too many.
    """
    parsed = [parse_redis_url(url) for url in urls.split()] or [parse_redis_url(urls)]
    if len(parsed) > 1 and any(each.is_cluster for each in parsed):
        raise ValueError("must have one URL of a cluster, or several of servers without a cluster")
    if len(parsed) > MAX_SERVERS:
        raise ValueError(f"must have at most {MAX_SERVERS} URLs")
    if len({(each.addresses, each.service, each.database) for each in parsed}) < len(parsed):
        raise ValueError("must name each server once")
    return parsed


def redis_url_fault(urls: str) -> str:
    """The fault of the URLs, or of the files that they name; empty if they have none."""
    try:
        parsed = parse_redis_urls(urls)
    except ValueError as error:
        return str(error)
    try:
        for each in parsed:
            if each.tls is not None:
                each.tls.context()
    except OSError as error:
        return f"names certificates that cannot be used: {error.strerror or error}"
    return ""


def _socket(hosts: str, path: str) -> tuple[Address, ...]:
    if hosts or len(path) < 2 or "@" in path:
        raise ValueError("must name a socket: unix:///run/redis.sock (write / in a password as %2F, @ anywhere as %40)")
    return (Address(unquote(path), None),)


def _service(path: str) -> tuple[str, str]:
    """The name of the service, and the rest of the path."""
    found = _SERVICE.fullmatch(path)
    if found is None:
        raise ValueError(
            "must name the service, of letters, digits and . _ -, after the sentinels:"
            " redis+sentinel://HOST:26379,HOST:26379/SERVICE (in a password, write / as %2F)"
        )
    return found[1], found[2]


def _address(text: str, default_port: int) -> Address:
    found = _HOST.fullmatch(text)
    port = int(found[3] or default_port) if found else 0
    if found is None or not 0 < port < 65536:
        raise ValueError(
            "must have a host, or a host and a port of 1 to 65535"
            " (an IPv6 address in brackets; in a password, write / ? @ as %2F %3F %40)"
        )
    return Address(found[1] or unquote(found[2]), port)


def _said(query: str, *, with_tls: bool, with_sentinels: bool) -> dict[str, Any]:
    """The names of the query with their values: the first value of each, and none that is empty."""
    known = _IN
    if with_tls:
        known |= _TLS
    if with_sentinels:
        known |= _SENTINEL
    if with_tls and with_sentinels:
        known |= {"sentinel_ssl"}
    said: dict[str, Any] = {name: values[0] for name, values in parse_qs(query.removeprefix("?")).items()}
    if not said.keys() <= known:
        raise ValueError(f"has an unknown name in its query; known names are {_listed(known)}")
    try:
        said |= {"db": int(said["db"])} if "db" in said else {}
    except ValueError:
        raise ValueError(f"has an invalid value in its query; known names are {_listed(known)}") from None
    if said.get("db", 0) < 0:
        raise ValueError("must have a database of 0 or more")
    return said


def _listed(names: frozenset[str]) -> str:
    return ", ".join(sorted(names))


def _tls(said: dict[str, Any]) -> TLS:
    if said.get("ssl_keyfile") and not said.get("ssl_certfile"):
        raise ValueError("must have ssl_certfile if it has ssl_keyfile")
    # To a client "optional" means "required": a server always shows its certificate.
    is_verified = _choice(said, "ssl_cert_reqs", {"required": True, "optional": True, "none": False}, True)
    return TLS(
        said.get("ssl_ca_certs"),
        said.get("ssl_certfile"),
        said.get("ssl_keyfile"),
        is_verified,
        said.get("ssl_check_hostname", "true").upper() not in _FALSE,
    )


def _choice(said: dict[str, Any], name: str, choices: dict[str, bool], default: bool) -> bool:
    if name not in said:
        return default
    if (word := said[name].lower()) not in choices:
        raise ValueError(f"must have one of {', '.join(choices)} as {name}")
    return choices[word]
