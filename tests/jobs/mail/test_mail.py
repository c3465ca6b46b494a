"""Mails, from the template to the message that a mail server gets."""

from __future__ import annotations

import configparser
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatch
from functools import partial
from pathlib import Path

import pytest
import structlog
import trio

from jobs.engine.job import GiveUp
from jobs.mail import smtp, wording
from jobs.mail.mailer import Mailer
from jobs.mail.smtp import NotSent
from tests.mail_server import LOGIN, PASSWORD, MailServer, open_mail_server
from tests.tls import Authority
from tests.waiting import let_pass, wait_until

PUBLIC = "https://chat.example/alo"
SENDER = "ALO Shield <no-reply@chat.example>"
VALUES = {
    "link": f"{PUBLIC}/link",
    "username": "alice",
    "device_name": "Phone",
    "at": "2026-01-02 03:04",
    "zone": "Europe/Berlin",
    "unread": "1379",
    "conversations": "2468",
}
WAITING = {"unread": "1", "conversations": "1"}


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority") / "ca")


@pytest.fixture
async def server(authority: Authority) -> AsyncGenerator[MailServer, None]:
    async with open_mail_server(MailServer(authority.server_context("127.0.0.1"))) as server:
        yield server


def mailer_to(url: str) -> Mailer:
    return Mailer(url, mail_from=SENDER, public_url=PUBLIC)


@pytest.fixture
def mailer(server: MailServer, authority: Authority) -> Mailer:
    return mailer_to(server.url(ca=authority.file))


async def test_mail_arrives_as_text_and_html_by_starttls_and_login(server: MailServer, mailer: Mailer) -> None:
    await mailer.send("Bob.B@example.org", "new_device", **VALUES)
    [got] = server.got
    assert (got.is_encrypted, got.is_logged_in, got.hostname) == (True, True, "chat.example")
    assert (got.mail_from, got.to) == ("no-reply@chat.example", ["Bob.B@example.org"])
    letter = got.letter
    assert letter.get_content_type() == "multipart/alternative"
    assert [part.get_content_type() for part in letter.iter_parts()] == ["text/plain", "text/html"]
    assert (letter["From"], letter["To"]) == (SENDER, "Bob.B@example.org")
    assert letter["Subject"] == "A new device logged in to your ALO Shield account"
    assert abs(letter["Date"].datetime - datetime.now(UTC)) < timedelta(minutes=1)
    assert letter["Auto-Submitted"] == "auto-generated"
    assert letter["Message-ID"].endswith("@chat.example>")
    assert "List-Unsubscribe" not in letter
    for subtype in ("plain", "html"):
        for value in ("alice", "Phone", "2026-01-02 03:04", "Europe/Berlin", PUBLIC):
            assert value in got.part(subtype)
    assert not letter.defects
    await wait_until(lambda: server.now_open == 0, "the connection is closed")


async def test_mail_arrives_by_tls_from_the_first_byte(authority: Authority) -> None:
    async with open_mail_server(MailServer(authority.server_context("127.0.0.1"), is_implicit=True)) as server:
        await mailer_to(server.url(ca=authority.file)).send("bob@example.org", "offline_notice", **WAITING)
        [got] = server.got
        assert (got.is_encrypted, got.is_logged_in) == (True, True)


@pytest.mark.parametrize("is_implicit", [False, True], ids=["starttls", "implicit"])
@pytest.mark.parametrize("trusted", [True, False], ids=["other name", "other authority"])
async def test_server_without_a_valid_certificate_gets_neither_mail_nor_password(
    authority: Authority, *, trusted: bool, is_implicit: bool
) -> None:
    context = authority.server_context("mail.example" if trusted else "127.0.0.1")
    async with open_mail_server(MailServer(context, is_implicit=is_implicit)) as server:
        with pytest.raises(NotSent, match="certificate verify failed"):
            await mailer_to(server.url(ca=authority.file if trusted else "")).send(
                "bob@example.org", "offline_notice", **WAITING
            )
        assert (server.got, server.passwords) == ([], [])


