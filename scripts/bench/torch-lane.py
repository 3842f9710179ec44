"""One rank of a PyTorch training for torch.ts, in one of three ways. Arguments: way, model, steps, and for gloo: rank,
world size, rendezvous file. Ways: paired (one rank: PyTorch alone and Ringfold in turns), gloo (DistributedDataParallel),
ringfold.

Prints one line of JSON at the end: {"samplesPerSecond": ..., "rank": ...}; a rank's own, of its batch of 64. Paired adds
{"plain": samples a second of PyTorch alone}.
"""

import json
import sys
import time

import torch
from torch import nn

BATCH = 64
WARM_UP = 25
#: Steps that are made in one way before it is the other's turn.
BLOCK = 25

way, kind, steps = sys.argv[1], sys.argv[2], int(sys.argv[3])
torch.set_num_threads(1)
torch.manual_seed(1)
models = {
    "cnn": lambda: nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32 * 13 * 13, 10)
    ),
    "mlp": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)
    ),
}
model = models[kind]()
inputs = torch.rand(1024, 1, 28, 28)
labels = torch.arange(1024) % 10
criterion = nn.CrossEntropyLoss()


def batch(step):
    first = step * BATCH % 1024
    return inputs[first : first + BATCH], labels[first : first + BATCH]


def told(rank, seconds, **more):
    print(json.dumps({"samplesPerSecond": BATCH * (steps - WARM_UP) / seconds, "rank": rank, **more}), flush=True)


def train(model, optimizer, step):
    """Forward and backward."""
    optimizer.zero_grad()
    rows, targets = batch(step)
    loss = criterion(model(rows), targets)
    loss.backward()
    return loss


def plain_block(model, optimizer, first):
    """@returns seconds of BLOCK steps of PyTorch alone"""
    begun = time.perf_counter()
    for step in range(first, first + BLOCK):
        train(model, optimizer, step).item()
        optimizer.step()
    return time.perf_counter() - begun


def paired():
    """Blocks of steps in turns, in one process: whatever else the machine does meets both."""
    twin = models[kind]()
    twin_optimizer = torch.optim.Adam(twin.parameters())
    own = plain = 0.0
    begun = time.perf_counter()
    for step, _ in ringfold_steps():
        if (step.index + 1) % BLOCK == 0:
            own += time.perf_counter() - begun if step.index >= WARM_UP else 0.0
            seconds = plain_block(twin, twin_optimizer, step.index)
            plain += seconds if step.index >= WARM_UP else 0.0
            begun = time.perf_counter()
    blocks = BLOCK * (steps // BLOCK - WARM_UP // BLOCK)
    print(json.dumps({"samplesPerSecond": BATCH * blocks / own, "rank": 0, "plain": BATCH * blocks / plain}), flush=True)


def ringfold_steps():
    """Yields after each step, and when the first one that counts began."""
    import ringfold

    started = 0.0
    optimizer = torch.optim.Adam(model.parameters())
    for step in ringfold.steps(model, optimizer, steps):
        with step:
            if step.index == WARM_UP:
                started = time.perf_counter()
            loss = train(model, optimizer, step.index)
            ringfold.all_reduce_(model, loss=loss, examples=BATCH)
            optimizer.step()
        yield step, started


if way == "paired":
    paired()
elif way == "ringfold":
    for step, started in ringfold_steps():
        pass
    told(step.rank, time.perf_counter() - started)
else:
    rank, world_size = int(sys.argv[4]), int(sys.argv[5])
    torch.distributed.init_process_group("gloo", init_method=f"file://{sys.argv[6]}", rank=rank, world_size=world_size)
    parallel = nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.Adam(model.parameters())
    for step in range(steps):
        if step == WARM_UP:
            started = time.perf_counter()
        train(parallel, optimizer, step).item()
        optimizer.step()
    told(rank, time.perf_counter() - started)
