"""A script's part in a ring: what it says to its agent, and what it is asked. Numbers cross in shared memory.

The two take turns: the script sends a message and then waits, and while it waits it does what the agent asks. There are two
exceptions: `final`, of which there may be several in a step, and the `reduce` of a rank that is alone and may run ahead,
which tells of several steps at once. Standard library only.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import mmap
import os
import time
from typing import Any, Iterable, Iterator, Protocol, Sequence

from .channel import Channel

#: For so long, and so many steps, a rank that runs ahead keeps what it tells its agent, and does not look whether that has
#: said something. A quarter of the steps that an agent allows (scriptStepsAhead): it answers before they are used up.
HOLD_SECONDS = 0.1
HOLD_STEPS = 16
#: f32 holds no more; the agent sums losses as such.
FLOAT_MAX = 3.4e38


class Reformed(BaseException):
    """The ring is another one: the step that is under way is taken again, maybe by other ranks, maybe from another state.

    No Exception, as a script that catches those must not catch it.
    """


class SharedMemoryFull(OSError):
    """The memory that the agent sees too has no room for what is to cross. Docker gives a container 64 MB of it."""


class Holder(Protocol):
    """Who has the state."""

    #: Completed steps.
    step: int

    def chunks(self) -> Iterable[bytes | memoryview]:
        """The whole state, the same bytes on every rank that stands at the same place."""

    def weights(self) -> Iterable[bytes | memoryview]:
        """What a version holds."""

    def restore(self, data: Any) -> None:
        """Replaces everything, `step` too. @raises ValueError when the bytes are of another model"""


class _Steps:
    """Steps in a row, of which an agent hears as of one."""

    def __init__(self, last: int, totals: dict[str, float], wants_checkpoint: bool) -> None:
        self.last = last
        self.count = 1
        self.totals = totals
        self.wants_checkpoint = wants_checkpoint

    def add(self, next_one: _Steps) -> bool:
        """@returns whether it fits: sums of finite losses may be too large for the agent"""
        sums = {name: value + self.totals[name] for name, value in next_one.totals.items()}
        if not all(abs(value) < FLOAT_MAX for value in sums.values()):
            return False
        self.last, self.totals = next_one.last, sums
        self.count += 1
        self.wants_checkpoint = self.wants_checkpoint or next_one.wants_checkpoint
        return True


class Session:
    """A program in a ring: announces itself, enters generations, gives gradients and takes sums."""

    def __init__(self, channel: Channel, holder: Holder) -> None:
        self._channel = channel
        self._holder = holder
        self.generation = 0
        self.rank: int | None = None
        self.world_size: int | None = None
        #: Where each bucket begins, in the order of their sums; the last one at 0.
        self.bucket_starts: list[int] = [0]
        self.gradients: mmap.mmap | None = None
        #: The steps before this one need no answer: this rank is alone, and its agent wants nothing of its state.
        self._free_until = 0
        #: Steps that it has run ahead and not told of.
        self._ahead: _Steps | None = None
        self._flushed = 0.0

    def announce(
        self, layout: Sequence[tuple[str, Sequence[int], int]], total_steps: int, steps_per_epoch: int, device: str
    ) -> None:
        """Tells the agent what is trained, and makes room for the gradients. `layout`: (name, shape, count) of each part."""
        count = sum(part[2] for part in layout)
        path = os.path.join(self._channel.folder, "gradients")
        with open(path, "xb+") as file, self._room_for("gradients", 4 * count):
            _reserve(file.fileno(), max(4 * count, 4))
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

    def enter(self) -> None:
        """Waits for the next generation."""
        try:
            while True:
                self._wait()
        except Reformed:
            return

    def final(self, start: int, non_finite: str | None = None) -> None:
        """All of `gradients` from this element on is there, and will not change before the sum: it may go round."""
        self._channel.send("final", start=start, nonFinite=non_finite)

    def reduce(
        self,
        step: int,
        totals: dict[str, float],
        non_finite: str | None = None,
        checkpoint: bool = False,
        lacking: Sequence[int] = (),
    ) -> dict[str, Any]:
        """
        Sums `gradients` and `totals` over all ranks, in place.
        @param lacking parts of the layout of which this rank has no gradient
        @returns the agent's answer, with those that all ranks lack; raises Reformed
        """
        now = time.monotonic()
        is_due = now - self._flushed > HOLD_SECONDS or (self._ahead is not None and self._ahead.count >= HOLD_STEPS)
        while is_due and self._free_until > 0 and self._channel.has_arrived():
            self._heard_free(self._channel.receive())
        waits = step >= self._free_until or non_finite is not None
        if checkpoint:
            self._free_until = 0  # it is written when the next step comes to this point
        steps = _Steps(step, totals, checkpoint)
        if waits or self._ahead is None or not self._ahead.add(steps):
            self._hold_ahead()
            if waits:
                self._hold(steps, waits=True, non_finite=non_finite, lacking=lacking)
            else:
                self._ahead = steps
        if waits or is_due:
            self._hold_ahead()
            self._channel.flush()
            self._flushed = now
        if waits:
            return self._wait()
        return {"exampleCount": totals["exampleCount"], "pauses": False, "skipped": False, "lacking": ()}

    def boundary(self, evaluation: dict[str, float] | None = None) -> None:
        """No step is under way. Returns when all steps are done everywhere; raises Reformed when the next ring begins."""
        self._hold_ahead()
        self._channel.send("boundary", step=self._holder.step, evaluation=evaluation)
        self._wait()

    def _wait(self) -> dict[str, Any]:
        """Serves the agent until it says how to go on."""
        while True:
            message = self._channel.receive()
            kind = message["kind"]
            if kind == "begin":
                self.generation = message["generation"]
                self.rank = message["rank"]
                self.world_size = message["worldSize"]
                self.bucket_starts = message["bucketStarts"]
                self._free_until = 0
                raise Reformed(f"generation {self.generation}: rank {self.rank} of {self.world_size}")
            if kind == "reduced":
                self._free_until = message["freeUntil"]
            if kind in ("reduced", "end"):
                return message
            if kind == "free":
                self._heard_free(message)
            else:
                self._serve(kind)

    def _hold_ahead(self) -> None:
        """What this rank has run ahead goes before the next message."""
        if self._ahead:
            self._hold(self._ahead, waits=False)
        self._ahead = None

    def _hold(
        self, steps: _Steps, *, waits: bool, non_finite: str | None = None, lacking: Sequence[int] = ()
    ) -> None:
        self._channel.hold(
            "reduce",
            step=steps.last,
            stepCount=steps.count,
            totals=steps.totals,
            nonFinite=non_finite,
            lacking=lacking,
            wantsCheckpoint=steps.wants_checkpoint,
            waits=waits,
        )

    def _heard_free(self, message: dict[str, Any]) -> None:
        if message["kind"] != "free":
            raise ConnectionError(f"the agent asks for {message['kind']} while this rank runs ahead")
        self._free_until = message["until"]

    def _serve(self, kind: str) -> None:
        path = os.path.join(self._channel.folder, "state")
        if kind == "point":
            self._tell(self._holder.chunks(), None)
        elif kind in ("save", "weights"):
            with self._room_for("the state", 0), open(path, "xb") as file:
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

    @contextlib.contextmanager
    def _room_for(self, what: str, count: int) -> Iterator[None]:
        """@param count bytes that are needed, where that is known"""
        try:
            yield
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            folder = os.path.dirname(self._channel.folder)
            room = os.statvfs(folder)
            needed = f", which takes {count / 1e6:.1f} MB" if count else ""
            free = f"{room.f_bavail * room.f_frsize / 1e6:.1f} MB are free"
            raise SharedMemoryFull(f"{folder} has no room for {what}{needed}: {free}") from error

    def _tell(self, chunks: Iterable[bytes | memoryview], file: Any) -> None:
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


def _reserve(descriptor: int, length: int) -> None:
    """Room that is there. A file that is only made longer has none: where memory ends, the first write ends the process."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, length)
    else:
        os.ftruncate(descriptor, length)