async def test_server_without_tls_gets_nothing_unless_that_is_wished_for(authority: Authority) -> None:
    async with open_mail_server(MailServer()) as server:
        with pytest.raises(NotSent, match=r"offers no STARTTLS.*\?tls=none"):
            await mailer_to(server.url(ca=authority.file)).send("bob@example.org", "offline_notice", **WAITING)
        assert (server.got, server.passwords) == ([], [])
        await mailer_to(server.url(login="") + "?tls=none").send("bob@example.org", "offline_notice", **WAITING)
        [got] = server.got
        assert not got.is_encrypted


async def test_starttls_that_is_refused_is_not_done_without(server: MailServer, mailer: Mailer) -> None:
    server.replies["STARTTLS"] = ["454 TLS not available"]
    with pytest.raises(NotSent, match="454 TLS"):
        await mailer.send("bob@example.org", "offline_notice", **WAITING)
    assert (server.got, server.passwords) == ([], [])


async def test_wrong_password_is_reported_to_the_operator_without_the_password(
    server: MailServer, authority: Authority
) -> None:
    """Not the recipient's fault: other attempts follow."""
    with pytest.raises(NotSent, match="535") as caught:
        await mailer_to(server.url(login=f"{LOGIN}x", ca=authority.file)).send(
            "bob@example.org", "offline_notice", **WAITING
        )
    assert PASSWORD not in str(caught.value)
    assert server.got == []
    assert server.passwords


@pytest.mark.parametrize(
    ("command", "reply", "error"),
    [
        ("RCPT", "550 5.1.1 <bob@example.org>: no such user", GiveUp),
        ("RCPT", "450 4.2.1 <bob@example.org>: come back later", NotSent),
        ("RCPT", "421 too busy", NotSent),
        ("DATA", "554 5.7.1 bob@example.org does not want that", GiveUp),
        ("DATA", "452 4.3.1 no room for bob@example.org", NotSent),
        ("MAIL", "550 5.7.1 you may not send", NotSent),
        ("MAIL", "451 4.3.0 try again", NotSent),
    ],
)
async def test_refusal_is_for_good_only_if_the_server_says_so_of_this_mail(
    server: MailServer, mailer: Mailer, command: str, reply: str, error: type[Exception]
) -> None:
    server.replies[command] = [reply]
    with pytest.raises(error, match=reply[:3]) as caught:
        await mailer.send("bob@example.org", "offline_notice", **WAITING)
    assert type(caught.value) is error
    assert "bob@" not in str(caught.value), "logs and dead jobs are no place for addresses"
    assert server.got == []
    await mailer.send("bob@example.org", "offline_notice", **WAITING)
    assert len(server.got) == 1


async def test_server_that_is_not_there_is_tried_again(authority: Authority) -> None:
    server = MailServer(port=1)
    with pytest.raises(NotSent, match=r"127\.0\.0\.1:1: .*refused"):
        await mailer_to(server.url(ca=authority.file)).send("bob@example.org", "offline_notice", **WAITING)


@pytest.mark.parametrize("command", ["MAIL", "DATA"])
async def test_server_that_hangs_holds_a_job_for_a_while_and_a_thread_no_longer(
    server: MailServer, mailer: Mailer, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr(smtp, "TIMEOUT_S", 0.3)
    server.hangs_at = command
    with pytest.raises(NotSent, match=r"not accepted within 0\.3 s"):
        await mailer.send("bob@example.org", "offline_notice", **WAITING)
    await wait_until(lambda: mailer.statistics().conversations == 0, "the thread has ended")
    await wait_until(lambda: server.now_open == 0, "the connection is closed")
    assert server.got == []


@pytest.mark.parametrize(
    ("is_implicit", "greeting", "match"),
    [(False, b"", "not accepted within"), (False, b"2", "not accepted within"), (True, b"", "timed out")],
    ids=["silent", "dripping", "silent before TLS"],
)
async def test_server_that_never_ends_its_greeting_is_cut_off(
    nursery: trio.Nursery,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
    is_implicit: bool,
    greeting: bytes,
    match: str,
) -> None:
    """Each drop is in time; all of them together are not."""
    monkeypatch.setattr(smtp, "STEP_TIMEOUT_S" if is_implicit else "TIMEOUT_S", 0.3)

    async def drip(stream: trio.SocketStream) -> None:
        try:
            while True:
                await stream.send_all(greeting)
                await let_pass(0.02, why="the greeting comes in drops")
        except trio.BrokenResourceError:
            pass

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    await nursery.start(trio.serve_listeners, drip, listeners)
    server = MailServer(port=listeners[0].socket.getsockname()[1], is_implicit=is_implicit)
    mailer = mailer_to(server.url(ca=authority.file))
    with pytest.raises(NotSent, match=match):
        await mailer.send("bob@example.org", "offline_notice", **WAITING)
    await wait_until(lambda: mailer.statistics().conversations == 0, "the thread has ended")
    nursery.cancel_scope.cancel()


async def test_cancelled_mail_leaves_no_thread_behind(server: MailServer, mailer: Mailer) -> None:
    server.hangs_at = "RCPT"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(mailer.send, "bob@example.org", "offline_notice", **WAITING))
        await wait_until(lambda: server.now_open == 1 and server.passwords, "the server is being talked to")
        assert mailer.statistics().conversations == 1
        nursery.cancel_scope.cancel()
    await wait_until(lambda: mailer.statistics().conversations == 0, "the thread has ended")
    assert server.got == []


