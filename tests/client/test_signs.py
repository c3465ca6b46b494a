from __future__ import annotations

from client.signs import Signs
from protocol import limits
from protocol.frames import Presence, Typing
from tests.client.client_world import GROUP, ME, OTHER, TALK


def test_presence_is_news_when_it_changes() -> None:
    signs = Signs(TALK)
    told = [False, True, True, False, False, True]
    assert [signs.take(Presence(OTHER, is_online), 0) for is_online in told] == [False, True, False, True, False, True]
    assert signs.take(Presence(ME, True), 0), "each user's signs are separate"


def test_typing_is_news_when_it_begins() -> None:
    signs, typing = Signs(TALK), Typing(TALK, OTHER, True)
    assert signs.take(typing, 10)
    assert not signs.take(typing, 13)
    assert not signs.take(typing, 13 + limits.TYPING_S - 0.1), "typing repeated in time is no news"
    assert not signs.take(Typing(TALK, OTHER, False), 20)
    assert signs.take(typing, 20), "typing had stopped"
    assert signs.take(typing, 20 + limits.TYPING_S), "typing had expired"
    assert signs.take(Typing(TALK, ME, True), 20 + limits.TYPING_S), "each user's signs are separate"


def test_a_message_ends_the_typing_of_its_sender_alone() -> None:
    signs = Signs(TALK)
    assert signs.take(Typing(TALK, OTHER, True), 10)
    assert signs.take(Typing(TALK, ME, True), 10)
    signs.end_typing(OTHER)
    signs.end_typing(b"n" * 16)  # A user that sent no typing signs.
    assert signs.take(Typing(TALK, OTHER, True), 11)
    assert not signs.take(Typing(TALK, ME, True), 11)


def test_typing_elsewhere_is_no_news() -> None:
    assert not Signs(TALK).take(Typing(GROUP, OTHER, True), 0)


def test_the_users_who_type_and_who_are_online_are_told() -> None:
    signs = Signs(TALK)
    signs.take(Typing(TALK, OTHER, True), 10)
    signs.take(Presence(OTHER, True), 10)
    assert (signs.typing(10), signs.online) == ([OTHER], [OTHER])
    assert signs.typing(10 + limits.TYPING_S) == []
    signs.take(Presence(OTHER, False), 11)
    assert signs.online == []
