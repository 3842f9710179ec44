"""Ringfold for PyTorch: a training loop whose ranks may come, go and die.

    import ringfold
    for step in ringfold.steps(model, optimizer, total_steps=1_000):
        with step:
            rows = step.indices(len(inputs), batch_size=64)
            loss = criterion(model(inputs[rows]), labels[rows])
            loss.backward()
            ringfold.all_reduce_(model, loss=loss)
            optimizer.step()
            optimizer.zero_grad()

`ringfold run train.py` starts such a program on the agents of a cluster; docs/torch.md is the manual.
Needs torch (1.13 or newer) and the standard library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for editors; at run time each name is looked up when it is asked for
    from .sampler import shard_indices as shard_indices
    from .sampler import share as share
    from .sampler import steps_per_epoch as steps_per_epoch
    from .training import all_reduce_ as all_reduce_
    from .training import checkpoint as checkpoint
    from .training import ddp_hook as ddp_hook
    from .training import init as init
    from .training import steps as steps

_homes = {
    "init": "training",
    "steps": "training",
    "all_reduce_": "training",
    "checkpoint": "training",
    "ddp_hook": "training",
    "steps_per_epoch": "sampler",
    "shard_indices": "sampler",
    "share": "sampler",
}
__all__ = list(_homes)


def __getattr__(name: str) -> Any:
    # Late, so that the launcher can say what is missing where torch is.
    if name not in _homes:
        raise AttributeError(f"ringfold has no {name}; it has {', '.join(_homes)}")
    return getattr(import_module(f".{_homes[name]}", __name__), name)
