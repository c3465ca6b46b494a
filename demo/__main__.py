"""Three users, two gateways, one SIGKILL: prints each message, its ack, and the messages that each user holds.

Alice (on node 1) and Bob (on node 2) have a direct chat; Bob and Carol (on node 1) have a group. In the middle of the
script, node 1 is killed. The exit status is 0 if each participant holds every acknowledged message once, in order.
"""

from __future__ import annotations

import sys
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import trio

from client.http import Credentials, HttpClient
from client.session import Session, open_session
from demo.cluster import Cluster, open_cluster
from embedded.errors import EmbeddedError
from protocol.frames import Message, Sent

RECEIVE_TIMEOUT_S = 30.0

# user, chat, text
SCRIPT = (
    ("alice", "direct", "Are you there?"),
    ("bob", "direct", "On another node, but yes."),
    ("carol", "group", "Lunch?"),
    ("bob", "group", "In five minutes."),
    ("alice", "direct", "My node is about to be killed."),
    ("KILL", "", ""),
    ("alice", "direct", "I sent this without a node to send it to."),
    ("carol", "group", "So did I."),
    ("bob", "direct", "Both of you came through."),
    ("bob", "group", "Same temp_id, same message: nothing twice."),
    ("carol", "group", "Lunch, then."),
    ("alice", "direct", "Bye."),
)


@dataclass
class Person:
    """One client with one device."""

    name: str
    credentials: Credentials
    session: Session


@dataclass
class DemoConversation:
    """One conversation, with its participants and its acknowledged messages."""

    title: str
    conversation: bytes
    people: list[Person]
    acked: list[tuple[Sent, str, str]] = field(default_factory=list)


async def _register(http: HttpClient, names: tuple[str, ...]) -> list[Credentials]:
    credentials = []
    for name in names:
        await http.register(name, f"password of {name}")
        credentials.append(await http.log_in(name, f"password of {name}", "demo"))
    return credentials


async def play(cluster: Cluster) -> bool:
    """Play the script and print the outcome; returns whether no promise was broken."""
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(HttpClient(cluster.http_url))
        one, two = cluster.socket_urls
        people: dict[str, Person] = {}
        placed = {"alice": [one, two], "bob": [two, one], "carol": [one, two]}
        for (name, urls), credentials in zip(placed.items(), await _register(http, tuple(placed)), strict=True):
            session = await stack.enter_async_context(open_session(urls, credentials))
            people[name] = Person(name, credentials, session)
            await session.wait_caught_up()
            print(f"{name} is connected to node {cluster.socket_urls.index(urls[0]) + 1}")
        alice, bob, carol = people.values()
        direct = await http.with_token(alice.credentials.token).create_direct(bob.credentials.user)
        group = await http.with_token(bob.credentials.token).create_group("Lunch", [carol.credentials.user])
        chats = {
            "direct": DemoConversation("Alice and Bob", direct.conversation, [alice, bob]),
            "group": DemoConversation("Lunch (Bob, Carol)", group.conversation, [bob, carol]),
        }
        await _act(cluster, people, chats)
        return await _compare(chats)


async def _act(cluster: Cluster, people: dict[str, Person], chats: dict[str, DemoConversation]) -> None:
    print("\n-- transcript")
    for name, where, text in SCRIPT:
        if name == "KILL":
            cluster.gateways[0].kill()
            print("   ** node 1 is killed (SIGKILL) **")
            continue
        sent = await people[name].session.send(chats[where].conversation, text.encode(), content_type="text/plain")
        chats[where].acked.append((sent, name, text))
        print(f"   [{where:6}] {name:5} {text}   (acked: seq {sent.seq})")


async def _compare(chats: dict[str, DemoConversation]) -> bool:
    good = True
    for chat in chats.values():
        print(f"\n-- {chat.title}: {len(chat.acked)} messages acknowledged")
        acked = [(sent.seq, sent.message, text) for sent, _, text in chat.acked]
        for person in chat.people:
            held = await _held(person.session, chat, len(acked))
            same = held == acked
            good &= same
            seqs = " ".join(str(seq) for seq, _, _ in held)
            verdict = "all of them, once, in order" if same else "NOT what was acknowledged"
            print(f"   {person.name:5} holds seq {seqs}: {verdict}")
    print("\nNothing that was acknowledged is lost, repeated or reordered." if good else "\nA promise was broken.")
    return good


async def _held(session: Session, chat: DemoConversation, expected: int) -> list[tuple[int, bytes, str]]:
    def messages() -> list[tuple[int, bytes, str]]:
        log = [each for each in session.mailbox.log if each.conversation == chat.conversation]
        return [(each.seq, each.message, each.content.decode()) for each in log if isinstance(each, Message)]

    with trio.move_on_after(RECEIVE_TIMEOUT_S):
        async for _ in session.messages:
            if len(messages()) >= expected:
                break
    return messages()


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="alo-demo-") as folder:
        try:
            with open_cluster(Path(folder)) as cluster:
                good = trio.run(play, cluster)
        except (EmbeddedError, TimeoutError) as error:
            sys.exit(str(error))
        except KeyboardInterrupt:
            sys.exit(130)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
