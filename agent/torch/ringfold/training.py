"""The loop: `for step in steps(...)`, `with step`, `all_reduce_`.

A step counts when its gradients are summed on every rank. Until then nothing of it lasts: when a rank dies or comes, the
body is left at `all_reduce_` and the loop takes the step again, among the ranks there are now and from a state that all
of them have.
"""

from __future__ import annotations

import math
import os
from typing import Any, Callable, Iterator, Sequence

import torch
from torch import nn

from . import channel, sampler
from .gradients import Gradients, Handover
from .session import FLOAT_MAX, Reformed, Session
from .state import State

#: (sum of losses, correct answers, examples) of this rank's share: of `rank` and `world_size`.
Evaluate = Callable[[int, int], "tuple[Any, Any, Any]"]

_training: _Training | None = None

#: A rank alone verifies its model once in so many steps: nobody is there to drift away from.
_ALONE_VERIFIES_EVERY = 16


class Job:
    """Who this process is in its job; all of it changes when ranks come and go, so ask each time."""

    @property
    def rank(self) -> int:
        """@raises RuntimeError before the loop: ranks are counted when all are ready"""
        return _known(_run().session.rank)

    @property
    def world_size(self) -> int:
        """@raises RuntimeError before the loop"""
        return _known(_run().session.world_size)

    @property
    def generation(self) -> int:
        """How many rings there have been."""
        return _run().session.generation

    @property
    def step(self) -> int:
        """Completed steps."""
        return _run().state.step

    @property
    def seed(self) -> int:
        return _seed()


def init() -> Job:
    """@raises RuntimeError at once where this process does not run beside an agent"""
    _channel()
    return Job()


def steps(
    model: nn.Module,
    optimizer: Any,
    total_steps: int,
    *,
    extra: Sequence[Any] = (),
    evaluate: Evaluate | None = None,
    steps_per_epoch: int | None = None,
) -> Iterator[Step]:
    """Yields a Step until `total_steps` are done; use it as `for step in steps(...): with step: ...`.

    The state is the model, the optimizer or optimizers, and whatever else of `extra` has a `state_dict()` of plain numbers
    (schedulers). All ranks begin from one rank's, and a rank that comes later from the others'. Running averages of the
    model (batch-norm) are averaged over the ranks with the gradients. torch's random numbers begin anew with each step,
    from (seed, step, rank), so that a step that is taken again is the same.

    `evaluate(rank, world_size)`, after the last step: (sum of losses, correct answers, examples) of this rank's share.

    @raises TypeError for a model or a state that cannot travel; RuntimeError for a loop that is not written as above
    """
    global _training
    if _training is not None:
        raise RuntimeError("a script has one ringfold.steps() loop")
    if total_steps < 1:
        raise ValueError(f"total_steps is {total_steps}: there must be at least one")
    optimizers = list(optimizer) if isinstance(optimizer, (list, tuple)) else [optimizer]
    run = _training = _Training(model, State(model, optimizers, list(extra)))
    run.session.announce(run.gradients.layout(), total_steps, steps_per_epoch or total_steps, str(run.gradients.device))
    run.gradients.use(run.session.gradients)
    run.session.enter()
    while True:
        try:
            while run.state.step < total_steps:
                yield from run.one_step()
            evaluation = None
            if evaluate is not None:
                loss, correct, examples = evaluate(run.session.rank, run.session.world_size)
                sums = {"lossSum": loss, "correctCount": correct, "exampleCount": examples}
                evaluation = {name: _number(value, f"{name} of evaluate()") for name, value in sums.items()}
            run.session.boundary(evaluation)
            return
        except Reformed:
            run.void()


def all_reduce_(model: nn.Module, *, loss: Any = None, correct: Any = 0, examples: float | None = None) -> None:
    """Makes the gradients of `model` the mean over the global batch, on every rank; once in each step.

    `examples` of this rank are its weight: what `step.indices` gave it unless told, so unequal shares add up exactly.
    `loss` is the mean over them, and `correct` how many were right: both are for people.
    Cost: each rank sends 2(W-1)/W times the f32 bytes of the gradients; nothing in a ring of one.

    @raises RuntimeError outside of a step, or a second time in one; ValueError for another model
    """
    run = _run()
    if model is not run.model:
        raise ValueError("all_reduce_ takes the model that steps() was given")
    step = _current_step(run)
    if examples is not None:
        step.weigh(_number(examples, "examples"))
    run.exchange(step, None if loss is None else _number(loss, "loss"), _number(correct, "correct"))


