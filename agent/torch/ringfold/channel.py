"""The two ways between a script and its agent: messages over a Unix socket, numbers in shared memory.

Messages are JSON with a length of 4 bytes (little-endian) before it. The two take turns: the script sends one message
and then waits, and while it waits it does what the agent asks. Standard library only.
"""

import hashlib
import json
import mmap
import os
import socket
import struct

PROTOCOL = 1
MESSAGE_BYTES_MAX = 4 * 1024 * 1024


#: Of this process; the launcher opens it.
current = None


class Reformed(BaseException):
    """The ring is another one: the step that is under way is taken again, maybe by other ranks, maybe from another state.

    No Exception, as a script that catches those must not catch it.
    """


class Channel:
    """The script's end. A wait ends when the agent's end closes."""

    def __init__(self, folder=None):
        self.folder = folder or _environment("RINGFOLD_FOLDER")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect(os.path.join(self.folder, "socket"))

    def send(self, kind, **fields):
        text = json.dumps({"kind": kind, **fields}, allow_nan=False).encode()
        if len(text) > MESSAGE_BYTES_MAX:
            raise ValueError(f"a message of {len(text)} bytes is too large for the agent")
        self._socket.sendall(struct.pack("<I", len(text)) + text)

    def receive(self):
        (length,) = struct.unpack("<I", self._read(4))
        if length > MESSAGE_BYTES_MAX:
            raise ConnectionError(f"the agent announces a message of {length} bytes")
        message = json.loads(self._read(length))
        if not isinstance(message, dict) or not isinstance(message.get("kind"), str):
            raise ConnectionError("the agent has sent something that is no message")
        return message

    def close(self):
        self._socket.close()

    def _read(self, count):
        parts = []
        while count > 0:
            part = self._socket.recv(min(count, 1 << 16))
            if not part:
                raise ConnectionError("the agent is gone")
            parts.append(part)
            count -= len(part)
        return b"".join(parts)


class Session:
    """A program in a ring: announces itself, enters generations, gives gradients and takes sums.

    `holder` has the state: `step`, the completed steps; `chunks()`, the bytes of the whole state, the same on every rank
    that stands at the same place; `weights()`, the bytes of a version; `restore(bytes)`, which sets `step`, too.
    """

    def __init__(self, channel, holder):
        self._channel = channel
        self._holder = holder
        self.generation = 0
        self.rank = None
        self.world_size = None
        self.gradients = None

    def announce(self, layout, total_steps, steps_per_epoch, device):
        """Tells the agent what is trained, and makes room for the gradients. `layout`: (name, shape, count) of each part."""
        count = sum(part[2] for part in layout)
        path = os.path.join(self._channel.folder, "gradients")
        with open(path, "xb+") as file:
            file.truncate(max(4 * count, 4))
            self.gradients = mmap.mmap(file.fileno(), 0)
        digest = hashlib.sha256()
        for chunk in self._holder.chunks():
            digest.update(chunk)
        self._channel.send(
            "ready",
            layout=[{"name": n, "shape": list(s), "elementCount": c} for n, s, c in layout],
            totalSteps=total_steps,
            stepsPerEpoch=steps_per_epoch,
            device=device,
            step=self._holder.step,
            hash=digest.hexdigest(),
        )

    def enter(self):
        """Waits for the next generation."""
        try:
            while True:
                self._wait()
        except Reformed:
            return

    def reduce(self, step, totals, non_finite=None, checkpoint=False):
        """Sums `gradients` and `totals` over all ranks, in place. @returns the agent's answer; raises Reformed"""
        self._channel.send(
            "reduce", step=step, totals=totals, nonFinite=non_finite, wantsCheckpoint=checkpoint
        )
        return self._wait()

    def boundary(self, evaluation=None):
        """No step is under way. Returns when all steps are done everywhere; raises Reformed when the next ring begins."""
        self._channel.send("boundary", step=self._holder.step, evaluation=evaluation)
        self._wait()

    def _wait(self):
        """Serves the agent until it says how to go on."""
        while True:
            message = self._channel.receive()
            kind = message["kind"]
            if kind == "begin":
                self.generation = message["generation"]
                self.rank = message["rank"]
                self.world_size = message["worldSize"]
                raise Reformed(f"generation {self.generation}: rank {self.rank} of {self.world_size}")
            if kind in ("reduced", "end"):
                return message
            self._serve(kind)

    def _serve(self, kind):
        path = os.path.join(self._channel.folder, "state")
        if kind == "point":
            self._tell(self._holder.chunks(), None)
        elif kind in ("save", "weights"):
            with open(path, "xb") as file:
                self._tell(self._holder.chunks() if kind == "save" else self._holder.weights(), file)
        elif kind == "load":
            with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as state:
                os.unlink(path)
                try:
                    self._holder.restore(state)
                except ValueError as refusal:
                    self._channel.send("refused", message=str(refusal)[:1_000])
                    return
            self._tell(self._holder.chunks(), None)
        else:
            raise ConnectionError(f"the agent asks for {kind}, which this release does not know")

    def _tell(self, chunks, file):
        digest = hashlib.sha256()
        count = 0
        for chunk in chunks:
            digest.update(chunk)
            count += len(chunk)
            if file:
                file.write(chunk)
        if file:
            file.flush()
        self._channel.send("state", step=self._holder.step, hash=digest.hexdigest(), bytes=count)


def _environment(name):
    value = os.environ.get(name)
    if not value:
        raise RuntimeError(
            f"{name} is not set: start this program with `ringfold run`, beside an agent, not by itself"
        )
    return value
