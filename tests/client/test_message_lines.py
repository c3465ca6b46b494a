from __future__ import annotations

from msgspec.structs import replace

from client.e2ee import SEALED
from client.e2ee.contents import Plaintext
from client.e2ee.reading import UnreadableMessage
from client.lines import Reading
from client.message_lines import MessageLines
from protocol.frames import Message, Tombstone
from tests.client.client_world import ME, OTHER, TALK, message


def test_a_message_that_has_healed_is_shown_again_with_those_that_its_key_opens() -> None:
    shown: list[str] = []
    said: dict[int, Reading] = {seq: UnreadableMessage("no_key") for seq in range(1, 6)}

    def read(of: Message) -> Reading:
        return said[of.seq]

    lines = MessageLines(read, {ME: "ann", OTHER: "bob"}, lambda line: shown.append(line.partition(": ")[2]))
    one, two, three, four, five = [replace(message(TALK, seq), content_type=SEALED) for seq in range(1, 6)]
    for each in (one, two, three, four):
        lines.show(each)
    assert len(shown) == 4
    assert all("the key has not come" in line for line in shown)
    lines.show(Tombstone(four.conversation, four.seq, four.message, four.created, four.sender))
    said |= {1: Plaintext("first"), 3: Plaintext("third"), 4: Plaintext("gone"), 5: Plaintext("fifth")}
    lines.show(five)
    assert shown[4:] == ["(deleted)", "fifth"], "a message that was readable at once opens no others"
    lines.show(three)
    assert shown[6:] == ["third", "first"]
    lines.show(three)
    assert shown[8:] == ["third"], "and these once"
