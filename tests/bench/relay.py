"""A small server in this process that speaks the lean peer's protocol."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress

from bench.websocket import MessageReader, Opcode
from bench.workload import Chat
from tests.waiting import PATIENCE_S


class Relay:
    """Acks every request, and passes messages to all other participants of their chat, unless it plays a fault.

    :ivar refuse_from: the number of the request from which on it refuses.
    :ivar lose: whether it delivers no message that it acks.
    :ivar silent_to: the type of requests that it does not answer.
    :ivar pings_first: whether it pings its first client, and lets only two others connect until that has answered.
    """

    def __init__(
        self,
        chats: Sequence[Chat],
        *,
        refuse_from: int | None = None,
        lose: bool = False,
        silent_to: str = "",
        pings_first: bool = False,
    ) -> None:
        self.refuse_from, self.lose, self.silent_to = refuse_from, lose, silent_to
        self.pings_first = pings_first
        self._has_ponged = threading.Event()
        self._users = {chat.conversation: [each.user for each in chat.participants] for chat in chats}
        self._sockets: dict[str, socket.socket] = {}
        self._requests = 0
        self._lock = threading.Lock()

    @contextmanager
    def listening(self) -> Iterator[str]:
        """Serve one connection of each user; yields the URL."""
        with closing(socket.create_server(("127.0.0.1", 0))) as listener:
            threads: list[threading.Thread] = []

            def accept() -> None:
                for _ in {user for users in self._users.values() for user in users}:
                    thread = threading.Thread(target=self._serve, args=listener.accept()[:1], daemon=True)
                    thread.start()
                    threads.append(thread)

            accepting = threading.Thread(target=accept, daemon=True)
            accepting.start()
            yield f"ws://127.0.0.1:{listener.getsockname()[1]}"
            accepting.join()
            for thread in threads:
                thread.join()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(ConnectionResetError):
            request = connection.recv(4096)
            user = request.split(b"userId=")[1].split(b" ")[0].decode()
            if self.pings_first and len(self._sockets) == 2:
                # Not with the answer to its handshake, which the client reads anyway.
                next(iter(self._sockets.values())).sendall(b"\x89\x00")
            if self.pings_first and len(self._sockets) == 3 and not self._has_ponged.wait(PATIENCE_S):
                return
            connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
            self._sockets[user] = connection
            reader, rest = MessageReader(), b""
            while data := connection.recv(65536):
                frames, rest = _unmasked(rest + data)
                for opcode, payload in reader.feed(frames):
                    if opcode == Opcode.PONG:
                        self._has_ponged.set()
                    else:
                        self._handle(user, json.loads(payload))

    def _handle(self, user: str, request: dict[str, str]) -> None:
        with self._lock:
            self._requests += 1
            if self.refuse_from is not None and self._requests >= self.refuse_from:
                self._tell(user, {"t": "ack", "id": request["id"], "success": False, "error": "full"})
                return
            if request["t"] == self.silent_to:
                return
            self._tell(user, {"t": "ack", "id": request["id"], "success": True})
            if request["t"] == "send" and not self.lose:
                message = {"sender_id": user, "encrypted_content": request["encryptedContent"]}
                for other in self._users[request["conversationId"]]:
                    if other != user:
                        self._tell(other, {"t": "new", "message": message})

    def _tell(self, user: str, frame: dict[str, object]) -> None:
        payload = json.dumps(frame, separators=(",", ":")).encode()
        self._sockets[user].sendall(b"\x81\x7e" + len(payload).to_bytes(2, "big") + payload)


def _unmasked(data: bytes) -> tuple[bytes, bytes]:
    """The whole client frames in these bytes as a server's, and the rest. The masking key is zero, so it only has to
    go."""
    frames = b""
    while len(data) >= 6:
        size = data[1] & 0x7F
        head = 2 if size < 126 else 4
        length = size if size < 126 else int.from_bytes(data[2:4], "big")
        if len(data) < head + 4 + length:
            break
        frames += bytes((data[0], size)) + data[2:head] + data[head + 4 : head + 4 + length]
        data = data[head + 4 + length :]
    return frames, data
