"""Subject, text and HTML of mails. Each mail has two templates: `NAME.txt`, which begins with the subject, and
`NAME.html`."""

from __future__ import annotations

import unicodedata
from typing import Final, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

MAX_VALUE: Final = 2000
"""Characters of a value in a mail; links are the longest values."""

_environment: Final = Environment(
    loader=PackageLoader("jobs.mail"),
    autoescape=select_autoescape(["html"]),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


class Wording(NamedTuple):
    """The words of one mail, as text and as HTML."""

    subject: str
    text: str
    html: str


def names() -> list[str]:
    """The names of all templates."""
    return sorted({name.rpartition(".")[0] for name in _environment.list_templates()} - {"layout"})


def word(template: str, **values: str) -> Wording:
    """The words of a mail.

    :raises jinja2.TemplateNotFound: if the template does not exist.
    :raises jinja2.UndefinedError: if the template needs a value that is missing.
    """
    plain = {name: one_line(value) for name, value in values.items()}
    subject, _, text = _environment.get_template(f"{template}.txt").render(plain).partition("\n")
    return Wording(subject, text.strip() + "\n", _environment.get_template(f"{template}.html").render(plain))


def one_line(text: str) -> str:
    """The text without line breaks and unprintable characters, so that a value stays within its line or header."""
    kept = ("" if unicodedata.category(each) in _UNSEEN else each if each.isprintable() else " " for each in text)
    return "".join(kept)[:MAX_VALUE]


def without_links(text: str) -> str:
    """A name that an attacker may have chosen, changed so that no mail program makes a link of it."""
    kept = (each if each.isalnum() or each in "-_'()" else " " for each in one_line(text))
    return " ".join("".join(kept).split())


_UNSEEN: Final = frozenset({"Cf", "Cs"})
"""Formatting characters, such as those that change the direction of text, and lone surrogates."""
