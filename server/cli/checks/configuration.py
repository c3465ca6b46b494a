"""Checks of the configuration: misspelled variables, proxies, TLS, ports for operators. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from runtime.config import Config
from runtime.config_sources import misspelled
from server.cli.checks.finding import Finding, ok, warning
from store.redis.url import parse_redis_urls

_LOCAL_NAMES: Final = frozenset(("", "localhost"))


def check_configuration(config: Config, environment: Mapping[str, str]) -> Iterator[Finding]:
    """Findings about a configuration that is valid."""
    wrong = [str(each) for each in misspelled(environment)]
    if wrong:
        yield warning("variables", "; ".join(wrong), "correct the names: no process reads these variables")
    else:
        yield ok("variables", "valid, and none is misspelled")
    yield from _proxies(config)
    yield from _urls(config)
    yield from _redis_tls(config)
    if is_local(config.metrics_host) or not config.metrics_port:
        yield ok("port for operators", f"on {config.metrics_host}")
    else:
        found = f"METRICS_HOST is {config.metrics_host}, and the port has no authentication"
        yield warning("port for operators", found, "let a firewall admit Prometheus alone, or listen on 127.0.0.1")


def _proxies(config: Config) -> Iterator[Finding]:
    if config.trusted_proxies:
        yield ok("proxies", f"TRUSTED_PROXIES is {config.trusted_proxies}")
    elif is_local(config.host):
        found = "the processes listen on this machine alone, and TRUSTED_PROXIES is empty"
        advice = "set TRUSTED_PROXIES to the proxy in front: without it all clients share its address and its limits"
        yield warning("proxies", found, advice)
    else:
        found = f"the processes listen on {config.host} without TLS, and TRUSTED_PROXIES is empty"
        advice = "put a proxy with TLS in front, and name it in TRUSTED_PROXIES (docs/deployment.md)"
        yield warning("proxies", found, advice)


def _urls(config: Config) -> Iterator[Finding]:
    for name, url in (("PUBLIC_URL", config.public_url), ("PUBLIC_FILES_URL", config.public_files_url)):
        parts = urlsplit(url)
        if parts.scheme == "http" and not is_local(parts.hostname or ""):
            advice = "give it an https:// URL: links with tokens go over the network in the clear"
            yield warning("TLS of links", f"{name} begins with http://", advice)
        elif url:
            yield ok("TLS of links", f"{name} is {parts.scheme}://{parts.netloc}")


def _redis_tls(config: Config) -> Iterator[Finding]:
    for url in dict.fromkeys((config.redis_url, config.bus_url, config.jobs_url)):
        for parsed in parse_redis_urls(url):
            away = [str(each) for each in parsed.addresses if each.port is not None and not is_local(each.host)]
            if away and parsed.tls is None:
                advice = "use rediss://, unless that network is yours alone: names of users and pushes pass there"
                yield warning("TLS to Redis", f"{', '.join(away)} without TLS", advice)
            else:
                yield ok("TLS to Redis", f"{parsed}, {'on this machine' if not away else 'with TLS'}")


def is_local(host: str) -> bool:
    """Whether a host is this machine, as far as its name or address tells."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host in _LOCAL_NAMES
