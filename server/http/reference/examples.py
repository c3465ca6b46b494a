"""An example of each route, for `/openapi.json` and `/docs`; a test sends each of them to a server.

Alice asks. Bob is her contact: they have a direct conversation, and a group with Carol. Dave is a user whom Alice does
not know, and Erin a stranger who has begun a conversation with Alice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, Final
from uuid import UUID

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from server.http import bodies, notifiers
from server.http.answers.accounts import DeletionAnswer, RegistrationAnswer, ResetAskedAnswer
from server.http.answers.attachments import (
    DownloadTicketAnswer,
    DownloadTicketsAnswer,
    MissingPartsAnswer,
    PartRequestAnswer,
    UploadTicketAnswer,
    UploadTicketsAnswer,
)
from server.http.answers.avatars import AvatarAnswer
from server.http.answers.conversations import ConversationAnswer, ListAnswer, ParticipantAnswer, ParticipantsAnswer
from server.http.answers.devices import (
    ConfirmedAnswer,
    DeviceAnswer,
    DevicesAnswer,
    LoggedInAnswer,
    RegisteredAnswer,
    TokenAnswer,
)
from server.http.answers.exports import ExportAnswer, ExportsAnswer
from server.http.answers.figures import (
    AttachmentsAnswer,
    DayAnswer,
    DaysAnswer,
    DeliveryAnswer,
    HealthAnswer,
    StorageAnswer,
)
from server.http.answers.group_states import GroupStateAnswer
from server.http.answers.keys import (
    ClaimedKeysAnswer,
    HeldKeysAnswer,
    ListedDeviceAnswer,
    OneTimeKeyAnswer,
    PoolAnswer,
    UserDevicesAnswer,
)
from server.http.answers.live import (
    CacheAnswer,
    DeadJobAnswer,
    LiveAnswer,
    NodeAnswer,
    ProcessAnswer,
    StatementAnswer,
    TaskAnswer,
    TimesAnswer,
)
from server.http.answers.messages import HistoryAnswer, MessageAnswer, RecipientAnswer, StatusAnswer
from server.http.answers.notifiers import AddedNotifierAnswer, NotifierAnswer, NotifierKeysAnswer, NotifiersAnswer
from server.http.answers.people import ContactAnswer, ContactsAnswer, ProfileAnswer, UserAnswer
from server.http.answers.security_events import SecurityEventAnswer, SecurityEventsAnswer
from server.http.answers.settings import ChangedEmailAnswer, EmailAnswer, QuietHoursAnswer
from server.http.attachment_bodies import NewAttachments, NewFile, NewThumbnail, WantedDownloads
from server.http.encoding import IDENT, Ident
from server.http.key_bodies import ClaimKeys, NewKeys
from server.http.queries import DaysQuery, EventsQuery, HistoryQuery, ListQuery, PageQuery, PartsQuery


class Example(Struct, frozen=True):
    """A request, and the body of its answer.

    :ivar values: of the path.
    :ivar answer: None if it has no body, or is a page for a browser.
    :ivar other_bodies: one of each further kind that the body may have.
    """

    values: Mapping[str, str] = {}
    query: Struct | None = None
    body: Struct | None = None
    answer: Struct | None = None
    status: int = 200
    other_bodies: Sequence[Struct] = ()


def _uuid(number: int) -> UUID:
    return UUID(f"0198f2c4-6a1e-7c3b-8d5e-{number:012x}")


ALICE, BOB, CAROL, DAVE, ERIN = map(_uuid, range(1, 6))
PHONE, LAPTOP, TABLET = _uuid(0x11), _uuid(0x12), _uuid(0x13)
DIRECT, GROUP, ASKED = _uuid(0x21), _uuid(0x22), _uuid(0x23)
MESSAGE, SECOND_MESSAGE = _uuid(0x31), _uuid(0x32)
WEBHOOK = _uuid(0x41)
UPLOAD, ATTACHMENT = _uuid(0x61), _uuid(0x62)
EXPORT = _uuid(0x51)

CONTROL_SEQ: Final = 3
"""The last control message of the group."""

PASSWORD: Final = "correct horse battery staple"  # noqa: S105
NEW_PASSWORD: Final = "nine brown foxes dig"  # noqa: S105
MAIL_TOKEN: Final = "Vq3x0jXh2mTt8LQe5uCw9aKr4ySd7nBg1fPzZoEiHlM"  # noqa: S105
DEVICE_TOKEN: Final = "kS1nQ7wLr0yTz3cVb6mXp9dJf2gHa5uEiOoRtYqWeNs"  # noqa: S105

_AT: Final = 1_767_225_600_000_000
"""The first moment of 2026."""
_DAY_US: Final = 86_400_000_000


def _id(id_: UUID) -> Ident:
    return IDENT["json"](id_.bytes)


def _message(conversation: UUID, message: UUID, seq: int, sender: UUID) -> MessageAnswer:
    return MessageAnswer(
        conversation=_id(conversation),
        seq=seq,
        message=_id(message),
        created=_AT + seq * 60_000_000,
        sender=_id(sender),
        is_deleted=False,
        is_quiet=False,
        device=_id(PHONE),
        content_type="text",
        content=b"\x8f\x02ciphertext",
        nonce=bytes(range(12)),
        ephemeral_public_key=bytes(range(32)),
        revision=0,
    )


def _participant(user: UUID, name: str, *, is_admin: bool, read: int) -> ParticipantAnswer:
    return ParticipantAnswer(_id(user), name, name.title(), None, 1, is_admin, 0, 0, 2, read, None)


_PARTICIPANTS: Final = [
    _participant(ALICE, "alice", is_admin=True, read=2),
    _participant(BOB, "bob", is_admin=False, read=1),
    _participant(CAROL, "carol", is_admin=False, read=2),
]


_BEGINNERS: Final = [replace(each, delivered_seq=0, read_seq=0) for each in _PARTICIPANTS]


def _conversation(conversation: UUID, last: MessageAnswer | None, *, is_group: bool) -> ConversationAnswer:
    return ConversationAnswer(
        conversation=_id(conversation),
        kind="group" if is_group else "direct",
        name="Climbing" if is_group else None,
        avatar=None,
        created=_AT,
        first_seq=1,
        last_seq=last.seq if last else 0,
        participants_version=1,
        joiners_see_all=False,
        lifetime_s=None,
        devices_version=0,
        control_seq=0,
        muted_until=None,
        is_request=False,
        asked_by=None,
        actor=None,
        unread_count=0,
        participants=(_PARTICIPANTS if last else _BEGINNERS) if is_group else _PARTICIPANTS[:2],
        participant_count=3 if is_group else 2,
        last_message=last,
    )


_DIGEST: Final = bytes(range(32))
_PART_REQUEST: Final = PartRequestAnswer(
    1,
    "PUT",
    "https://files.example.org/bucket/attachments/61/0198f2c46a1e7c3b8d5e000000000061?X-Amz-Signature=0f5a",
    {"content-length": "20000", "x-amz-checksum-sha256": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="},
)
_LAST: Final = _message(GROUP, SECOND_MESSAGE, 2, BOB)
_PROFILE: Final = ProfileAnswer(
    _id(ALICE),
    "alice",
    "Alice",
    AvatarAnswer(_id(ATTACHMENT), 40_000, _DIGEST),
    1,
    gives_receipts=True,
    shows_presence=True,
    messages_from="everybody",
    groups_from="contacts",
)
_LOGIN: Final = SecurityEventAnswer(
    "login", _id(ALICE), _AT, "user", _id(PHONE), "192.0.2.0/24", "ALO/1.0 (Android 16)", {"name": "Phone"}, 1, None
)
_EMAIL: Final = EmailAnswer("alice@example.org", False, True, True, 8, "Europe/Berlin")
_OF_GROUP: Final = {"conversation": str(GROUP)}
_BOB_IN_GROUP: Final = {"conversation": str(GROUP), "other": str(BOB)}

_HELD_KEYS: Final = HeldKeysAnswer(
    _DIGEST, 1, bytes(range(8)), [PoolAnswer("otk", 84, 17, 100, _DIGEST, 1, is_given=False)]
)
_EXPORT: Final = ExportAnswer(_id(EXPORT), _AT, None, None, None, None)

DEAD_JOB: Final = "471108154711"

_LIVE: Final = LiveAnswer(
    at=1_767_225_600_000_000,
    connections=1_204,
    users=1_117,
    sends_per_s=48.2,
    requests_per_s=31.7,
    times=[TimesAnswer("committed_offered", 52.1, 0.6, 2.3, 8.9)],
    caches=[CacheAnswer("list", 12.4, 0.97)],
    tasks=[TaskAnswer("notify", 3, 12, 1, 1, 0.4, is_paused=False)],
    dead_jobs=[DeadJobAnswer(int(DEAD_JOB), "notify", 12, 1_767_225_500_000_000, "the webhook answers 500")],
    nodes=[NodeAnswer("5f0c2a9be4d17033", "serves", "gateway-1", 812, 1_204, 1_117, 1, 0, 0)],
    statements=[StatementAnswer("messages.send_batch", 41.0, 0.031, 0.76, 4.8)],
    processes=[ProcessAnswer("5f0c2a9be4d17033", "socket", "gateway-1", 812, "", 0.21, 96_468_992, 1.4)],
)

EXAMPLES: Final[Mapping[str, Example]] = {
    "GET /v1/registration": Example(answer=RegistrationAnswer("open", None)),
    "POST /v1/users": Example(
        body=bodies.Register("frank", PASSWORD), answer=RegisteredAnswer(_id(ALICE), "frank"), status=201
    ),
    "POST /v1/devices": Example(
        body=bodies.LogIn(username="alice", password=PASSWORD, name="Phone", client="alo-ios/2.1"),
        answer=LoggedInAnswer(_id(ALICE), "alice", _id(PHONE), DEVICE_TOKEN, _AT + 90 * _DAY_US),
        status=201,
    ),
    "PUT /v1/account/deletion": Example(
        body=bodies.DeleteAccount(deletes_messages=True), answer=DeletionAnswer(_AT + 14 * _DAY_US)
    ),
    "POST /v1/password-resets": Example(
        body=bodies.AskPasswordReset(username="alice"), answer=ResetAskedAnswer(3600), status=202
    ),
    "PUT /v1/password-resets": Example(body=bodies.ResetPassword(MAIL_TOKEN, PASSWORD), status=204),
    "GET /v1/password-resets/<token>": Example({"token": MAIL_TOKEN}),
    "POST /v1/password-resets/<token>": Example({"token": MAIL_TOKEN}, body=bodies.ResetPasswordForm(PASSWORD)),
    "POST /v1/exports": Example(answer=ExportsAnswer([_EXPORT]), status=202),
    "GET /v1/exports": Example(answer=ExportsAnswer([_EXPORT])),
    "GET /v1/exports/<uuid:export>/parts/<int:part>": Example({"export": str(EXPORT), "part": "1"}),
    "GET /v1/users/<username>": Example({"username": "bob"}, answer=UserAnswer(_id(BOB), "bob", "Bob", None, 1)),
    "GET /v1/devices": Example(
        answer=DevicesAnswer(
            [DeviceAnswer(_id(PHONE), "Phone", _AT, _AT + 90 * _DAY_US, _AT + _DAY_US, "alo-ios/2.1", is_this=True)],
            None,
        ),
    ),
    "DELETE /v1/devices/this": Example(status=204),
    "DELETE /v1/devices/others": Example(status=204),
    "DELETE /v1/devices": Example(status=204),
    "GET /v1/security-events": Example(answer=SecurityEventsAnswer([_LOGIN], None)),
    "DELETE /v1/devices/<uuid:device>": Example({"device": str(LAPTOP)}, status=204),
    "PUT /v1/keys": Example(body=NewKeys(_DIGEST), answer=_HELD_KEYS),
    "GET /v1/keys": Example(answer=_HELD_KEYS),
    "POST /v1/keys/claims": Example(
        body=ClaimKeys([BOB], ["otk"]),
        answer=ClaimedKeysAnswer(
            [
                ListedDeviceAnswer(
                    _id(BOB), _id(TABLET), _DIGEST, 1, [OneTimeKeyAnswer("otk", 17, bytes(range(32, 64)))], []
                )
            ],
            False,
        ),
    ),
    "GET /v1/conversations/<uuid:conversation>/state": Example(
        _OF_GROUP, answer=GroupStateAnswer(CONTROL_SEQ, _DIGEST, _id(TABLET), _AT)
    ),
    "PUT /v1/conversations/<uuid:conversation>/state": Example(
        _OF_GROUP, body=bodies.PutGroupState(CONTROL_SEQ, _DIGEST), status=204
    ),
    "GET /v1/users/<uuid:user>/devices": Example(
        {"user": str(BOB)},
        query=PageQuery(limit=20),
        answer=UserDevicesAnswer([ListedDeviceAnswer(_id(BOB), _id(TABLET), _DIGEST, 1, [], [])], None),
    ),
    "POST /v1/tokens": Example(answer=TokenAnswer(DEVICE_TOKEN, _AT + 90 * _DAY_US), status=201),
    "POST /v1/confirmations": Example(body=bodies.Confirm(PASSWORD), answer=ConfirmedAnswer(_AT + 600_000_000)),
    "PUT /v1/password": Example(
        body=bodies.ChangePassword(PASSWORD, NEW_PASSWORD, ends_other_sessions=True), status=204
    ),
    "GET /v1/profile": Example(answer=_PROFILE),
    "PATCH /v1/profile": Example(
        body=bodies.PatchProfile(display_name="Alice", groups_from="contacts"), answer=_PROFILE
    ),
    "GET /v1/email": Example(answer=_EMAIL),
    "PUT /v1/email": Example(
        body=bodies.PutEmail("alice@example.org", wants_digest=True, zone="Europe/Berlin"),
        answer=ChangedEmailAnswer("alice@example.org", False, True, True, 8, "Europe/Berlin", True),
    ),
    "DELETE /v1/email": Example(status=204),
    "POST /v1/email/verifications": Example(body=bodies.Verify(MAIL_TOKEN), status=204),
    "GET /v1/email/verifications/<token>": Example({"token": MAIL_TOKEN}),
    "POST /v1/email/verifications/<token>": Example({"token": MAIL_TOKEN}),
    "GET /v1/unsubscribe/<token>": Example({"token": MAIL_TOKEN}),
    "POST /v1/unsubscribe/<token>": Example({"token": MAIL_TOKEN}),
    "GET /v1/notifiers/keys": Example(answer=NotifierKeysAnswer(["email", "webhook"], None)),
    "GET /v1/notifiers": Example(
        answer=NotifiersAnswer(
            [NotifierAnswer(_id(WEBHOOK), "webhook", "https://bot.example.org/alo", None, _AT, None, None)]
        )
    ),
    "POST /v1/notifiers": Example(
        body=notifiers.NewWebhook("https://bot.example.org/notices"),
        answer=AddedNotifierAnswer(_id(WEBHOOK), "webhook", "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="),
        other_bodies=(
            notifiers.NewEmail(),
            # The keys are those of RFC 8291, section 5.
            notifiers.NewWebPush(
                "https://push.example.net/push/JzLQ3raZJfFBR0aqvOMsLrt54w4rJUsV",
                notifiers.Keys(
                    "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4",
                    "BTBZMqHH6r4Tts7J_aSIgg",
                ),
            ),
            notifiers.NewApns("740f4707bebcf74f9b7c25d48e3358945f6aa01da5ddb387462c7eaf61bb78ad"),
            notifiers.NewFcm("cPzKmVZ2TUGq:APA91bHun4MxP5egoKMwt2KZFBaFUH-1RYqx"),
        ),
        status=201,
    ),
    "DELETE /v1/notifiers/<uuid:notifier>": Example({"notifier": str(WEBHOOK)}, status=204),
    "GET /v1/quiet-hours": Example(answer=QuietHoursAnswer(1320, 420, "Europe/Berlin")),
    "PUT /v1/quiet-hours": Example(body=bodies.PutQuietHours(1320, 420, "Europe/Berlin"), status=204),
    "DELETE /v1/quiet-hours": Example(status=204),
    "GET /v1/contacts": Example(
        query=PageQuery(limit=20),
        answer=ContactsAnswer([ContactAnswer(_id(BOB), "bob", "Bob", None, False, _AT)], None, 1),
    ),
    "PUT /v1/contacts/<uuid:other>": Example({"other": str(DAVE)}, body=bodies.PutContact(), status=204),
    "DELETE /v1/contacts/<uuid:other>": Example({"other": str(BOB)}, status=204),
    "POST /v1/conversations": Example(
        body=bodies.NewGroup("Climbing", [BOB, CAROL]),
        answer=_conversation(GROUP, None, is_group=True),
        status=201,
        other_bodies=(bodies.NewDirect([BOB]), bodies.NewSelf()),
    ),
    "GET /v1/conversations": Example(
        query=ListQuery(limit=20),
        answer=ListAnswer(
            [
                _conversation(GROUP, _LAST, is_group=True),
                _conversation(DIRECT, _message(DIRECT, MESSAGE, 1, ALICE), is_group=False),
            ],
            "g2RsaXN0G-nYjQVKkABQAZjyxGoefDuNXgAAAAAAIQ",
        ),
    ),
    "GET /v1/conversations/<uuid:conversation>": Example(_OF_GROUP, answer=_conversation(GROUP, _LAST, is_group=True)),
    "PATCH /v1/conversations/<uuid:conversation>": Example(
        _OF_GROUP, body=bodies.PatchConversation(name="Climbing on Friday", lifetime_s=604_800), status=204
    ),
    "PUT /v1/conversations/<uuid:conversation>/mute": Example(_OF_GROUP, body=bodies.Mute(28_800), status=204),
    "GET /v1/conversations/<uuid:conversation>/messages": Example(
        _OF_GROUP,
        query=HistoryQuery(limit=20),
        answer=HistoryAnswer([_LAST, _message(GROUP, MESSAGE, 1, ALICE)], None),
    ),
    "GET /v1/conversations/<uuid:conversation>/messages/<int:seq>/status": Example(
        {**_OF_GROUP, "seq": "1"},
        answer=StatusAnswer(
            "delivered", 2, 2, 1, [RecipientAnswer(_id(BOB), True, True), RecipientAnswer(_id(CAROL), True, False)]
        ),
    ),
    "POST /v1/attachments": Example(
        body=NewAttachments(
            [NewFile(20_000, _DIGEST, "image/jpeg", NewThumbnail(900, _DIGEST)), NewFile(8_388_609, 2 * _DIGEST)]
        ),
        answer=UploadTicketsAnswer([UploadTicketAnswer(_id(UPLOAD), None, _AT + 3_600_000_000, [_PART_REQUEST])]),
        status=201,
    ),
    "GET /v1/attachments/<uuid:attachment>/parts": Example(
        {"attachment": str(UPLOAD)},
        query=PartsQuery(after=0),
        answer=MissingPartsAnswer(1, False, _AT + 3_600_000_000, []),
    ),
    "POST /v1/attachments/<uuid:attachment>/complete": Example({"attachment": str(UPLOAD)}, status=204),
    "DELETE /v1/attachments/<uuid:attachment>": Example({"attachment": str(UPLOAD)}, status=204),
    "POST /v1/attachments/downloads": Example(
        body=WantedDownloads([ATTACHMENT]),
        answer=DownloadTicketsAnswer(
            [
                DownloadTicketAnswer(
                    _id(ATTACHMENT), None, _AT + 900_000_000, 20_000, "image/jpeg", _DIGEST, _PART_REQUEST.url
                )
            ]
        ),
    ),
    "GET /v1/conversations/<uuid:conversation>/participants": Example(
        _OF_GROUP, query=PageQuery(limit=100), answer=ParticipantsAnswer(_PARTICIPANTS, None)
    ),
    "POST /v1/conversations/<uuid:conversation>/participants": Example(
        _OF_GROUP, body=bodies.AddParticipant(DAVE), status=204
    ),
    "PATCH /v1/conversations/<uuid:conversation>/participants/<uuid:other>": Example(
        _BOB_IN_GROUP, body=bodies.PatchParticipant("admin"), status=204
    ),
    "DELETE /v1/conversations/<uuid:conversation>/participants/<uuid:other>": Example(_BOB_IN_GROUP, status=204),
    "POST /v1/conversations/<uuid:conversation>/accept": Example({"conversation": str(ASKED)}, status=204),
    "POST /v1/conversations/<uuid:conversation>/decline": Example({"conversation": str(ASKED)}, status=204),
    "GET /healthz": Example(answer=HealthAnswer("ok")),
    "GET /readyz": Example(answer=HealthAnswer("ok")),
    "GET /openapi.json": Example(),
    "GET /docs": Example(),
    "GET /ops": Example(),
    "GET /ops/page.css": Example(),
    "GET /ops/page.js": Example(),
    "GET /ops/charts.js": Example(),
    "GET /ops/icon.svg": Example(),
    "GET /app": Example(),
    "GET /app/<path:file>": Example({"file": "web/app.js"}),
    "GET /v1/ops/live": Example(answer=_LIVE),
    "POST /v1/ops/nodes/<node>/drain": Example({"node": "5f0c2a9be4d17033"}, status=404),
    "POST /v1/ops/jobs/<int:job>/replay": Example({"job": DEAD_JOB}, status=204),
    "GET /v1/ops/security-events": Example(
        query=EventsQuery(username="alice"), answer=SecurityEventsAnswer([_LOGIN], None)
    ),
    "GET /v1/ops/analytics": Example(
        query=DaysQuery(date(2026, 1, 1), date(2026, 1, 31)),
        answer=DaysAnswer(
            [
                DayAnswer(
                    day=date(2026, 1, 1),
                    messages=48_211,
                    active_users=1_204,
                    new_users=17,
                    delivery_ms=DeliveryAnswer(3_013, 4.2, 31.6, 118.0),
                    storage_bytes=StorageAnswer(9_437_184, 3_145_728, 1_048_576, 786_432, None),
                    attachments=AttachmentsAnswer(31_402, 40_106_127_360, 911, 1_288_490_189, 77, 104_857_600, 0),
                )
            ]
        ),
    ),
}


def as_json(value: Any) -> Any:
    """A struct as the value of its JSON."""
    return msgspec.json.decode(msgspec.json.encode(value))
