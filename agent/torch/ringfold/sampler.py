"""Which examples a rank trains on.

The global batch of a step is a function of (seed, step) alone and is cut among the ranks there are, so every example is
used exactly once an epoch whatever joins and leaves happen on the way. The order of an epoch sorts the examples by a key,
SplitMix64 of (seed, epoch, index): integer arithmetic, so it is the same on every machine and release of torch.
Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014.
"""

from __future__ import annotations

import torch

_orders: dict[tuple[int, int, int], torch.Tensor] = {}


def steps_per_epoch(example_count: int, batch_size: int) -> int:
    """Steps of one epoch; its last batch may be smaller. @raises ValueError without an example, or a place in the batch"""
    if example_count < 1 or batch_size < 1:
        raise ValueError(f"{example_count} examples in batches of {batch_size}: there must be at least one of each")
    return -(-example_count // batch_size)


def shard_indices(
    example_count: int, batch_size: int, *, step: int, rank: int, world_size: int, seed: int = 1
) -> torch.Tensor:
    """int64 tensor: the examples of `step` (from 0) on this rank. Empty where there are more ranks than examples."""
    epoch, at = divmod(step, steps_per_epoch(example_count, batch_size))
    start = at * batch_size
    count = min(batch_size, example_count - start)
    first, end = share(count, rank, world_size)
    return _order(example_count, seed, epoch)[start + first : start + end]


def share(count: int, rank: int, world_size: int) -> tuple[int, int]:
    """(first, end) of a rank's part of `count` things, parts as equal as can be."""
    return rank * count // world_size, (rank + 1) * count // world_size


def _order(example_count: int, seed: int, epoch: int) -> torch.Tensor:
    """A permutation, kept for the epoch. Cost: 0.1 s a million examples."""
    key = (example_count, seed, epoch)
    if key not in _orders:
        _orders.clear()
        keys = _mixed(torch.arange(example_count, dtype=torch.int64) + _word(seed * 0x9E3779B97F4A7C15 + epoch * 0xBF58476D1CE4E5B9))
        _orders[key] = torch.argsort(keys, stable=True)
    return _orders[key]


def _mixed(words: torch.Tensor) -> torch.Tensor:
    """SplitMix64 on 64 bits that wrap; int64 is torch's only such type, so shifts are masked to be logical."""
    z = words * _word(0x9E3779B97F4A7C15)
    z = (z ^ _shifted(z, 30)) * _word(0xBF58476D1CE4E5B9)
    z = (z ^ _shifted(z, 27)) * _word(0x94D049BB133111EB)
    return z ^ _shifted(z, 31)


def _shifted(words: torch.Tensor, bits: int) -> torch.Tensor:
    return (words >> bits) & ((1 << (64 - bits)) - 1)


def _word(value: int) -> int:
    """The low 64 bits as a signed number."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value
