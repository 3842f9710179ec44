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

from importlib import import_module

_homes = {
    "init": "training",
    "steps": "training",
    "all_reduce_": "training",
    "checkpoint": "training",
    "steps_per_epoch": "sampler",
    "shard_indices": "sampler",
    "share": "sampler",
}
__all__ = list(_homes)


def __getattr__(name):
    # Late, so that the launcher can say what is missing where torch is.
    if name not in _homes:
        raise AttributeError(f"ringfold has no {name}; it has {', '.join(_homes)}")
    return getattr(import_module(f".{_homes[name]}", __name__), name)