def checkpoint() -> None:
    """Asks for a durable checkpoint of the state after this step, beside those that the job asks for; on every rank alike."""
    _run().wants_checkpoint = True


def ddp_hook(_state, bucket):  # no annotations: DDP compares them with its own types, and here they are strings
    """For `DistributedDataParallel.register_comm_hook`: each of its buckets is on its way as soon as it is full.

    The process group is one of a single process: ranks meet in Ringfold's ring, whoever comes and goes.
    """
    run = _run()
    step = _current_step(run)
    handover = None if step.listens else run.hand_over(step)
    if handover is not None:
        for parameter in bucket.parameters():
            handover.final(run.index_of[id(parameter)], may_change=True)
    done = torch.futures.Future()
    done.set_result(bucket.buffer())
    return done


class Step:
    """One step of the loop. `index` counts from 0."""

    def __init__(self, run: _Training) -> None:
        self._run = run
        self.index: int = run.state.step
        #: This rank's weight.
        self.example_count: float = 1
        #: None until the gradients are summed: then summed, skipped, again, or failed where the body threw.
        self.outcome: str | None = None
        self.entered = False
        #: Of gradients that leave during the backward pass.
        self.handover: Handover | None = None
        #: It hears itself what a backward pass is done with, and need not be told.
        self.listens = False

    @property
    def rank(self) -> int:
        return _known(self._run.session.rank)

    @property
    def world_size(self) -> int:
        return _known(self._run.session.world_size)

    def indices(self, example_count: int, batch_size: int) -> torch.Tensor:
        """int64 tensor: this rank's part of the global batch of this step (sampler.py); its length is the rank's weight."""
        at = {"step": self.index, "rank": self.rank, "world_size": self.world_size}
        indices = sampler.shard_indices(example_count, batch_size, seed=_seed(), **at)
        self.weigh(len(indices))
        return indices

    @property
    def skipped(self) -> bool:
        """After `with step:`: every rank has left this update out, as a number was not finite."""
        return self.outcome == "skipped"

    def weigh(self, example_count: float) -> None:
        """Says how many examples this rank's gradients are a mean over. @raises ValueError after some are on their way"""
        if self.handover is not None and self.handover.weight != example_count:
            raise ValueError("gradients are on their way with another weight: give `examples` to step.backward(loss)")
        if not (example_count >= 0 and math.isfinite(example_count)):
            raise ValueError(f"a rank has {example_count} examples")
        self.example_count = example_count

    def backward(self, loss: torch.Tensor, *, examples: float | None = None) -> None:
        """`loss.backward()`, with gradients on their way to the other ranks while it goes on; the sums have the same bits.

        For the last backward pass of a step. What changes gradients comes after `all_reduce_`.

        @param examples as of `all_reduce_`
        """
        if examples is not None:
            self.weigh(_number(examples, "examples"))
        self.listens = self._run.hand_over(self) is not None
        if self.listens:
            self._run.listen()
        loss.backward()

    def __enter__(self) -> Step:
        self.entered = True
        return self

    def __exit__(self, _kind: Any, error: BaseException | None, _trace: Any) -> bool:
        if isinstance(error, Reformed):
            self.outcome = "again"
        elif isinstance(error, _Skipped):
            self.outcome = "skipped"
        elif error is not None:
            self.outcome = "failed"
        elif self.outcome is None:
            raise RuntimeError("the step ended without ringfold.all_reduce_(model): its ranks would drift apart")
        return isinstance(error, (Reformed, _Skipped))


class _Skipped(BaseException):
    """Every rank leaves this update out: a number was not finite, and the job says `nonFinite: skip`."""


