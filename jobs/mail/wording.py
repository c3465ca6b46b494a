"""What mails say: each has two templates, `NAME.txt`, whose first line is the subject, and `NAME.html`."""

from __future__ import annotations

import unicodedata
from typing import Final, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

MAX_VALUE: Final = 2000
"""Characters of a value that goes into a mail; links are the longest."""

_environment: Final = Environment(
    loader=PackageLoader("jobs.mail"),
    autoescape=select_autoescape(["html"]),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


class Wording(NamedTuple):
    """What one mail says, twice over."""

    subject: str
    text: str
    html: str


def names() -> list[str]:
    """Of the templates that mails are made from."""
    return sorted({name.rpartition(".")[0] for name in _environment.list_templates()} - {"layout"})


def word(template: str, **values: str) -> Wording:
    """
    :raises jinja2.TemplateNotFound: if there is no such template.
    :raises jinja2.UndefinedError: if it needs a value that is not given.
    """
    plain = {name: one_line(value) for name, value in values.items()}
    subject, _, text = _environment.get_template(f"{template}.txt").render(plain).partition("\n")
    return Wording(subject, text.strip() + "\n", _environment.get_template(f"{template}.html").render(plain))


def one_line(text: str) -> str:
    """Without line breaks and other characters that print nothing: a value stays within its line, or its header."""
    kept = ("" if unicodedata.category(each) in _UNSEEN else each if each.isprintable() else " " for each in text)
    return "".join(kept)[:MAX_VALUE]


def without_links(text: str) -> str:
    """A name that somebody else may have chosen, so that no program makes a link of it, and nobody follows one."""
    kept = (each if each.isalnum() or each in "-_'()" else " " for each in one_line(text))
    return " ".join("".join(kept).split())


_UNSEEN: Final = frozenset({"Cf", "Cs"})
"""Marks of formatting, such as those that turn the direction of what follows, and halves of characters."""
