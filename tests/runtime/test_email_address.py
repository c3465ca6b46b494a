"""E-mail addresses: valid ones in their normal spelling, and invalid ones."""

from __future__ import annotations

import pytest

from runtime.email_address import BadAddress, Sender, mailbox, normal, sender
from tests.rows import each_row


@each_row(
    ("text", "address"),
    [
        ("a@b.example", "a@b.example"),
        ("A.b+c_d-e/f!#$%&'*=?^`{|}~@B.EXAMPLE", "A.b+c_d-e/f!#$%&'*=?^`{|}~@b.example"),
        ("a@Straße.example", "a@xn--strae-oqa.example"),
        ("a@b。example", "a@b.example"),
        ("a@xn--bcher-kva.example", "a@xn--bcher-kva.example"),
        ("ju\u0308rgen@b.example", "j\u00fcrgen@b.example"),
        (f"{'a' * 64}@b.example", f"{'a' * 64}@b.example"),
    ],
)
def test_address_has_one_spelling(text: str, address: str) -> None:
    assert normal(text) == address
    assert normal(address) == address


@each_row(
    "text",
    [
        *(
            "",
            "a",
            "@",
            "a@",
            "@b.example",
            "a@b",
            "a@b.",
            "a@.example",
            "a@b..example",
            "a@b.example.",
            "a@-b.example",
        ),
        *("a@1.2.3.4", "a@[1.2.3.4]", "a@b_c.example", "a@b c.example", f"a@{'b' * 64}.example"),
        *(
            "a b@c.example",
            "a..b@c.example",
            ".a@c.example",
            "a.@c.example",
            '"a"@b.example',
            "a@b@c.example",
            "a,b@c.de",
        ),
        *(
            "a@b.example\n",
            "a\r\n@b.example",
            "a\0@b.example",
            "a\u2028@b.example",
            "a\u00a0b@c.example",
            "\ud800@b.de",
        ),
        *("<a@b.example>", "a@b.example, c@d.example", "a(x)@b.example", "a\u200b@b.example"),
        *(f"{'a' * 65}@b.example", f"{'é' * 33}@b.example", f"a@{'b.' * 130}example"),
    ],
)
def test_invalid_address_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(BadAddress, match=r"^must have ") as caught:
        normal(text)
    assert len(text) < 3 or text not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a@b.example", Sender("", "a@b.example")),
        ("<a@b.example>", Sender("", "a@b.example")),
        ("ALO Shield <a@b.example>", Sender("ALO Shield", "a@b.example")),
        ('"ALO, Schild: ä" <a@bücher.example>', Sender("ALO, Schild: ä", "a@xn--bcher-kva.example")),
    ],
)
def test_sender_may_have_a_name(text: str, expected: Sender) -> None:
    assert sender(text) == expected


@each_row("text", ["", "ALO", "ALO <>", "ALO <a@b.example> x", "ALO\n<a@b.example>", "A <a@b.example>\r\nX: y"])
def test_invalid_sender_is_refused(text: str) -> None:
    with pytest.raises(BadAddress):
        sender(text)


MAILBOXES = {
    "bob@example.org": (
        "bob@example.org",
        "BOB@Example.ORG",
        "bob+1@example.org",
        "bob+a+b@example.org",
        "Bob+@example.org",
        "bob\uff0b1@example.org",
        "\uff42\uff4f\uff42@example.org",
    ),
    "b.ob@example.org": ("b.ob@example.org", "b.ob+x@example.org"),
    "bob@gmail.com": ("bob@gmail.com", "b.o.b@gmail.com", "b.ob+x.y@googlemail.com", "BOB@GMAIL.COM"),
    "+bob@example.org": ("+bob@example.org",),
    "bob-1@example.org": ("bob-1@example.org",),
    "bob@xn--bcher-kva.example": ("bob@b\u00fccher.example", "bob+1@B\u00dcCHER.example"),
    "b\u00f6b@example.org": ("B\u00d6B@example.org", "b\u00f6b+1@example.org"),
}
"""Mailbox -> spellings of its address."""


@each_row("name", MAILBOXES)
def test_spellings_of_an_address_count_as_one_mailbox(name: str) -> None:
    assert {mailbox(normal(each)) for each in MAILBOXES[name]} == {name}


def test_other_addresses_are_other_mailboxes() -> None:
    assert len(MAILBOXES) == len({mailbox(normal(each[0])) for each in MAILBOXES.values()})