async def test_no_more_conversations_at_a_time_than_there_are_threads(
    server: MailServer, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smtp, "MAX_THREADS", 2)
    mailer = mailer_to(server.url(ca=authority.file))
    async with trio.open_nursery() as nursery:
        for n in range(6):
            nursery.start_soon(partial(mailer.send, f"user{n}@example.org", "offline_notice", **WAITING))
    assert sorted(got.to[0] for got in server.got) == [f"user{n}@example.org" for n in range(6)]
    assert server.most == 2


async def test_mail_whose_answer_was_lost_has_the_same_id_when_it_is_sent_again(
    server: MailServer, mailer: Mailer
) -> None:
    server.drops = True
    with pytest.raises(NotSent):
        await mailer.send("bob@example.org", "offline_notice", key="7", **WAITING)
    await mailer.send("bob@example.org", "offline_notice", key="7", **WAITING)
    for to, template, key in (
        ("bob@example.org", "offline_notice", "8"),
        ("carol@example.org", "offline_notice", "7"),
        ("bob@example.org", "new_device", "7"),
        ("bob@example.org", "offline_notice", ""),
        ("bob@example.org", "offline_notice", ""),
    ):
        await mailer.send(to, template, key=key, **VALUES)
    ids = [got.letter["Message-ID"] for got in server.got]
    assert ids[0] == ids[1]
    assert len(set(ids)) == len(ids) - 1


async def test_values_stay_where_they_are_put(server: MailServer, mailer: Mailer) -> None:
    """They add neither a header nor a line, and in HTML no element."""
    evil = "Eve\r\nBcc: carol@example.org\u2028\x85\x00\u202e<b>&amp;"
    await mailer.send("bob@example.org", "new_device", **VALUES | {"username": evil, "device_name": evil})
    await mailer.send("bob@example.org", "digest", **VALUES | {"unread": evil})
    for got in server.got:
        assert got.to == ["bob@example.org"]
        assert "Bcc" not in got.letter
        assert "&lt;b&gt;&amp;amp;" in got.part("html")
        assert "<b>&amp;" in got.part("plain")
        assert not [line for line in got.part("plain").splitlines() if line.startswith(("Bcc", "<b>"))]
        assert not set(got.part("plain")) & set("\x00\u2028\x85\u202e")
    assert server.got[1].letter["Subject"].startswith("Eve  Bcc: carol@example.org")


@pytest.mark.parametrize(
    "to", ["bob@example.org\r\nBcc: carol@example.org", "bob@example.org, carol@example.org", "bob"]
)
async def test_invalid_address_never_gets_mail(server: MailServer, mailer: Mailer, to: str) -> None:
    with pytest.raises(GiveUp, match="address must have") as caught:
        await mailer.send(to, "offline_notice", **WAITING)
    assert "bob" not in str(caught.value)
    assert server.most == 0


