"""Signed URLs: one request alone, and a secret that all processes of a folder share."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from store.errors import ObjectStoreRefused, TicketExpired, TicketInvalid
from store.objects.direct import SHOWN_TYPES, Part
from store.objects.folder import Folder
from store.objects.signed_urls import SECRET, SignedUrl, UrlSigner, read_or_make_secret
from store.objects.tree import Tree

KEY = "attachments/7f/file"
PART = Part(3, 17, bytes(range(32)))
UPLOAD = "0" * 32


def checked(signer: UrlSigner, method: str, url: str) -> SignedUrl:
    parts = urlsplit(url)
    return signer.check(method, parts.path, parts.query)


def test_a_url_allows_what_was_signed_until_its_time_is_over() -> None:
    now = [1000.0]
    signer = UrlSigner(b"x" * 32, "https://h", lambda: now[0])
    get = signer.url("GET", KEY, expires_s=60)
    put = signer.url("PUT", KEY, expires_s=60, part=PART, upload=UPLOAD)
    assert get.startswith(f"https://h/files/{KEY}?expires=1060&signature=")
    now[0] = 1059.5
    assert checked(signer, "GET", get) == checked(signer, "HEAD", get) == SignedUrl(KEY, None, None, 0.5)
    assert checked(signer, "PUT", put) == SignedUrl(KEY, PART, UPLOAD, 0.5)
    for method, url in (("PUT", get), ("GET", put), ("HEAD", put), ("POST", put)):
        with pytest.raises(TicketInvalid):
            checked(signer, method, url)
    now[0] = 1060.0
    for method, url in (("GET", get), ("PUT", put)):
        with pytest.raises(TicketExpired):
            checked(signer, method, url)


def test_a_url_of_a_picture_names_its_media_type() -> None:
    signer = UrlSigner(b"x" * 32, "", lambda: 1000.0)
    for media_type in SHOWN_TYPES:
        url = signer.url("GET", KEY, expires_s=60, shown_as=media_type)
        assert checked(signer, "GET", url).shown_as == media_type
        for other in {*SHOWN_TYPES, "image/svg+xml", "text/html", ""} - {media_type}:
            with pytest.raises(TicketInvalid):
                checked(signer, "GET", url.replace(media_type, other))
        for wrong in (url.replace(f"&type={media_type}", ""), url.replace("&type", "&TYPE")):
            with pytest.raises(TicketInvalid):
                checked(signer, "GET", wrong)
        with pytest.raises(TicketInvalid):
            checked(signer, "PUT", url)
    plain = signer.url("GET", KEY, expires_s=60)
    assert checked(signer, "GET", plain).shown_as is None
    with pytest.raises(TicketInvalid):
        checked(signer, "GET", plain.replace("&signature", "&type=image/png&signature"))


@pytest.mark.parametrize("url_method", ["GET", "PUT"])
def test_no_character_of_a_url_may_be_another(url_method: str) -> None:
    signer = UrlSigner(b"x" * 32, "", lambda: 1000.0)
    part = PART if url_method == "PUT" else None
    url = signer.url(url_method, KEY, expires_s=60, part=part, upload=UPLOAD if part else None)
    checked(signer, url_method, url)
    for n in range(len("/files/"), len(url)):
        for other in "0a/&=?.":
            if other != url[n]:
                with pytest.raises(TicketInvalid):
                    checked(signer, url_method, url[:n] + other + url[n + 1 :])
    with pytest.raises(TicketInvalid):
        checked(UrlSigner(b"y" * 32, "", lambda: 1000.0), url_method, url)


async def test_all_processes_of_a_folder_share_one_secret_that_others_cannot_read(tmp_path: Path) -> None:
    one, other = Folder(tmp_path, "https://h/"), Folder(tmp_path, "https://h/")
    await one.start()
    await other.start()
    assert checked(other.signer, "GET", one.presign_get(KEY, expires_s=60).url).key == KEY
    status = (tmp_path / SECRET).stat()
    assert (stat.S_IMODE(status.st_mode), status.st_size) == (0o600, 32)
    assert await one.list("") == []


def test_a_secret_is_made_once_however_many_begin_at_the_same_time(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as threads:
        secrets = set(threads.map(lambda _: read_or_make_secret(Tree(tmp_path)), range(64)))
    assert len(secrets) == 1
    assert [file.name for file in tmp_path.iterdir()] == [SECRET]


async def test_a_secret_that_others_may_read_is_closed_to_them(tmp_path: Path) -> None:
    await Folder(tmp_path).start()
    (tmp_path / SECRET).chmod(0o644)
    await Folder(tmp_path).start()
    assert stat.S_IMODE((tmp_path / SECRET).stat().st_mode) == 0o600


async def test_a_secret_of_another_length_or_behind_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / SECRET).write_bytes(b"short")
    with pytest.raises(ObjectStoreRefused, match="must have 32 bytes"):
        await Folder(tmp_path).start()
    (tmp_path / SECRET).rename(tmp_path / "elsewhere")
    (tmp_path / SECRET).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ObjectStoreRefused, match="symbolic link"):
        await Folder(tmp_path).start()