class _Training:
    """What steps() goes by."""

    def __init__(self, model: nn.Module, state: State) -> None:
        self.model = model
        self.state = state
        self.session = Session(_channel(), state)
        self.gradients = Gradients(model)
        self.index_of = {id(part): index for index, (_, part) in enumerate(self.gradients.parts)}
        self.step: Step | None = None
        self.wants_checkpoint = False
        self.pauses = False
        self._listens = False
        self._job_seed = _seed()

    def one_step(self) -> Iterator[Step]:
        self.state.keep_buffers()
        self._seed()
        self.step = step = Step(self)
        yield step
        if not step.entered:
            raise RuntimeError("write `with step:` around the body of the loop: it is left there when the ring re-forms")
        if step.outcome == "failed":
            raise RuntimeError("the script goes on after an exception that left `with step:`: catch it inside the body")
        self.step = None
        if step.outcome == "again":
            self.void()
            return
        if step.outcome == "skipped":
            self.void()
        self.state.step += 1
        if self.pauses:
            self.pauses = False
            self.state.keep_buffers()
            self.session.boundary()

    def void(self) -> None:
        """Nothing of the step that was under way lasts."""
        self.state.take_buffers_back()
        self.step = None
        self.pauses = False
        self.gradients.forget()

    def listen(self) -> None:
        """From now on every backward pass is heard."""
        if not self._listens:
            self._listens = True
            self.gradients.listen(self._heard)

    def hand_over(self, step: Step) -> Handover | None:
        """From here on gradients leave as they come. @returns None where that would win nothing: one bucket, or one rank"""
        session = self.session
        if session.world_size == 1 or len(session.bucket_starts) < 2:
            return None
        if step.handover is None:
            self.gradients.verify()
            weight = float(step.example_count)

            def leave(start: int, non_finite: str | None) -> None:
                session.final(start, non_finite if weight > 0 else None)

            step.handover = Handover(self.gradients, session.bucket_starts, weight, leave)
        return step.handover

    def exchange(self, step: Step, loss: float | None, correct: float) -> None:
        alone = self.session.world_size == 1
        if not alone or step.index % _ALONE_VERIFIES_EVERY == 0:
            self.gradients.verify()
        weight = float(step.example_count)
        loss_sum = 0.0 if loss is None else loss * weight
        non_finite = None
        if alone:
            non_finite = self.gradients.non_finite_gradient() if weight > 0 else None
        else:
            handover = step.handover or Handover(self.gradients, [0], weight, lambda *_: None)
            non_finite = handover.finish()
        if weight > 0 and not abs(loss_sum) < FLOAT_MAX:
            non_finite = "loss"
        counts = weight > 0 and non_finite is None
        totals = {
            "lossSum": loss_sum if counts else 0.0,
            "correctCount": correct if counts else 0.0,
            "exampleCount": weight if counts else 0.0,
        }
        wants_checkpoint, self.wants_checkpoint = self.wants_checkpoint, False
        lacking = () if alone else self.gradients.lacking(weight)
        answer = self.session.reduce(self.state.step, totals, non_finite, wants_checkpoint, lacking)
        self.pauses = answer["pauses"]
        if answer["skipped"]:
            raise _Skipped
        if not alone:
            self.gradients.take(answer["exampleCount"], answer["lacking"])
        step.outcome = "summed"

    def _heard(self, index: int) -> None:
        step = self.step
        if step is not None and step.listens and step.handover is not None:
            step.handover.final(index)

    def _seed(self) -> None:
        seed = (self._job_seed * 1_000_003 + self.state.step) * 257 + _known(self.session.rank)
        torch.default_generator.manual_seed(seed & 0x7FFF_FFFF_FFFF_FFFF)
        if torch.cuda.is_initialized():
            torch.cuda.manual_seed_all(seed & 0x7FFF_FFFF_FFFF_FFFF)


def _run() -> _Training:
    if _training is None:
        raise RuntimeError("no ringfold.steps() loop has begun")
    return _training


def _current_step(run: _Training) -> Step:
    if run.step is None or run.step.outcome is not None:
        raise RuntimeError("once in the body of each step: for step in ringfold.steps(...): with step: ...")
    return run.step


def _number(value: Any, what: str) -> float:
    """Detached: PyTorch warns of a number that is taken out of a graph. @raises ValueError for anything but one number"""
    if torch.is_tensor(value):
        if value.numel() != 1:
            raise ValueError(f"{what} is one number, and this is a tensor of shape {tuple(value.shape)}")
        value = value.detach()
    return float(value)


def _known(value: int | None) -> int:
    if value is None:
        raise RuntimeError("a rank is known within ringfold.steps(): ranks are counted when all are ready")
    return value


def _channel() -> channel.Channel:
    if channel.current is None:
        channel.current = channel.Channel()
    return channel.current


def _seed() -> int:
    return int(os.environ.get("RINGFOLD_SEED", "1"))