async def test_international_addresses_are_sent_to_where_servers_take_them(
    server: MailServer, mailer: Mailer, authority: Authority
) -> None:
    await mailer.send("bob@bücher.example", "offline_notice", **WAITING)
    await mailer.send("jürgen@bücher.example", "offline_notice", **WAITING)
    [domain, local] = server.got
    assert (domain.to, domain.is_utf8) == (["bob@xn--bcher-kva.example"], False)
    assert domain.letter["To"] == "bob@xn--bcher-kva.example"
    assert (local.to, local.is_utf8) == (["jürgen@xn--bcher-kva.example"], True)
    assert local.letter["To"] == "jürgen@xn--bcher-kva.example"
    async with open_mail_server(MailServer(server.tls, takes_utf8=False)) as old:
        with pytest.raises(GiveUp, match="only addresses in ASCII"):
            await mailer_to(old.url(ca=authority.file)).send("jürgen@bücher.example", "offline_notice", **WAITING)
        assert old.got == []


async def test_name_of_the_sender_and_text_in_other_scripts_arrive(server: MailServer, authority: Authority) -> None:
    mailer = Mailer(server.url(ca=authority.file), mail_from="Ålo, Schild <a@chat.example>", public_url=PUBLIC)
    await mailer.send("bob@example.org", "new_device", **VALUES | {"device_name": "電話 🙂 " * 40})
    await mailer.send("bob@example.org", "new_device", **VALUES | {"device_name": "Zoë's phone"})
    for got, text in zip(server.got, ("電話 🙂 " * 40, "Zoë's phone"), strict=True):
        assert got.letter["From"].addresses[0].display_name == "Ålo, Schild"
        assert text in got.part("plain")
        assert got.raw.isascii(), "not every server takes 8 bits"
        _, _, body = got.raw.partition(b"\r\n\r\n")
        assert max(map(len, body.split(b"\r\n"))) <= 76


async def test_links_are_neither_broken_nor_encoded_however_long(server: MailServer, authority: Authority) -> None:
    public = f"https://{'long.' * 36}example/"
    mailer = Mailer(server.url(ca=authority.file), mail_from=SENDER, public_url=public)
    link = mailer.link(f"/v1/unsubscribe/{'t' * 43}")
    assert link == f"{public}v1/unsubscribe/{'t' * 43}"
    await mailer.send("bob@example.org", "digest", unsubscribe=link, **VALUES)
    [got] = server.got
    assert f"\r\nList-Unsubscribe: <{link}>\r\n".encode() in got.raw
    assert b"\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n" in got.raw
    assert f"Unsubscribe: {link}\n" in got.part("plain")
    assert f'href="{link}"' in got.part("html")


@pytest.mark.parametrize("template", wording.names())
async def test_template_says_the_same_in_text_and_html(template: str) -> None:
    subject, text, html = wording.word(template, **VALUES, public_url=PUBLIC, unsubscribe=f"{PUBLIC}/no-more")
    assert 10 < len(subject) <= 78
    assert max(map(len, text.splitlines())) <= 78
    assert "{" not in text + html
    assert html.startswith("<!DOCTYPE html>")
    assert html.rstrip().endswith("</html>")
    for value in (*VALUES.values(), PUBLIC, f"{PUBLIC}/no-more"):
        assert (value in text) == (value in html), value
    assert f"{PUBLIC}/no-more" in text
    assert "nsubscribe" not in "".join(wording.word(template, **VALUES, public_url=PUBLIC, unsubscribe=""))


def test_all_templates_are_there_and_are_packed() -> None:
    folder = Path(wording.__file__).parent / "templates"
    files = {file.name for file in folder.iterdir()}
    assert files == {f"{name}.{end}" for name in (*wording.names(), "layout") for end in ("txt", "html")}
    of_accounts = {"account_closed", "password_reset", "password_changed", "export_ready", "token_reused"}
    assert {"verify_email", "new_device", "digest", "offline_notice"} | of_accounts == set(wording.names())
    setup = configparser.ConfigParser()
    setup.read(Path(__file__).parents[3] / "setup.cfg")
    patterns = setup["options.package_data"]["jobs"].split(", ")
    assert all(any(fnmatch(f"mail/templates/{name}", pattern) for pattern in patterns) for name in files)


async def test_without_a_server_mails_end_with_one_line_that_says_so() -> None:
    mailer = Mailer("", mail_from="", public_url="")
    with structlog.testing.capture_logs() as logs:
        await mailer.send("bob@example.org", "verify_email", link="secret")
    [line] = logs
    assert line["event"] == "mail_not_sent"
    assert "SMTP_URL" in line["hint"]
    assert "secret" not in str(line)
    assert "bob" not in str(line)
