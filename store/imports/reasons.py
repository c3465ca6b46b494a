"""Why an import does not take a row, or does not take it as it was."""

from __future__ import annotations

from typing import Final

REASONS: Final[dict[str, dict[str, str]]] = {
    "users": {
        "username_missing": "has another username: the source has none",
        "username_not_allowed": "has another username: the rules do not allow the old one",
        "username_reserved": "has another username: the old one is reserved",
        "username_taken": "has another username: another user has that name here, in another spelling perhaps",
        "display_name_not_allowed": "has no display name: the rules do not allow the old one",
        "email_not_allowed": "has no e-mail address: mail cannot be sent to the old one",
        "no_login": "has no password: auth.users does not have the user",
        "password_missing": "has no password: the source has none, as after a login with another service",
        "password_unknown": "has no password: the hash is of a kind that cannot be checked here",
        "password_costly": "has no password: to check the hash would take too long",
        "banned": "is suspended: the source has banned the user",
        "deleted": "is a deleted user: the source has deleted the account",
        "deleted_after_import": "has no password and no e-mail address: the source has deleted the account since it was"
        " taken; delete it here",
        "avatar_not_taken": "has no picture: the source has the address of one, not its object",
        "changed_after_login": "the source has changed the user, who has logged in here: what is here stays",
        "gone_at_source": "the source has the user no longer; what is here stays",
    },
    "conversations": {
        "no_participants": "not taken: nobody takes part",
        "direct_twice": "its messages are in another direct conversation of the same two users",
        "direct_not_of_two": "is a group: it was direct, and not of two users",
        "type_unknown": "is a group: its type is neither direct nor group",
        "title_missing": "is called Group: the source has no name",
        "title_not_allowed": "is called Group: the rules do not allow the old name",
        "participants_many": "has more participants than a group may get here",
        "avatar_not_taken": "has no picture: the source has the address of one, not its object",
        "gone_at_source": "the source has the conversation no longer; what is here stays",
    },
    "participants": {
        "conversation_unknown": "not taken: the source does not have the conversation",
        "user_unknown": "not taken: the source does not have the user",
        "participant_twice": "taken once: the source has the participant twice",
        "direct_of_two_others": "not taken: the conversation is direct, of two other users",
    },
    "contacts": {
        "user_unknown": "not taken: one of the two is deleted, or the source does not have the user",
        "contact_of_oneself": "not taken: a user is no contact of the same user",
    },
    "receipts": {
        "not_of_participant": "not taken: the user takes no part in the conversation",
    },
    "messages": {
        "conversation_unknown": "not taken: the source does not have the conversation",
        "conversation_not_taken": "not taken: its conversation was not taken",
        "content_missing": "a tombstone: the source has no content",
        "content_too_long": "a tombstone: the content is longer than a message may be",
        "content_type_too_long": "a tombstone: the content type is longer than it may be",
        "nonce_too_long": "a tombstone: the nonce is longer than it may be",
        "key_too_long": "a tombstone: the ephemeral public key is longer than it may be",
        "sender_unknown": "from a deleted user (its id is named): the source does not have the sender",
        "created_bounded": "has another time: the old one is missing, before 1970 or in the future",
        "created_raised": "has a later time: messages after it were taken before",
        "change_not_followed": "the source has changed its conversation, sender or time, or undone a deletion; what is"
        " here stays",
        "changed_on_both_sides": "the source has changed it, and so has its sender here; what is here stays",
        "gone_at_source": "the source has the message no longer; what is here stays",
    },
    "attachments": {
        "message_unknown": "not taken: its message was not taken",
        "message_deleted": "not taken: its message is deleted",
        "key_not_allowed": "not taken: its key cannot be a key of an object here",
        "object_twice": "not taken: another attachment has the same object",
        "thumbnail_not_taken": "has no thumbnail: its key is another object's, or cannot be a key here",
        "size_unknown": "has the size 1 until it is downloaded: the source does not know it",
    },
}
"""Table of the source -> reason -> what is here instead."""
