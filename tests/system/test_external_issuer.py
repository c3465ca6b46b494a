"""A started `web` and the key set of an external issuer: logging in, another key, and the end of the former one."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import httpx

from server.http.issuer_keys import REFETCH_S
from tests.processes import open_cluster
from tests.server.http.issuer_world import AUDIENCE, ISSUER, Issuer, serving
from tests.tls import Authority, open_tls
from tests.waiting import DEADLINE_S, wait_until


async def test_web_fetches_the_key_set_and_refuses_a_key_that_the_issuer_has_withdrawn(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    """The next fetch comes with the first token that names a key which `web` does not know."""
    issuer, authority = Issuer(), Authority(tmp_path / "ca")
    async with (
        serving(issuer.serve_keys) as plain,
        open_tls(authority.server_context("localhost"), urlsplit(plain).port or 0) as port,
        open_cluster(database_url, redis_url) as cluster,
    ):
        web = await cluster.start_web(
            EXTERNAL_ISSUER=ISSUER,
            EXTERNAL_AUDIENCE=AUDIENCE,
            EXTERNAL_JWKS_URL=f"https://localhost:{port}/jwks.json",
            SSL_CERT_FILE=str(authority.file),
        )
        async with httpx.AsyncClient(base_url=cluster.http_url, trust_env=False, timeout=DEADLINE_S) as client:

            async def log_in(token: str, **more: str) -> tuple[int, str]:
                body = {"external_token": token, "name": "Phone", **more}
                answer = await client.post("/v1/devices", json=body)
                return answer.status_code, answer.json().get("code", "")

            assert (await client.get("/v1/registration")).json()["external_issuer"] == ISSUER
            assert issuer.fetches == 0, "nothing is fetched before the first login"
            former = issuer.token()
            assert await log_in(former) == (400, "username_required")
            assert await log_in(former, username="ann") == (201, "")
            assert await log_in(former) == (201, "")
            assert issuer.fetches == 1

            issuer.rotate("key-2", keeps=False)
            assert await log_in(former) == (201, ""), "until the next fetch"

            async def is_taken() -> bool:
                status, code = await log_in(issuer.token())
                assert (status, code) in ((201, ""), (401, "invalid_external_token"))
                return status == 201

            await wait_until(is_taken, "the new key is fetched", timeout_s=REFETCH_S + DEADLINE_S)
            assert issuer.fetches == 2, "at most one in 10 s, however many tokens name a key that is not known"
            assert await log_in(former) == (401, "invalid_external_token")
            assert await log_in(issuer.token()) == (201, "")
        assert await web.stop() == 0
        assert not [line for line in web.raw if former in line or "key-2" in line]
