"""Access by kind of caller: a row for each route and each request frame, for `test_access.py`.

Alice is the administrator of a group with Bob and Carol. Dave was removed from it. Alice blocks Erin, and does not know
Frank, a stranger. Grace has asked Alice to talk.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Final, TypeAlias
from uuid import UUID, uuid4

from client.http import Credentials
from protocol.frames import (
    Abort,
    AddEnvelopes,
    Bye,
    Complete,
    Delete,
    Devices,
    Download,
    Edit,
    Hello,
    History,
    KeyStatus,
    List,
    MarkDelivered,
    MarkRead,
    Parts,
    Ping,
    PutKeys,
    Refresh,
    ReportUndecryptable,
    Request,
    Send,
    SetTyping,
    Status,
    Sync,
    Upload,
    Watch,
)
from protocol.limits import PROTOCOL_VERSION
from tests.server.deaf_node import DEAF
from tests.server.http_world import PASSWORD


class Persona(Enum):
    """Callers. The first five have no session, so who they are decides alone."""

    ANONYMOUS = "shows no token"
    REVOKED = "shows the token of a device of the administrator that was revoked"
    EXPIRED = "shows a token of the administrator that has expired"
    SUSPENDED = "shows the token of a device whose user is suspended"
    OPERATOR = "shows the operators' token"
    STRANGER = "a user whom nobody here knows"
    BLOCKED = "a user whom the administrator blocks"
    REMOVED = "a user who was removed from the group"
    PARTICIPANT = "takes part in the group"
    ADMINISTRATOR = "administrates the group"


NO_SESSION: Final[dict[Persona, str]] = {
    Persona.ANONYMOUS: "unauthenticated",
    Persona.REVOKED: "device_revoked",
    Persona.EXPIRED: "token_expired",
    Persona.SUSPENDED: "account_suspended",
    Persona.OPERATOR: "unauthenticated",
}
USERS: Final = tuple(persona for persona in Persona if persona not in NO_SESSION)
OUTSIDERS: Final = (Persona.STRANGER, Persona.BLOCKED, Persona.REMOVED)

Denials: TypeAlias = Mapping[Persona, str]
"""Users who are refused -> the code. All other users may."""

NOBODY: Final[Denials] = {}


def outsiders(code: str) -> Denials:
    """Users without a part in the group. They get what a group that does not exist gets."""
    return dict.fromkeys(OUTSIDERS, code)


def others(code: str) -> Denials:
    """Everybody but the administrator, whose it is. They get what a thing that does not exist gets."""
    return dict.fromkeys((*OUTSIDERS, Persona.PARTICIPANT), code)


@dataclass(frozen=True)
class Scene:
    """What a request is about; made anew for each request that may change it.

    :ivar group: its messages: 1 is Alice's, 2 is Bob's.
    :ivar device: of Alice.
    :ivar upload: of Alice, complete; no message has it.
    :ivar attachment: of the first message of the group.
    :ivar avatar: of Alice, complete; neither she nor the group shows it.
    :ivar asked: the conversation that Grace has begun with Alice, a request.
    :ivar token: of the caller; for frames that show it.
    """

    alice: Credentials
    carol: Credentials
    grace: Credentials
    group: bytes
    asked: bytes
    device: bytes
    notifier: bytes
    export: bytes
    upload: bytes
    attachment: bytes
    avatar: bytes
    mail_token: str
    dead_job: str
    token: str

    def without_targets(self) -> Scene:
        """The same request about things that do not exist."""
        targets = ("group", "asked", "device", "notifier", "export", "upload", "attachment", "avatar")
        return replace(self, **{name: uuid4().bytes for name in targets}, dead_job="1")


@dataclass(frozen=True)
class Row:
    """A route.

    :ivar values: of the path.
    :ivar body: None: none.
    :ivar denied: of users with a good token; without one, the access of the route decides.
    :ivar hides: a refusal is the same, byte by byte, for a thing that does not exist.
    :ivar everybody: of an open route: the code that every caller gets, with a token of a mail that is made up.
    """

    values: Callable[[Scene], Mapping[str, bytes | str]] = lambda _: {}
    body: Callable[[Scene], Any] = lambda _: None
    query: str = ""
    denied: Denials = field(default_factory=dict)
    hides: tuple[Persona, ...] = OUTSIDERS
    everybody: str | None = None


@dataclass(frozen=True)
class FrameRow:
    """A request frame, as `Row`."""

    frame: Callable[[Scene], Request]
    denied: Denials = field(default_factory=dict)
    hides: tuple[Persona, ...] = OUTSIDERS


def _text(id_: bytes) -> str:
    return str(UUID(bytes=id_))


def _group(scene: Scene) -> Mapping[str, bytes | str]:
    return {"conversation": scene.group}


def _carol(scene: Scene) -> Mapping[str, bytes | str]:
    return {"conversation": scene.group, "other": scene.carol.user}


def _asked(scene: Scene) -> Mapping[str, bytes | str]:
    return {"conversation": scene.asked}


def _grace(scene: Scene) -> Mapping[str, bytes | str]:
    return {"other": scene.grace.user}


def _mail(scene: Scene) -> Mapping[str, bytes | str]:
    return {"token": scene.mail_token}


def _upload(scene: Scene) -> Mapping[str, bytes | str]:
    return {"attachment": scene.upload}


_ADMINISTRATOR_ALONE: Final = {**outsiders("not_found"), Persona.PARTICIPANT: "not_an_administrator"}
_OWNER: Final = (*OUTSIDERS, Persona.PARTICIPANT)

ROWS: Final[dict[str, Row]] = {
    "GET /v1/registration": Row(),
    "POST /v1/users": Row(body=lambda _: {"username": f"u{uuid4().hex[:12]}", "password": PASSWORD}),
    "POST /v1/devices": Row(body=lambda _: {"username": "alice", "password": PASSWORD, "name": "Phone"}),
    "GET /v1/users/<username>": Row(lambda _: {"username": "alice"}),
    "GET /v1/devices": Row(),
    "DELETE /v1/devices/this": Row(),
    "DELETE /v1/devices/others": Row(),
    "DELETE /v1/devices": Row(),
    "PUT /v1/password": Row(
        body=lambda _: {"old_password": PASSWORD, "new_password": PASSWORD, "ends_other_sessions": False}
    ),
    "DELETE /v1/devices/<uuid:device>": Row(
        lambda scene: {"device": scene.device}, denied=others("unknown_device"), hides=_OWNER
    ),
    "PUT /v1/keys": Row(body=lambda _: {"identity": "AAAA"}),
    "GET /v1/keys": Row(),
    "GET /v1/conversations/<uuid:conversation>/state": Row(_group, denied=outsiders("not_found")),
    "PUT /v1/conversations/<uuid:conversation>/state": Row(
        _group, lambda _: {"control_seq": 3, "state": "AAAA"}, denied=outsiders("not_found")
    ),
    "POST /v1/keys/claims": Row(body=lambda scene: {"users": [_text(scene.alice.user)], "kinds": ["otk"]}),
    # Users who may not see the devices get an empty list, as of a user who does not exist.
    "GET /v1/users/<uuid:user>/devices": Row(lambda scene: {"user": scene.alice.user}),
    "POST /v1/tokens": Row(),
    "POST /v1/confirmations": Row(body=lambda _: {"password": PASSWORD}),
    "POST /v1/password-resets": Row(body=lambda _: {"username": "nobody"}),
    "PUT /v1/password-resets": Row(
        body=lambda _: {"token": "made up", "new_password": "nine brown foxes dig"}, everybody="unknown_reset"
    ),
    "GET /v1/password-resets/<token>": Row(_mail),
    "POST /v1/password-resets/<token>": Row(_mail),
    "PUT /v1/account/deletion": Row(body=lambda _: {}),
    "POST /v1/exports": Row(),
    "GET /v1/exports": Row(),
    "GET /v1/exports/<uuid:export>/parts/<int:part>": Row(
        lambda scene: {"export": scene.export, "part": "1"}, denied=others("unknown_export"), hides=_OWNER
    ),
    "POST /v1/attachments": Row(body=lambda _: {"files": [{"size_bytes": 1, "part_digests": "A" * 43 + "="}]}),
    "GET /v1/attachments/<uuid:attachment>/parts": Row(_upload, denied=others("unknown_attachment"), hides=_OWNER),
    "POST /v1/attachments/<uuid:attachment>/complete": Row(_upload, denied=others("unknown_attachment"), hides=_OWNER),
    "DELETE /v1/attachments/<uuid:attachment>": Row(_upload, denied=others("unknown_attachment"), hides=_OWNER),
    "POST /v1/attachments/downloads": Row(body=lambda scene: {"attachments": [_text(scene.attachment)]}),
    "GET /v1/security-events": Row(),
    "GET /v1/ops/security-events": Row(query="?username=alice"),
    "GET /v1/profile": Row(),
    "PATCH /v1/profile": Row(body=lambda _: {"display_name": "Other"}),
    "GET /v1/email": Row(),
    "PUT /v1/email": Row(body=lambda _: {"address": f"{uuid4().hex}@example.org"}),
    "DELETE /v1/email": Row(),
    "POST /v1/email/verifications": Row(body=lambda scene: {"token": scene.mail_token}),
    "GET /v1/email/verifications/<token>": Row(_mail),
    "POST /v1/email/verifications/<token>": Row(_mail),
    "GET /v1/unsubscribe/<token>": Row(_mail),
    "POST /v1/unsubscribe/<token>": Row(_mail),
    "GET /v1/notifiers/keys": Row(),
    "GET /v1/notifiers": Row(),
    "POST /v1/notifiers": Row(body=lambda _: {"kind": "webhook", "url": "https://bot.example.org/"}),
    "DELETE /v1/notifiers/<uuid:notifier>": Row(
        lambda scene: {"notifier": scene.notifier}, denied=others("unknown_notifier"), hides=_OWNER
    ),
    "GET /v1/quiet-hours": Row(),
    "PUT /v1/quiet-hours": Row(body=lambda _: {"from_minute": 1, "until_minute": 2, "zone": "UTC"}),
    "DELETE /v1/quiet-hours": Row(),
    "GET /v1/contacts": Row(),
    "PUT /v1/contacts/<uuid:other>": Row(_grace, lambda _: {"is_blocked": False}),
    "DELETE /v1/contacts/<uuid:other>": Row(_grace),
    "POST /v1/conversations": Row(
        body=lambda scene: {"kind": "direct", "participants": [_text(scene.grace.user)]},
    ),
    "GET /v1/conversations": Row(),
    "GET /v1/conversations/<uuid:conversation>": Row(_group, denied=outsiders("not_found")),
    "PATCH /v1/conversations/<uuid:conversation>": Row(
        _group, lambda _: {"name": "Other"}, denied=_ADMINISTRATOR_ALONE
    ),
    "PUT /v1/conversations/<uuid:conversation>/mute": Row(
        _group, lambda _: {"seconds": 60}, denied=outsiders("not_found")
    ),
    "GET /v1/conversations/<uuid:conversation>/messages/<int:seq>/status": Row(
        lambda scene: {"conversation": scene.group, "seq": "1"}, denied=outsiders("not_found")
    ),
    "GET /v1/conversations/<uuid:conversation>/messages": Row(_group, denied=outsiders("not_found")),
    "GET /v1/conversations/<uuid:conversation>/participants": Row(_group, denied=outsiders("not_found")),
    "POST /v1/conversations/<uuid:conversation>/participants": Row(
        _group, lambda scene: {"user": _text(scene.grace.user)}, denied=_ADMINISTRATOR_ALONE
    ),
    "PATCH /v1/conversations/<uuid:conversation>/participants/<uuid:other>": Row(
        _carol, lambda _: {"role": "admin"}, denied=_ADMINISTRATOR_ALONE
    ),
    "DELETE /v1/conversations/<uuid:conversation>/participants/<uuid:other>": Row(_carol, denied=_ADMINISTRATOR_ALONE),
    "POST /v1/conversations/<uuid:conversation>/accept": Row(_asked, denied=others("not_found"), hides=_OWNER),
    "POST /v1/conversations/<uuid:conversation>/decline": Row(_asked, denied=others("not_found"), hides=_OWNER),
    "GET /healthz": Row(),
    "GET /readyz": Row(),
    "GET /openapi.json": Row(),
    "GET /docs": Row(),
    "GET /ops": Row(),
    "GET /ops/page.css": Row(),
    "GET /ops/page.js": Row(),
    "GET /ops/charts.js": Row(),
    "GET /ops/icon.svg": Row(),
    "GET /app": Row(),
    "GET /app/<path:file>": Row(lambda _: {"file": "web/app.js"}),
    "GET /v1/ops/live": Row(),
    "POST /v1/ops/nodes/<node>/drain": Row(lambda _: {"node": DEAF.hex()}),
    "POST /v1/ops/jobs/<int:job>/replay": Row(lambda scene: {"job": scene.dead_job}),
    "GET /v1/ops/analytics": Row(query="?from=2026-01-01&until=2026-01-01"),
}
"""Each route, by its rule."""

MORE_ROWS: Final[dict[str, tuple[str, Row]]] = {
    "declare an avatar": (
        "POST /v1/attachments",
        Row(body=lambda _: {"files": [{"size_bytes": 1, "part_digests": "A" * 43 + "="}], "is_avatar": True}),
    ),
    "show an avatar": (
        "PATCH /v1/profile",
        Row(
            body=lambda scene: {"avatar": _text(scene.avatar)},
            denied=others("unknown_attachment"),
            hides=_OWNER,
        ),
    ),
    "show an avatar of a group": (
        "PATCH /v1/conversations/<uuid:conversation>",
        Row(_group, lambda scene: {"avatar": _text(scene.avatar)}, denied=_ADMINISTRATOR_ALONE),
    ),
    "give up an avatar": (
        "DELETE /v1/attachments/<uuid:attachment>",
        Row(lambda scene: {"attachment": scene.avatar}, denied=others("unknown_attachment"), hides=_OWNER),
    ),
}
"""What else a route is asked for: a name -> the rule, and the row."""

_STRANGE: Final = outsiders("not_a_participant")

FRAME_ROWS: Final[dict[type[Request], FrameRow]] = {
    Hello: FrameRow(
        lambda scene: Hello(1, scene.token, PROTOCOL_VERSION),
        denied=dict.fromkeys(USERS, "unexpected_frame"),
        hides=(),
    ),
    Send: FrameRow(lambda scene: Send(1, scene.group, "text", b"x", None, None, uuid4().bytes), _STRANGE),
    # A mark on a conversation of others is dropped: an error would tell which conversations exist.
    MarkDelivered: FrameRow(lambda scene: MarkDelivered(1, [(scene.group, 2)])),
    MarkRead: FrameRow(lambda scene: MarkRead(1, [(scene.group, 2)])),
    Edit: FrameRow(
        lambda scene: Edit(1, scene.group, 1, "text", b"y", None, None, 0),
        {**_STRANGE, Persona.PARTICIPANT: "not_the_sender"},
    ),
    Delete: FrameRow(
        lambda scene: Delete(1, scene.group, 1, True), {**_STRANGE, Persona.PARTICIPANT: "not_the_sender"}
    ),
    SetTyping: FrameRow(lambda scene: SetTyping(1, scene.group, True), _STRANGE),
    Watch: FrameRow(lambda scene: Watch(1, [scene.alice.user])),
    Sync: FrameRow(lambda _: Sync(1, None)),
    History: FrameRow(lambda scene: History(1, scene.group, None, None, None), _STRANGE),
    List: FrameRow(lambda _: List(1, None, None)),
    Refresh: FrameRow(lambda scene: Refresh(1, scene.token)),
    Status: FrameRow(lambda scene: Status(1, scene.group, 1), _STRANGE),
    PutKeys: FrameRow(lambda _: PutKeys(1, b"\0")),
    Devices: FrameRow(lambda scene: Devices(1, None, [scene.alice.user])),
    KeyStatus: FrameRow(lambda _: KeyStatus(1)),
    AddEnvelopes: FrameRow(
        lambda scene: AddEnvelopes(1, scene.group, 1, 0, [(scene.device, b"envelope")]),
        {**_STRANGE, Persona.PARTICIPANT: "not_the_sender", Persona.ADMINISTRATOR: "not_the_sender"},
    ),
    # Those who may report have no identity here, and are told so.
    ReportUndecryptable: FrameRow(
        lambda scene: ReportUndecryptable(1, scene.group, 1, 0, "other"),
        {**_STRANGE, Persona.PARTICIPANT: "invalid_frame", Persona.ADMINISTRATOR: "invalid_frame"},
    ),
    Upload: FrameRow(lambda _: Upload(1, [(1, "image/png", bytes(32), None)])),
    Parts: FrameRow(lambda scene: Parts(1, None, scene.upload), others("unknown_attachment"), _OWNER),
    Complete: FrameRow(lambda scene: Complete(1, [scene.upload]), others("unknown_attachment"), _OWNER),
    Download: FrameRow(lambda scene: Download(1, [scene.attachment])),
    Abort: FrameRow(lambda scene: Abort(1, [scene.upload]), others("unknown_attachment"), _OWNER),
    Ping: FrameRow(lambda _: Ping(1)),
    Bye: FrameRow(lambda _: Bye(1)),
}
"""Each request frame."""

_ALL_USERS: Final[Denials] = dict.fromkeys(USERS, "unknown_attachment")

MORE_FRAME_ROWS: Final[dict[str, FrameRow]] = {
    "claim keys": FrameRow(lambda scene: Devices(1, None, [scene.alice.user], ["otk"])),
    "upload keys": FrameRow(
        lambda _: PutKeys(1, None, [("otk", 1, b"key")], key_history=b"made up"),
        dict.fromkeys(USERS, "key_history_foreign"),
        (),
    ),
    "declare an avatar": FrameRow(lambda _: Upload(1, [(1, "application/octet-stream", bytes(32), None)], True)),
    "send an avatar in a message": FrameRow(
        lambda scene: Send(1, scene.group, "text", b"x", None, None, uuid4().bytes, attachments=[scene.avatar]),
        {**_ALL_USERS, **_STRANGE},
    ),
    "edit an avatar into a message": FrameRow(
        lambda scene: Edit(1, scene.group, 1, "text", b"y", None, None, 0, attachments=[scene.avatar]),
        {**_ALL_USERS, **_STRANGE, Persona.PARTICIPANT: "not_the_sender"},
    ),
    "complete an avatar": FrameRow(lambda scene: Complete(1, [scene.avatar]), others("unknown_attachment"), _OWNER),
    "give up an avatar": FrameRow(lambda scene: Abort(1, [scene.avatar]), others("unknown_attachment"), _OWNER),
    "download an avatar": FrameRow(lambda scene: Download(1, [scene.avatar])),
}
"""What else a frame is sent for: a name -> the row."""

SILENT: Final = frozenset((MarkDelivered, MarkRead, Watch))
"""Frames that succeed for users without a part in the group, and change nothing then."""
