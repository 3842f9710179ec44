"""The loop: `for step in steps(...)`, `with step`, `all_reduce_`.

A step counts when its gradients are summed on every rank. Until then nothing of it lasts: when a rank dies or comes, the
body is left at `all_reduce_` and the loop takes the step again, among the ranks there are now and from a state that all
of them have.
"""

import math
import os

import torch

from . import channel, sampler
from .state import State

_training = None


class Job:
    """Who this process is in its job; all of it changes when ranks come and go, so ask each time."""

    @property
    def rank(self):
        return _known(_run().session.rank)

    @property
    def world_size(self):
        return _known(_run().session.world_size)

    @property
    def generation(self):
        return _run().session.generation

    @property
    def step(self):
        """Completed steps."""
        return _run().state.step

    @property
    def seed(self):
        return _seed()


def init():
    """Says at once whether this process runs beside an agent. @returns Job"""
    _channel()
    return Job()


def steps(model, optimizer, total_steps, *, extra=(), evaluate=None, steps_per_epoch=None):
    """Yields a Step until `total_steps` are done; use it as `for step in steps(...): with step: ...`.

    The state is the model, the optimizer or optimizers, and whatever else of `extra` has a `state_dict()` of plain numbers
    (schedulers). All ranks begin from one rank's, and a rank that comes later from the others'. Running averages of the
    model (batch-norm) are averaged over the ranks with the gradients. torch's random numbers begin anew with each step,
    from (seed, step, rank), so that a step that is taken again is the same.

    `evaluate(rank, world_size)`, after the last step: (sum of losses, correct answers, examples) of this rank's share.
    """
    global _training
    if _training is not None:
        raise RuntimeError("a script has one ringfold.steps() loop")
    optimizers = list(optimizer) if isinstance(optimizer, (list, tuple)) else [optimizer]
    _training = _Training(model, State(model, optimizers, list(extra)))
    _training.session.announce(
        [(name, tensor.shape, tensor.numel()) for name, tensor in _training.parts],
        total_steps,
        steps_per_epoch or total_steps,
        str(_training.device),
    )
    _training.view()
    _training.session.enter()
    state = _training.state
    while True:
        try:
            while state.step < total_steps:
                yield from _training.one_step()
            evaluation = None
            if evaluate is not None:
                loss, correct, examples = evaluate(_training.session.rank, _training.session.world_size)
                evaluation = {"lossSum": float(loss), "correctCount": float(correct), "exampleCount": float(examples)}
            _training.session.boundary(evaluation)
            return
        except channel.Reformed:
            _training.void()


def all_reduce_(model, *, loss=None, correct=0, examples=None):
    """Makes the gradients of `model` the mean over the global batch, on every rank; once in each step.

    `examples` of this rank are its weight: what `step.indices` gave it unless told, so unequal shares add up exactly.
    `loss` is the mean over them, and `correct` how many were right: both are for people.
    Cost: each rank sends 2(W-1)/W times the f32 bytes of the gradients; nothing in a ring of one.
    """
    run = _run()
    if model is not run.model:
        raise ValueError("all_reduce_ takes the model that steps() was given")
    if run.step is None or run.step.outcome is not None:
        raise RuntimeError("call all_reduce_ once in the body of each step: for step in steps(...): with step: ...")
    weight = float(run.step.example_count if examples is None else examples)
    run.exchange(weight, None if loss is None else float(loss), float(correct))


def checkpoint():
    """Asks for a durable checkpoint of the state after this step, beside those that the job asks for; on every rank alike."""
    _run().wants_checkpoint = True


class Step:
    """One step of the loop. `index` counts from 0."""

    def __init__(self, run):
        self._run = run
        self.index = run.state.step
        self.example_count = 1
        #: None until the gradients are summed: then summed, skipped, or again.
        self.outcome = None
        self.entered = False

    @property
    def rank(self):
        return self._run.session.rank

    @property
    def world_size(self):
        return self._run.session.world_size

    def indices(self, example_count, batch_size):
        """int64 tensor: this rank's part of the global batch of this step (sampler.py)."""
        at = {"step": self.index, "rank": self.rank, "world_size": self.world_size}
        indices = sampler.shard_indices(example_count, batch_size, seed=_seed(), **at)
        self.example_count = len(indices)
        return indices

    def __enter__(self):
        self.entered = True
        return self

    def __exit__(self, kind, error, trace):
        if isinstance(error, channel.Reformed):
            self.outcome = "again"
        elif isinstance(error, _Skipped):
            self.outcome = "skipped"
        elif error is None and self.outcome is None:
            raise RuntimeError("the step ended without ringfold.all_reduce_(model): its ranks would drift apart")
        return self.outcome in ("again", "skipped") and error is not None


