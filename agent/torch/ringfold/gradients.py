"""What travels of a model: running averages and gradients as f32, one after the other, in memory that the agent sees too.

The averages lie in front: what a backward pass computes last leaves last, and a forward pass that is run again within it
(torch.utils.checkpoint) still moves them.
"""

from __future__ import annotations

import math
from typing import Any, Callable, Sequence

import torch
from torch import nn

from .state import buffers_of


_keep = "parameters, their shapes and what of them is trained stay the same within ringfold.steps()"


class Gradients:
    """The parts of the vector, each with its place in it."""

    def __init__(self, model: nn.Module) -> None:
        """@raises TypeError for a model whose parts are no real numbers"""
        self._buffers = [entry for entry in buffers_of(model) if entry.tensor.is_floating_point()]
        self.parameters = [(name, part) for name, part in model.named_parameters() if part.requires_grad]
        self.parts = [(entry.name, entry.tensor) for entry in self._buffers] + self.parameters
        for name, part in self.parts:
            if part.is_complex():
                raise TypeError(f"{name} is complex, and ranks sum real numbers: keep torch.view_as_real of it")
        #: What each module holds, and the shapes of it; and parameters that were frozen.
        self._held = [
            (prefix, held, [(key, id(part)) for key, part in held.items()])
            for prefix, module in model.named_modules()
            for held in (module._modules, module._parameters)
            if held
        ]
        self._shapes = [(name, part, part.shape) for name, part in model.named_parameters()]
        self._frozen = [(name, part) for name, part in model.named_parameters() if not part.requires_grad]
        self.device = self.parameters[0][1].device if self.parameters else torch.device("cpu")
        #: Where each part begins, and the length of all.
        self.offsets = [0]
        for _, part in self.parts:
            self.offsets.append(self.offsets[-1] + part.numel())
        #: The accumulating nodes of releases before 2.1: a hook lasts as long as its node.
        self._nodes: list[Any] = []

    def layout(self) -> list[tuple[str, torch.Size, int]]:
        return [(name, part.shape, part.numel()) for name, part in self.parts]

    def use(self, memory: Any) -> None:
        """@param memory a writable buffer of at least 4 bytes an element"""
        self._shared = torch.frombuffer(memory, dtype=torch.float32)
        # From a GPU all of it crosses in one piece: a copy for each part would wait for the device each time.
        self._vector = self._shared if self.device.type == "cpu" else torch.empty_like(self._shared, device=self.device)
        spans = zip(self.offsets, self.offsets[1:], self.parts)
        self._places = [self._vector[first:end].view(part.shape) for first, end, (_, part) in spans]

    def verify(self) -> None:
        """The model is the one that was announced. @raises RuntimeError: what is new in it would stay on this rank"""
        for prefix, held, before in self._held:
            now = [(key, id(part)) for key, part in held.items()]
            if now != before:
                key = next(key for key, _ in {*now} ^ {*before})
                raise RuntimeError(f"{prefix}{prefix and '.'}{key} is not what it was before the loop: {_keep}")
        for name, part, shape in self._shapes:
            if part.shape != shape:
                raise RuntimeError(f"{name} was of shape {tuple(shape)} and is of {tuple(part.shape)}: {_keep}")
        for name, part in self._frozen:
            if part.requires_grad:
                raise RuntimeError(f"{name} was frozen before the loop: {_keep}")

    def listen(self, heard: Callable[[int], None]) -> None:
        """`heard(index)` after a backward pass has added to the gradient of the part of that index."""
        for index, (_, parameter) in enumerate(self.parameters, len(self._buffers)):
            if hasattr(parameter, "register_post_accumulate_grad_hook"):
                parameter.register_post_accumulate_grad_hook(lambda _, index=index: heard(index))
            else:
                with torch.enable_grad():
                    node = parameter.expand_as(parameter).grad_fn.next_functions[0][0]
                node.register_hook(lambda *_, index=index: heard(index))
                self._nodes.append(node)

    def current(self, index: int) -> torch.Tensor | None:
        """The average, or the gradient, of this part."""
        count = len(self._buffers)
        return self._buffers[index].tensor if index < count else self.parameters[index - count][1].grad

    @torch.no_grad()
    def give(self, index: int, weight: float) -> None:
        """Writes one part, times the examples that it is a mean over."""
        place = self._places[index]
        source = self.current(index)
        if source is None or weight == 0:
            place.zero_()
            return
        if source.layout != torch.strided:
            source = source.to_dense()
        if _is_alike(source, place):
            torch.mul(source, weight, out=place)
        else:
            place.copy_(source).mul_(weight)

    def share(self, first: int, end: int) -> None:
        """Lets the agent see what was written to this range. Cost: a copy from the GPU, if the model is on one."""
        if self._vector is not self._shared:
            self._shared[first:end].copy_(self._vector[first:end])

    def lacking(self, weight: float) -> list[int]:
        """Parts whose gradient this rank has not computed; all, if it has no examples."""
        first = len(self._buffers)
        return [first + index for index, (_, part) in enumerate(self.parameters) if part.grad is None or weight == 0]

    @torch.no_grad()
    def take(self, total: float, lacking: Sequence[int] = ()) -> None:
        """
        Replaces averages and gradients by the sums over `total` examples, each in the type and layout that it has.
        @param lacking parts whose gradient no rank has computed: an optimizer leaves those as they are
        """
        if self._vector is not self._shared:
            self._vector.copy_(self._shared)
        if total > 0:
            for entry, place in zip(self._buffers, self._places):
                _divide(place, total, entry.tensor)
        by_nobody = set(lacking)
        for index, (_, parameter) in enumerate(self.parameters, len(self._buffers)):
            if index in by_nobody:
                parameter.grad = None
                continue
            place, gradient = self._places[index], parameter.grad
            if gradient is None:
                gradient = parameter.grad = torch.empty_like(parameter)
            if gradient.layout == torch.strided:
                _divide(place, total, gradient)
            else:
                mean = (place / total).to(gradient.device, gradient.dtype)
                parameter.grad = mean.to_sparse(gradient.sparse_dim())

    def forget(self) -> None:
        for _, parameter in self.parameters:
            parameter.grad = None

    def non_finite(self, first: int, end: int) -> str | None:
        """The first part in this range of the vector with a number that is none. Cost: one pass."""
        # The sum of finite numbers is finite but for an overflow.
        if first == end or math.isfinite(self._vector[first:end].sum().item()):
            return None
        for index, (name, _) in enumerate(self.parts):
            own = self._vector[max(first, self.offsets[index]) : min(end, self.offsets[index + 1])]
            if not torch.isfinite(own).all():
                return name
        return None

    @torch.no_grad()
    def non_finite_gradient(self) -> str | None:
        """
        The first parameter whose own gradient is not finite. Cost: one pass, and as little else as can be: a rank alone does
        it in every step, and code that the caches have forgotten costs as much as the numbers.
        """
        sums = (_sum(part.grad) for _, part in self.parameters if part.grad is not None)
        if self.device.type == "cpu":
            total = sum(value.item() for value in sums)
        else:  # one wait for the device, not one a parameter
            held = [value.to(self.device) for value in sums]
            total = torch.stack(held).sum().item() if held else 0.0
        if math.isfinite(total):
            return None
        known = [(name, part.grad) for name, part in self.parameters if part.grad is not None]
        return next((name for name, gradient in known if not torch.isfinite(_values(gradient)).all()), None)


