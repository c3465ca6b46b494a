"""The protocols that the generator speaks, by name."""

from __future__ import annotations

from typing import Final

from bench.adapters.alo import Alo, AloSynced, AloWriter
from bench.adapters.base import Adapter, Events
from bench.adapters.lean import Lean, LeanWriter
from bench.adapters.socketio import SocketIO, SocketIOWriter

__all__ = ["ADAPTERS", "SYNCED", "WRITERS", "Adapter", "Events"]

ADAPTERS: Final[dict[str, type[Adapter]]] = {"alo": Alo, "sio": SocketIO, "ws": Lean}

SYNCED: Final[dict[str, type[Adapter]]] = {**ADAPTERS, "alo": AloSynced}
"""Adapters for devices that behave as those of users do all day. The peers' clients have nothing to sync."""

WRITERS: Final[dict[str, type[Adapter]]] = {"alo": AloWriter, "sio": SocketIOWriter, "ws": LeanWriter}
"""Adapters for participants that count messages without reading them. Where all participants write, each message
arrives as often as there are participants: the generator has no CPU left to read them."""