class _Skipped(BaseException):
    """Every rank leaves this update out: a number was not finite, and the job says `nonFinite: skip`."""


class _Training:
    def __init__(self, model, state):
        self.model = model
        self.state = state
        self.session = channel.Session(_channel(), state)
        self.parameters = [(name, tensor) for name, tensor in model.named_parameters() if tensor.requires_grad]
        self.averages = [(name, tensor) for name, tensor in model.named_buffers() if tensor.is_floating_point()]
        self.parts = self.parameters + self.averages
        self.device = self.parameters[0][1].device if self.parameters else "cpu"
        self.step = None
        self.wants_checkpoint = False
        self.pauses = False

    def view(self):
        """Each part's place in the shared memory."""
        flat = torch.frombuffer(self.session.gradients, dtype=torch.float32)
        self.places = []
        offset = 0
        for _, tensor in self.parts:
            self.places.append(flat[offset : offset + tensor.numel()].view(tensor.shape))
            offset += tensor.numel()

    def one_step(self):
        self.state.keep_buffers()
        self._seed()
        self.step = step = Step(self)
        yield step
        if not step.entered:
            raise RuntimeError("write `with step:` around the body of the loop: it is left there when the ring re-forms")
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

    def void(self):
        """Nothing of the step that was under way lasts."""
        self.state.take_buffers_back()
        self.step = None
        self.pauses = False
        for _, parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def exchange(self, weight, loss, correct):
        alone = self.session.world_size == 1
        non_finite = self._non_finite(loss) if weight > 0 else None
        if not alone:
            self._give(weight)
        counts = weight > 0 and non_finite is None
        totals = {
            "lossSum": loss * weight if counts and loss is not None else 0.0,
            "correctCount": correct if counts else 0.0,
            "exampleCount": weight if counts else 0.0,
        }
        wants_checkpoint, self.wants_checkpoint = self.wants_checkpoint, False
        answer = self.session.reduce(self.state.step, totals, non_finite, wants_checkpoint)
        self.pauses = answer["pauses"]
        if answer["skipped"]:
            raise _Skipped
        if not alone:
            self._take(answer["exampleCount"])
        self.step.outcome = "summed"

    def _give(self, weight):
        for (_, parameter), place in zip(self.parameters, self.places):
            if weight == 0 or parameter.grad is None:
                place.zero_()
            elif _is_plain(parameter.grad):
                torch.mul(parameter.grad, weight, out=place)
            else:
                place.copy_(parameter.grad.float() * weight)
        for (_, average), place in zip(self.averages, self.places[len(self.parameters) :]):
            place.copy_(average).mul_(weight)

    def _take(self, total):
        for (_, parameter), place in zip(self.parameters, self.places):
            if parameter.grad is None:
                parameter.grad = torch.empty_like(parameter)
            if _is_plain(parameter.grad):
                torch.div(place, total, out=parameter.grad)
            else:
                parameter.grad.copy_(place / total)
        for (_, average), place in zip(self.averages, self.places[len(self.parameters) :]):
            average.copy_(place / total)

    def _non_finite(self, loss):
        """The first of this rank's numbers that is not finite, or None. A loss that was not told is not looked at."""
        if loss is not None and not math.isfinite(loss):
            return "loss"
        gradients = [(name, p.grad) for name, p in self.parameters if p.grad is not None]
        # The sum of finite numbers is finite but for an overflow, and one pass is all that most steps pay.
        if not gradients or math.isfinite(sum(g.sum(dtype=torch.float32) for _, g in gradients).item()):
            return None
        return next((name for name, g in gradients if not torch.isfinite(g).all()), None)

    def _seed(self):
        seed = (_seed() * 1_000_003 + self.state.step) * 257 + self.session.rank
        torch.default_generator.manual_seed(seed & 0x7FFF_FFFF_FFFF_FFFF)
        if torch.cuda.is_initialized():
            torch.cuda.manual_seed_all(seed & 0x7FFF_FFFF_FFFF_FFFF)


def _is_plain(tensor):
    return tensor.dtype == torch.float32 and tensor.device.type == "cpu" and tensor.is_contiguous()


def _run():
    if _training is None:
        raise RuntimeError("no ringfold.steps() loop has begun")
    return _training


def _known(value):
    if value is None:
        raise RuntimeError("a rank is known within ringfold.steps(): ranks are counted when all are ready")
    return value


def _channel():
    if channel.current is None:
        channel.current = channel.Channel()
    return channel.current


def _seed():
    return int(os.environ.get("RINGFOLD_SEED", "1"))
