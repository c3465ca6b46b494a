from __future__ import annotations

from client.chat_files import MAX_NAME_BYTES, name_of
from tests.rows import each_row


@each_row("text", ["a.txt", "Rosi's photo.jpg", "später.pdf", "a..b", "-rf", "ä" * (MAX_NAME_BYTES // 2)])
def test_a_text_that_can_be_a_name_is_the_name_of_the_file(text: str) -> None:
    assert name_of(f" {text}\n", 7) == text


@each_row(
    "content",
    [
        b"",
        b" ",
        b".",
        b"..",
        b".profile",
        b"../up",
        b"/etc/passwd",
        b"a/b",
        b"..\\up",
        b"C:x",
        b"a\nb",
        b"a\x00b",
        b"a\x1b[2Jb",
        "a\u202egpj.exe".encode(),
        b"what?",
        b"x" * (MAX_NAME_BYTES + 1),
        "ä".encode() * (MAX_NAME_BYTES // 2 + 1),
    ],
)
def test_no_text_leads_out_of_the_folder_or_fools_the_reader(content: bytes) -> None:
    assert name_of(content.decode(), 7) == "file-7"
