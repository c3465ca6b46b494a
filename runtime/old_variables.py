"""Variables of the service before this one: `REDIS_HOST`, `REDIS_PORT` and `REDIS_PASSWORD` instead of `REDIS_URL`.

Kubernetes and the links of Docker set a `REDIS_PORT` of their own, such as `tcp://10.0.0.1:6379`: it is left alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from store.redis.url import PORT, parse_redis_url

OLD_REDIS: Final = ("REDIS_HOST", "REDIS_PORT", "REDIS_PASSWORD")


def old_redis(environment: Mapping[str, str]) -> dict[str, str]:
    """Those of `OLD_REDIS` that are set."""
    found = {name: environment[name] for name in OLD_REDIS if environment.get(name)}
    if found.get("REDIS_PORT", "").startswith("tcp://"):
        del found["REDIS_PORT"]
    return found


def redis_url_of(environment: Mapping[str, str]) -> str:
    """The URL of Redis: `REDIS_URL`, or one of the old variables; empty if none of them is set.

    :raises ValueError: if the old variables cannot be used, or differ from `REDIS_URL`. The text begins with the name
        of a variable, and repeats no password.
    """
    old, url = old_redis(environment), environment.get("REDIS_URL", "")
    if not old:
        return url
    host, port = old.get("REDIS_HOST", "localhost"), _port(old)
    if not url:
        login = f":{quote(old['REDIS_PASSWORD'], safe='')}@" if "REDIS_PASSWORD" in old else ""
        return f"redis://{login}{f'[{host}]' if ':' in host else quote(host, safe='')}:{port}/0"
    try:
        parsed = parse_redis_url(url)
    except ValueError as error:
        raise ValueError(f"REDIS_URL {error}") from None
    said = {
        "REDIS_HOST": [each.host for each in parsed.addresses],
        "REDIS_PORT": [str(each.port) for each in parsed.addresses],
        "REDIS_PASSWORD": [parsed.login.password],
    }
    for name, text in old.items():
        if parsed.service or (text if name != "REDIS_PORT" else str(port)) not in said[name]:
            raise ValueError(
                f"{name} says something else than REDIS_URL: remove {' and '.join(old)}, which REDIS_URL replaces"
            )
    return url


def _port(old: Mapping[str, str]) -> int:
    text = old.get("REDIS_PORT", str(PORT))
    if not text.isascii() or not text.isdecimal() or not 0 < int(text) < 65536:
        raise ValueError("REDIS_PORT must be 1 to 65535")
    return int(text)
