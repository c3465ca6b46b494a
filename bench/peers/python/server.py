"""python-socketio on uvicorn, uvloop and asyncpg: what asyncio gives a chat in Python, in one process without Redis.

It has the events and the statement of a send of the plan (`node/plan/`); participants are kept in this process.

Environment: PORT, DATABASE_URL, POSTGRES_CONNECTIONS (10).
"""

import os
import time
from typing import Any

import asyncpg
import orjson
import socketio
import uvicorn
import uvloop

KEPT_S = 300.0
USERS_OF = "select user_id::text from conversation_participants where conversation_id = $1"
SEND = """
with moved as (update conversations set updated_at = now() where id = $1)
insert into messages (conversation_id, sender_id, encrypted_content, content_type, nonce, ephemeral_public_key)
values ($1, $2, $3, $4, $5, $6) returning id, created_at
"""


class Json:
    """orjson, with the two functions that python-socketio calls."""

    @staticmethod
    def dumps(value: object, **_: object) -> str:
        return str(orjson.dumps(value), "utf-8")

    @staticmethod
    def loads(text: str | bytes, **_: object) -> Any:
        return orjson.loads(text)


class ChatServer:
    """The server's events. `users` has the user of each connection."""

    def __init__(self, database: Any) -> None:
        self._database = database
        self._participants: dict[str, tuple[float, frozenset[str], list[str]]] = {}
        self._users: dict[str, str] = {}
        self.sio: Any = socketio.AsyncServer(
            async_mode="asgi", json=Json, transports=["websocket"], http_compression=False, cors_allowed_origins="*"
        )
        for event, handle in (
            ("connect", self._connect),
            ("disconnect", self._disconnect),
            ("message:send", self._send),
        ):
            self.sio.on(event, handle)

    async def _connect(self, sid: str, _environ: object, auth: dict[str, str] | None = None) -> bool:
        user = (auth or {}).get("userId")
        if not user:
            return False
        self._users[sid] = user
        await self.sio.enter_room(sid, user)
        return True

    async def _disconnect(self, sid: str, _reason: object = None) -> None:
        self._users.pop(sid, None)

    async def _send(self, sid: str, sent: dict[str, str]) -> dict[str, object]:
        try:
            return {"success": True, "message": await self._store(self._users[sid], sent)}
        except (asyncpg.PostgresError, KeyError, PermissionError) as error:
            return {"success": False, "error": str(error)}

    async def _store(self, user: str, sent: dict[str, str]) -> dict[str, object]:
        conversation = sent["conversationId"]
        participants, rooms = await self._participants_of(conversation)
        if user not in participants:
            raise PermissionError("not a participant of this conversation")
        content, content_type = sent["encryptedContent"], sent.get("contentType", "text")
        nonce, key = sent.get("nonce"), sent.get("ephemeralPublicKey")
        row = await self._database.fetchrow(SEND, conversation, user, content, content_type, nonce, key)
        message = {
            "id": str(row["id"]),
            "conversation_id": conversation,
            "sender_id": user,
            "encrypted_content": content,
            "content_type": content_type,
            "nonce": nonce,
            "ephemeral_public_key": key,
            "status": "sent",
            "created_at": row["created_at"].isoformat(),
        }
        pushed = {**message, "tempId": sent.get("tempId"), "ephemeralPublicKey": key}
        await self.sio.emit("message:new", pushed, room=rooms)
        return message

    async def _participants_of(self, conversation: str) -> tuple[frozenset[str], list[str]]:
        """The users of a conversation, and their rooms."""
        until, participants, rooms = self._participants.get(conversation, (0.0, frozenset[str](), []))
        if until < time.monotonic():
            rooms = [row[0] for row in await self._database.fetch(USERS_OF, conversation)]
            participants = frozenset(rooms)
            self._participants[conversation] = (time.monotonic() + KEPT_S, participants, rooms)
        return participants, rooms


async def main() -> None:
    connections, port = int(os.environ.get("POSTGRES_CONNECTIONS", "10")), int(os.environ["PORT"])
    async with asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=connections, max_size=connections) as database:
        config = uvicorn.Config(
            socketio.ASGIApp(ChatServer(database).sio),
            host="127.0.0.1",
            port=port,
            loop="uvloop",
            ws="websockets-sansio",
            ws_per_message_deflate=False,
            lifespan="off",
            access_log=False,
            log_level="warning",
        )
        await uvicorn.Server(config).serve()


if __name__ == "__main__":
    uvloop.run(main())