def _sum(gradient: torch.Tensor) -> torch.Tensor:
    """The sum of finite numbers is finite but for an overflow; half precision overflows soon."""
    values = _values(gradient)
    return values.sum() if values.dtype == torch.float32 else values.sum(dtype=torch.float32)


def _values(gradient: torch.Tensor) -> torch.Tensor:
    return gradient if gradient.layout == torch.strided else gradient.coalesce().values()


class Handover:
    """The vector of one step on its way to the agent: bucket by bucket from its end, as a backward pass comes to them."""

    def __init__(
        self, gradients: Gradients, starts: list[int], weight: float, leave: Callable[[int, str | None], None]
    ) -> None:
        """
        @param starts of the buckets, in the order of their sums; the last one, at 0, is the caller's
        @param leave told that all from this start on is there, and what of that bucket is not finite
        """
        self.weight = weight
        self._gradients = gradients
        self._starts = starts
        self._leave = leave
        #: By part: its gradient and the state of that when it was written.
        self._written: list[tuple[Any, int] | None] = [None] * len(gradients.parts)
        #: Parts from here on are written.
        self._whole = len(gradients.parts)
        self._next = 0
        self._end = gradients.offsets[-1]

    def final(self, index: int, *, may_change: bool = False) -> None:
        """
        A backward pass is done with the gradient of this part.
        @param may_change whether somebody else writes the same numbers to it once more
        @raises RuntimeError when it was so before
        """
        if self._written[index] is not None:
            name = self._gradients.parts[index][0]
            raise RuntimeError(
                f"the gradient of {name} came twice after it was on its way: call step.backward(loss) for the last"
                " backward pass of a step only, and plain loss.backward() where one pass visits a parameter twice"
            )
        self._gradients.give(index, self.weight)
        self._written[index] = _ANY if may_change else _mark(self._gradients.current(index))
        while self._whole > 0 and self._written[self._whole - 1] is not None:
            self._whole -= 1
        start = self._gradients.offsets[self._whole]
        while self._next < len(self._starts) - 1 and self._starts[self._next] >= start:
            first = self._starts[self._next]
            self._gradients.share(first, self._end)
            self._leave(first, self._gradients.non_finite(first, self._end))
            self._end = first
            self._next += 1

    def finish(self) -> str | None:
        """
        Writes what has not left.
        @returns what of that is not finite
        @raises RuntimeError when a gradient has changed since it was written
        """
        for index, (name, _) in enumerate(self._gradients.parts):
            mark = self._written[index]
            if mark is None:
                self._gradients.give(index, self.weight)
            elif mark not in (_ANY, _mark(self._gradients.current(index))):
                raise RuntimeError(
                    f"the gradient of {name} was changed after step.backward(loss) had sent it: clip or scale"
                    " gradients after ringfold.all_reduce_(model), or use plain loss.backward()"
                )
        self._gradients.share(0, self._end)
        return self._gradients.non_finite(0, self._end) if self.weight > 0 else None


_ANY = (0, 0)


def _mark(gradient: torch.Tensor | None) -> tuple[int, int]:
    return (id(gradient), -1 if gradient is None else gradient._version)


def _divide(sums: torch.Tensor, total: float, out: torch.Tensor) -> None:
    if _is_alike(sums, out):
        torch.div(sums, total, out=out)
    else:
        out.copy_(sums / total)


def _is_alike(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.dtype == other.dtype and one.device == other.device
