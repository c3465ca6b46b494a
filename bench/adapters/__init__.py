"""The protocols that the generator speaks, by name."""

from __future__ import annotations

from typing import Final

from bench.adapters.alo import Alo
from bench.adapters.base import Adapter, Events
from bench.adapters.lean import Lean
from bench.adapters.socketio import SocketIO

__all__ = ["ADAPTERS", "Adapter", "Events"]

ADAPTERS: Final[dict[str, type[Adapter]]] = {"alo": Alo, "sio": SocketIO, "ws": Lean}
