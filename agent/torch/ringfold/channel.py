"""Messages between a script and its agent, over a Unix socket: JSON with a length of 4 bytes (little-endian) before it.

Standard library only.
"""

from __future__ import annotations

import json
import os
import select
import socket
import struct
from typing import Any

PROTOCOL = 3
MESSAGE_BYTES_MAX = 4 * 1024 * 1024

#: json.dumps makes an encoder each time.
_json = json.JSONEncoder(allow_nan=False).encode

#: Of this process; the launcher opens it.
current: Channel | None = None


class Channel:
    """The script's end. A wait ends when the agent's end closes."""

    def __init__(self, folder: str | None = None) -> None:
        """@raises RuntimeError where no agent has started this process"""
        self._held: list[dict[str, Any]] = []
        self.folder = folder or _environment("RINGFOLD_FOLDER")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect(os.path.join(self.folder, "socket"))

    def send(self, kind: str, **fields: Any) -> None:
        """Behind what is held. @raises ValueError for a message that is too large"""
        self.hold(kind, **fields)
        self.flush()

    def hold(self, kind: str, **fields: Any) -> None:
        """Keeps a message until others go: an agent that is woken up for each takes time from the script on a busy machine."""
        self._held.append({"kind": kind, **fields})

    def flush(self) -> None:
        held, self._held = self._held, []
        frames = []
        for message in held:
            text = _json(message).encode()
            if len(text) > MESSAGE_BYTES_MAX:
                raise ValueError(f"a message of {len(text)} bytes is too large for the agent")
            frames.append(struct.pack("<I", len(text)) + text)
        self._socket.sendall(b"".join(frames))

    def has_arrived(self) -> bool:
        """Whether there is something to receive at once."""
        return bool(select.select([self._socket], [], [], 0)[0])

    def receive(self) -> dict[str, Any]:
        """@raises ConnectionError when the agent is gone"""
        (length,) = struct.unpack("<I", self._read(4))
        if length > MESSAGE_BYTES_MAX:
            raise ConnectionError(f"the agent announces a message of {length} bytes")
        message = json.loads(self._read(length))
        if not isinstance(message, dict) or not isinstance(message.get("kind"), str):
            raise ConnectionError("the agent has sent something that is no message")
        return message

    def close(self) -> None:
        self._socket.close()

    def _read(self, count: int) -> bytes:
        parts = []
        while count > 0:
            part = self._socket.recv(min(count, 1 << 16))
            if not part:
                raise ConnectionError("the agent is gone")
            parts.append(part)
            count -= len(part)
        return b"".join(parts)


def _environment(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise RuntimeError(
            f"{name} is not set: start this program with `ringfold run`, beside an agent, not by itself"
        )
    return value
