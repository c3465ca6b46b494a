"""The protocols that the generator speaks, by name."""

from __future__ import annotations

from typing import Final

from bench.adapters.alo import Alo, AloWriter
from bench.adapters.base import Adapter, Events
from bench.adapters.lean import Lean, LeanWriter
from bench.adapters.socketio import SocketIO, SocketIOWriter

__all__ = ["ADAPTERS", "WRITERS", "Adapter", "Events"]

ADAPTERS: Final[dict[str, type[Adapter]]] = {"alo": Alo, "sio": SocketIO, "ws": Lean}

WRITERS: Final[dict[str, type[Adapter]]] = {"alo": AloWriter, "sio": SocketIOWriter, "ws": LeanWriter}
"""The same for members who count what others write without reading it: all that a generator can afford where everybody
writes to everybody, since each message comes as often as there are members."""
