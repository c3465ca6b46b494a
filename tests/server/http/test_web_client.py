"""The web client: its files come from a closed list, under a policy that lets a browser run nothing else."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from posixpath import dirname, join, normpath

from runtime.config import Config
from server.http.web_client import CLIENTS, PAGE, WebClient, web_client_of
from store.postgres.pool import Pool
from tests.server.http_world import WEB_CLIENT, open_api

GATEWAYS = ["wss://one.example", "wss://two.example"]
MOST_LINES = 1500

NOT_LISTED = (
    *("web/package.json", "web/index.html", "web/.npmrc", "js/README.md", "js/test/hello.test.js", "js/package.json"),
    *(
        "js/stores/file.js",
        "npm/ts-mls/package.json",
        "js/../../server/http/app.py",
        "web/../../Procfile",
        "nothing.js",
    ),
    *("js//client.js", "/etc/passwd", "js/conformance/adapter.js"),
)


def policy_of(client: WebClient) -> dict[str, list[str]]:
    """The directives of the policy, each with its sources."""
    parts = (each.split() for each in client.headers["content-security-policy"].split(";"))
    return {name: sources for name, *sources in parts}


def small_client(folder: Path) -> WebClient:
    """A web client of four files, with one package of two that its import map names."""
    (folder / "web" / "node_modules" / "here" / "more").mkdir(parents=True)
    (folder / "js").mkdir()
    imports = '{"imports": {"here/": "/app/npm/here/", "@of/gone": "/app/npm/@of/gone/mod.js"}}'
    files = {
        "web/index.html": f'<meta content="" name="gateways"><script type="importmap">{imports}</script>',
        "web/app.js": "1",
        "web/node_modules/here/one.js": "1",
        "web/node_modules/here/more/two.js": "1",
        "web/node_modules/here/secret.txt": "no",
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    return WebClient(GATEWAYS, folder=folder)


async def test_the_client_is_there_only_if_the_deployment_has_it(pool: Pool, redis_url: str) -> None:
    assert web_client_of(Config()) is None
    async with open_api(pool, redis_url) as api:
        assert {(await api.app.test_client().get(path)).status_code for path in ("/app", "/app/web/app.js")} == {404}


async def test_files_have_the_policy_and_tags_and_others_are_not_found(pool: Pool, redis_url: str) -> None:
    async with open_api(pool, redis_url, web_client=WEB_CLIENT) as api:
        client = api.app.test_client()
        for path, kind in {"/app": "html", "/app/web/app.js": "javascript", "/app/web/style.css": "css"}.items():
            for coding in ("identity", "br"):
                found = await client.get(path, headers={"accept-encoding": coding})
                assert (found.status_code, kind in found.headers["content-type"]) == (200, True), path
                for name, value in WEB_CLIENT.headers.items():
                    assert found.headers[name] == value
                assert found.headers["x-content-type-options"] == "nosniff"
                again = await client.get(
                    path, headers={"accept-encoding": coding, "if-none-match": found.headers["etag"]}
                )
                assert (again.status_code, await again.get_data()) == (304, b"")
        for name in NOT_LISTED:
            assert (await client.get(f"/app/{name}")).status_code in (404, 400), name


def test_the_policy_lets_scripts_of_the_list_run_and_no_others() -> None:
    policy = policy_of(WEB_CLIENT)
    page = WEB_CLIENT.file(PAGE)
    source = (CLIENTS / "web" / "index.html").read_text()
    [import_map] = re.findall(r'<script type="importmap">(.*?)</script>', source, re.DOTALL)
    digest = b64encode(sha256(import_map.encode()).digest()).decode()
    assert policy["script-src"] == ["'self'", f"'sha256-{digest}'"]
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == ["'none'"]
    assert not [word for words in policy.values() for word in words if "unsafe" in word or word in ("*", "data:")]
    assert not re.search(r"<style|style=| on[a-z]+=", source)
    assert len(re.findall("<script", source)) == 2
    assert page is not None
    for file in (CLIENTS / "web").glob("*.js"):
        assert not re.search(r"innerHTML|dangerously|style=|\beval\b|new Function", file.read_text()), file


def test_a_page_connects_to_the_gateways_and_the_object_store_alone() -> None:
    store = "s3://key:secret@files.example/chat"
    chosen = web_client_of(
        Config(web_client=1, public_socket_url=", ".join(GATEWAYS), object_store_url=store, port=8000)
    )
    assert chosen is not None
    assert policy_of(chosen)["connect-src"] == ["'self'", *GATEWAYS, "https://files.example"]
    local = web_client_of(Config(web_client=1, object_store_url="file:///tmp/x", socket_port=8001))
    assert local is not None
    assert policy_of(local)["connect-src"] == ["'self'", "ws://127.0.0.1:8001", "http://127.0.0.1:8000"]


def test_a_page_with_another_policy_has_another_tag() -> None:
    """Where the object store moves, the bytes of the page stay."""
    pages = [WebClient(GATEWAYS, files).file(PAGE) for files in ("https://one.example", "https://two.example")]
    assert pages[0] is not None
    assert pages[1] is not None
    assert pages[0].body == pages[1].body
    assert pages[0].tag != pages[1].tag


def test_each_module_that_a_file_imports_is_in_the_list() -> None:
    own = {name for name in WEB_CLIENT.names if name.startswith(("web/", "js/")) and name.endswith(".js")}
    assert {"web/app.js", "js/client.js", "js/e2ee/mls.js"} <= own
    for name in own:
        file = WEB_CLIENT.file(name)
        assert file is not None
        for target in re.findall(r"^(?:import|export)[^'\"]*from '(\.[^']+)'", file.body.decode(), re.MULTILINE):
            assert normpath(join(dirname(name), target)) in own, (name, target)


def test_the_page_says_which_packages_are_missing_and_names_the_gateways_if_none_is(tmp_path: Path) -> None:
    client = small_client(tmp_path)
    assert client.names == {PAGE, "web/app.js", "npm/here/one.js", "npm/here/more/two.js"}
    assert client.missing == ["@of/gone"]
    page = client.file(PAGE)
    assert page is not None
    assert b"Not here: @of/gone." in page.body
    (tmp_path / "web" / "node_modules" / "@of" / "gone").mkdir(parents=True)
    (tmp_path / "web" / "node_modules" / "@of" / "gone" / "mod.js").write_text("1")
    whole = WebClient(GATEWAYS, folder=tmp_path)
    assert whole.missing == []
    page = whole.file(PAGE)
    assert page is not None
    assert b'content="wss://one.example wss://two.example" name="gateways"' in page.body


def test_the_web_client_stays_small() -> None:
    files = [file for file in (CLIENTS / "web").iterdir() if file.suffix in (".js", ".css", ".html")]
    lines = {file.name: len(file.read_text().splitlines()) for file in files}
    assert sum(lines.values()) <= MOST_LINES, lines
    assert max(lines.values()) < 350, lines
