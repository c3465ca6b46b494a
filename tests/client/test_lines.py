from __future__ import annotations

from msgspec.structs import replace

from client.e2ee import SEALED
from client.e2ee.contents import EncryptedFile, Plaintext, Quote, Reaction
from client.e2ee.reading import UnreadableMessage
from client.lines import Reading, line_of
from protocol.frames import Tombstone
from tests.client.client_world import ME, OTHER, TALK, message
from tests.rows import each_row

NAMES = {ME: "ann", OTHER: "bob"}
FILE = EncryptedFile(b"a" * 16, "plan.txt", 12, b"k" * 32)


@each_row(
    ("reading", "shown"),
    [
        (Plaintext("hello"), "hello"),
        (Plaintext("a\x1b[2Jb"), "a\\x1b[2Jb"),
        (Plaintext(reaction=Reaction(bytes(16), "\N{THUMBS UP SIGN}")), "(reacts with \N{THUMBS UP SIGN})"),
        (Plaintext(reaction=Reaction(bytes(16), "")), "(takes a reaction back)"),
        (Plaintext("yes", quote=Quote(ME, "shall\nwe?")), "[to ann: shall\\nwe?] yes"),
        (UnreadableMessage("before"), "(sent before this device)"),
        (UnreadableMessage("no_key"), "(encrypted; the key has not come to this device)"),
        (UnreadableMessage("broken"), "(this is not what its sender has encrypted for this device)"),
        (None, "(10 bytes of application/vnd.alo.sealed)"),
    ],
)
def test_an_encrypted_message_is_shown_as_far_as_it_can_be_read(reading: Reading, shown: str) -> None:
    sealed = replace(message(TALK, 1, content=b"ciphertext"), content_type=SEALED)
    assert line_of(sealed, NAMES, reading).endswith(f" bob: {shown}")


def test_files_and_edits_are_told() -> None:
    sealed = replace(message(TALK, 7), content_type=SEALED, attachments=[FILE.attachment], revision=1)
    assert line_of(sealed, NAMES, Plaintext("plan.txt", [FILE])).endswith(" bob: plan.txt [file; /save 7] (edited)")


def test_a_message_without_encryption_and_a_tombstone_are_shown_as_before() -> None:
    assert line_of(message(TALK, 1, content=b"open"), NAMES).endswith(" bob: open")
    assert line_of(Tombstone(TALK, 1, b"m" * 16, 1, OTHER), NAMES).endswith(" bob: (deleted)")
